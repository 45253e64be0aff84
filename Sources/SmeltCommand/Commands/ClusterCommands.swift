// join, and scripts for schedulers.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct JoinCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "join",
    abstract: "Makes a result of the parts that the tasks of a cluster wrote.",
    discussion: """
      Proves that every part is there once, unchanged, from one source, recipe
      and version. The result has the bytes of a conversion by one machine, or
      of a calibration in as many parts; of parts of `verify` the report is made,
      the words of the tasks' command line held, exit status 1 where it fails.

      Example:
        smelt convert DIR OUT/ --scheme fp8-channel --shard 1/2
        smelt convert DIR OUT/ --scheme fp8-channel --shard 2/2
        smelt join OUT.parts OUT/ --remove-parts
      """)

  @Argument(help: "Folders of parts, then the result's path.", completion: .file())
  var paths: [String]
  @OptionGroup var named: OutputOption
  @Option(
    name: .long, help: ArgumentHelp("The source, where it lies elsewhere by now.", valueName: "model"),
    completion: .file())
  var source: String?
  @Option(
    name: .long, help: ArgumentHelp("The recipe, where it lies elsewhere by now.", valueName: "file"),
    completion: .file())
  var recipe: String?
  @Option(
    name: .long, help: ArgumentHelp("The statistics, where they lie elsewhere by now.", valueName: "file"),
    completion: .file())
  var statistics: String?
  @Flag(
    name: [.customShort("f"), .long], help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false
  @Option(
    name: .long, help: ArgumentHelp("Of parts of `verify`: write the report as HTML too.", valueName: "file"),
    completion: .file())
  var html: String?
  @Flag(name: .long, help: "Remove the parts once the result has its name.")
  var removeParts = false
  @OptionGroup var stating: AttestOption
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    guard paths.count + (named.output == nil ? 0 : 1) >= 2 else {
      throw ValidationError("join needs a folder of parts and a result")
    }
  }

  func run() throws {
    let folders = named.output == nil ? Array(paths.dropLast()) : paths
    let result = named.output ?? paths[paths.count - 1]
    if let request = try ComparisonParts.request(folders) {
      return try joinReport(request, folders, to: result)
    }
    guard html == nil else {
      throw RequestError(
        .usage, "--html is for parts of verify, these are of something else", help: "omit it")
    }
    let summary = try stating.stating([], result, overwrite: overwrite, common.run) {
      try joinParts(
        folders, to: result,
        JoinOptions(
          source: source, recipe: recipe, statistics: statistics, overwrite: overwrite,
          removesParts: removeParts, isStated: stating.attest != nil), common.run)
    } _: {
      $0.conversion
    }
    try output.show(summary.json, summary.text)
  }
}

extension JoinCommand {
  /// Makes the report of parts of a verification.
  private func joinReport(_ request: JSON, _ folders: [String], to report: String) throws {
    guard recipe == nil, statistics == nil, source == nil, stating.attest == nil else {
      throw RequestError(
        .usage, "--source, --recipe, --statistics and --attest are for parts of models, these are of verify",
        help: "omit them: what the tasks' command line said holds")
    }
    let inputs = folders.map { resolvedPath($0) ?? $0 }
    let outputs = (absolutePath(report), html.map { absolutePath($0) })
    var command = try ComparisonShareOptions.command(request, folders[0])
    (command.common, command.overwrite) = (common, overwrite)
    try command.join(
      inputs, to: outputs.0, html: outputs.1, showsJSON: output.json, removesParts: removeParts)
  }
}

/// What schedulers need to know of the tasks.
struct JobOptions: ParsableArguments {
  @Argument(help: "The source, as every task sees it.", completion: .file())
  var model: String
  @Argument(help: "The result, on a file system that all tasks share.", completion: .file())
  var result: String
  @Option(
    name: .long, help: ArgumentHelp("What is shared: convert, calibrate or verify.", valueName: "verb"),
    completion: .list(JobScript.Verb.allCases.map(\.rawValue)))
  var verb: String = JobScript.Verb.convert.rawValue
  @Option(name: .long, help: ArgumentHelp("How many tasks share the work.", valueName: "n"))
  var nodes: Int
  @Option(name: .long, help: ArgumentHelp("CPU cores of a task.", valueName: "n"))
  var cores: Int?
  @Option(name: .long, help: ArgumentHelp("Memory of a task, in the scheduler's words.", valueName: "size"))
  var memory: String?
  @Option(
    name: .long, help: ArgumentHelp("The smelt to run: a name in PATH, or a path.", valueName: "path"),
    completion: .file())
  var command: String = "smelt"
  @Argument(
    parsing: .allUnrecognized,
    help: "Options of the verb, as `smelt convert --help` and so on have them.")
  var words: [String] = []

  /// The usage of a scheduler's command, which the parser would write in one long line.
  static func usage(_ scheduler: String) -> String {
    "smelt job \(scheduler) [<options>] <model> <result> --nodes <n>"
  }

