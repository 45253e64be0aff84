// Activations times a weight, both as whole numbers: what an engine computes for W8A8, and llama.cpp for GGUF's blocks.

internal import CKernels
package import SmeltStorage

/// Rows of a weight that share a task: whole panels of the kernel.
private let taskRows = 64
/// Rows of activations that one task multiplies.
private let taskTokens = 256

/// The channels of activations that share a scale before a product of whole numbers with a weight of this encoding: all of a token's
/// for `int8.channel` (`Int.max`), 32 or 256 for GGUF's blocks as Q8_0 and Q8_K cut them; nil where there is no such product.
package func activationBlock(_ encoding: any Encoding) -> Int? {
  guard let code = integerCode(encoding) else { return nil }
  let block = sk_activation_block(code)
  return block == 0 ? nil : block
}

/// y = x̂ · Wᵀ for a weight of `int8.channel` or of GGUF's blocks, x̂ the activations rounded to codes × scale.
///
/// Of `int8.channel`, a code is x / s, a float32 division, rounded to the nearest whole number, ties to the even one, saturated at ±127; s is
/// `scale` or, without it, the token's largest magnitude ÷ 127. Of GGUF's blocks, x is rounded as Q8_0 or Q8_K of its channels (sk_integers.h).
/// Products of codes under one scale of activations are added exactly, and float32 sums of blocks join in order, first to last. That is the
/// product of the rounded numbers but for the rounding of its sums.
/// - Parameters:
///   - x: activations, [tokens, input channels].
///   - scale: one scale for all of them, of `int8.channel`; nil for one a token.
///   - rows: the output channels to compute; all by default.
/// - Returns: [tokens, rows.count], the same bits on every machine and for any number of tokens; nil where the weight has another encoding
///   or more columns than sums of 32 bits hold, or activations or a scale of theirs are not finite, normal numbers.
package func multiplyIntegers(
  _ x: Matrix, _ weight: Weight, scale: Float? = nil, rows: Range<Int>? = nil, parallel: Parallel = .serial
) -> Matrix? {
  let rows = rows ?? 0..<weight.rows
  weight.requireInside(rows, 0..<weight.columns)
  guard let product = IntegerProduct(x, weight, scale, parallel) else { return nil }
  guard x.columns > 0, x.rows > 0, !rows.isEmpty else { return Matrix(rows: x.rows, columns: rows.count) }
  let call = product.call
  defer { withExtendedLifetime(product) {} }
  return Matrix(rows: x.rows, columns: rows.count) { out in
    // SAFETY: a task writes the rectangle of its tokens and rows in `out`, which no other has.
    let target = SharedPointer(out)
    let block = parallel.threads > 1 || x.rows > taskTokens ? taskRows : rows.count
    let tokenTiles = ceilDivide(x.rows, taskTokens)
    parallel.forEach(ceilDivide(rows.count, block) * tokenTiles) { task in
      let first = task / tokenTiles * block
      let token = task % tokenTiles * taskTokens
      call.multiply(
        tokens: token..<min(x.rows, token + taskTokens),
        rows: rows.lowerBound + first..<rows.lowerBound + min(rows.count, first + block),
        into: target.pointer + token * rows.count + first, stride: rows.count)
    }
  }
}

/// Several such products as one piece of work: what `multiplyIntegers` gives for one after another, in their order.
/// - Returns: nil where one of them is.
package func multiplyIntegers(
  _ products: [(x: Matrix, weight: Weight, scale: Float?)], parallel: Parallel
) -> [Matrix]? {
  var all: [IntegerProduct] = []
  for product in products {
    guard product.x.columns > 0, product.x.rows > 0,
      let next = IntegerProduct(product.x, product.weight, product.scale, parallel)
    else { return nil }
    all.append(next)
  }
  let calls = all.map(\.call)
  let results = calls.withUnsafeBufferPointer { calls -> [Matrix] in
    guard let call = calls.baseAddress.map(SharedReadPointer.init) else { return [] }
    return multiplyTogether(all.map(\.shared), parallel) { index, rows, out in
      call.pointer[index].multiply(rows: rows, into: out)
    }
  }
  withExtendedLifetime(all) {}
  return results
}

