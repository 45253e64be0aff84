// plan, convert, quantize: one model in, one result out.

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
  @OptionGroup var stating: AttestOption
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws { try share.refuse(stating) }

  func run() throws {
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    let options = try scheme.request(model, result, opening: opening, share: share, common.run)
    if let own {
      let summary = try convertShare(model, to: result, own, options)
      return try output.show(summary.json, summary.text)
    }
    let summary = try stating.stating([model], result, overwrite: scheme.overwrite, common.run) {
      try convert(model, to: result, options)
    } _: {
      $0
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
  @OptionGroup var stating: AttestOption
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    try share.refuse(stating)
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
      let summary = try stating.stating([model], result, overwrite: scheme.overwrite, common.run) {
        try budget.map { try quantize(model, to: result, within: $0, options) }
          ?? convert(model, to: result, options)
      } _: {
        $0
      }
      return try output.show(
        [
          "schema": "smelt.quantize/1", "calibration": JSON(.null), "conversion": summary.json,
          "budget": JSON(.null),
        ], summary.text)
    }
    try requireFree(result, model, "quantize", common.run)
    let windows = try cut.windows(calibration, model)
    let report = try starved.reportFile(model, texts: windows.files, overwrite: scheme.overwrite)
    let (learned, summary): (CalibrationSummary, ConvertSummary) = try stating.stating(
      [model], result, overwrite: scheme.overwrite, common.run
    ) {
      try common.run.holding([report?.path].compactMap { $0 }, "quantize") {
        let made = try quantize(
          model, to: result, calibration: windows, textPath: text,
          choosesObserver: scheme.observer == nil && scheme.recipe == nil, method: methodOptions,
          budget: budget, policy: policy, options)
        if let report { try made.0.write(to: report) }
        return made
      }
    } _: {
      $0.1
    }
    try output.show(
      [
        "schema": "smelt.quantize/1", "calibration": learned.json, "conversion": summary.json,
        "budget": summary.budget?.json ?? JSON(.null),
      ], learned.text + "\n" + (summary.budget.map { $0.text + "\n" } ?? "") + summary.text)
  }
}
