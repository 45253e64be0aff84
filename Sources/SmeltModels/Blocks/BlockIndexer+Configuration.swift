// What config.json says of block-sparse attention: the hub's `sparse_attention_config`, and the keys that transformers 5 saves
// (`layer_types`, `index_topk_blocks` and its kin). Where both are there the hub's sizes count, as in transformers, and lists of layers
// must agree. What no key says is as transformers has it.

import SmeltStorage

extension Decoder {
  /// Reads which layers are block-sparse, and their indexer. Heads and rotation must be known.
  /// - Throws: `CFG_VALUE`; `RequestError` unsupported for scores, blocks and values that are not computed.
  mutating func readBlocks(_ config: ConfigReader) throws {
    let section =
      try config.object("sparse_attention_config") ?? ConfigReader(JSON(members: []), file: config.file)
    let sparse = try config.layerFlags(
      "layer_types", yes: MiniMaxM3.sparseLayer, no: "full_attention", section, "sparse_attention_freq",
      yes: 1, layers.count)
    guard let sparse, sparse.contains(true) else { return }
    try section.require("use_sparse_attention", true, "'layer_types' says which layers are sparse")
    try section.requireSupported("sparse_score_type", ["max"])
    let leading = try section.integer("sparse_init_block", in: 0...1 << 24, default: 0)
    guard leading == 0 else {
      throw RequestError(
        .unsupported, "'sparse_init_block' is \(leading) in '\(config.file)'",
        help: "supported: 0; no first blocks are always seen")
    }
    if let disabled = try section.integers("sparse_disable_index_value", in: 0...1) {
      guard disabled.count == sparse.count else {
        throw section.error(
          "sparse_disable_index_value", "found \(disabled.count) entries, expected \(sparse.count)")
      }
      guard zip(sparse, disabled).allSatisfy({ !$0 || $1 == 1 }) else {
        throw RequestError(
          .unsupported, "'sparse_disable_index_value' is 0 for a block-sparse layer in '\(config.file)'",
          help: "supported: 1; the indexer only chooses")
      }
    }
    attention.blocks = try BlockIndexer(config, section, attention)
    for (index, isSparse) in sparse.enumerated() { layers[index].isBlockSparse = isSparse }
  }
}

extension BlockIndexer {
  fileprivate init(_ config: ConfigReader, _ section: ConfigReader, _ attention: Decoder.Attention) throws {
    func count(_ key: String, _ flat: String, from low: Int, to high: Int, default fallback: Int) throws
      -> Int
    {
      section.value(key) == nil
        ? try config.integer(flat, from: low, to: high, default: fallback)
        : try section.integer(key, from: low, to: high)
    }
    heads = try count("sparse_num_index_heads", "index_n_heads", from: 1, to: 65536, default: 4)
    guard heads == attention.keyHeads else {
      throw RequestError(
        .unsupported, "the indexer has \(heads) heads in '\(config.file)'",
        help: "supported: \(attention.keyHeads), one for each head of keys")
    }
    let rotated = 2 * attention.rope.frequencies.count
    width = try count("sparse_index_dim", "index_head_dim", from: rotated, to: 65536, default: 128)
    blockSize = try count("sparse_block_size", "index_block_size", from: 1, to: 1 << 24, default: 128)
    keep = try count("sparse_topk_blocks", "index_topk_blocks", from: 1, to: 1 << 24, default: 16)
    local = try count("sparse_local_block", "index_local_blocks", from: 0, to: keep, default: 1)
  }
}

extension ConfigReader {
  /// A truth value for each layer, from a list of words or a list of 0 and 1; nil without either.
  /// - Parameters:
  ///   - numbers: the section that may hold the list of numbers.
  ///   - one: the number that means yes.
  /// - Throws: `CFG_VALUE` also where the two lists say different things.
  func layerFlags(
    _ words: String, yes: String, no: String, _ numbers: ConfigReader, _ key: String, yes one: Int,
    _ count: Int
  ) throws(FormatError) -> [Bool]? {
    var named: [Bool]?
    if let list = try strings(words) {
      guard list.count == count else {
        throw error(words, "found \(list.count) entries, expected \(count)")
      }
      if let other = list.first(where: { $0 != yes && $0 != no }) {
        throw error(words, "holds '\(other)', expected \(yes) or \(no)")
      }
      named = list.map { $0 == yes }
    }
    guard let list = try numbers.integers(key, in: 0...1) else { return named }
    guard list.count == count else {
      throw numbers.error(key, "found \(list.count) entries, expected \(count)")
    }
    let counted = list.map { $0 == one }
    guard named == nil || named == counted else {
      throw numbers.error(key, "says other layers than '\(words)'")
    }
    return counted
  }
}
