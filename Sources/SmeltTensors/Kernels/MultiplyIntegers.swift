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
  guard let code = encoding.integerCode else { return nil }
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
  return product.result(rows, parallel)
}

/// Several such products as one piece of work: what `multiplyIntegers` gives for one after another, in their order.
/// - Returns: nil where one of them is.
package func multiplyIntegers(
  _ products: [(x: Matrix, weight: Weight, scale: Float?)], parallel: Parallel
) -> [Matrix]? {
  var all: [IntegerProduct] = []
  all.reserveCapacity(products.count)
  for product in products {
    guard product.x.columns > 0, product.x.rows > 0,
      let next = IntegerProduct(product.x, product.weight, product.scale, parallel, after: all.last)
    else { return nil }
    all.append(next)
  }
  // Of many tokens a product alone keeps all threads busy, and one matrix for all of them would be held beside its parts.
  guard parallel.threads > 1, all.allSatisfy({ $0.shared.tokens <= tokensTogether }) else {
    return all.map { $0.result(0..<$0.rows, parallel) }
  }
  defer { withExtendedLifetime(all) {} }
  let calls = all.map(\.call)
  return calls.withUnsafeBufferPointer { calls -> [Matrix] in
    guard let call = calls.baseAddress.map(SharedReadPointer.init) else { return [] }
    return multiplyTogether(all.map(\.shared), parallel) { index, rows, out in
      call.pointer[index].multiply(rows: rows, into: out)
    }
  }
}

/// Products of more tokens are computed one after another.
private let tokensTogether = 64

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

/// A weight beside rounded activations.
private struct IntegerProduct {
  private let activations: RoundedTokens
  private let codes: IntegerRows
  private let weight: Weight
  private let x: Matrix
  private let scale: Float?

  /// Nil where whole numbers do not compute the product.
  /// - Parameter last: a product whose activations are taken where they are the same ones, rounded alike.
  init?(
    _ x: Matrix, _ weight: Weight, _ scale: Float?, _ parallel: Parallel, after last: IntegerProduct? = nil
  ) {
    precondition(
      x.columns == weight.columns, "'\(weight.name)' takes \(weight.columns) channels, found \(x.columns)")
    guard let codes = weight.integerRows else { return nil }
    if let last, last.codes.block == codes.block, last.scale == scale, last.x.isSame(as: x) {
      activations = last.activations
    } else {
      guard let rounded = RoundedTokens(x, block: codes.block, scale, parallel) else { return nil }
      activations = rounded
    }
    (self.codes, self.weight, self.x, self.scale) = (codes, weight, x, scale)
  }

  /// Rows of the weight.
  var rows: Int { weight.rows }

  /// The product in addresses, which are good as long as this value lives.
  var call: IntegerCall {
    IntegerCall(
      form: codes.form, activations: activations.form, tokens: x.rows, rows: weight.rows, columns: x.columns)
  }

  /// The product with some rows of the weight, [tokens, rows.count].
  func result(_ rows: Range<Int>, _ parallel: Parallel) -> Matrix {
    defer { withExtendedLifetime(self) {} }
    let (call, tokens) = (call, x.rows)
    return Matrix(rows: tokens, columns: rows.count) { out in
      // SAFETY: a task writes the rectangle of its tokens and rows in `out`, which no other has.
      let target = SharedPointer(out)
      let block = parallel.threads > 1 || tokens > taskTokens ? taskRows : rows.count
      let tokenTiles = ceilDivide(tokens, taskTokens)
      parallel.forEachInRuns(ceilDivide(rows.count, block) * tokenTiles) { task in
        let first = task / tokenTiles * block
        let token = task % tokenTiles * taskTokens
        call.multiply(
          tokens: token..<min(tokens, token + taskTokens),
          rows: rows.lowerBound + first..<rows.lowerBound + min(rows.count, first + block),
          into: target.pointer + token * rows.count + first, stride: rows.count)
      }
    }
  }

  /// What pieces of it are for `multiplyTogether`.
  var shared: SharedProduct {
    SharedProduct(tokens: x.rows, rows: weight.rows, rowBytes: codes.form.row_bytes)
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
  // SAFETY: written by the initializer alone, a row by one task; read-only from then on. The addresses are those of three arrays in
  // `memory`, one after another: codes in whole cache lines, then numbers of four bytes, then of two.
  private let memory: ByteBuffer
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
    let counts = (codes: x.rows * stride.codes, scales: x.rows * stride.scales, sums: x.rows * stride.sums)
    memory = ByteBuffer(count: max(64, counts.codes + 4 * counts.scales + 2 * counts.sums))
    let first = memory.bytes.baseAddress!
    codes = first.bindMemory(to: Int8.self, capacity: counts.codes)
    scales = (first + counts.codes).bindMemory(to: Float.self, capacity: counts.scales)
    sums = (first + counts.codes + 4 * counts.scales).bindMemory(to: Int16.self, capacity: counts.sums)
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
