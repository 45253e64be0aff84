// What a layer leaves to the layers behind it beside the residual stream. In models whose indexer chooses for several layers, the
// layers without one see the tokens that the last one with an indexer has chosen; in others late layers use the keys and values of an
// earlier one.

import SmeltTensors

/// What layers leave to later ones about the tokens of one batch, on one walk over the layers.
///
/// It belongs to a `TokenBatch`. A batch that is run through several models or several times at once has one for each walk:
/// `TokenBatch.separated`.
package final class LayerMemo: @unchecked Sendable {
  // SAFETY: nothing is locked. It is touched from the thread that runs the layers of its walk, never from the tasks inside a layer.
  private var chooser: Int?
  private var positions: [[Int32]?] = []
  /// Matrices with a row for each token, by the layer that left them and their place among what it left.
  private var rows: [Int: [Matrix]] = [:]

  /// Nothing is left yet.
  init() {}

  /// The same contents, for a walk of its own.
  init(_ other: LayerMemo, tokens: Range<Int>) {
    chooser = other.chooser
    positions = other.positions.isEmpty ? [] : Array(other.positions[tokens])
    rows = other.rows.mapValues { $0.map { $0[tokens] } }
  }

  /// A layer has chosen what each token sees.
  /// - Parameter selection: for each token of the batch its positions, ascending, or nil for all before it.
  func leave(_ selection: [[Int32]?], of layer: Int) {
    chooser = layer
    positions = selection
  }

  /// A layer leaves matrices with a row for each token of the batch.
  func leave(_ matrices: [Matrix], of layer: Int) { rows[layer] = matrices }

  /// The matrices that a layer has left; nil where it left none.
  func matrices(of layer: Int) -> [Matrix]? { rows[layer] }

  /// No later layer needs the choice that was left.
  func clear() {
    chooser = nil
    positions = []
  }

  /// All that was left, as numbers; nothing is left afterwards. Empty where nothing was.
  package func take() -> [Int32] {
    guard chooser != nil || !rows.isEmpty else { return [] }
    var numbers = [Int32(chooser ?? -1), Int32(positions.count)]
    for list in positions {
      numbers.append(list.map { Int32($0.count) } ?? -1)
      numbers += list ?? []
    }
    for (layer, matrices) in rows.sorted(by: { $0.key < $1.key }) {
      for matrix in matrices {
        numbers += [Int32(layer), Int32(matrix.rows), Int32(matrix.columns)]
        numbers += matrix.values.map { Int32(bitPattern: $0.bitPattern) }
      }
    }
    clear()
    rows = [:]
    return numbers
  }

  /// Leaves again what `take` gave.
  package func restore(_ numbers: [Int32]) {
    clear()
    rows = [:]
    guard numbers.count > 1 else { return }
    chooser = numbers[0] < 0 ? nil : Int(numbers[0])
    var place = 2
    for _ in 0..<numbers[1] {
      let count = Int(numbers[place])
      positions.append(count < 0 ? nil : Array(numbers[place + 1..<place + 1 + count]))
      place += 1 + max(0, count)
    }
    while place < numbers.count {
      let (layer, height, width) = (Int(numbers[place]), Int(numbers[place + 1]), Int(numbers[place + 2]))
      let values = numbers[place + 3..<place + 3 + height * width]
      rows[layer, default: []].append(
        Matrix(rows: height, columns: width, values: values.map { Float(bitPattern: UInt32(bitPattern: $0)) })
      )
      place += 3 + height * width
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
