// Options about where a result comes from: made again from its source, and stated for other programs.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// How a result is made again.
struct RederiveFlags: ParsableArguments {
  @Option(
    name: .customLong("rederive"),
    help: ArgumentHelp(
      "Make the result again from this source and compare the bytes of its tensors.", valueName: "source"),
    completion: .file())
  var source: String?
  @Option(
    name: .long, help: ArgumentHelp("With --rederive: only n tensors, at equal steps.", valueName: "n"))
  var sample: Int?
  @Option(
    name: .long,
    help: ArgumentHelp("With --rederive: the statistics that it was made by.", valueName: "file"),
    completion: .file())
  var statistics: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "With --rederive: the text that it was calibrated with, for results of --method, and where the statistics are gone; may be repeated.",
      valueName: "file"), completion: .file())
  var calibration: [String] = []
  @Option(
    name: .long, help: ArgumentHelp("With --calibration: as it was given then.", valueName: "name"))
  var textField: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "With --calibration and windows that --samples drew: as it was given then.", valueName: "n"))
  var tokensLimit: Int?

  func validate() throws {
    guard source != nil || sample == nil && statistics == nil && calibration.isEmpty else {
      throw ValidationError("--sample, --statistics and --calibration go with --rederive")
    }
    guard !calibration.isEmpty || textField == nil && tokensLimit == nil else {
      throw ValidationError("--text-field and --tokens-limit go with --calibration")
    }
    guard sample ?? 1 >= 1 else { throw ValidationError("--sample must be at least 1") }
    guard tokensLimit ?? 1 >= 1 else { throw ValidationError("--tokens-limit must be at least 1") }
  }

  /// What is asked.
  func options(_ run: RunOptions) throws -> RederiveOptions {
    try RederiveOptions(
      statistics: statistics,
      calibration: calibration.isEmpty
        ? nil : RederiveText(calibration, field: textField ?? "text", limit: tokensLimit), sample: sample, run
    )
  }
}

/// Where a conversion states what it made of what.
struct AttestOption: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write what was made of what as a statement of in-toto, for programs that sign and check such (Formats/attestation.md).",
      valueName: "file"), completion: .file())
  var attest: String?

  /// The statement's file, refused before the work where it cannot be written.
  /// - Throws: `RequestError` usage, cannot-create; `OUT_ALIASES_INPUT`.
  func file(_ models: [Model], _ result: String, overwrite: Bool) throws -> ReportFile? {
    guard let attest else { return nil }
    try Attestation.requireBeside(attest, result)
    let file = ReportFile.statement(attest, overwrite: overwrite)
    try file.check(models, and: [])
    return file
  }

  /// Runs a conversion, and states what it made.
  /// - Parameter summary: the conversion among what the work gives.
  func stating<T>(
    _ models: [Model], _ result: String, overwrite: Bool, _ run: RunOptions, _ work: () throws -> T,
    _ summary: (T) -> ConvertSummary?
  ) throws -> T {
    guard let file = try file(models, result, overwrite: overwrite) else { return try work() }
    return try run.holding([file.path], "attest") {
      let made = try work()
      if let summary = summary(made) { try Attestation.write(summary, to: file, run) }
      return made
    }
  }
}
