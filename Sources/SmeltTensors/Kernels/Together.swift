// Several products of a few tokens as one piece of work for all threads: what queries, keys and values need, or the experts of a token.

import SmeltStorage

/// What the pieces of one product write, and how many rows of its weight each takes.
struct SharedProduct {
  /// Rows of the result.
  let tokens: Int
  /// Rows of the weight, columns of the result.
  let rows: Int
  /// From one row of the weight's codes to the next, in bytes.
  let rowBytes: Int
}

/// Computes the products in pieces of rows that any thread takes.
/// - Parameter body: multiplies the given rows of a product; the result's first row and first of these columns is at the address, its rows
///   are the weight's rows apart. It should touch plain memory alone: threads that count references to the same objects wait for each other.
/// - Returns: the products, [tokens, rows].
func multiplyTogether(
  _ products: [SharedProduct], _ parallel: Parallel,
  _ body: @Sendable (Int, Range<Int>, UnsafeMutablePointer<Float>) -> Void
) -> [Matrix] {
  let bytes = products.reduce(0) { $0 + $1.rows * $1.rowBytes }
  var starts = [0]
  var pieces: [(product: Int, rows: Range<Int>, place: Int)] = []
  for (index, product) in products.enumerated() {
    let block = rowsOfPiece(bytes, rowBytes: product.rowBytes, parallel)
    for first in stride(from: 0, to: product.rows, by: block) {
      pieces.append((index, first..<min(product.rows, first + block), starts[index] + first))
    }
    starts.append(starts[index] + product.tokens * product.rows)
  }
  let all = Matrix(rows: 1, columns: starts[products.count]) { out in
    pieces.withUnsafeBufferPointer { pieces in
      guard let first = pieces.baseAddress else { return }
      // SAFETY: a product has its own part of `out`, and a piece writes the columns of its rows there, which no other does.
      let (target, list) = (SharedPointer(out), SharedReadPointer(first))
      parallel.forEachInRuns(pieces.count) { index in
        let piece = list.pointer[index]
        body(piece.product, piece.rows, target.pointer + piece.place)
      }
    }
  }
  return products.indices.map { index in
    Matrix(
      rows: products[index].tokens, columns: products[index].rows,
      values: Array(all.values[starts[index]..<starts[index + 1]]))
  }
}

/// Rows of a weight that one task takes where tokens are few and all of the work reads some bytes of codes: in whole panels of sixteen rows,
/// a sixteenth of a thread's share, so that threads end together. At least 32 KiB, a few microseconds in which taking a task does not count;
/// at most 256 KiB.
func rowsOfPiece(_ bytes: Int, rowBytes: Int, _ parallel: Parallel) -> Int {
  let piece = min(max(bytes / (16 * parallel.threads), 32 << 10), 256 << 10)
  return max(1, piece / (16 * max(1, rowBytes))) * 16
}
