// The end of an ingot's writing: index, header, names. And what a run that is stopped before that leaves to the next one.
// Formats/ingot.md, sections 2 and 9.

package import SmeltStorage
internal import SmeltTensors

/// What a journal keeps of an ingot that is being written.
package struct IngotProgress: Sendable {
  /// Records of the weights that ended since the last call; for the writer that resumes.
  package var records: [UInt8]
  /// The number of the file that they lie in, from 1.
  package var fileNumber: Int
  /// Where that file ends.
  package var position: Int

  /// What a journal said.
  package init(records: [UInt8], fileNumber: Int, position: Int) {
    self.records = records
    self.fileNumber = fileNumber
    self.position = position
  }
}

/// Weights that must lie in one file: the matrices of one expert, or one matrix that belongs to none.
package struct IngotUnit: Sendable {
  /// The first weight's name.
  package var name: String
  /// Bytes of all parts, before compression.
  package var contentBytes: Int
  /// The number of parts.
  package var frames: Int

  /// A unit.
  package init(name: String, contentBytes: Int, frames: Int) {
    self.name = name
    self.contentBytes = contentBytes
    self.frames = frames
  }
}

extension IngotWriter {
  /// From here on the unfinished files stay when the writer is dropped: a journal names them.
  package mutating func keep() {
    for file in files { file.keepPartial() }
    isKept = true
  }

  /// Gives up what was written: the unfinished files go when the writer is dropped.
  package mutating func discard() {
    for file in files { file.dropPartial() }
    isKept = false
  }

  private var fileNames: [String] {
    (1...files.count).map { files.count == 1 ? path : IngotFilePart.path(path, $0, of: files.count) }
  }

  /// What ended since the last call, once its bytes are on the disk.
  /// - Throws: `RequestError` io.
  package mutating func takeProgress() throws -> IngotProgress {
    precondition(weight == nil, "a weight has not ended")
    let file = files[files.count - 1]
    try file.sync()
    var bytes: [UInt8] = []
    for weight in file.records.weights[recorded...] { weight.journal(into: &bytes) }
    recorded = file.records.weights.count
    return IngotProgress(records: bytes, fileNumber: files.count, position: file.position)
  }

  /// Writes index and header and gives the files their names.
  /// - Throws: as `complete` and `commit`.
  package consuming func finish(metadata: JSON) throws -> IngotSummary {
    let summary = try complete(metadata: metadata)
    try commit()
    return summary
  }

  /// Writes index and header of all files and brings them to the disk: they are whole, and have no names yet.
  /// - Parameter metadata: an object: format, tool version, family, provenance. Formats/ingot.md, 4.9.
  /// - Throws: `C_INDEX` when the metadata is over 16 MiB; `RequestError` io; cannot-create when a name is taken.
  package mutating func complete(metadata: JSON) throws -> IngotSummary {
    precondition(weight == nil && part == nil, "the last weight has not ended")
    precondition(metadata.object != nil, "the metadata must be an object")
    let text = Array(metadata.text().utf8)
    guard text.count <= IngotLimits.metadataBytes else {
      throw FormatError(.ingotIndex, subject: "metadata", "has \(text.count) bytes, expected at most 2^24")
    }
    let hash = IngotRecords.contentHash(files.map(\.records))
    var identity = SHA256()
    for file in files { file.records.describeFrames(to: &identity) }
    let names = fileNames
    for name in names { try requireCreatable(name, replacing: replacement) }
    let prefix = Array(identity.digest()[..<16])
    for (place, file) in files.enumerated() {
      file.records.fileNumber = place + 1
      file.records.fileCount = files.count
      file.records.totalWeights = self.names.count
      file.records.contentHash = hash
      file.records.identity = prefix
      file.records.metadata = text
      try file.finish()
    }
    return IngotSummary(
      byteCount: writtenBytes, contentHash: hexadecimal(hash),
      contentBytes: files.reduce(0) { $0 + $1.contentBytes }, weightCount: self.names.count, files: names,
      identity: hexadecimal(prefix))
  }

  /// Gives the files their names, the first file's last: no name opens the ingot before all are there. Where the system refuses
  /// one, what another run can resume stays, and of anything else nothing does.
  /// - Throws: `RequestError` io, cannot-create.
  package consuming func commit() throws {
    var renamed: [String] = []
    do {
      for (file, name) in zip(files, fileNames).reversed() {
        try file.commit(as: name)
        renamed.append(name)
      }
    } catch {
      if !isKept { for name in renamed { removeFile(name) } }
      throw error
    }
  }
}
