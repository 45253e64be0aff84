// `bench codec`: what the codecs of an ingot make of weights, and how fast, beside a copy of the same bytes.

internal import CKernels
import SmeltContainers
import SmeltStorage
import SmeltTensors

/// One codec on one kind of weights.
package struct CodecBenchRow: Sendable {
  /// Where the weights come from.
  package var source: String
  /// How they are stored before any codec: `BF16`, `F8_E4M3 by channel`, …
  package var kind: String
  /// The codec.
  package var codec: String
  /// Bytes of content.
  package var bytes: Int
  /// Stored bytes over content bytes.
  package var ratio: Double
  /// Bytes of content coded in a second, in GB.
  package var encode: Double
  /// Bytes of content given back in a second, in GB.
  package var decode: Double
  /// Bytes of content copied from memory to memory in a second, in GB, measured in the same passes.
  package var copy: Double
}

/// What `bench codec` measured.
package struct CodecBench: Sendable {
  /// In the order measured.
  package var rows: [CodecBenchRow] = []
  /// CRC-32C of chunks, in GB a second.
  package var crc32c = 0.0
  /// The instruction set that ran.
  package var instructionSet = ""
  /// How often each figure was measured; it is the median.
  package var passes = 0
}

/// Bytes of one kind, cut into chunks when they are coded.
private struct CodecSample {
  let kind: String
  let dtype: DType
  var bytes: [UInt8] = []
}

/// Values of weights with their dtype in the source.
private struct FloatWeights {
  var matrices: [Matrix] = []
  var dtype = DType.f32
}

/// Measures every codec that `fast` and `small` try, on one core: the median of `passes` passes over all chunks of a kind, by the
/// processor's clock.
/// - Parameter input: a safetensors file whose weights are used; generated ones when nil.
/// - Throws: `FormatError` for an unreadable file, `RequestError` when it has no weights to measure.
package func benchCodecs(input: String? = nil, passes: Int = 5) throws -> CodecBench {
  var result = CodecBench(
    instructionSet: InstructionSet.current, passes: max(1, passes))
  var sources: [(name: String, samples: [CodecSample])] = []
  if let input {
    sources = try samples(ofFile: input)
  } else {
    for (name, draw) in [("gaussian", gaussian), ("student-t 5", studentT)] {
      sources.append((name, samples(of: FloatWeights(matrices: [generated(draw)]))))
    }
  }
  for (name, samples) in sources {
    for sample in samples {
      var forms: [ChunkForm] = []
      for form in CodecMode.allCases.flatMap({ ChunkCodec.candidates(for: sample.dtype, mode: $0) })
      where !form.searchesMatches && !forms.contains(form) { forms.append(form) }
      for form in forms { result.rows.append(try measure(name, sample, form, passes: result.passes)) }
    }
  }
  result.crc32c = checksumRate(sources.first?.samples.first?.bytes ?? [], passes: result.passes)
  return result
}

// MARK: Measuring

/// The middle of at least one time.
private func median(_ times: [Double]) -> Double { times.sorted()[times.count / 2] }

private func rate(_ bytes: Int, _ times: [Double]) -> Double {
  Double(bytes) / max(median(times), 1e-9) / 1e9
}

private func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = processorSeconds()
  try body()
  return processorSeconds() - start
}

private func measure(_ source: String, _ sample: CodecSample, _ form: ChunkForm, passes: Int) throws
  -> CodecBenchRow
{
  let count = sample.bytes.count
  let chunks = stride(from: 0, to: count, by: ChunkCodec.chunkBytes).map {
    $0..<min(count, $0 + ChunkCodec.chunkBytes)
  }
  let stored = ByteBuffer(count: count)
  let content = ByteBuffer(count: count)
  var sizes = [Int?](repeating: nil, count: chunks.count)
  var times: (encode: [Double], decode: [Double], copy: [Double]) = ([], [], [])
  try sample.bytes.withUnsafeBytes { bytes in
    content.bytes.copyMemory(from: bytes)  // pages are there before the clock runs
    stored.bytes.copyMemory(from: bytes)
    for pass in 0...passes {
      let encode = try seconds {
        for (index, chunk) in chunks.enumerated() {
          sizes[index] = try form.encode(
            UnsafeRawBufferPointer(rebasing: bytes[chunk]),
            into: UnsafeMutableRawBufferPointer(rebasing: stored.bytes[chunk]))
        }
      }
      let decode = seconds {
        for (index, chunk) in chunks.enumerated() {
          let out = UnsafeMutableRawBufferPointer(rebasing: content.bytes[chunk])
          guard let size = sizes[index] else {
            out.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[chunk]))
            continue
          }
          let start = chunk.lowerBound
          do throws(ChunkFault) {
            try form.codec.decode(
              UnsafeRawBufferPointer(rebasing: stored.bytes[start..<start + size]), into: out)
          } catch {
            preconditionFailure("\(form.codec.name) refuses what it stored: \(error.problem)")
          }
        }
      }
      precondition(bytes.elementsEqual(content.bytes), "\(form.codec.name) gave back other bytes")
      let copy = seconds { content.bytes.copyMemory(from: bytes) }
      guard pass > 0 else { continue }  // the first one warms up
      times.encode.append(encode)
      times.decode.append(decode)
      times.copy.append(copy)
    }
  }
  let total = zip(sizes, chunks).reduce(0) { $0 + ($1.0 ?? $1.1.count) }
  return CodecBenchRow(
    source: source, kind: sample.kind, codec: form.codec.name, bytes: count,
    ratio: Double(total) / Double(count),
    encode: rate(count, times.encode), decode: rate(count, times.decode), copy: rate(count, times.copy))
}

