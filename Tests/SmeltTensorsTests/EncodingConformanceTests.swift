// What every encoding must keep, walked over `Encodings.all`: layouts, decoding of any rectangle, products. A new
// encoding is tested by being in the list, once its formula stands in `slowDecode`.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// How far a product may be off, relative to Σ|x·w|: 2^-24 for each rounding that a term goes through, and the fixed
/// order lets it go through 1024/16 in its lane, 4 in the tree and one a block of 1024: 71 here, 128 with room.
private let productTolerance = 128 * 0x1p-24

@Suite struct EncodingConformanceTests {
  /// Ragged for 128 × 128 blocks both ways, columns a multiple of 32, more than one tile and more than one SK_BLOCK.
  static let shapes: [Shape] = [[192, 160], [3, 1184], [65, 2080], [3, 40, 96], [1, 32], [64]]

  /// The list, and block sizes that are in its names only.
  static let encodings: [any Encoding] =
    Encodings.all
    + ["f8_e4m3.block32x32", "f8_e5m2.block1x32", "f8_e4m3.block7x48", "f8_e4m3.block65536x1"]
    .compactMap { Encodings.named($0) }

  @Test func blockSizesOfTheListAreKnown() { #expect(Self.encodings.count == Encodings.all.count + 4) }

  @Test(arguments: encodings.map(\.name))
  func namesFindTheirEncoding(_ name: String) throws {
    #expect(try #require(Encodings.named(name)).name == name)
  }

  @Test(arguments: encodings.map(\.name))
  func layoutsHoldWhatWeightsNeed(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for (index, shape) in Self.shapes.map({ fitted($0, to: encoding) }).enumerated() {
      let layout = try encoding.layout(of: shape, name: "w")
      #expect(layout[0].name == .values && Set(layout.map(\.name)).count == layout.count)
      let bits = layout[0].dtypes[0].bits * layout[0].shape.count
      if let block = encoding as? GGUFBlock {
        #expect(bits == shape.count / block.elements * block.bytes * 8)
      } else {
        #expect(encoding.isPacked ? bits == 4 * shape.count : layout[0].shape == shape)
      }
      let weight = try randomWeight(encoding, shape, seed: UInt64(index))
      #expect(weight.byteCount == encoding.byteCount(of: shape))
      try weight.validate()
    }
  }

  /// A weight without elements may have large dimensions: no row is made room for, and none is looked for.
  @Test(.timeLimit(.minutes(1)), arguments: encodings.map(\.name))
  func nothingIsDoneForNoElements(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for shape in [[0, 1 << 40], [1 << 40, 0], [0, 1 << 20, 1 << 20]] as [Shape] {
      guard let layouts = try? encoding.layout(of: shape, name: "w"),
        layouts.allSatisfy({ $0.dtypes[0].byteCount($0.shape.count) == 0 })
      else { continue }
      let weight = try Weight(
        name: "w", shape: shape, encoding: encoding,
        parts: layouts.map { Part($0.name, dtype: $0.dtypes[0], shape: $0.shape, bytes: Bytes([])) })
      try weight.validate()
      if !(encoding is IntegerTable) { #expect(weight.decode() == []) }
    }
  }

  /// GGUF's blocks are compared with ggml's numbers in GGUFBlockTests.
  @Test(arguments: encodings.filter { !($0 is GGUFBlock) }.map(\.name))
  func everyScaleDTypeDecodesByTheFormula(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for shape in Self.shapes.dropLast() where shape.count < 40_000 {
      let layout = try encoding.layout(of: shape, name: "w")
      for dtype in layout.count > 1 ? layout[1].dtypes : [layout[0].dtypes[0]] {
        let weight = try randomWeight(encoding, shape, scaleDType: dtype, seed: 5)
        try weight.validate()
        #expect(
          weight.decode().map(\.bitPattern) == slowDecode(weight).map(\.bitPattern),
          "\(shape), scales \(dtype)")
      }
    }
  }

  @Test(arguments: encodings.map(\.name))
  func rectanglesAreCutsOfTheWhole(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let width = fitted([2080], to: encoding).columns
    let weight = try randomWeight(encoding, [65, width], seed: 7)
    let whole = weight.decode()
    let untouched: Float = 12_345
    for rows in [0..<1, 3..<3, 13..<14, 60..<65] {
      #expect(weight.decode(rows: rows) == Array(whole[rows.lowerBound * width..<rows.upperBound * width]))
      for columns in [0..<1, 0..<33, 0..<1024, 1024..<2048, 1024..<1087, 2048..<2080, 0..<width] {
        let stride = columns.count + 3
        var out = [Float](repeating: untouched, count: rows.count * stride + 1)
        encoding.decode(weight, rows: rows, columns: columns, into: &out, stride: stride)
        for (index, row) in rows.enumerated() {
          let found = out[index * stride..<index * stride + columns.count]
          let start = row * width
          #expect(Array(found) == Array(whole[start + columns.lowerBound..<start + columns.upperBound]))
          #expect(
            out[index * stride + columns.count..<(index + 1) * stride] == [untouched, untouched, untouched])
        }
      }
    }
  }

