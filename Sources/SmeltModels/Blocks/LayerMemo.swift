// What a layer leaves to later layers of the same walk: keys and values that several layers share, choices that are made once.
// A decoding state belongs to one sequence and outlives its passes; a memo belongs to one batch on its way through the layers.

/// What layers leave to each other, by name.
///
/// Batches that take turns in each layer (groups of windows) have an entry each under one name: `turn(to:)` says whose turn it is.
package final class LayerMemo: @unchecked Sendable {
  // SAFETY: nothing is locked. One walk over the layers has a memo, and touches it from the thread that runs the layers, never from the
  // tasks inside; `Sendable` so that a pass can hold it.
  private var groups: [Int: [String: any Sendable]] = [:]
  private var group = 0

  /// A memo of nothing.
  package init() {}

  /// The value of a name that the batch at hand has; nil where no layer left one of this type. Setting nil forgets it.
  package subscript<Value: Sendable>(name: String) -> Value? {
    get { groups[group]?[name] as? Value }
    set { groups[group, default: [:]][name] = newValue }
  }

  /// The batch of this number has its turn.
  package func turn(to group: Int) { self.group = group }

  /// Whether no layer left anything.
  package var isEmpty: Bool { groups.values.allSatisfy(\.isEmpty) }

  /// A memo of its own for the first tokens of the batch at hand.
  package func prefix(_ rows: Int) -> LayerMemo {
    let part = LayerMemo()
    part.groups[0] = (groups[group] ?? [:]).mapValues { ($0 as? any MemoRows)?.prefix(rows) ?? $0 }
    return part
  }
}

/// A value of a memo that has a part for each token.
protocol MemoRows: Sendable {
  /// The part of the first tokens.
  func prefix(_ rows: Int) -> Self
}
