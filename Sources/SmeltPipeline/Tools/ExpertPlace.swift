// Where an ingot holds an expert.

import SmeltContainers
package import SmeltHub
package import SmeltStorage

/// Where an expert's matrices lie.
package struct ExpertPlace: Sendable {
  let layer: Int
  let expert: Int
  let range: IngotRange

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.expert/1", "layer": JSON(layer), "expert": JSON(expert), "file": JSON(range.file),
      "offset": JSON(range.offset),
      "bytes": JSON(range.count), "weights": JSON(range.weights.map { JSON($0) }),
    ]
  }

  /// For people.
  package var text: String {
    "layer \(layer), expert \(expert): bytes \(range.offset) to \(range.offset + range.count) of \(range.file) (\(byteText(range.count)))\n"
      + range.weights.map { "  \(printable($0))" }.joined(separator: "\n")
  }
}

/// Where an ingot holds an expert: header and index are looked at, nothing else.
/// - Throws: `RequestError` usage when the file is no ingot or has no such expert; every refusal of the container.
package func expertPlace(_ given: String, layer: Int, expert: Int, remote: RemoteOptions = RemoteOptions())
  throws
  -> ExpertPlace
{
  let path = try RemoteModels.path(given, remote)
  guard pathKind(path) == .nothing || Container.ingot.recognizes(path) else {
    throw RequestError(.usage, "--layer and --expert are for ingots: '\(path)' is not one")
  }
  guard let range = try IngotFile(path: path).range(layer: layer, expert: expert) else {
    throw RequestError(.usage, "'\(path)' has no expert \(expert) in layer \(layer)")
  }
  return ExpertPlace(layer: layer, expert: expert, range: range)
}
