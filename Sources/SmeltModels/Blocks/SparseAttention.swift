// DeepSeek-V4's attention: one latent vector a token is key and value of every head; queries see a sliding window of
// tokens and compressed entries of everything before. Sources: the DeepSeek-V4 reference code; sinks as in
// Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023), as learned logits.

internal import CKernels
import SmeltStorage
import SmeltTensors

/// The numbers of the attention that all layers share.
struct SparseAttention: Sendable {
  var heads: Int
  var headWidth: Int
  var window: Int
}

/// What one token's queries may look at.
struct SparseKeys {
  /// Rotated latents of the sequence's tokens, [tokens, head width]; those in reach at least.
  var tokens: ArraySlice<Float>
  /// The position of the first of them.
  var firstToken = 0
  /// Compressed entries, [entries, head width]; empty for window-only layers.
  var entries: Matrix
  /// The entries the token may see, ascending; nil: all that are complete.
  var selected: [Int32]?
  /// Tokens an entry covers.
  var ratio: Int
}

extension SparseAttention {
  /// One token's outputs of all heads, [heads, head width], rotation of the values undone by the caller.
  /// - Parameter query: [heads, head width], rotated.
  func attend(
    _ query: UnsafePointer<Float>, position: Int, _ keys: SparseKeys, sinks: UnsafePointer<Float>,
    scratch: inout AttentionScratch, into out: UnsafeMutablePointer<Float>
  ) {
    // SAFETY: `query` and `out` must hold heads × head width floats, `sinks` one a head, for this task alone. The window ends at
    // `position`, which has a latent; entries are complete ones, or numbers that `Indexer.select` chose among them. `scratch` is
    // one task's, and has just been given room.
    let first = max(0, position - window + 1)
    let inWindow = position + 1 - first
    let complete = keys.ratio > 0 ? min(keys.entries.rows, (position + 1) / keys.ratio) : 0
    let selected = keys.selected
    let entries = selected?.count ?? complete
    let total = inWindow + entries
    scratch.reserve(scores: heads * total, keys: selected == nil ? 0 : entries * headWidth)
    let scores = scratch.scores
    keys.tokens.withUnsafeBufferPointer { tokens in
      keys.entries.values.withUnsafeBufferPointer { all in
        let windowKeys = tokens.baseAddress! + (first - keys.firstToken) * headWidth
        dots(query, windowKeys, count: inWindow, into: scores, stride: total)
        var entryKeys = all.baseAddress
        if let selected, entries > 0 {
          for (place, entry) in selected.enumerated() {
            (scratch.keys + place * headWidth).update(
              from: all.baseAddress! + Int(entry) * headWidth, count: headWidth)
          }
          entryKeys = UnsafePointer(scratch.keys)
        }
        if entries > 0 { dots(query, entryKeys!, count: entries, into: scores + inWindow, stride: total) }
        // Every head sees the same keys: whole rows, then the values, the window's before the entries'.
        let scale = 1 / Float(headWidth).squareRoot()
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 4 * heads) { ranges in
          let (zeros, all) = (ranges.baseAddress!, ranges.baseAddress! + heads)
          let (window, rest) = (all + heads, all + 2 * heads)
          for head in 0..<heads {
            (zeros[head], all[head], window[head], rest[head]) = (0, total, inWindow, entries)
          }
          sk_softmax_rows(scores, total, heads, total, scale, sinks, zeros, all)
          sk_weigh_values(
            scores, total, windowKeys, headWidth, heads, inWindow, headWidth, zeros, window, 0, out, headWidth
          )
          if entries > 0 {
            sk_weigh_values(
              scores + inWindow, total, entryKeys!, headWidth, heads, entries, headWidth, zeros, rest, 1, out,
              headWidth)
          }
        }
      }
    }
  }

  /// scores[head, key] = query[head] · keys[key].
  private func dots(
    _ query: UnsafePointer<Float>, _ keys: UnsafePointer<Float>, count: Int,
    into out: UnsafeMutablePointer<Float>,
    stride: Int
  ) {
    for start in Swift.stride(from: 0, to: headWidth, by: Int(SK_BLOCK)) {
      sk_gemm_f32(
        query + start, headWidth, keys + start, headWidth, out, stride, heads, count,
        min(Int(SK_BLOCK), headWidth - start), start > 0 ? 1 : 0)
    }
  }
}

/// Memory that one thread reuses from token to token.
struct AttentionScratch: ~Copyable {
  // SAFETY: owns both blocks; a value that cannot be copied frees them once. Nothing is initialized: whoever reserves writes before
  // he reads. Addresses from before `reserve` are gone after it.
  private(set) var scores: UnsafeMutablePointer<Float>
  private(set) var keys: UnsafeMutablePointer<Float>
  private var scoreCount = 1
  private var keyCount = 1

