// What config.json says about the rotation, in the hub's spelling (`rope_theta`, `rope_scaling`) and in transformers' own
// (`rope_parameters`). Same numbers, one `RopeSettings`.

import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Base, stretching and magnitudes of a rotation. Source: transformers' modeling_rope_utils.py.
struct RopeSettings: Sendable {
  /// The base of the frequencies.
  var theta: Double
  /// YaRN's stretching, or nil for none.
  var yarn: YarnScaling?
  /// Another stretching, or nil for none.
  var stretch: RopeStretch?
  /// Cosines and sines are multiplied by it.
  var magnitude: Float = 1
  /// Attention logits are multiplied by it, beside 1/√width: the square of `mscale_all_dim`'s magnitude.
  var logitFactor = 1.0

  /// The frequencies of so many channels.
  func frequencies(_ dimensions: Int) -> RotaryFrequencies {
    guard let stretch else {
      return RotaryFrequencies(dimensions: dimensions, theta: theta, yarn: yarn, magnitude: magnitude)
    }
    return RotaryFrequencies(dimensions: dimensions, theta: theta, stretch: stretch, magnitude: magnitude)
  }

  /// The length that a model was trained on. The value outside the object has priority, as in transformers 5.
  private static let originalKey = "original_max_position_embeddings"

  /// The rope types that are read.
  static let types = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"]

  /// Reads either spelling.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for a rope type that is not among `types`.
  init(_ config: ConfigReader, theta fallback: Double = 10000) throws {
    let thetas = 1.5...1e12  // yarn divides by the logarithm
    let parameters = try config.ropeParameters()
    let outer = try config.number("rope_theta", in: thetas, default: fallback)
    theta = try parameters?.number("rope_theta", in: thetas, default: outer) ?? outer
    guard let scaling = parameters else { return }
    let type = try scaling.string("rope_type") ?? scaling.string("type") ?? "default"
    guard type != "default" else { return }
    // Three positions of each token, one for each section of the channels; in a text they are the same.
    if type == "mrope", try config.string("model_type")?.hasSuffix("_text") == true { return }
    guard RopeSettings.types.contains(type) else {
      throw RopeSettings.unsupported(type, config, RopeSettings.types)
    }
    guard type == "yarn" else {
      try readStretch(type, scaling, config)
      return
    }
    let positions = try config.integer("max_position_embeddings", in: 1...1 << 40, default: 2048)
    let original = RopeSettings.originalKey
    let factor = try scaling.number("factor", in: 1e-3...1e6)
    yarn = YarnScaling(
      factor: factor, betaFast: try scaling.number("beta_fast", in: 1e-3...1e6, default: 32),
      betaSlow: try scaling.number("beta_slow", in: 1e-3...1e6, default: 1),
      originalPositions: try (config.value(original) == nil ? scaling : config).number(
        original, in: 1...1e12, default: Double(positions)),
      truncates: try scaling.bool("truncate", default: true))
    let part = try scaling.number("mscale", in: 0...1e6, default: 0)
    let all = try scaling.number("mscale_all_dim", in: 0...1e6, default: 0)
    let plain = RopeSettings.magnitude(1, factor)
    let ratio =
      part > 0 && all > 0
      ? RopeSettings.magnitude(part, factor) / RopeSettings.magnitude(all, factor) : plain
    magnitude = Float(try scaling.number("attention_factor", in: 1e-6...1e6, default: ratio))
    if all > 0 { logitFactor = pow(RopeSettings.magnitude(all, factor), 2) }
  }

  /// A refusal of a rope type.
  static func unsupported(_ type: String, _ config: ConfigReader, _ types: [String]) -> RequestError {
    RequestError(
      .unsupported, "rope type '\(type)' in '\(config.file)'",
      help: "supported: \(types.joined(separator: ", "))")
  }

  /// The stretchings other than YaRN. Only LongRoPE has a magnitude; `attention_factor` of the others is not used.
  private mutating func readStretch(_ type: String, _ scaling: ConfigReader, _ config: ConfigReader) throws {
    let factors = 1e-6...1e6
    func positions() throws(FormatError) -> Int {
      try config.integer("max_position_embeddings", in: 1...1 << 40, default: 2048)
    }
    func originalPositions() throws(FormatError) -> Int {
      let key = RopeSettings.originalKey
      for reader in [config, scaling] where reader.value(key) != nil {
        return Int(try reader.number(key, in: 1...1e12))
      }
      return try positions()
    }
    switch type {
    case "linear": stretch = .linear(factor: try scaling.number("factor", in: factors))
    case "dynamic":
      // A factor below 1 could make the base negative.
      stretch = .dynamic(factor: try scaling.number("factor", in: 1...1e6), positions: try positions())
    case "llama3":
      let low = try scaling.number("low_freq_factor", in: factors)
      let high = try scaling.number("high_freq_factor", in: factors)
      guard high > low else {
        throw scaling.error(
          "high_freq_factor", "found \(high), expected more than the \(low) of low_freq_factor")
      }
      stretch = .llama3(
        factor: try scaling.number("factor", in: factors), low: low, high: high,
        positions: Double(try originalPositions()))
    default:
      let original = try originalPositions()
      guard let short = try scaling.numbers("short_factor", in: factors),
        let long = try scaling.numbers("long_factor", in: factors)
      else {
        throw scaling.error(
          scaling.value("short_factor") == nil ? "short_factor" : "long_factor",
          "is missing, expected a list of numbers")
      }
      stretch = .longrope(short: short, long: long, positions: original)
      let ratio = Double(try positions()) / Double(original)
      let factor = try scaling.number("factor", in: factors, default: ratio)
      let usual = factor > 1 && original > 1 ? (1 + log(factor) / log(Double(original))).squareRoot() : 1
      magnitude = Float(try scaling.number("attention_factor", in: 1e-6...1e6, default: usual))
    }
  }

  /// 0.1 × scale × ln(factor) + 1; 1 where nothing is stretched.
  static func magnitude(_ scale: Double, _ factor: Double) -> Double {
    factor > 1 ? 0.1 * scale * log(factor) + 1 : 1
  }
}

extension ConfigReader {
  /// What config.json says of the rotation, under either name. A `rope_scaling` that says anything takes the place of
  /// `rope_parameters`, and what the object says goes before the keys outside of it, as transformers 5 has it
  /// (`convert_rope_params_to_dict` in configuration_utils.py).
  func ropeParameters() throws(FormatError) -> ConfigReader? {
    let (scaling, parameters) = (try object("rope_scaling"), try object("rope_parameters"))
    return scaling?.json.object?.count ?? 0 > 0 ? scaling : parameters
  }
}
