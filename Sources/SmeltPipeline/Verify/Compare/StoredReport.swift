// A report of `verify` as it lies in a file.

import SmeltStorage

/// A report read back.
struct StoredReport {
  private let path: String
  private let side: JSON
  let common: ReportComparison.Common
  let entry: ReportComparison.Entry

  /// The schema that is understood.
  private static let schema = "smelt.verify/3"

  /// Reads one.
  /// - Throws: `REPORT_FORMAT` naming the key; `RequestError` usage where no forward pass was run.
  init(_ path: String) throws {
    let json: JSON
    let bytes = try readSmallFile(path, limit: 64 << 20, code: .report)
    do {
      json = try JSON.scan(bytes, limits: JSONLimits(values: 16 << 20))
    } catch {
      throw FormatError(
        .report, file: path, offset: error.offset, error.problem,
        help: "give the file that `smelt verify --json FILE` wrote")
    }
    func refusal(_ key: String, _ problem: String) -> FormatError {
      FormatError(
        .report, file: path, subject: key, problem,
        help: "give the file that `smelt verify --json FILE` wrote")
    }
    func value<T>(_ keys: String, _ kind: String, _ read: (JSON) -> T?) throws -> T {
      var place: JSON? = json
      for key in keys.split(separator: ".") { place = place?[String(key)] }
      guard let place, let found = read(place) else {
        throw refusal(
          keys, "found \(place.map { excerpt($0.text(), limit: 40) } ?? "nothing"), expected \(kind)")
      }
      return found
    }
    let schema = try value("schema", "\"\(StoredReport.schema)\"", \.string)
    guard schema == StoredReport.schema else {
      throw FormatError(
        .report, file: path, subject: "schema",
        "found \"\(excerpt(schema))\", expected \"\(StoredReport.schema)\"",
        help: schema.hasPrefix("smelt.verify/")
          ? "verify the result again with this version"
          : "give the file that `smelt verify --json FILE` wrote")
    }
    if let reason = json["not_run"]?.string {
      throw RequestError(
        .usage, "'\(path)' tells of no forward pass: \(reason)",
        help: "verify the result with --text, then compare")
    }
    if json["kl"]?["mean"]?.isNull == true {
      throw RequestError(
        .usage, "'\(path)' has no divergence that is a number: its result failed there",
        help: "compare without it")
    }
    func count(_ keys: String) throws -> Int {
      try value(keys, "a count of at least 0") { $0.integer.flatMap { $0 >= 0 ? $0 : nil } }
    }
    func finite(_ keys: String) throws -> Double {
      try value(keys, "a number of at least 0") { $0.double.flatMap { $0.isFinite && $0 >= 0 ? $0 : nil } }
    }
    self.path = path
    side = try value("source", "an object") { $0.object == nil ? nil : $0 }
    common = ReportComparison.Common(
      source: side, tokens: try count("tokens"), context: try count("context"),
      tokenization: try value("tokenization", "a word", \.string), textHash: json["text"]?["sha256"]?.string,
      perplexity: json["perplexity"]?["source"]?.double)
    let interval = json["kl"]?["interval"]
    var range: Report.Interval?
    if let low = interval?["low"]?.double, let high = interval?["high"]?.double {
      range = Report.Interval(low: low, high: high)
    }
    entry = ReportComparison.Entry(
      report: path, path: try value("result.path", "a path", \.string),
      container: try value("result.container", "a container", \.string), bytes: try count("result.bytes"),
      bitsPerWeight: json["bits_per_weight"]?["result"]?.double, kl: try finite("kl.mean"), interval: range,
      p99: try finite("kl.p99"), floor: json["kl"]?["floor"]?.double, top1: try finite("top1_agreement"),
      perplexity: json["perplexity"]?["result"]?.double, verdict: try value("verdict", "a verdict", \.string))
  }

  /// Refuses a report of another source, text or cut.
  /// - Throws: `RequestError` usage naming both values.
  func requireSame(as other: StoredReport) throws {
    func require(_ what: String, _ a: String?, _ b: String?) throws {
      guard let a, let b, a != b else { return }
      throw RequestError(
        .usage, "'\(path)' and '\(other.path)' cannot be compared: \(what) \(excerpt(a)) and \(excerpt(b))",
        help: "compare reports of results of one source over one text, with the same --context")
    }
    try require("their sources are", side["family"]?.string, other.side["family"]?.string)
    try require(
      "their sources have the content", side["content_hash"]?.string, other.side["content_hash"]?.string)
    if side["container"]?.string == other.side["container"]?.string {
      try require(
        "their sources have bytes:", side["bytes"]?.integer.map { grouped($0) },
        other.side["bytes"]?.integer.map { grouped($0) })
    }
    try require("their windows have tokens:", "\(common.context)", "\(other.common.context)")
    try require("they ran over tokens:", grouped(common.tokens), grouped(other.common.tokens))
    try require("their ids are", common.tokenization, other.common.tokenization)
    try require("their texts have the SHA-256", common.textHash, other.common.textHash)
    // One text through one model gives one perplexity, to the last bits on machines with fused multiply-add.
    if let a = common.perplexity, let b = other.common.perplexity, !(abs(a - b) <= 1e-6 * abs(a)) {
      try require("one source over one text has one perplexity, theirs are", "\(a)", "\(b)")
    }
  }
}
