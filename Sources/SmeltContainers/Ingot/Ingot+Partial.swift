// What an interrupted run left of an ingot: files without header and index, but records of the index in a journal, or whole files
// without their names. Nothing of it is believed: records are held against the plan, then against every byte they name.
// Formats/ingot.md, section 9.

package import SmeltStorage
package import SmeltTensors

/// A weight as the plan of a conversion has it, which the records of a journal must name next.
package struct ExpectedWeight: Sendable {
  /// Its name.
  package var name: String
  /// The stable name of its encoding.
  package var encoding: String
  /// Its dimensions.
  package var shape: Shape
  /// Its layer, if it has one.
  package var layer: Int?
  /// Its expert, if it has one.
  package var expert: Int?
  /// Its parts in the encoding's order.
  package var parts: [(name: PartName, dtype: DType, shape: Shape)]
  /// Whether all parts are stored raw.
  package var isRaw: Bool
  /// What must lie in one file with it, where it is the first of that.
  package var unit: IngotUnit?

  /// A weight.
  package init(
    name: String, encoding: String, shape: Shape, layer: Int?, expert: Int?,
    parts: [(name: PartName, dtype: DType, shape: Shape)], isRaw: Bool, unit: IngotUnit?
  ) {
    self.name = name
    self.encoding = encoding
    self.shape = shape
    self.layer = layer
    self.expert = expert
    self.parts = parts
    self.isRaw = isRaw
    self.unit = unit
  }

  /// What a record has that is not the plan's, and what the plan has; nil where they agree.
  func difference(_ record: WeightRecord, position: Int) -> String? {
    if record.name != name { return "found it in the place of '\(excerpt(name))'" }
    if record.encoding != encoding {
      return "its encoding is '\(excerpt(record.encoding))', expected '\(encoding)'"
    }
    if record.shape != shape { return "is \(record.shape), expected \(shape)" }
    if record.layer != layer || record.expert != expert { return "belongs to another layer or expert" }
    if record.frames.count != parts.count {
      return "has \(record.frames.count) parts, expected \(parts.count)"
    }
    for (frame, part) in zip(record.frames, parts) {
      let what = part.name.rawValue
      guard frame.part == part.name, frame.dtype == part.dtype, frame.shape == part.shape else {
        return
          "its \(frame.part.rawValue) are \(frame.dtype) \(frame.shape), expected \(what), \(part.dtype) \(part.shape)"
      }
      guard frame.contentLength == part.dtype.byteCount(part.shape.count) else {
        return
          "its \(what) have \(frame.contentLength) bytes of content, which is not what \(part.dtype) \(part.shape) needs"
      }
      guard frame.chunks.count == 8 * FrameCodec.chunkCount(frame.contentLength) else {
        return "its \(what) have \(frame.chunks.count / 8) chunks for \(frame.contentLength) bytes of content"
      }
      guard let codec = ChunkCodec(rawValue: frame.codec), codec == .raw || !isRaw else {
        return "its \(what) have the codec \(frame.codec)"
      }
      guard frame.offset <= position, frame.storedLength <= position - frame.offset else {
        return
          "its \(what) lie at \(frame.offset) with \(frame.storedLength) bytes, beyond the \(position) of the file"
      }
    }
    return nil
  }
}

extension IngotFile {
  /// The records of one unfinished file, as a journal has them.
  /// - Throws: `RESUME_MISMATCH` for bytes that are no records.
  static func records(_ bytes: [UInt8], journal: String) throws(FormatError) -> [WeightRecord] {
    var reader = ByteReader(Bytes(bytes), file: journal, code: .resumeMismatch)
    var records: [WeightRecord] = []
    while reader.remaining > 0 {
      do throws(FormatError) {
        records.append(try WeightRecord(reading: &reader))
      } catch {
        throw FormatError(
          .resumeMismatch, file: journal, subject: error.subject, "its records: \(error.problem)")
      }
    }
    return records
  }

