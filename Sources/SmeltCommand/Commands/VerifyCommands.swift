// verify, diff, demo: the proof.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Runs source and result through the same forward pass and says how far apart they are.",
    discussion: """
      Each side runs on its own configuration and tokenizer. The verdict is pass
      or fail against what is demanded (--profile, --max-kl and the others), else
      `not judged`. A weight that its scheme does not explain, a setting that
      changes numbers or a tokenizer that gives other ids fails in any case. Exit
      status 1 where the verdict is fail.

      Profiles: near-lossless for results in place of the source, good for
      everyday use, usable where memory decides; Formats/report.md has their
      numbers. With --activations the result runs once more, its activations
      rounded before each product with an INT8 or FP8 weight, as engines multiply;
      `--activations declared` rounds what the result's config.json says, with the
      scales that lie beside its weights, and keys and values of an FP8 cache.
      With --as it runs once more as that engine computes it: parts of fused matrices
      with the one number that the engine keeps, activations rounded as declared; the
      thresholds hold for that run too.
      With --text repeated the report has each text by itself and all together; the
      thresholds of KL divergence and top-1 hold for each and for all.
      Noise floor and forced routing take a further pass each: they are measured on
      windows at equal steps with 2048 tokens, on all with --full.
      With --compute int8 that further run multiplies INT8 weights and INT8
      activations as whole numbers, and with --activations gguf GGUF's blocks.
      With --mtp the multi-token-prediction blocks of both sides run too: the share
      of drafts that their own model accepts, and the drafts' divergence.
      By many machines, with the same figures:
        smelt verify DIR OUT --text text.txt --json r.json --shard 1/2
        smelt verify DIR OUT --text text.txt --json r.json --shard 2/2
        smelt join r.json.parts r.json --html r.html

      Example: smelt verify DIR out.ingot --text text.txt --profile good --json
      """)

  @Argument(help: "The source: a directory, a .gguf or an .ingot.", completion: .file())
  var source: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The result: a directory, a .gguf or an .ingot.", completion: .file())
  var result: String
  @OptionGroup var text: TextOptions
  @Option(
    name: .long, defaultAsFlag: "-",
    help: ArgumentHelp("Write the report as JSON; without a file, to stdout.", valueName: "file"),
    completion: .file())
  var json: String?
  @Option(
    name: .long, help: ArgumentHelp("Write the report as HTML.", valueName: "file"), completion: .file())
  var html: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Thresholds by a name: near-lossless, good or usable; single ones override it.", valueName: "name"),
    completion: .list(["near-lossless", "good", "usable"]))
  var profile: String?
  @Option(
    name: .long,
    help: ArgumentHelp("The largest mean KL divergence that passes, in nats a token.", valueName: "x"))
  var maxKl: Double?
  @Option(
    name: .long, help: ArgumentHelp("The smallest top-1 agreement that passes, 0 to 1.", valueName: "x"))
  var minTop1: Double?
  @Option(
    name: .long,
    help: ArgumentHelp("The largest relative error of any weight that passes.", valueName: "x"))
  var maxWeightError: Double?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Also run with rounded activations: int8 or fp8 with a scale for each token, static-int8 or static-fp8 with one for each weight, gguf in blocks as llama.cpp rounds them, or declared: what the result's configuration says, caches included.",
      valueName: "kind"), completion: .list(ActivationRounding.Kind.allCases.map(\.rawValue)))
  var activations: String?
  @Option(
    name: .customLong("as"),
    help: ArgumentHelp(
      "Also run the result as an engine computes it: \(Engine.simulated.map(\.rawValue).joined(separator: " or ")).",
      valueName: "engine"), completion: .list(Engine.simulated.map(\.rawValue)))
  var engine: String?
  @Option(
    name: .long,
    help: ArgumentHelp("Statistics of `smelt calibrate`, for static activation scales.", valueName: "file"),
    completion: .file())
  var statistics: String?
  @Flag(
    name: .long,
    help:
      "Also run the blocks that draft tokens (multi-token prediction), and say how many drafts are accepted.")
  var mtp = false
  @Flag(
    name: .long,
    help: "Measure the noise floor and the forced routing on all windows, not on a sample.")
  var full = false
  @Flag(
    name: [.customShort("f"), .long], help: "Replace report files that smelt wrote, and nothing else.")
  var overwrite = false
  @Flag(
    name: .long,
    help: "Write the report into the result too: into an .ingot, or into README.md of a directory.")
  var seal = false
  @OptionGroup var share: ComparisonShareOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var color: ColorOption

  func validate() throws {
    try share.validate(json: json, others: html != nil || seal)
    if let maxKl, !(maxKl >= 0 && maxKl.isFinite) {
      throw ValidationError("--max-kl must be a finite number of at least 0")
    }
    if let maxWeightError, !(maxWeightError >= 0 && maxWeightError.isFinite) {
      throw ValidationError("--max-weight-error must be a finite number of at least 0")
    }
    guard statistics == nil || activations?.hasPrefix("static-") == true else {
      throw ValidationError("--statistics is for --activations static-int8 and static-fp8")
    }
    guard engine == nil || activations == nil else {
      throw RequestError(
        .usage, "--as rounds activations as the engine does, and --activations is given",
        help: "omit one of them")
    }
    if let minTop1, !(0...1).contains(minTop1) { throw ValidationError("--min-top1 must be from 0 to 1") }
  }

  /// Refuses words that no model could make right.
  func check() throws {
    try text.require()
    _ = try profile.map { try Thresholds.Profile.named($0) }
    _ = try Compute.named(compute.compute)
    _ = try roundingKind()
    _ = try engine.map { try Engine.named($0) }
  }

  func run() throws { try report(folders: nil, showsJSON: false, removesParts: false) }

  /// Runs the comparison, or joins the parts that are in some folders.
  private func report(folders: [String]?, showsJSON: Bool, removesParts: Bool) throws {
    let profile = try profile.map { try Thresholds.Profile.named($0) }
    let options = try compute.run(common.run)
    let (a, b) = (try opening.open(source), try opening.open(result))
    if folders == nil, let json, let share = try share.share() {
      // What the join could not write is refused before the work.
      try ReportFile.report(json, overwrite: overwrite).check([a, b], and: text.text + [text.path])
      let summary = try shared(a, b, share, partsFolder(json), options)
      return try Output.line(printableLines(summary.text))
    }
    let jsonFile = json.flatMap { $0 == "-" ? nil : ReportFile.report($0, overwrite: overwrite) }
    let page = html.map { ReportFile.page($0, overwrite: overwrite) }
    for file in [jsonFile, page].compactMap({ $0 }) { try file.check([a, b], and: text.text + [text.path]) }
    if seal { try Report.requireSealable(b) }
    let outputs = [jsonFile, page].compactMap { $0?.path } + (seal ? [resolvedPath(b.path) ?? b.path] : [])
    let report = try common.run.holding(outputs, "verify") {
      let report = try compared(a, b, profile, folders, options)
      try jsonFile?.write(report.json.text(indented: true) + "\n")
      if seal { try report.seal(b) }
      try page?.write(report.html)
      return report
    }
    if let folders, removesParts { try ComparisonParts.remove(folders) }
    try showsJSON || json == "-" ? Output.line(report.json.text(indented: true)) : Output.report(report.text)
    if !report.passes { throw ExitCode(1) }
  }

  /// How the result's activations are rounded in a further pass.
  private func rounding(_ b: Model) throws -> ActivationRounding? {
    try roundingKind().map { kind in
      try ActivationRounding(
        kind, statistics: try statistics.map { try readStatistics($0, for: b) }, for: b)
    }
  }

  private func roundingKind() throws -> ActivationRounding.Kind? {
    try activations.map { name in
      guard let kind = ActivationRounding.Kind(rawValue: name) else {
        throw unknownName(
          name, kind: "rounding of activations", among: ActivationRounding.Kind.allCases.map(\.rawValue))
      }
      return kind
    }
  }

  /// The engine whose arithmetic that pass follows.
  private func engineRun(_ b: Model) throws -> EngineRun? {
    try engine.map { try EngineRun(try Engine.named($0), for: b) }
  }

  /// The parts of this comparison in some folders.
  private func parts(_ a: Model, _ b: Model, _ windows: Windows, _ folders: [String], count: Int?) throws
    -> ComparisonParts
  {
    let hash = try statistics.map { SHA256.hex(try MappedFile(path: $0).bytes) }
    let settings: JSON = [
      "activations": JSON(activations), "as": JSON(engine), "version": JSON(try engineRun(b)?.version),
      "compute": JSON(compute.compute), "mtp": JSON(mtp), "statistics_sha256": JSON(hash),
      "profile": JSON(profile), "max_kl": JSON(maxKl.map { "\($0)" }),
      "min_top1": JSON(minTop1.map { "\($0)" }),
      "max_weight_error": JSON(maxWeightError.map { "\($0)" }),
    ]
    return try ComparisonParts(
      source: a, result: b, windows, isFull: full, settings: settings, folders: folders, parts: count)
  }

  /// One task's share.
  private func shared(
    _ a: Model, _ b: Model, _ own: Share, _ folder: String, _ options: RunOptions
  ) throws -> ShareSummary {
    let parts = try parts(
      a, b, try text.windows(a, isApart: true), [folder], count: share.parts ?? own.count)
    return try parts.make(
      own, source: a, result: b, rounding: try rounding(b), engine: try engineRun(b), drafts: mtp,
      overwrite: overwrite, request: ComparisonShareOptions.request, options)
  }

  /// Joins the parts that tasks made of this command line: the report that one machine would have written.
  /// - Parameters:
  ///   - folders: those of the parts, from the root.
  ///   - report: the report's path, from the root.
  func join(
    _ folders: [String], to report: String, html: String?, showsJSON: Bool, removesParts: Bool
  ) throws {
    var command = self
    (command.json, command.html) = (report, html)
    // What tasks of a share cannot have been asked.
    (command.seal, command.opening.keep) = (false, nil)
    try command.report(folders: folders, showsJSON: showsJSON, removesParts: removesParts)
  }

  private func compared(
    _ a: Model, _ b: Model, _ profile: Thresholds.Profile?, _ joined: [String]?, _ options: RunOptions
  ) throws -> Report {
    let thresholds = Thresholds(
      profile: profile, maxKL: maxKl, minTop1: minTop1, maxWeightError: maxWeightError)
    if let reason = a.noForwardPass, text.isEmpty {
      if mtp { try a.requireDrafts() }
      return try verifyWeights(source: a, result: b, thresholds: thresholds, because: reason, common.run)
    }
    let windows = try text.windows(a, isApart: true)
    return try verify(
      source: a, result: b, windows, thresholds: thresholds, rounding: try rounding(b),
      engine: try engineRun(b), drafts: mtp, isFull: full,
      parts: try joined.map { try parts(a, b, windows, $0, count: nil) }, options)
  }
}

struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Says which weights of two models differ, and where first; and which settings and tokens.",
    discussion: """
      Compares the numbers, however each side stores them, what the pass takes from
      the configurations, and what the tokenizers do, and runs nothing. Exit status
      1 when numbers or ids differ.

      --html writes a page: the largest differences by layer and role, and the
      worst weights.

      Example: smelt diff DIR out.ingot
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var a: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "Another one of the same architecture.", completion: .file())
  var b: String
  @Option(
    name: .long, help: ArgumentHelp("Write the differences as HTML.", valueName: "file"), completion: .file())
  var html: String?
  @Flag(
    name: [.customShort("f"), .long], help: "Replace a page of diff that smelt wrote, and nothing else.")
  var overwrite = false
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let (x, y) = (try opening.open(a), try opening.open(b))
    let page = html.map { ReportFile.difference($0, overwrite: overwrite) }
    try page?.check([x, y], and: [])
    let summary = try diff(x, y, common.run)
    try page?.write(summary.html)
    try output.show(summary.json, summary.text)
    if !summary.isEqual { throw ExitCode(1) }
  }
}

struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo", abstract: "Quantizes, verifies and reports the bundled trained model.",
    usage: "smelt demo [<options>]",
    discussion: """
      Works in a temporary folder that it removes.

      Example: smelt demo
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Another model: a folder with calibration.txt and evaluation.txt in it.", valueName: "directory"),
    completion: .file())
  var model: String?
  @OptionGroup var common: CommonOptions
  @OptionGroup var color: ColorOption

  func run() throws {
    try demo(modelPath: model ?? Demo.bundledModel(executable: CommandLine.arguments[0]), common.run) {
      try Output.report($0)
    }
  }
}

struct FormatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "formats",
    abstract: "Lists the families, containers, encodings and schemes this version knows.",
    discussion: "Example: smelt formats --json")

  @OptionGroup var output: JSONOption

  func run() throws {
    let lists = knownFormats()
    try output.show(lists.json, lists.text)
  }
}
