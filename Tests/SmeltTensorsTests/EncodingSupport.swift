// What the encoding tests share: vector files, bit-level formulas written straight from Formats/encodings.md, and
// random weights of any encoding.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport

/// The lines of a file of Formats/vectors, cut at spaces, comments left out.
func vectorLines(_ name: String) throws -> [[Substring]] {
  let file = try MappedFile(path: formats("vectors/\(name).txt"))
  let text = String(decoding: file.bytes.array, as: UTF8.self)
  let lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { $0.split(separator: " ") }
  precondition(!lines.isEmpty, "\(name).txt is empty")
  return lines
}

func hexNumber(_ text: Substring) -> UInt32 {
  guard let value = UInt32(text, radix: 16) else { preconditionFailure("'\(text)' is no hexadecimal number") }
  return value
}

func hexBytes(_ text: Substring) -> [UInt8] {
  let digits = Array(text.utf8)
  return stride(from: 0, to: digits.count, by: 2).map { index in
    UInt8(hexNumber(Substring(String(decoding: digits[index..<index + 2], as: UTF8.self))))
  }
}

func hexFloats(_ text: Substring) -> [Float] {
  let bytes = hexBytes(text)
  return stride(from: 0, to: bytes.count, by: 4).map { index in
    Float(bitPattern: bytes[index..<index + 4].reduce(0) { $0 << 8 | UInt32($1) })  // written as a number
  }
}

/// A small float by its fields: (-1)^s · 2^(e - bias) · 1.m, or 2^(1 - bias) · 0.m where e is 0. No infinities, no NaN.
func slowFloat(_ code: Int, exponentBits: Int, mantissaBits: Int, bias: Int) -> Double {
  let mantissa = code & (1 << mantissaBits - 1)
  let exponent = code >> mantissaBits & (1 << exponentBits - 1)
  let negative = code >> (mantissaBits + exponentBits) & 1 == 1
  let fraction = Double(mantissa) / Double(1 << mantissaBits)
  let magnitude =
    exponent == 0
    ? fraction * powerOfTwo(1 - bias) : (1 + fraction) * powerOfTwo(exponent - bias)
  return negative ? -magnitude : magnitude
}

/// 2^exponent, exponent in -1022…1023.
func powerOfTwo(_ exponent: Int) -> Double { Double(sign: .plus, exponent: exponent, significand: 1) }

/// The small formats, as one list of numbers, for tests over all of them.
enum SmallFormat: String, CaseIterable, Sendable {
  case e4m3, e5m2, e2m1, int8

  /// The finite values of the codes 0, 1, 2 … that are not negative; ascending.
  var magnitudes: [Double] {
    switch self {
    case .e4m3: (0...0x7E).map { slowFloat($0, exponentBits: 4, mantissaBits: 3, bias: 7) }
    case .e5m2: (0...0x7B).map { slowFloat($0, exponentBits: 5, mantissaBits: 2, bias: 15) }
    case .e2m1: (0...7).map { slowFloat($0, exponentBits: 2, mantissaBits: 1, bias: 1) }
    case .int8: (0...127).map(Double.init)
    }
  }

  /// The code of the nearest magnitude, found by looking at all of them; of two equally near ones the even code.
  func slowCode(_ x: Float, _ magnitudes: [Double]) -> UInt8 {
    let size = min(Double(x.magnitude), magnitudes[magnitudes.count - 1])
    var best = 0
    for code in 1..<magnitudes.count {
      let old = abs(magnitudes[best] - size)
      let new = abs(magnitudes[code] - size)
      if new < old || (new == old && code % 2 == 0) { best = code }
    }
    let negative = x.sign == .minus
    return switch self {
    case .int8: UInt8(bitPattern: Int8(negative ? -best : best))
    case .e2m1: UInt8(best + (negative ? 8 : 0))
    default: UInt8(best + (negative ? 128 : 0))
    }
  }

