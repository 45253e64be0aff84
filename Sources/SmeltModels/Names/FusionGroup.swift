// Weights that engines put together into one matrix when they load a model: query, key and value; gate and up. Formats/roles.md,
// section "Fusion groups".

import SmeltTensors

/// Weights of one layer that engines make one matrix of, its parts side by side along the output channels.
///
/// The matrix has one scheme, and where a format has one number for a whole weight (the global scale of NVFP4, the scale of
/// FP8 by tensor), one such number: what the parts were given apart is lost when they are loaded.
package struct FusionGroup: Hashable, Sendable {
  /// The name that engines have for the matrix, for example `qkv_proj`.
  package let matrix: String
  /// Whether engines hold the matrix as plain numbers only, whatever its parts were stored in.
  package var isPlain: Bool { FusionGroup.rows.first { $0.matrix == matrix }?.isPlain ?? false }
  /// The fused module's own name.
  package var module: String { String(matrix.split(separator: " ").last ?? "") }
  /// The names that engines have for the fused module of a part, by the part's own name; none for experts, which are asked for one by
  /// one, and for what is plain anyway. vLLM's name first, SGLang's last. Sources: vLLM 0.33.0 and SGLang 0.5.23, `deepseek_v2.py`, `deepseek_v4.py`.
  package func engineNames(ofPart part: some StringProtocol) -> [String] {
    if isPlain || module == "w13" { return [] }
    guard module == "fused_qkv_a_proj" else { return [module] }
    return ["wq_a", "wkv"].contains(String(part))
      ? ["fused_wqa_wkv", "wqkv_a"] : ["fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa"]
  }
  /// What its parts' names have in common.
  private let prefix: String
  /// The routed expert, if the parts belong to one.
  private let expert: Int?

  /// One row of the table: the parts of a matrix in the order in which engines lay them.
  struct Row: Sendable {
    let matrix: String
    /// Canonical names, without `blk.N.` and `.weight`.
    let parts: [String]
    /// The names that modules have in safetensors, for weights that stand under their source's names; several spellings.
    let modules: [[String]]
    /// Whether engines have no quantized form of it.
    var isPlain = false
  }

  /// Every matrix that is known to be fused.
  ///
  /// Source: vLLM 0.33.0, `packed_modules_mapping` and `stacked_params_mapping` of `model_executor/models/*.py` and `models/*/`;
  /// SGLang 0.5.23, `srt/models/*.py`, the same names. `wk_weights_proj` and the compressors' have no quantized form there.
  static let rows: [Row] = [
    Row(
      matrix: "qkv_proj",
      // index_q_proj, index_k_proj: vLLM, models/minimax_m3/nvidia/model.py.
      parts: ["attn_q", "attn_k", "attn_v", "indexer.q_proj", "indexer.k_proj"],
      modules: [
        ["q_proj", "k_proj", "v_proj", "index_q_proj", "index_k_proj"], ["wq", "wk", "wv"],
        ["query", "key", "value"],
      ]),
    Row(
      // vLLM, model_executor/models/deepseek_v2.py (fused_qkv_a_proj), models/deepseek_v4/nvidia/model.py (fused_wqa_wkv).
      matrix: "fused_qkv_a_proj", parts: ["attn_q_a", "attn_kv_a_mqa", "attn_kv"],
      modules: [["q_a_proj", "kv_a_proj_with_mqa"], ["wq_a", "wkv"]]),
    Row(
      matrix: "gate_up_proj", parts: ["ffn_gate", "ffn_up"],
      modules: [["gate_proj", "up_proj"], ["w1", "w3"]]),
    Row(matrix: "shared gate_up_proj", parts: ["ffn_gate_shexp", "ffn_up_shexp"], modules: []),
    Row(matrix: "w13", parts: ["ffn_gate_exps", "ffn_up_exps"], modules: []),
    // vLLM, model_executor/models/qwen3_5.py.
    Row(
      matrix: "in_proj_qkvz", parts: ["attn_qkv", "attn_gate"], modules: [["in_proj_qkv", "in_proj_z"]]),
    Row(matrix: "in_proj_ba", parts: ["ssm_beta", "ssm_alpha"], modules: [["in_proj_b", "in_proj_a"]]),
    // vLLM, models/deepseek_v4/nvidia/model.py.
    Row(
      matrix: "fused_wkv_wgate", parts: ["attn_compressor_kv", "attn_compressor_gate"],
      modules: [], isPlain: true),
    Row(
      matrix: "indexer fused_wkv_wgate", parts: ["indexer_compressor_kv", "indexer_compressor_gate"],
      modules: [], isPlain: true),
    // vLLM, model_executor/models/deepseek_v2.py.
    Row(
      matrix: "wk_weights_proj", parts: ["indexer.attn_k", "indexer.proj"],
      modules: [["wk", "weights_proj"]], isPlain: true),
  ]

  private struct Place: Sendable {
    let matrix: String
    let order: Int
  }

  private static let byPart: [String: Place] = Dictionary(
    uniqueKeysWithValues: rows.flatMap { row in
      row.parts.enumerated().map { ($1, Place(matrix: row.matrix, order: $0)) }
    })

  /// By a module's own name, for weights under their source's names. A `wk` beside `weights_proj` is an indexer's: its parent
  /// tells.
  private static func place(module: String, parent: String?) -> Place? {
    for row in rows {
      for spelling in row.modules {
        guard let order = spelling.firstIndex(of: module) else { continue }
        guard (parent == "indexer") == (row.matrix == "wk_weights_proj") || module != "wk" else { continue }
        return Place(matrix: row.matrix, order: order)
      }
    }
    return nil
  }

  fileprivate static func find(_ spec: WeightSpec) -> (group: FusionGroup, order: Int)? {
    guard spec.shape.rank == 2 else { return nil }
    let words = spec.name.base.split(separator: ".", omittingEmptySubsequences: false)
    if words.count > 3, words[0] == "blk", words.last == "weight" {
      guard let place = byPart[words.dropFirst(2).dropLast().joined(separator: ".")] else { return nil }
      return (
        FusionGroup(matrix: place.matrix, prefix: "blk.\(words[1])", expert: spec.name.expert), place.order
      )
    }
    guard spec.hasSourceName, words.count > 2, words.last == "weight",
      let place = place(
        module: String(words[words.count - 2]),
        parent: words.count > 3 ? String(words[words.count - 3]) : nil)
    else { return nil }
    return (
      FusionGroup(
        matrix: place.matrix, prefix: words.dropLast(2).joined(separator: "."), expert: spec.name.expert),
      place.order
    )
  }
}

extension WeightSpec {
  /// The matrix that engines make of this weight and others; nil where it stays by itself. A group may have one part only, where
  /// a layer lacks the others.
  package var fusionGroup: FusionGroup? { FusionGroup.find(self)?.group }

  /// The weight's place among the parts of its fused matrix, from 0; engines that keep one number of several take the first
  /// part's.
  package var fusionOrder: Int { FusionGroup.find(self)?.order ?? 0 }
}

extension FusionGroup {
  /// The groups of some weights that have more than one part there, each as places in `specs`, parts in the engines' order.
  package static func all(_ specs: [WeightSpec]) -> [(group: FusionGroup, places: [Int])] {
    var order: [FusionGroup] = []
    var found: [FusionGroup: [(order: Int, place: Int)]] = [:]
    for (place, spec) in specs.enumerated() {
      guard let (group, part) = find(spec) else { continue }
      if found[group] == nil { order.append(group) }
      found[group, default: []].append((part, place))
    }
    return order.compactMap { group in
      guard let parts = found[group], parts.count > 1 else { return nil }
      return (group, parts.sorted { $0 < $1 }.map(\.place))
    }
  }
}
