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

  /// Nothing yet.
  init() { (blocks, weights, parameters, bytes) = (0, 0, 0, 0) }

  /// Adds a weight of theirs.
  mutating func add(_ weight: StoredWeight) {
    weights += 1
    parameters += weight.spec.shape.count
    bytes += weight.byteCount
  }

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

  /// The blocks that draft tokens of which the weights were added up; nil without any.
  func carriedDrafts(_ sum: CarriedDrafts) -> CarriedDrafts? {
    guard sum.weights > 0 else { return nil }
    var drafts = sum
    let table = (family as? CarryingFamily)?.draftBlocks ?? 0
    drafts.blocks = max(1, table, table == 0 ? family.drafts.declared : 0)
    return drafts
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
