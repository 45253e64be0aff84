// What all plain decoders' config.json say in the same words, in both spellings: the hub's (rope_theta, rope_scaling,
// num_experts) and the one transformers 5 saves (rope_parameters, num_local_experts).

import SmeltStorage

extension Decoder {
  /// The common keys. What a family has beyond them, it sets.
  /// - Parameters:
  ///   - expertWidth: the key of a routed expert's inner width.
  ///   - rotaryFraction: how much of a head is rotated where the configuration does not say.
  ///   - router: the family's rule; `perToken` is read here.
  /// - Throws: `CFG_VALUE` with key, found and expected; `RequestError` unsupported for an activation other than SiLU
  ///   and stretched rotations other than YaRN.
  init(_ config: ConfigReader, expertWidth key: String, rotaryFraction: Double = 1, router: Router) throws {
    try config.requireSupported("hidden_act", ["silu"])
    let size = 1...1 << 24
    vocabulary = try config.integer("vocab_size", in: size)
    hidden = try config.integer("hidden_size", in: size)
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: false)

    let heads = try config.integer("num_attention_heads", in: 1...65536)
    let keyHeads = try config.integer("num_key_value_heads", from: 1, to: heads)
    guard heads % keyHeads == 0 else {
      throw config.error(
        "num_key_value_heads", "found \(keyHeads), expected a divisor of the \(heads) heads")
    }
    guard config.value("head_dim") != nil || hidden % heads == 0 else {
      throw config.error("head_dim", "is missing, and \(hidden) channels are no multiple of \(heads) heads")
    }
    let headWidth = try config.integer("head_dim", in: 1...65536, default: hidden / heads)
    attention = Attention(
      heads: heads, keyHeads: keyHeads, headWidth: headWidth,
      rope: try config.rope(headWidth: headWidth, fraction: rotaryFraction))

    let count = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    layers = try config.windows(count).map { Layer(window: $0) }

    let experts = try config.expertCount()
    var router = router
    router.perToken = try config.integer("num_experts_per_tok", from: 1, to: experts)
    // The table of weights is made from this file alone: a few bytes here must not ask for gigabytes there.
    guard count * experts <= Bounds.allExperts else {
      throw config.error(
        "num_hidden_layers",
        "found \(count) layers of \(experts) experts, expected at most \(Bounds.allExperts) in all"
      )
    }
    feedForward = FeedForward(experts: experts, router: router)
    expertWidth = try config.integer(key, in: size)
  }
}

extension ConfigReader {
  /// Routed experts, under any of the names in use. All that are present must agree.
  func expertCount() throws(FormatError) -> Int {
    let keys = ["num_experts", "num_local_experts", "n_routed_experts"].filter { value($0) != nil }
    let count = try integer(keys.first ?? "num_experts", in: 1...65536)
    for key in keys.dropFirst() { _ = try integer(key, from: count, to: count) }
    return count
  }

  /// Each layer's window from `layer_types`; nil for layers that see everything.
  func windows(_ count: Int) throws(FormatError) -> [Int?] {
    guard let types = try strings("layer_types") else { return [Int?](repeating: nil, count: count) }
    guard types.count == count else {
      throw error("layer_types", "found \(types.count) entries, expected \(count)")
    }
    var windows: [Int?] = []
    for type in types {
      switch type {
      case "full_attention": windows.append(nil)
      case "sliding_attention": windows.append(try integer("sliding_window", in: 1...1 << 40))
      default:
        throw error("layer_types", "holds '\(type)', expected full_attention or sliding_attention")
      }
    }
    return windows
  }

  /// The rotation of the first channels of each head, `fraction` of them unless the configuration says how many.
  /// - Throws: `RequestError` unsupported for other stretched rotations than YaRN.
  func rope(headWidth: Int, fraction: Double) throws -> RotaryFrequencies {
    let parameters = try ropeParameters()
    guard value("rope_theta") ?? parameters?.value("rope_theta") != nil else {
      throw error("rope_theta", "is missing, expected a number")
    }
    guard headWidth >= 2 else {
      throw error("head_dim", "found \(headWidth), expected at least 2 channels to rotate")
    }
    let share = try number("partial_rotary_factor", in: 0...1, default: fraction)
    let factor = try parameters?.number("partial_rotary_factor", in: 0...1, default: share) ?? share
    let width = try integer("rotary_dim", from: 2, to: headWidth, default: Int(Double(headWidth) * factor))
    guard width >= 2, width % 2 == 0 else {
      throw error(
        value("rotary_dim") == nil ? "partial_rotary_factor" : "rotary_dim",
        "rotates \(width) channels of a head, expected an even number of at least 2")
    }
    return try RopeSettings(self).frequencies(width)
  }
}

extension ConfigReader {
  /// Refuses windows that a flag asks for without `layer_types` to say where: revisions differ in which layers have them.
  /// - Throws: `RequestError` unsupported.
  func refuseUnplacedWindows() throws {
    guard try bool("use_sliding_window", default: false), value("layer_types") == nil else { return }
    throw RequestError(
      .unsupported, "'\(file)' sets 'use_sliding_window' without 'layer_types' to say in which layers")
  }

  /// Which layers are dense by `mlp_only_layers` and `decoder_sparse_step`.
  /// - Throws: `CFG_VALUE` also when no layer would be left with experts.
  func denseLayers(_ count: Int) throws(FormatError) -> [Bool] {
    let listed = try integers("mlp_only_layers", from: 0, to: count - 1) ?? []
    let step = try integer("decoder_sparse_step", in: 1...4096, default: 1)
    let dense = (0..<count).map { listed.contains($0) || ($0 + 1) % step != 0 }
    guard dense.contains(false) else {
      throw error(listed.isEmpty ? "decoder_sparse_step" : "mlp_only_layers", "leaves no layer with experts")
    }
    return dense
  }
}

extension DropRule {
  /// The rule for the multi-token-prediction blocks, whatever they are called in a family.
  static func mtp(_ prefixes: [String]) -> DropRule {
    DropRule(
      "mtp", "the multi-token-prediction block drafts tokens and takes no part in the forward pass",
      prefixes: prefixes)
  }
}
