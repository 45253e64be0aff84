// Weights of one ingot taken into another as they are stored: no frame is inflated.

internal import SmeltStorage
internal import SmeltTensors

extension IngotFile {
  /// The names of the weights in the order in which they lie.
  package var storedNames: [String] {
    parts.flatMap { part in (0..<part.index.counts.weights).map { part.index.entry($0).name } }
  }

  /// What tells its files from those of another conversion of the same model; lower-case hexadecimal. Formats/ingot.md, section 6.
  package var identity: String { hexadecimal(parts[0].index.identity) }
}

extension IngotWriter {
  /// Copies a weight of another ingot in one file, whose stored bytes were checked.
  /// - Parameter row: its place among that ingot's weights.
  /// - Throws: `C_INDEX` when a weight of the name stands in the ingot already; `RequestError` io.
  package mutating func copy(_ row: Int, of ingot: IngotFile) throws {
    precondition(weight == nil && part == nil, "a weight has not ended")
    let source = ingot.parts[0]
    var record = WeightRecord(source.index.entry(row), in: source.index)
    let file = files[files.count - 1]
    try claim(
      record.name, layer: record.layer, expert: record.expert,
      after: file.records.weights.last ?? WeightRecord(name: "", encoding: "", shape: []))
    for place in record.frames.indices {
      let frame = record.frames[place]
      guard let codec = ChunkCodec(rawValue: frame.codec) else {
        preconditionFailure("an ingot that opens has codecs that are known")
      }
      try file.pad(to: IngotFrame.alignment(codec, storedLength: frame.contentLength))
      record.frames[place].offset = file.position
      let stored = source.bytes[frame.offset..<frame.end]
      try stored.withUnsafeBytes { try file.write($0) }
      stored.evict()
    }
    file.add(record)
  }
}
