// A matrix of a result and the weights it is made of: most are a weight as it is, some containers want rows in another
// order, pieces, or several weights in one tensor.

import SmeltContainers
import SmeltModels
package import SmeltQuantization
import SmeltStorage
package import SmeltTensors

/// One step that a weight's numbers take on their way into a result, apart from rounding.
package enum Arrangement: Sendable, Hashable {
  /// Rows or columns in another order, or each number through a function.
  case step(GGUFPiece.Step)
  /// The keys' half of `GGUFPlace.keysAndValues`, transposed.
  case keys(heads: Int, width: Int)
  /// The values' half of it.
  case values(heads: Int, keyWidth: Int)
  /// Whole numbers of 32 bits.
  case integers32
  /// Whole numbers of 64 bits.
  case integers64
  /// Rows of this weight and of a second one in turn. Always the first step.
  case alternating
  /// Rows of this weight, then those of a second one. Always the first step.
  case followed
  /// The weight transposed: [input channels, output channels].
  case transposed
  /// GGUF's MXFP4 in the order of safetensors: the same codes, the scales apart.
  case separateScales
  /// The same numbers, which stand in another tensor too.
  case copied
  /// `nvfp4` in GGUF's blocks: the same codes and scales, the global scale in a tensor of its own. Always the first step.
  case blockedNVFP4
}

extension GGUFPlace {
  /// The tensors that hold a weight, and the steps that lead there.
  package var arrangements: [(tensor: String, steps: [Arrangement])] {
    switch self {
    case .whole(let name), .stacked(let name, _, _): [(name, [])]
    case .arranged(let pieces): pieces.map { ($0.tensor, $0.steps.map { .step($0) }) }
    case .keysAndValues(let keys, let values, let heads, let width):
      [(keys, [.keys(heads: heads, width: width)]), (values, [.values(heads: heads, keyWidth: width)])]
    }
  }
}

/// One matrix of the result.
package struct OutputMatrix: Sendable {
  /// The weight's place in the plan.
  package let weight: Int
  /// The place of a second weight that is joined with it.
  package var other: Int?
  /// A name of its own, for messages and caches.
  package let name: String
  /// What happens to the weight's numbers on the way; nothing for most.
  package let steps: [Arrangement]
  /// The dimensions of the arranged numbers.
  package let shape: Shape
  /// How they are stored.
  package let encoding: any Encoding
  /// Whether the arranged weight's bytes stay as they are.
  package let isKept: Bool
  /// The parts as they will be stored.
  package let parts: [ResultPart]

  /// The scheme that rounds it, where it is not the weight's.
  package var ownScheme: (any Scheme)?

  /// Whether its codes were made for an entropy coder.
  package var isEntropyCoded = false

  /// How an ingot stores it: codes that were made for an entropy coder get one, however fast the others are to be.
  func mode(_ mode: CodecMode) -> CodecMode { isEntropyCoded && mode == .fast ? .small : mode }

  /// Bytes of one row of codes.
  var rowBytes: Int { shape.rows > 0 ? parts[0].byteCount / shape.rows : 0 }
  /// Bytes of all parts.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }
}

extension [Arrangement] {
  /// The dimensions of a weight's numbers after all steps.
  func shape(_ shape: Shape) -> Shape { reduce(shape) { $1.shape($0) } }

  /// The encoding after all steps.
  func encoding(of source: any Encoding) -> any Encoding {
    reduce(source) { encoding, step in step.encoding(of: encoding) }
  }
}

extension Arrangement {
  /// The dimensions of a weight's numbers after the step.
  func shape(_ shape: Shape) -> Shape {
    switch self {
    case .step(.rows(let order)):
      shape.rank < 2
        ? [order.rows(of: shape.count)?.count ?? shape.count]
        : Shape([order.rows(of: shape.rows)?.count ?? shape.rows] + shape.dimensions.dropFirst())
    case .step(.shape(let shape)): shape
    case .step, .integers32, .integers64, .separateScales, .blockedNVFP4, .copied: shape
    case .keys(let heads, let width): [heads, shape.columns, width]
    case .values(let heads, let keyWidth): [heads, shape.rows / heads - keyWidth, shape.columns]
    case .transposed: [shape.columns, shape.rows]
    case .alternating, .followed: shape.rank < 2 ? [2 * shape.count] : [2 * shape.rows, shape.columns]
    }
  }

  /// The encoding after the step: the same where whole rows move or numbers are plain; else float32.
  func encoding(of source: any Encoding) -> any Encoding {
    switch self {
    case .integers32: IntegerTable.i32
    case .integers64: IntegerTable.i64
    case .separateScales: FP4.mxfp4
    case .blockedNVFP4: GGUFBlock(.nvfp4)
    case .keys, .transposed: source is Plain ? source : Plain.f32
    case .step(.rows), .step(.shape), .values: source is Plain || source is GGUFBlock ? source : Plain.f32
    case .step(.columns(let order)): order.keepsColumns(of: source) ? source : Plain.f32
    case .step(.numbers): Plain.f32
    case .copied: source
    case .alternating, .followed: source is Plain || source is GGUFBlock || source is FP4 ? source : Plain.f32
    }
  }
}

