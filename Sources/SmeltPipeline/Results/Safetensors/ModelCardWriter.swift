// README.md of a directory: what the source's says, and where the numbers of this one come from.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The section of a model card that a conversion adds.
struct ModelCardWriter {
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
    let members = origin.members.filter { $0.0 != "format" }
    var schemes: [String: Int] = [:]
    for entry in converted { schemes[entry.scheme ?? "", default: 0] += 1 }
    let counts = schemes.keys.sorted().map { "\($0): \(schemes[$0] ?? 0)" }.joined(separator: ", ")
    let section = """
      ## Converted by smelt \(smeltVersion)

      \(converted.count) weights converted (\(counts)), \(converted.count { $0.inexactValues == 0 }) of them without changing a
      value; \(ledger.count { $0.isKept }) kept as they were, \(ledger.count { $0.fate == .dropped }) tensors left out by rules.

      \(ModelCard.hashLine)`\(sourceHash(ledger))`

      ```json
      \(JSON(members: members).text(indented: true))
      ```

      \(ModelCard.open)
      Not verified yet: `smelt verify SOURCE RESULT --text FILE --seal` says how far the two are apart, and writes it here.
      \(ModelCard.close)

      """
    let start = card.map { $0.array } ?? Array("# \(title)\n".utf8)
    let gap = start.last == UInt8(ascii: "\n") ? "\n" : "\n\n"
    return start + Array((gap + section).utf8)
  }
}
