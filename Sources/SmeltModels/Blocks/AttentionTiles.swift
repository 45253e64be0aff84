// How grouped attention runs: a block of query rows (some tokens × the query heads of one key head) against all keys they see, in three
// steps (sk_attention.h): scores, softmax of whole rows, sums of values. Whole rows and not an online softmax: the bits are those of a
// token by itself, so that neither the block, nor how a sequence is cut into passes, nor the threads change a logit. The price is a
// block's scores, rows × context floats; rows become fewer as the context grows, so that memory is linear in it.

internal import CKernels
import SmeltStorage
import SmeltTensors
internal import Synchronization

/// Query tokens of one sequence, and where the sequence's keys are.
struct AttentionSpan: Sendable {
  /// Rows of the queries.
  var tokens: Range<Int>
  /// The row of keys and values that belongs to position 0; below 0 where the first positions have none.
  var origin: Int
  /// The position of the first token.
  var firstPosition: Int
  /// The lowest position that any of the tokens sees.
  var lowest: Int
}

/// One attention over a batch: what its blocks read, and where they write.
struct AttentionTiles: Sendable {
  let core: GroupedAttention
  let queries: Matrix
  let keys: Matrix
  let values: Matrix
  let sinks: [Float]?
  let selected: [[Int32]?]?
  /// [tokens, heads × value width].
  let out: SharedPointer<Float>

  /// Rows of queries that a block has, where the context allows them; so many make packing of keys worth its time.
  static let rows = 64
  /// Floats of a block's scores: 4 MiB.
  static let scoreFloats = 1 << 20
  /// Floats of packed keys and values that exist at once, but for one key head of one sequence: 16 MiB.
  static let packedFloats = 1 << 22
  /// Keys that one task packs.
  static let packedKeys = 512
  /// Multiply-adds that are worth a task of their own.
  static let taskWork = 1 << 17

  private var perKey: Int { core.heads / core.keyHeads }

  /// A key head of a span, packed.
  private struct Unit {
    var span: AttentionSpan
    var keyHead: Int
    /// Where its panels and its values begin in the round's floats.
    var panels: Int
    var values: Int
    /// Keys, from the span's lowest position on.
    var count: Int
  }

  /// A unit's tokens that make one block.
  private struct Block {
    var unit: Int
    var tokens: Range<Int>
  }

  /// Runs all spans.
  func run(_ spans: [AttentionSpan], _ parallel: Parallel) {
    let pool = AttentionPool()
    var (chosen, spans) = ([ChosenBlock](), spans)
    if selected != nil, !runsChoices {
      spans = spans.compactMap { span in
        let (blocks, rest) = chosenBlocks(span)
        chosen += blocks
        return rest
      }
    }
    run(chosen, pool, parallel)
    let isPacked = { (span: AttentionSpan) in
      span.tokens.count * perKey >= AttentionTiles.rows && core.keyWidth <= Int(SK_BLOCK)
    }
    runFew(spans.filter { !isPacked($0) }, pool, parallel)
    var round: [Unit] = []
    var floats = 0
    for span in spans where isPacked(span) {
      let count = count(span)
      let panels = ceilDivide(count, Int(SK_PANEL)) * Int(SK_PANEL) * sk_packed_width(core.keyWidth)
      let size = panels + ceilDivide(count * core.valueWidth, 16) * 16
      for keyHead in 0..<core.keyHeads {
        if floats + size > AttentionTiles.packedFloats, !round.isEmpty {
          run(round, floats: floats, pool, parallel)
          (round, floats) = ([], 0)
        }
        round.append(
          Unit(span: span, keyHead: keyHead, panels: floats, values: floats + panels, count: count))
        floats += size
      }
    }
    if !round.isEmpty { run(round, floats: floats, pool, parallel) }
  }

  /// Keys of a span, from its lowest position to its last token.
  private func count(_ span: AttentionSpan) -> Int {
    span.firstPosition + span.tokens.count - span.lowest
  }

