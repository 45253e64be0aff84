// `bench`: what a conversion does to the bytes of a weight, from memory to memory, beside copying them.

internal import CKernels
import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Measures copying memory, and the walk of a conversion over a BF16 weight that no cache holds: hashing, looking for
/// numbers that are not finite, rounding, checking, packing. Everything but files. Rates are of the source's bytes; the share is that of
/// `reads`, the rate at which one core reads memory in GB/s.
func benchConversions(seconds: Double, reads: Double) -> [BenchRow] {
  let shape: Shape = [16384, 2048]
  guard let weight = normalWeight(shape) else { return [] }
  let source = weight.values.bytes
  let copy = ByteBuffer(count: source.count)
  copy.bytes.initializeMemory(as: UInt8.self, repeating: 1)
  func rate(_ body: () -> Void) -> Double { Double(source.count) / bestTime(seconds, body) / 1e9 }
  var rows = [
    BenchRow(
      name: "memory copy", value: rate { source.withUnsafeBytes { copy.bytes.copyMemory(from: $0) } },
      unit: "GB/s of source")
  ]
  func add(_ name: String, _ body: () throws -> Void) {
    var isDone = true
    let value = rate { isDone = isDone && (try? body()) != nil }
    guard isDone else { return }
    rows.append(
      BenchRow(
        name: "convert bf16 to \(name)", value: value, unit: "GB/s of source", shareOfReads: value / reads))
  }
  let pool = BufferPool()
  for scheme: any Scheme in [
    GGUFScheme.of(.q8_0), ChannelScheme.int8, ChannelScheme.fp8, BlockScheme.fp8,
  ] {
    add(scheme.name) { try walk(weight, scheme, pool) }
  }
  add("an ingot, as it is") { try pack(weight, pool) }
  return rows
}

/// Rows of about half a MiB, as `Converter` takes them.
private func walk(_ weight: Weight, _ scheme: any Scheme, _ pool: BufferPool) throws {
  let (source, parts) = (weight.values.bytes, try scheme.resultParts(of: weight))
  let rowBytes = source.count / weight.rows
  let step = max(scheme.rowBlock, (512 << 10) / rowBytes / scheme.rowBlock * scheme.rowBlock)
  var hash = XXH64()
  for first in stride(from: 0, to: weight.rows, by: step) {
    let rows = first..<min(weight.rows, first + step)
    let target = PieceTarget(parts, rows, of: weight.rows, scheme.rowBlock, pool)
    source[rows.lowerBound * rowBytes..<rows.upperBound * rowBytes].withUnsafeBytes { hash.update($0) }
    _ = try scheme.quantize(weight, rows: rows, options: QuantizeOptions(), into: target.target(rows))
  }
}

private func pack(_ weight: Weight, _ pool: BufferPool) throws {
  guard let plain = weight.encoding as? Plain else { return }
  let source = weight.values.bytes
  let form = try FrameCodec.choose(content: source, dtype: weight.values.dtype, mode: .fast)
  let buffer = pool.take(FrameCodec.chunkBytes)
  var hash = XXH64()
  for index in 0..<FrameCodec.chunkCount(source.count) {
    let range = FrameCodec.chunkRange(index, of: source.count)
    try plain.validate(weight, bytes: range)
    let own = source[range].withUnsafeBytes { hash.updateTwice($0) }
    _ = try FrameCodec.encode(source[range], form, hash: own, into: (buffer, 0))
  }
}

/// Normal numbers of the spread that weights have; a run of them again and again, with a row's offset.
func normalWeight(_ shape: Shape) -> Weight? {
  var bits: UInt64 = 0x9E37_79B9_7F4A_7C15
  func uniform() -> Float {
    bits ^= bits << 13
    bits ^= bits >> 7
    bits ^= bits << 17
    return Float(bits >> 40) / Float(1 << 24)
  }
  // The sum of twelve uniform numbers has the variance 1.
  let run = (0..<65_537).map { _ in 0.02 * ((0..<12).reduce(Float(-6)) { sum, _ in sum + uniform() }) }
  let buffer = ByteBuffer(count: 2 * shape.count)
  for index in 0..<shape.count {
    let code = UInt16(truncatingIfNeeded: run[index % run.count].bitPattern >> 16).littleEndian
    buffer.bytes.storeBytes(of: code, toByteOffset: 2 * index, as: UInt16.self)
  }
  return try? Weight(
    name: "bench", shape: shape, encoding: Plain.bf16,
    parts: [Part(.values, dtype: .bf16, shape: shape, bytes: Bytes(buffer))])
}
