// Factors of a rotation's frequencies: what llama.cpp keeps in tensors where config.json has numbers of a formula. A frequency is
// theta^(-2i/dimensions) divided by its factor. Formats/gguf.md, section 5.

import SmeltStorage
import SmeltTensors

/// A tensor of factors.
package struct GGUFFactors: Sendable {
  /// The tensor's name.
  package let name: String
  /// One factor for each pair of channels, [pairs].
  package let values: [Float]

  /// Factors of all lengths: Llama 3's.
  static let llama3 = "rope_freqs.weight"
  /// LongRoPE's factors of short sequences.
  static let short = "rope_factors_short.weight"
  /// LongRoPE's factors of long sequences.
  static let long = "rope_factors_long.weight"

  /// Whether other factors are the same but for rounding: the conversion computes some in float32.
  package func isNear(_ other: [Float]) -> Bool {
    values.count == other.count && zip(values, other).allSatisfy { abs($0 - $1) <= 1e-5 * abs($0) }
  }
}

extension RotaryFrequencies {
  /// The factors that llama.cpp takes for this rotation; none where keys say all.
  var factors: [GGUFFactors] {
    switch stretch {
    case .llama3: [GGUFFactors(name: GGUFFactors.llama3, values: llama3Factors)]
    case .longrope(let short, let long, _):
      [
        GGUFFactors(name: GGUFFactors.long, values: long.map { Float($0) }),
        GGUFFactors(name: GGUFFactors.short, values: short.map { Float($0) }),
      ]
    default: []
    }
  }

  private var llama3Factors: [Float] {
    guard let stretch else { return [] }
    let dimensions = 2 * frequencies.count
    let plain = RopeStretch.linear(factor: 1).frequencies(dimensions: dimensions, theta: theta, length: 0)
    let stretched = stretch.frequencies(dimensions: dimensions, theta: theta, length: 0)
    return zip(plain, stretched).map { Float($0 / $1) }
  }
}

extension RopeStretch {
  /// Whether a file can say all of the stretching to llama.cpp.
  func isComplete(withFactors hasFactors: Bool) -> Bool {
    switch self {
    case .linear: true
    case .llama3, .proportional: hasFactors
    case .dynamic, .longrope: false
    }
  }

  /// What llama.cpp does otherwise.
  func difference(_ hasFactors: Bool) -> String {
    switch self {
    case .dynamic: "the rotation's base grows with the sequence here, and llama.cpp keeps it"
    case .longrope where hasFactors:
      "factors of frequencies go by the sequence's length here, and llama.cpp's go by the context that it is started with"
    default: "the rotation is stretched by '\(name)' here, and llama.cpp's architecture has no place for it"
    }
  }
}

extension GGUFModel {
  /// The factors of a tensor, one for each pair of channels.
  private func factors(_ name: String, _ dimensions: Int) throws -> [Float]? {
    guard let values = try numbers(name) else { return nil }
    guard values.count == dimensions / 2, values.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      throw metadata.error(
        name, "holds \(values.count) factors of frequencies, expected \(dimensions / 2) numbers above 0")
    }
    return values
  }

  private func list(_ factors: [Float]) -> JSON { JSON(factors.map { JSON(shortest($0)) }) }

  /// The members of `rope_scaling` that LongRoPE has in tensors.
  func longFactors(_ dimensions: Int) throws -> [(String, JSON)] {
    guard let short = try factors(GGUFFactors.short, dimensions),
      let long = try factors(GGUFFactors.long, dimensions)
    else { return [] }
    var members = [("short_factor", list(short)), ("long_factor", list(long))]
    if let magnitude = try number("rope.scaling.attn_factor") {
      members.append(("attention_factor", JSON(magnitude)))
    }
    return members
  }

  /// `rope_scaling` for factors of all lengths: Llama 3's formula where it gives them, with the bounds that all its models have;
  /// else the factors themselves, for short and long sequences alike. Nil where there are none, or all are 1.
  func llama3Factors(_ dimensions: Int) throws -> JSON? {
    guard let found = try factors(GGUFFactors.llama3, dimensions), let factor = found.max(),
      found.contains(where: { $0 != 1 })
    else { return nil }
    let theta = try number("rope.freq_base", default: 10000)
    for exponent in 5...20 {
      let positions = 1 << exponent
      let stretch = RopeStretch.llama3(
        factor: shortest(factor), low: 1, high: 4, positions: Double(positions))
      let rope = RotaryFrequencies(dimensions: dimensions, theta: theta, stretch: stretch)
      guard rope.factors.first?.isNear(found) == true else { continue }
      return [
        "rope_type": "llama3", "factor": JSON(shortest(factor)), "low_freq_factor": 1, "high_freq_factor": 4,
        "original_max_position_embeddings": JSON(positions),
      ]
    }
    return [
      "rope_type": "longrope", "short_factor": list(found), "long_factor": list(found),
      "original_max_position_embeddings": JSON(try integer("context_length", default: 2048)),
      "attention_factor": 1,
    ]
  }
}
