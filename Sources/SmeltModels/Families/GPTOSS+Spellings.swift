// gpt-oss with a tensor for each expert, as tools write it that need linear layers: gate and up still in turn
// (`gate_up_projs.E`, the router inside a `linear`), or each for itself (`experts.E.gate_proj`). Output channels first, with
// biases. Such checkpoints are read; what is written has the published names.

import SmeltTensors

extension GPTOSS {
  /// The published names, transformers', and those with a tensor for each expert.
  package var dialects: [String] { writtenDialects + GPTOSS.expertDialects }
  /// The published names, and transformers'.
  package var writtenDialects: [String] { ["hub", "transformers"] }

  private static let expertDialects = ["expert-lists", "expert-lists-plain-router", "expert-modules"]

  /// A row of the weights table with its spellings in the dialects of one tensor an expert.
  static func withExpertTensors(_ spec: WeightSpec) -> WeightSpec {
    let hub = spec.spellings[0]
    var added = [hub, hub, hub]
    if let expert = spec.name.expert {
      let kind = spec.name.base.hasSuffix(".bias") ? "bias" : "weight"
      let stack = hub.tensor.hasSuffix("_bias") ? String(hub.tensor.dropLast("_bias".count)) : hub.tensor
      let container = stack.split(separator: ".").dropLast().joined(separator: ".")
      let list = Spelling(
        "\(stack)s.\(expert).\(kind)", rowStride: hub.rowStride, rowPhase: hub.rowPhase)
      let part =
        spec.name.base.contains("ffn_gate_exps")
        ? "gate" : spec.name.base.contains("ffn_up_exps") ? "up" : "down"
      added = [list, list, Spelling("\(container).\(expert).\(part)_proj.\(kind)")]
    } else if let range = hub.tensor.firstRange(of: ".mlp.router.") {
      added[0] = Spelling(hub.tensor.replacingCharacters(in: range, with: ".mlp.router.linear."))
    }
    var spec = spec
    spec.spellings += added
    return spec
  }
}

extension String {
  /// The text with a part of it replaced.
  fileprivate func replacingCharacters(in range: Range<String.Index>, with text: String) -> String {
    String(self[..<range.lowerBound]) + text + self[range.upperBound...]
  }
}
