// An ingot in several files: which they are, and that they belong together. Formats/ingot.md, section 6.

internal import SmeltStorage

extension IngotFilePart {
  /// The name of a file among several: `x-00002-of-00005.ingot` for `x.ingot`.
  static func path(_ path: String, _ number: Int, of count: Int) -> String {
    "\(stem(path))\(partEnding(number, of: count)).ingot"
  }

  private static func stem(_ path: String) -> String {
    path.hasSuffix(".ingot") ? String(path.dropLast(6)) : path
  }

  /// Opens the ingot that a file is, or is a part of.
  /// - Throws: `C_SPLIT` when a part is missing, or is one of another ingot. Rules I33 and I35.
  static func all(_ path: String) throws -> [IngotFilePart] {
    let given = try IngotFilePart(path: path)
    let counts = given.index.counts
    guard counts.fileCount > 1 else { return [given] }
    let ending = partEnding(counts.fileNumber, of: counts.fileCount) + ".ingot"
    guard path.hasSuffix(ending) else {
      throw FormatError(
        .ingotSplit, file: path, subject: "name", offset: given.index.start + 56,
        "is part \(counts.fileNumber) of \(counts.fileCount), expected a name that ends with '\(ending)'")
    }
    let whole = String(path.dropLast(ending.count))
    let paths = (1...counts.fileCount).map { IngotFilePart.path(whole, $0, of: counts.fileCount) }
    let missing = paths.filter { pathKind($0) == .nothing }
    guard missing.isEmpty else {
      throw FormatError(
        .ingotSplit, file: path, subject: "parts", offset: given.index.start + 60,
        "\(missing.count) of \(paths.count) are missing: \(excerpt(missing.map { fileName($0) }.joined(separator: ", ")))"
      )
    }
    let parts = try paths.enumerated().map {
      $0 + 1 == counts.fileNumber ? given : try IngotFilePart(path: $1)
    }
    for (place, part) in parts.enumerated() {
      guard part.index.identity == given.index.identity, part.index.contentHash == given.index.contentHash,
        part.index.counts.fileNumber == place + 1, part.index.counts.fileCount == counts.fileCount,
        part.index.counts.totalWeights == counts.totalWeights
      else {
        throw FormatError(
          .ingotSplit, file: part.path, subject: "parts", offset: part.index.start + 56,
          "is part \(part.index.counts.fileNumber) of \(part.index.counts.fileCount) of another ingot than '\(fileName(path))'"
        )
      }
    }
    let total = parts.reduce(0) { $0 + $1.index.counts.weights }
    guard total == counts.totalWeights else {
      throw FormatError(
        .ingotSplit, file: path, subject: "parts", offset: given.index.start + 64,
        "hold \(total) weights, expected \(counts.totalWeights)")
    }
    try refuseRepeats(parts)
    return parts
  }

  /// No name and no expert in two parts. Rules I23 and I34.
  private static func refuseRepeats(_ parts: [IngotFilePart]) throws(FormatError) {
    var files: Set<String> = []
    for part in parts {
      for other in part.index.others where other.kind != .retired && !files.insert(other.name).inserted {
        throw FormatError(
          .ingotSplit, file: part.path, subject: other.name, offset: part.index.start, "is in two parts")
      }
      for slot in 0..<part.index.counts.layers * part.index.counts.experts {
        let (layer, expert) = (slot / part.index.counts.experts, slot % part.index.counts.experts)
        guard part.index.weights(layer: layer, expert: expert) != nil else { continue }
        for earlier in parts.prefix(part.index.counts.fileNumber - 1)
        where earlier.index.weights(layer: layer, expert: expert) != nil {
          throw FormatError(
            .ingotSplit, file: part.path, subject: "layer \(layer), expert \(expert)",
            offset: part.index.start,
            "is in two parts")
        }
      }
    }
    // Merging the orders of names: the same name would stand at the head of two.
    var heads = [Int](repeating: 0, count: parts.count)
    // SAFETY: names lie in the parts' indices, which `parts` holds during the loop.
    var before = UnsafeRawBufferPointer(start: nil, count: 0)
    for step in 0..<parts.reduce(0, { $0 + $1.index.counts.weights }) {
      var least: (part: Int, name: UnsafeRawBufferPointer)?
      for (place, part) in parts.enumerated() where heads[place] < part.index.counts.weights {
        let name = part.index.nameBytes(part.index.weight(part.index.ordered(heads[place])))
        if least == nil || compare(name, least!.name) < 0 { least = (place, name) }
      }
      guard let (place, name) = least else { return }
      guard step == 0 || compare(before, name) != 0 else {
        throw FormatError(
          .ingotSplit, file: parts[place].path, subject: String(decoding: name, as: UTF8.self),
          offset: parts[place].index.start, "is in two parts")
      }
      before = name
      heads[place] += 1
    }
  }
}
