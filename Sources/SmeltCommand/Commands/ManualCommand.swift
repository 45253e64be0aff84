// Pages for man(1), made from what the commands declare of themselves.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct ManualCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "manual", abstract: "Prints the page of a command for man(1).",
    discussion: "Example: smelt manual convert > smelt-convert.1", shouldDisplay: false)

  @Argument(help: "The command, as in `job slurm`; none for the page of smelt itself.")
  var command: [String] = []
  @Flag(name: .long, help: "List the names of all pages instead: one command a line.")
  var list = false

  func run() throws {
    let tool = try ManualPage(try JSON.scan(Smelt._dumpHelp())["command"] ?? JSON(.null), path: ["smelt"])
    if list {
      return try Output.line(tool.all.map { $0.path.joined(separator: " ") }.joined(separator: "\n"))
    }
    var page = tool
    for word in command {
      guard let next = page.commands.first(where: { $0.path.last == word }) else {
        throw unknownName(word, kind: "command", among: page.commands.compactMap(\.path.last))
      }
      page = next
    }
    try Output.text(page.text)
  }
}

/// The page of one command.
private struct ManualPage {
  /// The words that call it.
  let path: [String]
  /// Its own commands that are shown.
  let commands: [ManualPage]
  private let declared: JSON

  /// A page of what the parser says of a command.
  init(_ declared: JSON, path: [String]) throws {
    (self.path, self.declared) = (path, declared)
    commands = try (declared["subcommands"]?.array ?? []).compactMap { command in
      guard let name = command["commandName"]?.string, name != "help",
        command["shouldDisplay"]?.bool != false
      else { return nil }
      return try ManualPage(command, path: path + [name])
    }
  }

  /// This one and those below it.
  var all: [ManualPage] { [self] + commands.flatMap(\.all) }

  private var arguments: [JSON] {
    (declared["arguments"]?.array ?? []).filter { $0["shouldDisplay"]?.bool != false }
  }

  private func string(_ json: JSON, _ key: String) -> String { json[key]?.string ?? "" }

  /// The page in the macros of man(7).
  var text: String {
    let name = path.joined(separator: "-")
    var lines = [
      ".TH \(name.uppercased()) 1 \"\" \"smelt \(smeltVersion)\" \"Smelt\"", ".SH NAME",
      "\(roff(name)) \\- \(roff(string(declared, "abstract")))", ".SH SYNOPSIS",
      "\\fB\(roff(path.joined(separator: " ")))\\fR " + synopsis, ".SH DESCRIPTION",
      roff(string(declared, "abstract")),
    ]
    let discussion = string(declared, "discussion")
    if !discussion.isEmpty { lines += ManualPage.paragraphs(discussion) }
    if !commands.isEmpty {
      lines.append(".SH COMMANDS")
      for command in commands {
        lines += [
          ".TP", "\\fB\(roff(command.path.last ?? ""))\\fR", roff(string(command.declared, "abstract")),
        ]
      }
    }
    for (title, isOperand) in [("OPERANDS", true), ("OPTIONS", false)] {
      let own = arguments.filter { (string($0, "kind") == "positional") == isOperand }
      guard !own.isEmpty else { continue }
      lines.append(".SH \(title)")
      for argument in own {
        lines += [".TP", words(argument), roff(string(argument, "abstract"))]
        if let value = argument["defaultValue"]?.string { lines.append("Default: \(roff(value)).") }
      }
    }
    let others =
      path.count > 1
      ? [path.dropLast().joined(separator: "-")] : commands.map { $0.path.joined(separator: "-") }
    lines += [".SH SEE ALSO", others.map { "\\fB\(roff($0))\\fR(1)" }.joined(separator: ", ")]
    return lines.joined(separator: "\n") + "\n"
  }

  /// A discussion: prose in paragraphs, which fill the reader's lines; indented lines as they are, without what they share of the
  /// indentation, so that 80 columns hold them.
  private static func paragraphs(_ text: String) -> [String] {
    var lines: [String] = []
    let all = text.split(separator: "\n", omittingEmptySubsequences: false)
    var rest = all[...]
    while let line = rest.first {
      let isVerbatim = line.hasPrefix(" ")
      let run = rest.prefix { !$0.isEmpty && $0.hasPrefix(" ") == isVerbatim }
      rest = rest.dropFirst(max(1, run.count))
      guard !run.isEmpty else { continue }
      guard isVerbatim else {
        lines += [".PP", roff(run.joined(separator: "\n"))]
        continue
      }
      let shared = run.map { $0.prefix { $0 == " " }.count }.min() ?? 0
      lines += [".nf", roff(run.map { $0.dropFirst(shared) }.joined(separator: "\n")), ".fi"]
    }
    return lines
  }

  private var synopsis: String {
    let operands = arguments.filter { string($0, "kind") == "positional" }.map { argument in
      let name =
        "\\fI\(roff(string(argument, "valueName")))\\fR"
        + (argument["isRepeating"]?.bool == true ? " ..." : "")
      return argument["isOptional"]?.bool == true ? "[\(name)]" : name
    }
    return (commands.isEmpty ? ["[\\fIoptions\\fR]"] + operands : ["\\fIcommand\\fR"]).joined(separator: " ")
  }

  /// The spellings of an option and its value, or an operand.
  private func words(_ argument: JSON) -> String {
    let value = "\\fI\(roff(string(argument, "valueName")))\\fR"
    let names = (argument["names"]?.array ?? []).map { name in
      "\\fB\(roff((string(name, "kind") == "long" ? "--" : "-") + string(name, "name")))\\fR"
    }
    switch string(argument, "kind") {
    case "positional": return value
    case "flag": return names.joined(separator: ", ")
    default: return names.joined(separator: ", ") + " " + value
    }
  }
}

/// A text that roff takes as it is: no escapes, no hyphens for minus signs, no requests at the beginnings of lines.
private func roff(_ text: String) -> String {
  text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
    let escaped = line.replacing("\\", with: "\\e").replacing("-", with: "\\-")
    return escaped.first == "." || escaped.first == "'" ? "\\&" + escaped : String(escaped)
  }.joined(separator: "\n")
}
