// Checksums of an ingot made right, so that what they guard is reached. Formats/ingot.md, sections 2 and 4.

import SmeltContainers
import SmeltStorage

/// Writes the checksums of chunks, index and header into a file that may be anything else than an ingot.
func sign(_ bytes: inout [UInt8]) {
  guard bytes.count >= 64 else { return }
  defer { put(checksum(of: bytes, 0, 60), at: 60, in: &bytes) }
  guard let index = number(bytes, 16, 8), let length = number(bytes, 24, 8), index >= 64,
    index <= bytes.count, length <= bytes.count - index
  else { return }
  defer { put(checksum(of: bytes, index, length), at: 32, in: &bytes) }
  guard length >= 128, let own = number(bytes, index + 4, 4), let others = number(bytes, index + 8, 4),
    let chunkCount = number(bytes, index + 16, 8)
  else { return }
  let chunks = index + 128 + 72 * (own + others)
  var work = 0
  for frame in 0..<min(own + others, length / 72) {
    let at = index + 128 + 72 * frame
    guard var place = number(bytes, at, 8), let content = number(bytes, at + 16, 8),
      let first = number(bytes, at + 56, 4)
    else { return }
    for chunk in 0..<min(FrameCodec.chunkCount(content), length / 8) {
      work += 1
      guard work < 10_000, first + chunk < chunkCount else { return }
      let record = chunks + 8 * (first + chunk)
      guard let word = number(bytes, record, 4), record + 8 <= bytes.count, place <= bytes.count else {
        return
      }
      let stored = word & 0x7FFF_FFFF
      guard stored <= bytes.count - place else { break }
      put(checksum(of: bytes, place, stored), at: record + 4, in: &bytes)
      place += stored
    }
  }
}

/// A little-endian number, or nil when it does not lie in the file or is no place in any file.
private func number(_ bytes: [UInt8], _ at: Int, _ count: Int) -> Int? {
  guard at >= 0, at <= bytes.count - count else { return nil }
  let value = bytes[at..<at + count].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
  return value < 1 << 62 ? Int(value) : nil
}

private func checksum(of bytes: [UInt8], _ start: Int, _ count: Int) -> UInt32 {
  bytes.withUnsafeBytes { CRC32C.hash(UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
}

private func put(_ value: UInt32, at place: Int, in bytes: inout [UInt8]) {
  for index in 0..<4 { bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(index))) }
}
