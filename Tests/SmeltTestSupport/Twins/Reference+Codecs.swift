// The slow twins of checksums and of the codes of chunks: one symbol after the other, from Formats/codecs.md.

extension Reference {
  /// `sk_crc32c`: the remainder of a division by the polynomial, bit by bit.
  package static func crc32c(_ bytes: some Sequence<UInt8>, after sum: UInt32 = 0) -> UInt32 {
    ~bytes.reduce(~sum) { remainder, byte in
      (0..<8).reduce(remainder ^ UInt32(byte)) { c, _ in c >> 1 ^ (c & 1 == 1 ? 0x82F6_3B78 : 0) }
    }
  }

  /// `sk_xxh64`: the public specification of XXH64, stripe after stripe.
  package static func xxh64(_ bytes: [UInt8], seed: UInt64 = 0) -> UInt64 {
    let (p1, p2, p3, p4, p5): (UInt64, UInt64, UInt64, UInt64, UInt64) = (
      0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63,
      0x27D4_EB2F_1656_67C5
    )
    func rotated(_ x: UInt64, _ count: UInt64) -> UInt64 { x << count | x >> (64 - count) }
    func number(_ place: Int, _ count: Int) -> UInt64 {
      bytes[place..<place + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    func round(_ sum: UInt64, _ input: UInt64) -> UInt64 { rotated(sum &+ input &* p2, 31) &* p1 }
    var sums = [seed &+ p1 &+ p2, seed &+ p2, seed, seed &- p1]
    var place = 0
    while bytes.count - place >= 32 {
      for lane in 0..<4 { sums[lane] = round(sums[lane], number(place + 8 * lane, 8)) }
      place += 32
    }
    var hash = seed &+ p5
    if bytes.count >= 32 {
      hash = zip(sums, [1, 7, 12, 18]).reduce(0) { $0 &+ rotated($1.0, $1.1) }
      for sum in sums { hash = (hash ^ round(0, sum)) &* p1 &+ p4 }
    }
    hash &+= UInt64(bytes.count)
    while bytes.count - place >= 8 {
      hash = rotated(hash ^ round(0, number(place, 8)), 27) &* p1 &+ p4
      place += 8
    }
    if bytes.count - place >= 4 {
      hash = rotated(hash ^ number(place, 4) &* p1, 23) &* p2 &+ p3
      place += 4
    }
    for byte in bytes[place...] { hash = rotated(hash ^ UInt64(byte) &* p5, 11) &* p1 }
    hash = (hash ^ hash >> 33) &* p2
    hash = (hash ^ hash >> 29) &* p3
    return hash ^ hash >> 32
  }

  // MARK: Bit planes. Formats/codecs.md, section 4

  /// The bits of each stage, by the number in the first byte of a chunk.
  package static let stageLists = [[2, 2, 3], [2, 3], [3], [3, 3], [1, 2, 2, 3], [2, 2, 2, 3]]

  /// What an element's bits are taken apart into.
  package enum PlaneElement: Sendable, CaseIterable {
    /// Two bytes, eight bits of exponent: `sk_planes16_encode`, `sk_planes16_decode`.
    case bf16
    /// One byte, four bits of exponent: `sk_planes8_encode`, `sk_planes8_decode`.
    case fp8

    /// Bytes of an element.
    package var width: Int { self == .bf16 ? 2 : 1 }
    var symbolCount: Int { self == .bf16 ? 256 : 16 }

    func take(_ bytes: [UInt8], _ i: Int) -> (symbol: UInt8, low: UInt8) {
      switch self {
      case .bf16:
        let (a, b) = (bytes[2 * i], bytes[2 * i + 1])
        return (b << 1 | a >> 7, a << 1 | b >> 7)
      case .fp8:
        let a = bytes[i]
        return (a >> 3 & 15, (a & 7) << 1 | a >> 7)
      }
    }

    func put(_ symbol: UInt8, _ low: UInt8) -> [UInt8] {
      switch self {
      case .bf16: [symbol << 7 | low >> 1, low << 7 | symbol >> 1]
      case .fp8: [low << 7 | symbol << 3 | low >> 1]
      }
    }

    /// The low parts as they are stored.
    func pack(_ low: [UInt8]) -> [UInt8] { self == .bf16 ? low : packGroups(low) }
  }

  /// Nibbles, 64 in 32 bytes: j and j + 32 share byte j. The last group is filled with zeros.
  package static func packGroups(_ nibbles: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: (nibbles.count + 63) / 64 * 32)
    for (i, nibble) in nibbles.enumerated() {
      bytes[i / 64 * 32 + i % 32] |= i % 64 < 32 ? nibble : nibble << 4
    }
    return bytes
  }

  /// The `count` nibbles of `packGroups`.
  package static func unpackGroups(_ bytes: [UInt8], count: Int) -> [UInt8] {
    (0..<count).map { i in
      let byte = bytes[i / 64 * 32 + i % 32]
      return i % 64 < 32 ? byte & 15 : byte >> 4
    }
  }

  /// `sk_planes16_encode`, `sk_planes8_encode` of whole elements, however long the result is.
  package static func encodePlanes(_ bytes: [UInt8], _ element: PlaneElement) -> [UInt8] {
    let parts = (0..<bytes.count / element.width).map { element.take(bytes, $0) }
    let counted =
      parts.count <= 16_384
      ? parts
      : stride(from: 0, through: parts.count - 64, by: 256).flatMap { parts[$0..<$0 + 64] }
    let counts = counted.reduce(into: [UInt8: Int]()) { $0[$1.symbol, default: 0] += 1 }
    let order = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map(\.key)
    func coded(_ symbols: [UInt8], _ list: Int) -> (header: [UInt8], body: [UInt8]) {
      var header = [UInt8(list), 0, 0, 0]
      var names: [UInt8] = []
      var planes: [UInt8] = []
      var left = symbols
      for bits in stageLists[list] {
        let escape = (1 << bits) - 1
        let named = Array(order.dropFirst(names.count).prefix(escape))
        let all = named + [UInt8](repeating: 0, count: escape - named.count)
        let codes = left.map { all.firstIndex(of: $0) ?? escape }
        planes += bitPlanes(codes, bits: bits)
        left = zip(left, codes).filter { $1 == escape }.map(\.0)
        header += bytesOf(UInt32(left.count))
        names += all
      }
      header += [UInt8](repeating: 0, count: 20 - header.count) + names
      return (header + [UInt8](repeating: 0, count: 36 - header.count), planes + left)
    }
    let sizes = stageLists.indices.map { coded(counted.map(\.symbol), $0).body.count }
    let list = sizes.indices.min { (sizes[$0], $0) < (sizes[$1], $1) } ?? 0
    let (header, body) = coded(parts.map(\.symbol), list)
    return header + element.pack(parts.map(\.low)) + body
  }

  /// `sk_planes16_decode`, `sk_planes8_decode`: `count` elements, or nil where a rule is broken.
  package static func decodePlanes(_ stored: [UInt8], count: Int, _ element: PlaneElement) -> [UInt8]? {
    guard stored.count >= 36, Int(stored[0]) < stageLists.count, stored[1..<4].allSatisfy({ $0 == 0 }) else {
      return nil
    }
    let list = stageLists[Int(stored[0])]
    var counts = [count]
    for s in 0..<4 {
      var escapes = 0
      for i in 0..<4 { escapes |= Int(stored[4 + 4 * s + i]) << (8 * i) }
      guard escapes <= (s < list.count ? counts[s] : 0) else { return nil }
      if s < list.count { counts.append(escapes) }
    }
    let lowBytes = element == .bf16 ? count : (count + 63) / 64 * 32
    let planeBytes = zip(counts, list).map { ($0 + 63) / 64 * 8 * $1 }
    let total = 36 + lowBytes + planeBytes.reduce(0, +) + counts[list.count]
    let tables = list.indices.map { s in
      let start: Int = list[..<s].reduce(20) { $0 + (1 << $1) - 1 }
      return Array(stored[start..<start + (1 << list[s]) - 1])
    }
    let used = tables.reduce(0) { $0 + $1.count }
    guard total == stored.count, stored[20 + used..<36].allSatisfy({ $0 == 0 }) else { return nil }
    var symbols = Array(stored.suffix(counts[list.count]))
    guard (tables.joined() + symbols).allSatisfy({ Int($0) < element.symbolCount }) else { return nil }
    var end = stored.count - symbols.count
    for s in list.indices.reversed() {
      let start = end - planeBytes[s]
      guard let codes = planeCodes(Array(stored[start..<end]), count: counts[s], bits: list[s]) else {
        return nil
      }
      guard codes.count(where: { $0 == tables[s].count }) == symbols.count else { return nil }
      var escapes = symbols.makeIterator()
      symbols = codes.map { $0 < tables[s].count ? tables[s][$0] : escapes.next() ?? 0 }
      end = start
    }
    let packed = Array(stored[36..<36 + lowBytes])
    let low = element == .bf16 ? packed : unpackGroups(packed, count: count)
    guard element.pack(low) == packed else { return nil }
    return zip(symbols, low).flatMap { element.put($0, $1) }
  }

  /// For each 64 codes, bit 0 of all of them as a little-endian number, then bit 1, and so on.
  private static func bitPlanes(_ codes: [Int], bits: Int) -> [UInt8] {
    var planes = [UInt8](repeating: 0, count: (codes.count + 63) / 64 * 8 * bits)
    for (i, code) in codes.enumerated() {
      for bit in 0..<bits where code >> bit & 1 == 1 {
        planes[(i / 64 * bits + bit) * 8 + i % 64 / 8] |= 1 << UInt8(i % 8)
      }
    }
    return planes
  }

  /// The codes of `bitPlanes`, or nil where a bit behind the last is set.
  private static func planeCodes(_ planes: [UInt8], count: Int, bits: Int) -> [Int]? {
    var codes = [Int](repeating: 0, count: (count + 63) / 64 * 64)
    for i in codes.indices {
      for bit in 0..<bits {
        let byte = planes[(i / 64 * bits + bit) * 8 + i % 64 / 8]
        codes[i] |= Int(byte >> UInt8(i % 8) & 1) << bit
      }
    }
    return codes[count...].allSatisfy { $0 == 0 } ? Array(codes[..<count]) : nil
  }

  private static func bytesOf(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  // MARK: Nibbles and pairs. Formats/codecs.md, sections 3 and 5

  /// `sk_split_nibbles`: high and low nibbles of bytes, rotated left by one bit or not.
  package static func splitNibbles(_ bytes: [UInt8], rotate: Bool) -> (high: [UInt8], low: [UInt8]) {
    let turned = bytes.map { rotate ? $0 << 1 | $0 >> 7 : $0 }
    return (packGroups(turned.map { $0 >> 4 }), packGroups(turned.map { $0 & 15 }))
  }

  /// `sk_split_pairs16`: the nibbles of the exponents, the low bytes, the exponents that no nibble says.
  package static func splitPairs(_ bytes: [UInt8], base: UInt8) -> (
    nibbles: [UInt8], low: [UInt8], escapes: [UInt8]
  ) {
    let parts = (0..<bytes.count / 2).map { PlaneElement.bf16.take(bytes, $0) }
    let nibbles = parts.map { Int(base) - Int($0.symbol) }.map { (0..<15).contains($0) ? UInt8($0) : 15 }
    let escapes = zip(parts, nibbles).filter { $1 == 15 }.map(\.0.symbol)
    return (packGroups(nibbles), parts.map(\.low), escapes)
  }

  // MARK: What a search for repetitions can reach

  /// log2(x) with 8 bits behind the point: a square that is 2 or more is a bit.
  package static func logarithm8(_ x: UInt32) -> UInt32 {
    let whole = 31 - x.leadingZeroBitCount
    var square = UInt64(x) << UInt64(31 - whole)
    return (0..<8).reduce(UInt32(whole)) { result, _ in
      square = (square * square) >> 31
      let bit = UInt32(square >> 32)
      square >>= UInt64(bit)
      return result << 1 | bit
    }
  }

  /// `sk_least_searched`: the entropy of the bytes, less what runs of 6 bytes that were there before may cover.
  package static func leastSearched(_ bytes: [UInt8], element: Int) -> Int {
    guard !bytes.isEmpty else { return 0 }
    var counts = [UInt32](repeating: 0, count: 256)
    for byte in bytes { counts[Int(byte)] += 1 }
    let bits = counts.filter { $0 > 0 }.reduce(0 as UInt64) {
      $0 + UInt64($1) * UInt64(logarithm8(UInt32(bytes.count)) - logarithm8($1))
    }
    var seen = [UInt32](repeating: 0, count: 8192)
    var (looked, found) = (0 as UInt64, 0 as UInt64)
    for start in stride(from: 0, through: bytes.count - 8, by: element) {
      let run = bytes[start..<start + 6].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
      let hash = (run << 16) &* 0x9E37_79B9_7F4A_7C15
      guard hash >> 61 == 0 else { continue }
      let (tag, place) = (UInt32(truncatingIfNeeded: hash >> 16) | 1, Int(hash >> 48))
      looked += 1
      if seen[place] == tag { found += 1 }
      seen[place] = tag
    }
    let entropy = bits >> 11
    let runs = stride(from: 0, through: bytes.count - 8, by: element).underestimatedCount
    guard 16 * looked >= UInt64(runs) else { return 0 }
    guard found > 0 else { return Int(entropy) }
    return 6 * found >= looked ? 0 : Int(entropy - entropy * 6 * found / looked)
  }
}
