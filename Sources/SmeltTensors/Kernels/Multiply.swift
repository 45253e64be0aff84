// Activations times a weight. Of a few tokens: from the codes as they lie (CodedRows.swift). Of many: the weight is decoded a tile
// at a time into scratch, and one micro-kernel multiplies. Both give the same bits. A tile is 64 output channels × 1024 input channels (256 KiB), so that it stays in the second-level cache.

internal import CKernels
package import SmeltStorage

/// Rows of a weight that share a tile.
private let tileRows = 64
/// Rows of activations that one task multiplies with a tile before the next tile is decoded.
private let taskTokens = 256

/// The most tokens whose products are made from a weight's codes, which are unpacked once for every four tokens. For more it is
/// cheaper to decode a tile once for all.
private let codedTokens = 8

/// How products of one dot product are added. Both are right; they differ by rounding only.
package enum SummationOrder: Sendable, Hashable {
  /// Blocks of 1024 columns, the order every machine keeps.
  case standard
  /// Blocks of 256 columns (halves where there are fewer than 512), last block first: the same sums in another order, to
  /// measure the noise of rounding.
  case permuted

  func blockColumns(of columns: Int) -> Int {
    self == .standard ? Int(SK_BLOCK) : min(Int(SK_BLOCK) / 4, max(1, columns / 2))
  }
}

/// y = x · Wᵀ for the given output channels.
/// - Parameters:
///   - x: activations, [tokens, input channels].
///   - weight: [output channels, input channels] in any encoding; not an integer table.
///   - rows: the output channels to compute; all by default.
/// - Returns: [tokens, rows.count]. The bits do not depend on threads, on the number of tokens, or on the machine's
///   vector width.
package func multiply(
  _ x: Matrix, _ weight: Weight, rows: Range<Int>? = nil, parallel: Parallel = .serial,
  order: SummationOrder = .standard
) -> Matrix {
  let rows = rows ?? 0..<weight.rows
  precondition(
    x.columns == weight.columns, "'\(weight.name)' takes \(weight.columns) channels, found \(x.columns)")
  weight.requireInside(rows, 0..<weight.columns)
  guard x.columns > 0 else { return Matrix(rows: x.rows, columns: rows.count) }
  return Matrix(rows: x.rows, columns: rows.count) { out in
    x.values.withUnsafeBufferPointer { values in
      guard let base = values.baseAddress, x.rows > 0 else { return }
      // SAFETY: a task writes the rectangle of its tokens and rows in `out`, which no other has. `x` has `x.rows × x.columns` floats
      // and the weight's columns, both checked above; a tile's last block is cut to what is left.
      let source = SharedReadPointer(base)
      let target = SharedPointer(out)
      if x.rows <= codedTokens, order == .standard, let coded = weight.coded {
        let block =
          parallel.threads > 1
          ? rowsOfPiece(rows.count * coded.rowBytes, rowBytes: coded.rowBytes, parallel) : rows.count
        parallel.forEachInRuns(ceilDivide(rows.count, block)) { task in
          let part = task * block..<min(rows.count, (task + 1) * block)
          coded.multiply(
            source.pointer, tokens: x.rows, columns: x.columns,
            rows: rows.lowerBound + part.lowerBound..<rows.lowerBound + part.upperBound,
            into: target.pointer + part.lowerBound, stride: rows.count)
        }
        return withExtendedLifetime(weight) {}
      }
      let rowTiles = ceilDivide(rows.count, tileRows)
      let tokenTiles = ceilDivide(x.rows, taskTokens)
      parallel.forEachInRuns(rowTiles * tokenTiles) { task in
        let firstRow = task / tokenTiles * tileRows
        let firstToken = task % tokenTiles * taskTokens
        func tile(_ firstRow: Int) -> Range<Int> {
          let start = min(rows.upperBound, rows.lowerBound + firstRow)
          return start..<min(rows.upperBound, start + tileRows)
        }
        multiplyTile(
          source.pointer + firstToken * x.columns, tokens: min(taskTokens, x.rows - firstToken), weight,
          rows: tile(firstRow), next: tile((task + 1) / tokenTiles * tileRows),
          into: target.pointer + firstToken * rows.count + firstRow, stride: rows.count, order: order)
      }
    }
  }
}

