// `compare`: several reports of `verify` against one source, side by side. Formats/report.md, section 20.

package import SmeltStorage

/// Results of one source, as their reports tell.
package struct ReportComparison: Sendable {
  /// The schema of the object for machines.
  static let schema = "smelt.compare/1"

  /// One report.
  package struct Entry: Sendable {
    /// The report's path.
    package var report: String
    /// The result's path, as the report has it.
    package var path: String
    /// Its container.
    package var container: String
    /// Bytes of its weights' files.
    package var bytes: Int
    /// Bits a weight, scales included; nil in reports of earlier versions.
    package var bitsPerWeight: Double?
    /// The mean KL divergence, nats a token.
    package var kl: Double
    /// Its 95 % interval; nil where one window or none told.
    package var interval: Report.Interval?
    /// Exceeded by one token in a hundred.
    package var p99: Double
    /// The noise floor; nil where it was not a number.
    package var floor: Double?
    /// Share of tokens with the same most likely next token.
    package var top1: Double
    /// The result's perplexity; nil where it was not a number.
    package var perplexity: Double?
    /// The verdict, word for word.
    package var verdict: String
    /// Whether no other result is both as small and as near, and better in one of the two.
    package var isOnFront = false
  }

  /// What all reports have in common.
  package struct Common: Sendable {
    /// The source, as the first report describes it.
    package var source: JSON
    /// Tokens compared.
    package var tokens: Int
    /// Tokens a window.
    package var context: Int
    /// Where ids came from: `tokens` or `bytes`.
    package var tokenization: String
    /// SHA-256 of the text; nil in reports of earlier versions.
    package var textHash: String?
    /// The source's perplexity: the same bits wherever the same text runs through the same model.
    package var perplexity: Double?
  }

  /// What the reports share.
  package let common: Common
  /// The reports, the smallest result first.
  package let entries: [Entry]

  /// Reads reports and refuses what cannot be held against each other.
  /// - Throws: `REPORT_FORMAT` for a file that is not a report of `verify`; `RequestError` usage for reports of different sources,
  ///   texts or windows, or without a forward pass.
  package init(_ paths: [String]) throws {
    var seen: Set<FileIdentity> = []
    for path in paths {
      guard let identity = FileIdentity(path: path), !seen.insert(identity).inserted else { continue }
      throw RequestError(.usage, "'\(path)' is given twice", help: "give each report once")
    }
    let read = try paths.map(StoredReport.init)
    guard let first = read.first, read.count > 1 else {
      throw RequestError(
        .usage, "one report is no comparison", help: "give two reports of `smelt verify --json` or more")
    }
    // Each against all earlier ones: what one report does not name, two others may name differently.
    for (place, other) in read.enumerated() {
      for earlier in read[..<place] { try earlier.requireSame(as: other) }
    }
    common = first.common
    let all = read.map(\.entry)
    entries = all.map { entry -> Entry in
      var entry = entry
      entry.isOnFront = !all.contains {
        $0.bytes <= entry.bytes && $0.kl <= entry.kl && ($0.bytes < entry.bytes || $0.kl < entry.kl)
      }
      return entry
    }.enumerated().sorted {
      ($0.element.bytes, $0.element.kl, $0.offset) < ($1.element.bytes, $1.element.kl, $1.offset)
    }
    .map(\.element)
  }

  /// Names that tell the entries apart: the results' names, or where two share one the reports'.
  package var names: [String] {
    let own = entries.map { publicName($0.path) }
    return own.indices.map { place in
      own.count { $0 == own[place] } > 1 ? fileName(entries[place].report) : own[place]
    }
  }

  /// For people.
  package var text: String {
    var table = Table(["result", "size", "bits", "KL mean", "95 %", "top-1"])
    for (name, entry) in zip(names, entries) {
      table.add([
        (entry.isOnFront ? "* " : "  ") + name, byteText(entry.bytes),
        entry.bitsPerWeight.map { fixed($0, 2) } ?? "–", scientific(entry.kl),
        entry.interval.map { "\(scientific($0.low)) to \(scientific($0.high))" } ?? "–", fixed(entry.top1, 4),
      ])
    }
    return
      ([table.text, "", sourceText] + [floorText].compactMap { $0 }
      + ["* no other result here is at most as large and at most as far off, and better in one of the two"])
      .joined(separator: "\n")
  }

  /// What the results are held against.
  var sourceText: String {
    let source = common.source
    return "source: \(source["path"]?.string ?? ""), \(byteText(source["bytes"]?.integer ?? 0))"
      + (common.perplexity.map { ", perplexity \(fixed($0, 4))" } ?? "")
      + "; \(grouped(common.tokens)) tokens in windows of \(common.context)"
  }

  /// The noise floor, the largest of the reports; nil where none says.
  var floorText: String? {
    entries.compactMap(\.floor).max().map {
      "KL floor: \(scientific($0)), the source against itself with sums in another order"
    }
  }

  /// For machines.
  package var json: JSON {
    [
      "schema": JSON(ReportComparison.schema), "source": common.source, "tokens": JSON(common.tokens),
      "context": JSON(common.context), "text_sha256": JSON(common.textHash),
      "source_perplexity": number(common.perplexity),
      "results": JSON(
        entries.map { entry in
          [
            "report": JSON(entry.report), "path": JSON(entry.path), "container": JSON(entry.container),
            "bytes": JSON(entry.bytes), "bits_per_weight": number(entry.bitsPerWeight),
            "kl": [
              "mean": JSON(entry.kl), "p99": JSON(entry.p99), "floor": number(entry.floor),
              "interval": Report.Interval.json(entry.interval),
            ],
            "top1_agreement": JSON(entry.top1), "perplexity": number(entry.perplexity),
            "verdict": JSON(entry.verdict), "front": JSON(entry.isOnFront),
          ]
        }),
    ]
  }

  private func number(_ value: Double?) -> JSON { value.map { JSON($0) } ?? JSON(.null) }
}
