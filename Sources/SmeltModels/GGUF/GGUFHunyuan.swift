// `hy_v3`: Hunyuan 3. Which layers are dense is not said by a key: a layer without a router's tensor is. The bias that chooses experts
// has no suffix. Sources: llama.cpp's src/models/hy-v3.cpp and conversion/hunyuan.py.

import SmeltStorage
import SmeltTensors

/// `hy_v3`.
enum GGUFHYV3: GGUFArchitecture {
  static let name = "hy_v3"
  static let modelTypes = ["hy_v3"]

  static func readsDrafts(of family: any ModelFamily) -> Bool { true }

  static func config(_ model: GGUFModel) throws -> [(String, JSON)] {
    try model.requireGating(GGUFGating.sigmoid)
    try model.requireWholeRotation()
    let layers = try model.layers()
    let width = try model.integer("expert_feed_forward_length")
    let shared = try model.integer("expert_shared_feed_forward_length", default: width)
    guard width > 0, shared % width == 0 else {
      throw model.metadata.error(
        model.key("expert_shared_feed_forward_length"),
        "found \(shared), expected a multiple of the \(width) channels of a routed expert")
    }
    let types = (0..<layers).map { JSON(model.has("blk.\($0).ffn_gate_inp.weight") ? "sparse" : "dense") }
    return try model.decoderConfig("hy_v3") + [
      ("intermediate_size", JSON(try model.integer("feed_forward_length"))),
      ("moe_intermediate_size", JSON(width)), ("num_experts", JSON(try model.integer("expert_count"))),
      ("num_shared_experts", JSON(shared / width)), ("mlp_layer_types", JSON(types)),
      ("route_norm", JSON(try model.bool("expert_weights_norm", default: false))),
      ("router_scaling_factor", JSON(try model.number("expert_weights_scale", default: 1))),
      (
        "moe_router_enable_expert_bias",
        JSON((0..<layers).contains { model.has("blk.\($0).exp_probs_b") })
      ), ("attention_bias", JSON(model.has("blk.0.attn_q.bias"))),
    ]
  }

  static func keys(of family: any ModelFamily, _ config: ConfigReader) throws -> [(String, MetadataValue)] {
    var keys = GGUFKeys(Self.self)
    guard let family = family.core as? any DecoderFamily else { return [] }
    let decoder = family.decoder
    let router = decoder.feedForward.router
    let dense = decoder.denseWidth > 0 ? decoder.denseWidth : decoder.expertWidth
    try keys.decoder(family, config, feedForward: dense)
    keys.add("expert_gating_func", GGUFGating.sigmoid)
    keys.add("expert_feed_forward_length", decoder.expertWidth)
    keys.add("expert_shared_feed_forward_length", decoder.sharedWidth)
    keys.add("expert_weights_norm", router.weighting == .normalized)
    keys.add("expert_weights_scale", shortest(router.scaling))
    keys.add("rope.dimension_count", 2 * decoder.attention.rope.frequencies.count)
    return keys.entries
  }

  static func place(of spec: WeightSpec, in family: any ModelFamily) -> GGUFPlace {
    let place = usualPlace(of: spec, in: family)
    guard case .whole(let name) = place, name.hasSuffix(".exp_probs_b.bias") else { return place }
    return .whole(String(name.dropLast(".bias".count)))
  }

  static func differences(of family: any ModelFamily, _ config: ConfigReader) throws -> [String] {
    guard let decoder = (family.core as? any DecoderFamily)?.decoder else { return [] }
    return try decoderDifferences(decoder, config)
      + messages([
        (
          decoder.attention.hasInputBias,
          "attention has biases here, and llama.cpp's hy_v3 takes none of the output projection"
        )
      ])
  }
}
