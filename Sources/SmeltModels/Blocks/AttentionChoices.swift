// Attention of tokens that see few of the keys before them, where each key head has few query heads: the keys that a block of tokens has
// chosen, one token's or those of many, are copied side by side with their values, and only their scores are computed. The bits are
// those of whole rows with a mask: a score and an output do not depend on what lies beside a key, and the softmax takes scores in the
// places of their positions.

internal import CKernels
import SmeltStorage
import SmeltTensors

extension AttentionTiles {
  /// Tokens of a span that run over the keys that one of them has chosen.
  struct ChosenBlock: Sendable {
    let span: AttentionSpan
    /// Counted from the span's first.
    let tokens: Range<Int>
    /// Positions, ascending.
    let keys: [Int32]
  }

  /// What copying a key and its value costs, in products of a query and a key within a block of many: keys of one head lie far apart, and
  /// with 192 channels and 8,192 tokens a copy waits for memory as long as 30 products take.
  static let copyCost = 32
  /// Keys that are copied at a time: with their values they stay in the second-level cache.
  private static let copiedKeys = 256

  /// Tokens that run over chosen keys, and tokens that run over whole rows: those that see all before them, and all where whole rows
  /// with a mask cost less.
  func chosenBlocks(_ span: AttentionSpan) -> (blocks: [ChosenBlock], rest: AttentionSpan?) {
    guard let selected, core.window == nil, selected.count == queries.rows else { return ([], span) }
    guard let last = selected[span.tokens].lastIndex(of: nil) else {
      return chosenBlocks(span, selected).map { ($0, nil) } ?? ([], span)
    }
    let before = last + 1 - span.tokens.lowerBound
    let tail = AttentionSpan(
      tokens: last + 1..<span.tokens.upperBound, origin: span.origin,
      firstPosition: span.firstPosition + before,
      lowest: span.lowest)
    guard !tail.tokens.isEmpty, let blocks = chosenBlocks(tail, selected) else { return ([], span) }
    var rest = span
    rest.tokens = span.tokens.lowerBound..<last + 1
    return (blocks, rest)
  }

  /// The blocks of tokens all of which have chosen; nil where whole rows cost less.
  private func chosenBlocks(_ span: AttentionSpan, _ selected: [[Int32]?]) -> [ChosenBlock]? {
    let perKey = core.heads / core.keyHeads
    let chosen = span.tokens.reduce(0) { $0 + (selected[$1]?.count ?? 0) }
    let all = span.tokens.count * (2 * span.firstPosition + span.tokens.count + 1) / 2
    guard 2 * chosen < all else { return nil }
    // What one token's products cost is twice what a block's do.
    let alone = chosen * (2 * perKey + AttentionTiles.copyCost)
    var blocks: [ChosenBlock] = []
    var together = 0
    let reach = span.firstPosition + span.tokens.count
    var marks = [Bool](repeating: false, count: reach)
    let step = max(1, min(AttentionTiles.rows, max(8, AttentionTiles.scoreFloats / reach)) / perKey)
    for start in stride(from: 0, to: span.tokens.count, by: step) {
      let tokens = start..<min(span.tokens.count, start + step)
      let keys = union(span, tokens, &marks)
      together += keys.count * (tokens.count * perKey + AttentionTiles.copyCost)
      blocks.append(ChosenBlock(span: span, tokens: tokens, keys: keys))
    }
    guard min(alone, together) < all * perKey else { return nil }
    guard alone < together else { return blocks }
    return span.tokens.indices.map { row in
      let token = row - span.tokens.lowerBound
      return ChosenBlock(span: span, tokens: token..<token + 1, keys: selected[row] ?? [])
    }
  }

  /// The positions that some tokens have chosen, ascending.
  /// - Parameter marks: false for every position, and again afterwards.
  private func union(_ span: AttentionSpan, _ tokens: Range<Int>, _ marks: inout [Bool]) -> [Int32] {
    var keys: [Int32] = []
    for token in tokens {
      for key in selected?[span.tokens.lowerBound + token] ?? [] where !marks[Int(key)] {
        marks[Int(key)] = true
        keys.append(key)
      }
    }
    for key in keys { marks[Int(key)] = false }
    return tokens.count == 1 ? keys : keys.sorted()
  }

  /// Runs blocks for all key heads.
  func run(_ blocks: [ChosenBlock], _ pool: AttentionPool, _ parallel: Parallel) {
    guard !blocks.isEmpty else { return }
    // Neighbours of one key head together: they meet many of the same keys in the caches.
    let perTask = max(1, AttentionTiles.rows / max(1, blocks.first?.tokens.count ?? 1))
    let tasks = ceilDivide(blocks.count, perTask)
    parallel.forEach(tasks * core.keyHeads) { task in
      let (keyHead, first) = (task / tasks, task % tasks * perTask)
      for block in blocks[first..<min(blocks.count, first + perTask)] { attend(block, keyHead, pool) }
    }
  }

