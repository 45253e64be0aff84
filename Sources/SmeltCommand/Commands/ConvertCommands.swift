// plan, convert, calibrate, quantize: one model in, one file out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// How weights change on their way.
struct SchemeOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The scheme for the big matrices inside layers: \(ConversionRequest.schemeNames).", valueName: "scheme")
  )
  var scheme: String?

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "Take the scheme that an engine on a chip is best given: \(Deployment.all.map(\.name).joined(separator: ", ")). Formats/choosing.md says why.",
      valueName: "engine-chip"))
  var deployment: String?

  @Option(
    name: .long, help: ArgumentHelp("A recipe file: which scheme for which role or name.", valueName: "file"))
  var recipe: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Statistics of `smelt calibrate`, or an importance matrix of llama.cpp.", valueName: "file"))
  var statistics: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What a scale is taken from: absmax, percentile (or percentile:99.9), mse or auto. Default: mse with statistics, else auto: mse for nvfp4 and int4-group, absmax for the others.",
      valueName: "observer"))
  var observer: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Blocks that draft tokens (multi-token prediction): quantize as the recipe says, keep as they are, or drop.",
      valueName: "what"))
  var mtp: String = "quantize"

  @Flag(name: .long, help: "Refuse every step that may change a value.")
  var exactOnly = false

  @Flag(
    name: .long,
    help: "Refuse schemes that engines cannot load together, instead of taking the one of most bits for all.")
  var strict = false

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How an .ingot stores weights: fast (codecs that decode near the speed of memory), small or raw. Default: fast.",
      valueName: "how"))
  var compression: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The kind of result, where its name does not say it: ingot, gguf or safetensors.", valueName: "kind"))
  var to: String?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "Cut a .gguf into files of at most so many bytes of tensors, for example 48GB (\(sizeUnits)).",
      valueName: "size"), transform: byteSize)
  var splitMaxSize: ByteSize?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "The bytes of tensors in one shard of a directory, for example 10GB (\(sizeUnits)). Default: 5GB.",
      valueName: "size"), transform: byteSize)
  var maxShardSize: ByteSize?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "Cut an .ingot into files of at most so many bytes (\(sizeUnits)), NAME-00001-of-00003.ingot and so on, never within an expert.",
      valueName: "size"), transform: byteSize)
  var maxPartSize: ByteSize?

  @OptionGroup var engines: EngineOptions

  @Flag(name: .long, help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false

  @Flag(name: .long, help: "Resume an interrupted run.")
  var resume = false

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "How many bytes of the result may be lost when the run is stopped (\(sizeUnits)). Default: 256MiB.",
      valueName: "size"), transform: byteSize)
  var journalStep: ByteSize?

  func request(
    _ model: Model, _ result: String, calibrates: Bool = false, opening: OpenOptions,
    share: ShareOptions? = nil, _ run: RunOptions
  ) throws -> ConvertOptions {
    for (name, size) in [
      ("--split-max-size", splitMaxSize), ("--max-shard-size", maxShardSize),
      ("--max-part-size", maxPartSize), ("--unit-size", share?.unitSize),
    ] {
      guard let size, size.bytes < 4096 else { continue }
      throw ValidationError(
        "\(name) is \(size.bytes) bytes, less than any file takes; give a unit, for example 5GB")
    }
    guard deployment == nil || scheme == nil && recipe == nil else {
      throw ValidationError("--for chooses the scheme: leave --scheme and --recipe away")
    }
    let request = ConversionRequest(
      scheme: scheme, deployment: try deployment.map { try Deployment.named($0) }, recipePath: recipe,
      statisticsPath: statistics, observer: observer,
      drafts: mtp, exactOnly: exactOnly, compression: compression, kind: to, overwrite: overwrite,
      splitMaxSize: splitMaxSize?.bytes,
      maxShardSize: maxShardSize?.bytes, maxPartSize: maxPartSize?.bytes, engines: engines.words)
    var options = try request.options(for: model, result: result, calibrates: calibrates, run)
    (options.resume, options.isStrict) = (resume, strict)
    options.journalStep = journalStep?.bytes ?? options.journalStep
    options.unitBytes = share?.unitSize?.bytes
    options.request = request.recorded(
      model: model.path, container: options.target.name, allowDrop: opening.allowDrop, isStrict: strict,
      unitBytes: options.unitBytes)
    return options
  }
}

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan", abstract: "Shows what a conversion would do, from headers alone.",
    discussion: "Example: smelt plan DIR out.ingot --scheme fp8-channel --json")

  @Argument(help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The result's path; nothing is written.")
  var result: String
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var share: ShareOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    var options = try scheme.request(model, result, opening: opening, share: share, common.run)
    // Scales that a calibration will choose are no reason not to plan.
    options.calibrates = true
    let plan = try Plan(model, options)
    guard output.json || own != nil else { return try output.show(plan.json, plan.text) }
    options.run.progress = SilentProgress()
    let units = try options.unitWork(result, plan, model).units
    try output.show(plan.json(units, own), plan.text + (own.map { "\n" + units.text($0) } ?? ""))
  }
}

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Converts a model; without a scheme or recipe every value stays as it is.",
    discussion: "Example: smelt convert DIR out.ingot")

  @Argument(help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The result: NAME.ingot, NAME.gguf, or a folder for safetensors.")
  var result: String
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var share: ShareOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    let options = try scheme.request(model, result, opening: opening, share: share, common.run)
    if let own {
      let summary = try convertShare(model, to: result, own, options)
      return try output.show(summary.json, summary.text)
    }
    let summary = try convert(model, to: result, options)
    try output.show(summary.json, summary.text)
  }
}

