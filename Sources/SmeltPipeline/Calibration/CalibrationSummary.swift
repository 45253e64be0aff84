// What a calibration did, for machines and for people.

package import SmeltQuantization
package import SmeltStorage

/// What a calibration did.
package struct CalibrationSummary: Sendable {
  /// The statistics file; nil when it was not kept.
  package var path: String?
  /// Tokens that ran.
  package var tokens: Int
  /// Windows that ran.
  package var windows: Int
  /// Those of them that were added for the sake of starved experts.
  package var toppedUpWindows: Int
  /// Bytes of activations that waited in a file.
  package var spilledBytes: Int
  /// What was done about starved experts.
  package var policy: CalibrationPolicy
  /// Which experts the text reached.
  package var coverage: Coverage
  /// Tokens of each expert, layer by layer.
  package var expertTokens: [ExpertTokens]
  /// Where each expert's statistics come from, layer by layer.
  package var sources: [ExpertSources]
  /// Wall time.
  package var seconds: Double
  /// Peak resident memory of the process.
  package var peakMemoryBytes: Int
  /// What it took.
  package var resources: Resources
  /// Tensors that take no part, by rule.
  package var leftOut: [LeftOut] = []
  /// Things worth saying of the text.
  package var warnings: [String] = []

  /// Experts that fewer than `--min-tokens` tokens of the drawn text reached.
  package var starvedExperts: Int { Starved(sources).experts.count }

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.calibrate/1", "path": JSON(path), "tokens": JSON(tokens), "windows": JSON(windows),
      "windows_left_out": JSON(0),
      "topped_up_windows": JSON(toppedUpWindows), "spilled_bytes": JSON(spilledBytes),
      "policy": JSON(policy.kind.rawValue), "min_tokens": JSON(policy.minTokens), "coverage": coverage.json,
      "starved": Starved(sources).json, "seconds": JSON(seconds),
      "tokens_per_second": JSON(Double(tokens) / max(seconds, 1e-9)),
      "peak_memory_bytes": JSON(peakMemoryBytes), "resources": resources.json,
      "left_out": JSON(leftOut.map(\.json)), "warnings": JSON(warnings.map { JSON($0) }),
    ]
  }

  /// For people.
  package var text: String {
    var lines = [coverage.experts > 0 ? coverage.text : "the model has no routed experts"]
    let starved = Starved(sources)
    if !starved.experts.isEmpty {
      lines.append(
        "\(starved.experts.count) of \(coverage.experts) experts got fewer than \(policy.minTokens) tokens; "
          + "--policy \(policy.kind.rawValue) gave them:")
      lines += starved.lines.map { "  " + $0 }
    }
    if toppedUpWindows > 0 { lines.append("\(toppedUpWindows) windows were added for them") }
    if resources.bytesRead > 0 { lines.append(resources.readText) }
    lines.append(
      "\(path ?? "calibration"): \(grouped(tokens)) tokens in \(fixed(seconds, 1)) s, peak memory \(byteText(peakMemoryBytes))"
    )
    return lines.joined(separator: "\n")
  }
}
