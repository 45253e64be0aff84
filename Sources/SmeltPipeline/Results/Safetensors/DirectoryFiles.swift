// The files of a directory beside its weights, as a conversion writes them.

import SmeltContainers
import SmeltModels
import SmeltStorage

/// What a directory holds beside shards, their index and the model card.
struct DirectoryFiles {
  /// The source's files by their names, config.json true of the result.
  private(set) var carried: [(name: String, bytes: Bytes)] = []
  /// Files that the source does not have: what other tools read of the codes, and the errors that a method left.
  private(set) var own: [(name: String, bytes: Bytes)] = []
  /// The source's model card, where the result has one of its own.
  private(set) var card: Bytes?

  /// All of them.
  var all: [(name: String, bytes: Bytes)] { carried + own }

  /// - Parameter leftNames: files of the source that the result does not take.
  /// - Throws: refusals of the source's files; `CFG_JSON`.
  init(_ model: Model, _ plan: Plan, _ naming: TensorNaming, without leftNames: Set<String>) throws {
    let section = QuantizationSection(plan, naming)
    for (name, bytes) in try model.resultFiles(holdsDrafts: plan.holdsDrafts) where !leftNames.contains(name)
    {
      if name == ModelCard.fileName, plan.changesWeights {
        card = bytes
      } else {
        carried.append((name, name == "config.json" ? Bytes(try section.config(bytes)) : bytes))
      }
    }
    if let sidecar = section.sidecar { own.append((QuantizationConfig.sidecarName, Bytes(sidecar))) }
    if let errors = model.preparedErrors { own.append((WeightErrors.fileName, Bytes(errors))) }
  }
}
