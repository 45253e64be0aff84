// Adding a note to an ingot that is there: a report, once it was verified. Formats/ingot.md, section 7.

package import SmeltStorage
internal import SmeltTensors

extension IngotFile {
  /// Adds a file about the ingot, or replaces the one of that name, without moving a weight: the new note and a new index go
  /// behind the old index, then the header is written over. The content hash stays what it was.
  /// - Throws: `C_INDEX` when the name is no bare file name; `SRC_CHANGED`; `RequestError` cannot-create, io.
  package func seal(name: String, bytes: Bytes) throws {
    if let problem = IngotLimits.noteNameProblem(name) {
      throw FormatError(.ingotIndex, subject: name, problem)
    }
    guard !fileNames.contains(name) else {
      throw FormatError(.ingotIndex, subject: name, "is a file of the model, and no note")
    }
    let (path, size, tail, head) = try patch(name: name, bytes: bytes)
    try patchFile(path, byteCount: size, tail: tail, head: head)
  }

  /// What `seal` writes, and where.
  func patch(name: String, bytes: Bytes) throws -> (path: String, size: Int, tail: [UInt8], head: [UInt8]) {
    let holder = parts.last { part in part.index.others.contains { $0.kind == .note && $0.name == name } }
    let part = holder ?? parts[parts.count - 1]
    var records = IngotRecords(reading: part.index)
    for place in records.others.indices where records.others[place].name == name {
      records.others[place].kind = .retired
      records.others[place].name = ""
    }
    var tail: [UInt8] = []
    func append(_ kind: OtherRecord.Kind, _ name: String, at offset: Int, _ form: ChunkForm, _ content: Bytes)
      throws
      -> [UInt8]
    {
      var record = FrameRecord(offset: offset, contentLength: content.count, codec: form.codec.rawValue)
      var (hash, stored) = (SHA256(), [UInt8]())
      for number in 0..<FrameCodec.chunkCount(content.count) {
        let chunk = try FrameCodec.encode(content[FrameCodec.chunkRange(number, of: content.count)], form)
        record.add(chunk)
        hash.update(chunk.contentHash)
        stored += chunk.stored.array
      }
      record.contentHash = hash.digest()
      records.others.append(OtherRecord(kind: kind, name: name, frame: record))
      return stored
    }
    let end = part.bytes.count
    _ = try append(.retired, "", at: part.index.start, .raw, part.index.bytes)
    var form = try FrameCodec.choose(content: bytes, dtype: .u8, mode: .small)
    // I28: what compresses too well is stored raw.
    if ceilDivide(bytes.count, IngotLimits.fileRatio) > 64 { form = .raw }
    let offset = IngotFrame.place(after: end, form.codec, storedLength: bytes.count)
    tail += [UInt8](repeating: 0, count: offset - end)
    tail += try append(.note, name, at: offset, form, bytes)
    let index = records.index
    let start = IngotFrame.place(after: end + tail.count, .raw, storedLength: index.count)
    tail += [UInt8](repeating: 0, count: start - end - tail.count) + index
    return (part.path, end, tail, IngotHeader(indexOffset: start, index: index).bytes)
  }
}

extension FrameRecord {
  /// Adds a chunk's record.
  mutating func add(_ chunk: EncodedChunk) {
    chunks.append(littleEndian: UInt32(chunk.stored.count) | (chunk.isRaw ? IngotLimits.rawBit : 0))
    chunks.append(littleEndian: chunk.checksum)
    storedLength += chunk.stored.count
  }
}
