// What an ingot's index says, and reading it with every rule checked before anything is believed.
// Formats/ingot.md, sections 3.1, 3.2 and 4; the rules' numbers stand beside the code that checks them.

internal import SmeltStorage
public import SmeltTensors

/// One chunk of a frame, as the index names it.
public struct IngotChunk: Sendable, Hashable {
  /// Bytes in the file.
  public let storedLength: Int
  /// Whether they are the content itself.
  public let isRaw: Bool
  /// XXH64 of the bytes in the file.
  public let checksum: UInt64
}

/// One part of one weight, or one small file, and where it lies.
public struct IngotFrame: Sendable, Hashable {
  /// The place of its first byte.
  public let offset: Int
  /// Bytes in the file.
  public let storedLength: Int
  /// Bytes of content.
  public let contentLength: Int
  /// The hash of the content, whatever the storage: XXH64 over the XXH64s of its chunks.
  public let contentHash: UInt64
  /// Raw or zstd, and the transform.
  public let form: FrameForm
  /// Its chunks in order.
  public let chunks: [IngotChunk]

  /// The byte after the last one.
  public var end: Int { offset + storedLength }

  /// Where a frame of this storage and length may start: multiples of this.
  static func alignment(_ storage: FrameStorage, storedLength: Int) -> Int {
    storage == .raw && storedLength >= 65536 ? 4096 : 64
  }

  /// The place of the next frame after one that ends at `end`.
  static func place(after end: Int, _ storage: FrameStorage, storedLength: Int) -> Int {
    let alignment = alignment(storage, storedLength: storedLength)
    return (end + alignment - 1) / alignment * alignment
  }
}

/// One part of a weight in an ingot.
public struct IngotPart: Sendable, Hashable {
  /// Which part.
  public let name: PartName
  /// The type of its elements.
  public let dtype: DType
  /// Its dimensions as stored.
  public let shape: Shape
  /// Where it lies.
  public let frame: IngotFrame
}

/// One weight in an ingot.
public struct IngotEntry: Sendable {
  /// Its name.
  public let name: String
  /// Its dimensions, output channels first.
  public let shape: Shape
  /// How its numbers are stored.
  public let encoding: any Encoding
  /// Its parts in the encoding's order.
  public let parts: [IngotPart]

  /// The stable name of the encoding.
  public var encodingName: String { encoding.name }
  /// Bytes in the file.
  public var storedLength: Int { parts.reduce(0) { $0 + $1.frame.storedLength } }
  /// Bytes of content.
  public var contentLength: Int { parts.reduce(0) { $0 + $1.frame.contentLength } }
}

/// An ingot's index. Formats/ingot.md, section 4.
struct IngotIndex {
  private(set) var weights: [IngotEntry] = []
  private(set) var weightPlaces: [String: Int] = [:]
  private(set) var files: [(name: String, frame: IngotFrame)] = []
  private(set) var filePlaces: [String: Int] = [:]
  /// Every frame in the order of the file, with what an error calls it.
  private(set) var frames: [(subject: String, frame: IngotFrame)] = []
  private(set) var metadata: JSON = JSON(members: [])

  private let file: String
  private let start: Int
  private var end = IngotLimits.headerBytes

