// `gemma4`: Gemma 4. Keys may hold a number a layer; layers without a window have the longer keys of the names, those with one `…_swa`.
// Pairs of channels that are not rotated have factors of 1e30 in `rope_freqs`, which layers without a window use. The router's scale and
// the experts' factors stand where other architectures have scales of weights.

import SmeltStorage
import SmeltTensors

/// `gemma4`.
enum GGUFGemma4: GGUFArchitecture {
  static let name = "gemma4"
  static let modelTypes = Gemma4.modelTypes

  /// What a pair of channels that is not rotated is divided by.
  private static let still: Float = 1e30

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    let layers = try model.layers()
    let sliding = try model.slidingLayers(layers)
    let shared = try model.integer("attention.shared_kv_layers", default: 0)
    let heads = try model.integer("attention.head_count")
    let keyHeads = try model.perLayer("attention.head_count_kv", layers, default: heads)
    let widths = try model.perLayer("feed_forward_length", layers)
    let first = layers - min(shared, layers)
    let whole = zip(keyHeads, sliding).first { !$0.1 }?.0
    let windowed = zip(keyHeads, sliding).first { $0.1 }?.0
    let sharesProjection = (0..<first).contains {
      !sliding[$0] && !model.has("blk.\($0).attn_v.weight")
    }
    for (layer, count) in keyHeads.enumerated() where count != (sliding[layer] ? windowed : whole) {
      throw model.metadata.error(
        model.key("attention.head_count_kv"), "gives layers of one kind different numbers of heads")
    }
    let doubles = first < layers && widths[layers - 1] == 2 * widths[0] && widths[0] > 0
    for (layer, width) in widths.enumerated() where width != widths[0] * (doubles && layer >= first ? 2 : 1) {
      throw model.metadata.error(
        model.key("feed_forward_length"),
        "gives layer \(layer) \(width) channels, expected \(widths[0]), or twice as many from layer \(first) on"
      )
    }
    var members = try model.commonConfig("gemma4_text").filter {
      !["hidden_act", "rope_theta"].contains($0.0)
    }
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    add("hidden_activation", "gelu_pytorch_tanh")
    add("layer_types", JSON(sliding.map { JSON($0 ? "sliding_attention" : "full_attention") }))
    add("attention_k_eq_v", JSON(sharesProjection))
    try addSizes(&members, model, sliding, windowed: windowed ?? whole, whole: whole, sharesProjection)
    if sliding.contains(true) {
      add("sliding_window", JSON(try model.integer("attention.sliding_window")))
    }
    add("rope_parameters", try rotations(model))
    add("intermediate_size", JSON(widths.first ?? 0))
    add("num_kv_shared_layers", JSON(shared))
    add("use_double_wide_mlp", JSON(doubles))
    let cap: Double? = try model.number("final_logit_softcapping")
    add("final_logit_softcapping", cap.flatMap { $0 == 0 ? nil : JSON($0) } ?? JSON(.null))
    let own = try model.integer("embedding_length_per_layer_input", default: 0)
    add("hidden_size_per_layer_input", JSON(own))
    if own > 0 { add("vocab_size_per_layer_input", JSON(model.rows("per_layer_token_embd.weight") ?? 0)) }
    let hasExperts = model.has("blk.0.ffn_gate_inp.weight")
    add("enable_moe_block", JSON(hasExperts))
    if hasExperts {
      add("num_experts", JSON(try model.integer("expert_count")))
      add("top_k_experts", JSON(try model.integer("expert_used_count")))
      add("moe_intermediate_size", JSON(try model.integer("expert_feed_forward_length")))
    }
    return members
  }

  /// Widths and heads of both kinds of layers: in the hub's words where those can say it.
  private static func addSizes(
    _ members: inout [(String, JSON)], _ model: GGUFModel, _ sliding: [Bool], windowed: Int?, whole: Int?,
    _ sharesProjection: Bool
  ) throws {
    let width = try model.integer("attention.key_length")
    let windowedWidth = try model.integer("attention.key_length_swa", default: width)
    for (name, expected) in [("value_length", width), ("value_length_swa", windowedWidth)] {
      let found = try model.integer("attention.\(name)", default: expected)
      guard found == expected else {
        throw model.metadata.error(
          model.key("attention.\(name)"), "found \(found), expected \(expected) as for keys")
      }
    }
    members.append(("head_dim", JSON(windowedWidth)))
    members.append(("num_key_value_heads", JSON(windowed ?? 0)))
    guard sharesProjection || whole == windowed else {
      let layers = sliding.indices.filter { !sliding[$0] }.map { layer -> (String, JSON) in
        ("\(layer)", ["head_dim": JSON(width), "num_key_value_heads": JSON(whole ?? 0)])
      }
      members.append(("per_layer_config", JSON(members: layers)))
      return
    }
    members.append(("global_head_dim", JSON(width)))
    if sharesProjection { members.append(("num_global_key_value_heads", JSON(whole ?? 0))) }
  }

  /// `rope_parameters`: the share of rotated pairs is in the factors.
  private static func rotations(_ model: GGUFModel) throws -> JSON {
    let width = try model.integer("attention.key_length")
    let windowedWidth = try model.integer("attention.key_length_swa", default: width)
    for (name, expected) in [("dimension_count", width), ("dimension_count_swa", windowedWidth)] {
      let found = try model.integer("rope.\(name)", default: expected)
      guard found == expected else {
        throw RequestError(
          .unsupported, "'\(model.key("rope.\(name)"))' is \(found) in '\(model.metadata.file)'",
          help: "supported: \(expected), all channels of a head")
      }
    }
    var full: [(String, JSON)] = [("rope_theta", JSON(try model.number("rope.freq_base", default: 1e6)))]
    if let factors = try model.numbers(GGUFFactors.llama3) {
      let rotated = factors.prefix { $0 < still / 1e10 }
      guard factors.count == width / 2, let factor = rotated.first ?? factors.first,
        rotated.allSatisfy({ $0 == factor && $0 > 0 }),
        factors.dropFirst(rotated.count).allSatisfy({ $0 >= still / 1e10 })
      else {
        throw model.metadata.error(
          GGUFFactors.llama3,
          "holds \(factors.count) factors of frequencies, expected \(width / 2): one number first, then 1e30")
      }
      full += [
        ("rope_type", "proportional"),
        ("partial_rotary_factor", JSON(Double(rotated.count) / Double(factors.count))),
      ]
      if !rotated.isEmpty, factor != 1 { full.append(("factor", JSON(shortest(factor)))) }
    } else {
      full.append(("rope_type", "default"))
    }
    return [
      "full_attention": JSON(members: full),
      "sliding_attention": [
        "rope_type": "default", "rope_theta": JSON(try model.number("rope.freq_base_swa", default: 10000)),
      ],
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    guard let d = (family.core as? Gemma4)?.decoder else { return [] }
    var keys = GGUFKeys(Self.self)
    keys.add("block_count", d.layers.count)
    keys.add(
      "context_length", try config.integer("max_position_embeddings", in: 1...1 << 31, default: 131_072))
    keys.add("embedding_length", d.hidden)
    keys.addPerLayer("feed_forward_length", d.layers.map(\.denseWidth))
    keys.add("attention.head_count", d.heads)
    keys.addPerLayer("attention.head_count_kv", d.layers.indices.map { d.attention($0).keyHeads })
    keys.add("rope.freq_base", d.full.rope.theta)
    keys.add("rope.freq_base_swa", d.sliding.rope.theta)
    keys.add("attention.layer_norm_rms_epsilon", shortest(d.normEpsilon))
    if d.feedForward.experts > 0 {
      keys.add("expert_count", d.feedForward.experts)
      keys.add("expert_used_count", d.feedForward.router.perToken)
      keys.add("expert_feed_forward_length", d.expertWidth)
    }
    keys.add("attention.key_length", d.full.headWidth)
    keys.add("attention.value_length", d.full.headWidth)
    // Without the key llama.cpp caps at 30.
    keys.add("final_logit_softcapping", d.softcap.map(shortest) ?? 0)
    keys.add("attention.sliding_window", d.sliding.window ?? 1)
    keys.add("attention.shared_kv_layers", d.layers.count { $0.keySource != nil })
    keys.add("embedding_length_per_layer_input", d.layerEmbedding)
    keys.add("attention.sliding_window_pattern", d.layers.map(\.isSliding))
    keys.add("attention.key_length_swa", d.sliding.headWidth)
    keys.add("attention.value_length_swa", d.sliding.headWidth)
    keys.add("rope.dimension_count", d.full.headWidth)
    keys.add("rope.dimension_count_swa", d.sliding.headWidth)
    return keys.entries
  }

  static let factorTensors = [GGUFFactors.llama3]

  static func factors(of family: any ModelFamily) -> [GGUFFactors] {
    guard let full = (family.core as? Gemma4)?.decoder.full else { return [] }
    var (rotated, factor) = (full.headWidth / 2, 1.0)
    if case .proportional(let pairs, let divisor)? = full.rope.stretch {
      (rotated, factor) = (pairs, divisor)
    }
    let values = (0..<full.headWidth / 2).map { $0 < rotated ? Float(factor) : still }
    return [GGUFFactors(name: GGUFFactors.llama3, values: values)]
  }

  /// The experts' factors stand in the place of their scales.
  static func takesScale(_ spec: WeightSpec) -> Bool { spec.role != .routedDown }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let d = (family.core as? Gemma4)?.decoder else { return [] }
    let first = d.layers.firstIndex { $0.keySource != nil } ?? d.layers.count
    return messages([
      (
        d.layers.contains {
          $0.keySource.map { source in source != first - (d.layers[source].isSliding ? 2 : 1) } ?? false
        },
        "layers use the keys of others than llama.cpp takes, which are the last full layer before them and the one before that"
      ),
      (
        d.layers.contains(where: \.isSliding) && d.sliding.rope.stretch != nil,
        "layers with a window rotate a share of their channels here, and llama.cpp's gemma4 rotates all of them"
      ),
      // The table is in ggml-cpu's vec.h (GGML_GELU_FP16). Built without it, llama.cpp's logits are within 1e-5 of Smelt's.
      (
        true,
        "on CPUs llama.cpp looks GELU up in a table of half-precision numbers, which moves logits by some thousandths"
      ),
    ])
  }
}

