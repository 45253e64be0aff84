// The unigram model: of all ways to cut a text into tokens, the one with the highest sum of scores (Viterbi). Sources: the
// `tokenizers` library for tokenizer.json, SentencePiece for its own files; the two differ in the width of their sums.

/// Tokens with scores.
struct UnigramModel: Sendable {
  /// The tokens that may be found in a text, with their ids.
  var trie: ByteTrie
  /// The score of each id (a logarithm of a probability).
  var scores: [Double]
  /// Tokens that a run of unknown characters may turn out to be; empty where nobody looks.
  var tokens = ByteTable()
  /// What stands for a character that no token begins with; without it such a character gives nothing.
  var unknown: Int32?
  /// The score of such a character.
  var unknownScore: Double
  /// The ids of `<0x00>` to `<0xFF>`, -1 where absent; empty without byte fallback.
  var fallbackIds: [Int32] = []
  /// Whether sums are kept as 32-bit floats, as SentencePiece keeps them; ties fall otherwise then.
  var isSinglePrecision: Bool

  /// Below the lowest score of a token by this much lies an unknown character. Source: both libraries.
  static let unknownPenalty = 10.0

  /// Working memory of `encode`, kept from word to word.
  struct Workspace {
    /// The best sum of a cut that ends at each byte.
    fileprivate var best: [Double] = []
    /// Where the last token of that cut begins, or -1.
    fileprivate var starts: [Int] = []
    /// Its id; -1 for an unknown character.
    fileprivate var ids: [Int32] = []
    fileprivate var path: [(range: Range<Int>, id: Int32)] = []

    init() {}
  }

  /// Appends the ids of one word.
  /// - Complexity: the length of the word times that of the longest token; 24 bytes of memory for each byte of the word.
  func encode(_ word: UnsafeBufferPointer<UInt8>, _ space: inout Workspace, into out: inout [Int32]) {
    // SAFETY: the word is lent for the call, and slices of it lie between positions inside it (`TokenizerModel.encode`).
    guard let text = word.baseAddress, !word.isEmpty else { return }
    search(word, text, &space)
    space.path.removeAll(keepingCapacity: true)
    var end = word.count
    while end > 0 {
      let start = space.starts[end]
      let id = space.ids[end]
      // Runs of unknown characters are one.
      if id == unknown ?? -1, let last = space.path.last, last.id == id {
        space.path[space.path.count - 1].range = start..<last.range.upperBound
      } else {
        space.path.append((start..<end, id))
      }
      end = start
    }
    for (range, id) in space.path.reversed() {
      if id == unknown ?? -1 {
        missing(UnsafeBufferPointer(rebasing: word[range]), &out)
      } else {
        out.append(id)
      }
    }
  }

  private func search(
    _ word: UnsafeBufferPointer<UInt8>, _ text: UnsafePointer<UInt8>, _ space: inout Workspace
  ) {
    let count = word.count
    space.best.removeAll(keepingCapacity: true)
    space.best.append(contentsOf: repeatElement(0, count: count + 1))
    space.starts.removeAll(keepingCapacity: true)
    space.starts.append(contentsOf: repeatElement(-1, count: count + 1))
    space.ids.removeAll(keepingCapacity: true)
    space.ids.append(contentsOf: repeatElement(-1, count: count + 1))
    var start = 0
    while start < count {
      let before = space.best[start]
      let length = UTF8Text.scalar(text, start, count).length
      var isCovered = false
      var node = 0
      var end = start
      while end < count {
        node = trie.child(node, text[end])
        guard node >= 0 else { break }
        end += 1
        let id = trie.value(node)
        guard id >= 0 else { continue }
        take(start, end, id, scores[Int(id)] + before, &space)
        if end - start == length { isCovered = true }
      }
      if !isCovered {
        take(start, start + length, unknown ?? -1, unknownScore + before, &space)
      }
      start += length
    }
  }

  @inline(__always)
  private func take(_ start: Int, _ end: Int, _ id: Int32, _ sum: Double, _ space: inout Workspace) {
    let sum = isSinglePrecision ? Double(Float(sum)) : sum
    guard space.starts[end] < 0 || sum > space.best[end] else { return }
    space.best[end] = sum
    space.starts[end] = start
    space.ids[end] = id
  }

  /// A run of characters that no token covers: a token that happens to spell it, its bytes, or the unknown token.
  private func missing(_ run: UnsafeBufferPointer<UInt8>, _ out: inout [Int32]) {
    if let id = tokens.find(run) {
      out.append(id)
    } else if !fallbackIds.isEmpty, run.allSatisfy({ fallbackIds[Int($0)] >= 0 }) {
      for byte in run { out.append(fallbackIds[Int(byte)]) }
    } else if let unknown {
      out.append(unknown)
    }
  }
}
