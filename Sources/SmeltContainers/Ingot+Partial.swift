// What an interrupted run left of a file of an ingot: no header and no index yet, but records of the index in a journal. They are
// read by the index's own rules, and every chunk they name is held against its checksum.

internal import SmeltStorage
internal import SmeltTensors

extension IngotFile {
  /// Checks the first `position` bytes of an unfinished file against the records of its weights.
  /// - Returns: the records.
  /// - Throws: `C_INDEX` for records that make no index, `C_CHECKSUM` for bytes that are not those that were written.
  static func checkPartial(_ path: String, records: [UInt8], position: Int, _ parallel: Parallel) throws
    -> [WeightRecord]
  {
    var reader = ByteReader(Bytes(records), file: path, code: .ingotIndex)
    var whole = IngotRecords()
    while reader.remaining > 0 { whole.weights.append(try WeightRecord(reading: &reader)) }
    whole.totalWeights = whole.weights.count
    whole.metadata = Array("{}".utf8)
    let bytes = whole.index
    // The index of a finished file starts where the next frame would.
    let end = whole.weights.last?.frames.last?.end ?? IngotLimits.headerBytes
    let start = IngotFrame.place(after: end, .raw, storedLength: bytes.count)
    let index = try IngotIndex(Bytes(bytes), start: start, file: path)
    let mapping = try MappedFile(path: path)
    guard mapping.count >= position, end <= position else {
      throw FormatError(
        .ingotIndex, file: path, offset: mapping.count,
        "found \(mapping.count) bytes, expected the \(max(position, end)) that the journal tells of")
    }
    try parallel.forEach(index.counts.frames) { number in
      try Interrupt.check()
      let frame = index.frame(number)
      var offset = frame.offset
      for (chunk, record) in frame.chunks.enumerated() {
        let bytes = mapping.bytes[offset..<offset + record.storedLength]
        guard bytes.withUnsafeBytes({ CRC32C.hash($0) }) == record.checksum else {
          throw FormatError(
            .ingotChecksum, file: path, subject: index.subject(number), offset: offset,
            "chunk \(chunk) is not what was written",
            help: "remove the .partial and the .journal, and start again without --resume")
        }
        offset += record.storedLength
      }
      mapping.bytes[frame.offset..<frame.end].evict()
    }
    return whole.weights
  }
}
