// `quantize --save-statistics`: the statistics of the run, kept for the next scheme.

import SmeltContainers
import SmeltStorage

/// Where a quantization keeps the statistics that it gathered.
struct SavedStatistics {
  /// The file.
  let path: String
  /// Whether statistics that Smelt wrote may be replaced.
  let overwrite: Bool
  /// Whether a run that was stopped may have written it already.
  let resumes: Bool

  /// Refuses what cannot be written, before the pass over the text.
  /// - Throws: `RequestError` usage or cannot-create; `OUT_ALIASES_INPUT`.
  init(_ path: String, _ model: Model, texts: [String], overwrite: Bool, resumes: Bool) throws {
    (self.path, self.overwrite, self.resumes) = (path, overwrite, resumes)
    try requireName(path, "statistics file")
    guard !path.lowercased().hasSuffix(".gguf") else {
      throw RequestError(
        .usage,
        "--save-statistics '\(path)': an importance matrix does not hold all that a quantization needs",
        help: "name a .safetensors file; smelt calibrate writes an importance matrix")
    }
    try model.refuseAlias(path, and: texts)
    try requireCreatable(path, replacing: Replacement(overwrite: overwrite || resumes, .statistics))
  }

  /// Copies a statistics file: the bytes that `calibrate` would have written.
  /// - Throws: `RequestError` cannot-create, where other statistics lie there than those that the run that is resumed has written; io.
  func write(_ statistics: String) throws {
    if resumes, !overwrite, pathKind(path) == .file {
      let (found, own) = (try MappedFile(path: path).bytes, try MappedFile(path: statistics).bytes)
      guard SHA256.hex(found) == SHA256.hex(own) else {
        throw RequestError(
          .cannotCreate, "'\(path)' exists, and holds statistics of another calibration",
          help: "move it away, or pass --overwrite to replace it")
      }
      return
    }
    var file = try FileWriter(path: path, replacing: Replacement(overwrite: overwrite, .statistics))
    _ = try file.append(contentsOf: statistics, sum: .none)
    _ = try file.commit()
  }
}
