// Rotary position embedding: frequencies, YaRN, and tables of cosines and sines.
// Sources: Su et al., "RoFormer" (2021); Peng et al., "YaRN" (2023).

internal import CKernels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How YaRN stretches the frequencies.
struct YarnScaling: Sendable, Equatable {
  var factor: Double
  var betaFast: Double
  var betaSlow: Double
  var originalPositions: Double
  /// Whether the bounds of the ramp are rounded to whole pairs; gpt-oss does not.
  var truncates = true
}

/// Which channels are rotated together.
enum RotaryPairing: Sendable {
  /// Channels 2i and 2i+1.
  case interleaved
  /// Channels i and i + n/2.
  case halves
}

/// The frequencies of one kind of rotation.
struct RotaryFrequencies: Sendable, Equatable {
  /// One frequency for each pair of channels.
  let frequencies: [Float]
  /// Cosines and sines are multiplied by it; 1 unless YaRN or LongRoPE gives a magnitude.
  var magnitude: Float = 1
  /// The base that they were made of.
  let theta: Double
  /// The YaRN that they were made with.
  let yarn: YarnScaling?
  /// The other stretching that they were made with.
  let stretch: RopeStretch?

  /// Whether two rotations are the same numbers, whatever they were made of.
  static func == (a: RotaryFrequencies, b: RotaryFrequencies) -> Bool {
    a.frequencies == b.frequencies && a.magnitude == b.magnitude
      && a.frequencies(length: .max >> 20) == b.frequencies(length: .max >> 20)
  }

  /// Nothing is rotated: attention that knows no positions.
  static let none = RotaryFrequencies(dimensions: 0, theta: 1, yarn: nil)

  /// theta^(-2i/dimensions), stretched by YaRN where given: low frequencies are divided by the factor, high ones kept,
  /// with a linear ramp between the pairs whose wave fits `betaFast` and `betaSlow` times into the original context.
  init(dimensions: Int, theta: Double, yarn: YarnScaling?, magnitude: Float = 1) {
    let pairs = dimensions / 2
    var list = (0..<pairs).map { 1 / pow(theta, Double(2 * $0) / Double(dimensions)) }
    if let yarn {
      func pair(_ rotations: Double) -> Double {
        Double(dimensions) * log(yarn.originalPositions / (rotations * 2 * Double.pi)) / (2 * log(theta))
      }
      var low = pair(yarn.betaFast)
      var high = pair(yarn.betaSlow)
      if yarn.truncates { (low, high) = (low.rounded(.down), high.rounded(.up)) }
      low = max(low, 0)
      high = min(high, Double(dimensions - 1))
      if low == high { high += 0.001 }
      for index in 0..<pairs {
        let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
        list[index] = list[index] / yarn.factor * ramp + list[index] * (1 - ramp)
      }
    }
    frequencies = list.map { Float($0) }
    self.magnitude = magnitude
    self.theta = theta
    self.yarn = yarn
    stretch = nil
  }

  /// theta^(-2i/dimensions), stretched otherwise than by YaRN; `frequencies` are those of short sequences.
  init(dimensions: Int, theta: Double, stretch: RopeStretch, magnitude: Float = 1) {
    frequencies = stretch.frequencies(dimensions: dimensions, theta: theta, length: 0).map { Float($0) }
    self.magnitude = magnitude
    self.theta = theta
    yarn = nil
    self.stretch = stretch
  }

  /// The frequencies in a sequence of so many tokens.
  func frequencies(length: Int) -> [Float] {
    guard let stretch, stretch.key(length: length) != nil else { return frequencies }
    return stretch.frequencies(dimensions: 2 * frequencies.count, theta: theta, length: length)
      .map { Float($0) }
  }

  /// Cosines and sines of position × frequency; angles in float32 as the reference has them.
  /// - Parameters:
  ///   - step: each index stands for so many positions (a compressor's windows).
  ///   - length: the tokens of the whole sequence, on which some stretched frequencies depend.
  func table(_ indices: Range<Int>, step: Int = 1, length: Int = 0) -> RotaryTable {
    let frequencies = frequencies(length: length)
    let pairs = frequencies.count
    var cosines = [Float](repeating: 0, count: indices.count * pairs)
    var sines = cosines
    for (row, position) in indices.enumerated() {
      for (index, frequency) in frequencies.enumerated() {
        let angle = Double(Float(position * step) * frequency)
        cosines[row * pairs + index] = Float(cos(angle)) * magnitude
        sines[row * pairs + index] = Float(sin(angle)) * magnitude
      }
    }
    return RotaryTable(first: indices.lowerBound, pairs: pairs, cosines: cosines, sines: sines)
  }
}

/// Cosines and sines, [indices, pairs].
struct RotaryTable: Sendable {
  /// The index of the first row.
  let first: Int
  let pairs: Int
  let cosines: [Float]
  let sines: [Float]

  /// Rotates the `2 × pairs` channels at `x`; `sign` -1 undoes it.
  func rotate(_ x: UnsafeMutablePointer<Float>, _ index: Int, _ pairing: RotaryPairing, sign: Float = 1) {
    // SAFETY: `x` must hold 2 × pairs floats that nobody else uses; the index is held against the table.
    precondition(
      index >= first && (index - first + 1) * pairs <= cosines.count, "index \(index) is not in the table")
    cosines.withUnsafeBufferPointer { cosines in
      sines.withUnsafeBufferPointer { sines in
        guard let c = cosines.baseAddress, let s = sines.baseAddress else { return }
        let row = (index - first) * pairs
        switch pairing {
        case .interleaved: sk_rope_interleaved(x, c + row, s + row, sign, 2 * pairs)
        case .halves: sk_rope_halves(x, c + row, s + row, sign, 2 * pairs)
        }
      }
    }
  }

  /// Rotates the interleaved pairs of the last `2 × pairs` of `width` channels at `x`; `sign` -1 undoes it.
  func rotateTail(_ x: UnsafeMutablePointer<Float>, width: Int, position: Int, sign: Float = 1) {
    rotate(x + width - 2 * pairs, position, .interleaved, sign: sign)
  }
}
