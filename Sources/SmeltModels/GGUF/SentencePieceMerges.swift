// A SentencePiece vocabulary orders merges by the score of the token they make; a tokenizer.json lists them. Both ways here.

import SmeltStorage
import SmeltTokenizers

/// The merges of a vocabulary with scores.
struct SentencePieceMerges {
  /// One merge: the ids of both sides and of the token they make.
  struct Merge: Equatable {
    var left: Int32
    var right: Int32
    var made: Int32
  }

  /// The tokens' texts, by id.
  let texts: [String]
  /// Which tokens take part: those that are neither added nor bytes.
  let takesPart: [Bool]

  /// The most bytes that are compared; the largest real vocabularies need a fiftieth of it. Bounds the work on a file
  /// whose tokens are as long as books.
  static let workLimit = 1 << 30

  /// Whether the derivation stays within `workLimit`.
  var isTractable: Bool {
    var work = 0
    for (text, takesPart) in zip(texts, takesPart) where takesPart {
      let count = text.utf8.count
      guard count < 1 << 15 else { return false }
      work += count * count
      if work > Self.workLimit { return false }
    }
    return true
  }

  /// Every way to make a token of two others, the token of the highest score first; of one token's ways that with the
  /// lower left id first, then the lower right id; of tokens with one score the lower id first. The order is that of
  /// the published tokenizer.json files (transformers' conversion, 2023).
  /// - Complexity: the sum of the squares of the tokens' lengths.
  func merges(scores: [Double]) -> [Merge] {
    let table = self.table()
    var byScore = texts.indices.filter { takesPart[$0] }
    byScore.sort { (-scores[$0], $0) < (-scores[$1], $1) }
    var out: [Merge] = []
    for made in byScore { out += splits(made, table) }
    return out
  }

  /// The ways to make one token, ordered by their ids.
  private func splits(_ made: Int, _ table: ByteTable) -> [Merge] {
    var text = texts[made]
    var out: [Merge] = []
    // SAFETY: both parts lie inside the text, which is lent for the look-ups.
    text.withUTF8 { bytes in
      for middle in bytes.indices.dropFirst() where bytes[middle] & 0xC0 != 0x80 {
        guard let left = table.find(UnsafeBufferPointer(rebasing: bytes[..<middle])),
          let right = table.find(UnsafeBufferPointer(rebasing: bytes[middle...]))
        else { continue }
        out.append(Merge(left: left, right: right, made: Int32(made)))
      }
    }
    return out.sorted { ($0.left, $0.right) < ($1.left, $1.right) }
  }

  private func table() -> ByteTable {
    var table = ByteTable(capacity: texts.count)
    for (id, text) in texts.enumerated() where takesPart[id] {
      var text = text
      _ = text.withUTF8 { table.insert($0, Int32(id)) }
    }
    return table
  }

  // MARK: scores from merges

  /// Scores that order `merges` as they stand: minus the place among the tokens by first merge; tokens that no merge
  /// makes follow in order of their ids. Tokens that take no part have 0.
  func scores(of merges: [Merge]) -> [Double] {
    var scores = [Double](repeating: 0, count: texts.count)
    var place = 0
    var isPlaced = [Bool](repeating: false, count: texts.count)
    for id in merges.map({ Int($0.made) }) + Array(texts.indices) where takesPart[id] && !isPlaced[id] {
      scores[id] = -Double(place)
      isPlaced[id] = true
      place += 1
    }
    return scores
  }

  /// What scores would say otherwise than `merges`: how many merges they lack (made in another order, or of tokens that
  /// take no part) and how many they add.
  func difference(_ merges: [Merge], scores: [Double]) -> (missing: Int, added: Int) {
    var derived: [UInt64: Int32] = [:]
    for merge in self.merges(scores: scores) { derived[Self.pair(merge)] = merge.made }
    var missing = 0
    var last = Double.infinity
    var seen = Set<UInt64>()
    for merge in merges {
      let score = scores[Int(merge.made)]
      if derived[Self.pair(merge)] != merge.made || score > last { missing += 1 }
      last = min(last, score)
      seen.insert(Self.pair(merge))
    }
    return (missing, derived.keys.count { !seen.contains($0) })
  }

  private static func pair(_ merge: Merge) -> UInt64 {
    UInt64(UInt32(bitPattern: merge.left)) << 32 | UInt64(UInt32(bitPattern: merge.right))
  }
}
