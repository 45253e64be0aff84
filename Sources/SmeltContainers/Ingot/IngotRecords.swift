// What an index is made of while an ingot is written: weights, files and their frames, and the index as bytes.
// Formats/ingot.md, section 4.

internal import SmeltStorage
internal import SmeltTensors

/// A frame that was written.
struct FrameRecord {
  var offset: Int
  var storedLength = 0
  var contentLength: Int
  /// SHA-256 of the XXH64s of the chunks' contents. Formats/ingot.md, section 3.4.
  var contentHash: [UInt8] = []
  var codec: UInt8
  var dtype = DType.u8
  var part = PartName.values
  var shape: Shape = []
  /// A word and a checksum for each chunk, as the index has them.
  var chunks: [UInt8] = []

  var end: Int { offset + storedLength }

  /// What is hashed for a part of a weight. Formats/ingot.md, section 5.
  func describe(to hash: inout SHA256) {
    var bytes: [UInt8] = []
    bytes.append(string: part.rawValue)
    bytes.append(string: dtype.rawValue)
    bytes.append(shape: shape)
    hash.update(bytes + contentHash)
  }
}

/// A weight that was written.
struct WeightRecord {
  var name: String
  var encoding: String
  var shape: Shape
  var layer: Int?
  var expert: Int?
  var frames: [FrameRecord] = []

  var contentBytes: Int { frames.reduce(0) { $0 + $1.contentLength } }
  /// Bytes that the weight takes in an index, at most.
  var indexBytes: Int {
    frames.reduce(36 + name.utf8.count + 8 * shape.rank) { $0 + 72 + $1.chunks.count + 8 * $1.shape.rank }
  }

  /// The bytes of a journal for this weight; `init(reading:)` has them back.
  func journal(into bytes: inout [UInt8]) {
    bytes.append(string: name)
    bytes.append(string: encoding)
    bytes.append(shape: shape)
    bytes.append(littleEndian: layer.map { UInt32($0) } ?? IngotLimits.none)
    bytes.append(littleEndian: expert.map { UInt32($0) } ?? IngotLimits.none)
    bytes.append(UInt8(frames.count))
    for frame in frames {
      bytes.append(littleEndian: UInt64(frame.offset))
      bytes.append(littleEndian: UInt64(frame.storedLength))
      bytes.append(littleEndian: UInt64(frame.contentLength))
      bytes += frame.contentHash
      bytes.append(frame.codec)
      bytes.append(string: frame.dtype.rawValue)
      bytes.append(string: frame.part.rawValue)
      bytes.append(shape: frame.shape)
      bytes.append(littleEndian: UInt32(frame.chunks.count))
      bytes += frame.chunks
    }
  }
}

extension WeightRecord {
  /// Reads what `journal` wrote.
  /// - Throws: the reader's code for invalid bytes.
  init(reading reader: inout ByteReader) throws(FormatError) {
    name = try reader.string("name")
    encoding = try reader.string("encoding")
    shape = try WeightRecord.shape(&reader)
    let numbers = (try reader.number(UInt32.self, "layer"), try reader.number(UInt32.self, "expert"))
    layer = numbers.0 == IngotLimits.none ? nil : Int(numbers.0)
    expert = numbers.1 == IngotLimits.none ? nil : Int(numbers.1)
    for _ in 0..<Int(try reader.number(UInt8.self, "parts")) {
      let (offset, stored) = (try reader.size("offset"), try reader.size("stored length"))
      let content = try reader.size("content length")
      let hash = try reader.take(SHA256.byteCount, "content hash").array
      let codec = try reader.number(UInt8.self, "codec")
      let (dtype, part) = (try reader.string("dtype"), try reader.string("part"))
      guard let dtype = DType(rawValue: dtype), let part = PartName(rawValue: part) else {
        throw reader.error("part", "is unknown")
      }
      let shape = try WeightRecord.shape(&reader)
      let chunks = try reader.take(Int(try reader.number(UInt32.self, "chunks")), "chunks").array
      frames.append(
        FrameRecord(
          offset: offset, storedLength: stored, contentLength: content, contentHash: hash, codec: codec,
          dtype: dtype,
          part: part, shape: shape, chunks: chunks))
    }
  }

