// README.md of a directory: what the source's says, and where the numbers of this one come from.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The section of a model card that a conversion adds.
struct ModelCard {
  /// The card's name in a directory.
  static let fileName = "README.md"

  /// Between these lines stands what verification found.
  private static let open = "<!-- smelt: verification -->"
  private static let close = "<!-- smelt: end -->"

  private let title: String
  private let model: Model
  private let options: ConvertOptions
  private let ledger: [LedgerEntry]

  init(_ title: String, _ model: Model, _ options: ConvertOptions, _ ledger: [LedgerEntry]) {
    self.title = title
    self.model = model
    self.options = options
    self.ledger = ledger
  }

  /// The whole file: the source's card with a section more, or a card of that section alone.
  func text(after card: Bytes?) throws -> [UInt8] {
    let converted = ledger.filter { $0.fate == .converted }
    let origin = try provenance(model, options)
    let members = zip(origin.object?.keys ?? [], origin.object?.values ?? []).filter { $0.0 != "format" }
    var schemes: [String: Int] = [:]
    for entry in converted { schemes[entry.scheme ?? "", default: 0] += 1 }
    let counts = schemes.keys.sorted().map { "\($0): \(schemes[$0] ?? 0)" }.joined(separator: ", ")
    let section = """
      ## Converted by smelt \(smeltVersion)

      \(converted.count) weights converted (\(counts)), \(converted.count { $0.inexactValues == 0 }) of them without changing a
      value; \(ledger.count { $0.fate == .copied }) kept as they were, \(ledger.count { $0.fate == .dropped }) tensors left out by rules.

      SHA-256 of the lines "name XXH64" of the source's tensors: `\(sourceHash(ledger))`

      ```json
      \(JSON(members: members.map { ($0.0, $0.1) }).text(indented: true))
      ```

      \(ModelCard.open)
      Not verified yet: `smelt verify SOURCE RESULT --text FILE --seal` says how far the two are apart, and writes it here.
      \(ModelCard.close)

      """
    let start = card.map { $0.array } ?? Array("# \(title)\n".utf8)
    let gap = start.last == UInt8(ascii: "\n") ? "\n" : "\n\n"
    return start + Array((gap + section).utf8)
  }

  /// What the last such section of a card says about the source and the making; nil where there is none.
  static func origin(in card: [UInt8]) -> JSON? {
    let text = String(decoding: card, as: UTF8.self)
    guard let section = text.ranges(of: "\n## Converted by smelt ").last,
      let open = text[section.upperBound...].firstRange(of: "\n```json\n"),
      let close = text[open.upperBound...].firstRange(of: "\n```")
    else { return nil }
    return try? JSON.scan(String(text[open.upperBound..<close.lowerBound]))
  }

  /// A card with a report in the place for it, the last one where a card was copied along; nil where there is none.
  static func sealed(_ card: [UInt8], with report: Report) -> [UInt8]? {
    let text = String(decoding: card, as: UTF8.self)
    guard let place = place(in: text), Array(text.utf8) == card else { return nil }
    return Array((text[..<place.lowerBound] + "\n\(report.card)\n" + text[place.upperBound...]).utf8)
  }

  /// Text that may stand in a cell of a table.
  static func cell(_ text: String) -> String {
    text.replacing("|", with: "\\|").replacing("<", with: "&lt;")
  }

  /// Whether a card has a place for a report.
  static func hasPlace(_ card: [UInt8]) -> Bool { place(in: String(decoding: card, as: UTF8.self)) != nil }

  private static func place(in text: String) -> Range<String.Index>? {
    guard let start = text.ranges(of: open).last, let end = text[start.upperBound...].firstRange(of: close)
    else { return nil }
    return start.upperBound..<end.lowerBound
  }
}

extension Report {
  /// The lines of a model card.
  var card: String {
    let agreement: [(String, String)] =
      [
        ("perplexity", "\(fixed(perplexity.source, 4)) → \(fixed(perplexity.result, 4))"),
        ("KL divergence, mean", "\(scientific(kl.mean)) nats a token"),
        (
          "KL, median / p99 / max", "\(scientific(kl.median)) / \(scientific(kl.p99)) / \(scientific(kl.max))"
        ),
        ("KL, source against itself", scientific(kl.floor)),
      ] + (router.isEmpty ? [] : [("KL with the source's expert choices", scientific(kl.forcedRoutingMean))])
      + [
        ("top-1 agreement", fixed(top1, 4)), ("top-5 agreement", fixed(top5, 4)),
      ]
    var rows = notRun.map { [("forward pass", "not run: \($0)")] } ?? agreement
    if let flips = router.min(by: { $0.setAgreement < $1.setAgreement }) {
      rows.append(("router agreement, worst layer", "\(fixed(flips.setAgreement, 4)) (layer \(flips.layer))"))
    }
    if let activations {
      rows.append(("KL with \(activations.rounding) activations", scientific(activations.kl.mean)))
    }
    rows.append(("exact weights", "\(exactWeights) of \(weights.count)"))
    rows.append(("faults", "\(faults.count)"))
    for criterion in criteria.dropFirst() {
      rows.append(("demanded of \(criterion.name)", criterion.text + (criterion.isMet ? "" : ": not met")))
    }
    if let profile = thresholds.profile { rows.append(("profile", profile.rawValue)) }
    rows.append(("verdict", verdict.text))
    rows += faults.prefix(20).map { ("fault", ModelCard.cell($0.text)) }
    rows += differences.map { ("difference", ModelCard.cell($0.text)) }
    return """
      Verified by smelt \(smeltVersion): source and result through the same forward pass, \(grouped(tokens)) tokens in windows of \(context).

      | measure | value |
      |---|---|
      \(rows.map { "| \($0.0) | \($0.1) |" }.joined(separator: "\n"))
      """
  }
}
