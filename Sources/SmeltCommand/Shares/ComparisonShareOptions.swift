// Which share of a verification a task makes, and how the parts are joined by the command line of the tasks.

import ArgumentParser
import SmeltPipeline
import SmeltStorage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Which share of a verification a task makes.
struct ComparisonShareOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Compare one share of the windows, as one task of a cluster: 3/8 for the third of eight; auto in a job array of Slurm, auto/8 in an indexed job of Kubernetes. Its parts go to FILE.parts of --json FILE; `smelt join` makes the report.",
      valueName: "i/n"))
  var shard: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "With --shard: how many parts the tasks share. Default: one for each task.", valueName: "n"))
  var parts: Int?

  /// The share; nil for a whole comparison.
  func share() throws -> Share? { try Share.asked(shard) }

  /// Refuses a share without a report, and with outputs that only a whole comparison has.
  func validate(json: String?, others: Bool) throws {
    guard shard != nil else {
      guard parts == nil else { throw ValidationError("--parts goes with --shard") }
      return
    }
    guard let json, json != "-" else {
      throw RequestError(.usage, "--shard needs --json FILE", help: "the parts go to FILE.parts")
    }
    guard !others else {
      throw RequestError(
        .usage, "--html and --seal are for a whole report", help: "give --html to `smelt join`")
    }
  }

  /// What was asked for, as the parts keep it: the words behind the verb as they were parsed, and where they were said.
  static var request: JSON {
    [
      "verb": "verify", "directory": JSON(resolvedPath(".")),
      "words": JSON(ParsedWords.words.withLock { $0 }.dropFirst().map { JSON($0) }),
    ]
  }

  /// The command line that parts were made by.
  /// - Throws: `UNIT_MISMATCH` for words that are none; `RequestError` usage where their folder is not here.
  static func command(_ request: JSON, _ folder: String) throws -> VerifyCommand {
    guard let words = request["words"]?.array?.compactMap(\.string),
      let directory = request["directory"]?.string, let command = try? VerifyCommand.parse(words)
    else { throw FormatError(.unitMismatch, file: folder, "does not say what was asked for") }
    guard chdir(directory) == 0 else {
      throw RequestError(
        .usage, "the tasks ran in '\(directory)', which is not here: their paths are told from there",
        help: "join on a machine that sees the same files")
    }
    return command
  }
}
