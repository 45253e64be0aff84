// `formats`: what this version knows, from the lists themselves.

import SmeltContainers
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
  var lists = Table(["", ""])
  lists.add(["families", families.joined(separator: ", ")])
  lists.add(["containers", containers.joined(separator: ", ") + ", read and written"])
  lists.add(["encodings", encodings.joined(separator: ", ")])
  let sets = InstructionSet.words.map { word in
    InstructionSet.available.contains(word) ? word : "\(word) (not on this machine)"
  }
  lists.add(["instruction sets", sets.joined(separator: ", ")])
  var schemes = Table(["--scheme", "meaning"])
  let named = SchemeName.all.filter { !$0.name.hasSuffix(Recipe.keepHead) }
  for scheme in named where scheme.canonical == nil {
    let others = named.filter { $0.canonical == scheme.name }.map(\.name)
    schemes.add([
      scheme.name, scheme.meaning + (others.isEmpty ? "" : "; also \(others.joined(separator: ", "))"),
    ])
  }
  let heads = SchemeName.all.filter { $0.name.hasSuffix(Recipe.keepHead) }.map(\.name)
  schemes.add([
    "NAME\(Recipe.keepHead)",
    "with embeddings and output head kept: \(heads.joined(separator: ", "))",
  ])
  schemes.add([
    "SCHEME@WHAT",
    "what engines do to activations: " + EngineActivations.allCases.map(\.rawValue).joined(separator: ", "),
  ])
  schemes.add(["int8-coded:BITS", "int8-coded of so many bits a weight, 1.5 to 8"])
  var deployments = Table(["--for", "scheme", "also"])
  for deployment in Deployment.all {
    deployments.add([
      deployment.name, deployment.scheme, deployment.names.dropFirst().joined(separator: ", "),
    ])
  }
  return KnownFormats(
    json: [
      "schema": "smelt.formats/1",
      "instruction_sets": JSON(InstructionSet.available.map { JSON($0) }),
      "families": JSON(families.map { JSON($0) }), "containers": JSON(containers.map { JSON($0) }),
      "encodings": JSON(encodings.map { JSON($0) }),
      "mixtures": JSON(Recipe.mixtureNames.map { JSON($0) }),
      "scheme_names": JSON(SchemeName.all.map { JSON($0.name) }),
      "deployments": JSON(Deployment.all.flatMap(\.names).map { JSON($0) }),
      "words": JSON(
        ConversionRequest.engineWords.map { ["name": JSON($0.word), "meaning": JSON($0.meaning)] }),
      "schemes": JSON(
        Schemes.all.map {
          [
            "name": JSON($0.name), "synonyms": JSON($0.synonyms.map { JSON($0) }),
            "summary": JSON($0.summary),
          ]
        }),
    ],
    text: [
      lists.text, "", schemes.text, "",
      "The case of a name does not matter, but for FP8 and NVFP4 in a directory.", "", deployments.text,
    ].joined(separator: "\n"))
}

/// The version of the zstd library that runs.
package var zstdVersion: String { codecLibraryVersion }