  /// Whether tokens with a choice run by themselves, over the keys they see: with some heads a key head, and every key in reach.
  private var runsChoices: Bool { selected != nil && perKey >= 4 && core.window == nil }

  /// Tokens of a block of a span.
  private func tokensPerBlock(_ span: AttentionSpan) -> Int {
    if runsChoices { return 1 }
    let rows = min(AttentionTiles.rows, max(8, AttentionTiles.scoreFloats / count(span)))
    return max(1, rows / perKey)
  }

  private func blocks(_ span: AttentionSpan, unit: Int) -> [Block] {
    let step = tokensPerBlock(span)
    return stride(from: 0, to: span.tokens.count, by: step).reversed().map {
      Block(unit: unit, tokens: $0..<min(span.tokens.count, $0 + step))
    }
  }

  /// Some key heads with enough queries: their keys and values are packed, then blocks run, those with most keys first.
  private func run(_ units: [Unit], floats: Int, _ pool: AttentionPool, _ parallel: Parallel) {
    let blocks = units.indices.flatMap { self.blocks(units[$0].span, unit: $0) }
    pool.withFloats(floats) { packed in
      // SAFETY: a task packs panels and values of its own keys, of its own unit; the blocks after it only read.
      let target = SharedPointer(packed)
      let chunks = units.indices.flatMap { unit in
        stride(from: 0, to: units[unit].count, by: AttentionTiles.packedKeys).map { (unit, $0) }
      }
      parallel.forEach(chunks.count) { pack(units[chunks[$0].0], from: chunks[$0].1, into: target.pointer) }
      parallel.forEach(blocks.count) { task in
        let unit = units[blocks[task].unit]
        attend(
          unit.span, blocks[task].tokens, keyHead: unit.keyHead, panels: target.pointer + unit.panels,
          packedValues: target.pointer + unit.values, pool)
      }
    }
  }

  private func pack(_ unit: Unit, from start: Int, into packed: UnsafeMutablePointer<Float>) {
    // SAFETY: rows of keys and values from the span's lowest position to its last were there when the attention was called; a chunk
    // begins at a whole panel, and `run` gave room for all panels and rows of the unit.
    let count = min(AttentionTiles.packedKeys, unit.count - start)
    let row = unit.span.origin + unit.span.lowest + start
    let (keyWidth, valueWidth) = (core.keyWidth, core.valueWidth)
    keys.values.withUnsafeBufferPointer { keys in
      values.values.withUnsafeBufferPointer { values in
        sk_pack_keys(
          keys.baseAddress! + row * self.keys.columns + unit.keyHead * keyWidth, self.keys.columns, count,
          keyWidth, packed + unit.panels + start * sk_packed_width(keyWidth))
        let source = values.baseAddress! + row * self.values.columns + unit.keyHead * valueWidth
        for key in 0..<count {
          (packed + unit.values + (start + key) * valueWidth).update(
            from: source + key * self.values.columns, count: valueWidth)
        }
      }
    }
  }

  /// Spans with few queries, decoding above all: keys and values as they lie, one task a key head, or several where that is little work.
  private func runFew(_ spans: [AttentionSpan], _ pool: AttentionPool, _ parallel: Parallel) {
    let work = spans.map { $0.tokens.count * count($0) }.max() ?? 0
    let perTask = max(
      1, AttentionTiles.taskWork / max(1, work * perKey * (core.keyWidth + core.valueWidth)))
    let tasks = spans.indices.flatMap { span in
      (0..<core.keyHeads).flatMap { keyHead in blocks(spans[span], unit: span).map { ($0, keyHead) } }
    }
    parallel.forEach(ceilDivide(tasks.count, perTask)) { index in
      for (block, keyHead) in tasks[index * perTask..<min(tasks.count, (index + 1) * perTask)] {
        attend(
          spans[block.unit], block.tokens, keyHead: keyHead, panels: nil, packedValues: nil, pool)
      }
    }
  }