  /// The script, its words held against the verb first.
  func script() throws -> JobScript {
    guard let verb = JobScript.Verb(rawValue: verb) else {
      throw unknownName(verb, kind: "verb", among: JobScript.Verb.allCases.map(\.rawValue))
    }
    for name in ["--shard", "--dry-run"] where words.contains(where: { $0.prefix { $0 != "=" } == name }) {
      throw RequestError(
        .usage, "\(name) in a job",
        help: name == "--shard"
          ? "omit it: the script gives every task its share" : "the script is only printed")
    }
    var script = try JobScript(
      verb, model: JobOptions.placed(model), result: absolutePath(result),
      words: JobOptions.placed(words, of: verb),
      tasks: nodes)
    (script.cores, script.memory, script.command) = (cores, memory, command)
    var report: String?
    let task = [model, result] + words + ["--shard", "1/\(nodes)"]
    switch verb {
    case .convert: try ConvertCommand.parse(task).check()
    case .calibrate: try CalibrateCommand.parse(task).check()
    case .verify:
      guard words.contains(where: { $0.prefix { $0 != "=" } == "--json" }) else { throw JobOptions.noReport }
      let command = try VerifyCommand.parse(task)
      try command.check()
      report = command.json
    }
    if verb == .verify {
      guard let report, report != "-" else {
        throw JobOptions.noReport
      }
      script.joined = JobOptions.placed(report)
    }
    return script
  }
}

extension JobOptions {
  private static let noReport = RequestError(
    .usage, "--verb verify needs --json FILE", help: "it is the report that the parts are joined to")
  /// Options of the verbs that name files.
  private static let fileOptions: Set<String> = [
    "--text", "--tokens", "--html", "--statistics", "--recipe", "--report", "--keep", "--attest",
    "--output",
  ]

  /// The words with files named from the root: tasks run in folders of their own.
  static func placed(_ words: [String], of verb: JobScript.Verb) -> [String] {
    // With the others it is a flag.
    let options = verb == .verify ? fileOptions.union(["--json"]) : fileOptions
    var takesFile = false
    return words.map { word in
      defer { takesFile = options.contains(word) }
      if takesFile { return placed(word) }
      guard let equal = word.firstIndex(of: "="), options.contains(String(word[..<equal])) else {
        return word
      }
      return String(word[...equal]) + placed(String(word[word.index(after: equal)...]))
    }
  }

  /// A path from the root; an address stays what it is.
  static func placed(_ path: String) -> String {
    guard !path.contains("://"), path != "-" else { return path }
    let found = absolutePath(path)
    // A pattern, or a folder that is not there yet.
    let whole = found.hasPrefix("/") ? found : joinPath(resolvedPath(".") ?? ".", found)
    return path.hasSuffix("/") ? withoutSlash(whole) + "/" : whole
  }
}

struct JobCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "job",
    abstract:
      "Prints a script that shares a conversion, a calibration or a verification among the machines of a cluster.",
    discussion: """
      Example:
        smelt job slurm DIR OUT --nodes 8 --scheme fp8-channel > job.sh
        bash job.sh
      """,
    subcommands: [SlurmCommand.self, KubernetesCommand.self])
}

struct SlurmCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "slurm", abstract: "A job array that writes the shares, and a join that waits for it.",
    usage: JobOptions.usage("slurm"),
    discussion: """
      Example:
        smelt job slurm DIR OUT --nodes 8 --scheme fp8-channel > job.sh
        bash job.sh
      """)

  @OptionGroup var job: JobOptions
  @Option(name: .long, help: ArgumentHelp("How long a task may take, in Slurm's words.", valueName: "time"))
  var time: String?
  @Option(name: .long, help: ArgumentHelp("Where tasks run.", valueName: "name"))
  var partition: String?

  func run() throws {
    var script = try job.script()
    (script.time, script.partition) = (time, partition)
    try Output.line(String(script.slurm.dropLast()))
  }
}

struct KubernetesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kubernetes", abstract: "An indexed job that writes the shares, and a job for the join.",
    usage: JobOptions.usage("kubernetes"),
    discussion: """
      Example:
        smelt job kubernetes /data/DIR /data/OUT --nodes 8 --scheme fp8-channel \\
          --image registry/smelt --claim models > job.yaml
      """)

  @OptionGroup var job: JobOptions
  @Option(name: .long, help: ArgumentHelp("The image that holds the command.", valueName: "image"))
  var image: String = "smelt"
  @Option(
    name: .long, help: ArgumentHelp("The claim of the volume with source and result.", valueName: "name"))
  var claim: String = "models"
  @Option(
    name: .long, help: ArgumentHelp("Where that volume is mounted.", valueName: "path"), completion: .file())
  var mount: String = "/data"

  func run() throws {
    var script = try job.script()
    (script.image, script.claim, script.mount) = (image, claim, mount)
    try Output.line(String(script.kubernetes.dropLast()))
  }
}