  init() {
    scores = .allocate(capacity: 1)
    keys = .allocate(capacity: 1)
  }

  deinit {
    scores.deallocate()
    keys.deallocate()
  }

  /// Makes room; what was there is lost.
  mutating func reserve(scores needed: Int, keys neededKeys: Int) {
    if needed > scoreCount {
      scores.deallocate()
      scores = .allocate(capacity: needed * 2)
      scoreCount = needed * 2
    }
    if neededKeys > keyCount {
      keys.deallocate()
      keys = .allocate(capacity: neededKeys * 2)
      keyCount = neededKeys * 2
    }
  }
}

/// The lightning indexer: many small heads score compressed entries, and each token keeps the best.
enum Indexer {
  /// The entries a token keeps: the `keep` best of the complete ones by
  /// sum over heads of relu(query · key) × head weight, ascending. Of equal scores the earlier entry is kept.
  /// - Parameters:
  ///   - queries: [heads, width], rotated.
  ///   - headWeights: [heads], scaling included.
  static func select(
    queries: UnsafePointer<Float>, headWeights: UnsafePointer<Float>, heads: Int, keys: Matrix, complete: Int,
    keep: Int
  ) -> [Int32] {
    // SAFETY: `queries` must hold heads × width floats, `headWeights` one a head; `keys` has at least `complete` rows. Scratch is a
    // row of scores and the products of a block of keys, both written before they are read.
    precondition(complete <= keys.rows, "\(complete) entries of \(keys.rows)")
    guard complete > keep else { return (0..<complete).map(Int32.init) }
    let width = keys.columns
    let step = min(complete, blockKeys)
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: heads * step + complete) { scratch in
      let scores = scratch.baseAddress!
      let dots = scores + complete
      scores.update(repeating: 0, count: complete)
      keys.values.withUnsafeBufferPointer { keys in
        for first in stride(from: 0, to: complete, by: step) {
          let count = min(step, complete - first)
          for start in stride(from: 0, to: width, by: Int(SK_BLOCK)) {
            sk_gemm_f32(
              queries + start, width, keys.baseAddress! + first * width + start, width, dots, count, heads,
              count, min(Int(SK_BLOCK), width - start), start > 0 ? 1 : 0)
          }
          sk_add_weighted_relu(dots, count, headWeights, heads, scores + first, count)
        }
      }
      return largest(UnsafeBufferPointer(start: scores, count: complete), keep: keep)
    }
  }

  /// The places of the `keep` largest scores, ascending. Of equal scores the earlier is kept; what is no number comes last.
  ///
  /// The smallest of them is found by counting: in the order of their bits, the leading 11, then the next 11 of those that share
  /// them, then the last 10. Three walks, however the scores lie.
  static func largest(_ scores: UnsafeBufferPointer<Float>, keep: Int) -> [Int32] {
    guard keep < scores.count else { return (0..<scores.count).map(Int32.init) }
    guard keep > 0 else { return [] }
    var (least, known) = (UInt32(0), UInt32(0))
    var left = keep
    withUnsafeTemporaryAllocation(of: Int.self, capacity: 2048) { counts in
      for (shift, bits) in [(21, 11), (10, 11), (0, 10)] as [(UInt32, UInt32)] {
        counts.update(repeating: 0)
        let mask = (UInt32(1) << bits) - 1
        for score in scores {
          let order = order(score)
          if order & known == least { counts[Int(order >> shift & mask)] += 1 }
        }
        var digit = Int(mask)
        while counts[digit] < left {
          left -= counts[digit]
          digit -= 1
        }
        least |= UInt32(digit) << shift
        known |= mask << shift
      }
    }
    // All above `least`, and of its equals the first `left`.
    var chosen: [Int32] = []
    chosen.reserveCapacity(keep)
    for place in scores.indices {
      let order = order(scores[place])
      guard order >= least else { continue }
      if order == least {
        guard left > 0 else { continue }
        left -= 1
      }
      chosen.append(Int32(place))
    }
    return chosen
  }

  /// Bits whose order as an integer is that of the numbers: both zeros the same, what is no number below all.
  @inline(__always) private static func order(_ score: Float) -> UInt32 {
    guard score == score else { return 0 }
    let bits = (score + 0).bitPattern
    return bits >> 31 == 1 ? ~bits : bits | 1 << 31
  }

  /// Keys whose products with all heads lie in the second-level cache together.
  private static let blockKeys = 512
}