  /// One block.
  /// - Parameters:
  ///   - tokens: of the span, counted from its first.
  ///   - panels: the key head's packed keys from the span's lowest position on; nil for keys as they lie.
  ///   - packedValues: its values, a row for each of the packed keys; nil with `panels`.
  private func attend(
    _ span: AttentionSpan, _ tokens: Range<Int>, keyHead: Int, panels: UnsafePointer<Float>?,
    packedValues: UnsafePointer<Float>?, _ pool: AttentionPool
  ) {
    if runsChoices, let seen = choice(span.tokens.lowerBound + tokens.lowerBound, keyHead) {
      let runs = AttentionTiles.runs(seen, count: span.firstPosition + tokens.upperBound)
      return attend(
        span, tokens.lowerBound, keyHead: keyHead, runs: runs, panels: panels, packedValues: packedValues,
        pool)
    }
    let rows = tokens.count * perKey
    // Keys are counted from `base` on, which the packed ones begin a panel at.
    let lowest = core.first(span.firstPosition + tokens.lowerBound) - span.lowest
    let base = panels == nil ? lowest : lowest / Int(SK_PANEL) * Int(SK_PANEL)
    let count = span.firstPosition + tokens.upperBound - span.lowest - base
    let stride = ceilDivide(count, Int(SK_PANEL)) * Int(SK_PANEL) + 16
    let width = panels == nil ? core.keyWidth : sk_packed_width(core.keyWidth)
    let sizes = [rows * stride, rows * width, rows * core.valueWidth, rows].map { ceilDivide($0, 16) * 16 }
    pool.withFloats(sizes.reduce(0, +)) { scores in
      // SAFETY: four arrays of the sizes above, one after another; each row's range of keys lies within `count`, and keys and values
      // have a row for each position from `base` on. `out` has the rows of the span's tokens, and this task alone has these heads of
      // theirs.
      let packed = scores + sizes[0]
      let sums = packed + sizes[1]
      let shares = sums + sizes[2]
      withUnsafeTemporaryAllocation(of: Int.self, capacity: 2 * rows) { ranges in
        let (first, end) = (ranges.baseAddress!, ranges.baseAddress! + rows)
        for row in 0..<rows {
          let token = tokens.lowerBound + row / perKey
          let position = span.firstPosition + token
          first[row] = core.first(position) - span.lowest - base
          end[row] = position + 1 - span.lowest - base
          shares[row] = sinks?[keyHead * perKey + row % perKey] ?? -.infinity
        }
        packQueries(span, tokens, keyHead, isPacked: panels != nil, width: width, into: packed)
        let row = span.origin + span.lowest + base
        keys.values.withUnsafeBufferPointer { keys in
          values.values.withUnsafeBufferPointer { values in
            if let panels {
              sk_scores(
                packed, panels + base * width, core.keyWidth, rows, stride - 16, first, end, scores, stride)
            } else {
              let source = keys.baseAddress! + row * self.keys.columns + keyHead * core.keyWidth
              for start in Swift.stride(from: 0, to: core.keyWidth, by: Int(SK_BLOCK)) {
                sk_gemm_f32(
                  packed + start, width, source + start, self.keys.columns, scores, stride, rows, count,
                  min(Int(SK_BLOCK), core.keyWidth - start), start > 0 ? 1 : 0)
              }
            }
            mask(scores, stride, span, tokens, keyHead, first: span.lowest + base, first, end)
            sk_softmax_rows(
              scores, stride, rows, count, core.scale, sinks == nil ? nil : shares, first, end)
            let source =
              packedValues.map { $0 + base * core.valueWidth }
              ?? values.baseAddress! + row * self.values.columns + keyHead * core.valueWidth
            let valueStride = packedValues == nil ? self.values.columns : core.valueWidth
            sk_weigh_values(
              scores, stride, source, valueStride, rows, count, core.valueWidth, first, end, 0, sums,
              core.valueWidth)
            store(sums, span, tokens, keyHead) { row in
              let sum = sums + row * core.valueWidth
              sum.update(repeating: 0, count: core.valueWidth)
              GroupedAttention.weigh(
                scores + row * stride, source, valueStride, first[row]..<end[row], core.valueWidth, into: sum)
            }
          }
        }
      }
    }
  }

