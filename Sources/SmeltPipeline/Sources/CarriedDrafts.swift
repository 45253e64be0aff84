// What a model carries of blocks that draft tokens (multi-token prediction): how many, how large, and which of them another model lacks.

import SmeltModels
package import SmeltStorage
import SmeltTensors

/// Blocks that draft tokens, in a model that carries them.
package struct CarriedDrafts: Sendable {
  /// How many blocks.
  package var blocks: Int
  /// Their weights.
  package var weights: Int
  /// Numbers in them.
  package var parameters: Int
  /// Their bytes as they are stored.
  package var bytes: Int

  /// For machines.
  package var json: JSON {
    [
      "blocks": JSON(blocks), "weights": JSON(weights), "parameters": JSON(parameters), "bytes": JSON(bytes),
    ]
  }

  /// For people: one line.
  package var text: String {
    "\(blocks) block\(blocks == 1 ? "" : "s") that draft\(blocks == 1 ? "s" : "") tokens, \(grouped(weights)) weights, "
      + "\(grouped(parameters)) parameters (\(byteText(bytes))): carried, no part of the forward pass"
  }
}

extension Model {
  /// Weights of blocks that draft tokens.
  var drafts: [WeightSpec] { family.weights.filter(\.isDraft) }

  /// Those blocks; nil without any.
  func carriedDrafts(_ stored: [StoredWeight]) -> CarriedDrafts? {
    let own = stored.indices.filter { stored[$0].spec.isDraft }.map { stored[$0] }
    guard !own.isEmpty else { return nil }
    let table = (family as? CarryingFamily)?.draftBlocks ?? 0
    return CarriedDrafts(
      blocks: max(1, table, table == 0 ? family.drafts.declared : 0), weights: own.count,
      parameters: own.reduce(0) { $0 + $1.spec.shape.count }, bytes: own.reduce(0) { $0 + $1.byteCount })
  }

  /// Weights of another model's draft blocks that this one lacks, as left out by rule; empty if it has all of them.
  /// - Throws: refusals of the other's container.
  func lacksDrafts(of other: Model) throws -> [LeftOut] {
    guard other.family.weights.contains(where: \.isDraft) else { return [] }
    let names = Set(drafts.map(\.name))
    var left = LeftOut(.mtp("blocks that draft tokens, which the other model holds, are not here"))
    for weight in try other.storedWeights() where weight.spec.isDraft && !names.contains(weight.spec.name) {
      left.tensors += weight.tensors.count
      left.bytes += weight.byteCount
    }
    return left.tensors == 0 ? [] : [left]
  }
}