  /// Codes of floats by the encoding under test, all under one scale; E2M1 nibbles come one a byte.
  func codes(_ x: [Float], scale: Float) -> [UInt8] {
    let padded = x + [Float](repeating: 0, count: (32 - x.count % 32) % 32)
    var out = [UInt8](repeating: 0xAA, count: padded.count)
    switch self {
    case .e4m3: FP8(.e4m3, .channel).encode(padded, count: x.count, scale: scale, into: &out)
    case .e5m2: FP8(.e5m2, .block128).encode(padded, count: x.count, scale: scale, into: &out)
    case .int8: INT8.channel.encode(padded, count: x.count, scale: scale, into: &out)
    case .e2m1:
      guard let code = E8M0.code(of: scale) else { preconditionFailure("\(scale) is no power of two") }
      let scales = [UInt8](repeating: code, count: padded.count / 32)
      FP4.mxfp4.encode(padded, count: padded.count, scales: scales, into: &out)
      out = out.prefix(padded.count / 2).flatMap { [$0 & 15, $0 >> 4] }
    }
    return Array(out.prefix(x.count))
  }
}

/// Every number of a weight by the formula of Formats/encodings.md, one at a time, in double and then rounded to
/// float32 once.
func slowDecode(_ weight: Weight) -> [Float] {
  let codes = weight.values.bytes.array
  let scales = weight.part(.scales)
  let scaleBytes = scales?.bytes.array ?? []
  func little(_ bytes: [UInt8], _ index: Int, _ size: Int) -> UInt64 {
    (0..<size).reversed().reduce(0) { $0 << 8 | UInt64(bytes[index * size + $1]) }
  }
  func scale(_ index: Int) -> Double {
    switch scales?.dtype {
    case .f32: Double(Float(bitPattern: UInt32(little(scaleBytes, index, 4))))
    case .bf16: Double(Float(bitPattern: UInt32(little(scaleBytes, index, 2)) << 16))
    case .f16: slowFloat(Int(little(scaleBytes, index, 2)), exponentBits: 5, mantissaBits: 10, bias: 15)
    default: powerOfTwo(Int(scaleBytes[index]) - 127)
    }
  }
  func number(_ row: Int, _ column: Int) -> Double {
    let index = row * weight.columns + column
    switch weight.encoding {
    case let plain as Plain where plain.dtype == .f32:
      return Double(Float(bitPattern: UInt32(little(codes, index, 4))))
    case let plain as Plain where plain.dtype == .bf16:
      return Double(Float(bitPattern: UInt32(little(codes, index, 2)) << 16))
    case let plain as Plain where plain.dtype == .f64:
      return Double(Float(Double(bitPattern: little(codes, index, 8))))
    case is Plain: return slowFloat(Int(little(codes, index, 2)), exponentBits: 5, mantissaBits: 10, bias: 15)
    case let table as IntegerTable where table.dtype == .i64:
      return Double(Int64(bitPattern: little(codes, index, 8)))
    case let table as IntegerTable where table.dtype == .i16:
      return Double(Int16(bitPattern: UInt16(little(codes, index, 2))))
    case let table as IntegerTable where table.dtype == .i8: return Double(Int8(bitPattern: codes[index]))
    case let table as IntegerTable where table.name.hasPrefix("stored."):
      let bytes = table.dtype.bits / 8
      return Double(Float(Int(truncatingIfNeeded: little(codes, index, bytes))))
    case is IntegerTable: return Double(Int32(bitPattern: UInt32(little(codes, index, 4))))
    case let fp8 as FP8:
      let value =
        fp8.format == .e4m3
        ? slowFloat(Int(codes[index]), exponentBits: 4, mantissaBits: 3, bias: 7)
        : slowFloat(Int(codes[index]), exponentBits: 5, mantissaBits: 2, bias: 15)
      switch fp8.granularity {
      case .tensor: return value * scale(0)
      case .channel: return value * scale(row)
      case .block(let rows, let columns):
        let across = (weight.columns + columns - 1) / columns
        return value * scale(row / rows * across + column / columns)
      }
    case is INT8: return Double(Int8(bitPattern: codes[index])) * scale(row)
    case let integers as GroupedIntegers:
      var place = 0
      switch integers.granularity {
      case .tensor: break
      case .channel: place = row
      case .group(let size):
        let table = weight.part(.groupIndex)?.bytes.array
        place =
          row * ((weight.columns + size - 1) / size)
          + (table.map { Int(little($0, column, 4)) } ?? column / size)
      }
      let zeros = weight.part(.zeroPoints)?.bytes.array
      if integers.width == .four {
        let byte = Int(codes[index / 2])
        let code = column % 2 == 0 ? byte & 15 : byte >> 4
        return Double(code - (zeros.map { Int($0[place]) } ?? 8)) * scale(place)
      }
      let zero = zeros.map { Int(Int8(bitPattern: $0[place])) } ?? 0
      return Double(Int(Int8(bitPattern: codes[index])) - zero) * scale(place)
    case let nvfp4 as NVFP4:
      let byte = Int(codes[index / 2])
      let nibble = column % 2 == 0 ? byte & 15 : byte >> 4
      let global = Float(bitPattern: UInt32(little(weight.part(.globalScale)?.bytes.array ?? [], 0, 4)))
      let group = Float(slowFloat(Int(scaleBytes[index / 16]), exponentBits: 4, mantissaBits: 3, bias: 7))
      let both = nvfp4.isDivided ? group / global : group * global
      return slowFloat(nibble, exponentBits: 2, mantissaBits: 1, bias: 1) * Double(both)
    case is FP4:
      let byte = Int(codes[index / 2])
      let nibble = column % 2 == 0 ? byte & 15 : byte >> 4
      return slowFloat(nibble, exponentBits: 2, mantissaBits: 1, bias: 1) * scale(index / 32)
    default: preconditionFailure("write down the formula of \(weight.encoding.name) here")
    }
  }
  return (0..<weight.rows).flatMap { row in (0..<weight.columns).map { Float(number(row, $0)) } }
}

