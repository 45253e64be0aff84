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

  /// The windows in groups whose activations fit into half of `maxMemory` bytes; a window that does not fit is cut into pieces, each a
  /// group. A group is at least one window of up to `TokenBatch.pieceStep` tokens, or a piece of so many.
  /// - Parameter streams: how many passes are held side by side.
  package func groups(_ dimensions: ModelDimensions, streams: Int, maxMemory: Int) -> [TokenBatch] {
    let perToken = Windows.activationBytes(dimensions, streams: streams)
    var groups: [TokenBatch] = []
    var together: [[Int]] = []
    var (room, keptAlready) = (0, 0)
    func close() {
      if !together.isEmpty { groups.append(TokenBatch(together)) }
      together = []
    }
    for sequence in sequences {
      let limit = Windows.pieceTokens(sequence.count, dimensions, streams: streams, maxMemory: maxMemory)
      guard sequence.count <= limit else {
        close()
        groups += TokenBatch.pieces(of: sequence, limit: limit)
        continue
      }
      // Windows run one after another: of what a layer keeps there is the longest one's at a time.
      let kept = Windows.keptBytes(sequence.count, dimensions, inPieces: false)
      if together.isEmpty || sequence.count * perToken + max(0, kept - keptAlready) > room {
        close()
        (room, keptAlready) = (maxMemory / 2, 0)
      }
      together.append(sequence)
      room -= sequence.count * perToken + max(0, kept - keptAlready)
      keptAlready = max(keptAlready, kept)
    }
    close()
    return groups
  }

  /// Tokens of a window that run at a time: all where their activations fit, else equal pieces, for which there is less room by what a
  /// layer keeps of the whole window.
  private static func pieceTokens(
    _ count: Int, _ dimensions: ModelDimensions, streams: Int, maxMemory: Int
  ) -> Int {
    let (perToken, step) = (activationBytes(dimensions, streams: streams), TokenBatch.pieceStep)
    let whole = count * perToken + keptBytes(count, dimensions, inPieces: false)
    guard count > step, whole > maxMemory / 2 else { return count }
    let kept = keptBytes(count, dimensions, inPieces: true)
    let room = max(maxMemory / 2 - kept, maxMemory / 8)
    let limit = max(step, room / perToken / step * step)
    return min(limit, ceilDivide(ceilDivide(count, ceilDivide(count, limit)), step) * step)
  }

  /// Bytes of activations of one group, the most of any, with what a layer keeps of a window while it runs.
  static func bytesAtOnce(_ groups: [TokenBatch], _ dimensions: ModelDimensions, streams: Int) -> Int {
    groups.map {
      $0.count * activationBytes(dimensions, streams: streams)
        + keptBytes(
          $0.endPosition + $0.following.count, dimensions,
          inPieces: $0.firstPosition > 0 || !$0.following.isEmpty)
    }.max() ?? 0
  }

  /// Warns where one window takes more than the half of the memory that is activations', even in pieces.
  /// - Parameter streams: how many passes are held side by side.
  func warnOfLength(_ dimensions: ModelDimensions, streams: Int, _ options: RunOptions) {
    guard let longest = sequences.max(by: { $0.count < $1.count }) else { return }
    let groups = Windows([longest], context: context).groups(
      dimensions, streams: streams, maxMemory: options.maxMemory)
    let need = Windows.bytesAtOnce(groups, dimensions, streams: streams)
    guard need > options.maxMemory / 2 else { return }
    let tokens = grouped(longest.count)
    options.progress.warn(
      (groups.count == 1
        ? "the activations of a window of \(tokens) tokens take"
        : "a window of \(tokens) tokens runs in pieces of \(grouped(groups[0].count)), which with what a layer keeps of the whole window take")
        + " about \(byteText(need)), half of --max-memory is \(byteText(options.maxMemory / 2))")
  }

  /// Bytes that a layer keeps of a window whose tokens do not run at once.
  /// - Parameter inPieces: whether the window is cut; a layer runs over `tokenChunk` tokens of a whole one at a time.
  private static func keptBytes(_ tokens: Int, _ dimensions: ModelDimensions, inPieces: Bool) -> Int {
    tokens > (inPieces ? TokenBatch.pieceStep : tokenChunk) ? 4 * dimensions.kept * tokens : 0
  }

  /// Bytes that a token's activations take in a pass: the streams, and the temporaries of one layer.
  static func activationBytes(_ dimensions: ModelDimensions, streams: Int) -> Int {
    4 * dimensions.hidden * (dimensions.streams * (streams + 1) + 6)
  }
}

/// Tokens whose logits exist at once.
let logitsChunk = 256