  @Test(arguments: encodings.filter { !($0 is IntegerTable) }.map(\.name))
  func productsAreThoseOfTheDecodedNumbers(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let width = fitted([2080], to: encoding).columns
    let weight = try randomWeight(encoding, [65, width], seed: 9)
    let numbers = weight.decode()
    var random = Generator(seed: 10)
    let x = Matrix(rows: 5, columns: width, values: random.normals(5 * width))
    let y = multiply(x, weight, parallel: Parallel(threads: 1))
    for token in 0..<x.rows {
      for row in 0..<weight.rows {
        var sum = 0.0
        var size = 0.0
        for column in 0..<width {
          let product = Double(x.values[token * width + column]) * Double(numbers[row * width + column])
          sum += product
          size += product.magnitude
        }
        let found = Double(y.values[token * 65 + row])
        guard abs(found - sum) > productTolerance * size else { continue }
        Issue.record("token \(token), row \(row): \(found), expected \(sum) ± \(productTolerance * size)")
        return
      }
    }
  }

  @Test(arguments: encodings.filter { !($0 is IntegerTable) }.map(\.name))
  func productsDoNotDependOnThreadsOrTokens(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let width = fitted([2080], to: encoding).columns
    let weight = try randomWeight(encoding, [65, width], seed: 12)
    var random = Generator(seed: 13)
    let x = Matrix(rows: 9, columns: width, values: random.normals(9 * width))
    let one = multiply(x, weight, parallel: Parallel(threads: 1))
    #expect(one.values.contains { $0 != 0 })
    let three = multiply(x, weight, parallel: Parallel(threads: 3))
    #expect(one.values.map(\.bitPattern) == three.values.map(\.bitPattern))
    for token in 0..<x.rows {
      let alone = multiply(x.gather([token]), weight)
      #expect(alone.values.map(\.bitPattern) == one[token].map(\.bitPattern), "token \(token)")
    }
    let some = multiply(x, weight, rows: 17..<40)
    for token in 0..<x.rows {
      let cut = one[token].dropFirst(17).prefix(23)
      #expect(some[token].map(\.bitPattern) == cut.map(\.bitPattern), "rows of token \(token)")
    }
  }

  /// Stacked matrices decode as the same rows laid one after another.
  @Test(arguments: encodings.map(\.name))
  func leadingDimensionsAreRows(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    let shape = fitted([3, 40, 96], to: encoding)
    let stacked = try randomWeight(encoding, shape, seed: 14)
    let parts = try zip(stacked.parts, encoding.layout(of: [120, shape.columns], name: "w")).map {
      part, layout in
      Part(part.name, dtype: part.dtype, shape: layout.shape, bytes: part.bytes)
    }
    let flat = try Weight(name: "w", shape: [120, shape.columns], encoding: encoding, parts: parts)
    #expect(stacked.decode() == flat.decode())
  }

  @Test(arguments: encodings.map(\.name))
  func emptyWeightsAreWeights(_ name: String) throws {
    let encoding = try #require(Encodings.named(name))
    for shape: Shape in [[0, 256], [4, 0], [0]] {
      let weight = try randomWeight(encoding, shape, seed: 1)
      try weight.validate()
      #expect(weight.decode() == [])
    }
  }
}
