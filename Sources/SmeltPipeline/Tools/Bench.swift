// `bench`: what this machine's cores can do, and how much of it the kernels reach. Numbers, no verdict.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// One measured kernel.
package struct BenchRow: Sendable {
  /// What ran.
  package var name: String
  /// The figure.
  package var value: Double
  /// `GFLOPS`, or `GB/s` of something.
  package var unit: String
  /// Share of the measured peak, for products of many tokens.
  package var share: Double?
  /// Share of the rate at which one core reads memory, for products of one token and conversions.
  package var shareOfReads: Double?
}

/// Measures products, decoding, conversions and layers with a state on one core, best of several runs of at least `seconds` each.
package func bench(seconds: Double = 0.2) -> [BenchRow] {
  let peak = sk_peak_f32_gflops(seconds)
  var rows = [
    BenchRow(
      name: "float32 peak, registers only, \(InstructionSet.current)", value: peak,
      unit: "GFLOPS")
  ]
  let integerPeak = sk_peak_i8_gops(seconds)
  rows.append(
    BenchRow(name: "INT8 peak, registers only, \(InstructionSet.current)", value: integerPeak, unit: "GOPS"))
  for (tokens, outputs, inputs) in [
    (256, 2048, 4096), (256, 768, 2048), (256, 128, 256), (64, 2048, 4096), (64, 768, 2048),
    (32, 768, 2048), (16, 2048, 4096), (1, 2048, 4096),
  ] {
    let x = Matrix(
      rows: tokens, columns: inputs, values: (0..<tokens * inputs).map { Float($0 % 17) / 16 - 0.5 })
    /// Adds a product with a weight of an encoding.
    func add(_ encoding: String, note: String = "", _ unit: String, peak: Double, _ body: (Weight) -> Void) {
      guard let weight = benchWeight(encoding, [outputs, inputs]) else { return }
      let time = bestTime(seconds) { body(weight) }
      let rate = 2 * Double(tokens) * Double(outputs) * Double(inputs) / time / 1e9
      rows.append(
        BenchRow(
          name: "product, \(tokens) tokens × [\(outputs), \(inputs)] \(encoding)\(note)", value: rate,
          unit: unit,
          share: rate / peak))
    }
    for encoding in ["bf16", "f8_e4m3.channel", "int8.channel", "mxfp4"] {
      add(encoding, "GFLOPS", peak: peak) { _ = multiply(x, $0) }
    }
    for encoding in ["int8.channel", "q8_0", "q4_k", "q6_k"] {
      add(encoding, note: " as whole numbers", "GOPS", peak: integerPeak) { _ = multiplyIntegers(x, $0) }
    }
  }
  for encoding in ["bf16", "f8_e4m3.channel", "f8_e4m3.block", "int8.channel", "mxfp4"] {
    guard let weight = benchWeight(encoding, [256, 4096]) else { continue }
    var out = [Float](repeating: 0, count: 256 * 4096)
    let time = bestTime(seconds) {
      out.withUnsafeMutableBufferPointer {
        // SAFETY: `out` has room for 256 × 4,096 floats
        weight.encoding.decode(weight, rows: 0..<256, columns: 0..<4096, into: $0.baseAddress!, stride: 4096)
      }
    }
    rows.append(
      BenchRow(name: "decode \(encoding)", value: 4 * 256 * 4096 / time / 1e9, unit: "GB/s of floats"))
  }
  let reads = measuredMemoryRead(.serial)
  rows.append(BenchRow(name: "memory reads, one core", value: reads, unit: "GB/s"))
  return rows + benchDecoding(seconds: seconds, reads: reads)
    + benchConversions(seconds: seconds, reads: reads)
    + benchSequences(seconds: seconds, peak: peak)
}

/// A weight with harmless codes: ones, or as near as the encoding comes.
func benchWeight(_ name: String, _ shape: Shape) -> Weight? {
  guard let encoding = Encodings.named(name), let layout = try? encoding.layout(of: shape, name: "bench")
  else {
    return nil
  }
  let parts = layout.map { part in
    let dtype = part.dtypes[0]
    let count = dtype.byteCount(part.shape.count) ?? 0
    let period: [UInt8] =
      switch dtype {
      case .f32: [0, 0, 0x80, 0x3F]
      case .bf16: [0x80, 0x3F]
      case .f16: [0, 0x3C]
      case .f8E8M0: [127]
      default: (0..<16).map { UInt8($0 * 7 % 0x70) }
      }
    let bytes = ByteBuffer(count: count)
    for place in 0..<count { bytes.bytes[place] = period[place % period.count] }
    return Part(part.name, dtype: dtype, shape: part.shape, bytes: Bytes(bytes))
  }
  return try? Weight(name: "bench", shape: shape, encoding: encoding, parts: parts)
}

/// The shortest CPU time of one call, over at least five calls and `seconds`.
func bestTime(_ seconds: Double, _ body: () -> Void) -> Double {
  var shortest = Double.infinity
  var total = 0.0
  var runs = 0
  while runs < 5 || total < seconds {
    let start = processorSeconds()
    body()
    let time = processorSeconds() - start
    shortest = min(shortest, time)
    total += time
    runs += 1
  }
  return shortest
}
