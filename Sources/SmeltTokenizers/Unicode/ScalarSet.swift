// Sets of Unicode scalars: as sorted ranges while a pattern is read, as bitmaps while it is matched.

/// A set of Unicode scalars as sorted, disjoint ranges.
struct ScalarSet: Equatable {
  /// The ranges, ascending, with at least one scalar between two of them.
  private(set) var ranges: [ClosedRange<UInt32>] = []

  /// The largest scalar.
  static let last: UInt32 = 0x10FFFF
  /// Every scalar.
  static let all = ScalarSet([0...last])

  /// The empty set.
  init() {}

  /// The union of ranges in any order.
  init(_ unordered: [ClosedRange<UInt32>]) {
    for range in unordered.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let end = ranges.last?.upperBound, range.lowerBound <= end || range.lowerBound - end == 1 {
        let start = ranges[ranges.count - 1].lowerBound
        ranges[ranges.count - 1] = start...max(end, range.upperBound)
      } else {
        ranges.append(range)
      }
    }
  }

  /// A set of one scalar.
  init(_ scalar: UInt32) { ranges = [scalar...scalar] }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  func inverted() -> ScalarSet {
    var out = ScalarSet()
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { out.ranges.append(next...(range.lowerBound - 1)) }
      next = range.upperBound + 1
    }
    if next <= Self.last { out.ranges.append(next...Self.last) }
    return out
  }

  func intersection(_ other: ScalarSet) -> ScalarSet { inverted().union(other.inverted()).inverted() }

  func contains(_ scalar: UInt32) -> Bool {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].lowerBound <= scalar
  }

  /// The number of scalars, surrogates included.
  var count: Int { ranges.reduce(0) { $0 + Int($1.upperBound - $1.lowerBound) + 1 } }

  /// The set with every scalar that differs from a member only in case.
  func ignoringCase() -> ScalarSet {
    var added: [ClosedRange<UInt32>] = []
    for (scalar, folded) in ScalarCase.folds where contains(scalar) != contains(folded) {
      added.append(scalar...scalar)
      added.append(folded...folded)
    }
    // Twice, since three scalars may share one folded form: K, k and the Kelvin sign.
    let once = union(ScalarSet(added))
    var more: [ClosedRange<UInt32>] = []
    for (scalar, folded) in ScalarCase.folds where once.contains(folded) { more.append(scalar...scalar) }
    return once.union(ScalarSet(more))
  }
}

/// Upper and lower case of single scalars.
enum ScalarCase {
  /// Every scalar that has another folded form, with that form. The form is the lower case of the upper case, where
  /// both are single scalars: it joins `ſ` with `s` as Unicode's simple case folding does.
  static let folds: [(UInt32, UInt32)] = {
    var out: [(UInt32, UInt32)] = []
    for value in UInt32(0x41)..<0x1F000 {
      guard let scalar = Unicode.Scalar(value),
        scalar.properties.isCased || scalar.properties.changesWhenCaseFolded
      else { continue }
      let folded = single(single(scalar, \.uppercaseMapping), \.lowercaseMapping)
      if folded != scalar { out.append((value, folded.value)) }
    }
    return out
  }()

  private static func single(
    _ scalar: Unicode.Scalar, _ mapping: KeyPath<Unicode.Scalar.Properties, String>
  ) -> Unicode.Scalar {
    let mapped = scalar.properties[keyPath: mapping].unicodeScalars
    return mapped.count == 1 ? mapped.first ?? scalar : scalar
  }
}

/// Several sets as bitmaps over pages of 256 scalars; equal pages are kept once.
struct ScalarBitmaps: Sendable {
  /// Pages a set: one for each 256 scalars, up to 0x10FFFF.
  static let pageCount = 0x1100
  /// For each set, the place of each page in `words`, in units of four words.
  private(set) var pages: [UInt16] = []
  /// The pages, four words of 64 scalars each.
  private(set) var words: [UInt64] = []
  private var places: [[UInt64]: UInt16] = [:]
  private var sets: [ScalarSet] = []

  /// The most sets; each costs 9 KB, and a published pattern has about ten.
  private static let limit = 512

  /// The number of a set, equal sets sharing one; nil when there are too many.
  mutating func add(_ set: ScalarSet) -> Int? {
    if let known = sets.firstIndex(of: set) { return known }
    // A set has at most `pageCount` pages of its own: leave room to number them all.
    guard sets.count < Self.limit, words.count / 4 + Self.pageCount < UInt16.max else { return nil }
    var range = 0
    var empty: UInt16?
    var full: UInt16?
    for page in 0..<Self.pageCount {
      let first = UInt32(page) << 8
      let last = first + 255
      while range < set.ranges.count, set.ranges[range].upperBound < first { range += 1 }
      if range == set.ranges.count || set.ranges[range].lowerBound > last {
        let place = empty ?? place([0, 0, 0, 0])
        empty = place
        pages.append(place)
        continue
      }
      if set.ranges[range].lowerBound <= first, set.ranges[range].upperBound >= last {
        let place = full ?? place([.max, .max, .max, .max])
        full = place
        pages.append(place)
        continue
      }
      var bits: [UInt64] = [0, 0, 0, 0]
      var next = range
      while next < set.ranges.count, set.ranges[next].lowerBound <= last {
        let low = max(set.ranges[next].lowerBound, first) - first
        let high = min(set.ranges[next].upperBound, last) - first
        for bit in low...high { bits[Int(bit >> 6)] |= 1 << UInt64(bit & 63) }
        next += 1
      }
      pages.append(place(bits))
    }
    sets.append(set)
    return sets.count - 1
  }

  /// The place of a page, which is written when it is not known yet.
  private mutating func place(_ bits: [UInt64]) -> UInt16 {
    if let known = places[bits] { return known }
    let place = UInt16(words.count / 4)
    words += bits
    places[bits] = place
    return place
  }
}
