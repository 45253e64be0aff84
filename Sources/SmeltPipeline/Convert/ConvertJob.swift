// Jobs of a conversion, and what they make: work is cut into a few chunks of one matrix, so that threads can carry it out in any
// order.

import SmeltQuantization
import SmeltContainers
import SmeltStorage

/// A piece of one slab: some chunks of its codes.
struct ConvertJob: Sendable {
  /// Content of one job; a few chunks, so that a job is worth a thread's while.
  static let contentLimit = 16 * FrameCodec.chunkBytes

  /// The slab's place in the plan.
  let slab: Int
  /// The bytes of the codes that this job makes.
  let content: Range<Int>

  /// Whether these are the slab's first bytes.
  var isFirst: Bool { content.lowerBound == 0 }

  /// The jobs of a plan, in order.
  static func all(_ slabs: [OutputMatrix]) -> [ConvertJob] {
    slabs.indices.flatMap { place in
      let length = slabs[place].parts[0].byteCount
      return stride(from: 0, to: max(length, 1), by: contentLimit).map {
        ConvertJob(slab: place, content: $0..<min(length, $0 + contentLimit))
      }
    }
  }
}

/// What a job made.
package struct ConvertedPiece: Sendable {
  var job: ConvertJob
  /// The codes as they are.
  var content = Bytes([])
  var form = ChunkForm.raw
  /// The codes as frames hold them, where it does.
  var chunks: [EncodedChunk] = []
  /// Scales of the rows that start in the piece.
  var scales: [UInt8] = []
  /// The whole weight's one number, with its first rows.
  var global: [UInt8] = []
  /// Zero points of the rows that start in the piece.
  var zeroPoints: [UInt8] = []
  var inexactValues = 0
  /// The source bytes behind the piece, for the ledger's hash.
  var source = Bytes([])
  /// Whether they were added to the hash where the piece was made, or are not to be.
  var isHashed = false

  init(_ job: ConvertJob) { self.job = job }
}
