// What an interrupted run left of an ingot: no header and no index yet, but records of the index in a journal. They are read
// by the index's own rules, and every chunk they name is held against its checksum.

internal import SmeltStorage
internal import SmeltTensors

extension IngotFile {
  /// Checks the first `position` bytes of an unfinished ingot against the records of its weights.
  /// - Throws: `C_INDEX` for records that make no index, `C_CHECKSUM` for bytes that are not those that were written.
  static func checkPartial(
    _ path: String, records: [UInt8], count: Int, position: Int, _ parallel: Parallel
  ) throws {
    var whole: [UInt8] = []
    whole.append(littleEndian: UInt32(count))
    whole += records
    whole.append(littleEndian: UInt32(2))
    whole += Array("{}".utf8)
    // The index of a finished ingot starts where the next frame would.
    let start = IngotFrame.place(after: position, .raw, storedLength: whole.count)
    let index = try IngotIndex(Bytes(whole), start: start, file: path)
    let mapping = try MappedFile(path: path)
    guard mapping.count >= position else {
      throw FormatError(
        .ingotIndex, file: path, offset: mapping.count,
        "found \(mapping.count) bytes, expected the \(position) that the journal tells of")
    }
    try parallel.forEach(index.frames.count) { number in
      try Interrupt.check()
      let (subject, frame) = index.frames[number]
      var offset = frame.offset
      for (chunk, record) in frame.chunks.enumerated() {
        let bytes = mapping.bytes[offset..<offset + record.storedLength]
        guard bytes.withUnsafeBytes({ xxh64($0) }) == record.checksum else {
          throw FormatError(
            .ingotChecksum, file: path, subject: subject, offset: offset,
            "chunk \(chunk) is not what was written",
            help: "remove the .partial and the .journal, and start again without --resume")
        }
        offset += record.storedLength
      }
      mapping.bytes[frame.offset..<frame.end].evict()
    }
  }
}
