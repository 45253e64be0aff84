// What an ingot says of itself beyond its weights: where it came from, what was found when it was verified, and where an
// expert lies.

import SmeltContainers
public import SmeltStorage

/// Where an expert's matrices lie.
public struct ExpertPlace: Sendable {
  let layer: Int
  let expert: Int
  let range: IngotRange

  /// For machines.
  public var json: JSON {
    [
      "layer": JSON(layer), "expert": JSON(expert), "file": JSON(range.file), "offset": JSON(range.offset),
      "bytes": JSON(range.count), "weights": JSON(range.weights.map { JSON($0) }),
    ]
  }

  /// For people.
  public var text: String {
    "layer \(layer), expert \(expert): bytes \(range.offset) to \(range.offset + range.count) of \(range.file) (\(byteText(range.count)))\n"
      + range.weights.map { "  \(printable($0))" }.joined(separator: "\n")
  }
}

/// Where an ingot holds an expert: header and index are looked at, nothing else.
/// - Throws: `RequestError` usage when the file is no ingot or has no such expert; every refusal of the container.
public func expertPlace(_ path: String, layer: Int, expert: Int) throws -> ExpertPlace {
  guard pathKind(path) == .nothing || path.hasSuffix(".ingot") || IngotFile.isIngot(path) else {
    throw RequestError(.usage, "--layer and --expert are for ingots: '\(path)' is none")
  }
  guard let range = try IngotFile(path: path).range(layer: layer, expert: expert) else {
    throw RequestError(.usage, "'\(path)' has no expert \(expert) in layer \(layer)")
  }
  return ExpertPlace(layer: layer, expert: expert, range: range)
}

/// What an ingot says about its origin and its proof.
public struct IngotFacts: Sendable {
  private let metadata: JSON
  private let report: JSON?

  /// The note that holds the report.
  static let reportName = "report.json"

  init(_ ingot: IngotFile) throws {
    metadata = ingot.metadata
    guard ingot.noteNames.contains(IngotFacts.reportName), let bytes = try ingot.file(IngotFacts.reportName)
    else {
      report = nil
      return
    }
    do {
      report = try JSON.scan(bytes)
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
    guard let report else { return members }
    let found: JSON = [
      "verdict": JSON(string(report["verdict"])), "kl_mean": report["kl"]?["mean"] ?? JSON(.null),
      "top1_agreement": report["top1_agreement"] ?? JSON(.null), "tokens": report["tokens"] ?? JSON(.null),
    ]
    return members + [("report", found)]
  }

  /// For people: name and value.
  var lines: [(String, String)] {
    var lines: [(String, String)] = []
    func add(_ name: String, _ value: String?) {
      if let value { lines.append((name, printable(excerpt(value, limit: 160)))) }
    }
    add("made by", string(metadata["tool"]))
    if let source = metadata["source"] {
      let hash = string(source["sha256"]).map { ", tensors' SHA-256 \($0)" } ?? ""
      let content = string(source["content_hash"]).map { ", content hash \($0)" } ?? ""
      add("source", (string(source["container"]) ?? "unknown") + content + hash)
    }
    add("recipe", metadata["recipe"]?.text())
    if let method = metadata["method"], !method.isNull { add("method", method.text()) }
    if let statistics = metadata["statistics"], statistics.object != nil {
      add("statistics", statistics.text())
    }
    if let report {
      let kl = report["kl"]?["mean"]?.double.map { ", mean KL \(scientific($0))" } ?? ""
      let top = report["top1_agreement"]?.double.map { ", top-1 \(fixed($0, 4))" } ?? ""
      let tokens = report["tokens"]?.integer.map { ", \(grouped($0)) tokens" } ?? ""
      add("report", "verdict \(string(report["verdict"]) ?? "unknown")\(kl)\(top)\(tokens)")
    } else {
      add("report", "none: `smelt verify SOURCE RESULT --text FILE --seal` adds one")
    }
    return lines
  }
}