/// Random bytes of a part: codes that are finite numbers, scales from 2^-12 to 2^4 that are no powers of two, 4-bit zero
/// points, and groups below `groups`.
private func randomPart(
  _ layout: PartLayout, _ dtype: DType, groups: Int, _ random: inout Generator
) -> Part {
  var bytes: [UInt8] = []
  func append(_ bits: UInt64, _ size: Int) {
    for place in 0..<size { bytes.append(UInt8(truncatingIfNeeded: bits >> (8 * UInt64(place)))) }
  }
  for _ in 0..<layout.shape.count {
    if layout.name == .groupIndex {
      append(UInt64.random(in: 0..<UInt64(max(1, groups)), using: &random), 4)
      continue
    }
    if layout.name == .zeroPoints, dtype == .u8 {
      append(UInt64.random(in: 0...15, using: &random), 1)
      continue
    }
    if layout.name == .scales || layout.name == .globalScale {
      let scale = Float(powerOfTwo(Int.random(in: -12...3, using: &random))) * (1.5 + random.float(0.5))
      switch dtype {
      case .f32: append(UInt64(scale.bitPattern), 4)
      case .bf16: append(UInt64(scale.bitPattern >> 16), 2)
      case .f16: append(UInt64.random(in: 0x0C00...0x4C00, using: &random), 2)
      case .f8E4M3: append(UInt64.random(in: 0...0x7E, using: &random), 1)
      default: append(UInt64.random(in: 115...131, using: &random), 1)
      }
      continue
    }
    switch dtype {
    case .f32: append(UInt64(random.normal().bitPattern), 4)
    case .bf16: append(UInt64(random.normal().bitPattern >> 16), 2)
    case .f16: append(UInt64.random(in: 0...0x4000, using: &random) | (random.next() & 0x8000), 2)
    case .f64: append((Double(random.normal()) * 1.000_000_01).bitPattern, 8)
    case .i16, .u16: append(UInt64.random(in: 0...0xFFFF, using: &random), 2)
    case .u32: append(UInt64.random(in: 0...0xFFFF_FFFF, using: &random), 4)
    case .u64, .c64: append(random.next(), 8)
    case .i64: append(UInt64(bitPattern: Int64.random(in: -70_000...70_000, using: &random)), 8)
    case .i32: append(UInt64(UInt32(bitPattern: Int32.random(in: -70_000...70_000, using: &random))), 4)
    case .f8E4M3: append(UInt64.random(in: 0...0x7E, using: &random) | (random.next() & 0x80), 1)
    case .f8E5M2: append(UInt64.random(in: 0...0x7B, using: &random) | (random.next() & 0x80), 1)
    default: append(random.next(), 1)
    }
  }
  return Part(layout.name, dtype: dtype, shape: layout.shape, bytes: Bytes(bytes))
}

