// Writing an ingot: frames in the order they come, then the index, then the header that makes the file valid.
// Formats/ingot.md, sections 2 to 5.

public import SmeltStorage
public import SmeltTensors

/// What was written.
public struct IngotSummary: Sendable, Hashable {
  /// The file's size.
  public let byteCount: Int
  /// SHA-256 of the index, which holds a checksum of every stored byte; lower-case hexadecimal.
  public let contentHash: String
  /// Bytes of content, before compression.
  public let contentBytes: Int
  /// The number of weights.
  public let weightCount: Int
}

/// An ingot being written beside its target. Dropping it without `finish` leaves nothing.
///
/// Calls come in the order `beginWeight`, for each part `beginPart`, `append` …, `endPart`, then `endWeight`; `write` does all of it
/// for a weight in memory. `addFile` may come between weights. The frames lie in the file in the order of the calls.
public struct IngotWriter: ~Copyable {
  private var file: FileWriter
  private var index: [UInt8] = []
  private var entryCount = 0
  private var contentBytes = 0
  private var weightNames: Set<String> = []
  private var fileNames: Set<String> = []
  private var weight: PendingWeight?
  private var part: PendingPart?
  /// Bytes of the index that `takeRecords` has handed over.
  private var recorded = 0

  /// Starts an ingot.
  /// - Parameter isResumable: whether another run may go on with it.
  /// - Throws: `RequestError` cannot-create when `path` exists and `overwrite` is false, or its folder is not writable.
  public init(path: String, overwrite: Bool, isResumable: Bool = false) throws {
    var started = try FileWriter(path: path, overwrite: overwrite, isResumable: isResumable)
    // Zeros until the end: a file that was never finished has no header.
    try started.write([UInt8](repeating: 0, count: IngotLimits.headerBytes))
    file = started
  }

  /// The place of the next byte: what the file holds so far.
  public var position: Int { file.position }

  // MARK: going on

  /// Goes on with an ingot that another run began: the records that it handed over, and the bytes behind them, which are
  /// read and held against their checksums.
  /// - Throws: `RequestError` cannot-create, io; `C_INDEX`, `C_CHECKSUM` when the file does not hold what the records say.
  public init(
    resuming path: String, records: [UInt8], weights: [String], position: Int, contentBytes: Int,
    overwrite: Bool, parallel: Parallel
  ) throws {
    try IngotFile.checkPartial(
      FileWriter.resumablePath(path), records: records, count: weights.count, position: position, parallel)
    file = try FileWriter(resuming: path, at: position, overwrite: overwrite)
    index = records
    recorded = records.count
    entryCount = weights.count
    weightNames = Set(weights)
    self.contentBytes = contentBytes
  }

  /// The index records of all weights that ended since the last call, once their bytes are on the disk, and the bytes of
  /// content so far. From the first call on, the unfinished file stays when the writer is dropped.
  /// - Throws: `RequestError` io.
  public mutating func takeRecords() throws -> (records: [UInt8], contentBytes: Int) {
    precondition(weight == nil, "a weight has not ended")
    try file.sync()
    file.keepPartial()
    defer { recorded = index.count }
    return (Array(index[recorded...]), contentBytes)
  }

  // MARK: weights

  /// Starts a weight of the given dimensions. `encoding` is a stable name of `Encodings`.
  /// - Throws: `C_INDEX` when the name is not one that ingots hold or stands in the file already.
  public mutating func beginWeight(name: String, shape: Shape, encoding: String) throws {
    precondition(weight == nil, "'\(weight?.name ?? "")' has not ended")
    if let problem = IngotLimits.nameProblem(name, limit: IngotLimits.weightNameBytes) {
      throw FormatError(.ingotIndex, subject: name, problem)
    }
    guard weightNames.insert(name).inserted else {
      throw FormatError(.ingotIndex, subject: name, "would stand twice in the ingot")
    }
    guard let known = Encodings.named(encoding) else {
      preconditionFailure("'\(encoding)' is no encoding")
    }
    let layouts = try known.layout(of: shape, name: name)
    index.append(IngotLimits.weightKind)
    index.append(string: name)
    index.append(string: encoding)
    index.append(shape: shape)
    index.append(UInt8(layouts.count))
    weight = PendingWeight(name: name, layouts: layouts)
    entryCount += 1
  }

  /// Starts the weight's next part, in the order of its encoding.
  public mutating func beginPart(_ name: PartName, dtype: DType, shape: Shape, form: FrameForm) throws {
    guard var weight, part == nil, !weight.layouts.isEmpty else {
      preconditionFailure("no part may begin here")
    }
    let layout = weight.layouts.removeFirst()
    precondition(
      layout.name == name && layout.dtypes.contains(dtype) && layout.shape == shape,
      "'\(weight.name)' needs \(layout), found \(name) \(dtype) \(shape)")
    guard let contentLength = dtype.byteCount(shape.count) else {
      preconditionFailure("\(dtype) \(shape) is no whole number of bytes")
    }
    self.weight = weight
    index.append(string: name.rawValue)
    index.append(string: dtype.rawValue)
    index.append(shape: shape)
    try beginFrame(form, contentLength: contentLength)
  }

