// The share of a conversion or a calibration that one task of a cluster makes.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Which share of a conversion a task writes.
struct ShareOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Write one share of the result into RESULT.parts, as one task of a cluster: 3/8 for the third of eight; auto in a job array of Slurm, auto/8 in an indexed job of Kubernetes. `smelt join` makes the result of all of them.",
      valueName: "i/n"))
  var shard: String?

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp(
      "How much of an .ingot, or of a .gguf in one file, a task writes as one part (\(sizeUnits)); the same for all tasks. Default: a thousandth of the result, at least 16MiB.",
      valueName: "size"), transform: byteSize)
  var unitSize: ByteSize?

  /// The share; nil for a whole result.
  /// - Throws: `RequestError` usage.
  func share() throws -> Share? { try Share.asked(shard) }

  /// Refuses a statement about a share: there is a result when all are joined.
  func refuse(_ stating: AttestOption) throws {
    guard shard == nil || stating.attest == nil else {
      throw RequestError(
        .usage, "--attest speaks of a result, --shard makes a share of one",
        help: "give --attest to `smelt join`")
    }
  }
}

extension Share {
  /// The share that an option asks for, in the environment of the process; nil without one.
  /// - Throws: `RequestError` usage.
  static func asked(_ text: String?) throws -> Share? {
    try text.map { text in
      try Share(text) { name in getenv(name).map { String(cString: $0) } }
    }
  }
}

/// Whether a calibration is made in parts, and which of them a task makes.
struct PartOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Make one share of the statistics' parts in STATISTICS.parts, as one task of a cluster: 3/8 for the third of eight; auto in a job array of Slurm, auto/8 in an indexed job of Kubernetes. `smelt join` adds them up.",
      valueName: "i/n"))
  var shard: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Cut the windows into n runs whose sums are added in order: the bytes are those that n tasks make with --shard. With --shard, how many parts the tasks share. Default: one for each task.",
      valueName: "n"))
  var parts: Int?

  /// Whether there are parts.
  var isGiven: Bool { shard != nil || parts != nil }
}