/// The activations that a product of whole numbers multiplies: codes × scale as float32 numbers.
/// - Returns: nil where `multiplyIntegers` gives nil, or of a weight of `int8.channel`.
package func roundedBlocks(_ x: Matrix, before encoding: any Encoding, parallel: Parallel) -> Matrix? {
  guard let block = activationBlock(encoding), block < Int.max, x.columns % block == 0,
    let rounded = RoundedTokens(x, block: block, nil, parallel)
  else { return nil }
  var numbers = x
  numbers.forEachRow(parallel) { token, row in rounded.decode(token, into: row, count: x.columns) }
  return numbers
}

/// How the kernels call an encoding whose weights are multiplied as whole numbers.
private func integerCode(_ encoding: any Encoding) -> Int32? {
  if encoding is INT8 { return Int32(SK_CODED_INT8) }
  return (encoding as? GGUFBlock)?.code
}

/// A weight beside rounded activations.
private final class IntegerProduct: @unchecked Sendable {
  // SAFETY: `channels` is written by the initializer alone and freed with the object, which keeps the weight and the activations alive.
  private let rounded: RoundedTokens
  private let weight: Weight
  private let tokens: Int
  private let code: Int32
  /// The scale of each row, of `int8.channel`.
  private let channels: UnsafeMutablePointer<Float>?

  /// Nil where whole numbers do not compute the product.
  init?(_ x: Matrix, _ weight: Weight, _ scale: Float?, _ parallel: Parallel) {
    precondition(
      x.columns == weight.columns, "'\(weight.name)' takes \(weight.columns) channels, found \(x.columns)")
    guard let code = integerCode(weight.encoding), let block = activationBlock(weight.encoding),
      !(weight.encoding is INT8) || x.columns <= Int(SK_I8_COLUMNS),
      let rounded = RoundedTokens(x, block: block, scale, parallel)
    else { return nil }
    (self.rounded, self.weight, self.code, tokens) = (rounded, weight, code, x.rows)
    guard weight.encoding is INT8 else {
      channels = nil
      return
    }
    let channels = UnsafeMutablePointer<Float>.allocate(capacity: max(1, weight.rows))
    weight.withCodesAndScales { _, scales in
      for row in 0..<weight.rows { (channels + row).initialize(to: scales[row]) }
    }
    self.channels = channels
  }

  deinit { channels?.deallocate() }

  /// The product in addresses, which are good as long as this object lives.
  var call: IntegerCall {
    let bytes = weight.values.bytes
    // SAFETY: the weight's layout gives each row as many bytes, in whole blocks of the type, and `int8.channel` a scale. A weight without
    // bytes has no rows or no columns, and is not multiplied.
    return IntegerCall(
      form: sk_integers(
        codes: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self),
        row_bytes: bytes.count / max(1, weight.rows), scales: channels.map { UnsafePointer($0) }, code: code),
      activations: rounded.form, tokens: tokens, rows: weight.rows, columns: weight.columns)
  }

  /// What pieces of it are for `multiplyTogether`.
  var shared: SharedProduct {
    SharedProduct(
      tokens: tokens, rows: weight.rows, rowBytes: weight.values.bytes.count / max(1, weight.rows))
  }
}

/// A product of whole numbers in addresses.
private struct IntegerCall: @unchecked Sendable {
  // SAFETY: the addresses are an `IntegerProduct`'s; nobody writes to what they name.
  var form: sk_integers
  var activations: sk_rounded
  let tokens: Int
  let rows: Int
  let columns: Int

  /// out[t × rows + j] = token t times row `rows.lowerBound + j`, for all tokens.
  func multiply(rows part: Range<Int>, into out: UnsafeMutablePointer<Float>) {
    multiply(tokens: 0..<tokens, rows: part, into: out, stride: rows)
  }

  /// out[(t − tokens.lowerBound) × stride + j] = token t times row `rows.lowerBound + j`.
  func multiply(
    tokens: Range<Int>, rows: Range<Int>, into out: UnsafeMutablePointer<Float>, stride: Int
  ) {
    guard form.codes != nil else { return }
    var activations = activations
    // SAFETY: tokens and rows lie inside what the call was made of, and the caller's `out` has room for the rectangle.
    activations.codes += tokens.lowerBound * activations.code_stride
    activations.sums += tokens.lowerBound * activations.sum_stride
    activations.scales += tokens.lowerBound * activations.scale_stride
    withUnsafePointer(to: form) {
      sk_multiply_rounded($0, rows.lowerBound, rows.count, columns, &activations, tokens.count, out, stride)
    }
  }
}

