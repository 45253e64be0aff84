// Text as windows of tokens, and passes over them in groups that fit the memory allowed.

package import SmeltModels
import SmeltStorage
import SmeltTensors
import SmeltTokenizers

/// Non-overlapping windows of a text, each run alone from position 0; the rest of the text is dropped.
package struct Windows: Sendable {
  /// Token ids, one list of `context` a window.
  package let sequences: [[Int]]
  /// Tokens a window.
  package let context: Int
  /// Where the ids came from.
  package internal(set) var tokenization = Tokenization.ids

  /// Where ids come from.
  package enum Tokenization: String, Sendable {
    /// The model's tokenizer, or a file of ids.
    case ids = "tokens"
    /// The bytes of the text.
    case bytes
  }

  /// Windows that calibration may run besides, in search of tokens for experts that got few.
  package private(set) var pool: [[Int]] = []
  /// The files they came from; empty where nobody said.
  package internal(set) var files: [String] = []
  /// What is worth saying of the text: marks and line ends that a reader would not see.
  package internal(set) var notes: [String] = []
  /// How they were drawn, for the statistics' notes.
  var draw = WindowDraw()
  /// The texts that were tokenized; nil where ids were given.
  var texts: TextSource?
  /// Which windows are which text's, where several were cut each by itself; else empty.
  package internal(set) var parts: [Part] = []

  /// Cuts a text.
  /// - Parameters:
  ///   - textPath: a UTF-8 file.
  ///   - limit: at most so many tokens, or nil for all.
  ///   - bytesWithoutTokenizer: whether the text's bytes are taken as ids, for a model without a tokenizer: enough to
  ///     compare two models, and nothing as a perplexity.
  /// - Throws: `TEXT_FORMAT` when the text is not UTF-8 or shorter than one window; `SRC_MISSING`; `RequestError` usage
  ///   for bytes where the model has a tokenizer, or fewer than 256 ids.
  package init(
    textPath: String, context: Int, limit: Int? = nil, model: Model, bytesWithoutTokenizer: Bool = false
  ) throws {
    try self.init(
      try TextSource([textPath]), context: context, WindowDraw(limit: limit), model: model,
      bytesWithoutTokenizer: bytesWithoutTokenizer)
  }

  /// Cuts texts: each is tokenized by itself, their ids are laid end to end.
  /// - Throws: `TEXT_FORMAT` when they are not UTF-8 or shorter than one window, or for invalid records; `SRC_MISSING`;
  ///   `RequestError` usage for bytes where the model has a tokenizer, or fewer than 256 ids.
  package init(
    _ source: TextSource, context: Int, _ draw: WindowDraw, model: Model, bytesWithoutTokenizer: Bool = false
  ) throws {
    let vocabulary = model.family.dimensions.vocabulary
    if bytesWithoutTokenizer { try model.requireBytes() }
    let tokenizer = bytesWithoutTokenizer ? nil : try model.tokenizer()
    let limit = draw.samples == nil ? draw.limit ?? .max : .max
    var ids: [Int] = []
    let notes = try source.forEach { text, _ in
      guard ids.count < limit else { return }
      ids += tokenizer?.encode(text) ?? text.map(Int.init)
    }
    try tokenizer?.requireRows(ids, of: vocabulary)
    let count = min(ids.count, limit) / context
    guard count > 0 else {
      let limited = draw.samples == nil ? draw.limit.map { " (limited to \($0))" } ?? "" : ""
      throw FormatError(
        .text, file: source.files.first,
        "found \(ids.count) tokens\(limited)"
          + (source.files.count > 1 ? " in \(source.files.count) files" : "")
          + ", expected at least one window of \(context)")
    }
    self.init(
      (0..<count).map { Array(ids[$0 * context..<($0 + 1) * context]) }, context: context, draw,
      files: source.files)
    if bytesWithoutTokenizer { tokenization = .bytes }
    self.notes = notes
    texts = source
  }

  /// Windows drawn from given ids.
  package init(_ sequences: [[Int]], context: Int, _ draw: WindowDraw, files: [String]) {
    let split = draw.split(sequences)
    self.sequences = split.run
    pool = split.pool
    self.context = context
    self.files = files
    self.draw = draw
  }

  /// Windows of given ids.
  package init(_ sequences: [[Int]], context: Int) {
    self.sequences = sequences
    self.context = context
  }

  /// Some of the windows, and none to look for more in.
  func part(_ places: Range<Int>) -> Windows {
    var part = Windows(Array(sequences[places]), context: context)
    (part.files, part.notes, part.draw) = (files, notes, draw)
    (part.tokenization, part.texts) = (tokenization, texts)
    return part
  }

  /// One line: what will run.
  func summary(groups: Int) -> String {
    "\(grouped(tokenCount)) tokens in \(grouped(sequences.count)) windows, in one pass over the layers"
      + (groups == 1 ? "" : ", in \(grouped(groups)) groups whose activations wait in a file")
  }

  /// The number of tokens.
  package var tokenCount: Int { sequences.reduce(0) { $0 + $1.count } }

  /// The windows in groups whose activations fit into `maxMemory` bytes; at least one window a group.
  /// - Parameter streams: how many passes are held side by side.
  package func groups(_ dimensions: ModelDimensions, streams: Int, maxMemory: Int) -> [TokenBatch] {
    let perToken = Windows.activationBytes(dimensions, streams: streams)
    var groups: [[[Int]]] = []
    var room = 0
    for sequence in sequences {
      let need = sequence.count * perToken
      if groups.isEmpty || need > room {
        groups.append([])
        room = maxMemory / 2
      }
      groups[groups.count - 1].append(sequence)
      room -= need
    }
    return groups.map { TokenBatch($0) }
  }

  /// Warns where the activations of one window alone take more than the half of the memory that is theirs: windows are never cut.
  /// - Parameter streams: how many passes are held side by side.
  func warnOfLength(_ dimensions: ModelDimensions, streams: Int, _ options: RunOptions) {
    let longest = sequences.map(\.count).max() ?? 0
    let need = longest * Windows.activationBytes(dimensions, streams: streams)
    guard need > options.maxMemory / 2 else { return }
    options.progress.warn(
      "a window is run whole: the activations of one of \(grouped(longest)) tokens take about \(byteText(need)), half of --max-memory is \(byteText(options.maxMemory / 2))"
    )
  }

  /// Bytes that a token's activations take in a pass: the streams, and the temporaries of one layer.
  static func activationBytes(_ dimensions: ModelDimensions, streams: Int) -> Int {
    4 * dimensions.hidden * (dimensions.streams * (streams + 1) + 6)
  }
}

/// Tokens whose logits exist at once.
let logitsChunk = 256
