// Text for people: tables and lines within a width, and progress in words.

import SmeltPipeline
import SmeltStorage
import Synchronization
import Testing

@Suite struct TextTests {
  private let table: Table = {
    var table = Table(["tensor", "dtype", "shape", "bytes"])
    table.add(["model.layers.0.self_attn.q_proj.weight", "BF16", "[128, 256]", "65536"])
    table.add(["model.norm.weight", "BF16", "[256]", "512"])
    return table
  }()

  @Test func aTableIsAsWideAsItsCellsWhereThereIsRoom() {
    let natural = table.text(within: nil)
    #expect(natural == table.text(within: 80) && natural == table.text)
    #expect(natural.split(separator: "\n").map(\.count).max() == 38 + 2 + 5 + 2 + 10 + 2 + 5)
  }

  /// Columns of text are wrapped; numbers and words stay whole.
  @Test func wideColumnsAreWrapped() {
    var table = Table(["measure", "value", "meaning"])
    table.add(["KL, mean", "3.92e-04", "nats per token, source to result, 17 920 tokens of a long text"])
    table.add(["top-1", "0.9954", "same most likely token"])
    #expect(
      table.text(within: 50) == """
        measure      value  meaning
        ────────  ────────  ──────────────────────────────
        KL, mean  3.92e-04  nats per token, source to
                            result, 17 920 tokens of a
                            long text
        top-1       0.9954  same most likely token
        """)
  }

  @Test func rowsAreStackedWhereNoColumnsFit() {
    #expect(
      table.text(within: 40) == """
        model.layers.0.self_attn.q_proj.weight
          dtype BF16, shape [128, 256], bytes
            65536
        model.norm.weight
          dtype BF16, shape [256], bytes 512
        """)
  }

  /// At no width is a word lost or cut, and no line is longer than the width unless one word is.
  @Test(arguments: 20...120) func nothingIsCutAtAnyWidth(width: Int) {
    var facts = Table(["", ""])
    facts.add(["families", (0..<30).map { "family_\($0)" }.joined(separator: ", ")])
    facts.add(["hash", String(repeating: "0123456789abcdef", count: 4)])
    for table in [table, facts] {
      let text = table.text(within: width)
      let words = Set(text.split { $0 == " " || $0 == "\n" })
      for word in table.text(within: nil).split(whereSeparator: { $0 == " " || $0 == "\n" })
      where !word.hasPrefix("─") && word != "tensor" {
        #expect(words.contains(word) || words.contains("\(word),"), "\(word)")
      }
      for line in text.split(separator: "\n") where line.count > width {
        #expect(line.drop { $0 == " " }.split(separator: " ").count == 1, "\(line)")
      }
    }
  }

  @Test func linesAreWrappedAtSpacesWithTheirIndent() {
    #expect(wrapped("short", 10) == ["short"])
    #expect(
      wrapped("  help: one of alpha, beta, gamma", 20) == ["  help: one of", "    alpha, beta,", "    gamma"])
    #expect(
      wrapped("a " + String(repeating: "x", count: 30), 20) == [
        "a", "  " + String(repeating: "x", count: 30),
      ])
    #expect(
      wrapped("took 65.5 kB and 17 920 tokens", 9, indent: 0) == [
        "took", "65.5 kB", "and", "17 920", "tokens",
      ])
    #expect(fitted("a b\n\nc d", to: 1) == "a\n  b\n\nc\n  d" && fitted("a b", to: nil) == "a b")
  }

  /// A log hears nothing of short work; of long work what was announced, and then a line in every interval.
  @Test func progressInLinesComesByTheClock() {
    let now = Mutex(0.0)
    let lines = Mutex<[String]>([])
    let progress = ProgressLines(
      every: 10, clock: { now.withLock { $0 } },
      warn: { text in lines.withLock { $0.append("warning: " + text) } },
      write: { text in lines.withLock { $0.append(text) } })
    progress.announce("what is done")
    progress.begin("convert", total: 1000, unit: "bytes")
    progress.advance(100)
    #expect(lines.withLock { $0 } == [])
    progress.warn("odd")
    for (time, amount) in [(10.0, 150), (15, 50), (20, 100), (30, 600)] {
      now.withLock { $0 = time }
      progress.advance(amount)
    }
    progress.end()
    progress.advance(1)
    #expect(
      lines.withLock { $0 } == [
        "warning: odd", "what is done", "convert: 250 B of 1.00 kB, 25 B/s, 30 s left",
        "convert: 400 B of 1.00 kB, 20 B/s, 30 s left", "convert: 1.00 kB of 1.00 kB, 33 B/s, 0 s left",
      ])
  }

  @Test(arguments: 1...120) func aBarFitsItsWidth(width: Int) {
    var stage = ProgressStage("compare weights", total: 100, unit: "weights", at: 0)
    stage.done = 25
    let bar = stage.bar(at: 10, width: width)
    #expect(bar.count < max(2, width))
    if width > 90 { #expect(bar.hasSuffix("25 of 100 weights, 2.5 weights/s, 30 s left")) }
  }

  /// Every name that is listed is taken, whatever its case but for the two that engines spell in capitals.
  @Test(arguments: SchemeName.all.map(\.name)) func listedNamesOfSchemesAreTaken(name: String) throws {
    #expect(SchemeName.isKnown(name) && SchemeName.isKnown(name.uppercased()))
  }
}
