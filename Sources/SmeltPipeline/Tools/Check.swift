// `check`: every rule and every checksum, and what to do about it.

package import SmeltContainers
import SmeltModels
package import SmeltStorage
import SmeltTensors
import SmeltTokenizers

/// What `check` looked at.
package struct CheckSummary: Sendable {
  /// Weights whose codes and scales were scanned.
  package var weights = 0
  /// Bytes read.
  package var bytes = 0
  /// Whether a tokenizer was there and read.
  package var hasTokenizer = false
  /// Things worth saying that are no reason to refuse.
  package var warnings: [String] = []
  /// Tensors that take no part, by rule.
  package var leftOut: [LeftOut] = []
  /// What is damaged, in an ingot.
  package var damage: [IngotDamage] = []
  /// Whether codes and scales were scanned too, or only stored bytes held against their checksums.
  package var isDeep = true
  /// Wall time of the pass over stored bytes of an ingot.
  package var seconds = 0.0

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.check/1", "verdict": JSON(damage.isEmpty ? "sound" : "damaged"),
      "weights": JSON(weights), "bytes": JSON(bytes),
      "tokenizer": JSON(hasTokenizer), "warnings": JSON(warnings.map { JSON($0) }),
      "left_out": JSON(leftOut.map(\.json)),
      "damage": JSON(
        damage.map { damage in
          [
            "code": JSON(damage.error.code.name), "file": JSON(damage.error.file),
            "offset": damage.error.offset.map { JSON($0) } ?? JSON(.null),
            "subject": JSON(damage.error.subject),
            "weight": JSON(damage.weight), "layer": damage.layer.map { JSON($0) } ?? JSON(.null),
            "expert": damage.expert.map { JSON($0) } ?? JSON(.null),
            "chunks": JSON(damage.chunks.map { JSON($0) }), "problem": JSON(damage.error.problem),
          ]
        }),
    ]
  }

  /// For people.
  package var text: String {
    var lines: [String] = []
    if damage.isEmpty {
      lines.append(
        isDeep
          ? "sound: \(grouped(weights)) weights, \(byteText(bytes)) scanned, every code and scale a finite number"
            + (hasTokenizer ? ", tokenizer read" : "")
          : "sound: \(byteText(bytes)) of \(grouped(weights)) weights held against their checksums in \(fixed(seconds, 2)) s, "
            + "\(fixed(Double(bytes) / max(seconds, 1e-9) / 1e9, 2)) GB/s")
    } else {
      lines.append(
        "damaged: \(damage.count) part\(damage.count == 1 ? "" : "s"); everything else still reads")
      var table = Table(["code", "what", "layer", "expert", "chunks", "in", "byte"])
      for damage in damage {
        table.add([
          damage.error.code.name, printable(damage.error.subject ?? ""), damage.layer.map { "\($0)" } ?? "",
          damage.expert.map { "\($0)" } ?? "", damage.chunks.map { "\($0)" }.joined(separator: " "),
          damage.error.file.map { fileName($0) } ?? "", damage.error.offset.map { "\($0)" } ?? "",
        ])
      }
      lines.append(table.text)
    }
    lines += warnings.map { "warning: \($0)" } + leftOut.map { "left out: \($0.text)" }
    return lines.joined(separator: "\n")
  }

  /// What a damaged ingot is refused with; nil when it is sound.
  package var refusal: FormatError? {
    guard let first = damage.first?.error else { return nil }
    return FormatError(
      first.code, file: first.file, offset: first.offset,
      "\(damage.count == 1 ? "one part is" : "\(damage.count) parts are") damaged; stdout lists all",
      help: "copy the file again, or convert it again")
  }
}

/// Scans a model whole: checksums and content hashes (of an ingot), codes, scales, tables and tokenizer. Damage of an ingot is
/// collected; what is not damaged is scanned all the same.
/// - Parameters:
///   - isDeep: false: only what an ingot stores against its checksums, at the speed of the disk.
///   - open: opens the model, which an ingot with a damaged config.json does not survive.
/// - Throws: the first thing that is wrong with a checkpoint, or with an ingot beside damage; `RequestError` usage when only
///   checksums are wanted of a model that has none.
package func checkModel(
  _ path: String, isDeep: Bool = true, _ options: RunOptions, open: (String) throws -> Model
) throws -> CheckSummary {
  var summary = CheckSummary()
  summary.isDeep = isDeep
  if Container.ingot.recognizes(path) {
    let start = monotonicSeconds()
    let ingot = try IngotFile(path: path)
    summary.damage = try ingot.check(deep: isDeep, parallel: options.parallel, progress: options.progress)
    summary.seconds = monotonicSeconds() - start
    summary.weights = ingot.weightCount
    summary.bytes = ingot.byteCount
    if !isDeep || summary.damage.contains(where: { $0.error.subject == "config.json" }) { return summary }
  } else if !isDeep {
    throw RequestError(.usage, "--checksums is for ingots: '\(path)' is not one")
  }
  return try scan(try open(path), summary, options)
}

/// Scans what is not damaged.
private func scan(_ model: Model, _ found: CheckSummary, _ options: RunOptions) throws -> CheckSummary {
  var summary = found
  summary.leftOut = model.leftOut
  model.limitCache(options.maxMemory / 8)
  summary.warnings += model.warnings
  // Scales of activations and caches, which engines use.
  _ = try model.declaredScales().sound(model.family.weights)
  let damaged = Set(summary.damage.compactMap { $0.weight ?? $0.error.subject })
  let sizes = try model.storedWeights().map(\.byteCount)
  let specs = model.family.weights
  let sound = specs.indices.filter { !damaged.contains(specs[$0].name.description) }
  options.progress.begin("scan weights", total: sound.count, unit: "weights")
  summary.bytes = 0
  for start in stride(from: 0, to: sound.count, by: 64) {
    try Interrupt.check()
    let batch = Array(sound[start..<min(sound.count, start + 64)])
    try options.parallel.forEach(batch.count) { index in
      _ = try model.weights.weight(specs[batch[index]].name)
      model.weights.finished(specs[batch[index]].name)
    }
    summary.bytes += batch.reduce(0) { $0 + sizes[$1] }
    options.progress.advance(batch.count)
  }
  options.progress.end()
  summary.weights = sound.count
  try model.checkUnchanged()
  guard !damaged.contains(where: TokenizerFiles.isTokenizer) else { return summary }
  if let files = try model.tokenizerFiles() {
    let tokenizer = try files.tokenizer()
    summary.hasTokenizer = true
    if let warning = tokenizer.rowWarning(model.family.dimensions.vocabulary) {
      summary.warnings.append(warning)
    }
  } else {
    summary.warnings.append("there is no tokenizer: text cannot be evaluated")
  }
  return summary
}

/// Checks an opened model, an ingot from its file again.
/// - Throws: as `check` of a path.
package func checkModel(_ model: Model, _ options: RunOptions) throws -> CheckSummary {
  try checkModel(model.path, options) { _ in model }
}