/// Refuses a result that another run is writing, before texts are read.
private func requireFree(_ result: String, _ model: Model, _ verb: String, _ options: RunOptions) throws {
  try requireName(result)
  try model.refuseAlias(result)
  try options.holding([result], verb) {}
}

/// How much of a calibration may be lost.
struct CheckpointFlags: ParsableArguments {
  @Option(
    name: .customLong("checkpoint-seconds"),
    help: ArgumentHelp("How many seconds of calibration may be lost when the run is stopped.", valueName: "n")
  )
  var seconds: Double = CalibrationProgressOptions().seconds

  func validate() throws {
    guard seconds >= 0 else { throw ValidationError("--checkpoint-seconds must be at least 0") }
  }
}

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Runs a text through a model and records the activation statistics of each weight.",
    discussion: """
      Every expert below --min-tokens is listed with what it got instead.

      Example: smelt calibrate DIR statistics.safetensors --text text.txt
      A file named .gguf becomes an importance matrix for llama-quantize.

      By many machines, in as many parts as tasks:
        smelt calibrate DIR s.safetensors --text text.txt --shard 1/2
        smelt calibrate DIR s.safetensors --text text.txt --shard 2/2
        smelt join s.safetensors.parts s.safetensors --remove-parts
      """)

  @Argument(help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The statistics file to write: .gguf for an importance matrix, else safetensors.")
  var statistics: String
  @OptionGroup var text: TextOptions
  @OptionGroup var starved: PolicyOptions
  @OptionGroup var parts: PartOptions
  @Flag(name: .long, help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false
  @Flag(name: .long, help: "Resume an interrupted run.")
  var resume = false
  @OptionGroup var checkpoints: CheckpointFlags
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    guard parts.shard != nil else { return }
    guard starved.report == nil else {
      throw ValidationError("--report shows all of a calibration, --shard makes a part of one")
    }
    guard !resume else {
      throw ValidationError("--shard needs no --resume: what a task finds done is not done again")
    }
  }

  func run() throws {
    let share = try Share.asked(parts.shard)
    let path = model
    let model = try opening.open(path)
    let policy = try starved.chosen(inParts: parts.isGiven)
    let asked =
      parts.isGiven
      ? try PartsRequest(
        textPath: text.path, policy: policy, parts: parts.parts ?? share?.count ?? 1, overwrite: overwrite,
        seconds: checkpoints.seconds, model: path, allowDrop: opening.allowDrop) : nil
    if let share, let asked {
      let summary = try calibrateShare(
        model, try text.windows(model), to: statistics, share, asked, common.run)
      return try output.show(summary.json, summary.text)
    }
    try requireFree(statistics, model, "calibrate", common.run)
    let windows = try text.windows(model)
    let report = try starved.reportFile(model, texts: windows.files, overwrite: overwrite)
    let summary = try common.run.holding([report?.path].compactMap { $0 }, "calibrate") {
      let summary =
        if let asked {
          try calibrateInParts(model, windows, to: statistics, asked, resumes: resume, common.run)
        } else {
          try calibrate(
            model, windows, textPath: text.path, to: statistics, overwrite: overwrite, policy: policy,
            checkpoints: CalibrationProgressOptions(resume: resume, seconds: checkpoints.seconds), common.run)
        }
      if let report { try summary.write(to: report) }
      return summary
    }
    try output.show(summary.json, summary.text)
  }
}

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize", abstract: "Calibrates (if a text is given) and converts in one step.",
    discussion: """
      Example:
        smelt quantize DIR out.ingot --scheme int8-channel --calibration text.txt
        smelt quantize DIR OUT/ --for vllm-h100
      """)

  @Argument(help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The result: NAME.ingot, NAME.gguf, or a folder for safetensors.")
  var result: String
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A UTF-8 file to calibrate with, a .jsonl, or a quoted pattern of such; may be repeated.",
      valueName: "file"))
  var calibration: [String] = []
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var method: MethodFlags
  @OptionGroup var cut: WindowOptions
  @OptionGroup var starved: PolicyOptions
  @OptionGroup var checkpoints: CheckpointFlags
  @OptionGroup var share: ShareOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    let hasBudget = try method.budget() != nil
    let isCoded = scheme.scheme?.lowercased() == Budget.codedScheme
    guard scheme.scheme != nil || scheme.deployment != nil || scheme.recipe != nil || hasBudget else {
      throw ValidationError("quantize needs --scheme, --for, --recipe, --target-size or --bits")
    }
    guard !hasBudget || scheme.deployment == nil else {
      throw ValidationError("--for chooses the scheme: leave --target-size and --bits away")
    }
    guard !hasBudget || scheme.recipe == nil && (isCoded || !calibration.isEmpty && scheme.scheme == nil)
    else {
      throw ValidationError(
        "--target-size and --bits choose the schemes and need --calibration, or --scheme \(Budget.codedScheme); no other --scheme goes with them"
      )
    }
    guard !cut.bytes || !calibration.isEmpty else { throw ValidationError("--bytes is for --calibration") }
    guard calibration.isEmpty || scheme.statistics == nil else {
      throw ValidationError("give --calibration or --statistics, not both")
    }
    guard share.shard == nil || calibration.isEmpty && !hasBudget else {
      throw ValidationError(
        "--shard goes with --statistics of `smelt calibrate`, not with --calibration, --target-size or --bits"
      )
    }
    // An unknown name is refused by `run`: what is thrown here would get another exit status.
    let needsInputs = (try? method.options().needsInputs) ?? false
    guard !calibration.isEmpty || !needsInputs else {
      throw ValidationError(
        "\(method.method.map { "--method \($0)" } ?? "--distill") needs --calibration")
    }
  }

  func run() throws {
    let methodOptions = try method.options()
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    var options = try scheme.request(
      model, result, calibrates: !calibration.isEmpty, opening: opening, share: share, common.run)
    if let own {
      let summary = try convertShare(model, to: result, own, options)
      return try output.show(summary.json, summary.text)
    }
    options.checkpointSeconds = checkpoints.seconds
    let policy = try starved.chosen()
    var budget = try method.budget()
    if scheme.scheme != nil { budget?.candidates = [Budget.codedScheme] }
    guard let text = calibration.first else {
      guard starved.report == nil else { throw ValidationError("--report shows a calibration") }
      let summary =
        try budget.map { try quantize(model, to: result, within: $0, options) }
        ?? convert(model, to: result, options)
      return try output.show(
        [
          "schema": "smelt.quantize/1", "calibration": JSON(.null), "conversion": summary.json,
          "budget": JSON(.null),
        ], summary.text)
    }
    try requireFree(result, model, "quantize", common.run)
    let windows = try cut.windows(calibration, model)
    let report = try starved.reportFile(model, texts: windows.files, overwrite: scheme.overwrite)
    let (learned, summary) = try common.run.holding([report?.path].compactMap { $0 }, "quantize") {
      let made = try quantize(
        model, to: result, calibration: windows, textPath: text,
        choosesObserver: scheme.observer == nil && scheme.recipe == nil, method: methodOptions,
        budget: budget, policy: policy, options)
      if let report { try made.0.write(to: report) }
      return made
    }
    try output.show(
      [
        "schema": "smelt.quantize/1", "calibration": learned.json, "conversion": summary.json,
        "budget": summary.budget?.json ?? JSON(.null),
      ], learned.text + "\n" + (summary.budget.map { $0.text + "\n" } ?? "") + summary.text)
  }
}
