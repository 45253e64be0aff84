// The names of llama-quantize's mixtures, and the type that most weights of each get.
// Source: llama.cpp 0c1e57098, `QUANT_OPTIONS` in tools/quantize/quantize.cpp. Formats/recipe.md, section 6.

import SmeltTensors

/// A mixture of llama-quantize's.
enum Mixture: String, CaseIterable {
  case q2_k_s, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m, mxfp4_moe
  case q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q6_k, iq4_nl, iq4_xs, q1_0, q2_0, tq1_0, tq2_0

  /// Those that are no scheme's name.
  static let names: [String] = allCases.map(\.rawValue).filter { name in
    !GGUFScheme.all.contains { $0.name == name }
  }

  /// Names that llama-quantize takes for another. Source: `QUANT_OPTIONS` in tools/quantize/quantize.cpp.
  static let short: [String: Mixture] = ["q3_k": .q3_k_m, "q4_k": .q4_k_m, "q5_k": .q5_k_m]

  /// The type of most weights.
  var base: GGUFBlock.Kind {
    switch self {
    case .q2_k, .q2_k_s: .q2_k
    case .q3_k_s, .q3_k_m, .q3_k_l: .q3_k
    case .q4_k_s, .q4_k_m: .q4_k
    case .q5_k_s, .q5_k_m: .q5_k
    case .q6_k: .q6_k
    case .mxfp4_moe, .q8_0: .q8_0
    case .q4_0: .q4_0
    case .q4_1: .q4_1
    case .q5_0: .q5_0
    case .q5_1: .q5_1
    case .iq4_nl: .iq4_nl
    case .iq4_xs: .iq4_xs
    case .q1_0: .q1_0
    case .q2_0: .q2_0
    case .tq1_0: .tq1_0
    case .tq2_0: .tq2_0
    }
  }
}