  /// Holds the first `position` bytes of an unfinished file against the records of its weights: by the index's own rules, every
  /// chunk against its checksum and its content's hash, every gap against zero.
  /// - Throws: `RESUME_MISMATCH` for records that make no index, or are not true of the file; `C_CHECKSUM` for bytes that are not
  ///   those that were written.
  static func checkPartial(
    _ path: String, _ records: [WeightRecord], position: Int, journal: String, _ parallel: Parallel
  ) throws {
    func mismatch(_ problem: String, _ error: FormatError? = nil) -> FormatError {
      FormatError(
        .resumeMismatch, file: error == nil ? path : journal, subject: error?.subject,
        problem + (error?.problem ?? ""))
    }
    guard pathKind(path) == .file, !isSymbolicLink(path) else { throw mismatch("is not there") }
    let mapping = try MappedFile(path: path)
    let end = records.last?.frames.last?.end ?? IngotLimits.headerBytes
    guard end == position, mapping.count >= position else {
      throw mismatch("has \(mapping.count) bytes, expected \(position), of which the records take \(end)")
    }
    var whole = IngotRecords()
    whole.weights = records
    whole.totalWeights = records.count
    whole.metadata = Array("{}".utf8)
    let bytes = whole.index
    // The index of a finished file starts where the next frame would.
    let start = IngotFrame.place(after: end, .raw, storedLength: bytes.count)
    let index: IngotIndex
    do {
      index = try IngotIndex(Bytes(bytes), start: start, file: path)
    } catch {
      throw mismatch("its records make no index: ", error)
    }
    // The header may be there or not: it is rewritten at the end.
    let part = IngotFilePart(path: path, mapping: mapping, bytes: mapping.bytes[0..<position], index: index)
    guard let error = try part.check(deep: true, parallel: parallel, progress: SilentProgress()).first?.error
    else { return }
    guard error.code == .ingotChecksum else { throw mismatch("is not true of '\(fileName(path))': ", error) }
    throw FormatError(
      error.code, file: error.file, subject: error.subject, offset: error.offset, error.problem,
      help: "the file was damaged after it was written; give --overwrite without --resume to start again")
  }

  /// Gives the files of an ingot that a run wrote whole the names that it could not give them any more, the first file's last.
  /// - Parameters:
  ///   - count: how many files there are.
  ///   - identity: what the run said of them.
  ///   - plan: the weights that they must hold, in order; parts are not looked at.
  /// - Returns: the ingot.
  /// - Throws: `RESUME_MISMATCH` when a file is not there or not that run's; `C_CHECKSUM` when one was damaged since; `RequestError`
  ///   cannot-create, io.
  package static func adopt(
    _ path: String, files count: Int, identity: String, _ plan: [ExpectedWeight], overwrite: Bool,
    parallel: Parallel
  ) throws -> IngotFile {
    guard (1...IngotLimits.fileParts).contains(count) else {
      throw FormatError(
        .resumeMismatch, file: path, "has \(count) files, expected 1 to \(IngotLimits.fileParts)")
    }
    var waiting: [(target: String, name: String, byteCount: Int)] = []
    var place = 0
    for number in 1...count {
      let name = count == 1 ? path : IngotFilePart.path(path, number, of: count)
      let target = OpenFile.path(path, number)
      let partial = FileWriter.resumablePath(target)
      let waits = pathKind(partial) == .file && !isSymbolicLink(partial)
      let location = waits ? partial : name
      guard waits || pathKind(name) == .file else {
        throw FormatError(.resumeMismatch, file: name, "is neither there nor as '\(fileName(partial))'")
      }
      let part = try IngotFilePart(path: location)
      let counts = part.index.counts
      guard hexadecimal(part.index.identity) == identity, counts.fileNumber == number,
        counts.fileCount == count
      else { throw FormatError(.resumeMismatch, file: location, "is not what the interrupted run wrote") }
      for row in 0..<counts.weights {
        let entry = part.index.entry(row)
        guard place < plan.count, entry.name == plan[place].name, entry.shape == plan[place].shape,
          entry.encodingName == plan[place].encoding
        else {
          throw FormatError(
            .resumeMismatch, file: location, subject: entry.name, "is not what the plan has there")
        }
        place += 1
      }
      if let damage = try part.check(deep: false, parallel: parallel, progress: SilentProgress()).first {
        throw damage.error
      }
      if waits { waiting.append((target, name, part.bytes.count)) }
    }
    guard place == plan.count else {
      throw FormatError(.resumeMismatch, file: path, "holds \(place) weights, the plan has \(plan.count)")
    }
    for file in waiting.reversed() {
      let writer = try FileWriter(
        resuming: file.target, at: file.byteCount, replacing: Replacement(overwrite: overwrite, .ingot))
      try writer.commit(as: file.name)
    }
    return try IngotFile(path: count == 1 ? path : IngotFilePart.path(path, 1, of: count))
  }

  /// Removes what an interrupted run left of an ingot: its unfinished files, and those of its files that have their names where
  /// others do not. What opens as an ingot stays.
  /// - Parameters:
  ///   - count: how many files have names, or would have; 0 where the run did not come so far.
  ///   - identity: what the run said of them.
  package static func discard(_ path: String, files count: Int, identity: String) {
    let folder = parentFolder(path)
    let stem = "\(fileName(path))-part"
    for name in (try? namesInFolder(folder)) ?? [] where name.hasPrefix(stem) && name.hasSuffix(".partial") {
      let digits = name.dropFirst(stem.count).dropLast(".partial".count)
      if !digits.isEmpty, digits.allSatisfy({ ("0"..."9").contains($0) }) {
        removeFile(joinPath(folder, name))
      }
    }
    removeFile(FileWriter.resumablePath(path))
    guard (2...IngotLimits.fileParts).contains(count) else { return }
    let names = (1...count).map { IngotFilePart.path(path, $0, of: count) }
    guard names.contains(where: { pathKind($0) == .nothing }) else { return }
    for name in names where pathKind(name) == .file {
      if let part = try? IngotFilePart(path: name), hexadecimal(part.index.identity) == identity {
        removeFile(name)
      }
    }
  }
}

