// Numbers to places along an axis, with ticks at round numbers.

import SmeltStorage

/// An axis' range.
struct Scale {
  /// How numbers along an axis are written.
  enum Unit {
    /// As they are.
    case number
    /// Shares from 0 to 1, as per cent.
    case share
    /// Bytes, in units of a thousand.
    case bytes
  }

  /// A number on the axis, and how it is written.
  struct Tick {
    /// The number.
    var value: Double
    /// Its text.
    var label: String
  }

  /// The ends.
  let low: Double
  let high: Double
  /// Whether equal steps are equal factors.
  let isLogarithmic: Bool
  /// What is written at the axis.
  let ticks: [Tick]

  /// Where a number stands, from 0 to 1; beyond the ends at the ends.
  func place(_ value: Double) -> Double {
    guard value.isFinite, high > low else { return 0 }
    let share =
      isLogarithmic
      ? value < Scale.least
        ? 0
        : (decimalLogarithm(value) - decimalLogarithm(low)) / (decimalLogarithm(high) - decimalLogarithm(low))
      : (value - low) / (high - low)
    return min(max(share, 0), 1)
  }

  /// Equal steps, about five of them.
  /// - Parameters:
  ///   - isTight: whether the axis ends where the values do, and not at round numbers.
  ///   - leastStep: 1 for numbers of things.
  static func linear(
    _ values: [Double], fromZero: Bool = true, unit: Unit = .number, isTight: Bool = false,
    leastStep: Double = 0
  ) -> Scale {
    let values = values.filter(\.isFinite)
    var low = min(values.min() ?? 0, fromZero ? 0 : .infinity)
    var high = values.max() ?? 1
    if high <= low {
      // One value alone: room on both sides of it, or above zero.
      let room = max(abs(high) * 0.1, leastStep, high == 0 ? 1 : 0)
      (low, high) = (fromZero ? low : low - room, high + room)
    }
    let step = max(roundStep((high - low) / 5), leastStep)
    if !isTight {
      (low, high) = ((low / step + 1e-9).rounded(.down) * step, (high / step - 1e-9).rounded(.up) * step)
    }
    let first = Int((low / step - 1e-9).rounded(.up))
    let last = max(first, Int((high / step + 1e-9).rounded(.down)))
    let decimals = max(0, -Int((decimalLogarithm(step) + 1e-9).rounded(.down)))
    let ticks = (first...min(last, first + 40)).map { count -> Tick in
      let value = Double(count) * step
      let label =
        switch unit {
        case .number: decimals > 5 ? scientific(value) : fixed(value, decimals)
        case .share: fixed(100 * value, max(0, decimals - 2)) + " %"
        case .bytes: value == 0 ? "0" : amount(value)
        }
      return Tick(value: value, label: label)
    }
    return Scale(low: low, high: high, isLogarithmic: false, ticks: ticks)
  }

  /// Below it, and above its inverse, numbers have no place on axes of equal factors: powers of ten there are no normal numbers.
  private static let least = 1e-290

  /// Equal factors, from a round number below the least positive value to one above the largest.
  static func logarithmic(_ values: [Double], unit: Unit = .number) -> Scale {
    let values = values.filter { (Scale.least...1 / Scale.least).contains($0) }
    let (least, most) = (values.min() ?? 0.1, values.max() ?? 1)
    let steps = most / least < 300 ? [1.0, 2, 5] : [1.0]
    let exponents =
      (Int(decimalLogarithm(least).rounded(.down)) - 1)...(Int(decimalLogarithm(most).rounded(.up)) + 1)
    let round = exponents.flatMap { exponent in steps.map { (mantissa: $0, exponent: exponent) } }
    func value(_ tick: (mantissa: Double, exponent: Int)) -> Double {
      tick.mantissa * powered(10, Double(tick.exponent))
    }
    var first = round.lastIndex { value($0) <= least * (1 + 1e-9) } ?? 0
    var last = round.firstIndex { value($0) >= most * (1 - 1e-9) } ?? round.count - 1
    if first == last { (first, last) = (max(0, first - 1), min(round.count - 1, last + 1)) }
    let stride = max(1, (last - first + 7) / 8)
    let ticks = (first...last).filter { ($0 - first) % stride == 0 }.map { place in
      Tick(
        value: value(round[place]),
        label: unit == .bytes
          ? amount(value(round[place])) : label(round[place].mantissa, round[place].exponent))
    }
    return Scale(low: value(round[first]), high: value(round[last]), isLogarithmic: true, ticks: ticks)
  }

  /// A step of 1, 2 or 5 times a power of ten, not below another.
  private static func roundStep(_ step: Double) -> Double {
    guard step > 0, step.isFinite else { return 1 }
    let power = powered(10, (decimalLogarithm(step) + 1e-9).rounded(.down))
    return [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= step * (1 - 1e-9) } ?? 10 * power
  }

  /// A round number of bytes: `2 MB`.
  private static func amount(_ bytes: Double) -> String {
    guard bytes < 9e18 else { return scientific(bytes) }
    let parts = byteText(Int(bytes.rounded())).split(separator: " ")
    guard parts.count == 2, parts[0].contains(".") else { return parts.joined(separator: " ") }
    var number = parts[0]
    while number.last == "0" { number.removeLast() }
    if number.last == "." { number.removeLast() }
    return "\(number) \(parts[1])"
  }

  /// `0.02`, `10⁻⁴`, `2·10⁻⁴`.
  private static func label(_ mantissa: Double, _ exponent: Int) -> String {
    if (-3...4).contains(exponent) {
      return fixed(mantissa * powered(10, Double(exponent)), max(0, -exponent))
    }
    let digits: [Character: Character] = [
      "-": "⁻", "0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸",
      "9": "⁹",
    ]
    return (mantissa == 1 ? "" : "\(fixed(mantissa, 0))·") + "10"
      + String("\(exponent)".map { digits[$0] ?? $0 })
  }
}

/// log₁₀ x.
func decimalLogarithm(_ x: Double) -> Double { logarithm(x) / 2.302_585_092_994_046 }
