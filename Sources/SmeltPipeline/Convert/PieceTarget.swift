// Where the parts of a piece are made, and how its chunks and its hash follow while it is.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// Room for what some rows become, in memory that is used again.
struct PieceTarget {
  /// A part: its room, and the bytes of the whole part that it stands for.
  private struct Room {
    let part: ResultPart
    let range: Range<Int>
    let buffer: PooledBuffer
  }

  private let rooms: [Room]
  private let rows: Range<Int>
  private let count: Int
  private let block: Int

  /// Bytes behind each part for numbers of the whole weight, which a scheme has an address for and does not write twice.
  private static let spare = 16

  /// Room for rows of a weight of `count`, cut in blocks of `block` rows.
  init(_ parts: [ResultPart], _ rows: Range<Int>, of count: Int, _ block: Int, _ pool: BufferPool) {
    self.rows = rows
    self.count = count
    self.block = block
    rooms = parts.map { part in
      let range = part.slice(rows, of: count, rowBlock: block)
      return Room(part: part, range: range, buffer: pool.take(range.count + PieceTarget.spare))
    }
  }

  private func room(_ name: PartName) -> Room? { rooms.first { $0.part.name == name } }

  private func range(_ room: Room, _ some: Range<Int>) -> Range<Int> {
    let range = room.part.slice(some, of: count, rowBlock: block)
    guard !range.isEmpty else { return room.range.count..<room.range.count }
    return range.lowerBound - room.range.lowerBound..<range.upperBound - room.range.lowerBound
  }

  /// The places of some of the rows.
  func target(_ some: Range<Int>) -> RowTarget {
    // SAFETY: each room holds the slice of all rows, of which that of `some` is a part, and spare bytes for a part that has none.
    func place(_ name: PartName) -> UnsafeMutablePointer<UInt8>? {
      room(name).map {
        ($0.buffer.memory.baseAddress! + range($0, some).lowerBound).assumingMemoryBound(to: UInt8.self)
      }
    }
    let others = [PartName.zeroPoints, .groupIndex].compactMap { name in place(name).map { (name, $0) } }
    guard let values = place(.values) else { preconditionFailure("every weight has codes") }
    return RowTarget(
      values: values, scales: place(.scales), global: place(.globalScale),
      others: Dictionary(uniqueKeysWithValues: others))
  }

  /// Where the codes of some rows end, counted from those of the first row.
  func end(of some: Range<Int>) -> Int { room(.values).map { range($0, some).upperBound } ?? 0 }

  /// A run of a part's bytes, counted from those of the first row; they are made.
  func bytes(_ name: PartName, _ range: Range<Int>) -> Bytes {
    guard let room = room(name) else { preconditionFailure("every weight has codes") }
    return room.buffer.bytes(range)
  }

  /// The bytes of a part that belong to some rows; a number of the whole weight belongs to all of them once it is made.
  func bytes(_ name: PartName, of some: Range<Int>) -> Bytes? {
    room(name).map { room in
      room.buffer.bytes(room.part.isOfWholeWeight ? 0..<room.range.count : range(room, some))
    }
  }

  /// The same bytes as an array; empty if the encoding has no such part.
  func array(_ name: PartName, _ some: Range<Int>) -> [UInt8] {
    room(name).map { $0.buffer.bytes(range($0, some)).array } ?? []
  }
}

/// The chunks of a piece, packed as its content comes, for a container that packs. Used by the one thread that makes the piece.
final class ChunkLine {
  private let job: ConvertJob
  private let buffer: PooledBuffer?
  private let choose: (Bytes) throws -> ChunkForm
  private var form: ChunkForm?
  private var taken = 0
  private var stored = 0
  private(set) var chunks: [EncodedChunk] = []
  /// Hashes of the next chunks' content, as far as they are known.
  private var hashes: [UInt64] = []

  /// Chunks of a job.
  /// - Parameters:
  ///   - pool: where their room comes from; nil where nothing is packed.
  ///   - choose: the form of the slab's chunks, given the first of its content.
  init(_ job: ConvertJob, _ pool: BufferPool?, _ choose: @escaping (Bytes) throws -> ChunkForm) {
    self.job = job
    self.choose = choose
    buffer = pool?.take(job.content.count)
  }

  /// Whether nothing is packed.
  var isRaw: Bool { buffer == nil }

  /// The hash of the next chunk's content is known.
  func know(_ hash: UInt64) { hashes.append(hash) }

  /// Packs the chunks that are whole. The first of a slab wait until there is enough of them to choose a form by.
  /// - Parameters:
  ///   - content: from the job's first byte on, as much as is made.
  ///   - sample: what a form may be chosen by; the content, unless there is more of it.
  func advance(_ content: Bytes, sample: Bytes? = nil) throws {
    guard let buffer else { return }
    let isWhole = content.count == job.content.count
    let sample = sample ?? content
    guard form != nil || !job.isFirst || sample.count >= min(job.content.count, FrameCodec.sampleBytes) else {
      return
    }
    let form = try form ?? choose(sample)
    self.form = form
    while taken < content.count {
      let end = min(content.count, taken + FrameCodec.chunkBytes)
      guard isWhole || end - taken == FrameCodec.chunkBytes else { return }
      let known = chunks.count < hashes.count ? hashes[chunks.count] : nil
      let chunk = try FrameCodec.encode(content[taken..<end], form, hash: known, into: (buffer, stored))
      if !chunk.isRaw { stored += chunk.stored.count }
      chunks.append(chunk)
      taken = end
    }
  }

  /// All content is there.
  /// - Returns: the form of the chunks.
  func finish(_ content: Bytes) throws -> ChunkForm {
    try advance(content)
    return try form ?? choose(content)
  }
}

/// The hash of the bytes of one slab's source. Its pieces add to it in order; the thread that makes the next one may take it along.
final class HashLine: Sendable {
  private let state = Mutex<(hash: XXH64?, next: Int)>((XXH64(), 0))

  /// The hash, if the piece that begins at `place` is the next one and no one else has it.
  func claim(_ place: Int) -> XXH64? {
    state.withLock { $0.next == place ? $0.hash.take() : nil }
  }

  /// Gives it back with the piece added that ends at `place`.
  func giveBack(_ hash: XXH64, _ place: Int) { state.withLock { $0 = (hash, place) } }

  /// The hash of all pieces so far.
  var value: UInt64 { state.withLock { $0.hash?.value() ?? 0 } }
}