  private static func shape(_ reader: inout ByteReader) throws(FormatError) -> Shape {
    var dimensions: [Int] = []
    for _ in 0..<Int(try reader.number(UInt8.self, "rank")) {
      dimensions.append(try reader.size("dimension"))
    }
    return Shape(dimensions)
  }
}

/// What lies in an ingot beside weights. Formats/ingot.md, 4.7.
struct OtherRecord {
  enum Kind: UInt16 {
    /// A small file of the model.
    case file = 1
    /// A file about the ingot: its ledger, its report.
    case note = 2
    /// Bytes that meant something once.
    case retired = 3
  }

  var kind: Kind
  var name: String
  var frame: FrameRecord
}

/// One file of an ingot before its index is written.
struct IngotRecords {
  var weights: [WeightRecord] = []
  var others: [OtherRecord] = []
  var fileNumber = 1
  var fileCount = 1
  /// Weights in all files of the ingot.
  var totalWeights = 0
  var contentHash = [UInt8](repeating: 0, count: SHA256.byteCount)
  var identity = [UInt8](repeating: 0, count: 16)
  /// A JSON object.
  var metadata: [UInt8] = []

  /// What is hashed of the frames of weights: where they lie and what their chunks are.
  func describeFrames(to hash: inout SHA256) {
    for frame in weights.flatMap(\.frames) {
      var bytes: [UInt8] = []
      bytes.append(littleEndian: UInt64(frame.offset))
      bytes.append(littleEndian: UInt64(frame.storedLength))
      hash.update(bytes + frame.chunks)
    }
  }

  /// The SHA-256 of what an ingot holds, whatever files it lies in and however it is stored. Formats/ingot.md, section 5.
  static func contentHash(_ files: [IngotRecords]) -> [UInt8] {
    var hash = SHA256()
    for weight in files.flatMap(\.weights).sorted(by: { precedes($0.name, $1.name) }) {
      var bytes: [UInt8] = [1]
      bytes.append(string: weight.name)
      bytes.append(string: weight.encoding)
      bytes.append(shape: weight.shape)
      bytes.append(UInt8(weight.frames.count))
      hash.update(bytes)
      for frame in weight.frames { frame.describe(to: &hash) }
    }
    let small = files.flatMap(\.others).filter { $0.kind == .file }
    for file in small.sorted(by: { precedes($0.name, $1.name) }) {
      var bytes: [UInt8] = [2]
      bytes.append(string: file.name)
      bytes.append(littleEndian: UInt64(file.frame.contentLength))
      hash.update(bytes + file.frame.contentHash)
    }
    return hash.digest()
  }

  /// The index, in the order of Formats/ingot.md, section 4.
  var index: [UInt8] {
    var tables = IndexTables()
    for weight in weights { tables.add(weight) }
    for other in others { tables.add(other) }
    let (layers, experts, ranges) = expertRanges()
    let order = weights.indices.sorted { precedes(weights[$0].name, weights[$1].name) }
    var bytes: [UInt8] = []
    for count in [weights.count, tables.weightFrames, others.count, tables.encodingNames.count] {
      bytes.append(littleEndian: UInt32(count))
    }
    for count in [tables.chunks.count / 8, tables.dimensions.count / 8, tables.strings.count, metadata.count]
    {
      bytes.append(littleEndian: UInt64(count))
    }
    for count in [layers, experts, fileNumber, fileCount] { bytes.append(littleEndian: UInt32(count)) }
    bytes.append(littleEndian: UInt64(totalWeights))
    bytes.append(littleEndian: UInt64(0))
    bytes += contentHash + identity
    bytes += tables.frames + tables.chunks + tables.dimensions + tables.weights + ranges + tables.others
    bytes += tables.encodings
    for place in order { bytes.append(littleEndian: UInt32(place)) }
    return bytes + tables.strings + metadata
  }