extension GGUFModel {
  /// The rows of a tensor; nil if the file has no such tensor.
  fileprivate func rows(_ tensor: String) -> Int? { tensorShape(tensor)?.rows }

  /// A number for each layer: one for all, or a list.
  fileprivate func perLayer(_ name: String, _ layers: Int, default fallback: Int? = nil) throws(FormatError)
    -> [Int]
  {
    var list = [Int](repeating: 0, count: layers)
    if case .integers(let found)? = metadata[key(name)] {
      list = found
    } else {
      list = [Int](repeating: try integer(name, default: fallback), count: layers)
    }
    // What is computed from them must not overflow.
    guard list.count == layers, list.allSatisfy({ (0...1 << 32).contains($0) }) else {
      throw metadata.error(
        key(name),
        "holds \(list.count) numbers, expected one for each of \(layers) layers, each from 0 to 2^32")
    }
    return list
  }

  /// Which layers have a window: a flag for each, or a number of layers of which the last has none.
  fileprivate func slidingLayers(_ layers: Int) throws(FormatError) -> [Bool] {
    let name = key("attention.sliding_window_pattern")
    let flags: [Bool]
    switch metadata[name] {
    case .bools(let list)?: flags = list
    case .integers(let list)?: flags = list.map { $0 != 0 }
    default: throw metadata.error(name, "is missing, expected a truth value for each layer")
    }
    guard flags.count == layers else {
      throw metadata.error(name, "holds \(flags.count) values, expected one for each of \(layers) layers")
    }
    return flags
  }
}

extension GGUFKeys {
  /// One number where all layers have the same, else a list.
  fileprivate mutating func addPerLayer(_ name: String, _ values: [Int]) {
    if let first = values.first, values.allSatisfy({ $0 == first }) {
      add(name, first)
    } else {
      add(name, values)
    }
  }
}
