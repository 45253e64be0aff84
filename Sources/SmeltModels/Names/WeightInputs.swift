// What each weight of a layer reads, by its canonical name: GGUF's names are one vocabulary, so that the table holds for every
// family. A family whose layers are wired otherwise sets `WeightSpec.input` itself.

extension WeightName {
  /// The weight whose output a weight reads; nil where that is not one weight's.
  ///
  /// | reads | weights |
  /// |---|---|
  /// | `attn_norm` | query, key and value projections, their low-rank first halves, compressors, the indexer's keys and head weights, the projections of a linear attention |
  /// | `attn_q_a_norm` | `attn_q_b`, the indexer's queries |
  /// | `attn_kv_a_norm` | `attn_kv_b` |
  /// | `attn_output_a` | `attn_output_b` |
  /// | `ffn_norm` | router, gate and up of all experts and of the shared ones, the shared experts' own gate |
  /// | up of an expert | its down |
  var usualInput: WeightName? {
    guard base.hasPrefix("blk."), base.hasSuffix(".weight") else { return nil }
    let utf8 = base.utf8
    let first = utf8.index(utf8.startIndex, offsetBy: 4)
    let end = utf8.index(utf8.endIndex, offsetBy: -".weight".utf8.count)
    guard let dot = utf8[first...].firstIndex(of: UInt8(ascii: ".")), dot < end else { return nil }
    let part = String(base[utf8.index(after: dot)..<end])
    func sibling(_ part: String, expert: Int? = nil) -> WeightName {
      WeightName(base[...dot] + part + ".weight", expert: expert)
    }
    if let giver = WeightName.givers[part] { return sibling(giver) }
    guard part.hasPrefix("ffn_down") else { return nil }
    return sibling("ffn_up" + part.dropFirst("ffn_down".count), expert: expert)
  }

  private static let givers: [String: String] = {
    let readers = [
      "attn_norm": [
        "attn_q", "attn_k", "attn_v", "attn_q_a", "attn_kv", "attn_kv_a_mqa", "attn_compressor_kv",
        "attn_compressor_gate", "indexer_compressor_kv", "indexer_compressor_gate", "indexer.attn_k",
        "indexer.proj", "indexer.q_proj", "indexer.k_proj", "attn_qkv", "attn_gate", "ssm_in", "ssm_alpha",
        "ssm_beta", "ssm_ba",
      ],
      "attn_q_a_norm": ["attn_q_b", "indexer.attn_q_b"], "attn_kv_a_norm": ["attn_kv_b"],
      "attn_output_a": ["attn_output_b"],
      "ffn_norm": [
        "ffn_gate_inp", "ffn_gate_inp_shexp", "ffn_gate_exps", "ffn_up_exps", "ffn_gate_shexp",
        "ffn_up_shexp", "ffn_gate", "ffn_up",
      ],
    ]
    return Dictionary(
      uniqueKeysWithValues: readers.flatMap { giver, parts in parts.map { ($0, giver) } })
  }()
}
