// What `quantize` takes beside the options of a conversion, and `plan` with it.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// The calibration, the method and the budget of a quantization.
struct CalibrationFlags: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A UTF-8 file to calibrate with, a .jsonl, or a quoted pattern of such; may be repeated.",
      valueName: "file"), completion: .file())
  var calibration: [String] = []
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Keep the statistics that --calibration gathers, as `smelt calibrate` writes them: with --statistics the next scheme needs no calibration.",
      valueName: "file"), completion: .file())
  var saveStatistics: String?
  @OptionGroup var method: MethodFlags
  @OptionGroup var cut: WindowOptions
  @OptionGroup var starved: PolicyOptions
  @OptionGroup var checkpoints: CheckpointFlags

  /// The budget, if there is one.
  func budget(_ scheme: SchemeOptions) throws -> Budget? {
    var budget = try method.budget()
    if scheme.scheme != nil { budget?.candidates = [Budget.codedScheme] }
    return budget
  }

  /// Refuses options that do not go together.
  /// - Throws: `RequestError` usage, `ValidationError`.
  func check(_ scheme: SchemeOptions, _ share: ShareOptions) throws {
    let hasBudget = try method.budget() != nil
    let isCoded = scheme.scheme?.lowercased() == Budget.codedScheme
    guard !hasBudget || scheme.deployment == nil else {
      throw RequestError(
        .usage, "--for chooses the scheme, and so do --target-size and --bits", help: "omit one of them")
    }
    guard !hasBudget || scheme.recipe == nil && (isCoded || !calibration.isEmpty && scheme.scheme == nil)
    else {
      throw ValidationError(
        "--target-size and --bits choose the schemes and need --calibration, or --scheme \(Budget.codedScheme); no other --scheme goes with them"
      )
    }
    guard saveStatistics == nil || !calibration.isEmpty else {
      throw ValidationError("--save-statistics needs --calibration")
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
    let needsInputs = try method.options().needsInputs
    guard !calibration.isEmpty || !needsInputs else {
      throw ValidationError(
        "\(method.method.map { "--method \($0)" } ?? "--distill") needs --calibration")
    }
  }
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
