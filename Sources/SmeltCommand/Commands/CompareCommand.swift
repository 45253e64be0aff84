// compare: several reports of verify against one source.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Holds several results of one source against each other, by their reports.",
    usage: "smelt compare [<options>] <reports> ...",
    discussion: """
      Reads what `smelt verify --json FILE` wrote, a file for each result, and says
      size and KL divergence side by side. The results at the front are those to
      which no other one is superior in both. Reports of different sources, texts
      or contexts are refused.

      Example: smelt compare q8.json q6.json q4.json --html quants.html
      """)

  @Argument(help: "Reports of `smelt verify --json FILE`; two or more.", completion: .file())
  var reports: [String]
  @Option(
    name: .long, defaultAsFlag: "-",
    help: ArgumentHelp("Write the comparison as JSON; without a file, to stdout.", valueName: "file"),
    completion: .file())
  var json: String?
  @Option(
    name: .long, help: ArgumentHelp("Write table and picture as HTML.", valueName: "file"),
    completion: .file())
  var html: String?
  @Flag(
    name: [.customShort("f"), .long],
    help: "Replace files of comparisons that smelt wrote, and nothing else.")
  var overwrite = false
  @OptionGroup var common: CommonOptions
  @OptionGroup var color: ColorOption

  func run() throws {
    let jsonFile = json.flatMap { $0 == "-" ? nil : ReportFile.comparison($0, overwrite: overwrite) }
    let page = html.map { ReportFile.comparisonPage($0, overwrite: overwrite) }
    let files = [jsonFile, page].compactMap { $0 }
    for file in files { try file.check([], and: reports) }
    let found = try common.run.holding(files.map(\.path), "compare") {
      let found = try ReportComparison(reports)
      try jsonFile?.write(found.json.text(indented: true) + "\n")
      try page?.write(found.html)
      return found
    }
    try json == "-" ? Output.line(found.json.text(indented: true)) : Output.report(found.text)
  }
}
