// `minimax-m3`: MiniMax-M3. Norms' scales are stored with their 1 added; which layers are dense and which have an indexer is read off
// the tensors. What llama.cpp has no key for it takes for granted: the clamp 7, dense layers first, an indexer in every other layer.
// Sources: llama.cpp's src/models/minimax-m3.cpp and conversion/minimax.py.

import SmeltStorage
import SmeltTensors

/// `minimax-m3`.
enum GGUFMiniMaxM3: GGUFArchitecture {
  static let name = "minimax-m3"
  static let modelTypes = ["minimax_m3_vl_text"]

  /// The clamp of the experts' activation, and the factor inside its logistic function.
  private static let (alpha, limit): (Float, Float) = (1.702, 7)

  /// The indexer's sizes, as config.json and as the file have them.
  private static let indexerKeys = [
    ("index_n_heads", "attention.indexer.head_count"), ("index_head_dim", "attention.indexer.key_length"),
    ("index_topk_blocks", "attention.indexer.top_k"), ("index_block_size", "attention.indexer.block_size"),
    ("index_local_blocks", "attention.indexer.local_blocks"),
  ]

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.requireGating(GGUFGating.sigmoid)
    guard try model.bool("expert_weights_norm", default: false) else {
      throw RequestError(
        .unsupported, "'\(model.key("expert_weights_norm"))' is false in '\(model.metadata.file)'",
        help: "supported: true; the chosen factors have the sum 1")
    }
    let layers = 0..<(try model.layers())
    let width = try model.integer("expert_feed_forward_length")
    let sparse = layers.map { model.has("blk.\($0).indexer.q_proj.weight") }
    let dense = layers.map { !model.has("blk.\($0).ffn_gate_inp.weight") }
    let shared = layers.lazy.compactMap { model.tensorShape("blk.\($0).ffn_gate_shexp.weight") }.first
    var members = try model.decoderConfig(modelTypes[0])
    func add(_ key: String, _ value: JSON) { members.append((key, value)) }
    add("intermediate_size", JSON(width))
    if dense.contains(true) { add("dense_intermediate_size", JSON(try model.integer("feed_forward_length"))) }
    add("shared_intermediate_size", JSON(shared?.rows ?? width))
    add("num_local_experts", JSON(try model.integer("expert_count")))
    add("rotary_dim", JSON(try model.integer("rope.dimension_count")))
    add("scoring_func", "sigmoid")
    add("use_routing_bias", JSON(layers.contains { model.has("blk.\($0).exp_probs_b.bias") }))
    add("routed_scaling_factor", JSON(try model.number("expert_weights_scale", default: 1)))
    add("swiglu_alpha", JSON(shortest(alpha)))
    add("swiglu_limit", JSON(shortest(limit)))
    add("layer_types", JSON(sparse.map { JSON($0 ? MiniMaxM3.sparseLayer : "full_attention") }))
    add("mlp_layer_types", JSON(dense.map { JSON($0 ? "dense" : "sparse") }))
    guard sparse.contains(true) else { return members }
    for (key, name) in indexerKeys { add(key, JSON(try model.integer(name))) }
    return members
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let decoder = family.decoder
    let router = decoder.feedForward.router
    try keys.decoder(
      family, config, feedForward: decoder.denseWidth > 0 ? decoder.denseWidth : decoder.expertWidth)
    keys.add("expert_gating_func", GGUFGating.sigmoid)
    keys.add("expert_feed_forward_length", decoder.expertWidth)
    keys.add("rope.dimension_count", 2 * decoder.attention.rope.frequencies.count)
    keys.add("expert_shared_count", max(1, decoder.sharedWidth / decoder.expertWidth))
    keys.add("expert_weights_scale", shortest(router.scaling))
    keys.add("expert_weights_norm", router.weighting == .normalized)
    keys.add("leading_dense_block_count", decoder.layers.prefix(while: \.isDense).count)
    guard let blocks = decoder.attention.blocks else { return keys.entries }
    let sizes = [blocks.heads, blocks.width, blocks.keep, blocks.blockSize, blocks.local]
    for ((_, name), size) in zip(indexerKeys, sizes) { keys.add(name, size) }
    return keys.entries
  }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    let place = usualPlace(of: spec, in: family)
    guard spec.offset != 0, case .whole(let name) = place else { return place }
    return .arranged([GGUFPiece(name, [.numbers(.plus(spec.offset))])])
  }

  /// The indexer's projections are small, and a choice hangs on them.
  static func keepsFloats(_ spec: WeightSpec) -> Bool { spec.role == .indexer }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    var clamps = true
    if case .shiftedSwiglu(alpha, limit) = decoder.feedForward.activation { clamps = false }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          clamps,
          "the activation has another clamp or factor here than llama.cpp's minimax-m3, 7 and 1.702"
        )
      ])
  }
}
