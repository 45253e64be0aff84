// Formats/recipe.md and Formats/statistics.md against the code.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct DocumentTests {
  private func text(_ name: String) throws -> String {
    String(decoding: try MappedFile(path: formats(name)).bytes.array, as: UTF8.self)
  }

  /// The table of section 1 has a line for each scheme and no other.
  @Test func theTableOfSchemesIsTheList() throws {
    let reach: [SchemeReach: String] = [
      .nothing: "nothing", .matrices: "matrices", .layerMatrices: "layer matrices",
    ]
    let lines = try text("recipe.md").split(separator: "\n").filter { $0.hasPrefix("| `") }
    let table = lines.prefix { !$0.hasPrefix("| `schema`") }.map { line in
      line.split(separator: "|", omittingEmptySubsequences: false).map { $0.trimmed }
    }
    let expected = Schemes.all.map { scheme in
      [scheme.name, scheme.synonyms.map { "`\($0)`" }.joined(separator: ", "), reach[scheme.reach] ?? ""]
    }
    #expect(table.map { [String($0[1].dropFirst().dropLast()), $0[2], $0[4]] } == expected)
    for (scheme, line) in zip(Schemes.all, table) where !scheme.keepsBytes {
      #expect(line[3].hasPrefix("`\(scheme.encoding(for: Plain.bf16, shape: [2, 256]).name)`"))
    }
  }

  @Test func rolesAndObserversAreNamed() throws {
    let recipe = try text("recipe.md")
    let start = recipe.split(separator: "`role` is one of `")[1].prefix { $0 != "`" }
    #expect(start.split(whereSeparator: \.isWhitespace).map(String.init) == Role.allCases.map(\.rawValue))
    for observer in Observer.all { #expect(recipe.contains("`\(observer.name)`")) }
    #expect(recipe.contains(Recipe.schema))
  }

  @Test func statisticsAreNamed() throws {
    let page = try text("statistics.md")
    let sample = StatisticsEntry.layout(WeightName("<weight>"), groups: 1, columns: 1)
    for tensor in sample { #expect(page.contains("| `\(tensor.name)` | \(tensor.dtype) |")) }
    let metadata = Statistics(modelType: "m", tokens: 0, context: 0, sequences: 0).metadata
    for (key, _) in metadata { #expect(page.contains("| `\(key)` |")) }
    #expect(page.contains(StatisticsForm.means.format) && page.contains(StatisticsForm.sums.format))
    #expect(page.contains(QuantizeDecision.unreached))
  }

  /// The example of section 2 is a recipe.
  @Test func theExampleIsARecipe() throws {
    let recipe = try text("recipe.md")
    let example = recipe.split(separator: "```json\n")[1].split(separator: "```")[0]
    let read = try Recipe(Bytes(Array(example.utf8)))
    #expect(read.rules.count == 2)
    #expect(read.rules[1].observer == .absmax)
    #expect(read.defaultScheme.name == "int8-channel")
  }
}

extension Substring {
  /// Without white space at both ends.
  fileprivate var trimmed: String {
    let rest = drop { $0 == " " }
    return String(rest.reversed().drop { $0 == " " }.reversed())
  }
}
