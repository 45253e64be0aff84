// Writing an ingot: frames in the order they come, then the index, then the header that makes the file valid.
// Formats/ingot.md, sections 2 to 6.

package import SmeltStorage
package import SmeltTensors

/// What was written.
package struct IngotSummary: Sendable, Hashable {
  /// The size of all files.
  package let byteCount: Int
  /// SHA-256 of what the ingot holds, however it is stored; lower-case hexadecimal.
  package let contentHash: String
  /// Bytes of content, before compression.
  package let contentBytes: Int
  /// The number of weights.
  package let weightCount: Int
  /// The files.
  package let files: [String]
  /// What tells its files from those of another conversion of the same model; lower-case hexadecimal. Formats/ingot.md, section 6.
  package let identity: String
}

/// An ingot being written beside its target. Dropping it without `finish` leaves nothing.
///
/// Calls come in the order `beginWeight`, for each part `beginPart`, `append` …, `endPart`, then `endWeight`; `write` does all of it
/// for a weight in memory. `addFile` and `addNote` come after the weights. The frames lie in the file in the order of the calls.
package struct IngotWriter: ~Copyable {
  let path: String
  let replacement: Replacement
  let isResumable: Bool
  let maxFileBytes: Int?
  var files: [OpenFile] = []
  var names: Set<String> = []
  var experts: Set<ExpertPlace> = []
  var weight: PendingWeight?
  var part: PendingPart?
  /// Weights of the last file that `takeProgress` has handed over.
  var recorded = 0
  /// Whether the unfinished files stay when the writer is dropped.
  var isKept = false

  /// Starts an ingot.
  /// - Parameters:
  ///   - isResumable: whether another run may go on with it.
  ///   - maxFileBytes: the most bytes of one file; nil: one file. Several are named `x-00001-of-00003.ingot`.
  /// - Throws: `RequestError` cannot-create when `path` exists and `overwrite` is false, or its folder is not writable.
  package init(path: String, overwrite: Bool, isResumable: Bool = false, maxFileBytes: Int? = nil) throws {
    try self.init(
      path: path, replacing: Replacement(overwrite: overwrite, .ingot), isResumable: isResumable,
      maxFileBytes: maxFileBytes)
  }

  /// Starts an ingot that may take the place of what is said.
  /// - Throws: as above.
  package init(
    path: String, replacing replacement: Replacement, isResumable: Bool = false, maxFileBytes: Int? = nil
  ) throws {
    self.path = path
    self.replacement = replacement
    self.isResumable = isResumable
    self.maxFileBytes = maxFileBytes
    try begin()
  }

  /// The place of the next byte: what the last file holds so far.
  package var position: Int { files[files.count - 1].position }
  /// Bytes of all files so far.
  package var writtenBytes: Int { files.reduce(0) { $0 + $1.position } }

  /// Starts a file.
  mutating func begin() throws {
    let file = try OpenFile(
      FileWriter(
        path: OpenFile.path(path, files.count + 1), replacing: replacement, isResumable: isResumable))
    // Zeros until the end: a file that was never finished has no header.
    try file.write([UInt8](repeating: 0, count: IngotLimits.headerBytes))
    files.append(file)
    recorded = 0
  }

  // MARK: weights

  /// Whether the next weights, which must lie in one file, need a new one. Call it before the first of them.
  /// - Parameters:
  ///   - contentBytes: bytes of all their parts, before compression.
  ///   - frames: the number of their parts.
  /// - Returns: true when a new file must be begun with `beginFile`.
  /// - Throws: `RequestError` usage when even an empty file has no room for them.
  package func needsFile(contentBytes: Int, frames: Int, name: String) throws -> Bool {
    let file = files[files.count - 1]
    return try IngotWriter.needsFile(
      IngotUnit(name: name, contentBytes: contentBytes, frames: frames),
      after: (file.position, file.indexBytes, file.records.weights.isEmpty), limit: maxFileBytes)
  }

  /// Whether a unit needs a new file after one of so many bytes, of which the index will have `indexBytes`.
  static func needsFile(
    _ unit: IngotUnit, after file: (position: Int, indexBytes: Int, isEmpty: Bool), limit: Int?
  ) throws -> Bool {
    guard let limit else { return false }
    let chunks = FrameCodec.chunkCount(unit.contentBytes) + unit.frames
    // A page of padding, a record, a long name and a shape for each frame.
    let most =
      unit.contentBytes + 8 * chunks
      + unit.frames * (4096 + IngotIndex.frameBytes + IngotIndex.weightBytes + 1200)
    guard file.position + file.indexBytes + most > limit else { return false }
    let least = IngotLimits.headerBytes + OpenFile.emptyIndex + most
    guard least <= limit else {
      throw RequestError(
        .usage, "'\(unit.name)' and what belongs to it need \(least) bytes, a part may have \(limit)",
        help: "give --max-part-size at least \(least)")
    }
    return !file.isEmpty
  }

  /// Ends the file and begins the next one.
  /// - Throws: `RequestError` cannot-create, io.
  package mutating func beginFile() throws {
    precondition(weight == nil, "'\(weight?.record.name ?? "")' has not ended")
    try files[files.count - 1].rest()
    try begin()
  }

  /// Notes a weight's name and expert.
  mutating func claim(_ name: String, layer: Int?, expert: Int?, after last: WeightRecord?)
    throws(FormatError)
  {
    guard names.insert(name).inserted else {
      throw FormatError(.ingotIndex, subject: name, "would appear twice in the ingot")
    }
    guard let layer, let expert else { return }
    let isNext = last?.layer == layer && last?.expert == expert
    guard experts.insert(ExpertPlace(layer: layer, expert: expert)).inserted || isNext || last == nil else {
      throw FormatError(
        .ingotIndex, subject: name,
        "would not lie beside the other weights of layer \(layer), expert \(expert)")
    }
  }

  /// Starts a weight of the given dimensions. `encoding` is a stable name of `Encodings`.
  /// - Parameters:
  ///   - layer: the layer it belongs to.
  ///   - expert: the routed expert of that layer; the weights of an expert come one after another.
  /// - Throws: `C_INDEX` when the name is not one that ingots hold or stands in the file already, or the expert's weights
  ///   would lie apart.
  package mutating func beginWeight(
    name: String, shape: Shape, encoding: String, layer: Int? = nil, expert: Int? = nil
  ) throws {
    precondition(weight == nil, "'\(weight?.record.name ?? "")' has not ended")
    let file = files[files.count - 1]
    precondition(file.records.others.isEmpty, "weights come before files")
    if let problem = IngotLimits.nameProblem(name, limit: IngotLimits.weightNameBytes) {
      throw FormatError(.ingotIndex, subject: name, problem)
    }
    try claim(
      name, layer: layer, expert: expert,
      after: file.records.weights.last ?? WeightRecord(name: "", encoding: "", shape: []))
    guard let known = Encodings.named(encoding) else {
      preconditionFailure("'\(encoding)' is not an encoding")
    }
    weight = PendingWeight(
      record: WeightRecord(name: name, encoding: encoding, shape: shape, layer: layer, expert: expert),
      layouts: try known.layout(of: shape, name: name))
  }

  /// Starts the weight's next part, in the order of its encoding.
  package mutating func beginPart(_ name: PartName, dtype: DType, shape: Shape, form: ChunkForm) throws {
    guard var weight, part == nil, !weight.layouts.isEmpty else {
      preconditionFailure("no part may begin here")
    }
    let layout = weight.layouts.removeFirst()
    precondition(
      layout.name == name && layout.dtypes.contains(dtype) && layout.shape == shape,
      "'\(weight.record.name)' needs \(layout), found \(name) \(dtype) \(shape)")
    guard let contentLength = dtype.byteCount(shape.count) else {
      preconditionFailure("\(dtype) \(shape) is not a whole number of bytes")
    }
    self.weight = weight
    try beginFrame(form, contentLength: contentLength)
    part?.record.dtype = dtype
    part?.record.part = name
    part?.record.shape = shape
  }

  /// Adds the part's next chunk, made by `FrameCodec.encode` from the next `FrameCodec.chunkBytes` of content.
  /// - Throws: `RequestError` io when the disk is full.
  package mutating func append(_ chunk: EncodedChunk) throws {
    guard var part else { preconditionFailure("no part has begun") }
    let expected = FrameCodec.chunkRange(part.chunkCount, of: part.record.contentLength).count
    precondition(
      chunk.contentCount == expected && chunk.contentCount > 0,
      "the next chunk has \(expected) bytes of content, found \(chunk.contentCount)")
    precondition(chunk.isRaw || part.record.codec != ChunkCodec.raw.rawValue, "a raw frame has raw chunks")
    try chunk.stored.withUnsafeBytes { try files[files.count - 1].write($0) }
    part.add(chunk)
    self.part = part
  }

  /// Ends the part, whose content must be complete.
  package mutating func endPart() throws {
    precondition(weight != nil, "no part has begun")
    let frame = endFrame()
    weight?.record.frames.append(frame)
  }

  /// Ends the weight, whose parts must be complete.
  package mutating func endWeight() {
    guard part == nil, let weight, weight.layouts.isEmpty else {
      preconditionFailure("the weight lacks a part")
    }
    files[files.count - 1].add(weight.record)
    self.weight = nil
  }

  /// Writes a whole weight from memory or from a mapping: chooses each part's form, compresses its chunks in parallel.
  /// - Parameter name: the name in the ingot; the weight's own when nil.
  /// - Throws: `C_INDEX` for a name that ingots do not hold; `RequestError` io when the disk is full.
  package mutating func write(
    _ weight: Weight, name: String? = nil, layer: Int? = nil, expert: Int? = nil, mode: CodecMode,
    parallel: Parallel = .serial
  ) throws {
    try beginWeight(
      name: name ?? weight.name, shape: weight.shape, encoding: weight.encoding.name, layer: layer,
      expert: expert)
    for part in weight.parts {
      let form = try FrameCodec.choose(content: part.bytes, dtype: part.dtype, mode: mode)
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

  /// Adds a small file of the model: config.json, tokenizer.json. It counts into the content hash.
  /// - Throws: `C_INDEX` when the name may not be a file's (rule I27) or stands in the ingot already; `C_BOMB` when the file is
  ///   larger than 1 GiB.
  package mutating func addFile(name: String, bytes: Bytes, mode: CodecMode) throws {
    try add(.file, name, bytes, mode)
  }

  /// Adds a file about the ingot, which does not count into the content hash: ledger.json.
  /// - Throws: as `addFile`.
  package mutating func addNote(name: String, bytes: Bytes, mode: CodecMode) throws {
    try add(.note, name, bytes, mode)
  }

  private mutating func add(
    _ kind: OtherRecord.Kind, _ name: String, _ bytes: Bytes, _ mode: CodecMode
  )
    throws
  {
    precondition(weight == nil, "a file may not come inside a weight")
    if let problem = kind == .note ? IngotLimits.noteNameProblem(name) : IngotLimits.fileNameProblem(name) {
      throw FormatError(.ingotIndex, subject: name, problem)
    }
    guard files.allSatisfy({ $0.records.others.allSatisfy { $0.name != name } }) else {
      throw FormatError(.ingotIndex, subject: name, "would appear twice in the ingot")
    }
    guard bytes.count <= IngotLimits.fileBytes else {
      throw FormatError(.ingotBomb, subject: name, "has \(bytes.count) bytes, expected at most 2^30")
    }
    var form = try FrameCodec.choose(content: bytes, dtype: .u8, mode: mode)
    var chunks = try encodeAll(bytes, form)
    if ceilDivide(bytes.count, IngotLimits.fileRatio) > chunks.reduce(0, { $0 + $1.stored.count }) {
      form = .raw  // I28: readers refuse what compresses too well.
      chunks = try encodeAll(bytes, form)
    }
    try beginFrame(form, contentLength: bytes.count)
    for chunk in chunks { try append(chunk) }
    files[files.count - 1].records.others.append(OtherRecord(kind: kind, name: name, frame: endFrame()))
  }

  private func encodeAll(_ bytes: Bytes, _ form: ChunkForm) throws -> [EncodedChunk] {
    try (0..<FrameCodec.chunkCount(bytes.count)).map { index in
      try FrameCodec.encode(bytes[FrameCodec.chunkRange(index, of: bytes.count)], form)
    }
  }

  // MARK: frames

  private mutating func beginFrame(_ form: ChunkForm, contentLength: Int) throws {
    // A compressed frame's stored length is not known yet, and not needed: its alignment does not depend on it.
    let file = files[files.count - 1]
    try file.pad(to: IngotFrame.alignment(form.codec, storedLength: contentLength))
    part = PendingPart(
      record: FrameRecord(offset: file.position, contentLength: contentLength, codec: form.codec.rawValue))
  }

  private mutating func endFrame() -> FrameRecord {
    guard let part else { preconditionFailure("no frame has begun") }
    precondition(
      part.contentCount == part.record.contentLength,
      "the frame has \(part.contentCount) bytes, expected \(part.record.contentLength)")
    self.part = nil
    var record = part.record
    record.contentHash = part.contentHash.digest()
    return record
  }
}
