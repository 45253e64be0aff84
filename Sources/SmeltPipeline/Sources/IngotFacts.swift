// What an ingot says of itself beyond its weights: where it came from, and what was found when it was verified.

import SmeltContainers
import SmeltStorage

/// What an ingot says about its origin and its proof.
package struct IngotFacts: Sendable {
  private let metadata: JSON
  private let found: Found?

  /// The note that holds the report.
  static let reportName = "report.json"

  init(_ ingot: IngotFile) throws {
    metadata = ingot.metadata
    guard ingot.noteNames.contains(IngotFacts.reportName), let bytes = try ingot.file(IngotFacts.reportName)
    else {
      found = nil
      return
    }
    do {
      found = Found(try JSON.scan(bytes))
    } catch {
      throw FormatError(
        .ingotIndex, file: ingot.path, subject: IngotFacts.reportName, "is no JSON: \(error.problem)")
    }
  }

  private func string(_ value: JSON?) -> String? { value?.string }

  /// For machines: `tool`, `source`, `recipe` and `statistics` (JSON as text), and `report` once there is one.
  var members: [(String, JSON)] {
    var members: [(String, JSON)] = [("tool", JSON(string(metadata["tool"])))]
    let source = ["container", "dialect", "sha256", "content_hash"].compactMap { key in
      string(metadata["source"]?[key]).map { (key, JSON($0)) }
    }
    members.append(("source", JSON(members: source)))
    members.append(("recipe", JSON(metadata["recipe"]?.text())))
    if let statistics = metadata["statistics"], !statistics.isNull {
      members.append(("statistics", JSON(statistics.text())))
    }
    if let found { members.append(("report", found.json)) }
    return members
  }

  /// For people: name and value.
  var lines: [(String, String)] {
    let facts: [(String, String?)] = [
      ("made by", string(metadata["tool"])), ("source", sourceLine), ("recipe", text(metadata["recipe"])),
      ("method", text(metadata["method"])), ("statistics", text(metadata["statistics"])),
      ("report", reportLine),
    ]
    return facts.compactMap { name, value in
      value.map { (name, printable(excerpt($0, limit: 160))) }
    }
  }

  /// JSON as text; nil for null.
  private func text(_ value: JSON?) -> String? { value.flatMap { $0.isNull ? nil : $0.text() } }

  private var sourceLine: String? {
    guard let source = metadata["source"] else { return nil }
    let hash = string(source["sha256"]).map { ", tensors' SHA-256 \($0)" } ?? ""
    let content = string(source["content_hash"]).map { ", content hash \($0)" } ?? ""
    return (string(source["container"]) ?? "unknown") + content + hash
  }

  private var reportLine: String {
    guard let found else { return "none: `smelt verify SOURCE RESULT --text FILE --seal` adds one" }
    var words = ["verdict \(found.verdict)"]
    if let kl = found.kl { words.append("mean KL \(scientific(kl))") }
    if let top = found.top1 { words.append("top-1 \(fixed(top, 4))") }
    if let tokens = found.tokens { words.append("\(grouped(tokens)) tokens") }
    return words.joined(separator: ", ")
  }

  /// What a report found.
  private struct Found: Sendable {
    let verdict: String
    let kl: Double?
    let top1: Double?
    let tokens: Int?

    init(_ report: JSON) {
      let divergence = report["kl"]
      verdict = report["verdict"]?.string ?? "unknown"
      kl = divergence?["mean"]?.double
      top1 = report["top1_agreement"]?.double
      tokens = report["tokens"]?.integer
    }

    var json: JSON {
      [
        "verdict": JSON(verdict), "kl_mean": kl.map { JSON($0) } ?? JSON(.null),
        "top1_agreement": top1.map { JSON($0) } ?? JSON(.null),
        "tokens": tokens.map { JSON($0) } ?? JSON(.null),
      ]
    }
  }
}