/// A shape whose columns are made as many more as the encoding's blocks need.
func fitted(_ shape: Shape, to encoding: any Encoding) -> Shape {
  guard let block = encoding as? GGUFBlock else { return shape }
  let blocks = (shape.columns + block.elements - 1) / block.elements
  return Shape(shape.dimensions.dropLast() + [blocks * block.elements])
}

/// Random blocks with scales that are finite numbers, not powers of two, from 2^-12 to 2^4 where they are F16.
private func randomBlocks(_ block: GGUFBlock, _ layout: PartLayout, _ random: inout Generator) -> Part {
  let halves: [Int] =
    switch block.kind {
    case .q2_k: [80, 82]
    case .q3_k: [108]
    case .q6_k: [208]
    case .tq1_0: [52]
    case .tq2_0: [64]
    case .q4_1, .q5_1, .q8_1, .q4_k, .q5_k: [0, 2]
    case .q8_k, .mxfp4, .nvfp4, .iq1_m: []
    default: [0]
    }
  var bytes: [UInt8] = []
  for _ in 0..<layout.shape.count / block.bytes {
    var one = (0..<block.bytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    for offset in halves { one[offset + 1] = UInt8.random(in: 0x0C...0x4B, using: &random) }
    switch block.kind {
    case .q8_k: one[3] = 0x3E
    case .mxfp4: one[0] = UInt8.random(in: 115...131, using: &random)
    case .nvfp4: for group in 0..<4 { one[group] = UInt8.random(in: 0...0x7E, using: &random) }
    case .iq1_m: one[55] = 0x30 | one[55] & 15
    default: break
    }
    bytes += one
  }
  return Part(layout.name, dtype: .u8, shape: layout.shape, bytes: Bytes(bytes))
}

/// A random weight that `validate` accepts.
func randomWeight(
  _ encoding: any Encoding, _ shape: Shape, scaleDType: DType? = nil, seed: UInt64
) throws -> Weight {
  var random = Generator(seed: seed)
  var parts: [Part] = []
  for layout in try encoding.layout(of: shape, name: "random") {
    if let block = encoding as? GGUFBlock {
      parts.append(randomBlocks(block, layout, &random))
      continue
    }
    let dtype = layout.name == .scales ? scaleDType ?? layout.dtypes[0] : layout.dtypes[0]
    parts.append(randomPart(layout, dtype, groups: parts.count > 1 ? parts[1].shape.columns : 0, &random))
  }
  return try Weight(name: "random", shape: shape, encoding: encoding, parts: parts)
}

/// The code a body refuses with, and the text; nil when it accepts.
func refusal(_ body: () throws -> Void) -> FormatError? {
  do { try body() } catch let error as FormatError { return error } catch { return nil }
  return nil
}