private func checksumRate(_ bytes: [UInt8], passes: Int) -> Double {
  var sum: UInt32 = 0
  let times = (0..<passes).map { _ in
    seconds {
      bytes.withUnsafeBytes { bytes in
        for start in stride(from: 0, to: bytes.count, by: ChunkCodec.chunkBytes) {
          sum ^= CRC32C.hash(
            UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + ChunkCodec.chunkBytes)]))
        }
      }
    }
  }
  precondition(bytes.isEmpty || times.count == passes, "the sum \(sum) was not taken")
  return rate(bytes.count, times)
}

// MARK: Weights

extension SplitMix64 {
  /// A normal number by Marsaglia's polar method.
  fileprivate mutating func normal() -> Float {
    while true {
      let (u, v) = (Float.random(in: -1..<1, using: &self), Float.random(in: -1..<1, using: &self))
      let s = u * u + v * v
      if s > 0, s < 1 { return u * (-2 * logarithm(s) / s).squareRoot() }
    }
  }
}

/// ln(x) of a positive normal float to about single precision: the exponent, and a series in (m − 1) / (m + 1).
private func logarithm(_ x: Float) -> Float {
  let (m, e) = (Double(x.significand), Double(x.exponent))
  let t = (m - 1) / (m + 1)
  let t2 = t * t
  let series = t * (2 + t2 * (2.0 / 3 + t2 * (2.0 / 5 + t2 * (2.0 / 7 + t2 * (2.0 / 9 + t2 * 2.0 / 11)))))
  return Float(e * 0.693_147_180_559_945_3 + series)
}

private func gaussian(_ generator: inout SplitMix64) -> Float { generator.normal() }

/// Student's t with five degrees of freedom: heavier tails, as trained weights have them.
private func studentT(_ generator: inout SplitMix64) -> Float {
  let normal = generator.normal()
  let chi = (0..<5).reduce(Float(0)) { sum, _ in
    let x = generator.normal()
    return sum + x * x
  }
  return normal / (chi / 5).squareRoot()
}

/// [2048, 2048] values of deviation 0.02.
private func generated(_ draw: (inout SplitMix64) -> Float) -> Matrix {
  var generator = SplitMix64(seed: 1)
  return Matrix(rows: 2048, columns: 2048, values: (0..<2048 * 2048).map { _ in 0.02 * draw(&generator) })
}

/// The most values of a dtype, and of one tensor, that are measured: all kinds of tensors have their say.
private let valueLimit = 8 << 20
private let tensorLimit = 1 << 20

/// Its matrices as numbers, each kind at most as wide as they are; and what it holds in 8 bits, as it is.
private func samples(ofFile path: String) throws -> [(name: String, samples: [CodecSample])] {
  let file = try SafetensorsFile(path: path)
  var result: [(name: String, samples: [CodecSample])] = []
  for dtype in [DType.f32, .f16, .bf16] {
    var weights = FloatWeights(dtype: dtype)
    var left = valueLimit
    for tensor in file.tensors
    where tensor.dtype == dtype && tensor.shape.rank >= 2 && tensor.shape.columns > 0 {
      let rows = min(tensor.shape.rows, min(left, tensorLimit) / tensor.shape.columns)
      guard rows * tensor.shape.columns >= ChunkCodec.smallestCompressed else { continue }
      left -= rows * tensor.shape.columns
      weights.matrices.append(floats(tensor, rows: rows))
    }
    if !weights.matrices.isEmpty { result.append(("\(fileName(path)), \(dtype)", samples(of: weights))) }
  }
  for dtype in [DType.f8E4M3, .f8E5M2, .i8, .f8E8M0] {
    var sample = CodecSample(kind: dtype.rawValue, dtype: dtype)
    for tensor in file.tensors where tensor.dtype == dtype && sample.bytes.count < valueLimit {
      let count = min(tensor.bytes.count, tensorLimit, valueLimit - sample.bytes.count)
      sample.bytes += tensor.bytes[0..<count].array
    }
    if sample.bytes.count >= ChunkCodec.smallestCompressed {
      result.append(("\(fileName(path)), \(dtype)", [sample]))
    }
  }
  guard !result.isEmpty else {
    throw RequestError(
      .usage, "'\(path)' holds no weights to measure",
      help: "it needs matrices of F32, F16 or BF16, or FP8 or INT8 codes")
  }
  return result
}

