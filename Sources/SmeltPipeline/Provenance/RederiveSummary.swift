// What making a result again told, for machines and for people. Formats/attestation.md, section 1; Formats/report.md.

package import SmeltStorage

/// What making a result again told.
package struct RederiveSummary: Sendable {
  /// The outcomes.
  package enum Verdict: String, Sendable, CaseIterable {
    /// Every byte that was made again is the result's.
    case same
    /// Bytes differ.
    case differs
    /// Bytes differ, and another version made the result.
    case otherVersion = "other_version"
    /// The source is not the one that the result was made from.
    case sourceChanged = "source_changed"
    /// The statistics are not those that the result was made by.
    case statisticsChanged = "statistics_changed"
    /// The result was made by statistics, and none were given.
    case statisticsNeeded = "statistics_needed"
    /// The result was made by a method that looks at a text, and none is given.
    case textNeeded = "text_needed"
    /// What the result records is not enough to make it again, or not possible here.
    case notReproducible = "not_reproducible"
    /// The result does not say what it was made from.
    case noProvenance = "no_provenance"

    /// The exit status of the command: 1 for bytes that differ, 2 for inputs that are not what they were, 3 for what cannot be made.
    package var exitStatus: Int32 {
      switch self {
      case .same: 0
      case .differs, .otherVersion: 1
      case .sourceChanged, .statisticsChanged: 2
      case .statisticsNeeded, .textNeeded, .notReproducible, .noProvenance: 3
      }
    }

    /// The outcome in words.
    fileprivate var words: String {
      switch self {
      case .same: "the same"
      case .differs: "differs"
      case .otherVersion: "differs, and was made by another version"
      case .sourceChanged: "made from another source"
      case .statisticsChanged: "made by other statistics"
      case .statisticsNeeded: "statistics are needed"
      case .textNeeded: "the text of the calibration is needed"
      case .notReproducible: "cannot be made again"
      case .noProvenance: "no provenance"
      }
    }
  }

  /// A tensor, a file or a key that is not what was made.
  package struct Difference: Sendable {
    /// Its name in the result: of an ingot's tensor the weight and the part; of a GGUF file's key `key ` and the key.
    package var tensor: String
    /// The first byte that differs, within the tensor.
    package var byte: Int
    /// What the result has there, and what was made; nil where one side ends or is not there.
    package var found: UInt8?
    package var expected: UInt8?
    /// In words.
    package var problem: String
  }

  /// The paths.
  package var source: String
  package var result: String
  /// The program that the result names, empty where it names none, and this one.
  package var tool = ""
  package var program = "smelt \(smeltVersion)"
  /// The outcome.
  package var verdict = Verdict.noProvenance
  /// Why bytes were not compared; nil if they were.
  package var problem: String?
  /// Tensors that can be made, and those that were.
  package var tensors = 0
  package var compared = 0
  /// Files beside the weights, or keys in their place, that were made.
  package var files = 0
  /// Bytes that were compared.
  package var bytes = 0
  /// How many tensors, files and keys differ, and the first of them.
  package var differing = 0
  package var differences: [Difference] = []
  /// Wall time.
  package var seconds = 0.0
  /// Peak resident memory of the process.
  package var peakMemoryBytes = 0

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.rederive/1", "verdict": JSON(verdict.rawValue), "source": JSON(source),
      "result": JSON(result), "tool": JSON(tool), "program": JSON(program), "problem": JSON(problem),
      "tensors": JSON(tensors), "compared": JSON(compared), "files": JSON(files),
      "bytes": JSON(bytes),
      "differing": JSON(differing),
      "differences": JSON(
        differences.map { difference -> JSON in
          [
            "tensor": JSON(difference.tensor), "byte": JSON(difference.byte),
            "found": difference.found.map { JSON(Int($0)) } ?? JSON(.null),
            "expected": difference.expected.map { JSON(Int($0)) } ?? JSON(.null),
            "problem": JSON(difference.problem),
          ]
        }),
      "seconds": JSON(seconds), "peak_memory_bytes": JSON(peakMemoryBytes),
    ]
  }

  /// For people.
  package var text: String {
    var line = verdict.words
    if compared > 0 {
      let all =
        compared == tensors ? "all \(grouped(tensors))" : "\(grouped(compared)) of \(grouped(tensors))"
      line +=
        ": \(all) tensors and \(grouped(files)) files or keys, \(byteText(bytes)), made again in \(fixed(seconds, 2)) s"
      if differing > 0 { line += "; \(grouped(differing)) differ" }
    }
    var lines = [line] + [problem].compactMap { $0 }
    lines += differences.map { difference in
      let values = [difference.found, difference.expected].compactMap { $0.map { "\($0)" } }
      return "\(difference.tensor): \(difference.problem), byte \(difference.byte)"
        + (values.count == 2 ? ": found \(values[0]), made \(values[1])" : "")
    }
    if differing > differences.count { lines.append("and \(grouped(differing - differences.count)) more") }
    return lines.joined(separator: "\n")
  }
}
