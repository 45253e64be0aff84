// compare: several reports of verify against one source.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Holds several results of one source against each other, by their reports.",
    discussion: """
      Reads what `smelt verify --json FILE` wrote, a file for each result, and says
      size and KL divergence side by side. The results at the front are those to
      which no other one is superior in both. Reports of different sources, texts
      or contexts are refused.

      Example: smelt compare q8.json q6.json q4.json --html quants.html
      """)

  @Argument(help: "Reports of `smelt verify --json FILE`; two or more.")
  var reports: [String]
  @Option(
    name: .long, defaultAsFlag: "-",
    help: ArgumentHelp("Write the comparison as JSON; without a file, to stdout.", valueName: "file"))
  var json: String?
  @Option(name: .long, help: ArgumentHelp("Write table and picture as HTML.", valueName: "file"))
  var html: String?
  @Flag(name: .long, help: "Replace files of comparisons that smelt wrote, and nothing else.")
  var overwrite = false

  func run() throws {
    let jsonFile = json.flatMap { $0 == "-" ? nil : ReportFile.comparison($0, overwrite: overwrite) }
    let page = html.map { ReportFile.comparisonPage($0, overwrite: overwrite) }
    for file in [jsonFile, page].compactMap({ $0 }) { try file.check([], and: reports) }
    let found = try ReportComparison(reports)
    try jsonFile?.write(found.json.text(indented: true) + "\n")
    try page?.write(found.html)
    try Output.line(json == "-" ? found.json.text(indented: true) : printableLines(found.text))
  }
}
