// What all plain decoders' config.json say in the same words, in both spellings: the hub's (rope_theta, rope_scaling,
// num_experts) and the one transformers 5 saves (rope_parameters, num_local_experts).

import SmeltStorage

extension Decoder {
  /// The common keys. What a family has beyond them, it sets.
  /// - Parameters:
  ///   - expertWidth: the key of a routed expert's inner width.
  ///   - rotaryFraction: how much of a head is rotated where the configuration does not say.
  ///   - router: the family's rule; `perToken` is read here.
  /// - Throws: `CFG_VALUE` with key, found and expected; `RequestError` unsupported for an activation other than the family's
  ///   and rope types that are not read.
  init(
    _ config: ConfigReader, expertWidth key: String, rotaryFraction: Double = 1, router: Router,
    defaults: Defaults = .none
  ) throws {
    try self.init(config, rotaryFraction: rotaryFraction, defaults: defaults)
    let experts = try config.expertCount()
    var router = router
    router.perToken = try config.integer("num_experts_per_tok", from: 1, to: experts)
    // The table of weights is made from this file alone: a few bytes here must not ask for gigabytes there.
    guard layers.count * experts <= Bounds.allExperts else {
      throw config.error(
        "num_hidden_layers",
        "found \(layers.count) layers of \(experts) experts, expected at most \(Bounds.allExperts) in all"
      )
    }
    feedForward = FeedForward(experts: experts, router: router)
    expertWidth = try config.integer(key, in: 1...1 << 24)
  }

  /// What a family takes for granted where config.json does not say it.
  struct Defaults {
    /// As many heads of keys as of queries.
    var hasOwnKeys = false
    /// The base of the rotation; nil where it must be given.
    var theta: Double?
    /// Kinds of layers, in the words of `layer_types`, that the family has beside full and windowed attention.
    var otherLayers: Set<String> = []
    /// What `hidden_act` may be, whatever the family makes of it.
    var activations = ["silu"]

    /// Everything must be given.
    static let none = Defaults()
  }

  /// A decoder without experts: every layer has one dense layer of `intermediate_size` channels.
  /// - Throws: as the decoder with experts.
  init(dense config: ConfigReader, rotaryFraction: Double = 1, defaults: Defaults = .none) throws {
    try self.init(config, rotaryFraction: rotaryFraction, defaults: defaults)
    for index in layers.indices { layers[index].isDense = true }
    denseWidth = try config.integer("intermediate_size", in: 1...1 << 24)
  }