  private func attend(_ block: ChosenBlock, _ keyHead: Int, _ pool: AttentionPool) {
    let (span, count) = (block.span, block.keys.count)
    let perKey = core.heads / core.keyHeads
    let rows = block.tokens.count * perKey
    let reach = ceilDivide(span.firstPosition + block.tokens.upperBound, 16) * 16
    let copied = min(count, AttentionTiles.copiedKeys) * max(core.keyWidth, core.valueWidth)
    let sizes = [rows * count, rows * core.keyWidth, rows * core.valueWidth, copied, reach].map {
      ceilDivide($0, 16) * 16
    }
    pool.withFloats(sizes.reduce(0, +)) { scores in
      // SAFETY: five arrays of the sizes above, one after another. Chosen positions are a token's own at most, so that they lie within
      // `reach` and have keys and values. `out` has the rows of the span's tokens, and this task alone has these heads of theirs.
      let packed = scores + sizes[0]
      let sums = packed + sizes[1]
      let copies = sums + sizes[2]
      let row = copies + sizes[3]
      packQueries(span, block.tokens, keyHead, isPacked: false, width: core.keyWidth, into: packed)
      eachCopy(block, keys, core.keyWidth, keyHead, into: copies) { places in
        for start in stride(from: 0, to: core.keyWidth, by: Int(SK_BLOCK)) {
          sk_gemm_f32(
            packed + start, core.keyWidth, copies + start, core.keyWidth, scores + places.lowerBound, count,
            rows, places.count, min(Int(SK_BLOCK), core.keyWidth - start), start > 0 ? 1 : 0)
        }
      }
      var edges: [Int] = []
      for index in 0..<rows {
        let token = span.tokens.lowerBound + block.tokens.lowerBound + index / perKey
        weigh(
          scores + index * count, block.keys, selected?[token] ?? [],
          sinks?[keyHead * perKey + index % perKey] ?? -.infinity, by: row, &edges)
      }
      let none = [Int](repeating: 0, count: rows)
      sums.update(repeating: 0, count: rows * core.valueWidth)
      eachCopy(block, values, core.valueWidth, keyHead, into: copies) { places in
        sk_weigh_values(
          scores + places.lowerBound, count, copies, core.valueWidth, rows, places.count, core.valueWidth,
          none, [Int](repeating: places.count, count: rows), 1, sums, core.valueWidth)
      }
      store(sums, span, block.tokens, keyHead) { index in
        let sum = sums + index * core.valueWidth
        sum.update(repeating: 0, count: core.valueWidth)
        values.values.withUnsafeBufferPointer { values in
          for (place, key) in block.keys.enumerated() where scores[index * count + place] != 0 {
            sk_axpy_f32(
              scores[index * count + place],
              values.baseAddress! + (span.origin + Int(key)) * self.values.columns + keyHead
                * core.valueWidth,
              sum, core.valueWidth)
          }
        }
      }
    }
  }

  /// Copies the block's rows of a key head, some at a time, and calls `body` with their places among the block's keys.
  private func eachCopy(
    _ block: ChosenBlock, _ source: Matrix, _ width: Int, _ keyHead: Int,
    into copies: UnsafeMutablePointer<Float>, _ body: (Range<Int>) -> Void
  ) {
    // SAFETY: as in `attend`; a row of `source` has key heads × width floats.
    source.values.withUnsafeBufferPointer { rows in
      let head = rows.baseAddress! + block.span.origin * source.columns + keyHead * width
      for start in stride(from: 0, to: block.keys.count, by: AttentionTiles.copiedKeys) {
        let places = start..<min(block.keys.count, start + AttentionTiles.copiedKeys)
        for place in places {
          (copies + (place - start) * width).update(
            from: head + Int(block.keys[place]) * source.columns, count: width)
        }
        body(places)
      }
    }
  }

  /// Scores of a block's keys become weights: the softmax over those that the row sees, 0 for the others.
  /// - Parameters:
  ///   - scores: one for each of `keys`.
  ///   - seen: some of the keys, ascending.
  ///   - row: room for a score at every position up to the last key's, in whole runs of 16.
  ///   - edges: memory that is used again.
  private func weigh(
    _ scores: UnsafeMutablePointer<Float>, _ keys: [Int32], _ seen: [Int32], _ sink: Float,
    by row: UnsafeMutablePointer<Float>, _ edges: inout [Int]
  ) {
    edges.removeAll(keepingCapacity: true)
    var place = 0
    for key in seen {
      let position = Int(key)
      let start = position / 16 * 16
      if edges.last.map({ $0 <= start }) ?? true {
        if edges.last == start { edges[edges.count - 1] = start + 16 } else { edges += [start, start + 16] }
        (row + start).update(repeating: -.infinity, count: 16)
      }
      while keys[place] != key { place += 1 }
      row[position] = scores[place]
    }
    sk_softmax_runs(row, edges, edges.count / 2, core.scale, sink)
    if seen.count < keys.count { scores.update(repeating: 0, count: keys.count) }
    place = 0
    for key in seen {
      while keys[place] != key { place += 1 }
      scores[place] = row[Int(key)]
    }
  }
}
