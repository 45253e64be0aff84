// What the ingot tests share: weights with known bytes, files without ceremony, refusals as values.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writes a file at once, without the care that results deserve: thousands are written here.
func writePlainly(_ bytes: [UInt8], to path: String) throws {
  let file = try #require(fopen(path, "wb"))
  defer { fclose(file) }
  let count = bytes.withUnsafeBytes { $0.isEmpty ? 0 : fwrite($0.baseAddress!, 1, $0.count, file) }
  try #require(count == bytes.count)
}

/// Makes the checksums of index and header true of bytes that were changed.
func repairIndex(_ bytes: inout [UInt8]) {
  func number(_ at: Int, _ count: Int) -> Int {
    (0..<count).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
  }
  func put(_ value: UInt32, at place: Int) {
    for index in 0..<4 { bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
  }
  let index = number(16, 8)..<number(16, 8) + number(24, 8)
  put(bytes[index].withUnsafeBytes { CRC32C.hash($0) }, at: 32)
  put(bytes[0..<60].withUnsafeBytes { CRC32C.hash($0) }, at: 60)
}

func readPlainly(_ path: String) throws -> [UInt8] { try MappedFile(path: path).bytes.array }

/// Random bytes.
func noise(_ count: Int, seed: UInt64) -> [UInt8] {
  var generator = Generator(seed: seed)
  return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
    for start in stride(from: 0, to: count, by: 8) {
      withUnsafeBytes(of: generator.next().littleEndian) { bytes in
        for index in 0..<min(8, count - start) { buffer[start + index] = bytes[index] }
      }
    }
    filled = count
  }
}

/// 2^16 normal numbers as BF16 bits (truncated).
private let normals: [UInt16] = {
  var generator = Generator(seed: 11)
  return (0..<65536).map { _ in UInt16(truncatingIfNeeded: generator.normal(0.02).bitPattern >> 16) }
}()

/// Normal numbers as BF16, little-endian: what a trained weight looks like.
func normalBF16(_ count: Int, seed: UInt64) -> [UInt8] {
  var generator = Generator(seed: seed)
  return [UInt8](unsafeUninitializedCapacity: 2 * count) { buffer, filled in
    for start in stride(from: 0, to: count, by: 4) {
      var choice = generator.next()
      for index in start..<min(start + 4, count) {
        let bits = normals[Int(choice & 0xFFFF)]
        buffer[2 * index] = UInt8(truncatingIfNeeded: bits)
        buffer[2 * index + 1] = UInt8(bits >> 8)
        choice >>= 16
      }
    }
    filled = 2 * count
  }
}

func bf16(_ name: String, _ shape: Shape, _ bytes: [UInt8]) throws -> Weight {
  try Weight(
    name: name, shape: shape, encoding: Plain.bf16,
    parts: [Part(.values, dtype: .bf16, shape: shape, bytes: Bytes(bytes))])
}

func f32(_ name: String, _ shape: Shape, _ bytes: [UInt8]) throws -> Weight {
  try Weight(
    name: name, shape: shape, encoding: Plain.f32,
    parts: [Part(.values, dtype: .f32, shape: shape, bytes: Bytes(bytes))])
}

/// Writes weights and files as an ingot.
@discardableResult
func writeIngot(
  _ path: String, _ weights: [Weight], files: [(String, [UInt8])] = [], compression: CodecMode = .fast,
  parallel: Parallel = .serial, metadata: JSON = ["format": "ingot"]
) throws -> IngotSummary {
  var writer = try IngotWriter(path: path, overwrite: true)
  for weight in weights { try writer.write(weight, mode: compression, parallel: parallel) }
  for (name, bytes) in files { try writer.addFile(name: name, bytes: Bytes(bytes), mode: compression) }
  return try writer.finish(metadata: metadata)
}

/// How far one goes with an ingot.
enum Stage: String, CaseIterable {
  case open
  case read
  case check
  case deep
}

extension IngotFile {
  /// All damage, content hashes included.
  func damage(threads: Int = 2) throws -> [IngotDamage] {
    try check(deep: true, parallel: Parallel(threads: threads), progress: SilentProgress())
  }
}

/// Opens an ingot, reads everything, checks it, checks it deeply; says where and how it was refused, or nil.
func refusal(_ path: String) throws -> (stage: Stage, error: FormatError)? {
  var stage = Stage.open
  do {
    let ingot = try IngotFile(path: path, cacheBytes: 0)
    stage = .read
    for entry in ingot.entries { _ = try ingot.weight(entry.name) }
    for name in ingot.fileNames { _ = try ingot.file(name) }
    for (next, deep) in [(Stage.check, false), (.deep, true)] {
      stage = next
      let damage = try ingot.check(deep: deep, parallel: .serial, progress: SilentProgress())
      if let first = damage.first { return (stage, first.error) }
    }
    return nil
  } catch let error as FormatError {
    return (stage, error)
  }
}
