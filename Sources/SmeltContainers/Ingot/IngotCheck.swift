// Verifying an ingot whole: every stored byte, and what it stands for. All damage is named, not the first alone.
// Formats/ingot.md, section 8.

package import SmeltStorage

/// Damage in one part of one weight, in one small file or in padding.
package struct IngotDamage: Sendable {
  /// What is wrong first, with its code, file, place and the name of the weight or file.
  package let error: FormatError
  /// The weight, or nil where it is a file or padding.
  package let weight: String?
  /// The weight's layer, if it belongs to one.
  package let layer: Int?
  /// The weight's expert, if it belongs to one.
  package let expert: Int?
  /// The damaged chunks; empty where it is not a chunk that is damaged.
  package let chunks: [Int]
}

extension IngotFile {
  /// Verifies every stored byte: the checksum of every chunk, and that the gaps between frames are zero.
  /// - Parameters:
  ///   - deep: also inflates everything and holds it against the content hashes.
  ///   - progress: gets one stage, counted in stored bytes.
  /// - Returns: all damage, in the order of the file.
  /// - Throws: `RequestError` interrupted.
  package func check(deep: Bool, parallel: Parallel, progress: any ProgressReporter) throws -> [IngotDamage] {
    var damage: [IngotDamage] = []
    progress.begin("checking", total: byteCount, unit: "bytes")
    for part in parts {
      damage += try part.check(deep: deep, parallel: parallel, progress: progress)
    }
    progress.end()
    let found = hexadecimal(IngotRecords.contentHash(parts.map { IngotRecords(reading: $0.index) }))
    if found != contentHash {
      damage.append(
        IngotDamage(
          error: FormatError(
            .ingotHash, file: path, subject: "content hash", offset: parts[0].index.start + 80,
            "the hashes of weights and files make \(found), expected \(contentHash)"), weight: nil,
          layer: nil,
          expert: nil, chunks: []))
    }
    return damage
  }
}

extension IngotFilePart {
  /// Verifies every stored byte up to the index.
  func check(deep: Bool, parallel: Parallel, progress: any ProgressReporter) throws
    -> [IngotDamage]
  {
    var work: [(frame: Int, chunks: Range<Int>)] = []
    for row in 0..<index.counts.frames {
      let count = index.frame(row).chunkCount
      // A frame of one step is hashed by the thread that reads it; an empty one has a hash too.
      for start in stride(from: 0, to: max(count, 1), by: IngotFilePart.step) {
        work.append((row, start..<min(count, start + IngotFilePart.step)))
      }
    }
    let items = work
    let batches = batches(items)
    var findings = Findings(file: path, deep: deep)
    try parallel.ordered(batches.count) { [self] number -> [CheckedChunks] in
      try batches[number].map {
        try checkChunks(index.frame(items[$0].frame), items[$0].chunks, deep: deep)
      }
    } consume: { results in
      try Interrupt.check()
      for result in results {
        progress.advance(result.byteCount)
        findings.add(result)
      }
    }
    let found = findings.found
    let owners = found.isEmpty ? [] : owners()
    var damage = found.keys.sorted().map { row -> IngotDamage in
      let entry = owners.indices.contains(row) ? index.entry(owners[row]) : nil
      return IngotDamage(
        error: found[row]!.error, weight: entry?.name, layer: entry?.layer, expert: entry?.expert,
        chunks: found[row]!.chunks)
    }
    damage += checkGaps().map { IngotDamage(error: $0, weight: nil, layer: nil, expert: nil, chunks: []) }
    return damage
  }

  /// Work that is handed over at once: a step of a large frame, small frames by the hundred, since handing one over costs more
  /// than reading it takes.
  private func batches(_ items: [(frame: Int, chunks: Range<Int>)]) -> [Range<Int>] {
    var batches: [Range<Int>] = []
    var (start, bytes) = (0, 0)
    for place in items.indices {
      bytes += index.frame(items[place].frame).storedLength
      guard bytes >= 1 << 20 || place - start >= 1023 || place == items.count - 1 else { continue }
      batches.append(start..<place + 1)
      (start, bytes) = (place + 1, 0)
    }
    return batches
  }

  /// What a check found so far, by frame, and the hash of the frame it is in.
  private struct Findings {
    let file: String
    let deep: Bool
    var found: [Int: (error: FormatError, chunks: [Int])] = [:]
    private var hash = SHA256()

    init(file: String, deep: Bool) {
      self.file = file
      self.deep = deep
    }

