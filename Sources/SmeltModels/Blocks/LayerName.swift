// Canonical names of one layer's weights, the same for every family: GGUF's.

/// Names of a layer's weights.
struct LayerName: Sendable {
  /// The layer's number.
  let layer: Int

  /// `blk.N.PART.SUFFIX`, of an expert where one is given.
  func callAsFunction(_ part: String, suffix: String = "weight", expert: Int? = nil) -> WeightName {
    WeightName("blk.\(layer).\(part).\(suffix)", expert: expert)
  }

  /// `blk.N.PART`, for the few names without a suffix.
  func bare(_ part: String) -> WeightName { WeightName("blk.\(layer).\(part)") }

  /// `blk.N.PART.bias`, or nil for layers without.
  func bias(_ part: String, if present: Bool) -> WeightName? { present ? self(part, suffix: "bias") : nil }

  /// The three matrices of a routed expert.
  func expert(_ expert: Int, biases: Bool = false) -> ExpertNames { gated("_exps", expert, biases: biases) }

  /// The three matrices of the shared expert.
  var sharedExpert: ExpertNames { gated("_shexp") }

  /// The three matrices of a dense layer.
  var dense: ExpertNames { dense(biases: false) }

  /// The three matrices of a dense layer, and their biases where it has any.
  func dense(biases: Bool) -> ExpertNames { gated("", biases: biases) }

  private func gated(_ suffix: String, _ expert: Int? = nil, biases: Bool = false) -> ExpertNames {
    func bias(_ part: String) -> WeightName? {
      biases ? self("ffn_\(part)\(suffix)", suffix: "bias", expert: expert) : nil
    }
    return ExpertNames(
      gate: self("ffn_gate\(suffix)", expert: expert), up: self("ffn_up\(suffix)", expert: expert),
      down: self("ffn_down\(suffix)", expert: expert), gateBias: bias("gate"), upBias: bias("up"),
      downBias: bias("down"))
  }
}

/// Names of the weights outside the layers.
enum ModelName {
  static let embedding = WeightName("token_embd.weight")
  static let outputNorm = WeightName("output_norm.weight")
  static let outputHead = WeightName("output.weight")
}
