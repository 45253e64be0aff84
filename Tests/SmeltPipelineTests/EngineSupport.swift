// Results that engines are asked about: fixtures converted, and changed where a rule needs something that no conversion writes.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// A directory that smelt writes of a fixture, opened for changes.
func engineVariant(
  _ name: String, _ word: String, in folder: TemporaryFolder, recipe: Recipe? = nil, isLevelled: Bool = true
) throws -> Variant {
  let path = folder.file("made")
  for name in pathKind(path) == .nothing ? [] : try namesInFolder(path) { removeFile(path + "/" + name) }
  var options = try options(recipe == nil ? word : "keep")
  if let recipe { options.recipe = recipe }
  var target = SafetensorsResult(shardBytes: SafetensorsResult.usualShardBytes, schemeWord: word)
  target.isLoadedFused = isLevelled
  options.target = target
  _ = try convert(try openFixture(name), to: path + "-\(word)-\(name)", options)
  return try Variant(path: path + "-\(word)-\(name)")
}

/// What an engine makes of a variant.
func engineCheck(
  _ variant: Variant, _ engine: Engine, in folder: TemporaryFolder, version: String? = nil, shards: Int = 1
) throws -> EngineCheck {
  try checkEngine(
    try variant.open(in: folder, "asked"), for: engine, version: version, shards: shards)
}

extension EngineCheck {
  /// The outcomes of rules that speak, by name.
  var spoken: [String: EngineOutcome] {
    Dictionary(uniqueKeysWithValues: findings.map { ($0.rule.name, $0.rule.outcome) })
  }
}

extension Variant {
  /// The text of quantization_config, changed.
  mutating func changeQuantization(_ change: (String) -> String) throws {
    let section = try #require(config.first { $0.0 == "quantization_config" }?.1)
    set("quantization_config", try JSON.scan(change(section.text(indented: true))))
  }

  /// Puts more modules on `ignore`.
  mutating func ignore(_ entries: [String]) throws {
    let list = entries.map { JSON($0).text() }.joined(separator: ", ")
    try changeQuantization { $0.replacing("\"ignore\": [", with: "\"ignore\": [\(list), ") }
  }

  /// Gives modules back the numbers of the source.
  mutating func makePlain(_ source: Variant, where isMeant: (String) -> Bool) {
    tensors.removeAll { tensor in
      let dot = tensor.name.lastIndex(of: ".") ?? tensor.name.endIndex
      return isMeant(String(tensor.name[..<dot]))
    }
    tensors += source.tensors.filter { tensor in
      tensor.name.hasSuffix(".weight") && isMeant(String(tensor.name.dropLast(".weight".count)))
    }
  }

  /// Sets one F32 number of tensors; the closure has the old one.
  mutating func setNumbers(where isMeant: (String) -> Bool, _ change: (String, Float) -> Float) {
    for place in tensors.indices where isMeant(tensors[place].name) {
      let bits = tensors[place].bytes.prefix(4).enumerated().reduce(UInt32(0)) {
        $0 | UInt32($1.element) << (8 * UInt32($1.offset))
      }
      let new = change(tensors[place].name, Float(bitPattern: bits)).bitPattern
      tensors[place].bytes.replaceSubrange(
        0..<4, with: (0..<4).map { UInt8(truncatingIfNeeded: new >> (8 * UInt32($0))) })
    }
  }

  /// One global scale for all of the model, so that fused parts have the same.
  mutating func shareGlobalScales() {
    setNumbers(where: { $0.hasSuffix("weight_global_scale") }) { _, _ in 1024 }
  }
}
