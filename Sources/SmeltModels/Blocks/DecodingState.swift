// What a pass remembers of the tokens before, so that one more token costs one token's work.

import SmeltTensors

/// The memory of one sequence: for each layer, named rows that grow with the tokens.
///
/// A pass with a state runs one sequence; its first token follows the last one the state has seen. Logits equal those of
/// a pass over the whole sequence, bit for bit where the sums have the same order.
///
/// A state of pieces belongs to one layer's walk over the pieces of a window. It keeps what the layer itself needs of earlier pieces as
/// the layer made it, so that nothing is computed twice or in another form, and no more of it than later tokens see.
package final class DecodingState: @unchecked Sendable {
  // SAFETY: nothing is locked. One pass at a time has a state and its layers, and touches them from the thread that runs the layers,
  // never from the tasks inside; `Sendable` so that a pass may move from one thread to another between tokens.
  /// Tokens seen so far: the position of the next one.
  package private(set) var position = 0
  private var layers: [Int: LayerState] = [:]
  private var marked = 0
  /// Tokens of the window whose pieces run; nil for a sequence that is continued token by token.
  private let window: Int?

  /// A state that has seen nothing.
  package init() { window = nil }

  /// A state for the pieces of a window.
  /// - Parameter window: all tokens of the window.
  package init(piecesOf window: Int) { self.window = window }

  /// Whether it is for the pieces of a window.
  var isOfPieces: Bool { window != nil }

  /// The rows of a layer.
  func layer(_ index: Int) -> LayerState {
    if let found = layers[index] { return found }
    let fresh = window.map { LayerState(tokens: $0) } ?? LayerState()
    layers[index] = fresh
    return fresh
  }

  /// The tokens of a pass have gone through all layers.
  package func advance(_ tokens: Int) { position += tokens }

  /// Remembers where the sequence is, so that `rollBack` can take back what follows.
  package func mark() {
    marked = position
    for layer in layers.values { layer.mark() }
  }

  /// Takes back what followed the mark but for its first tokens, where the layers' memories have a row for each token.
  /// - Returns: how many tokens after the mark are still there: `kept`, or none where some memory cannot give up the rest alone.
  package func rollBack(keeping kept: Int) -> Int {
    let tokens = position - marked
    let stays = layers.values.allSatisfy { $0.canKeepSome(of: tokens) } ? kept : 0
    for layer in layers.values { layer.rollBack(keeping: stays) }
    position = marked + stays
    return stays
  }
}

/// One layer's rows by name. Used by one pass at a time.
final class LayerState {
  /// What takes back a change since the mark.
  private enum Undo {
    /// So many rows were there, and others were added behind them.
    case rows(Int)
    /// Something else was there, or nothing.
    case value(Matrix?)
  }

  private var rows: [String: Matrix] = [:]
  /// How many tokens there will be; nil where nobody knows.
  private let tokens: Int?

  /// Nothing yet, of a sequence whose length nobody knows, and of which tokens may be taken back.
  init() { tokens = nil }

  /// Nothing yet, of a sequence of so many tokens, none of which is taken back: rows that no later token sees may go.
  init(tokens: Int) { self.tokens = tokens }

  /// For each name that changed since the mark; nil before the first mark, when nothing is remembered.
  private var undo: [String: Undo]?

  /// Adds rows at the end and returns all rows so far.
  /// - Parameter grows: whether there will be a row for each token.
  func append(_ name: String, _ new: Matrix, grows: Bool = true) -> Matrix {
    remember(name) { $0.map { .rows($0.rows) } ?? .rows(0) }
    guard var all = rows.removeValue(forKey: name) else {
      guard grows, let tokens, tokens > new.rows else {
        rows[name] = new
        return new
      }
      // Room for all at once: what grows by doubling takes up to three times as much while it does.
      var all = Matrix(rows: 0, columns: new.columns)
      all.values.reserveCapacity(tokens * new.columns)
      all.append(new)
      rows[name] = all
      return all
    }
    all.append(new)
    rows[name] = all
    return all
  }

  /// Adds rows at the end and returns those that the new tokens see: all so far, or some of the last.
  /// - Parameter last: how many rows before a token it sees; those before them may go. Nil for all.
  func append(_ name: String, _ new: Matrix, keepingLast last: Int?) -> Matrix {
    guard let last, tokens != nil else { return append(name, new) }
    var all = rows[name] ?? Matrix(rows: 0, columns: new.columns)
    all.append(new)
    rows[name] = all[max(0, all.rows - last)..<all.rows]
    return all
  }

  /// The rows so far, none at first.
  func all(_ name: String, columns: Int) -> Matrix { rows[name] ?? Matrix(rows: 0, columns: columns) }

  /// Hands rows of a fixed number over, to be changed and given back by `replace`: zeros at first.
  func take(_ name: String, rows count: Int, columns: Int) -> Matrix {
    remember(name) { .value($0) }
    guard let found = rows.removeValue(forKey: name) else { return Matrix(rows: count, columns: columns) }
    precondition(
      found.rows == count && found.columns == columns,
      "'\(name)' is \(found.rows) × \(found.columns), not \(count) × \(columns)")
    return found
  }

  /// Replaces the rows.
  func replace(_ name: String, _ all: Matrix) {
    // Rows that were only added to so far are cut at the mark, so that nothing is copied before it is needed.
    if case .rows(let count)? = undo?[name], let before = rows[name] {
      undo?[name] = .value(before.rows > count ? before[0..<count] : before)
    }
    remember(name) { .value($0) }
    rows[name] = all
  }

  private func remember(_ name: String, _ change: (Matrix?) -> Undo) {
    guard undo != nil, undo?[name] == nil else { return }
    undo?[name] = change(rows[name])
  }

  /// Remembers the rows as they are.
  func mark() { undo = [:] }

  /// Whether the first of `tokens` tokens since the mark can stay while the others go: every memory that changed has a row for each.
  func canKeepSome(of tokens: Int) -> Bool {
    (undo ?? [:]).allSatisfy { name, change in
      guard case .rows(let count) = change else { return false }
      return rows[name]?.rows == count + tokens
    }
  }

  /// Takes back what followed the mark, all but rows of the first `kept` tokens.
  func rollBack(keeping kept: Int) {
    for (name, change) in undo ?? [:] {
      switch change {
      case .rows(let count):
        let extra = (rows[name]?.rows ?? 0) - count - kept
        if extra > 0 { rows[name]?.removeLast(extra) }
      case .value(let before): rows[name] = before
      }
    }
    undo = [:]
  }
}