  /// Queries of a block: rows are tokens, then heads.
  func packQueries(
    _ span: AttentionSpan, _ tokens: Range<Int>, _ keyHead: Int, isPacked: Bool, width: Int,
    into packed: UnsafeMutablePointer<Float>
  ) {
    // SAFETY: a token's row has heads × key width floats; `packed` has room for a row of `width` floats for each token and head.
    queries.values.withUnsafeBufferPointer { queries in
      for row in 0..<tokens.count * perKey {
        let token = span.tokens.lowerBound + tokens.lowerBound + row / perKey
        let head = keyHead * perKey + row % perKey
        let source = queries.baseAddress! + (token * core.heads + head) * core.keyWidth
        if isPacked {
          sk_pack_query(source, core.keyWidth, packed + row * width)
        } else {
          (packed + row * width).update(from: source, count: width)
        }
      }
    }
  }

  /// Takes positions that were not selected out of the softmax.
  private func mask(
    _ scores: UnsafeMutablePointer<Float>, _ stride: Int, _ span: AttentionSpan, _ tokens: Range<Int>,
    _ keyHead: Int, first base: Int, _ first: UnsafePointer<Int>, _ end: UnsafePointer<Int>
  ) {
    guard selected != nil else { return }
    for row in 0..<tokens.count * perKey {
      let token = span.tokens.lowerBound + tokens.lowerBound + row / perKey
      guard let seen = choice(token, keyHead) else { continue }
      GroupedAttention.mask(scores + row * stride, base: base, first[row]..<end[row], seen[...])
    }
  }

  /// What the queries of a token see of a key head; nil for all that the window allows.
  private func choice(_ token: Int, _ keyHead: Int) -> [Int32]? {
    guard let selected else { return nil }
    let lists = selected.count / max(1, queries.rows)
    return selected[lists == 1 ? token : token * lists + keyHead]
  }

  /// Writes a block's sums to the tokens' rows. A row that is not a number is made again by `again`: a value that is not finite, of a
  /// key that the row does not see or gives nothing to, must not reach it.
  func store(
    _ sums: UnsafeMutablePointer<Float>, _ span: AttentionSpan, _ tokens: Range<Int>, _ keyHead: Int,
    again: (Int) -> Void
  ) {
    let width = core.valueWidth
    for row in 0..<tokens.count * perKey {
      let token = span.tokens.lowerBound + tokens.lowerBound + row / perKey
      let head = keyHead * perKey + row % perKey
      if sk_count_nonfinite_f32(sums + row * width, width) > 0 { again(row) }
      (out.pointer + (token * core.heads + head) * width).update(from: sums + row * width, count: width)
    }
  }
}

/// Memory that blocks take in turn, so that each thread's is made once.
final class AttentionPool: Sendable {
  private struct Piece: @unchecked Sendable {
    // SAFETY: owned by the pool while nobody has it, else by the one task that took it.
    var floats: UnsafeMutableRawPointer
    var count: Int
  }

  private let free = Mutex<[Piece]>([])

  deinit { for piece in free.withLock({ $0 }) { piece.floats.deallocate() } }

  /// Calls `body` with room for so many floats, on a cache line. Nothing is initialized.
  func withFloats(_ count: Int, _ body: (UnsafeMutablePointer<Float>) -> Void) {
    var piece = free.withLock { $0.popLast() }
    if let found = piece, found.count < count {
      found.floats.deallocate()
      piece = nil
    }
    let taken =
      piece
      ?? {
        OutOfMemory.require(4 * count)
        return Piece(floats: .allocate(byteCount: 4 * count, alignment: 64), count: count)
      }()
    body(taken.floats.assumingMemoryBound(to: Float.self))
    free.withLock { $0.append(taken) }
  }
}