  /// Adds the part's next chunk, made by `FrameCodec.encode` from the next `FrameCodec.chunkBytes` of content.
  /// - Throws: `RequestError` io when the disk is full.
  public mutating func append(_ chunk: EncodedChunk) throws {
    guard var part else { preconditionFailure("no part has begun") }
    let expected = FrameCodec.chunkRange(part.chunkCount, of: part.contentLength).count
    precondition(
      part.openBytes == 0 && chunk.contentCount == expected && chunk.contentCount > 0,
      "the next chunk has \(expected) bytes of content, found \(chunk.contentCount)")
    precondition(chunk.isRaw || part.form.storage == .zstd, "a raw frame has raw chunks")
    try chunk.stored.withUnsafeBytes { try file.write($0) }
    part.add(
      storedLength: chunk.stored.count, isRaw: chunk.isRaw, checksum: chunk.checksum,
      contentChecksum: chunk.contentChecksum, contentCount: chunk.contentCount)
    self.part = part
  }

  /// Adds content to a part whose form is raw, in pieces of any size.
  /// - Throws: `RequestError` io when the disk is full.
  public mutating func append(content: UnsafeRawBufferPointer) throws {
    guard var part, part.form.storage == .raw else { preconditionFailure("no raw part has begun") }
    precondition(content.count <= part.contentLength - part.contentCount - part.openBytes, "too much content")
    try file.write(content)
    var rest = content[...]
    while !rest.isEmpty {
      let chunkLength = FrameCodec.chunkRange(part.chunkCount, of: part.contentLength).count
      let piece = rest.prefix(chunkLength - part.openBytes)
      part.openHash.update(UnsafeRawBufferPointer(rebasing: piece))
      part.openBytes += piece.count
      rest = rest.dropFirst(piece.count)
      if part.openBytes == chunkLength {
        let checksum = part.openHash.value()
        part.add(
          storedLength: chunkLength, isRaw: true, checksum: checksum, contentChecksum: checksum,
          contentCount: chunkLength)
        part.openHash = XXH64()
        part.openBytes = 0
      }
    }
    self.part = part
  }

  /// Ends the part, whose content must be complete.
  public mutating func endPart() throws {
    precondition(weight != nil, "no part has begun")
    endFrame()
  }

  /// Ends the weight, whose parts must be complete.
  public mutating func endWeight() {
    precondition(part == nil && weight?.layouts.isEmpty == true, "the weight lacks a part")
    weight = nil
  }

