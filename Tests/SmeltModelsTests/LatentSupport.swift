// Small configurations of the families with latent attention, and weights for them.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport

@testable import SmeltModels

/// A config.json in the making.
struct LatentConfig {
  private var members: [(String, JSON)] = [
    ("vocab_size", 40), ("hidden_size", 24), ("intermediate_size", 20), ("moe_intermediate_size", 12),
    ("num_hidden_layers", 2), ("num_attention_heads", 3), ("q_lora_rank", 14), ("kv_lora_rank", 10),
    ("qk_nope_head_dim", 6), ("qk_rope_head_dim", 4), ("v_head_dim", 5), ("n_routed_experts", 6),
    ("n_shared_experts", 2), ("num_experts_per_tok", 2), ("first_k_dense_replace", 1), ("n_group", 3),
    ("topk_group", 2), ("routed_scaling_factor", 2.5), ("rms_norm_eps", 1e-3), ("index_n_heads", 4),
    ("index_head_dim", 8), ("index_topk", 5), ("rope_theta", 10000), ("hidden_act", "silu"),
  ]
  private let type: String

  init(_ type: String, _ changes: [(String, JSON?)] = []) {
    self.type = type
    members.append(("model_type", JSON(stringLiteral: type)))
    set("topk_method", type == "deepseek_v2" ? "group_limited_greedy" : "noaux_tc")
    set("scoring_func", type == "deepseek_v2" ? "softmax" : "sigmoid")
    for (key, value) in changes { set(key, value) }
  }

  mutating func set(_ key: String, _ value: JSON?) {
    members.removeAll { $0.0 == key }
    if let value { members.append((key, value)) }
  }

  func read() throws -> any LatentFamily {
    let family = try ModelFamilies.family(
      of: try JSON.scan(JSON(members: members).text()), file: "config.json")
    guard let latent = family as? any LatentFamily else { preconditionFailure("\(type) is another kind") }
    return latent
  }
}

/// Normal weights of a family; norms around 1.
func randomWeights(_ family: any ModelFamily, seed: UInt64) throws -> MemoryWeights {
  var generator = Generator(seed: seed)
  var weights = MemoryWeights()
  for spec in family.weights {
    let deviation = spec.role == .embedding ? 1 : 1 / Float(spec.shape.columns).squareRoot()
    var values = generator.normals(spec.shape.count, spec.role == .norm ? 0.2 : deviation)
    if spec.role == .norm { for index in values.indices { values[index] += 1 } }
    try weights.add(spec.name, spec.shape, values)
  }
  return weights
}
