// Options of the commands that read a text.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

/// Texts, or token ids, and how they are cut.
struct TextOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A UTF-8 file, a .jsonl of records, or a quoted pattern of such; may be repeated.", valueName: "file"),
    completion: .file())
  var text: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Instead of a text: {\"sequences\": [[ids…], …]}, each run as it is.", valueName: "file"),
    completion: .file())
  var tokens: String?

  @OptionGroup var cut: WindowOptions

  func validate() throws {
    guard text.isEmpty || tokens == nil else { throw ValidationError("give --text or --tokens, not both") }
  }

  /// Whether neither was given.
  var isEmpty: Bool { text.isEmpty && tokens == nil }

  /// What was given, as it was given.
  var path: String { text.first ?? tokens ?? "" }

  /// Refuses a command line without a text.
  func require() throws {
    guard !isEmpty else { throw ValidationError("give --text or --tokens") }
  }

  /// - Parameter isApart: whether several texts are cut each by itself.
  func windows(_ model: Model, isApart: Bool = false) throws -> Windows {
    try require()
    guard text.isEmpty else { return try cut.windows(text, model, isApart: isApart) }
    try model.requireForwardPass()
    guard !cut.bytes else { throw ValidationError("--bytes is for --text") }
    let sequences = try readTokenFile(path, for: model)
    var draw = cut.draw
    if draw.samples == nil { draw.limit = nil }
    return Windows(sequences, context: sequences.map(\.count).max() ?? 0, draw, files: [path])
  }
}

/// How texts are cut, and which windows run.
struct WindowOptions: ParsableArguments {
  /// Tokens per window where nobody says.
  static let usualContext = 256

  @Option(name: .long, help: ArgumentHelp("Tokens per window.", valueName: "n"))
  var context = WindowOptions.usualContext

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Use at most n tokens. With --samples, this also limits the windows added for starved experts (default: 4 times the sampled tokens).",
      valueName: "n"))
  var tokensLimit: Int?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Sample n windows from all of the text instead of taking the first ones.", valueName: "n"))
  var samples: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Which windows --samples draws: the same seed, the same windows.", valueName: "n"))
  var seed: UInt64 = 0

  @Option(
    name: .long,
    help: ArgumentHelp("The member of a .jsonl file's records that holds their text.", valueName: "name"))
  var textField: String = "text"

  @Flag(
    name: .long,
    help:
      "Take the text's bytes as token ids: for models without a tokenizer. Perplexities mean nothing then."
  )
  var bytes = false

  func validate() throws {
    guard (2...1 << 24).contains(context) else { throw ValidationError("--context must be at least 2") }
    if let tokensLimit, tokensLimit < context {
      throw ValidationError("--tokens-limit must be at least --context (\(context))")
    }
    if let samples, samples < 1 { throw ValidationError("--samples must be at least 1") }
  }

  /// Which windows run.
  var draw: WindowDraw { WindowDraw(samples: samples, seed: seed, limit: tokensLimit) }

  func windows(_ texts: [String], _ model: Model, isApart: Bool = false) throws -> Windows {
    try model.requireForwardPass()
    let windows =
      isApart
      ? try Windows(
        each: texts, field: textField, context: context, draw, model: model, bytesWithoutTokenizer: bytes)
      : try Windows(
        try TextSource(texts, field: textField), context: context, draw, model: model,
        bytesWithoutTokenizer: bytes)
    if windows.tokenization == .bytes {
      Terminal.warn("the model has no tokenizer, so the text's bytes are taken as token ids")
    }
    for note in windows.notes { Terminal.warn(note) }
    return windows
  }
}

/// What calibration does about experts that few tokens reach, and where it shows them.
struct PolicyOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "What experts below --min-tokens get: top-up (more of the text, then the tokens that came nearest), weight-only, peer-max (activation ranges of their peers) or refuse. Default: top-up, in parts weight-only.",
      valueName: "policy"), completion: .list(CalibrationPolicy.Kind.allCases.map(\.rawValue)))
  var policy: String?

  @Option(
    name: .long, help: ArgumentHelp("Tokens below which an expert is starved; 0 for none.", valueName: "n"))
  var minTokens: Int = CalibrationPolicy.usualTokens

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write a heat map of tokens by layer and expert: SVG if the name ends in .svg, else HTML.",
      valueName: "file"), completion: .file())
  var report: String?

  func validate() throws {
    guard (0...1 << 20).contains(minTokens) else { throw ValidationError("--min-tokens must be at least 0") }
  }

  /// The policy.
  /// - Parameter inParts: whether the calibration is made in parts.
  /// - Throws: `RequestError` usage.
  func chosen(inParts: Bool = false) throws -> CalibrationPolicy {
    guard let policy else { return CalibrationPolicy(inParts ? .weightOnly : .topUp, minTokens: minTokens) }
    guard let kind = CalibrationPolicy.Kind(rawValue: policy) else {
      throw unknownName(policy, kind: "policy", among: CalibrationPolicy.Kind.allCases.map(\.rawValue))
    }
    return CalibrationPolicy(kind, minTokens: minTokens)
  }

  /// The report, refused before the pass where it cannot be written.
  func reportFile(_ model: Model, texts: [String], overwrite: Bool) throws -> ReportFile? {
    guard let report else { return nil }
    let file = ReportFile.coverage(report, overwrite: overwrite)
    try file.check([model], and: texts)
    return file
  }
}