private func floats(_ tensor: TensorInfo, rows: Int) -> Matrix {
  let count = rows * tensor.shape.columns
  let values = [Float](unsafeUninitializedCapacity: count) { out, filled in
    tensor.bytes.withUnsafeBytes { bytes in
      // SAFETY: the tensor has at least `count` elements of its type, `out` room for as many floats
      let source = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
      switch tensor.dtype {
      case .bf16: sk_decode_bf16(source, out.baseAddress, count)
      case .f16: sk_decode_f16(source, out.baseAddress, count)
      default:
        UnsafeMutableRawBufferPointer(out).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: bytes[0..<4 * count]))
      }
    }
    filled = count
  }
  return Matrix(rows: rows, columns: tensor.shape.columns, values: values)
}

/// The numbers in every encoding that is not wider than theirs.
private func samples(of weights: FloatWeights) -> [CodecSample] {
  var result: [CodecSample] = []
  func add(
    _ kind: String, _ dtype: DType, _ encode: (Matrix, UnsafeMutablePointer<UInt8>) -> Void, ratio: Int = 1
  ) {
    var sample = CodecSample(kind: kind, dtype: dtype)
    for matrix in weights.matrices {
      let count = matrix.values.count * dtype.bits / 8 / ratio
      sample.bytes += [UInt8](unsafeUninitializedCapacity: count) { out, filled in
        if let base = out.baseAddress { encode(matrix, base) }
        filled = count
      }
    }
    if sample.bytes.count >= ChunkCodec.smallestCompressed { result.append(sample) }
  }
  if weights.dtype == .f32 {
    add("F32", .f32) { matrix, out in
      matrix.values.withUnsafeBytes {
        // SAFETY: `out` has room for the matrix in float32, the largest of the kinds
        UnsafeMutableRawBufferPointer(start: out, count: $0.count).copyMemory(from: $0)
      }
    }
  }
  if weights.dtype != .bf16 { add("F16", .f16) { sk_encode_f16($0.values, $1, $0.values.count) } }
  if weights.dtype != .f16 { add("BF16", .bf16) { sk_encode_bf16($0.values, $1, $0.values.count) } }
  add("F8_E4M3 by channel", .f8E4M3) { byChannel($0, 448) { sk_encode_e4m3($0, $1, $2, $3) }($1) }
  add("F8_E4M3 by block", .f8E4M3, byBlock)
  add("I8 by channel", .i8) { matrix, out in
    byChannel(matrix, 127) { x, scale, out, n in
      out.withMemoryRebound(to: Int8.self, capacity: n) { sk_encode_int8(x, scale, $0, n) }
    }(out)
  }
  add("F8_E8M0 scales of 32", .f8E8M0, groupScales, ratio: 32)
  return result
}

/// Each row divided by its absmax over `largest`.
private func byChannel(
  _ matrix: Matrix, _ largest: Float,
  _ encode: @escaping (UnsafePointer<Float>, Float, UnsafeMutablePointer<UInt8>, Int) -> Void
) -> (UnsafeMutablePointer<UInt8>) -> Void {
  { out in
    matrix.values.withUnsafeBufferPointer { values in
      guard let base = values.baseAddress else { return }
      for row in 0..<matrix.rows {
        let start = base + row * matrix.columns
        let absmax = sk_absmax_f32(start, matrix.columns)
        encode(start, absmax > 0 ? absmax / largest : 1, out + row * matrix.columns, matrix.columns)
      }
    }
  }
}

/// E4M3 under a power of two for each 128 × 128 values.
private func byBlock(_ matrix: Matrix, _ out: UnsafeMutablePointer<UInt8>) {
  matrix.values.withUnsafeBufferPointer { values in
    guard let base = values.baseAddress else { return }
    for top in stride(from: 0, to: matrix.rows, by: 128) {
      let rows = top..<min(matrix.rows, top + 128)
      for left in stride(from: 0, to: matrix.columns, by: 128) {
        let width = min(128, matrix.columns - left)
        let absmax = rows.map { sk_absmax_f32(base + $0 * matrix.columns + left, width) }.max() ?? 0
        let scale = powerOfTwo(above: absmax / 448)
        for row in rows {
          let place = row * matrix.columns + left
          sk_encode_e4m3(base + place, scale, out + place, width)
        }
      }
    }
  }
}

/// The E8M0 code of each 32 values of E2M1: absmax over 6, up to a power of two.
private func groupScales(_ matrix: Matrix, _ out: UnsafeMutablePointer<UInt8>) {
  matrix.values.withUnsafeBufferPointer { values in
    guard let base = values.baseAddress else { return }
    for group in 0..<values.count / 32 {
      let scale = powerOfTwo(above: sk_absmax_f32(base + 32 * group, 32) / 6)
      out[group] = UInt8(clamping: Int(scale.exponent) + 127)
    }
  }
}

/// The smallest power of two that is not below `x`; 1 for 0.
private func powerOfTwo(above x: Float) -> Float {
  guard x >= Float.leastNormalMagnitude else { return 1 }
  return Float(sign: .plus, exponent: x.significand > 1 ? x.exponent + 1 : x.exponent, significand: 1)
}
