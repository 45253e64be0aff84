// The command line: words to verbs and back. Everything that works lies below, in SmeltPipeline.

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

/// The root command.
@main
struct Smelt: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "smelt",
    abstract: "Converts, quantizes and proves Mixture-of-Experts weights.",
    discussion: """
      A model is a directory (config.json, safetensors, tokenizer.json), a .gguf
      or an .ingot. Paths are positional: source first, result second.

      Examples:
        smelt demo
        smelt plan DIR out.ingot --scheme int8-channel
        smelt quantize DIR out.ingot --scheme int8-channel --calibration text.txt
        smelt verify DIR out.ingot --text other.txt --max-kl 1e-3

      Exit status:
         0  done                           64  the command line is wrong
         1  verify or diff found too much  73  the result cannot be created
         2  a file was refused             74  the machine failed
         3  not supported                  75  interrupted
      """,
    version: "smelt \(smeltVersion)",
    subcommands: [
      InspectCommand.self, PlanCommand.self, ConvertCommand.self, CalibrateCommand.self, QuantizeCommand.self,
      VerifyCommand.self, EvaluateCommand.self, LogitsCommand.self, GenerateCommand.self, CheckCommand.self,
      DiffCommand.self, BenchCommand.self, FormatsCommand.self, DemoCommand.self,
    ])

  /// Parses, runs, and turns our own errors into their three lines and their exit status.
  static func main() {
    Output.reserveDescriptors()
    Interrupt.install()
    do {
      try refuseUnknownCommand()
      var command = try parseAsRoot()
      try command.run()
    } catch let error as FormatError {
      Terminal.error(error.description)
      Smelt.exit(withError: ExitCode(error.exitStatus))
    } catch let error as RequestError {
      Terminal.error(error.description)
      Smelt.exit(withError: ExitCode(error.exitStatus))
    } catch {
      Smelt.exit(withError: error)
    }
  }
}

extension Smelt {
  /// Refuses a first word that is no command, with the nearest one: the parser itself would only call it unexpected.
  private static func refuseUnknownCommand() throws {
    guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-"), word != "help" else {
      return
    }
    let known = configuration.subcommands.compactMap { $0.configuration.commandName }
    guard !known.contains(word) else { return }
    throw unknownName(word, kind: "command", among: known)
  }
}

/// Flags of every command that runs for long.
struct CommonOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp("Threads to use; one a core by default. Results never depend on it.", valueName: "n"))
  var threads: Int?

  @Option(
    name: .long,
    help: ArgumentHelp("Memory that activations may take, for example 512M or 2G.", valueName: "size"))
  var maxMemory: MemorySize = MemorySize(bytes: 2 << 30)

  @Flag(name: .long, help: "No progress on stderr.")
  var quiet = false

  func validate() throws {
    guard (1...1024).contains(threads ?? 1) else { throw ValidationError("--threads must be from 1 to 1024") }
  }

  var run: RunOptions {
    RunOptions(
      parallel: threads.map { Parallel(threads: $0) } ?? .allCores, maxMemory: maxMemory.bytes,
      progress: quiet ? SilentProgress() : Terminal.progress())
  }
}

/// How a model is opened.
struct OpenOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Leave out tensors that no rule explains and whose names match (* and ?); may be repeated.",
      valueName: "pattern"))
  var allowDrop: [String] = []

  func open(_ path: String) throws -> Model { try Model.open(path, allowDrop: allowDrop) }
}

/// The flag of every command that reports on stdout.
struct JSONOption: ParsableArguments {
  @Flag(name: .long, help: "Print one JSON object instead of text.")
  var json = false

  /// Prints what was asked for.
  func show(_ json: JSON, _ text: String) throws {
    try Output.line(self.json ? json.text(indented: true) : text)
  }
}

/// A number of bytes with an optional K, M, G or T (of 1024).
struct MemorySize: ExpressibleByArgument, CustomStringConvertible {
  let bytes: Int

  init(bytes: Int) { self.bytes = bytes }

  init?(argument: String) {
    var digits = argument.uppercased()
    if digits.hasSuffix("B") { digits.removeLast() }
    if digits.hasSuffix("I") { digits.removeLast() }
    var factor = 1
    for (suffix, value) in [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)]
    where digits.hasSuffix(suffix) {
      digits.removeLast()
      factor = value
    }
    guard digits.allSatisfy({ "0123456789.".contains($0) }), let number = Double(digits) else { return nil }
    let bytes = (number * Double(factor)).rounded()
    guard bytes >= 1, bytes < 0x1p62 else { return nil }
    self.bytes = Int(bytes)
  }

  var description: String {
    for (suffix, value) in [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)] where bytes % value == 0 {
      return "\(bytes / value)\(suffix)"
    }
    return "\(bytes)"
  }
}
