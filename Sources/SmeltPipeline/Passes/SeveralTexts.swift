// Several texts side by side, each cut by itself, so that what a pass finds can be told of each of them and of all together.

import SmeltModels
import SmeltStorage

extension Windows {
  /// One of several texts.
  package struct Part: Sendable {
    /// Its name for people: the file's, the whole path where two files share a name, the pattern where there are more files.
    package var name: String
    /// Its files.
    package var files: [String]
    /// Its windows, among all.
    package var windows: Range<Int>
  }

  /// Cuts texts, each by itself: no window holds two of them, and the rest of each is dropped.
  ///
  /// A limit of tokens is dealt out in turn: the first window of each text, then the second of each, while there is room.
  /// - Parameter patterns: files and patterns of files, each a text; one alone is no part.
  /// - Throws: as for one text; `RequestError` usage for a text that is given twice, or gets no window.
  package init(
    each patterns: [String], field: String = "text", context: Int, _ draw: WindowDraw, model: Model,
    bytesWithoutTokenizer: Bool = false
  ) throws {
    let sources = try patterns.map { try TextSource([$0], field: field) }
    guard sources.count > 1 else {
      try self.init(
        try TextSource(patterns, field: field), context: context, draw, model: model,
        bytesWithoutTokenizer: bytesWithoutTokenizer)
      return
    }
    try Windows.refuseTwice(patterns, sources)
    let each = try sources.map {
      try Windows(
        $0, context: context, WindowDraw(limit: draw.samples == nil ? draw.limit : nil), model: model,
        bytesWithoutTokenizer: bytesWithoutTokenizer)
    }
    let chosen = Windows.chosen(each.map(\.sequences), context: context, draw)
    var parts: [Part] = []
    var sequences: [[Int]] = []
    for (place, own) in chosen.enumerated() {
      guard !own.isEmpty else {
        throw RequestError(
          .usage, "no window of the text '\(patterns[place])' is used",
          help: "raise --tokens-limit or --samples, so that each text has a window")
      }
      parts.append(
        Part(
          name: Windows.name(place, patterns, sources), files: sources[place].files,
          windows: sequences.count..<sequences.count + own.count))
      sequences += own
    }
    self.init(sequences, context: context)
    self.parts = parts
    self.draw = draw
    tokenization = each[0].tokenization
    notes = each.flatMap(\.notes)
    texts = try TextSource(patterns, field: field)
    files = sources.flatMap(\.files)
  }

  /// Refuses a file that two texts have, however it is spelled.
  private static func refuseTwice(_ patterns: [String], _ sources: [TextSource]) throws {
    var seen: Set<FileIdentity> = []
    for (pattern, source) in zip(patterns, sources) {
      let own = Set(source.files.compactMap { FileIdentity(path: $0) })
      guard seen.isDisjoint(with: own) else {
        throw RequestError(
          .usage, "the text '\(pattern)' is given twice, or a file of it", help: "give each text once")
      }
      seen.formUnion(own)
    }
  }

  /// The texts that both tokenizers are held against each other over, each with the tokens behind which it is not read on; nil: all.
  var comparedTexts: [(source: TextSource, limit: Int?)] {
    get throws {
      guard let texts else { return [] }
      let limit = draw.samples == nil ? draw.limit : nil
      guard !parts.isEmpty else { return [(texts, limit)] }
      return try parts.map { (try TextSource($0.files, field: texts.field), limit) }
    }
  }

  /// The windows of each text that run.
  private static func chosen(_ each: [[[Int]]], context: Int, _ draw: WindowDraw) -> [[[Int]]] {
    guard draw.samples == nil else {
      var starts = [0]
      for own in each { starts.append(starts[starts.count - 1] + own.count) }
      let run = draw.places(each.flatMap { $0 }).run
      return each.indices.map { text in
        run.filter { (starts[text]..<starts[text + 1]).contains($0) }.map { each[text][$0 - starts[text]] }
      }
    }
    var room = (draw.limit ?? .max) / context
    var counts = each.map { _ in 0 }
    for turn in 0..<(each.map(\.count).max() ?? 0) {
      for text in each.indices where turn < each[text].count && room > 0 {
        counts[text] += 1
        room -= 1
      }
    }
    return zip(each, counts).map { Array($0.prefix($1)) }
  }

  private static func name(_ place: Int, _ patterns: [String], _ sources: [TextSource]) -> String {
    guard sources[place].files.count == 1 else { return patterns[place] }
    let names = sources.map { $0.files.count == 1 ? fileName($0.files[0]) : "" }
    return names.count { $0 == names[place] } > 1 ? patterns[place] : names[place]
  }
}
