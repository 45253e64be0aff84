// Weights made from numbers, and slow, obvious twins of what the schemes do.

import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport

/// A weight in F32.
func floatWeight(_ values: [Float], rows: Int) throws -> Weight {
  try Weight(
    name: "test", shape: [rows, values.count / rows], encoding: Plain.f32,
    parts: [
      Part(
        .values, dtype: .f32, shape: [rows, values.count / rows],
        bytes: Bytes(values.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) }))
    ])
}

/// A weight in BF16 whose values are the upper halves of the given ones.
func bf16Weight(_ values: [Float], rows: Int) throws -> Weight {
  try Weight(
    name: "test", shape: [rows, values.count / rows], encoding: Plain.bf16,
    parts: [
      Part(
        .values, dtype: .bf16, shape: [rows, values.count / rows],
        bytes: Bytes(
          values.flatMap { withUnsafeBytes(of: UInt16($0.bitPattern >> 16).littleEndian, Array.init) }))
    ])
}

/// A weight in MXFP4 with random codes; a row's scales lie within `octaves` of each other and span them all.
func fp4Weight(_ generator: inout Generator, rows: Int, columns: Int, octaves: Int) throws -> Weight {
  let groups = columns / 32
  let codes = (0..<rows * columns / 2).map { _ in UInt8.random(in: 0...255, using: &generator) }
  var scales: [UInt8] = []
  for _ in 0..<rows {
    let first = UInt8.random(in: 100...(130 - UInt8(octaves)), using: &generator)
    for group in 0..<groups {
      let step = group == 0 ? 0 : group == 1 ? octaves : Int.random(in: 0...octaves, using: &generator)
      scales.append(first + UInt8(step))
    }
  }
  return try Weight(
    name: "fp4", shape: [rows, columns], encoding: FP4.mxfp4,
    parts: [
      Part(.values, dtype: .i8, shape: [rows, columns / 2], bytes: Bytes(codes)),
      Part(.scales, dtype: .f8E8M0, shape: [rows, groups], bytes: Bytes(scales)),
    ])
}

/// A weight in FP8 E4M3 with random codes, none of them NaN.
func fp8Weight(
  _ generator: inout Generator, rows: Int, columns: Int, _ granularity: FP8.Granularity,
  scales: (Int) -> Float
) throws -> Weight {
  let encoding = FP8(.e4m3, granularity)
  let layout = encoding.layout(of: [rows, columns], name: "")
  let codes = (0..<rows * columns).map { _ in
    UInt8.random(in: 0...0x7E, using: &generator) | (Bool.random(using: &generator) ? 0x80 : 0)
  }
  return try Weight(
    name: "fp8", shape: [rows, columns], encoding: encoding,
    parts: [
      Part(.values, dtype: .f8E4M3, shape: [rows, columns], bytes: Bytes(codes)),
      Part(
        .scales, dtype: .f32, shape: layout[1].shape,
        bytes: Bytes(
          (0..<layout[1].shape.count).flatMap {
            withUnsafeBytes(of: scales($0).bitPattern.littleEndian, Array.init)
          })),
    ])
}

/// The F32 scales of a result.
func scales(_ weight: Weight) -> [Float] {
  weight.parts[1].bytes.withUnsafeBytes { bytes in
    (0..<bytes.count / 4).map { place in
      let bits = bytes.loadUnaligned(fromByteOffset: place * 4, as: UInt32.self)
      return Float(bitPattern: UInt32(littleEndian: bits))
    }
  }
}

/// Normal numbers with a few outliers, as trained matrices have them.
func outlierRows(_ generator: inout Generator, rows: Int, columns: Int) -> [Float] {
  var values = generator.normals(rows * columns, 0.02)
  for row in 0..<rows where row % 2 == 0 {
    values[row * columns + Int.random(in: 0..<columns, using: &generator)] = generator.float(1.5)
  }
  return values
}

/// Σ importance × (x − y)², the slow way.
func weightedError(_ x: [Float], _ y: [Float], _ importance: [Float]?) -> Double {
  x.indices.reduce(0) {
    let d = Double(x[$1]) - Double(y[$1])
    return $0 + Double(importance?[$1] ?? 1) * d * d
  }
}
