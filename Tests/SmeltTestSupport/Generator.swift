// Random numbers that are the same in every run.

/// SplitMix64: a fixed-seed generator. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators".
package struct Generator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// A generator with a seed of its own.
  package init(seed: UInt64) { state = seed }

  /// The next 64 bits.
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A float in -bound ..< bound.
  package mutating func float(_ bound: Float = 1) -> Float { Float.random(in: -bound..<bound, using: &self) }

  /// A float of a normal distribution, by Box and Muller.
  package mutating func normal(_ deviation: Float = 1) -> Float {
    let u = Double.random(in: 1e-12..<1, using: &self)
    let v = Double.random(in: 0..<1, using: &self)
    return deviation * Float((-2 * u.logarithm()).squareRoot() * (2 * Double.pi * v).cosine())
  }

  /// `count` normal floats.
  package mutating func normals(_ count: Int, _ deviation: Float = 1) -> [Float] {
    (0..<count).map { _ in normal(deviation) }
  }
}