/// Several products of a few tokens as one piece of work: what `multiply` gives for one after another, in their order.
/// - Parameter products: activations and the weight that they meet, as `multiply` takes them.
package func multiply(_ products: [(x: Matrix, weight: Weight)], parallel: Parallel) -> [Matrix] {
  let coded = products.map { product in
    product.x.rows <= codedTokens && product.x.columns == product.weight.columns && product.x.columns > 0
      ? product.weight.coded : nil
  }
  guard parallel.threads > 1, !coded.contains(where: { $0 == nil }) else {
    return products.map { multiply($0.x, $0.weight, parallel: parallel) }
  }
  let shared = products.indices.map { index in
    SharedProduct(
      tokens: products[index].x.rows, rows: products[index].weight.rows, rowBytes: coded[index]?.rowBytes ?? 1
    )
  }
  // Activations side by side, 64 bytes between them at least.
  let places = products.reduce(into: [0]) { $0.append($0.last! + ceilDivide($1.x.values.count, 16) * 16) }
  let results = withUnsafeTemporaryAllocation(byteCount: 4 * places[products.count], alignment: 64) {
    bytes -> [Matrix] in
    let floats = bytes.bindMemory(to: Float.self)
    guard let first = floats.baseAddress else {
      return products.map { Matrix(rows: $0.x.rows, columns: $0.weight.rows) }
    }
    let calls = products.indices.compactMap { index -> CodedCall? in
      coded[index].map { rows -> CodedCall in
        products[index].x.values.withUnsafeBufferPointer { values in
          // SAFETY: the floats of product `index` have their place among the others, as long as they are many.
          if let base = values.baseAddress { (first + places[index]).update(from: base, count: values.count) }
        }
        return CodedCall(
          rows: rows, x: first + places[index], tokens: products[index].x.rows,
          columns: products[index].weight.columns, stride: products[index].weight.rows)
      }
    }
    return calls.withUnsafeBufferPointer { calls -> [Matrix] in
      guard let call = calls.baseAddress.map(SharedReadPointer.init) else { return [] }
      return multiplyTogether(shared, parallel) { index, rows, out in
        call.pointer[index].multiply(rows, into: out)
      }
    }
  }
  withExtendedLifetime(products) {}
  return results
}

/// One product of a few tokens, in addresses.
private struct CodedCall: @unchecked Sendable {
  // SAFETY: `multiply` keeps activations and weights alive while calls are made; nothing is written through them.
  let rows: CodedRows
  let x: UnsafePointer<Float>
  let tokens: Int
  let columns: Int
  let stride: Int

  func multiply(_ part: Range<Int>, into out: UnsafeMutablePointer<Float>) {
    rows.multiply(x, tokens: tokens, columns: columns, rows: part, into: out, stride: stride)
  }
}

/// Multiplies with some rows of a weight; `next` are the rows that come after them, which are read ahead.
private func multiplyTile(
  _ x: UnsafePointer<Float>, tokens: Int, _ weight: Weight, rows: Range<Int>, next: Range<Int>,
  into out: UnsafeMutablePointer<Float>,
  stride: Int, order: SummationOrder
) {
  let columns = weight.columns
  let blockColumns = order.blockColumns(of: columns)
  let scratchStride = ceilDivide(min(Int(SK_BLOCK), columns), 16) * 16 + 16
  // On a cache line: the micro-kernel is some 10 % slower across lines.
  // SAFETY: a row of scratch is a block of columns rounded up, and 16 floats that keep rows off one set of the cache; `decode`
  // fills the `width` floats of each row that the product reads.
  withUnsafeTemporaryAllocation(byteCount: 4 * rows.count * scratchStride, alignment: 64) { scratch in
    guard let tile = scratch.bindMemory(to: Float.self).baseAddress else { return }
    var starts = Array(Swift.stride(from: 0, to: columns, by: Int(SK_BLOCK)))
    if order == .permuted { starts.reverse() }
    var accumulate: Int32 = 0
    for (place, start) in starts.enumerated() {
      let isLast = place + 1 == starts.count
      var ahead = weight.ahead(rows: isLast ? next : rows, from: isLast ? starts[0] : starts[place + 1])
      let width = min(Int(SK_BLOCK), columns - start)
      weight.encoding.decode(
        weight, rows: rows, columns: start..<start + width, into: tile, stride: scratchStride)
      var inner = Array(Swift.stride(from: 0, to: width, by: blockColumns))
      if order == .permuted { inner.reverse() }
      for offset in inner {
        sk_gemm_ahead_f32(
          x + start + offset, columns, tile + offset, scratchStride, out, stride, tokens, rows.count,
          min(blockColumns, width - offset), accumulate, &ahead)
        accumulate = 1
        ahead.rows = 0
      }
    }
  }
}

extension Weight {
  /// Where the codes of a block of columns lie, for the processor to read ahead. A hint: where rows are not stored one after the
  /// other, other bytes of the weight.
  fileprivate func ahead(rows: Range<Int>, from start: Int) -> sk_ahead {
    let stride = values.bytes.count / max(1, self.rows)
    let width = min(Int(SK_BLOCK), columns - start)
    return values.bytes.withUnsafeBytes { bytes in
      // SAFETY: the address is never read through; the weight's bytes stay where they are while it is multiplied.
      let first = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
      return sk_ahead(
        first: first.map { $0 + rows.lowerBound * stride + stride * start / columns },
        rows: first == nil ? 0 : rows.count, stride: stride, bytes: stride * width / columns)
    }
  }
}
