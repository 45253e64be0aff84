// `check`: every rule and every checksum, and what to do about it.

import SmeltContainers
import SmeltModels
public import SmeltStorage
import SmeltTensors

/// What `check` looked at.
public struct CheckSummary: Sendable {
  /// Weights whose codes and scales were scanned.
  public var weights: Int
  /// Bytes read.
  public var bytes: Int
  /// Whether a tokenizer was there and read.
  public var hasTokenizer: Bool
  /// Things worth saying that are no reason to refuse.
  public var warnings: [String]

  /// For machines.
  public var json: JSON {
    [
      "verdict": "sound", "weights": JSON(weights), "bytes": JSON(bytes), "tokenizer": JSON(hasTokenizer),
      "warnings": JSON(warnings.map { JSON($0) }),
    ]
  }

  /// For people.
  public var text: String {
    ([
      "sound: \(grouped(weights)) weights, \(byteText(bytes)) scanned, every code and scale a finite number"
        + (hasTokenizer ? ", tokenizer read" : "")
    ] + warnings.map { "warning: \($0)" }).joined(separator: "\n")
  }
}

/// Scans a model whole: checksums (of an ingot), codes, scales, tables and tokenizer.
/// - Throws: the first thing that is wrong.
public func check(_ model: Model, _ options: RunOptions) throws -> CheckSummary {
  var warnings: [String] = []
  switch model.container {
  case .checkpoint(let checkpoint): warnings = checkpoint.source.warnings.map { "[\($0.code)] \($0.problem)" }
  case .ingot(let ingot):
    try ingot.file.check(deep: true, parallel: options.parallel, progress: options.progress)
  }
  let specs = model.family.weights
  let sizes = try model.storedWeights().map(\.byteCount)
  options.progress.begin("scan weights", total: specs.count, unit: "weights")
  var bytes = 0
  for start in stride(from: 0, to: specs.count, by: 64) {
    try Interrupt.check()
    let batch = Array(specs[start..<min(specs.count, start + 64)])
    try options.parallel.forEach(batch.count) { index in
      _ = try model.weights.weight(batch[index].name)
      model.weights.finished(batch[index].name)
    }
    bytes += sizes[start..<start + batch.count].reduce(0, +)
    options.progress.advance(batch.count)
  }
  options.progress.end()
  try model.checkUnchanged()
  var hasTokenizer = false
  if try model.smallFile("tokenizer.json") != nil {
    _ = try model.tokenizer()
    hasTokenizer = true
  } else {
    warnings.append("there is no tokenizer.json: text cannot be evaluated")
  }
  return CheckSummary(weights: specs.count, bytes: bytes, hasTokenizer: hasTokenizer, warnings: warnings)
}
