// Blocks behind a model's last layer that draft tokens (multi-token prediction). The pass of a family never asks for them; they are
// carried from container to container, quantized like the layers that they resemble, and run by `DraftPass.swift`.

package import SmeltStorage
import SmeltTensors

/// What a family says of its blocks that draft tokens.
package struct DraftBlocks: Sendable {
  /// How many the configuration counts.
  package let declared: Int
  /// What the names of their tensors begin with, in any of the family's dialects.
  package let prefixes: [String]
  /// The number of the first block: the number of the model's layers.
  package let first: Int
  /// Whether they run here.
  package let runs: Bool
  /// Routed experts of a block.
  private let experts: Int
  /// The weights that a block of a number can have.
  private let rows: @Sendable (_ layer: Int) -> [WeightSpec]

  /// None.
  static let none = DraftBlocks(declared: 0, prefixes: [], first: 0, experts: 0, runs: false) { _ in [] }

  /// Blocks of a family.
  /// - Parameters:
  ///   - rows: the rows of the block that stands as layer `layer`, behind the model's own layers.
  init(
    declared: Int, prefixes: [String], first: Int, experts: Int, runs: Bool = true,
    rows: @escaping @Sendable (_ layer: Int) -> [WeightSpec]
  ) {
    (self.declared, self.prefixes, self.first) = (declared, prefixes, first)
    (self.runs, self.experts, self.rows) = (runs, experts, rows)
  }

  /// Blocks whose tensors stand behind the model's layers, `model.layers.61.`, as DeepSeek-V3 has them. One is looked for where
  /// the configuration counts none, too: writers take the count away and leave the tensors.
  /// - Parameter more: further prefixes.
  init(
    behind layers: Int, declared: Int, least: Int = 0, experts: Int, more: [String] = [],
    rows: @escaping @Sendable (_ layer: Int) -> [WeightSpec]
  ) {
    self.init(
      declared: declared,
      prefixes: (layers..<layers + max(least, declared)).map { "model.layers.\($0)." } + more, first: layers,
      experts: experts, rows: rows)
  }

  /// Whether a tensor of a checkpoint belongs to one of them.
  package func covers(_ tensor: String) -> Bool { prefixes.contains { tensor.hasPrefix($0) } }

  /// The key that most families count them by.
  package static let countKey = "num_nextn_predict_layers"

  /// The most blocks that are looked for, and that a configuration may count.
  package static let most = 64

  /// The weights that a block can have, those that it must have and optional ones, `isDraft` set. Names are canonical:
  /// `blk.61.attn_norm.weight`, `blk.61.nextn.eh_proj.weight`.
  /// - Parameter block: its number, from 0.
  package func table(_ block: Int) -> [WeightSpec] {
    guard (first + block + 1) * max(1, experts) <= Bounds.allExperts else { return [] }
    return rows(first + block).map {
      var spec = $0
      (spec.isCarried, spec.isDraft) = (true, true)
      return spec
    }
  }
}

extension WeightSpec {
  /// The same, which a source may lack.
  var optional: WeightSpec {
    var spec = self
    spec.isOptional = true
    return spec
  }

  /// What a block has beside a layer, in the words of DeepSeek-V3, GLM-4.5 and their kin: norms of the next token's embedding and of
  /// the stream, the matrix that joins the two, [hidden, 2 × hidden], and a norm, embeddings and a head, which are often the model's own.
  /// - Parameter norm: the name of the norm before the head.
  static func nextRows(
    layer: Int, hidden: Int, vocabulary: Int, norm: String = "shared_head.norm"
  ) -> [WeightSpec] {
    func row(_ part: String, _ shape: Shape, _ role: Role, _ hub: String) -> WeightSpec {
      let place = Spelling("model.layers.\(layer).\(hub).weight")
      return WeightSpec(
        LayerName(layer: layer)("nextn.\(part)"), shape, role, layer: layer, spellings: [place, place])
    }
    return [
      row("enorm", [hidden], .norm, "enorm"), row("hnorm", [hidden], .norm, "hnorm"),
      // The makers of FP8 checkpoints keep it, and engines load it as it is: it stands outside the layer.
      row("eh_proj", [hidden, 2 * hidden], .other, "eh_proj"),
      row("embed_tokens", [vocabulary, hidden], .embedding, "embed_tokens").optional,
      row("shared_head_norm", [hidden], .norm, norm).optional,
      row("shared_head_head", [vocabulary, hidden], .outputHead, "shared_head.head").optional,
    ]
  }
}

extension ConfigReader {
  /// Layers behind the last one that draft tokens, under the first key that is there of `num_mtp_layers`,
  /// `num_nextn_predict_layers` and `mtp_num_hidden_layers`.
  package func declaredDrafts() throws(FormatError) -> Int {
    var drafts = 0
    for key in ["mtp_num_hidden_layers", DraftBlocks.countKey, "num_mtp_layers"] {
      drafts = try integer(key, in: 0...64, default: drafts)
    }
    return drafts
  }
}