/// What an interrupted run left of an ingot, held against the plan and against the files. Nothing was changed by that.
package struct IngotRemains: Sendable {
  let path: String
  let maxFileBytes: Int?
  fileprivate var found: [(records: [WeightRecord], position: Int)] = []

  /// Checks what a journal names.
  /// - Parameters:
  ///   - progress: what the journal says, in order.
  ///   - plan: the weights that it says are done, as the plan has them.
  ///   - journal: its path, for refusals.
  /// - Throws: `RESUME_MISMATCH` when the journal's records are not the plan's or not true of the files; `C_CHECKSUM` when a file was
  ///   damaged; `RequestError` io.
  package init(
    _ path: String, _ progress: [IngotProgress], _ plan: [ExpectedWeight], journal: String,
    maxFileBytes: Int?,
    parallel: Parallel
  ) throws {
    self.path = path
    self.maxFileBytes = maxFileBytes
    func mismatch(_ subject: String, _ problem: String) -> FormatError {
      FormatError(.resumeMismatch, file: journal, subject: subject, problem)
    }
    let last = progress.map(\.fileNumber).max() ?? 1
    for number in 1...last {
      let steps = progress.filter { $0.fileNumber == number }
      found.append(
        (
          try IngotFile.records(steps.flatMap(\.records), journal: journal),
          steps.last?.position ?? IngotLimits.headerBytes
        ))
    }
    let names = found.flatMap { $0.records.map(\.name) }
    guard names.count == plan.count else {
      throw mismatch("records", "name \(names.count) weights, of which \(plan.count) are said to be done")
    }
    var place = 0
    for (records, position) in found {
      for record in records {
        if let problem = plan[place].difference(record, position: position) {
          throw mismatch(record.name, problem)
        }
        place += 1
      }
    }
    // A file begins where this run would begin it, and nowhere else.
    place = 0
    var before = (position: IngotLimits.headerBytes, indexBytes: OpenFile.emptyIndex, isEmpty: true)
    for (number, file) in found.enumerated() {
      for (row, record) in file.records.enumerated() {
        let isFirst = row == 0 && number > 0
        let needs =
          try plan[place].unit.map { try IngotWriter.needsFile($0, after: before, limit: maxFileBytes) }
          ?? false
        guard needs == isFirst else {
          throw mismatch(
            record.name, isFirst ? "begins a file too early" : "lies in a file that has no room for it")
        }
        if isFirst { before.indexBytes = OpenFile.emptyIndex }
        before.position = record.frames.last?.end ?? before.position
        before.indexBytes += record.indexBytes
        before.isEmpty = false
        place += 1
      }
      guard number == 0 || !file.records.isEmpty else {
        throw mismatch("records", "name a file without weights")
      }
      try IngotFile.checkPartial(
        FileWriter.resumablePath(OpenFile.path(path, number + 1)), file.records, position: file.position,
        journal: journal, parallel)
    }
  }

  /// The hashes of a weight's parts, in their order, by the weight's name.
  package var contentHashes: [String: [[UInt8]]] {
    var hashes: [String: [[UInt8]]] = [:]
    for weight in found.flatMap(\.records) { hashes[weight.name] = weight.frames.map(\.contentHash) }
    return hashes
  }
}

extension IngotWriter {
  /// Resumes an ingot that another run began: its files are cut to what was checked.
  /// - Throws: `RequestError` cannot-create, io.
  package init(resuming remains: IngotRemains, overwrite: Bool) throws {
    path = remains.path
    replacement = Replacement(overwrite: overwrite, .ingot)
    maxFileBytes = remains.maxFileBytes
    isResumable = true
    isKept = true
    for (number, file) in remains.found.enumerated() {
      let open = try OpenFile(
        FileWriter(resuming: OpenFile.path(path, number + 1), at: file.position, replacing: replacement))
      for record in file.records {
        try claim(record.name, layer: record.layer, expert: record.expert, after: nil)
        open.add(record)
      }
      files.append(open)
    }
    recorded = files[files.count - 1].records.weights.count
  }
}

extension FrameCodec {
  /// The hash that a frame of some content has. Formats/ingot.md, 3.4.
  package static func contentHash(of content: Bytes) -> [UInt8] {
    var hash = SHA256()
    for number in 0..<chunkCount(content.count) {
      hash.update(content[chunkRange(number, of: content.count)].withUnsafeBytes { contentHash($0) })
    }
    return hash.digest()
  }
}
