// What a layer leaves to later layers of the same walk: keys and values that several layers share, choices that are made once.
// A decoding state belongs to one sequence and outlives its passes; a memo belongs to one batch on its way through the layers.

import SmeltStorage
package import SmeltTensors

/// A value of a memo that is matrices with a row for each token: it can wait in a file, and be cut.
package protocol MemoRows: Sendable {
  /// The matrices.
  var matrices: [Matrix] { get }
  /// The value of its matrices.
  init(matrices: [Matrix])
}

/// What layers leave to each other, by name.
///
/// Batches that take turns in each layer (groups of windows) have a value each under one name: `turn(to:)` says whose turn it is.
package final class LayerMemo: @unchecked Sendable {
  // SAFETY: nothing is locked. One walk over the layers has a memo, and touches it from the thread that runs the layers, never from the
  // tasks inside; `Sendable` so that a pass can hold it.
  private enum Entry {
    case held(any Sendable)
    case spilled(any MemoRows.Type, [Place])
  }

  /// A matrix in the file.
  private struct Place: Equatable {
    let offset, rows, columns: Int
  }

  private var groups: [Int: [String: Entry]] = [:]
  private var group = 0
  private let folder: String?
  private var file: ScratchFile?

  /// A memo of nothing.
  /// - Parameter folder: where a file for values with a row for each token is made; nil keeps them in memory.
  package init(spillingTo folder: String? = nil) { self.folder = folder }

  /// Leaves a value for the batch at hand; an earlier one of the name goes.
  /// - Throws: `RequestError` cannot-create and io of the file.
  package func leave<Value: Sendable>(_ value: Value, as name: String) throws {
    guard let folder, let rows = value as? any MemoRows else {
      groups[group, default: [:]][name] = .held(value)
      return
    }
    let file = try file ?? ScratchFile(in: folder)
    self.file = file
    var end = file.byteCount
    var places = rows.matrices.map { matrix in
      defer { end += matrix.values.count * 4 }
      return Place(offset: end, rows: matrix.rows, columns: matrix.columns)
    }
    // A layer that runs again writes over what it left.
    if case .spilled(_, let old)? = groups[group]?[name],
      old.map(\.rows) == places.map(\.rows), old.map(\.columns) == places.map(\.columns)
    {
      places = old
    }
    for (matrix, place) in zip(rows.matrices, places) {
      try matrix.values.withUnsafeBytes { try file.write($0, at: place.offset) }
    }
    groups[group, default: [:]][name] = .spilled(type(of: rows), places)
  }

  /// The value of a name that the batch at hand has; nil where no layer left one of this type.
  /// - Throws: `RequestError` io of the file.
  package func left<Value: Sendable>(_ name: String) throws -> Value? {
    try groups[group]?[name].map(value) as? Value
  }

  /// The batch of this number has its turn.
  package func turn(to group: Int) { self.group = group }

  /// Whether no layer left anything.
  package var isEmpty: Bool { groups.values.allSatisfy(\.isEmpty) }

  /// Bytes that lie in the file.
  package var spilledBytes: Int { file?.byteCount ?? 0 }

  /// A memo of its own for the first tokens of the batch at hand, in memory: rows of what has rows, the rest as it is.
  package func prefix(_ rows: Int) throws -> LayerMemo {
    let part = LayerMemo()
    part.groups[0] = try (groups[group] ?? [:]).mapValues { entry in
      let value = try self.value(entry)
      return .held((value as? any MemoRows).map { LayerMemo.cut($0, rows) } ?? value)
    }
    return part
  }

  private func value(_ entry: Entry) throws -> any Sendable {
    switch entry {
    case .held(let value): return value
    case .spilled(let type, let places):
      let matrices = try places.map { place in
        try Matrix(rows: place.rows, columns: place.columns) {
          // SAFETY: the matrix has room for `rows × columns` floats; where it has none, nothing is read.
          try file?.read(
            into: UnsafeMutableRawBufferPointer(start: $0, count: place.rows * place.columns * 4),
            at: place.offset)
        }
      }
      return type.init(matrices: matrices)
    }
  }

  private static func cut<Value: MemoRows>(_ value: Value, _ rows: Int) -> any Sendable {
    Value(matrices: value.matrices.map { $0[0..<min(rows, $0.rows)] })
  }
}