extension Weight {
  /// The weight with its numbers in another order.
  func arranged(_ arrangement: Arrangement) throws -> Weight {
    let encoding = arrangement.encoding(of: self.encoding)
    let target = arrangement.shape(shape)
    switch arrangement {
    case .integers32, .integers64:
      let numbers = try integers()
      if arrangement == .integers64 { return try made(encoding, target, numbers.map { Int64($0) }) }
      return try made(
        encoding, target,
        try numbers.map { number in
          guard let small = Int32(exactly: number) else {
            throw FormatError(
              .configValue, file: file, subject: name, "holds \(number), which has no 32 bits")
          }
          return small
        })
    case .step(let step): return try stepped(step)
    case .values(let heads, let keyWidth):
      let headRows = rows / heads
      return try taking(
        rows: (0..<heads).flatMap { head in head * headRows + keyWidth..<(head + 1) * headRows },
        shape: target)
    case .keys(let heads, let width):
      let headRows = rows / heads
      return try turned(blocks: (0..<heads).map { $0 * headRows..<$0 * headRows + width }, encoding, target)
    case .transposed: return try turned(blocks: [0..<rows], encoding, target)
    case .separateScales: return try repackedMXFP4FromGGUF()
    case .blockedNVFP4: return try nvfp4ForGGUF()
    case .copied: return self
    case .alternating, .followed: preconditionFailure("needs two weights")
    }
  }

  /// Rows of this weight and of another of its shape: in turn, or the other's behind this one's.
  func joined(with other: Weight, _ step: Arrangement) throws -> Weight {
    let encoding = step.encoding(of: self.encoding)
    let target = step.shape(shape)
    let isVector = shape.rank < 2
    let count = isVector ? shape.count : rows
    let pairs = [self, other].map { $0.encoding.name == encoding.name ? $0 : $0.decodedWeight() }
    let layouts = try encoding.layout(of: target, name: name)
    let parts = zip(pairs[0].parts, zip(pairs[1].parts, layouts)).map { first, rest in
      let size = first.bytes.count / max(1, count)
      let buffer = ByteBuffer(count: 2 * first.bytes.count)
      for (phase, part) in [first, rest.0].enumerated() {
        // SAFETY: slices are bounds-checked; `size` is the bytes of a row, of which part and buffer have the same number
        part.bytes.withUnsafeBytes { bytes in
          for row in 0..<count {
            let start = (step == .alternating ? 2 * row + phase : phase * count + row) * size
            UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[start..<start + size]).copyMemory(
              from: UnsafeRawBufferPointer(rebasing: bytes[row * size..<(row + 1) * size]))
          }
        }
      }
      return Part(first.name, dtype: first.dtype, shape: rest.1.shape, bytes: Bytes(buffer))
    }
    return try Weight(name: name, shape: target, encoding: encoding, parts: parts, file: file)
  }

  /// A step of a GGUF piece.
  private func stepped(_ step: GGUFPiece.Step) throws -> Weight {
    switch step {
    case .rows(let order):
      guard let rows = order.rows(of: outputs) else { throw GGUFPiece.noOrder(self) }
      return try taking(rows: rows, shape: Arrangement.step(step).shape(shape))
    case .columns(let order):
      guard let columns = order.rows(of: columns) else { throw GGUFPiece.noOrder(self) }
      return try taking(columns: columns, by: order)
    case .numbers(let map): return try mapped { map.apply($0) }
    case .shape(let shape): return try shaped(shape)
    }
  }

  /// Runs of rows, each transposed, one after another.
  private func turned(blocks: [Range<Int>], _ encoding: any Encoding, _ target: Shape) throws -> Weight {
    let source = encoding.name == self.encoding.name ? self : decodedWeight()
    let size = encoding is Plain ? source.values.dtype.bits / 8 : 4
    let rowBytes = columns * size
    let buffer = ByteBuffer(count: target.count * size)
    var place = 0
    for rows in blocks {
      let block = transposed(
        source.values.bytes[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes], size: size,
        rows: rows.count, columns: columns)
      block.withUnsafeBytes {
        // SAFETY: the slice is bounds-checked, and as long as the block
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[place..<place + block.count]).copyMemory(
          from: $0)
      }
      place += block.count
    }
    return try made(encoding, target, Bytes(buffer))
  }

  private func made<T: FixedWidthInteger>(_ encoding: any Encoding, _ shape: Shape, _ values: [T]) throws
    -> Weight
  {
    try made(encoding, shape, Bytes(values.withUnsafeBytes { Array($0) }))
  }

  private func made(_ encoding: any Encoding, _ shape: Shape, _ bytes: Bytes) throws -> Weight {
    let layout = try encoding.layout(of: shape, name: name)[0]
    return try Weight(
      name: name, shape: shape, encoding: encoding,
      parts: [Part(.values, dtype: layout.dtypes[0], shape: layout.shape, bytes: bytes)], file: file)
  }
}
