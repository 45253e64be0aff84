// What the parser refuses, in the words and the form of every other error.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

extension RequestError {
  /// What one of our own checks threw while a command line was parsed; nil where there is nothing of the kind.
  ///
  /// The parser packs it into errors of its own, which are not public and show its words alone: kind and help would be lost.
  init?(inside error: Any) {
    if let own = error as? RequestError {
      self = own
      return
    }
    let inside = Mirror(reflecting: error)
    guard error is any Error || inside.displayStyle == .tuple,
      let own = inside.children.lazy.compactMap({ RequestError(inside: $0.value) }).first
    else { return nil }
    self = own
  }

  /// The parser's refusal of a command line.
  /// - Parameters:
  ///   - error: what it threw.
  ///   - message: its words, without usage and help.
  ///   - arguments: the words of the command line.
  init(refusal error: any Error, _ message: String, of arguments: [String]) {
    let command = UsageErrors.command(arguments)
    var problem = message
    // The parser looks for unknown options last, when their values were taken for operands.
    if !problem.contains("nknown option"), let unknown = UsageErrors.unknownOption(arguments, command) {
      problem = "unknown option '\(unknown.name)'" + (unknown.near.map { ". Did you mean '\($0)'?" } ?? "")
    } else if let own = RequestError(inside: error) {
      // -f VALUE, as other programs take it, leaves an operand too many.
      let value = zip(arguments, arguments.dropFirst()).first { $0 == "-f" && !$1.hasPrefix("-") }?.1
      guard let value, own.description.contains(" is '\(value)' and, by --") else {
        self = own
        return
      }
      problem = "Unexpected argument '\(value)'"
    }
    // The parser joins what several options might have meant.
    if let rest = problem.firstRange(of: "\n   or:") { problem = String(problem[..<rest.lowerBound]) }
    var help = "smelt \((command + ["--help"]).joined(separator: " ")) shows operands, options and an example"
    if command.first == "job" { help += ", smelt \(Habits.jobVerb(arguments[...])) --help the verb's" }
    if let hint = problem.firstRange(of: ". Did you mean '") {
      let name = problem[hint.upperBound...].prefix { $0 != "'" }
      problem = String(problem[..<hint.lowerBound])
      help = "did you mean \(name)? " + help
    } else if let operand = UsageErrors.unexpected(problem) {
      let file = arguments.firstIndex(of: "--json").flatMap { arguments.dropFirst($0 + 1).first }
      if let file, file.hasSuffix(".json"), !Habits.reporters.contains(command.first ?? "") {
        help = "--json prints to stdout: … --json > \(file)"
      } else if zip(arguments, arguments.dropFirst()).contains(where: { $0 == "-f" && $1 == operand }) {
        let option = command.first == "quantize" ? "--calibration" : "--text"
        let takesText = Habits.readers.contains(command.first ?? "")
        help =
          (takesText ? "texts are given by \(option) \(operand); " : "")
          + "-f is --overwrite, without a value"
      } else if Int(operand) != nil, SchemeOptions.takers.contains(command.first ?? "") {
        help = "threads are given by -t \(operand)"
      }
    }
    if let first = problem.first, first.isUppercase, problem.dropFirst().first?.isLowercase == true {
      problem = first.lowercased() + problem.dropFirst()
    }
    while problem.last == "." { problem.removeLast() }
    self.init(.usage, problem, help: help)
  }
}

/// Parts of the parser's messages.
private enum UsageErrors {
  /// The command that the words begin with.
  static func command(_ arguments: [String]) -> [String] {
    var found: [String] = []
    var commands = Smelt.configuration.subcommands
    for word in arguments.filter({ !$0.hasPrefix("-") }) {
      guard let next = commands.first(where: { $0.configuration.commandName == word }) else { break }
      found.append(word)
      commands = next.configuration.subcommands
    }
    return found
  }

  /// The first word that looks like an option but is not one of the command's, and the closest option it has; nil if all are known.
  static func unknownOption(_ arguments: [String], _ command: [String]) -> (name: String, near: String?)? {
    guard let tree = try? JSON.scan(Smelt._dumpHelp())["command"] else { return nil }
    var declared = tree
    for word in command {
      guard let next = declared["subcommands"]?.array?.first(where: { $0["commandName"]?.string == word })
      else { return nil }
      declared = next
    }
    // Another command's words stand behind a script's own.
    let verb = command.first != "job" ? nil : Habits.jobVerb(arguments[...])
    let other = tree["subcommands"]?.array?.first { $0["commandName"]?.string == verb }
    let known = [declared, other].flatMap { $0?["arguments"]?.array ?? [] }.flatMap { argument in
      (argument["names"]?.array ?? []).filter { $0["kind"]?.string == "long" }.compactMap {
        $0["name"]?.string
      }
    }
    .map { "--" + $0 }
    var before = ""
    for word in ((try? Habits.rewritten(arguments)) ?? arguments).prefix(while: { $0 != "--" }) {
      defer { before = word }
      let name = String(word.prefix { $0 != "=" })
      guard name.hasPrefix("--"), !known.contains(name), !Habits.takers.contains(before) else { continue }
      return (name, nearestName(name, among: known))
    }
    return nil
  }

  /// The operand that there is no place for.
  static func unexpected(_ message: String) -> String? {
    let start = "Unexpected argument '"
    guard message.hasPrefix(start) else { return nil }
    return String(message.dropFirst(start.count).prefix { $0 != "'" })
  }
}
