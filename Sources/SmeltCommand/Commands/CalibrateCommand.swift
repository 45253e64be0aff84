// calibrate: a model and a text in, statistics out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// Refuses a result that another run is writing, before texts are read.
func requireFree(_ result: String, _ model: Model, _ verb: String, _ options: RunOptions) throws {
  try requireName(result)
  try model.refuseAlias(result)
  try options.holding([result], verb) {}
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

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(
    help: "The statistics file to write: .gguf for an importance matrix, else safetensors.",
    completion: .file())
  var statistics: String?
  @OptionGroup var named: OutputOption
  @OptionGroup var text: TextOptions
  @OptionGroup var starved: PolicyOptions
  @OptionGroup var parts: PartOptions
  @Flag(
    name: [.customShort("f"), .long], help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false
  @Flag(name: .long, help: "Resume an interrupted run.")
  var resume = false
  @OptionGroup var checkpoints: CheckpointFlags
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    _ = try named.path(statistics, "statistics")
    guard parts.shard != nil else { return }
    guard starved.report == nil else {
      throw RequestError(
        .usage, "--report shows all of a calibration, --shard makes a part of one",
        help: "omit it: `smelt join` puts the parts together")
    }
    guard !resume else {
      throw RequestError(
        .usage, "--shard needs no --resume", help: "omit it: what a task finds done is not done again")
    }
  }

  /// Refuses words that no model could make right.
  func check() throws {
    try text.require()
    _ = try request(inParts: Share.asked(parts.shard), model)
  }

  /// What is asked of the parts; nil without parts.
  private func request(inParts share: Share?, _ model: String) throws -> PartsRequest? {
    let policy = try starved.chosen(inParts: parts.isGiven)
    guard parts.isGiven else { return nil }
    return try PartsRequest(
      textPath: text.path, policy: policy, parts: parts.parts ?? share?.count ?? 1, overwrite: overwrite,
      seconds: checkpoints.seconds, model: model, allowDrop: opening.allowDrop)
  }

  func run() throws {
    let statistics = try named.path(statistics, "statistics")
    let share = try Share.asked(parts.shard)
    let path = model
    let model = try opening.open(path)
    let policy = try starved.chosen(inParts: parts.isGiven)
    let asked = try request(inParts: share, path)
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
