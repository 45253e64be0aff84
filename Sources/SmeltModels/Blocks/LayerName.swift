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

  /// The matrices of a routed expert: three, or two without a gate.
  func expert(_ expert: Int, biases: Bool = false, gated: Bool = true) -> ExpertNames {
    names("_exps", expert, biases: biases, gated: gated)
  }

  /// The three matrices of the shared expert.
  var sharedExpert: ExpertNames { sharedExpert(gated: true) }

  /// The matrices of the shared expert: three, or two without a gate.
  func sharedExpert(gated: Bool) -> ExpertNames { names("_shexp", gated: gated) }

  /// The three matrices of a dense layer.
  var dense: ExpertNames { dense(biases: false) }

  /// The matrices of a dense layer, three, or two without a gate, and their biases where it has any.
  func dense(biases: Bool, gated: Bool = true) -> ExpertNames { names("", biases: biases, gated: gated) }

  /// The projection from the stream to the width that routed experts work in.
  var latentDown: WeightName { self("ffn_latent_down") }

  /// The projection of the routed experts' sum back to the stream.
  var latentUp: WeightName { self("ffn_latent_up") }

  private func names(_ suffix: String, _ expert: Int? = nil, biases: Bool = false, gated: Bool) -> ExpertNames
  {
    func bias(_ part: String) -> WeightName? {
      biases ? self("ffn_\(part)\(suffix)", suffix: "bias", expert: expert) : nil
    }
    return ExpertNames(
      gate: gated ? self("ffn_gate\(suffix)", expert: expert) : nil,
      up: self("ffn_up\(suffix)", expert: expert), down: self("ffn_down\(suffix)", expert: expert),
      gateBias: gated ? bias("gate") : nil, upBias: bias("up"), downBias: bias("down"))
  }
}

/// Names of the weights outside the layers.
enum ModelName {
  static let embedding = WeightName("token_embd.weight")
  static let outputNorm = WeightName("output_norm.weight")
  static let outputHead = WeightName("output.weight")
}
