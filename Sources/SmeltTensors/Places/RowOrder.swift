// Orders of rows or columns that containers disagree about, as formulas: a tensor of one holds a weight's rows in another order,
// or some of them only.

package import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Which of a weight's rows a tensor holds, and in what order.
package enum RowOrder: Sendable, Hashable {
  /// The rows are those of so many heads, and in each head channels i and i + half stand side by side at 2i and 2i + 1: what a
  /// rotation of neighbouring channels needs of a weight made for halves. Source: llama.cpp's conversion of Llama.
  case pairedHeads(Int)
  /// From row `first` on, heads of `headRows` rows, `perGroup` in a row for each of `groups` groups, stand with the first heads of all
  /// groups together, then the second. Source: llama.cpp's conversion of Qwen3.5.
  case tiledHeads(groups: Int, perGroup: Int, headRows: Int, first: Int)
  /// The rows are those of `groups` groups, each with parts of `widths` rows; the tensor holds the parts `taken`, part by part, the
  /// groups of each together. Source: llama.cpp's conversion of Qwen3-Next.
  case partsOfGroups(groups: Int, widths: [Int], taken: Range<Int>)

  /// For each row of the tensor, in order, the weight's row; nil where so many rows are not such groups.
  package func rows(of count: Int) -> [Int]? {
    switch self {
    case .pairedHeads(let heads):
      guard heads > 0, count % heads == 0, count / heads % 2 == 0 else { return nil }
      let half = count / heads / 2
      return (0..<count).map { place in
        let (head, channel) = place.quotientAndRemainder(dividingBy: 2 * half)
        return head * 2 * half + channel / 2 + (channel % 2) * half
      }
    case .tiledHeads(let groups, let perGroup, let headRows, let first):
      guard first + groups * perGroup * headRows == count else { return nil }
      let tiled = (0..<groups * perGroup).flatMap { place in
        let head = place % groups * perGroup + place / groups
        return first + head * headRows..<first + (head + 1) * headRows
      }
      return Array(0..<first) + tiled
    case .partsOfGroups(let groups, let widths, let taken):
      let stride = widths.reduce(0, +)
      guard groups * stride == count else { return nil }
      return taken.flatMap { part in
        let start = widths[..<part].reduce(0, +)
        return (0..<groups).flatMap { group in
          group * stride + start..<group * stride + start + widths[part]
        }
      }
    }
  }

  /// For each of a weight's rows its place in the tensor, where the tensor has them all; nil else.
  package func places(of count: Int) -> [Int]? { rows(of: count).flatMap(RowOrder.inverse) }

  /// The inverse of a permutation; nil for a list that is none.
  package static func inverse(_ order: [Int]) -> [Int]? {
    var places = [Int](repeating: -1, count: order.count)
    for (place, row) in order.enumerated() {
      guard order.indices.contains(row), places[row] < 0 else { return nil }
      places[row] = place
    }
    return places
  }

  /// How many neighbours move together at least.
  private var unit: Int {
    switch self {
    case .pairedHeads: 1
    case .tiledHeads(_, _, let headRows, let first): greatestCommonDivisor(headRows, first)
    case .partsOfGroups(_, let widths, _): widths.reduce(0, greatestCommonDivisor)
    }
  }

  /// Whether columns of an encoding move in this order as they are stored: plain numbers, and blocks that stay whole.
  package func keepsColumns(of encoding: any Encoding) -> Bool { columnUnit(of: encoding) != nil }

  /// How many columns move together: 1 for plain numbers, a block for GGUF's where the order keeps blocks whole; nil where numbers
  /// must be decoded.
  fileprivate func columnUnit(of encoding: any Encoding) -> Int? {
    if encoding is Plain { return 1 }
    guard let block = encoding as? GGUFBlock, unit % block.elements == 0 else { return nil }
    return block.elements
  }
}

private func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : greatestCommonDivisor(b, a % b) }

/// A function of each number of a small tensor, one number a number.
package enum NumberMap: Sendable, Hashable {
  /// The number plus this: norms whose scales one container stores as distances from 1.
  case plus(Float)
  /// -e^number: rates of decay that one container stores as logarithms.
  case negativeExponential

  /// The function, in float32.
  package func apply(_ number: Float) -> Float {
    switch self {
    case .plus(let offset): number + offset
    case .negativeExponential: Float(-exp(Double(number)))
    }
  }

  /// A number that the function gives this one for; of several the one with the fewest digits. Nil where no number is.
  package func invert(_ number: Float) -> Float? {
    switch self {
    case .plus(let offset): return number - offset
    case .negativeExponential:
      guard number < 0, number.isFinite else { return nil }
      let near = Float(log(-Double(number)))
      var found = near
      // The logarithm's rounding may lead a few steps away from the number that was exponentiated.
      var (low, high) = (near, near)
      for _ in 0..<8 {
        (low, high) = (low.nextDown, high.nextUp)
        for candidate in [low, high] where apply(candidate) == number {
          let isBetter =
            apply(found) != number || candidate.trailingZeros > found.trailingZeros
          if isBetter { found = candidate }
        }
      }
      return found
    }
  }
}