  /// Writes a whole weight from memory or from a mapping: chooses each part's form, compresses its chunks in parallel.
  /// - Parameter name: the name in the ingot; the weight's own when nil.
  /// - Throws: `C_INDEX` for a name that ingots do not hold; `RequestError` io when the disk is full.
  public mutating func write(
    _ weight: Weight, name: String? = nil, compression: Compression, parallel: Parallel = .serial
  ) throws {
    try beginWeight(name: name ?? weight.name, shape: weight.shape, encoding: weight.encoding.name)
    for part in weight.parts {
      let form = try FrameCodec.choose(content: part.bytes, dtype: part.dtype, compression: compression)
      try beginPart(part.name, dtype: part.dtype, shape: part.shape, form: form)
      let bytes = part.bytes
      try parallel.ordered(FrameCodec.chunkCount(bytes.count)) { index in
        try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form)
      } consume: { chunk in
        try append(chunk)
      }
      try endPart()
    }
    endWeight()
  }

  // MARK: files

  /// Adds a small file: config.json, tokenizer.json, ledger.json.
  /// - Throws: `C_INDEX` when the name is no bare file name or stands in the ingot already; `C_BOMB` when the file is
  ///   larger than 1 GiB.
  public mutating func addFile(name: String, bytes: Bytes, compression: Compression) throws {
    precondition(weight == nil, "a file may not come inside a weight")
    if let problem = IngotLimits.fileNameProblem(name) {
      throw FormatError(.ingotIndex, subject: name, problem)
    }
    guard fileNames.insert(name).inserted else {
      throw FormatError(.ingotIndex, subject: name, "would stand twice in the ingot")
    }
    guard bytes.count <= IngotLimits.fileBytes else {
      throw FormatError(.ingotBomb, subject: name, "has \(bytes.count) bytes, expected at most 2^30")
    }
    var form = try FrameCodec.choose(content: bytes, dtype: .u8, compression: compression)
    var chunks = try encodeAll(bytes, form)
    if ceilDivide(bytes.count, IngotLimits.fileRatio) > chunks.reduce(0, { $0 + $1.stored.count }) {
      form = .raw  // I28: readers refuse what compresses too well.
      chunks = try encodeAll(bytes, form)
    }
    index.append(IngotLimits.fileKind)
    index.append(string: name)
    entryCount += 1
    try beginFrame(form, contentLength: bytes.count)
    for chunk in chunks { try append(chunk) }
    endFrame()
  }

  private func encodeAll(_ bytes: Bytes, _ form: FrameForm) throws -> [EncodedChunk] {
    try (0..<FrameCodec.chunkCount(bytes.count)).map { index in
      try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form)
    }
  }

  // MARK: frames

  private mutating func beginFrame(_ form: FrameForm, contentLength: Int) throws {
    // A zstd frame's stored length is not known yet, and not needed: its alignment does not depend on it.
    try file.pad(to: IngotFrame.alignment(form.storage, storedLength: contentLength))
    part = PendingPart(form: form, offset: file.position, contentLength: contentLength)
  }

  private mutating func endFrame() {
    guard let part else { preconditionFailure("no frame has begun") }
    precondition(
      part.contentCount == part.contentLength,
      "the frame has \(part.contentCount) bytes, expected \(part.contentLength)")
    index.append(littleEndian: UInt64(part.offset))
    index.append(littleEndian: UInt64(part.storedLength))
    index.append(littleEndian: UInt64(part.contentLength))
    index.append(littleEndian: part.contentHash.value())
    index.append(part.form.storage.rawValue)
    index.append(part.form.transform.rawValue)
    index.append(littleEndian: UInt16(0))
    index += part.chunkRecords
    contentBytes += part.contentLength
    self.part = nil
  }

  // MARK: the end

  /// Writes index and header and gives the file its name.
  /// - Parameter metadata: an object: format, tool version, family, provenance. Formats/ingot.md, 4.6.
  /// - Throws: `C_INDEX` when the metadata is over 16 MiB; `RequestError` io or cannot-create.
  public consuming func finish(metadata: JSON) throws -> IngotSummary {
    precondition(weight == nil && part == nil, "the last weight has not ended")
    precondition(metadata.object != nil, "the metadata must be an object")
    let text = Array(metadata.text().utf8)
    guard text.count <= IngotLimits.metadataBytes else {
      throw FormatError(.ingotIndex, subject: "metadata", "has \(text.count) bytes, expected at most 2^24")
    }
    var whole: [UInt8] = []
    whole.reserveCapacity(index.count + text.count + 8)
    whole.append(littleEndian: UInt32(entryCount))
    whole += index
    whole.append(littleEndian: UInt32(text.count))
    whole += text
    try file.pad(to: IngotFrame.alignment(.raw, storedLength: whole.count))
    let offset = file.position
    try file.write(whole)
    let header = IngotHeader(
      indexOffset: offset, indexLength: whole.count, indexChecksum: whole.withUnsafeBytes { xxh64($0) })
    try file.write(header.bytes, at: 0)
    let summary = IngotSummary(
      byteCount: file.position, contentHash: SHA256.hex(Bytes(whole)), contentBytes: contentBytes,
      weightCount: weightNames.count)
    try file.commit()
    return summary
  }
}

extension FrameCodec {
  /// How a frame with this content is stored; looks at its first chunk.
  public static func choose(content: Bytes, dtype: DType, compression: Compression) throws -> FrameForm {
    try content[0..<min(content.count, chunkBytes)].withUnsafeBytes {
      try choose(sample: $0, dtype: dtype, compression: compression)
    }
  }
}

private struct PendingWeight {
  let name: String
  var layouts: [PartLayout]
}

/// A frame that is being written.
private struct PendingPart {
  let form: FrameForm
  let offset: Int
  let contentLength: Int
  var storedLength = 0
  var contentCount = 0
  var chunkCount = 0
  var chunkRecords: [UInt8] = []
  var contentHash = XXH64()
  /// The chunk that pieces of content are filling.
  var openHash = XXH64()
  var openBytes = 0

  init(form: FrameForm, offset: Int, contentLength: Int) {
    self.form = form
    self.offset = offset
    self.contentLength = contentLength
  }

  mutating func add(
    storedLength: Int, isRaw: Bool, checksum: UInt64, contentChecksum: UInt64, contentCount: Int
  ) {
    chunkRecords.append(littleEndian: UInt32(storedLength) | (isRaw ? IngotLimits.rawBit : 0))
    chunkRecords.append(littleEndian: checksum)
    withUnsafeBytes(of: contentChecksum.littleEndian) { contentHash.update($0) }
    self.storedLength += storedLength
    self.contentCount += contentCount
    chunkCount += 1
  }
}
