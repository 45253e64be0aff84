// Activations times a weight of signed bytes, both as whole numbers: what an engine computes for W8A8.

internal import CKernels
package import SmeltStorage

/// Rows of a weight that share a task.
private let taskRows = 64
/// Rows of activations that one task multiplies.
private let taskTokens = 256

/// y = x̂ · Wᵀ for a weight of `int8.channel`, x̂ the activations rounded to codes × scale.
///
/// A code is x / s, a float32 division, rounded to the nearest whole number, ties to the even one, saturated at ±127; s is `scale`
/// or, without it, the token's largest magnitude ÷ 127. Products of codes are added exactly; the sum, rounded to float32, is
/// multiplied by s × the channel's scale, rounded. That is the product of the rounded numbers but for the rounding of its sums.
/// - Parameters:
///   - x: activations, [tokens, input channels].
///   - scale: one scale for all of them; nil for one a token.
///   - rows: the output channels to compute; all by default.
/// - Returns: [tokens, rows.count], the same bits on every machine; nil where the weight has another encoding or more columns than
///   sums of 32 bits hold, or a scale of activations is not a normal number.
package func multiplyIntegers(
  _ x: Matrix, _ weight: Weight, scale: Float? = nil, rows: Range<Int>? = nil, parallel: Parallel = .serial
) -> Matrix? {
  let rows = rows ?? 0..<weight.rows
  precondition(
    x.columns == weight.columns, "'\(weight.name)' takes \(weight.columns) channels, found \(x.columns)")
  weight.requireInside(rows, 0..<weight.columns)
  guard weight.encoding is INT8, x.columns <= Int(SK_I8_COLUMNS) else { return nil }
  if let scale, !isUsable(scale) { return nil }
  guard x.columns > 0, x.rows > 0, !rows.isEmpty else { return Matrix(rows: x.rows, columns: rows.count) }
  // SAFETY: rows of codes begin on cache lines and have room for all columns; every code and every scale is written by one task
  // before one is read, and the memory goes when all tasks are done.
  let stride = ceilDivide(x.columns, 64) * 64
  OutOfMemory.require(x.rows * stride)
  let memory = UnsafeMutableRawPointer.allocate(byteCount: x.rows * stride, alignment: 64)
  defer { memory.deallocate() }
  let codes = SharedPointer(memory.bindMemory(to: Int8.self, capacity: x.rows * stride))
  var scales = [Float](repeating: 0, count: x.rows)
  scales.withUnsafeMutableBufferPointer { scales in
    let target = SharedPointer(scales.baseAddress!)
    x.values.withUnsafeBufferPointer { values in
      let source = SharedReadPointer(values.baseAddress!)
      let block = 32
      parallel.forEach(ceilDivide(x.rows, block)) { task in
        for row in task * block..<min(x.rows, (task + 1) * block) {
          target.pointer[row] = encode(
            source.pointer + row * x.columns, x.columns, scale, codes.pointer + row * stride)
        }
      }
    }
  }
  guard !scales.contains(where: \.isNaN) else { return nil }
  let tokenScales = scales
  return Matrix(rows: x.rows, columns: rows.count) { out in
    weight.withCodesAndScales { bytes, channels in
      // SAFETY: the weight has `columns` codes a row and a scale for each, `rows` lie inside; a task writes the rectangle of its
      // tokens and rows in `out`, which no other has.
      let channels = rows.map { channels[$0] }
      let source = SharedReadPointer(UnsafeRawPointer(bytes).assumingMemoryBound(to: Int8.self))
      let target = SharedPointer(out)
      let rowTiles = ceilDivide(rows.count, taskRows)
      let tokenTiles = ceilDivide(x.rows, taskTokens)
      parallel.forEach(rowTiles * tokenTiles) { task in
        let first = task / tokenTiles * taskRows
        let token = task % tokenTiles * taskTokens
        let count = min(taskRows, rows.count - first)
        let next = min(rows.count, (task + 1) / tokenTiles * taskRows)
        let place = source.pointer + (rows.lowerBound + first) * x.columns
        var ahead = sk_ahead(
          first: UnsafeRawPointer(place + (next - first) * x.columns).assumingMemoryBound(to: UInt8.self),
          rows: min(taskRows, rows.count - next), stride: x.columns, bytes: x.columns)
        tokenScales.withUnsafeBufferPointer { scales in
          channels.withUnsafeBufferPointer { channels in
            sk_gemm_i8(
              codes.pointer + token * stride, stride, scales.baseAddress! + token, place, x.columns,
              channels.baseAddress! + first, target.pointer + token * rows.count + first, rows.count,
              min(taskTokens, x.rows - token), count, x.columns, &ahead)
          }
        }
      }
    }
  }
}

private func isUsable(_ scale: Float) -> Bool { scale >= .leastNormalMagnitude && scale.isFinite }

/// Codes of one token.
/// - Returns: its scale; 0 for a token of zeros, NaN where the scale is not a normal number.
private func encode(
  _ row: UnsafePointer<Float>, _ count: Int, _ scale: Float?, _ codes: UnsafeMutablePointer<Int8>
) -> Float {
  let own = scale ?? sk_absmax_f32(row, count) / INT8.largest
  guard own != 0 else {
    codes.update(repeating: 0, count: count)
    return 0
  }
  guard isUsable(own) else { return .nan }
  sk_encode_int8(row, own, codes, count)
  return own
}
