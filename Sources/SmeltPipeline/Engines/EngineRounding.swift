// Activations as engines round them before a product with a quantized weight: in INT8 and FP8 with a scale for each token, group or
// for all, in NVFP4 with a scale for 16 channels under one for all.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How one weight's activations are rounded.
struct EngineRounding: Sendable {
  private let activations: EngineActivations
  /// What is stored: FP8's one scale, or what NVFP4's group scales are multiplied by; nil where it is computed.
  var scale: Float?

  init(_ activations: EngineActivations, scale: Float?) {
    (self.activations, self.scale) = (activations, scale)
  }

  /// Rows rounded to the grid and back; a row of zeros stays one.
  func round(_ x: Matrix, _ parallel: Parallel) -> Matrix {
    var rounded = x
    let columns = x.columns
    switch (activations.bits, activations.isFloat) {
    case (4, true) where activations.word == "local":
      // Computed, the scale of all has room for 448 times 6: what the group scales and codes reach.
      let largest = scale == nil ? x.values.reduce(0) { max($0, abs($1)) } : 0
      let global = scale ?? largest / (448 * 6)
      guard global > 0, global.isFinite else { return x }
      rounded.forEachRow(parallel) { _, row in
        for start in stride(from: 0, to: columns, by: NVFP4.group) {
          EngineRounding.roundNVFP4(row + start, min(NVFP4.group, columns - start), global)
        }
      }
      return rounded
    case (8, let isFloat):
      let grid = isFloat ? FP8.Format.e4m3.largest : INT8.largest
      let whole: Float? =
        switch activations.word {
        case "static": scale
        case "tensor": x.values.reduce(0) { max($0, abs($1)) } / grid
        default: nil
        }
      let width = max(1, activations.strategy == "group" ? activations.group ?? columns : columns)
      rounded.forEachRow(parallel) { _, row in
        for start in stride(from: 0, to: columns, by: width) {
          let count = min(width, columns - start)
          var largest: Float = 0
          if whole == nil { for index in start..<start + count { largest = max(largest, abs(row[index])) } }
          EngineRounding.round(row + start, count, whole ?? largest / grid, isFloat: isFloat)
        }
      }
      return rounded
    default: return x
    }
  }

  private static func round(_ row: UnsafeMutablePointer<Float>, _ count: Int, _ scale: Float, isFloat: Bool) {
    guard scale >= .leastNormalMagnitude, scale.isFinite else { return }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: count) { codes in
      // SAFETY: `row` has `count` numbers (callers cut rows at their ends), `codes` room for as many
      guard let codes = codes.baseAddress else { return }
      if isFloat {
        FP8(.e4m3, .tensor).encode(row, count: count, scale: scale, into: codes)
        for index in 0..<count { row[index] = E4M3Number.values[Int(codes[index])] * scale }
      } else {
        INT8.channel.encode(row, count: count, scale: scale, into: codes)
        for index in 0..<count { row[index] = Float(Int8(bitPattern: codes[index])) * scale }
      }
    }
  }

  /// A group of NVFP4: its scale is its largest magnitude ÷ 6 in E4M3 under the scale of all, its codes the nearest of E2M1, of two as
  /// near the even one. Source: vLLM 0.33.0, `layers/quantization/utils/nvfp4_emulation_utils.py`.
  private static func roundNVFP4(_ row: UnsafeMutablePointer<Float>, _ count: Int, _ global: Float) {
    var largest: Float = 0
    for index in 0..<count { largest = max(largest, abs(row[index])) }
    var wanted = largest / 6
    var code: UInt8 = 0
    FP8(.e4m3, .tensor).encode(&wanted, count: 1, scale: global, into: &code)
    let scale = E4M3Number.values[Int(code)] * global
    guard scale > 0 else {
      for index in 0..<count { row[index] = 0 }
      return
    }
    for index in 0..<count { row[index] = E2M1Number.nearest(row[index] / scale) * scale }
  }
}

/// E4M3's numbers by code. Formats/encodings.md, section 4.
private enum E4M3Number {
  static let values: [Float] = (0..<256).map { code in
    let (exponent, mantissa) = (code >> 3 & 15, Float(code & 7))
    let magnitude =
      exponent == 0
      ? mantissa * 0x1p-9 : (1 + mantissa / 8) * Float(sign: .plus, exponent: exponent - 7, significand: 1)
    return code < 128 ? magnitude : -magnitude
  }
}

/// E2M1's numbers. Formats/encodings.md, section 6.
private enum E2M1Number {
  private static let magnitudes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

  static func nearest(_ value: Float) -> Float {
    let magnitude = min(abs(value), 6)
    var best = 0
    for (code, candidate) in magnitudes.enumerated() {
      let (old, new) = (abs(magnitude - magnitudes[best]), abs(magnitude - candidate))
      if new < old || new == old && code % 2 == 0 { best = code }
    }
    return value < 0 ? -magnitudes[best] : magnitudes[best]
  }
}
