// Float32 rows in memory: activations, logits, gathered tokens.

package import SmeltStorage

/// Rows of floats, one after another.
package struct Matrix: Sendable {
  /// How many rows: tokens, mostly.
  package private(set) var rows: Int
  /// How many columns: channels.
  package let columns: Int
  /// `rows × columns` floats.
  package var values: [Float]

  /// A matrix of known values.
  package init(rows: Int, columns: Int, values: [Float]) {
    precondition(values.count == rows * columns, "a matrix of \(rows) × \(columns) needs that many values")
    self.rows = rows
    self.columns = columns
    self.values = values
  }

  /// A matrix of zeros.
  package init(rows: Int, columns: Int) {
    OutOfMemory.require(4 * rows * columns)
    self.init(rows: rows, columns: columns, values: [Float](repeating: 0, count: rows * columns))
  }

  /// A matrix whose every value `fill` writes.
  package init(rows: Int, columns: Int, fill: (UnsafeMutablePointer<Float>) throws -> Void) rethrows {
    self.rows = rows
    self.columns = columns
    OutOfMemory.require(4 * rows * columns)
    // SAFETY: `fill` must write every one of `rows × columns` floats, and none beyond; where it throws, the array is dropped.
    values = try [Float](unsafeUninitializedCapacity: rows * columns) { buffer, count in
      if let base = buffer.baseAddress { try fill(base) }
      count = rows * columns
    }
  }

  /// Whether another matrix is this one, in the same memory; equal numbers elsewhere do not count.
  func isSame(as other: Matrix) -> Bool {
    rows == other.rows && columns == other.columns
      && values.withUnsafeBufferPointer { own in
        other.values.withUnsafeBufferPointer { own.baseAddress == $0.baseAddress }
      }
  }

  /// A copy of one row.
  package subscript(row: Int) -> ArraySlice<Float> { values[row * columns..<(row + 1) * columns] }

  /// Adds another matrix's rows at the end.
  package mutating func append(_ other: Matrix) {
    precondition(other.columns == columns, "rows of \(other.columns) columns do not fit \(columns)")
    values += other.values
    rows += other.rows
  }

  /// Takes the last rows away.
  package mutating func removeLast(_ count: Int) {
    precondition(count <= rows, "\(count) rows of \(rows)")
    values.removeLast(count * columns)
    rows -= count
  }

  /// The rows of a range, copied.
  package subscript(range: Range<Int>) -> Matrix {
    Matrix(
      rows: range.count, columns: columns,
      values: Array(values[range.lowerBound * columns..<range.upperBound * columns]))
  }

  /// The rows of the given numbers, in that order. All rows in order are the matrix itself, which is not copied.
  package func gather(_ indices: [Int]) -> Matrix {
    guard indices.count != rows || !indices.elementsEqual(0..<rows) else { return self }
    return Matrix(rows: indices.count, columns: columns) { out in
      values.withUnsafeBufferPointer { source in
        guard let base = source.baseAddress else { return }
        for (place, index) in indices.enumerated() {
          // SAFETY: the index is checked here; `out` has room for a row for each of them.
          precondition(index >= 0 && index < rows, "row \(index) of \(rows)")
          (out + place * columns).update(from: base + index * columns, count: columns)
        }
      }
    }
  }
}

extension Matrix {
  /// Calls `body` with each row's number and address, rows spread over the threads in blocks.
  package mutating func forEachRow(
    _ parallel: Parallel, _ body: @Sendable (Int, UnsafeMutablePointer<Float>) -> Void
  ) {
    let (rows, columns) = (rows, columns)
    values.withUnsafeMutableBufferPointer { values in
      guard let base = values.baseAddress else { return }
      // SAFETY: a row is given to one task, which may write its `columns` floats; the array is lent until all tasks are done.
      let target = SharedPointer(base)
      let block = 32
      parallel.forEach(ceilDivide(rows, block)) { index in
        for row in index * block..<min(rows, (index + 1) * block) {
          body(row, target.pointer + row * columns)
        }
      }
    }
  }
}

/// A mutable pointer that threads may share because each writes to places of its own.
package struct SharedPointer<Element>: @unchecked Sendable {
  // SAFETY: nothing is checked. Whoever makes one vouches that the memory outlives all tasks that have it (`Parallel` returns when
  // they are done) and that two tasks never touch the same element unless both only read it.
  /// The address.
  package let pointer: UnsafeMutablePointer<Element>

  /// Shares an address.
  package init(_ pointer: UnsafeMutablePointer<Element>) { self.pointer = pointer }
}

/// A read-only pointer that threads may share while its owner lives.
package struct SharedReadPointer<Element>: @unchecked Sendable {
  // SAFETY: as `SharedPointer`, and nobody writes to the memory while tasks have it.
  /// The address.
  package let pointer: UnsafePointer<Element>

  /// Shares an address.
  package init(_ pointer: UnsafePointer<Element>) { self.pointer = pointer }
}
