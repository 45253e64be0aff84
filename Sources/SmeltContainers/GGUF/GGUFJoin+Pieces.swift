// A weight whose numbers lie in another order in a GGUF file, in one tensor or in several, or through a function of each.

import SmeltStorage
import SmeltTensors

extension GGUFJoin {
  /// The weight that the pieces hold together.
  /// - Parameter found: the pieces' tensors, each with the scale that stands beside NVFP4 blocks.
  /// - Throws: `CFG_SHAPE` for other dimensions than the pieces must have.
  func arranged(
    _ pieces: [GGUFPiece], _ found: [(tensor: GGUFTensor, scale: GGUFTensor?)], isTable: Bool
  ) throws -> JoinedWeight {
    let shape = self.shape
    for (piece, found) in zip(pieces, found) {
      let count = try rows(of: piece, found.tensor).count
      let own = shape.rank < 2 ? [count] : [count] + shape.dimensions.dropFirst()
      try require(found.tensor, [piece.shape?.dimensions ?? own, own, own.filter { $0 != 1 }])
    }
    let stored = try found.map { found in
      found.scale == nil ? try self.encoding(of: found.tensor, isTable: isTable) : NVFP4.multiplied
    }
    let encoding = common(pieces, stored)
    let rowsMoveAlone = pieces.allSatisfy(\.movesRowsAlone) && stored.allSatisfy { $0.name == encoding.name }
    let layout = try encoding.layout(of: shape, name: found[0].tensor.name)[0]
    guard let byteCount = layout.dtypes[0].byteCount(layout.shape.count) else {
      throw refuse(found[0].tensor, "is too large")
    }
    let like = Part(.values, dtype: layout.dtypes[0], shape: layout.shape, bytes: Bytes([]))
    return joined(
      found[0].tensor, encoding, like,
      found.flatMap { tensor, scale in
        [(tensor, tensor.bytes)] + (scale.map { [($0, $0.bytes)] } ?? [])
      },
      isBuilt: true, byteCount: byteCount,
      pieces: rowsMoveAlone
        ? nil : { @Sendable in try found.map { try GGUFJoin.stored($0.tensor, $0.scale) } }
    ) {
      let all = try zip(pieces, found).map { piece, found in
        let weight = try GGUFJoin.stored(found.tensor, found.scale)
        // A weight that is put in order is checked before its numbers are mixed with others'.
        try weight.validate()
        return try weight.withoutSteps(of: piece, shape)
      }
      let order = try zip(pieces, found).flatMap { try rows(of: $0, $1.tensor) }
      guard let places = RowOrder.inverse(order) else { throw GGUFPiece.noOrder(all[0]) }
      return try Weight.rowByRow(all, encoding).taking(rows: places, shape: shape)
    }
  }

  /// Which of the weight's rows a piece has.
  private func rows(of piece: GGUFPiece, _ tensor: GGUFTensor) throws(FormatError) -> [Int] {
    let count = shape.rank < 2 ? shape.count : shape.rows
    guard let order = piece.rowOrder else { return Array(0..<count) }
    guard let rows = order.rows(of: count) else {
      throw refuse(tensor, "is \(tensor.shape), which is not the heads that the configuration counts")
    }
    return rows
  }

  /// The encoding of the whole: the pieces' where they have one and their bytes can move, else float32.
  private func common(_ pieces: [GGUFPiece], _ stored: [any Encoding]) -> any Encoding {
    let first = stored[0]
    let isOne = stored.allSatisfy { $0.name == first.name }
    guard isOne, first is Plain || first is GGUFBlock || first is IntegerTable else { return Plain.f32 }
    let isKept = pieces.allSatisfy { piece in
      piece.steps.allSatisfy { step in
        switch step {
        case .rows: true
        case .columns(let order): order.keepsColumns(of: first)
        case .numbers: false
        case .shape: first is Plain
        }
      }
    }
    return isKept ? first : Plain.f32
  }
}

extension [GGUFPiece] {
  /// Whether they are one tensor with rows in another order, whose bytes move as they are.
  var areRowsOfOne: Bool { count == 1 && self[0].movesRowsAlone }
}

extension GGUFPiece {
  /// The order of its rows; nil for the weight's own.
  fileprivate var rowOrder: RowOrder? {
    for case .rows(let order) in steps { return order }
    return nil
  }

  /// The dimensions of its tensor where the weight's numbers stand in others.
  fileprivate var shape: Shape? {
    guard case .shape(let shape)? = steps.last else { return nil }
    return shape
  }

  /// Whether nothing but whole rows is elsewhere than in the weight.
  fileprivate var movesRowsAlone: Bool {
    steps.allSatisfy { if case .rows = $0 { true } else { false } }
  }
}

extension Weight {
  /// A piece's rows, still in the piece's order, as the weight has them: columns in order, functions undone.
  /// - Parameter own: the weight's dimensions, which a piece of other dimensions holds whole.
  fileprivate func withoutSteps(of piece: GGUFPiece, _ own: Shape) throws -> Weight {
    var weight = self
    for step in piece.steps.reversed() {
      switch step {
      case .rows: continue
      case .columns(let order):
        guard let places = order.places(of: columns) else { throw GGUFPiece.noOrder(self) }
        weight = try weight.taking(columns: places, by: order)
      case .numbers(let map):
        weight = try weight.mapped { number throws(FormatError) in
          guard let original = map.invert(number) else {
            throw FormatError(
              .configValue, file: file, subject: name, "holds \(number), expected numbers below 0")
          }
          return original
        }
      case .shape: weight = try weight.shaped(own)
      }
    }
    return weight
  }

  /// The rows of several weights one after another, in an encoding that all of them have, or in float32.
  fileprivate static func rowByRow(_ weights: [Weight], _ encoding: any Encoding) throws -> Weight {
    let all = weights.map { $0.encoding.name == encoding.name ? $0 : $0.decodedWeight() }
    guard all.count > 1 else { return all[0] }
    let rows = all.reduce(0) { $0 + $1.outputs }
    let shape = all[0].shape.rank < 2 ? [rows] : Shape([rows] + all[0].shape.dimensions.dropFirst())
    let buffer = ByteBuffer(count: all.reduce(0) { $0 + $1.values.bytes.count })
    var place = 0
    for weight in all {
      weight.values.bytes.withUnsafeBytes {
        // SAFETY: the slice is bounds-checked, and as long as the weight's bytes
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[place..<place + $0.count]).copyMemory(from: $0)
      }
      place += weight.values.bytes.count
    }
    let layout = try encoding.layout(of: shape, name: all[0].name)[0]
    return try Weight(
      name: all[0].name, shape: shape, encoding: encoding,
      parts: [Part(.values, dtype: all[0].values.dtype, shape: layout.shape, bytes: Bytes(buffer))],
      file: all[0].file)
  }
}
