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
  /// Rotated latents of the sequence's tokens, [tokens, head width].
  var tokens: ArraySlice<Float>
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
        let windowKeys = tokens.baseAddress! + first * headWidth
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
        let scale = 1 / Float(headWidth).squareRoot()
        for head in 0..<heads {
          let row = scores + head * total
          for index in 0..<total { row[index] *= scale }
          sk_softmax_sink(row, total, sinks[head])
          let target = out + head * headWidth
          target.update(repeating: 0, count: headWidth)
          for index in 0..<inWindow {
            sk_axpy_f32(row[index], windowKeys + index * headWidth, target, headWidth)
          }
          for index in 0..<entries {
            sk_axpy_f32(row[inWindow + index], entryKeys! + index * headWidth, target, headWidth)
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
    // matrix of dots and a row of scores, both written before they are read.
    precondition(complete <= keys.rows, "\(complete) entries of \(keys.rows)")
    guard complete > keep else { return (0..<complete).map(Int32.init) }
    let width = keys.columns
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: heads * complete + complete) { scratch in
      let dots = scratch.baseAddress!
      let scores = dots + heads * complete
      keys.values.withUnsafeBufferPointer { keys in
        for start in stride(from: 0, to: width, by: Int(SK_BLOCK)) {
          sk_gemm_f32(
            queries + start, width, keys.baseAddress! + start, width, dots, complete, heads, complete,
            min(Int(SK_BLOCK), width - start), start > 0 ? 1 : 0)
        }
      }
      for entry in 0..<complete { scores[entry] = 0 }
      for head in 0..<heads {
        let weight = headWeights[head]
        let row = dots + head * complete
        for entry in 0..<complete { scores[entry] += max(row[entry], 0) * weight }
      }
      let order = (0..<complete).sorted { scores[$0] > scores[$1] || (scores[$0] == scores[$1] && $0 < $1) }
      return order.prefix(keep).map(Int32.init).sorted()
    }
  }
}