  /// Reads the index that starts at byte `start` of `file`. All rules of sections 3.1, 3.2 and 4 hold afterwards.
  init(_ bytes: Bytes, start: Int, file: String) throws(FormatError) {
    self.file = file
    self.start = start
    var reader = ByteReader(bytes, file: file, origin: start, code: .ingotIndex)
    let count = Int(try reader.number(UInt32.self, "number of entries"))
    // I20: the smallest entry, a retired run, is a kind and a frame record.
    guard count <= reader.remaining / 37 else {
      throw reader.error("number of entries", "found \(count), more than \(reader.remaining) bytes can hold")
    }
    frames.reserveCapacity(count)
    for _ in 0..<count {
      let kind = try reader.number(UInt8.self, "kind")
      switch kind {
      case IngotLimits.weightKind: try readWeight(&reader)
      case IngotLimits.fileKind: try readFile(&reader)
      case IngotLimits.retiredKind:
        let frame = try readFrame(&reader, subject: "retired run", needs: nil)
        frames.append(("retired run", frame))
      default: throw reader.error("kind", "found \(kind), expected 1, 2 or 3")
      }
    }
    let expected = IngotFrame.place(after: end, .raw, storedLength: bytes.count)
    guard expected == start else {  // I8
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: 16, "starts at \(start), expected \(expected)")
    }
    try readMetadata(&reader)
  }

  private mutating func readMetadata(_ reader: inout ByteReader) throws(FormatError) {
    let count = Int(try reader.number(UInt32.self, "length of the metadata"))
    guard count <= IngotLimits.metadataBytes else {
      throw reader.error("metadata", "found \(count) bytes, expected at most \(IngotLimits.metadataBytes)")
    }
    let offset = reader.offset
    let text = try reader.take(count, "metadata")
    guard reader.remaining == 0 else {
      throw reader.error("metadata", "\(reader.remaining) bytes follow it, expected the end of the index")
    }
    do {
      metadata = try JSON.scan(text, limits: JSONLimits(depth: 64, values: 1_000_000))
    } catch {
      throw FormatError(
        .ingotIndex, file: file, subject: "metadata", offset: offset + error.offset, error.problem)
    }
    guard metadata.object != nil else {
      throw FormatError(
        .ingotIndex, file: file, subject: "metadata", offset: offset,
        "found \(metadata.kind), expected an object")
    }
  }

  // MARK: entries

  private mutating func readWeight(_ reader: inout ByteReader) throws(FormatError) {
    let nameOffset = reader.offset
    let name = try reader.string("name of a weight")
    if let problem = IngotLimits.nameProblem(name, limit: IngotLimits.weightNameBytes) {
      throw refuse("name of a weight", nameOffset, problem)
    }
    guard weightPlaces[name] == nil else { throw refuse(name, nameOffset, "stands twice in the index") }
    let encodingOffset = reader.offset
    let encodingName = try reader.string("encoding of \(name)")
    guard let encoding = Encodings.named(encodingName) else {
      throw refuse(name, encodingOffset, "has the unknown encoding '\(encodingName)'")
    }
    let shape = try readShape(&reader, name)
    let layouts: [PartLayout]
    do {
      layouts = try encoding.layout(of: shape, name: name)
    } catch {
      throw refuse(name, encodingOffset, error.problem)
    }
    let count = Int(try reader.number(UInt8.self, "number of parts of \(name)"))
    guard count == layouts.count else {
      throw refuse(
        name, reader.offset - 1, "has \(count) parts, expected \(layouts.count) for \(encodingName)")
    }
    var parts: [IngotPart] = []
    parts.reserveCapacity(count)
    for layout in layouts { parts.append(try readPart(&reader, layout, name)) }
    weightPlaces[name] = weights.count
    weights.append(IngotEntry(name: name, shape: shape, encoding: encoding, parts: parts))
  }

  /// Rules I25 and I26.
  private mutating func readPart(_ reader: inout ByteReader, _ layout: PartLayout, _ weight: String)
    throws(FormatError) -> IngotPart
  {
    let offset = reader.offset
    let name = try reader.string("part of \(weight)")
    guard name == layout.name.rawValue else {
      throw refuse(weight, offset, "has the part '\(name)', expected '\(layout.name.rawValue)'")
    }
    let dtypeName = try reader.string("dtype of \(weight)")
    guard let dtype = DType(rawValue: dtypeName), layout.dtypes.contains(dtype) else {
      let allowed = layout.dtypes.map(\.rawValue).joined(separator: " or ")
      throw refuse(weight, offset, "its \(name) are '\(dtypeName)', expected \(allowed)")
    }
    let shape = try readShape(&reader, weight)
    guard shape == layout.shape else {
      throw refuse(weight, offset, "its \(name) are \(shape), expected \(layout.shape)")
    }
    guard let needed = dtype.byteCount(shape.count) else {
      throw refuse(weight, offset, "its \(name) are no whole number of bytes: \(dtype) \(shape)")
    }
    let subject = "\(weight) (\(name))"
    let frame = try readFrame(&reader, subject: subject, needs: needed)
    frames.append((subject, frame))
    return IngotPart(name: layout.name, dtype: dtype, shape: shape, frame: frame)
  }

  private mutating func readFile(_ reader: inout ByteReader) throws(FormatError) {
    let offset = reader.offset
    let name = try reader.string("name of a file")
    if let problem = IngotLimits.fileNameProblem(name) { throw refuse("name of a file", offset, problem) }
    guard filePlaces[name] == nil else {
      throw refuse(name, offset, "stands twice in the index")
    }
    let frame = try readFrame(&reader, subject: name, needs: nil)
    guard frame.contentLength <= IngotLimits.fileBytes,  // I28
      ceilDivide(frame.contentLength, IngotLimits.fileRatio) <= frame.storedLength
    else {
      throw FormatError(
        .ingotBomb, file: file, subject: name, offset: offset,
        "\(frame.storedLength) bytes stand for \(frame.contentLength), expected at most 2^30 and 1,000 times as many"
      )
    }
    filePlaces[name] = files.count
    files.append((name, frame))
    frames.append((name, frame))
  }

  // MARK: shapes and frames

  /// Rule I24.
  private func readShape(_ reader: inout ByteReader, _ subject: String) throws(FormatError) -> Shape {
    let offset = reader.offset
    let rank = Int(try reader.number(UInt8.self, "rank of \(subject)"))
    guard rank <= IngotLimits.rank else {
      throw refuse(subject, offset, "has \(rank) dimensions, expected at most \(IngotLimits.rank)")
    }
    var dimensions: [Int] = []
    var product = 1
    for _ in 0..<rank {
      let dimension = try reader.number(UInt64.self, "shape of \(subject)")
      // At most 2^48 × 2^40 would overflow, so the product is checked before it is made.
      guard dimension <= IngotLimits.dimension, Int(dimension) <= IngotLimits.elements / product else {
        throw refuse(subject, reader.offset - 8, "has the dimension \(dimension), too large for a shape")
      }
      product *= max(1, Int(dimension))
      dimensions.append(Int(dimension))
    }
    return Shape(dimensions)
  }

  /// A frame record: rules I8, I9, I11, I12, I13, I16, and I26 when `needs` is given.
  private mutating func readFrame(_ reader: inout ByteReader, subject: String, needs: Int?)
    throws(FormatError)
    -> IngotFrame
  {
    let recordOffset = reader.offset
    let offset = try reader.size("offset of \(subject)")
    let storedLength = try reader.size("stored length of \(subject)")
    let contentLength = try reader.size("content length of \(subject)")
    let contentHash = try reader.number(UInt64.self, "content hash of \(subject)")
    let storageCode = try reader.number(UInt8.self, "storage of \(subject)")
    let transformCode = try reader.number(UInt8.self, "transform of \(subject)")
    guard let storage = FrameStorage(rawValue: storageCode) else {
      throw refuse(subject, recordOffset + 32, "has the unknown storage \(storageCode)")
    }
    guard let transform = FrameTransform(rawValue: transformCode), storage == .zstd || transform == .none,
      contentLength % transform.elementBytes == 0
    else {
      throw refuse(
        subject, recordOffset + 33,
        "has transform \(transformCode), impossible for storage \(storageCode) of \(contentLength) bytes")
    }
    guard try reader.number(UInt16.self, "reserved bytes of \(subject)") == 0 else {
      throw refuse(subject, recordOffset + 34, "has a reserved byte that is not zero")
    }
    if let needs, contentLength != needs {
      throw FormatError(
        contentLength > needs ? .ingotBomb : .ingotIndex, file: file, subject: subject,
        offset: recordOffset + 16,
        "declares \(contentLength) bytes of content, expected \(needs)")
    }
    guard storedLength <= start, offset <= start - storedLength else {
      throw refuse(
        subject, recordOffset, "lies at \(offset) with \(storedLength) bytes, beyond the index at \(start)")
    }
    let expected = IngotFrame.place(after: end, storage, storedLength: storedLength)
    guard offset == expected else {
      throw refuse(subject, recordOffset, "lies at \(offset), expected \(expected) after the frame before it")
    }
    end = offset + storedLength
    let chunks = try readChunks(&reader, subject, storage, storedLength, contentLength)
    return IngotFrame(
      offset: offset, storedLength: storedLength, contentLength: contentLength, contentHash: contentHash,
      form: FrameForm(storage: storage, transform: transform), chunks: chunks)
  }

  private func readChunks(
    _ reader: inout ByteReader, _ subject: String, _ storage: FrameStorage, _ storedLength: Int,
    _ contentLength: Int
  ) throws(FormatError) -> [IngotChunk] {
    let count = FrameCodec.chunkCount(contentLength)
    guard count <= reader.remaining / 12 else {
      throw refuse(
        subject, reader.offset, "has \(count) chunks, more than \(reader.remaining) bytes can hold")
    }
    var chunks: [IngotChunk] = []
    chunks.reserveCapacity(count)
    var total = 0
    for index in 0..<count {
      let offset = reader.offset
      let word = try reader.number(UInt32.self, "chunk of \(subject)")
      let checksum = try reader.number(UInt64.self, "chunk of \(subject)")
      let isRaw = word & IngotLimits.rawBit != 0
      let length = Int(word & ~IngotLimits.rawBit)
      let content = FrameCodec.chunkRange(index, of: contentLength).count
      guard isRaw ? length == content : storage == .zstd && length > 0 && length < content else {
        throw refuse(
          subject, offset,
          "chunk \(index) has \(length) \(isRaw ? "raw" : "compressed") bytes for \(content) of content")
      }
      total += length
      chunks.append(IngotChunk(storedLength: length, isRaw: isRaw, checksum: checksum))
    }
    guard total == storedLength else {
      throw refuse(subject, reader.offset, "its chunks have \(total) bytes, expected \(storedLength)")
    }
    return chunks
  }

  private func refuse(_ subject: String, _ offset: Int, _ problem: String) -> FormatError {
    FormatError(.ingotIndex, file: file, subject: subject, offset: offset, problem)
  }
}
