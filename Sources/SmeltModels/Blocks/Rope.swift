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
struct YarnScaling: Sendable {
  var factor: Double
  var betaFast: Double
  var betaSlow: Double
  var originalPositions: Double
}

/// The frequencies of one kind of rotation.
struct RotaryFrequencies: Sendable, Equatable {
  /// One frequency for each pair of channels.
  let frequencies: [Float]

  /// theta^(-2i/dimensions), stretched by YaRN where given: low frequencies are divided by the factor, high ones kept,
  /// with a linear ramp between the pairs whose wave fits `betaFast` and `betaSlow` times into the original context.
  init(dimensions: Int, theta: Double, yarn: YarnScaling?) {
    let pairs = dimensions / 2
    var list = (0..<pairs).map { 1 / pow(theta, Double(2 * $0) / Double(dimensions)) }
    if let yarn {
      func pair(_ rotations: Double) -> Double {
        Double(dimensions) * log(yarn.originalPositions / (rotations * 2 * Double.pi)) / (2 * log(theta))
      }
      let low = max(pair(yarn.betaFast).rounded(.down), 0)
      var high = min(pair(yarn.betaSlow).rounded(.up), Double(dimensions - 1))
      if low == high { high += 0.001 }
      for index in 0..<pairs {
        let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
        list[index] = list[index] / yarn.factor * ramp + list[index] * (1 - ramp)
      }
    }
    frequencies = list.map { Float($0) }
  }

  /// Cosines and sines of position × frequency for positions 0 ..< count; angles in float32 as the reference has them.
  func table(count: Int, step: Int = 1) -> RotaryTable {
    let pairs = frequencies.count
    var cosines = [Float](repeating: 0, count: count * pairs)
    var sines = cosines
    for position in 0..<count {
      for (index, frequency) in frequencies.enumerated() {
        let angle = Float(position * step) * frequency
        cosines[position * pairs + index] = Float(cos(Double(angle)))
        sines[position * pairs + index] = Float(sin(Double(angle)))
      }
    }
    return RotaryTable(pairs: pairs, cosines: cosines, sines: sines)
  }
}

/// Cosines and sines, [positions, pairs].
struct RotaryTable: Sendable {
  let pairs: Int
  let cosines: [Float]
  let sines: [Float]

  /// Rotates the interleaved pairs of the last `2 × pairs` of `width` channels at `x`; `sign` -1 undoes it.
  func rotateTail(_ x: UnsafeMutablePointer<Float>, width: Int, position: Int, sign: Float = 1) {
    cosines.withUnsafeBufferPointer { cosines in
      sines.withUnsafeBufferPointer { sines in
        guard let c = cosines.baseAddress, let s = sines.baseAddress else { return }
        sk_rope_interleaved(
          x + width - 2 * pairs, c + position * pairs, s + position * pairs, sign, 2 * pairs)
      }
    }
  }
}
