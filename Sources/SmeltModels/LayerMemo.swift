// What a layer leaves to the layers behind it beside the residual stream. In models whose indexer chooses for several layers, the
// layers without one see the tokens that the last one with an indexer has chosen.

/// What layers leave to later ones about the tokens of one batch, on one walk over the layers.
///
/// It belongs to a `TokenBatch`. A batch that is run through several models or several times at once has one for each walk:
/// `TokenBatch.separated`.
package final class LayerMemo: @unchecked Sendable {
  // SAFETY: nothing is locked. It is touched from the thread that runs the layers of its walk, never from the tasks inside a layer.
  private var chooser: Int?
  private var positions: [[Int32]?] = []

  /// Nothing is left yet.
  init() {}

  /// The same contents, for a walk of its own.
  init(_ other: LayerMemo, tokens: Range<Int>) {
    chooser = other.chooser
    positions = other.positions.isEmpty ? [] : Array(other.positions[tokens])
  }

  /// A layer has chosen what each token sees.
  /// - Parameter selection: for each token of the batch its positions, ascending, or nil for all before it.
  func leave(_ selection: [[Int32]?], of layer: Int) {
    chooser = layer
    positions = selection
  }

  /// No later layer needs what was left.
  func clear() {
    chooser = nil
    positions = []
  }

  /// All that was left, as numbers; nothing is left afterwards. Empty where nothing was.
  package func take() -> [Int32] {
    guard let chooser else { return [] }
    var numbers = [Int32(chooser)]
    for list in positions {
      numbers.append(list.map { Int32($0.count) } ?? -1)
      numbers += list ?? []
    }
    clear()
    return numbers
  }

  /// Leaves again what `take` gave.
  package func restore(_ numbers: [Int32]) {
    clear()
    guard let first = numbers.first else { return }
    chooser = Int(first)
    var place = 1
    while place < numbers.count {
      let count = Int(numbers[place])
      positions.append(count < 0 ? nil : Array(numbers[place + 1..<place + 1 + count]))
      place += 1 + max(0, count)
    }
  }

  /// What a layer has chosen for each token.
  ///
  /// That layer must have run over the batch before, on this walk.
  func selection(of layer: Int) -> [[Int32]?] {
    precondition(chooser == layer, "layer \(layer) has chosen nothing for these tokens")
    return positions
  }
}
