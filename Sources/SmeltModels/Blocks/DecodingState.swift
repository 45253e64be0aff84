// What a pass remembers of the tokens before, so that one more token costs one token's work.

import SmeltTensors

/// The memory of one sequence: for each layer, named rows that grow with the tokens.
///
/// A pass with a state runs one sequence; its first token follows the last one the state has seen. Logits equal those of
/// a pass over the whole sequence, bit for bit where the sums have the same order.
package final class DecodingState: @unchecked Sendable {
  // SAFETY: nothing is locked. One pass at a time has a state and its layers, and touches them from the thread that runs the layers,
  // never from the tasks inside; `Sendable` so that a pass may move from one thread to another between tokens.
  /// Tokens seen so far: the position of the next one.
  package private(set) var position = 0
  private var layers: [Int: LayerState] = [:]

  /// A state that has seen nothing.
  package init() {}

  /// The rows of a layer.
  func layer(_ index: Int) -> LayerState {
    if let found = layers[index] { return found }
    let fresh = LayerState()
    layers[index] = fresh
    return fresh
  }

  /// The tokens of a pass have gone through all layers.
  package func advance(_ tokens: Int) { position += tokens }
}

/// One layer's rows by name. Used by one pass at a time.
final class LayerState {
  private var rows: [String: Matrix] = [:]

  /// Adds rows at the end and returns all rows so far.
  func append(_ name: String, _ new: Matrix) -> Matrix {
    guard var all = rows.removeValue(forKey: name) else {
      rows[name] = new
      return new
    }
    all.append(new)
    rows[name] = all
    return all
  }

  /// The rows so far, none at first.
  func all(_ name: String, columns: Int) -> Matrix { rows[name] ?? Matrix(rows: 0, columns: columns) }

  /// Hands rows of a fixed number over, to be changed and given back by `replace`: zeros at first.
  func take(_ name: String, rows count: Int, columns: Int) -> Matrix {
    guard let found = rows.removeValue(forKey: name) else { return Matrix(rows: count, columns: columns) }
    precondition(
      found.rows == count && found.columns == columns,
      "'\(name)' is \(found.rows) × \(found.columns), not \(count) × \(columns)")
    return found
  }

  /// Replaces the rows.
  func replace(_ name: String, _ all: Matrix) { rows[name] = all }
}
