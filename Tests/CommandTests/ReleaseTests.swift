// What a release carries beside the command: its version, pages for man(1), completions.

import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct ReleaseTests {
  @Test func theVersionSaysWhatRuns() throws {
    let lines = try Shell().run("smelt --version").stdout.split(separator: "\n").map(String.init)
    #expect(
      lines.count == 4 && lines[0] == "smelt \(smeltVersion)" && lines[1].hasPrefix("commit           "))
    #expect(lines[2] == "instruction set  \(InstructionSet.current)")
    #expect(lines[3].hasPrefix("zstd             1."))
  }

  /// Every command has a page, and the page has every option of the help.
  @Test func everyCommandHasAPage() throws {
    let shell = Shell()
    let pages = try shell.run("smelt manual --list").stdout.split(separator: "\n").map(String.init)
    #expect(["smelt", "smelt convert", "smelt job slurm", "smelt bench model"].allSatisfy(pages.contains))
    #expect(!pages.contains("smelt manual"))
    for page in pages {
      let words = page.dropFirst("smelt".count)
      let text = try shell.run("smelt manual\(words)").stdout
      #expect(
        text.hasPrefix(".TH \(page.uppercased().replacing(" ", with: "-")) 1 ")
          && text.contains("\n.SH NAME\n"))
      let help = try shell.run("smelt\(words) --help").stdout
      #expect(help.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(page)")
      for line in help.split(separator: "\n") where line.hasPrefix("  -") {
        let option = line.split { " ,/".contains($0) }.first { $0.hasPrefix("--") } ?? ""
        #expect(text.contains("\\fB\(option.replacing("-", with: "\\-"))\\fR"), "\(page): \(option)")
      }
      // A line that begins with a dot is a request, and each of these is known.
      let known = [".TH", ".SH", ".TP", ".PP", ".nf", ".fi"]
      for line in text.split(separator: "\n") where line.hasPrefix(".") {
        #expect(known.contains(String(line.prefix { $0 != " " })), "\(line)")
      }
      // What man does not fill is indented by seven.
      var isFilled = true
      for line in text.split(separator: "\n") {
        if line == ".nf" || line == ".fi" { isFilled = line == ".fi" }
        let shown = line.replacing("\\-", with: "-").replacing("\\e", with: "\\").replacing("\\&", with: "")
        #expect(isFilled || shown.count <= 73, "\(page): \(line)")
      }
    }
    #expect(try shell.run("smelt manual nosuch").exit == 64)
  }

  /// Shells complete commands, every name of a scheme and every place to run.
  @Test(arguments: ["bash", "zsh", "fish"]) func shellsCompleteEveryName(shell name: String) throws {
    let shell = Shell()
    let script = try shell.run("smelt --generate-completion-script \(name)")
    #expect(script.exit == 0 && script.stderr == "")
    let words = Set(
      script.stdout.split { !($0.isLetter || $0.isNumber || "_-.:".contains($0)) }.map(String.init))
    let formats = try shell.run("smelt formats --json").json()
    for key in ["scheme_names", "deployments"] {
      let names = formats[key]?.array?.compactMap(\.string) ?? []
      // zsh takes a colon for the end of a name unless it is escaped.
      let missing = names.filter {
        !words.contains($0) && !script.stdout.contains($0.replacing(":", with: "\\:"))
      }
      #expect(names.count > 10 && missing == [], "\(missing)")
    }
    for command in ["inspect", "quantize", "kubernetes"] { #expect(words.contains(command), "\(command)") }
  }

  /// An option whose words are a closed list offers them: what offers nothing takes a number, a name or a text.
  @Test func shellsCompleteEveryClosedList() throws {
    let open: Set<String> = [
      "n", "x", "size", "i/n", "pattern", "name", "v", "version", "prompt", "image", "time", "bits",
      "schemes", "share", "rounds", "tokens", "token", "lengths", "p", "seed",
    ]
    var closed: Set<String> = []
    func walk(_ command: JSON, _ path: String) {
      for argument in command["arguments"]?.array ?? [] where argument["kind"]?.string == "option" {
        let name = (argument["names"]?.array ?? []).compactMap { $0["name"]?.string }.last ?? ""
        let offers = argument["completionKind"].map { !$0.isNull } ?? false
        let value = argument["valueName"]?.string ?? ""
        #expect(offers || open.contains(value), "\(path) --\(name) <\(value)>")
        if argument["completionKind"]?["list"] != nil { closed.insert(name) }
      }
      for next in command["subcommands"]?.array ?? [] {
        walk(next, path + " " + (next["commandName"]?.string ?? ""))
      }
    }
    walk(try Shell().run("smelt --experimental-dump-help").json()["command"] ?? JSON(.null), "smelt")
    let expected = [
      "method", "inputs", "layout", "activations", "kv-cache", "policy", "compute", "verb", "observer", "mtp",
      "compression", "to", "for", "as", "profile", "scheme", "color",
    ]
    #expect(expected.filter { !closed.contains($0) } == [])
  }

  /// What bash offers behind `--scheme W8`.
  @Test(.enabled(if: ["/bin", "/usr/bin", "/usr/local/bin"].contains { pathKind("\($0)/bash") != .nothing }))
  func bashOffersTheSchemes() throws {
    let shell = Shell()
    let outcome = try shell.run(
      """
      smelt --generate-completion-script bash >c
      bash -c 'source ./c; COMP_WORDS=(smelt convert m o --scheme W8); COMP_CWORD=5; _smelt smelt W8 --scheme; printf "%s\n" "${COMPREPLY[@]}"'
      """)
    #expect(
      outcome.exit == 0 && Set(outcome.stdout.split(separator: "\n")) == ["W8A8", "W8A16"],
      "\(outcome.stderr)")
  }
}
