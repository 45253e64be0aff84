// An ingot's index, read in place: tables of fixed-size records in the mapping. Opening checks every record in bulk; names,
// shapes and frames are made when somebody asks. Formats/ingot.md, section 4.

internal import SmeltStorage
package import SmeltTensors

/// One chunk of a frame, as the index names it.
package struct IngotChunk: Sendable, Hashable {
  /// Bytes in the file.
  package let storedLength: Int
  /// Whether they are the content itself.
  package let isRaw: Bool
  /// CRC-32C of the bytes in the file.
  package let checksum: UInt32
}

/// One part of one weight, or one small file, and where it lies.
package struct IngotFrame: Sendable {
  let index: IngotIndex
  let row: Int

  private var at: Int { index.places.frames + row * IngotIndex.frameBytes }

  /// The place of its first byte.
  package var offset: Int { index.size(at) }
  /// Bytes in the file.
  package var storedLength: Int { index.size(at + 8) }
  /// Bytes of content.
  package var contentLength: Int { index.size(at + 16) }
  /// The hash of the content, whatever the storage: SHA-256 over the XXH64s of its chunks.
  package var contentHash: [UInt8] { index.bytes[at + 24..<at + 24 + SHA256.byteCount].array }
  /// How its chunks are stored.
  package var codec: ChunkCodec { ChunkCodec(rawValue: index.byte(at + 64)) ?? .raw }
  /// The byte after the last one.
  package var end: Int { offset + storedLength }
  /// The number of its chunks.
  package var chunkCount: Int { FrameCodec.chunkCount(contentLength) }
  /// Its chunks in order.
  package var chunks: [IngotChunk] { (0..<chunkCount).map { chunk($0) } }

  var firstChunk: Int { Int(index.word(at + 56)) }
  var firstDimension: Int { Int(index.word(at + 60)) }
  var dtype: DType { IngotLimits.dtypes[Int(index.byte(at + 65))] }
  var part: PartName { IngotLimits.parts[Int(index.byte(at + 66))] }
  var shape: Shape { index.shape(firstDimension, rank: Int(index.byte(at + 67))) }

  func chunk(_ number: Int) -> IngotChunk {
    let at = index.places.chunks + (firstChunk + number) * 8
    let word = index.word(at)
    return IngotChunk(
      storedLength: Int(word & ~IngotLimits.rawBit), isRaw: word & IngotLimits.rawBit != 0,
      checksum: index.word(at + 4))
  }

  /// Where a frame of this codec and length may start: multiples of this.
  static func alignment(_ codec: ChunkCodec, storedLength: Int) -> Int {
    codec == .raw && storedLength >= 65536 ? 4096 : 64
  }

  /// The place of the next frame after one that ends at `end`.
  static func place(after end: Int, _ codec: ChunkCodec, storedLength: Int) -> Int {
    let alignment = alignment(codec, storedLength: storedLength)
    return (end + alignment - 1) / alignment * alignment
  }
}

/// One part of a weight in an ingot.
package struct IngotPart: Sendable {
  /// Where it lies.
  package let frame: IngotFrame
  /// Which part.
  package var name: PartName { frame.part }
  /// The type of its elements.
  package var dtype: DType { frame.dtype }
  /// Its dimensions as stored.
  package var shape: Shape { frame.shape }
}

/// One weight in an ingot; what it says is read from the index when it is asked for.
package struct IngotEntry: Sendable {
  let index: IngotIndex
  let row: Int
  /// The number of its file among the ingot's, from 0.
  package let fileNumber: Int

  private var at: Int { index.places.weights + row * IngotIndex.weightBytes }

  /// Its name.
  package var name: String { index.name(at) }
  /// Its dimensions, output channels first.
  package var shape: Shape { index.shape(Int(index.word(at + 12)), rank: Int(index.byte(at + 6))) }
  /// How its numbers are stored.
  package var encoding: any Encoding { index.encodings[Int(index.half(at + 24))] }
  /// Its parts in the encoding's order.
  package var parts: [IngotPart] {
    let first = Int(index.word(at + 8))
    return (first..<first + Int(index.byte(at + 7))).map {
      IngotPart(frame: IngotFrame(index: index, row: $0))
    }
  }
  /// The layer it belongs to.
  package var layer: Int? { index.optional(at + 16) }
  /// The routed expert it belongs to.
  package var expert: Int? { index.optional(at + 20) }

  /// The stable name of the encoding.
  package var encodingName: String { encoding.name }
  /// Bytes in the file.
  package var storedLength: Int { parts.reduce(0) { $0 + $1.frame.storedLength } }
  /// Bytes of content.
  package var contentLength: Int { parts.reduce(0) { $0 + $1.frame.contentLength } }
}

/// The tables of one file's index. All rules of sections 3.1, 3.2 and 4 hold once it is made.
final class IngotIndex: @unchecked Sendable {
  // SAFETY: `bytes` keeps the memory behind `base` alive. Everything but the constants is set in `init` and never again, so any thread
  // may read. `init` checks that the tables fill the bytes exactly before it reads one, and `check` that rows, names and dimensions
  // lie inside their tables; a place is then computed from a row below its count. A mapped index could still be changed by another
  // program: names are held against their table at each use, file ranges by `Bytes`.
  static let headBytes = 128
  static let frameBytes = 72
  static let weightBytes = 32

  /// Where each table starts, in bytes from the start of the index.
  struct Places {
    var frames = 0
    var chunks = 0
    var dimensions = 0
    var weights = 0
    var experts = 0
    var others = 0
    var encodings = 0
    var order = 0
    var strings = 0
    var metadata = 0
    var end = 0
  }

  /// How many records each table has.
  struct Counts {
    var weights = 0
    var weightFrames = 0
    var others = 0
    var encodings = 0
    var chunks = 0
    var dimensions = 0
    var strings = 0
    var metadata = 0
    var layers = 0
    var experts = 0
    /// This file among the files of the ingot, from 1.
    var fileNumber = 1
    var fileCount = 1
    /// Weights in all files.
    var totalWeights = 0

    var frames: Int { weightFrames + others }
  }

  /// A file, a note or a retired run.
  struct Other {
    let kind: OtherRecord.Kind
    let name: String
    let frame: Int
  }

  let bytes: Bytes
  let file: String
  let start: Int
  let counts: Counts
  let places: Places
  private(set) var encodings: [any Encoding] = []
  private(set) var others: [Other] = []
  private(set) var metadata = JSON(members: [])
  private let base: UnsafeRawPointer

  /// Reads the index that starts at byte `start` of `file`.
  /// - Throws: `C_INDEX`, `C_BOMB`.
  init(_ bytes: Bytes, start: Int, file: String) throws(FormatError) {
    guard bytes.count >= IngotIndex.headBytes, let base = bytes.baseAddress else {
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: start,
        "has \(bytes.count) bytes, expected at least \(IngotIndex.headBytes)")
    }
    self.bytes = bytes
    self.base = base
    self.file = file
    self.start = start
    counts = try IngotIndex.counts(bytes, start: start, file: file)
    places = IngotIndex.places(counts)
    guard places.end == bytes.count else {
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: start,
        "its counts ask for \(places.end) bytes, found \(bytes.count)")
    }
    encodings = try readEncodings()
    others = try readOthers()
    metadata = try readMetadata()
    try check()
  }

  // MARK: reading numbers, which lie inside once the counts are checked

  func byte(_ at: Int) -> UInt8 { base.load(fromByteOffset: at, as: UInt8.self) }
  func half(_ at: Int) -> UInt16 {
    UInt16(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt16.self))
  }
  func word(_ at: Int) -> UInt32 {
    UInt32(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt32.self))
  }
  func long(_ at: Int) -> UInt64 {
    UInt64(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt64.self))
  }
  /// A 64-bit number that was checked to be a size.
  func size(_ at: Int) -> Int { Int(truncatingIfNeeded: long(at)) }
  func optional(_ at: Int) -> Int? { word(at) == IngotLimits.none ? nil : Int(word(at)) }

  /// The bytes of the name of a weight's record.
  func nameBytes(_ at: Int) -> UnsafeRawBufferPointer {
    let (first, count) = (Int(word(at)), Int(half(at + 4)))
    precondition(first + count <= counts.strings, "a name outside the names of '\(file)'")
    return UnsafeRawBufferPointer(start: base + places.strings + first, count: count)
  }

  /// The string that the first six bytes of a record name.
  func name(_ at: Int) -> String { String(decoding: nameBytes(at), as: UTF8.self) }

  func shape(_ first: Int, rank: Int) -> Shape {
    Shape((first..<first + rank).map { size(places.dimensions + 8 * $0) })
  }

  var contentHash: [UInt8] { bytes[80..<112].array }
  var identity: [UInt8] { bytes[112..<128].array }

  /// Where the record of a weight starts.
  func weight(_ row: Int) -> Int { places.weights + row * IngotIndex.weightBytes }

  func entry(_ row: Int, fileNumber: Int = 0) -> IngotEntry {
    IngotEntry(index: self, row: row, fileNumber: fileNumber)
  }

  /// The weight at a place of the order of names.
  func ordered(_ place: Int) -> Int { Int(word(places.order + 4 * place)) }

  func frame(_ row: Int) -> IngotFrame { IngotFrame(index: self, row: row) }

  /// The weight of a name, by bisection of the order of names.
  func find(_ name: String) -> Int? {
    var name = name
    return name.withUTF8 { wanted in
      let wanted = UnsafeRawBufferPointer(wanted)
      var range = 0..<counts.weights
      while !range.isEmpty {
        let middle = range.lowerBound + range.count / 2
        let row = Int(word(places.order + 4 * middle))
        let order = compare(nameBytes(weight(row)), wanted)
        if order == 0 { return row }
        range = order < 0 ? middle + 1..<range.upperBound : range.lowerBound..<middle
      }
      return nil
    }
  }

  /// The weights of an expert of a layer, which lie side by side: one look into a table.
  func weights(layer: Int, expert: Int) -> Range<Int>? {
    guard (0..<counts.layers).contains(layer), (0..<counts.experts).contains(expert) else { return nil }
    let at = places.experts + 8 * (layer * counts.experts + expert)
    let (first, count) = (Int(word(at)), Int(word(at + 4)))
    return count == 0 ? nil : first..<first + count
  }

  /// What an error calls a frame: a weight's name and the part, or the name of a file. For errors only: it looks at all
  /// weights.
  func subject(_ frame: Int) -> String {
    if frame >= counts.weightFrames, frame - counts.weightFrames < others.count {
      let other = others[frame - counts.weightFrames]
      return other.kind == .retired ? "retired run" : other.name
    }
    for row in 0..<counts.weights {
      let at = weight(row)
      let first = Int(word(at + 8))
      guard frame >= first, frame < first + Int(byte(at + 7)) else { continue }
      guard Int(word(at)) + Int(half(at + 4)) <= counts.strings else { break }
      let part = Int(byte(places.frames + frame * IngotIndex.frameBytes + 66))
      return IngotLimits.parts.indices.contains(part)
        ? "\(name(at)) (\(IngotLimits.parts[part].rawValue))" : name(at)
    }
    return "frame \(frame)"
  }

  func refuse(_ subject: String, at place: Int, _ problem: String, code: ErrorCode = .ingotIndex)
    -> FormatError
  {
    FormatError(code, file: file, subject: subject, offset: start + place, problem)
  }
}

/// The order of two strings by their bytes: below zero, zero, above.
func compare(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
  for index in 0..<min(a.count, b.count) where a[index] != b[index] { return a[index] < b[index] ? -1 : 1 }
  return a.count - b.count
}
