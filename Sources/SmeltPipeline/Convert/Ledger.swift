// The ledger: every source tensor and its fate. Nothing is lost in silence.

package import SmeltStorage

/// What became of one source tensor, or of its share in one weight.
package struct LedgerEntry: Sendable {
  /// What can become of a tensor.
  package enum Fate: String, Sendable, CaseIterable {
    /// Its numbers are stored in another encoding.
    case converted
    /// Its bytes are kept.
    case copied
    /// The same of a weight that the model's forward pass does not use: a tower, a projector, a block that drafts tokens.
    case carried
    /// It became a part of another tensor's weight: a scale.
    case joined
    /// A named rule leaves it out.
    case dropped
  }

  /// Whether its bytes are kept.
  package var isKept: Bool { fate == .copied || fate == .carried }

  /// What headers alone tell about a weight's numbers.
  package enum Step: String, Sendable, CaseIterable {
    /// Every number stays what it is.
    case exact
    /// Whether every number stays what it is, the data decides.
    case mayBeExact = "may_be_exact"
    /// Numbers change.
    case rounded
  }

  /// The source tensor's name.
  package var source: String
  /// What became of it.
  package var fate: Fate
  /// Why: the rule's or the recipe's words.
  package var rule: String
  /// The weight it belongs to, or nil when dropped.
  package var weight: String?
  /// What the weight does, as recipes call it; nil when dropped.
  package var role: String?
  /// The scheme that was applied.
  package var scheme: String?
  /// Its bytes in the source.
  package var bytesIn: Int
  /// The bytes of the result's parts before compression; those of a joined tensor are counted with the codes.
  package var bytesOut: Int
  /// Values whose stored number differs from the source's; nil before the data was read, 0 when exact.
  package var inexactValues: Int?
  /// Something a reader must know: which statistics a scale came from, for example.
  package var note: String?
  /// Whether numbers change, as far as headers tell; nil for what is no weight's codes.
  package var step: Step?
  /// XXH64 of the source bytes that were read, in hexadecimal.
  package var sourceHash: String?

  /// The contract's JSON: as results record it, and the role, which a reader of a result finds from the name.
  package var json: JSON {
    guard let role else { return recorded }
    let known = recorded.object.map { zip($0.keys, $0.values).map { ($0, $1) } } ?? []
    return JSON(members: known + [("role", JSON(role))])
  }

  /// The contract's JSON: the first seven members always, the rest when known.
  package var recorded: JSON {
    var members: [(String, JSON)] = [
      ("source", JSON(source)), ("fate", JSON(fate.rawValue)), ("rule", JSON(rule)), ("weight", JSON(weight)),
      ("scheme", JSON(scheme)), ("bytes_in", JSON(bytesIn)), ("bytes_out", JSON(bytesOut)),
    ]
    if let step { members.append(("step", JSON(step.rawValue))) }
    if let inexactValues {
      members.append(("exact", JSON(inexactValues == 0)))
      members.append(("inexact_values", JSON(inexactValues)))
    }
    if let note { members.append(("note", JSON(note))) }
    if let sourceHash { members.append(("source_xxh64", JSON(sourceHash))) }
    return JSON(members: members)
  }
}