  /// The first weight and the number of weights of each expert of each layer.
  private func expertRanges() -> (layers: Int, experts: Int, table: [UInt8]) {
    let layers = weights.reduce(0) { max($0, ($1.layer ?? -1) + 1) }
    let experts = weights.reduce(0) { max($0, ($1.expert ?? -1) + 1) }
    var ranges = [(first: Int, count: Int)](repeating: (0, 0), count: layers * experts)
    for (place, weight) in weights.enumerated() {
      guard let layer = weight.layer, let expert = weight.expert else { continue }
      let slot = layer * experts + expert
      ranges[slot] = (ranges[slot].count == 0 ? place : ranges[slot].first, ranges[slot].count + 1)
    }
    var table: [UInt8] = []
    for range in ranges {
      table.append(littleEndian: UInt32(range.first))
      table.append(littleEndian: UInt32(range.count))
    }
    return (layers, experts, table)
  }

  /// The tables of an index, growing.
  private struct IndexTables {
    var (frames, chunks, dimensions): ([UInt8], [UInt8], [UInt8]) = ([], [], [])
    var (weights, others, encodings, strings): ([UInt8], [UInt8], [UInt8], [UInt8]) = ([], [], [], [])
    var encodingNames: [String] = []
    var weightFrames = 0
    private var shapes: [Shape: Int] = [:]

    /// The place of a shape's dimensions; equal shapes share them.
    mutating func place(_ shape: Shape) -> Int {
      if let known = shapes[shape] { return known }
      defer { for dimension in shape.dimensions { dimensions.append(littleEndian: UInt64(dimension)) } }
      shapes[shape] = dimensions.count / 8
      return dimensions.count / 8
    }

    mutating func place(_ string: String) -> Int {
      defer { strings += string.utf8 }
      return strings.count
    }

    mutating func add(_ frame: FrameRecord) {
      let dimension = place(frame.shape)
      frames.append(littleEndian: UInt64(frame.offset))
      frames.append(littleEndian: UInt64(frame.storedLength))
      frames.append(littleEndian: UInt64(frame.contentLength))
      frames += frame.contentHash
      frames.append(littleEndian: UInt32(chunks.count / 8))
      frames.append(littleEndian: UInt32(dimension))
      frames.append(frame.codec)
      frames.append(UInt8(IngotLimits.dtypes.firstIndex(of: frame.dtype) ?? 0))
      frames.append(UInt8(IngotLimits.parts.firstIndex(of: frame.part) ?? 0))
      frames.append(UInt8(frame.shape.rank))
      frames.append(littleEndian: UInt32(0))
      chunks += frame.chunks
    }

    mutating func add(_ weight: WeightRecord) {
      var encoding = encodingNames.firstIndex(of: weight.encoding)
      if encoding == nil {
        encoding = encodingNames.count
        encodings.append(littleEndian: UInt32(place(weight.encoding)))
        encodings.append(littleEndian: UInt32(weight.encoding.utf8.count))
        encodingNames.append(weight.encoding)
      }
      weights.append(littleEndian: UInt32(place(weight.name)))
      weights.append(littleEndian: UInt16(weight.name.utf8.count))
      weights.append(UInt8(weight.shape.rank))
      weights.append(UInt8(weight.frames.count))
      weights.append(littleEndian: UInt32(weightFrames))
      weights.append(littleEndian: UInt32(place(weight.shape)))
      weights.append(littleEndian: weight.layer.map { UInt32($0) } ?? IngotLimits.none)
      weights.append(littleEndian: weight.expert.map { UInt32($0) } ?? IngotLimits.none)
      weights.append(littleEndian: UInt16(encoding ?? 0))
      weights += [0, 0, 0, 0, 0, 0]
      for frame in weight.frames { add(frame) }
      weightFrames += weight.frames.count
    }

    mutating func add(_ other: OtherRecord) {
      others.append(littleEndian: UInt32(place(other.name)))
      others.append(littleEndian: UInt16(other.name.utf8.count))
      others.append(littleEndian: other.kind.rawValue)
      add(other.frame)
    }
  }
}

/// The order of names: by their bytes.
func precedes(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }
