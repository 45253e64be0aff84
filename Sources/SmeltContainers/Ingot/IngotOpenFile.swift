// One file of an ingot that is being written, with what its index will say.

internal import SmeltStorage
internal import SmeltTensors

/// A file being written; a class, since a writer holds several.
final class OpenFile {
  /// Bytes of an index without weights, and of the padding before it.
  static let emptyIndex = IngotIndex.headBytes + 4096

  var records = IngotRecords()
  private var writer: FileWriter?
  /// Bytes of the index so far, at most.
  private(set) var indexBytes = OpenFile.emptyIndex
  /// Bytes of content in all frames of weights and files.
  var contentBytes: Int {
    records.weights.reduce(0) { $0 + $1.contentBytes }
      + records.others.reduce(0) { $0 + $1.frame.contentLength }
  }
  private(set) var position = 0

  init(_ writer: consuming FileWriter) {
    position = writer.position
    self.writer = consume writer
  }

  /// Where a file is written until it gets its name: the number of files is not known before the end.
  static func path(_ path: String, _ number: Int) -> String { number == 1 ? path : "\(path)-part\(number)" }

  func write(_ bytes: UnsafeRawBufferPointer) throws {
    try writer?.write(bytes)
    position += bytes.count
  }

  func write(_ array: [UInt8]) throws { try array.withUnsafeBytes { try write($0) } }

  func pad(to alignment: Int) throws {
    try writer?.pad(to: alignment)
    position = (position + alignment - 1) / alignment * alignment
  }

  func sync() throws { try writer?.sync() }

  func rest() throws { try writer?.rest() }

  func keepPartial() { writer?.keepPartial() }

  func dropPartial() { writer?.dropPartial() }

  func add(_ weight: WeightRecord) {
    records.weights.append(weight)
    indexBytes += weight.indexBytes
  }

  /// Writes index and header.
  func finish() throws {
    let index = records.index
    try pad(to: IngotFrame.alignment(.raw, storedLength: index.count))
    let header = IngotHeader(indexOffset: position, index: index)
    try write(index)
    try writer?.write(header.bytes, at: 0)
    try writer?.finish()
  }

  /// Gives the file its name.
  func commit(as path: String) throws { try writer.take()?.commit(as: path) }
}

/// An expert of a layer.
struct ExpertPlace: Hashable {
  let layer: Int
  let expert: Int
}

/// A weight that is being written.
struct PendingWeight {
  var record: WeightRecord
  var layouts: [PartLayout]
}

/// A frame that is being written.
struct PendingPart {
  var record: FrameRecord
  var contentCount = 0
  var chunkCount = 0
  var contentHash = SHA256()

  init(record: FrameRecord) { self.record = record }

  mutating func add(_ chunk: EncodedChunk) {
    record.add(chunk)
    contentHash.update(chunk.contentHash)
    contentCount += chunk.contentCount
    chunkCount += 1
  }
}
