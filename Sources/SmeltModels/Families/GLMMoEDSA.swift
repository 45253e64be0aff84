// GLM-5 to GLM-5.3. DeepSeek-V3.2 with two changes: the indexer turns neighbouring channels, as the attention does, and not every
// layer has one. A layer without (`shared` in `indexer_types`) sees the tokens that the last layer with an indexer (`full`) has
// chosen. Follows transformers' glm_moe_dsa; sharing across layers: arXiv 2603.12201.

package import SmeltStorage

/// The GLM-5 architecture.
package struct GLMMoEDSA: LatentFamily {
  /// `glm_moe_dsa`.
  package static let modelTypes = ["glm_moe_dsa"]

  /// Its numbers and its forward pass.
  package let decoder: LatentDecoder
  /// The weights table, in the order of a checkpoint.
  package let weights: [WeightSpec]

  /// Reads config.json as the hub has it or as transformers saves it.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for an activation other than SiLU, other routers, rope types other than default
  ///   and yarn, a rotation of halves, and statements about which layers share that differ.
  package init(config: JSON, file: String) throws {
    let config = ConfigReader(config, file: file)
    try config.requireRotatedShare(1)
    for key in ["rope_interleave", "indexer_rope_interleave"] {
      try config.require(key, true, "glm_moe_dsa always turns neighbouring channels")
    }
    let indexer = try TokenIndexer(config, pairing: .interleaved)
    let sharing = try config.sharedSelections(
      try config.integer("num_hidden_layers", in: 1...Bounds.layers))
    decoder = try LatentDecoder(
      config, firstDense: 3, hasSelectionBias: true, indexer: indexer, sharing: sharing, usualShared: 1
    ) { experts in
      try DeepSeekV3.router(config, experts: experts, groups: 1, scaling: 2.5)
    }
    weights = decoder.weightTable()
  }
}

extension ConfigReader {
  /// For each layer whether it takes the choice of an earlier layer's indexer. Three ways to say it: `indexer_types`, a list of `full`
  /// and `shared`; `index_topk_pattern`, the same as letters F and S or as a list; `index_topk_freq`, the distance between full
  /// layers, with `index_skip_topk_offset`, how many layers at the beginning are full. All layers are full where nothing is said.
  /// - Throws: `CFG_VALUE` for lists that are too short, other words and a first layer that is shared; `RequestError` unsupported where
  ///   two ways say different things, or the last key is missing beside the one before.
  func sharedSelections(_ count: Int) throws -> [Bool] {
    var found: [(key: String, shared: [Bool])] = []
    if let types = try strings("indexer_types") {
      found.append(("indexer_types", try shared(types, "indexer_types", count)))
    }
    let pattern = "index_topk_pattern"
    if let value = value(pattern) {
      let words = value.string.map { $0.map { ["F": "full", "S": "shared"][$0] ?? String($0) } }
      found.append((pattern, try shared(try words ?? strings(pattern) ?? [], pattern, count)))
    }
    let (frequency, offset) = ("index_topk_freq", "index_skip_topk_offset")
    let step = max(1, try integer(frequency, in: 0...1 << 20, default: 1))
    let first = try integer(offset, in: 0...1 << 20, default: 2)
    if value(frequency) != nil {
      guard step == 1 || value(offset) != nil else {
        throw RequestError(
          .unsupported, "'\(frequency)' is \(step) in '\(file)', without '\(offset)'",
          help: "give '\(offset)', or 'indexer_types'")
      }
      found.append((frequency, (0..<count).map { max($0 - first + 1, 0) % step != 0 }))
    }
    for other in found.dropFirst() where other.shared != found[0].shared {
      throw RequestError(
        .unsupported,
        "'\(found[0].key)' and '\(other.key)' in '\(file)' differ in which layers have an indexer",
        help: "supported: one of them, or the same in both")
    }
    guard let (key, shared) = found.first else { return [Bool](repeating: false, count: count) }
    guard shared.first != true else {
      throw error(key, "lets the first layer reuse a selection, expected full: no earlier layer has made one")
    }
    return shared
  }

  private func shared(_ types: [String], _ key: String, _ count: Int) throws(FormatError) -> [Bool] {
    // Blocks that draft tokens may have entries behind those of the layers.
    guard types.count >= count else {
      throw error(key, "found \(types.count) entries, expected \(count)")
    }
    if let other = types.first(where: { !["full", "shared"].contains($0) }) {
      throw error(key, "holds '\(excerpt(other))', expected full or shared")
    }
    return types.prefix(count).map { $0 == "shared" }
  }
}