  /// All but the feed-forward half, which is left without experts.
  private init(_ config: ConfigReader, rotaryFraction: Double, defaults: Defaults) throws {
    try config.requireSupported("hidden_act", defaults.activations)
    let size = 1...1 << 24
    vocabulary = try config.integer("vocab_size", in: size)
    hidden = try config.integer("hidden_size", in: size)
    normEpsilon = Float(try config.number("rms_norm_eps", in: 0...1))
    tiedEmbeddings = try config.bool("tie_word_embeddings", default: false)

    let heads = try config.integer("num_attention_heads", in: 1...65536)
    let keyHeads = try config.integer(
      "num_key_value_heads", from: 1, to: heads, default: defaults.hasOwnKeys ? heads : nil)
    guard heads % keyHeads == 0 else {
      throw config.error(
        "num_key_value_heads", "found \(keyHeads), expected a divisor of the \(heads) heads")
    }
    guard config.value("head_dim") != nil || hidden % heads == 0 else {
      throw config.error(
        "head_dim", "is missing, and \(hidden) channels are not a multiple of \(heads) heads")
    }
    let headWidth = try config.integer("head_dim", in: 1...65536, default: hidden / heads)
    attention = Attention(
      heads: heads, keyHeads: keyHeads, headWidth: headWidth,
      rope: try config.rope(headWidth: headWidth, fraction: rotaryFraction, theta: defaults.theta))

    let count = try config.integer("num_hidden_layers", in: 1...Bounds.layers)
    layers = try config.windows(count, others: defaults.otherLayers).map { Layer(window: $0) }
    feedForward = FeedForward(
      experts: 0, router: Router(score: .softmax, perToken: 0, weighting: .plain))
    expertWidth = 0
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

  /// Each layer's window from `layer_types`; nil for layers that see everything, and for kinds of layers of a family's own.
  func windows(_ count: Int, others: Set<String> = []) throws(FormatError) -> [Int?] {
    guard let types = try strings("layer_types") else { return [Int?](repeating: nil, count: count) }
    guard types.count == count else {
      throw error("layer_types", "found \(types.count) entries, expected \(count)")
    }
    var windows: [Int?] = []
    for type in types {
      switch type {
      case "full_attention": windows.append(nil)
      case let other where others.contains(other): windows.append(nil)
      case "sliding_attention": windows.append(try integer("sliding_window", in: 1...1 << 40))
      default:
        let known = (["full_attention", "sliding_attention"] + others.sorted()).joined(separator: ", ")
        throw error("layer_types", "holds '\(type)', expected one of \(known)")
      }
    }
    return windows
  }

  /// The rotation of the first channels of each head, `fraction` of them unless the configuration says how many.
  /// - Parameter theta: the base where the configuration does not say it; nil where it must.
  /// - Throws: `RequestError` unsupported for rope types that are not read.
  func rope(headWidth: Int, fraction: Double, theta: Double? = nil) throws -> RotaryFrequencies {
    let parameters = try ropeParameters()
    guard value("rope_theta") ?? parameters?.value("rope_theta") != nil || theta != nil else {
      throw error("rope_theta", "is missing, expected a number")
    }
    guard headWidth >= 2 else {
      throw error("head_dim", "found \(headWidth), expected at least 2 channels to rotate")
    }
    let share = "partial_rotary_factor"
    let usual = try number(share, in: 0...1, default: fraction)
    let factor = try parameters?.number(share, in: 0...1, default: usual) ?? usual
    let told = Int(Double(headWidth) * factor)
    let width = try integer("rotary_dim", from: 2, to: headWidth, default: told)
    guard width >= 2, width % 2 == 0 else {
      throw error(
        value("rotary_dim") == nil ? "partial_rotary_factor" : "rotary_dim",
        "rotates \(width) channels of a head, expected an even number of at least 2")
    }
    // Readers go by one of the two, and not by the same one.
    let hasShare = fraction != 1 || (parameters?.value(share) ?? value(share)) != nil
    guard !hasShare || width == told else {
      throw error(
        "rotary_dim", "is \(width), and '\(share)' \(factor) of \(headWidth) channels is another")
    }
    let settings = try RopeSettings(self, theta: theta ?? 10000)
    if case .longrope(let short, let long, _)? = settings.stretch {
      for (key, list) in [("short_factor", short), ("long_factor", long)] where list.count != width / 2 {
        throw (parameters ?? self).error(
          key, "found \(list.count) numbers, expected \(width / 2), one for each pair of channels")
      }
    }
    return settings.frequencies(width)
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

  /// `sliding_window`: nil where it is null, `fallback` where it is not mentioned.
  func window(default fallback: Int) throws(FormatError) -> Int? {
    if let given = json["sliding_window"], given.isNull { return nil }
    return try integer("sliding_window", in: 1...1 << 40, default: fallback)
  }

  /// The windows of dense Qwen models without `layer_types`: with `use_sliding_window`, the layers from `max_window_layers` on
  /// have one. What is not mentioned is as transformers has it.
  func placeUpperWindows(_ layers: inout [Decoder.Layer]) throws(FormatError) {
    guard try bool("use_sliding_window", default: false), value("layer_types") == nil,
      let window = try window(default: 4096)
    else { return }
    let first = try integer("max_window_layers", in: 0...1 << 40, default: 28)
    for index in layers.indices where index >= first { layers[index].window = window }
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
