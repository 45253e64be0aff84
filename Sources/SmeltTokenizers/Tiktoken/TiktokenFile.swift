// A file of tiktoken: one token a line, its bytes in base64 and its rank, which is its id and the order in which byte pairs are
// joined. Source: tiktoken 0.14. How a text is cut is not in the file; TiktokenPattern.swift.

package import SmeltStorage

/// The tokens of a `tiktoken.model` or a `.tiktoken`.
package struct TiktokenFile: Sendable {
  /// The file's name, for messages.
  package let file: String
  /// The bytes of each token; its place is its rank.
  package private(set) var tokens: [[UInt8]] = []
  /// The rank of each token's bytes.
  let ranks: ByteTable

  /// The most tokens.
  private static let tokenLimit = 1 << 22
  /// The most bytes that are compared in looking for pairs: the sum of the squares of the lengths. The largest published
  /// vocabularies need a hundredth.
  private static let workLimit = 1 << 30

  /// Reads a file.
  /// - Throws: `TOK_VALUE` with the byte of the line: no base64, no rank, a token or a rank twice, a rank left out, a byte that
  ///   is not a token.
  package init(_ bytes: Bytes, file: String) throws(FormatError) {
    self.file = file
    func wrong(_ offset: Int?, _ problem: String) -> FormatError {
      FormatError(.tokenizerValue, file: file, offset: offset, problem, help: "fetch \(file) again")
    }
    let text = bytes.array
    var lines: [(token: [UInt8], rank: Int, offset: Int)] = []
    var start = 0
    var work = 0
    while start < text.count {
      let end = text[start...].firstIndex(of: 0x0A) ?? text.count
      defer { start = end + 1 }
      var line = text[start..<end]
      if line.last == 0x0D { line.removeLast() }
      guard !line.isEmpty else { continue }
      let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
      guard parts.count == 2, let token = Base64.decode(parts[0]), !token.isEmpty else {
        throw wrong(start, "found '\(Self.shown(line))', expected a token in base64 and its rank")
      }
      guard parts[1].count < 9, parts[1].allSatisfy({ (0x30...0x39).contains($0) }),
        let rank = Int(String(decoding: parts[1], as: UTF8.self)), rank < Self.tokenLimit
      else {
        throw wrong(
          start, "found the rank '\(Self.shown(parts[1]))', expected a number below \(Self.tokenLimit)")
      }
      work += token.count > 1 << 15 ? Self.workLimit : token.count * token.count
      guard work < Self.workLimit else {
        throw wrong(start, "found tokens too long to be those of a vocabulary")
      }
      lines.append((token, rank, start))
    }
    guard !lines.isEmpty else { throw wrong(nil, "found no tokens") }
    var places = [Int32](repeating: -1, count: lines.count)
    var ranks = ByteTable(capacity: lines.count)
    for (place, line) in lines.enumerated() {
      guard line.rank < lines.count else {
        throw wrong(
          line.offset, "found rank \(line.rank) among \(lines.count) tokens, expected each from 0 on")
      }
      guard places[line.rank] < 0 else { throw wrong(line.offset, "found rank \(line.rank) twice") }
      places[line.rank] = Int32(place)
      // SAFETY: `insert` copies the text that it is lent.
      guard line.token.withUnsafeBufferPointer({ ranks.insert($0, Int32(line.rank)) }) else {
        throw wrong(line.offset, "found the token of rank \(line.rank) twice")
      }
    }
    tokens = places.map { lines[Int($0)].token }
    self.ranks = ranks
    if let byte = (UInt8.min...UInt8.max).first(where: { ranks.find(CollectionOfOne($0)) == nil }) {
      throw wrong(nil, "found no token for the byte \(byte), expected one for each")
    }
  }

  private static func shown(_ bytes: ArraySlice<UInt8>) -> String {
    printable(excerpt(String(decoding: bytes.prefix(200), as: UTF8.self)))
  }

  /// Every way to make a token of two others, as ids: tiktoken joins whatever neighbours make a token.
  func merges() -> MergeTable {
    var pairs: [(left: Int32, right: Int32, made: Int32)] = []
    for (rank, token) in tokens.enumerated() where token.count > 1 {
      // SAFETY: both parts lie inside the token, which is lent for the look-ups.
      token.withUnsafeBufferPointer { bytes in
        for middle in 1..<bytes.count {
          guard let left = ranks.find(UnsafeBufferPointer(rebasing: bytes[..<middle])),
            let right = ranks.find(UnsafeBufferPointer(rebasing: bytes[middle...]))
          else { continue }
          pairs.append((left, right, Int32(rank)))
        }
      }
    }
    var table = MergeTable(count: pairs.count)
    for pair in pairs { table.insert(pair.left, pair.right, .init(rank: UInt32(pair.made), id: pair.made)) }
    return table
  }

  /// The one way by which each token comes about: the last two parts of it that joining makes with tokens of lower rank; and
  /// how many tokens have none, so that they come about as whole words only.
  func singleMerges() -> (pairs: [(left: Int, right: Int)], missing: Int) {
    let table = merges()
    var pairs: [(Int, Int)] = []
    var missing = 0
    for (rank, token) in tokens.enumerated() where token.count > 1 {
      var parts = token.map { ranks.find(CollectionOfOne($0)) ?? 0 }
      while parts.count > 2 {
        var best: (place: Int, merge: MergeTable.Merge)?
        for place in 0..<(parts.count - 1) {
          guard let merge = table.find(parts[place], parts[place + 1]), Int(merge.rank) < rank else {
            continue
          }
          if merge.rank < best?.merge.rank ?? .max { best = (place, merge) }
        }
        guard let best else { break }
        parts[best.place] = best.merge.id
        parts.remove(at: best.place + 1)
      }
      if parts.count == 2 { pairs.append((Int(parts[0]), Int(parts[1]))) } else { missing += 1 }
    }
    return (pairs, missing)
  }
}

/// Base64 with padding. Source: RFC 4648, section 4.
enum Base64 {
  private static let values: [UInt8] = {
    var out = [UInt8](repeating: 0xFF, count: 256)
    for (value, byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8.enumerated()
    {
      out[Int(byte)] = UInt8(value)
    }
    return out
  }()

  /// The bytes, or nil for what is no base64.
  static func decode(_ text: some BidirectionalCollection<UInt8>) -> [UInt8]? {
    let text = Array(text)
    guard text.count % 4 == 0 else { return nil }
    let padding = text.suffix(2).reversed().prefix { $0 == UInt8(ascii: "=") }.count
    let table = values
    var out: [UInt8] = []
    out.reserveCapacity(text.count / 4 * 3)
    var word: UInt32 = 0
    for (index, byte) in text.enumerated() {
      let value = index < text.count - padding ? table[Int(byte)] : 0
      guard value != 0xFF else { return nil }
      word = word << 6 | UInt32(value)
      guard index % 4 == 3 else { continue }
      out += [
        UInt8(truncatingIfNeeded: word >> 16), UInt8(truncatingIfNeeded: word >> 8),
        UInt8(truncatingIfNeeded: word),
      ]
      word = 0
    }
    return out.dropLast(padding)
  }
}
