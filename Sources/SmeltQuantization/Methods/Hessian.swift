// The second moments of a weight's inputs: what GPTQ, the search for scales and the acceptance of both measure errors
// with. Formats/methods.md, section 2.

internal import CKernels
package import SmeltStorage
package import SmeltTensors

/// H = Σ x xᵀ over the calibration inputs of one weight: the square error of a row's outputs is d H dᵀ for the row's
/// change d. Memory: columns² floats. Not safe to add to from several threads.
package final class Hessian {
  /// Input channels.
  package let columns: Int
  /// Inputs that were added.
  package private(set) var tokens = 0
  /// [columns, columns]; only what is on and below the diagonal is kept.
  private var sums: [Float]
  /// Inputs that wait until there are enough to be added, so that the sums do not depend on how inputs were handed over.
  private var pending: [Float] = []

  private static let tile = 64
  private static let chunk = 1024

  /// Nothing added yet.
  package init(columns: Int) {
    self.columns = columns
    sums = [Float](repeating: 0, count: columns * columns)
  }

  /// The sums over all inputs that were added.
  private var values: [Float] {
    pending.withUnsafeBufferPointer {
      if let base = $0.baseAddress { sum(base, $0.count / columns, .serial) }
    }
    pending = []
    return sums
  }

  /// Adds inputs [tokens, columns]. Each tile of sums takes the tokens in their order, so that the bits depend neither on
  /// the threads nor on how many tokens come at a time.
  package func add(_ x: Matrix, parallel: Parallel) {
    precondition(x.columns == columns, "inputs of \(x.columns) channels do not fit \(columns)")
    tokens += x.rows
    x.values.withUnsafeBufferPointer { x in
      var place = 0
      while place < x.count {
        let left = Hessian.chunk * columns - pending.count
        if pending.isEmpty, x.count - place >= left {
          sum(x.baseAddress! + place, Hessian.chunk, parallel)
          place += left
          continue
        }
        let count = min(left, x.count - place)
        pending += x[place..<place + count]
        place += count
        if count == left {
          pending.withUnsafeBufferPointer { sum($0.baseAddress!, Hessian.chunk, parallel) }
          pending = []
        }
      }
    }
  }

  /// Adds `count` inputs to the sums.
  private func sum(_ x: UnsafePointer<Float>, _ count: Int, _ parallel: Parallel) {
    // SAFETY: `x` must hold count × columns floats, count at most `chunk`, which is SK_BLOCK. A task adds to the tile of its own rows
    // and columns, cut to what is left of the matrix.
    let tiles = ceilDivide(columns, Hessian.tile)
    let columns = columns
    let transposedInputs = Matrix(rows: columns, columns: count) { out in
      sk_gather(
        UnsafeRawPointer(x).assumingMemoryBound(to: UInt8.self), 4, columns, count, 1, columns,
        UnsafeMutableRawPointer(out).assumingMemoryBound(to: UInt8.self))
    }
    sums.withUnsafeMutableBufferPointer { sums in
      transposedInputs.values.withUnsafeBufferPointer { transposedInputs in
        let target = SharedPointer(sums.baseAddress!)
        let source = SharedReadPointer(transposedInputs.baseAddress!)
        parallel.forEach(tiles * (tiles + 1) / 2) { task in
          let (row, column) = Hessian.place(task)
          let (i, j) = (row * Hessian.tile, column * Hessian.tile)
          sk_gemm_f32(
            source.pointer + i * count, count, source.pointer + j * count, count,
            target.pointer + i * columns + j, columns, min(Hessian.tile, columns - i),
            min(Hessian.tile, columns - j), count, 1)
        }
      }
    }
  }

  /// The tile of a number, counted row by row in a lower triangle.
  private static func place(_ task: Int) -> (row: Int, column: Int) {
    var row = Int((Double(8 * task + 1).squareRoot() - 1) / 2)
    while row * (row + 1) / 2 > task { row -= 1 }
    while (row + 1) * (row + 2) / 2 <= task { row += 1 }
    return (row, task - row * (row + 1) / 2)
  }

  /// Adds `factor` × other, for example what all experts of a layer see to what one of them saw.
  package func add(_ other: Hessian, factor: Float) {
    precondition(other.columns == columns, "moments of \(other.columns) channels do not fit \(columns)")
    let count = values.count
    sums.withUnsafeMutableBufferPointer { a in
      other.values.withUnsafeBufferPointer { sk_axpy_f32(factor, $0.baseAddress!, a.baseAddress!, count) }
    }
  }

  /// Adds `damping` × the mean of the diagonal to the diagonal and fills what is above it, so that rows are whole.
  func completed(damping: Double) -> [Float] {
    let mean = diagonal.reduce(0.0) { $0 + Double($1) } / Double(max(1, columns))
    let n = columns
    let values = values
    // SAFETY: each pair of places and the diagonal are written once: all n² floats.
    return [Float](unsafeUninitializedCapacity: n * n) { out, count in
      for i in 0..<n {
        for j in 0..<i {
          out[i * n + j] = values[i * n + j]
          out[j * n + i] = values[i * n + j]
        }
        out[i * n + i] = values[i * n + i] + Float(damping * mean)
      }
      count = n * n
    }
  }

  /// The sum for a pair of channels.
  package subscript(row: Int, column: Int) -> Float {
    row >= column ? values[row * columns + column] : values[column * columns + row]
  }

  /// The sums of squares.
  package var diagonal: [Float] {
    let values = values
    return (0..<columns).map { values[$0 * columns + $0] }
  }

  /// d H dᵀ for each of some rows d [rows, columns]: the square error of their outputs.
  package func errors(_ d: Matrix, parallel: Parallel) -> [Double] {
    precondition(d.columns == columns, "rows of \(d.columns) channels do not fit \(columns)")
    var found = [Double](repeating: 0, count: d.rows)
    let (values, columns) = (values, columns)
    guard columns > 0, d.rows > 0 else { return found }
    // SAFETY: rows of d have the matrix's columns; a task writes the sums of its own rows.
    found.withUnsafeMutableBufferPointer { sums in
      values.withUnsafeBufferPointer { values in
        d.values.withUnsafeBufferPointer { d in
          let target = SharedPointer(sums.baseAddress!)
          let (h, rows) = (SharedReadPointer(values.baseAddress!), SharedReadPointer(d.baseAddress!))
          let count = sums.count
          let block = 16
          parallel.forEach(ceilDivide(count, block)) { task in
            for row in task * block..<min(count, (task + 1) * block) {
              let x = rows.pointer + row * columns
              var sum = 0.0
              for i in 0..<columns where x[i] != 0 {
                // Twice what is left of the diagonal, once the diagonal.
                let left = i == 0 ? 0 : dot(h.pointer + i * columns, x, i)
                sum += Double(x[i]) * (2 * left + Double(x[i]) * Double(h.pointer[i * columns + i]))
              }
              target.pointer[row] = max(0, sum)
            }
          }
        }
      }
    }
    return found
  }

  /// The matrix in double precision, rows and columns in the given order, `damping` × the mean of the diagonal added to
  /// the diagonal. Both triangles; reversed, so that its lower Cholesky factor is the reversed upper one.
  func reversed(order: [Int], damping: Double) -> [Double] {
    let n = columns
    let mean = diagonal.reduce(0.0) { $0 + Double($1) } / Double(max(1, n))
    let values = values
    // SAFETY: all n² numbers are written, row after row; `order` is a permutation of the columns.
    return [Double](unsafeUninitializedCapacity: n * n) { out, count in
      for i in 0..<n {
        let row = order[n - 1 - i]
        for j in 0..<n {
          let column = order[n - 1 - j]
          out[i * n + j] = Double(values[max(row, column) * n + min(row, column)])
        }
        out[i * n + i] += damping * mean
      }
      count = n * n
    }
  }
}

/// A dot product of any length.
private func dot(_ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, _ count: Int) -> Double {
  var sum = 0.0
  for start in stride(from: 0, to: count, by: Int(SK_BLOCK)) {
    sum += Double(sk_dot_f32(a + start, b + start, min(Int(SK_BLOCK), count - start)))
  }
  return sum
}
