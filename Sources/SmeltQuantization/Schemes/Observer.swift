// What a row's scale is taken from. Formats/recipe.md, section 4.

internal import CKernels
internal import SmeltStorage

/// What a row's scale is taken from.
package enum Observer: Sendable, Hashable, CustomStringConvertible {
  /// The largest magnitude: nothing is clipped.
  case absmax
  /// The given percentile of the magnitudes, 0 < p ≤ 100, by the nearest rank; magnitudes above it are clipped.
  case percentile(Double)
  /// The candidate with the smallest Σ importance × (value − result)², never worse than absmax.
  case mse

  /// The percentile when none is given.
  package static let usualPercentile = 99.99

  /// One of each, in the order of help.
  package static let all: [Observer] = [.absmax, .percentile(usualPercentile), .mse]

  /// The name without its number.
  package var name: String {
    switch self {
    case .absmax: "absmax"
    case .percentile: "percentile"
    case .mse: "mse"
    }
  }

  /// The name as `named` reads it: `percentile:99.9` for other percentiles than the usual one.
  package var description: String {
    guard case .percentile(let p) = self, p != Observer.usualPercentile else { return name }
    return "percentile:\(p)"
  }

  /// The word for each scheme's usual observer.
  package static let auto = "auto"

  /// The observer of a name, or nil for `auto`.
  /// - Throws: `RequestError` usage, with the nearest name.
  package static func orAuto(_ text: String) throws -> Observer? {
    text.lowercased() == auto ? nil : try named(text)
  }

  /// The observer of a name: `absmax`, `mse`, `percentile` (99.99) or `percentile:99.9`.
  /// - Throws: `RequestError` usage, with the nearest name.
  package static func named(_ text: String) throws -> Observer {
    let lower = text.lowercased()
    if let found = all.first(where: { $0.name == lower }) { return found }
    if lower.hasPrefix("percentile:") {
      guard let p = Double(lower.dropFirst("percentile:".count)), p > 0, p <= 100 else {
        throw RequestError(
          .usage, "'\(text)' is not a percentile, expected a number above 0 and up to 100",
          help: "for example percentile:99.9")
      }
      return .percentile(p)
    }
    throw unknownName(text, kind: "observer", among: all.map(\.name))
  }
}

/// The nearest rank of a percentile, from 1: at least `p` percent of all values are not above the value of that rank.
func nearestRank(_ p: Double, count: Int) -> Int {
  min(count, max(1, Int((p / 100 * Double(count)).rounded(.up))))
}

/// The number of a rank, counted from 1 for the smallest. `bits` are put into another order.
/// - Complexity: linear on average. Source: Hoare, algorithm 65 "Find".
func selected(_ rank: Int, of bits: UnsafeMutablePointer<UInt32>, count: Int) -> UInt32 {
  // SAFETY: `bits` must hold `count` numbers for this call alone; both indices stay between `low` and `high`, since each loop ends at
  // the pivot at the latest.
  var (low, high) = (0, count - 1)
  let wanted = rank - 1
  while low < high {  // the middle element as pivot: nothing random
    let pivot = bits[low + (high - low) / 2]
    var (i, j) = (low, high)
    while i <= j {
      while bits[i] < pivot { i += 1 }
      while bits[j] > pivot { j -= 1 }
      if i <= j {
        (bits[i], bits[j]) = (bits[j], bits[i])
        i += 1
        j -= 1
      }
    }
    if wanted <= j { high = j } else if wanted >= i { low = i } else { break }
  }
  return bits[wanted]
}
