// plan, convert, quantize: one model in, one result out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// How weights change on their way.
struct SchemeOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The scheme for the big matrices inside layers: \(ConversionRequest.schemeNames).", valueName: "scheme"),
    completion: .list(SchemeName.all.map(\.name)))
  var scheme: String?

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "Take the scheme that an engine on a chip is best given: \(Deployment.all.map(\.name).joined(separator: ", ")). Formats/choosing.md says why.",
      valueName: "engine-chip"), completion: .list(Deployment.all.flatMap(\.names)))
  var deployment: String?

  @Option(
    name: .long, help: ArgumentHelp("A recipe file: which scheme for which role or name.", valueName: "file"),
    completion: .file())
  var recipe: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Statistics of `smelt calibrate`, or an importance matrix of llama.cpp.", valueName: "file"),
    completion: .file())
  var statistics: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What a scale is taken from: absmax, percentile (or percentile:99.9), mse or auto. Default: mse with statistics, else auto: mse for nvfp4 and int4-group, absmax for the others.",
      valueName: "observer"), completion: .list(["absmax", "percentile", "mse", "auto"]))
  var observer: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Blocks that draft tokens (multi-token prediction): quantize as the recipe says, keep as they are, or drop.",
      valueName: "what"), completion: .list(["quantize", "keep", "drop"]))
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
      valueName: "how"), completion: .list(["fast", "small", "raw"]))
  var compression: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The kind of result, where its name does not say it: ingot, gguf or safetensors.", valueName: "kind"),
    completion: .list(["ingot", "gguf", "safetensors"]))
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

  @Flag(
    name: [.customShort("f"), .long], help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false

  @Flag(name: .long, help: "Resume an interrupted run.")
  var resume = false

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "How many bytes of the result may be lost when the run is stopped (\(sizeUnits)). Default: 256MiB.",
      valueName: "size"), transform: byteSize)
  var journalStep: ByteSize?

  /// Commands that have these options.
  static let takers = ["plan", "convert", "quantize"]

  /// What is asked, as far as words alone say it.
  /// - Throws: `RequestError` usage, `ValidationError`.
  private func request(_ share: ShareOptions?) throws -> ConversionRequest {
    for (name, size) in [
      ("--split-max-size", splitMaxSize), ("--max-shard-size", maxShardSize),
      ("--max-part-size", maxPartSize), ("--unit-size", share?.unitSize),
    ] {
      guard let size, size.bytes < 4096 else { continue }
      throw RequestError(
        .usage, "\(name) is \(size.bytes) bytes, less than any file takes",
        help: "give a unit, for example 5GB")
    }
    guard deployment == nil || scheme == nil && recipe == nil else {
      throw RequestError(
        .usage, "--for chooses the scheme, and \(scheme == nil ? "--recipe" : "--scheme") is given",
        help: "omit one of them")
    }
    return ConversionRequest(
      scheme: scheme, deployment: try deployment.map { try Deployment.named($0) }, recipePath: recipe,
      statisticsPath: statistics, observer: observer,
      drafts: mtp, exactOnly: exactOnly, compression: compression, kind: to, overwrite: overwrite,
      splitMaxSize: splitMaxSize?.bytes,
      maxShardSize: maxShardSize?.bytes, maxPartSize: maxPartSize?.bytes, engines: engines.words)
  }

  /// Refuses words that no model could make right.
  func check(_ result: String, _ share: ShareOptions) throws { try request(share).check(result: result) }

  func request(
    _ model: Model, _ result: String, calibrates: Bool = false, opening: OpenOptions,
    share: ShareOptions? = nil, _ run: RunOptions
  ) throws -> ConvertOptions {
    let request = try request(share)
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
    commandName: "plan", abstract: "Shows what a conversion would do, and what it takes of the machine.",
    discussion: """
      The ledger comes from headers alone. Memory and disk are bounds; the time is an
      estimate from a second's measurement of this machine, which writes a file of 32
      MiB beside the result's place and removes it; --no-measure leaves all that away.
      With --calibration and the options of `quantize`, what that would do.

      Examples:
        smelt plan DIR out.ingot --scheme fp8-channel --json
        smelt plan DIR OUT/ --scheme W4A16 --calibration text.txt
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var operands: ResultOperands
  @Flag(name: .long, help: "Headers alone: no forecast of memory, disk and time.")
  var noMeasure = false
  @OptionGroup var calibrating: CalibrationFlags
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var share: ShareOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  mutating func validate() throws {
    scheme.scheme = try operands.settle(scheme.scheme)
    try calibrating.check(scheme, share)
  }

  func run() throws {
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    var options = try scheme.request(
      model, operands.path, calibrates: !calibrating.calibration.isEmpty, opening: opening, share: share,
      common.run)
    options.checkpointSeconds = calibrating.checkpoints.seconds
    _ = (try calibrating.method.options(), try calibrating.starved.chosen())
    let budget = try calibrating.budget(scheme)
    if let budget { options = try options.smallest(budget, model) }
    guard !noMeasure, own == nil else { return try output.show(model, operands.path, own, options) }
    options.calibrates = true
    let plan = try Plan(model, options)
    let texts = calibrating.calibration
    let calibration =
      try texts.isEmpty
      ? nil
      : PlannedCalibration(
        calibrating.cut.windows(texts, model), calibrating.method.options(), calibrating.starved.chosen())
    let forecast = try Forecast(
      model, plan, to: operands.path, calibration: calibration, budget: budget, options)
    let note =
      budget == nil
      ? "" : "the schemes of the table are the smallest; the run chooses them by what it measures\n"
    var json = plan.json
    if output.json, budget == nil {
      options.run.progress = SilentProgress()
      json = plan.json(try options.unitWork(operands.path, plan, model).units, nil)
    }
    try output.show(json.adding("forecast", forecast.json), plan.text + "\n" + note + forecast.text)
  }
}

extension JSONOption {
  /// Prints the plan of a conversion; nothing is written.
  fileprivate func show(_ model: Model, _ result: String, _ own: Share?, _ options: ConvertOptions) throws {
    var options = options
    // Scales that a calibration will choose are no reason not to plan.
    options.calibrates = true
    let plan = try Plan(model, options)
    guard json || own != nil else { return try show(plan.json, plan.text) }
    options.run.progress = SilentProgress()
    let units = try options.unitWork(result, plan, model).units
    try show(plan.json(units, own), plan.text + (own.map { "\n" + units.text($0) } ?? ""))
  }
}

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Converts a model; without a scheme or recipe every value stays as it is.",
    discussion: "Example: smelt convert DIR out.ingot")

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var operands: ResultOperands
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var dry: DryRunOption
  @OptionGroup var share: ShareOptions
  @OptionGroup var stating: AttestOption
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  mutating func validate() throws {
    scheme.scheme = try operands.settle(scheme.scheme)
    try share.refuse(stating)
  }

  /// Refuses words that no model could make right.
  func check() throws {
    if share.shard != nil { try Share.requireNoResume(scheme.resume) }
    try scheme.check(operands.path, share)
  }

  func run() throws {
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    let options = try scheme.request(model, operands.path, opening: opening, share: share, common.run)
    if dry.dryRun { return try output.show(model, operands.path, own, options) }
    if let own {
      let summary = try convertShare(model, to: operands.path, own, options)
      return try output.show(summary.json, summary.text)
    }
    let summary = try stating.stating([model], operands.path, overwrite: scheme.overwrite, common.run) {
      try convert(model, to: operands.path, options)
    } _: {
      $0
    }
    try output.show(summary.json, summary.text)
  }
}

/// The flag of commands that `plan` plans.
struct DryRunOption: ParsableArguments {
  @Flag(name: .long, help: "Show the plan, as `smelt plan` does, and write nothing.")
  var dryRun = false
}

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize", abstract: "Calibrates (if a text is given) and converts in one step.",
    discussion: """
      Example:
        smelt quantize DIR out.ingot --scheme int8-channel --calibration text.txt
        smelt quantize DIR OUT/ --for vllm-h100
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var operands: ResultOperands
  @OptionGroup var calibrating: CalibrationFlags
  @OptionGroup var scheme: SchemeOptions
  @OptionGroup var dry: DryRunOption
  @OptionGroup var share: ShareOptions
  @OptionGroup var stating: AttestOption
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  mutating func validate() throws {
    scheme.scheme = try operands.settle(scheme.scheme)
    try share.refuse(stating)
    let hasBudget = try calibrating.method.budget() != nil
    guard scheme.scheme != nil || scheme.deployment != nil || scheme.recipe != nil || hasBudget else {
      throw ValidationError("quantize needs --scheme, --for, --recipe, --target-size or --bits")
    }
    try calibrating.check(scheme, share)
  }

  func run() throws {
    let methodOptions = try calibrating.method.options()
    let own = try share.share()
    let model = try opening.open(model, isReported: true)
    var options = try scheme.request(
      model, operands.path, calibrates: !calibrating.calibration.isEmpty, opening: opening, share: share,
      common.run)
    if dry.dryRun {
      if let budget = try calibrating.budget(scheme) {
        options = try options.smallest(budget, model)
      }
      return try output.show(model, operands.path, own, options)
    }
    if let own {
      let summary = try convertShare(model, to: operands.path, own, options)
      return try output.show(summary.json, summary.text)
    }
    options.checkpointSeconds = calibrating.checkpoints.seconds
    let policy = try calibrating.starved.chosen()
    let budget = try calibrating.budget(scheme)
    guard let text = calibrating.calibration.first else {
      guard calibrating.starved.report == nil else { throw ValidationError("--report shows a calibration") }
      let summary = try stating.stating([model], operands.path, overwrite: scheme.overwrite, common.run) {
        try budget.map { try quantize(model, to: operands.path, within: $0, options) }
          ?? convert(model, to: operands.path, options)
      } _: {
        $0
      }
      return try output.show(
        [
          "schema": "smelt.quantize/1", "calibration": JSON(.null), "conversion": summary.json,
          "budget": JSON(.null),
        ], summary.text)
    }
    try requireFree(operands.path, model, "quantize", common.run)
    let windows = try calibrating.cut.windows(calibrating.calibration, model)
    let report = try calibrating.starved.reportFile(model, texts: windows.files, overwrite: scheme.overwrite)
    let (learned, summary): (CalibrationSummary, ConvertSummary) = try stating.stating(
      [model], operands.path, overwrite: scheme.overwrite, common.run
    ) {
      try common.run.holding([report?.path].compactMap { $0 }, "quantize") {
        let made = try quantize(
          model, to: operands.path, calibration: windows, textPath: text,
          choosesObserver: scheme.observer == nil && scheme.recipe == nil, method: methodOptions,
          budget: budget, policy: policy, savingStatistics: calibrating.saveStatistics, options)
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