/// Activations as signed bytes: codes, their sums and scales.
private final class RoundedTokens: @unchecked Sendable {
  // SAFETY: written by the initializer alone, a row by one task; read-only from then on, and freed with the last reference.
  private let codes: UnsafeMutablePointer<Int8>
  private let sums: UnsafeMutablePointer<Int16>
  private let scales: UnsafeMutablePointer<Float>
  private let block: Int
  private let stride: (codes: Int, sums: Int, scales: Int)

  /// Nil where a number or a scale is not finite, or a scale no normal number.
  /// - Parameter block: channels that share a scale: 32 or 256, which divide the columns, or `Int.max` for all.
  init?(_ x: Matrix, block: Int, _ scale: Float?, _ parallel: Parallel) {
    let columns = x.columns
    let isBlocked = block < Int.max
    self.block = block
    // Rows begin on cache lines.
    stride = (
      ceilDivide(columns, 64) * 64, isBlocked ? ceilDivide(columns, 16) : 2,
      isBlocked ? ceilDivide(columns, block) : 1
    )
    let bytes = x.rows * (stride.codes + 2 * stride.sums + 4 * stride.scales)
    OutOfMemory.require(bytes)
    codes = UnsafeMutableRawPointer.allocate(byteCount: max(64, x.rows * stride.codes), alignment: 64)
      .bindMemory(to: Int8.self, capacity: x.rows * stride.codes)
    sums = .allocate(capacity: max(1, x.rows * stride.sums))
    scales = .allocate(capacity: max(1, x.rows * stride.scales))
    guard columns > 0 else { return }
    if let scale, !(scale >= .leastNormalMagnitude && scale.isFinite) { return nil }
    let task = 32
    guard x.rows > task else {
      let isRounded = x.values.withUnsafeBufferPointer { values in
        (0..<x.rows).allSatisfy { round(values.baseAddress! + $0 * columns, $0, columns, isBlocked, scale) }
      }
      guard isRounded else { return nil }
      return
    }
    let failures = (0..<ceilDivide(x.rows, task)).map { _ in Failure() }
    x.values.withUnsafeBufferPointer { values in
      guard let base = values.baseAddress else { return }
      let source = SharedReadPointer(base)
      parallel.forEach(failures.count) { index in
        for row in index * task..<min(x.rows, (index + 1) * task) {
          if !round(source.pointer + row * columns, row, columns, isBlocked, scale) {
            failures[index].isSet = true
          }
        }
      }
    }
    if failures.contains(where: \.isSet) { return nil }
  }

  deinit {
    codes.deallocate()
    sums.deallocate()
    scales.deallocate()
  }

  /// Whether a task met a number that has no code; each has its own.
  private final class Failure: @unchecked Sendable {
    var isSet = false
  }

  private func round(
    _ x: UnsafePointer<Float>, _ row: Int, _ columns: Int, _ isBlocked: Bool, _ scale: Float?
  ) -> Bool {
    let (codes, sums) = (codes + row * stride.codes, sums + row * stride.sums)
    let scales = scales + row * stride.scales
    guard !isBlocked else {
      return block == 32
        ? sk_round_blocks_32(x, columns, codes, sums, scales) != 0
        : sk_round_blocks_256(x, columns, codes, sums, scales) != 0
    }
    var sum: Int32 = 0
    scales[0] = sk_round_row(x, columns, scale ?? 0, codes, &sum)
    sums[0] = Int16(truncatingIfNeeded: sum)
    sums[1] = Int16(truncatingIfNeeded: sum >> 16)
    return !scales[0].isNaN
  }

  /// All tokens.
  var form: sk_rounded {
    sk_rounded(
      codes: codes, sums: sums, scales: scales, code_stride: stride.codes, sum_stride: stride.sums,
      scale_stride: stride.scales)
  }

  /// Codes × scale of one token.
  func decode(_ token: Int, into out: UnsafeMutablePointer<Float>, count: Int) {
    let (codes, scales) = (codes + token * stride.codes, scales + token * stride.scales)
    for index in 0..<count { out[index] = Float(codes[index]) * scales[index / block] }
  }
}