    mutating func add(_ result: CheckedChunks) {
      let frame = result.frame
      if let error = result.error {
        let before = found[frame.row]
        found[frame.row] = (before?.error ?? error, (before?.chunks ?? []) + result.damaged)
      }
      guard deep else { return }
      if result.range.lowerBound == 0 { hash = SHA256() }
      hash.update(result.hashes)
      guard result.range.upperBound == frame.chunkCount, found[frame.row] == nil else { return }
      let digest = hash.digest()
      let expected = frame.contentHash
      guard digest != expected else { return }
      let problem = "its content has the hash \(hexadecimal(digest)), expected \(hexadecimal(expected))"
      found[frame.row] = (
        FormatError(
          .ingotHash, file: file, subject: frame.index.subject(frame.row), offset: frame.offset, problem), []
      )
    }
  }

  /// The weight of each frame of a weight.
  private func owners() -> [Int] {
    (0..<index.counts.weights).flatMap { row in
      [Int](repeating: row, count: Int(index.byte(index.weight(row) + 7)))
    }
  }

  private struct CheckedChunks: Sendable {
    let frame: IngotFrame
    let range: Range<Int>
    var byteCount = 0
    var hashes: [UInt8] = []
    var damaged: [Int] = []
    var error: FormatError?
  }

  private func checkChunks(_ frame: IngotFrame, _ range: Range<Int>, deep: Bool) throws -> CheckedChunks {
    var result = CheckedChunks(frame: frame, range: range)
    var offset = frame.offset
    for number in 0..<range.lowerBound { offset += frame.chunk(number).storedLength }
    let start = offset
    let buffer = deep && frame.codec != .raw ? ByteBuffer(count: FrameCodec.chunkBytes) : nil
    for number in range {
      let chunk = frame.chunk(number)
      let piece = Piece(
        number: number, chunk: chunk, stored: bytes[offset..<offset + chunk.storedLength], offset: offset,
        content: FrameCodec.chunkRange(number, of: frame.contentLength))
      offset += chunk.storedLength
      do {
        // Verified whatever was verified before: a check reads every byte that it speaks for.
        try verify(piece, frame)
        verified.finish(frame.firstChunk + number)
        // SAFETY: a chunk has at most the bytes of a chunk, which the buffer has.
        if let buffer {
          let content = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[0..<piece.content.count])
          try inflate(piece, frame, into: content)
          result.hashes += FrameCodec.contentHash(UnsafeRawBufferPointer(content))
        } else if deep {
          result.hashes += piece.stored.withUnsafeBytes { FrameCodec.contentHash($0) }
        }
      } catch let error as FormatError {
        result.error = result.error ?? error
        result.damaged.append(number)
      }
    }
    result.byteCount = offset - start
    if result.byteCount >= 1 << 20 { bytes[start..<offset].evict() }
    return result
  }

  /// Rule I10: one error for each gap that is not zero.
  private func checkGaps() -> [FormatError] {
    var errors: [FormatError] = []
    var end = IngotLimits.headerBytes
    for row in 0...index.counts.frames {
      // A file that is being written ends before the place of its index.
      let start = row < index.counts.frames ? index.frame(row).offset : min(index.start, bytes.count)
      let next = row < index.counts.frames ? index.frame(row).end : start
      defer { end = next }
      let place = bytes[end..<start].withUnsafeBytes { gap in gap.firstIndex { $0 != 0 } }
      guard let place else { continue }
      errors.append(
        FormatError(
          .ingotChecksum, file: path, subject: "padding", offset: end + place,
          "found a byte between two frames that is not zero"))
    }
    return errors
  }
}

extension IngotRecords {
  /// The records of an index that was read.
  init(reading index: IngotIndex) {
    for row in 0..<index.counts.weights { weights.append(WeightRecord(index.entry(row), in: index)) }
    for other in index.others {
      others.append(
        OtherRecord(
          kind: other.kind, name: other.name, frame: FrameRecord(index.frame(other.frame), in: index)))
    }
    fileNumber = index.counts.fileNumber
    fileCount = index.counts.fileCount
    totalWeights = index.counts.totalWeights
    contentHash = index.contentHash
    identity = index.identity
    metadata = index.bytes[index.places.metadata..<index.places.end].array
  }
}

extension FrameRecord {
  /// The record of a frame of an index that was read.
  init(_ frame: IngotFrame, in index: IngotIndex) {
    let chunks = index.places.chunks + 8 * frame.firstChunk
    self.init(
      offset: frame.offset, storedLength: frame.storedLength, contentLength: frame.contentLength,
      contentHash: frame.contentHash, codec: frame.codec.rawValue, dtype: frame.dtype, part: frame.part,
      shape: frame.shape, chunks: index.bytes[chunks..<chunks + 8 * frame.chunkCount].array)
  }
}

extension WeightRecord {
  /// The record of a weight of an index that was read.
  init(_ entry: IngotEntry, in index: IngotIndex) {
    self.init(
      name: entry.name, encoding: entry.encodingName, shape: entry.shape, layer: entry.layer,
      expert: entry.expert, frames: entry.parts.map { FrameRecord($0.frame, in: index) })
  }
}