extension Float {
  /// Zeros at the end of the significand: the more, the shorter the formats that hold the number.
  fileprivate var trailingZeros: Int { (bitPattern | 1 << 31).trailingZeroBitCount }
}

extension Weight {
  /// Output channels: rows of a matrix, numbers of a vector.
  package var outputs: Int { shape.rank < 2 ? shape.count : rows }

  /// Some rows, or all in another order. The bytes of plain numbers and of GGUF blocks move as they are; other encodings are decoded
  /// to float32.
  /// - Parameter shape: the dimensions of the result.
  package func taking(rows order: [Int], shape target: Shape) throws(FormatError) -> Weight {
    let source = encoding is Plain || encoding is GGUFBlock ? self : decodedWeight()
    let size = source.values.bytes.count / Swift.max(1, outputs)
    return try source.made(target, count: order.count * size) { bytes, out in
      for (place, row) in order.enumerated() {
        (out + place * size).copyMemory(from: bytes + row * size, byteCount: size)
      }
    }
  }

  /// The same numbers in other dimensions. Plain numbers stay as they are; other encodings are decoded to float32.
  package func shaped(_ target: Shape) throws(FormatError) -> Weight {
    guard target.count == shape.count else { throw GGUFPiece.noOrder(self) }
    let source = encoding is Plain ? self : decodedWeight()
    let part = Part(.values, dtype: source.values.dtype, shape: target, bytes: source.values.bytes)
    return try Weight(name: name, shape: target, encoding: source.encoding, parts: [part], file: file)
  }

  /// All columns in another order. Plain numbers move as they are, whole GGUF blocks do; else the numbers are decoded to float32.
  /// - Parameters:
  ///   - order: the columns' order in the result, of which `rule` is the formula, there or back.
  package func taking(columns order: [Int], by rule: RowOrder) throws(FormatError) -> Weight {
    let unit = rule.columnUnit(of: encoding)
    let source = unit == nil ? decodedWeight() : self
    let step = unit ?? 1
    let rows = self.rows
    let rowBytes = source.values.bytes.count / Swift.max(1, rows)
    let size = rowBytes * step / Swift.max(1, columns)
    let starts = stride(from: 0, to: order.count, by: step).map { order[$0] / step }
    return try source.made(shape, count: source.values.bytes.count) { bytes, out in
      for row in 0..<rows {
        for (place, from) in starts.enumerated() {
          (out + row * rowBytes + place * size).copyMemory(
            from: bytes + row * rowBytes + from * size, byteCount: size)
        }
      }
    }
  }

  /// The numbers through a function, in float32.
  /// - Throws: what `body` throws.
  package func mapped(_ body: (Float) throws(FormatError) -> Float) throws(FormatError) -> Weight {
    let numbers = decode()
    var mapped: [Float] = []
    mapped.reserveCapacity(numbers.count)
    for number in numbers { mapped.append(try body(number)) }
    let bytes = Bytes(mapped.withUnsafeBytes { Array($0) })
    return try Weight(
      name: name, shape: shape, encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: shape, bytes: bytes)], file: file)
  }

  /// The same numbers in float32.
  package func decodedWeight() -> Weight {
    guard encoding.name != Plain.f32.name else { return self }
    let buffer = ByteBuffer(count: shape.count * 4)
    if shape.count > 0 {
      encoding.decode(
        self, rows: 0..<rows, columns: 0..<columns,
        // SAFETY: fresh memory for rows × columns floats, which nobody else has yet
        into: buffer.bytes.bindMemory(to: Float.self).baseAddress!, stride: columns)
    }
    let part = Part(.values, dtype: .f32, shape: shape, bytes: Bytes(buffer))
    guard let weight = try? Weight(name: name, shape: shape, encoding: Plain.f32, parts: [part], file: file)
    else { preconditionFailure("float32 holds any shape") }
    return weight
  }

  /// A weight of the same encoding whose values `fill` writes, all `count` bytes.
  private func made(
    _ target: Shape, count: Int, _ fill: (UnsafeRawPointer, UnsafeMutableRawPointer) -> Void
  ) throws(FormatError) -> Weight {
    let buffer = ByteBuffer(count: count)
    values.bytes.withUnsafeBytes { bytes in
      // SAFETY: orders are permutations or selections of the weight's own rows, whose bytes the source has.
      guard let from = bytes.baseAddress, let out = buffer.bytes.baseAddress else { return }
      fill(from, out)
    }
    let layout = try encoding.layout(of: target, name: name)[0]
    return try Weight(
      name: name, shape: target, encoding: encoding,
      parts: [Part(.values, dtype: values.dtype, shape: layout.shape, bytes: Bytes(buffer))], file: file)
  }
}
