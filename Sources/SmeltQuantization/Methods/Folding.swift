// Factors of input channels that leave the model's outputs as they are: what one weight gives is divided, what the next
// ones take is multiplied. Formats/methods.md, section 3.

package import SmeltModels
internal import SmeltStorage
package import SmeltTensors

/// A place where factors of channels can move from one weight to those that read its output.
package struct FoldSite: Sendable {
  /// Whose output is divided: a norm's elements, or the rows of a matrix.
  package let giver: WeightName
  /// Whose columns are multiplied: every weight that reads the giver's output.
  package let readers: [WeightName]
  /// Channels between them.
  package let channels: Int

  /// The sites of a layer.
  ///
  /// | giver | readers |
  /// |---|---|
  /// | `attn_norm` | query, key and value projections, their low-rank first halves, compressors, the indexer's keys and head weights |
  /// | `attn_q_a_norm` | `attn_q_b`, the indexer's queries |
  /// | `attn_kv_a_norm` | `attn_kv_b`, where there is one |
  /// | `attn_output_a` | `attn_output_b` |
  /// | `ffn_norm` | router, gate and up of all experts and of the shared ones, the shared experts' own gate |
  /// | up of an expert | its down, in families that do not clamp between them |
  ///
  /// - Parameters:
  ///   - specs: the weights of one layer.
  ///   - modelType: the family, which says whether there is a clamp.
  package static func all(_ specs: [WeightSpec], modelType: String) -> [FoldSite] {
    let byName = Dictionary(specs.map { ($0.name, $0) }) { first, _ in first }
    func part(_ name: WeightName) -> String {
      let words = name.base.split(separator: ".", omittingEmptySubsequences: false)
      return words.count > 3 ? words.dropFirst(2).dropLast().joined(separator: ".") : ""
    }
    func named(_ parts: Set<String>) -> [WeightSpec] {
      specs.filter {
        $0.shape.rank >= 2 && $0.name.base.hasSuffix(".weight") && parts.contains(part($0.name))
      }
    }
    var sites: [FoldSite] = []
    func add(_ giver: WeightSpec?, _ readers: [WeightSpec], _ channels: Int) {
      guard let giver, !readers.isEmpty,
        readers.allSatisfy({ $0.shape.columns == channels && $0.inputGroups == 1 })
      else { return }
      sites.append(FoldSite(giver: giver.name, readers: readers.map(\.name), channels: channels))
    }
    for (norm, parts) in normReaders {
      let giver = specs.first { $0.role == .norm && part($0.name) == norm }
      add(giver, named(parts), giver?.shape.count ?? 0)
    }
    if let first = named(["attn_output_a"]).first {
      add(first, named(["attn_output_b"]), first.shape.rows)
    }
    // A clamp between up and down tells sizes apart, and so does an offset.
    guard !["deepseek_v4", "gpt_oss"].contains(modelType) else { return sites }
    for up in specs where ["ffn_up", "ffn_up_exps", "ffn_up_shexp"].contains(part(up.name)) {
      let down = WeightName(up.name.base.replacing("ffn_up", with: "ffn_down"), expert: up.name.expert)
      let bias = WeightName(up.name.base.replacing(".weight", with: ".bias"), expert: up.name.expert)
      guard byName[bias] == nil, up.name.base.hasSuffix(".weight") else { continue }
      add(up, byName[down].map { [$0] } ?? [], up.shape.rows)
    }
    return sites
  }

  private static let normReaders: [(norm: String, parts: Set<String>)] = [
    (
      "attn_norm",
      [
        "attn_q", "attn_k", "attn_v", "attn_q_a", "attn_kv", "attn_kv_a_mqa", "attn_compressor_kv",
        "attn_compressor_gate", "indexer_compressor_kv", "indexer_compressor_gate", "indexer.attn_k",
        "indexer.proj",
      ]
    ),
    ("attn_q_a_norm", ["attn_q_b", "indexer.attn_q_b"]),
    ("attn_kv_a_norm", ["attn_kv_b"]),
    (
      "ffn_norm",
      [
        "ffn_gate_inp", "ffn_gate_inp_shexp", "ffn_gate_exps", "ffn_up_exps", "ffn_gate_shexp",
        "ffn_up_shexp",
        "ffn_gate", "ffn_up",
      ]
    ),
  ]
}

/// What folding does to each weight.
package struct FoldFactors: Sendable {
  /// Its output channels (a norm's elements) are divided by these; nil: they stay.
  package var divisors: [Float]?
  /// Its input channels are multiplied by these; nil: they stay.
  package var multipliers: [Float]?

  /// The factors of some sites.
  package static func all(_ chosen: [(site: FoldSite, factors: [Float])]) -> [WeightName: FoldFactors] {
    var all: [WeightName: FoldFactors] = [:]
    for (site, factors) in chosen {
      precondition(factors.count == site.channels, "\(factors.count) factors for \(site.channels) channels")
      all[site.giver, default: FoldFactors()].divisors = factors
      for reader in site.readers { all[reader, default: FoldFactors()].multipliers = factors }
    }
    return all
  }

  /// The weight with its channels divided and multiplied, in float32: exact for powers of two, else rounded once or twice.
  package func apply(_ weight: Weight) throws -> Weight {
    let columns = weight.columns
    let isVector = weight.shape.rank < 2
    var values = weight.decode()
    if let divisors {
      for index in values.indices { values[index] /= divisors[isVector ? index : index / columns] }
    }
    if let multipliers {
      for index in values.indices { values[index] *= multipliers[index % columns] }
    }
    return try weight.replacing(values)
  }
}

extension Weight {
  /// The same weight with other numbers, in float32.
  func replacing(_ values: [Float]) throws -> Weight {
    // SAFETY: room for the floats, all of which are copied.
    let buffer = ByteBuffer(count: values.count * 4)
    values.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    return try Weight(
      name: name, shape: shape, encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: shape, bytes: Bytes(buffer))], file: file)
  }
}
