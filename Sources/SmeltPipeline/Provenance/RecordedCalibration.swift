// The calibration that a result records, run again over its text: the same windows, the same statistics, and the inputs that a method
// looks at. Formats/attestation.md, section 1.

import SmeltModels
import SmeltQuantization
import SmeltStorage

/// The text of a calibration, as it is given again.
package struct RederiveText: Sendable {
  /// Files and patterns of files.
  package var texts: [String]
  /// The member of a record that holds its text.
  package var field: String
  /// The limit of tokens that was asked for; nil: as many as were run.
  package var limit: Int?

  /// A text.
  package init(_ texts: [String], field: String = "text", limit: Int? = nil) {
    (self.texts, self.field, self.limit) = (texts, field, limit)
  }
}

/// A calibration that is recorded, and its text.
struct RecordedCalibration {
  /// The windows that ran.
  let windows: Windows
  private let policy: CalibrationPolicy
  /// Runs of windows whose sums were added; nil: one.
  private let parts: Int?
  private let model: String
  /// Whether the record leaves open which windows could be added.
  private let isOpen: Bool

  /// - Parameter recorded: what the result says of its statistics; null where it was made without.
  /// - Throws: `Obstacle` for another text, or where the record does not say which; refusals of the text.
  init(_ recorded: JSON?, _ asked: RederiveText, _ source: Model) throws {
    func number(_ key: String) -> Int? { recorded?[key]?.string.flatMap { Int($0) } }
    /// A number that may not be there, within what a command line takes.
    func number(_ key: String, in range: ClosedRange<Int>) throws -> Int? {
      guard let text = recorded?[key]?.string else { return nil }
      guard let number = Int(text), range.contains(number) else {
        throw RecordedCalibration.invalid(key, text)
      }
      return number
    }
    guard let recorded, !recorded.isNull else {
      throw Obstacle(.statisticsChanged, "it was made without statistics; leave --calibration away")
    }
    guard let hash = recorded["text_sha256"]?.string, let context = number("context"), context > 1,
      let tokens = number("tokens"), tokens >= context
    else {
      throw Obstacle(
        .notReproducible,
        "its statistics do not say of which text they are: give them with --statistics, without --calibration"
      )
    }
    let text = try TextSource(asked.texts, field: asked.field)
    let found = try TextSource.hash(text.files)
    guard found == hash else {
      throw Obstacle(
        .statisticsChanged, "the text has the SHA-256 \(found), it was calibrated with one that has \(hash)")
    }
    let samples = try number("samples", in: 1...1 << 40)
    let draw = WindowDraw(
      samples: samples, seed: recorded["seed"]?.string.flatMap { UInt64($0) } ?? 0,
      limit: asked.limit ?? (samples == nil ? tokens : nil))
    // Bytes are token ids where there is no tokenizer, and nowhere else.
    guard context <= 1 << 40 else { throw RecordedCalibration.invalid("context", "\(context)") }
    windows = try Windows(
      text, context: context, draw, model: source,
      bytesWithoutTokenizer: try source.tokenizerFiles() == nil)
    let kind = try recorded["policy"]?.string.map { name in
      guard let kind = CalibrationPolicy.Kind(rawValue: name) else {
        throw RecordedCalibration.invalid("policy", name)
      }
      return kind
    }
    policy = CalibrationPolicy(
      kind ?? .topUp, minTokens: try number("min_tokens", in: 0...1 << 20) ?? CalibrationPolicy.usualTokens)
    parts = try number("parts", in: 1...1_000_000)
    if let parts, policy.kind == .topUp { throw RecordedCalibration.invalid("parts", "\(parts)") }
    model = source.path
    isOpen = samples != nil && asked.limit == nil
  }

  private static func invalid(_ key: String, _ value: String) -> Obstacle {
    Obstacle(.notReproducible, "it records \(key) '\(excerpt(value))', which no calibration has")
  }

  /// The statistics, made in a folder for temporary files.
  /// - Throws: as `calibrate`.
  func statistics(_ source: Model, in folder: String, _ run: RunOptions) throws -> Statistics {
    let path = joinPath(folder, "statistics")
    if let parts {
      let request = try PartsRequest(
        textPath: windows.files[0], policy: policy, parts: parts, overwrite: false, seconds: .infinity,
        model: model, allowDrop: [])
      _ = try calibrateInParts(source, windows, to: path, request, resumes: false, run)
    } else {
      _ = try calibrate(
        source, windows, textPath: windows.files[0], to: path, overwrite: false, policy: policy,
        checkpoints: CalibrationProgressOptions(seconds: .infinity), run)
    }
    return try readStatistics(path, for: source)
  }

  /// Why the same text may give other statistics.
  var doubt: String {
    isOpen ? "; windows were drawn: if --tokens-limit was given, give it again" : ""
  }
}

extension MethodOptions {
  /// The method that a result records.
  /// - Throws: `RequestError` usage for an unknown one.
  init(recorded json: JSON) throws {
    try self.init(
      named: json["name"]?.string ?? "", damping: json["damping"]?.double,
      ordersByActivation: json["act_order"]?.bool ?? false)
    isSequential = json["inputs"]?.string == "result"
    minTokens = json["min_tokens"]?.integer ?? minTokens
    distillRounds = json["distill"]?.integer ?? 0
    try check()
  }
}
