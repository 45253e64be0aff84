// `formats`: what this version knows, from the lists themselves.

import SmeltModels
import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// The open lists of this version.
package struct KnownFormats: Sendable {
  /// For machines.
  package let json: JSON
  /// For people.
  package let text: String
}

/// What this version knows, walked from the lists themselves.
package func knownFormats() -> KnownFormats {
  let families = ModelFamilies.all.flatMap { $0.modelTypes }
  let encodings = Encodings.all.map(\.name)
  let containers = Containers.all.map(\.name)
  var table = Table(["list", "name", ""])
  for family in families { table.add(["family", family, ""]) }
  for name in containers { table.add(["container", name, "read, write"]) }
  for encoding in encodings { table.add(["encoding", encoding, ""]) }
  for scheme in Schemes.all {
    table.add([
      "scheme", scheme.name,
      ([scheme.summary]
        + (scheme.synonyms.isEmpty ? [] : ["also " + scheme.synonyms.joined(separator: ", ")])).joined(
          separator: "; "),
    ])
  }
  for name in Recipe.mixtureNames {
    table.add(["mixture", name, "llama-quantize's types, tensor by tensor"])
  }
  table.add([
    "mixture", "NAME\(Recipe.keepHead)",
    "a mixture or one of GGUF's schemes with embeddings and output head kept; a scheme's name alone is llama-quantize's in a .gguf",
  ])
  for (word, meaning) in ConversionRequest.engineWords { table.add(["word", word, meaning]) }
  table.add([
    "word", "SCHEME@WHAT",
    "what engines do to activations: " + EngineActivations.allCases.map(\.rawValue).joined(separator: ", "),
  ])
  for word in InstructionSet.words {
    table.add(["instruction set", word, InstructionSet.available.contains(word) ? "" : "not on this machine"])
  }
  return KnownFormats(
    json: [
      "schema": "smelt.formats/1",
      "instruction_sets": JSON(InstructionSet.available.map { JSON($0) }),
      "families": JSON(families.map { JSON($0) }), "containers": JSON(containers.map { JSON($0) }),
      "encodings": JSON(encodings.map { JSON($0) }),
      "mixtures": JSON(Recipe.mixtureNames.map { JSON($0) }),
      "words": JSON(
        ConversionRequest.engineWords.map { ["name": JSON($0.word), "meaning": JSON($0.meaning)] }),
      "schemes": JSON(
        Schemes.all.map {
          [
            "name": JSON($0.name), "synonyms": JSON($0.synonyms.map { JSON($0) }),
            "summary": JSON($0.summary),
          ]
        }),
    ], text: table.text)
}
