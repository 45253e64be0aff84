// The command line: words to verbs and back. Everything that works lies below, in SmeltPipeline.

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

/// The root command.
@main
struct Smelt: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "smelt",
    abstract: "Converts, quantizes and proves Mixture-of-Experts weights.",
    discussion: """
      A model is a directory (config.json, safetensors, tokenizer.json), a .gguf
      or an .ingot, here or at an address: hf://org/name[@revision],
      https://host/folder/. Paths are positional: source first, result second.

      Examples:
        smelt demo
        smelt plan DIR out.ingot --scheme int8-channel
        smelt quantize DIR out.ingot --scheme int8-channel --calibration text.txt
        smelt verify DIR out.ingot --text other.txt --max-kl 1e-3

      Exit status:
         0  done                           64  the command line is wrong
         1  verify, diff, check --for or   73  the result cannot be created
            --rederive: a difference       74  the machine failed
         2  a file was refused             75  interrupted
         3  not supported, or an engine does not load it

      Environment:
        SMELT_ISA  The instruction set to run with; by default the best that this
                   machine has. Results are the same. One of
                   \(InstructionSet.words.joined(separator: ", ")).
        NO_COLOR   No colours. COLUMNS: the width of the terminal.
        SMELT_PROGRESS_SECONDS
                   Seconds between lines of progress where stderr is no terminal;
                   10 by default, 0 for none.
        HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and others
                   How models are fetched: Formats/hub.md.
      """,
    version: Version.text,
    subcommands: [
      InspectCommand.self, PlanCommand.self, ConvertCommand.self, CalibrateCommand.self, QuantizeCommand.self,
      JoinCommand.self, JobCommand.self,
      VerifyCommand.self, CompareCommand.self, EvaluateCommand.self, LogitsCommand.self, GenerateCommand.self,
      CheckCommand.self,
      DiffCommand.self, BenchCommand.self, FormatsCommand.self, DemoCommand.self,
      ManualCommand.self,
    ])

  /// Parses, runs, and turns every error into its three lines and its exit status.
  static func main() {
    Output.reserveDescriptors()
    Interrupt.install()
    MappedFaults.install()
    OutOfMemory.install()
    let given = Array(CommandLine.arguments.dropFirst())
    Style.choose(from: given)
    do {
      try refuseUnreadableArguments()
      try InstructionSet.check()
      let arguments = try Habits.rewritten(given)
      try refuseUnknownCommand(arguments)
      let (found, words) = try parsed(arguments)
      ParsedWords.words.withLock { $0 = words }
      if isQuiet(found) { Terminal.silence() }
      var command = found
      try TextWidth.$columns.withValue(Terminal.width(of: 1)) { try command.run() }
    } catch let error as FormatError {
      end(error.description, error.exitStatus)
    } catch let error as RequestError {
      end(error.description, error.exitStatus)
    } catch {
      // Help and version are the parser's own words.
      let code = exitCode(for: error)
      guard code != .success, !(error is ExitCode) else { Smelt.exit(withError: error) }
      let refusal = RequestError(refusal: error, message(for: error), of: given)
      // The parser knows the status of its own errors alone.
      let isOwn = RequestError(inside: error) != nil
      end(refusal.description, isOwn ? refusal.exitStatus : code.rawValue)
    }
  }

  private static func end(_ text: String, _ status: Int32) -> Never {
    Terminal.line(text)
    Smelt.exit(withError: ExitCode(status))
  }

  /// The command of the words, and the words that made it. A word behind `--json` of `verify` and `compare` is an operand where it
  /// can be one, else the report's file.
  private static func parsed(_ arguments: [String]) throws -> (any ParsableCommand, [String]) {
    if let place = Habits.openJSON(arguments) {
      var words = arguments
      words[place] = "--json=-"
      if let command = try? parseAsRoot(words) { return (command, words) }
    }
    return (try parseAsRoot(arguments), arguments)
  }

  /// Whether the command that runs was told to be quiet. Not known while it is parsed: words of other command lines are parsed too.
  private static func isQuiet(_ command: any ParsableCommand) -> Bool {
    Mirror(reflecting: command).children.contains {
      ($0.value as? OptionGroup<CommonOptions>)?.wrappedValue.quiet == true
    }
  }
}

extension Smelt {
  /// Refuses arguments that are not UTF-8: they would arrive with other characters in their place.
  private static func refuseUnreadableArguments() throws {
    for place in 1..<max(1, Int(CommandLine.argc)) {
      guard let argument = CommandLine.unsafeArgv[place] else { continue }
      // SAFETY: `argv` holds zero-terminated strings for as long as the program runs
      let bytes = UnsafeRawBufferPointer(start: argument, count: strlen(argument))
      guard let bad = UTF8Check.firstInvalid(bytes) else { continue }
      throw RequestError(
        .usage,
        "argument \(place) is not UTF-8: byte \(bad) is 0x\(String(bytes[bad], radix: 16, uppercase: true))",
        help: "give texts and names in UTF-8")
    }
  }

  /// Refuses a word that is no command where one is expected, with the nearest one: the parser itself would only call it unexpected.
  private static func refuseUnknownCommand(_ arguments: [String]) throws {
    var commands = configuration.subcommands
    for word in arguments.prefix(2) where word != "help" {
      guard !word.hasPrefix("-") else { return }
      guard let command = commands.first(where: { $0.configuration.commandName == word }) else {
        let isFirst = commands.count == configuration.subcommands.count
        if isFirst, let known = Habits.commands.first(where: { $0.words.contains(word) }) {
          throw RequestError(.usage, "there is no command '\(word)' here", help: known.answer)
        }
        let shown = commands.filter { $0.configuration.shouldDisplay }
        throw unknownName(word, kind: "command", among: shown.compactMap { $0.configuration.commandName })
      }
      commands = command.configuration.subcommands
      if commands.isEmpty { return }
    }
  }
}
