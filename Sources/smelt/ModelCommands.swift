// inspect, check, evaluate, logits: one model in, facts out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows what a model is, from its headers alone.",
    discussion: "Example: smelt inspect DeepSeek-V4-Flash --tensors")

  @Argument(help: "A directory, a .gguf or an .ingot.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Flag(name: .long, help: "List every tensor.")
  var tensors = false
  @OptionGroup var output: JSONOption

  func run() throws {
    let inspection = try inspect(try opening.open(model))
    try output.show(inspection.json(withTensors: tensors), inspection.text(withTensors: tensors))
  }
}

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Scans a model whole: every rule, every checksum, every code and scale.",
    discussion: "Example: smelt check model.ingot")

  @Argument(help: "A directory, a .gguf or an .ingot.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let summary = try check(try opening.open(model), common.run)
    try output.show(summary.json, summary.text)
  }
}

/// A text, or token ids, and how they are cut.
struct TextOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("A UTF-8 file.", valueName: "file"))
  var text: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Instead of a text: {\"sequences\": [[ids…], …]}, each run as it is.", valueName: "file"))
  var tokens: String?

  @OptionGroup var cut: WindowOptions

  func validate() throws {
    guard (text == nil) != (tokens == nil) else { throw ValidationError("give --text or --tokens") }
  }

  /// The file that was given.
  var path: String { text ?? tokens ?? "" }

  func windows(_ model: Model, bytesWithoutTokenizer: Bool = false) throws -> Windows {
    guard let text else {
      let sequences = try readTokenFile(path, for: model)
      return Windows(sequences, context: sequences.map(\.count).max() ?? 0)
    }
    return try cut.windows(text, model, bytesWithoutTokenizer: bytesWithoutTokenizer)
  }
}

/// How a text is cut.
struct WindowOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("Tokens a window.", valueName: "n"))
  var context: Int = 256

  @Option(name: .long, help: ArgumentHelp("Use at most so many tokens of the text.", valueName: "n"))
  var tokensLimit: Int?

  func validate() throws {
    guard (2...1 << 24).contains(context) else { throw ValidationError("--context must be at least 2") }
    if let tokensLimit, tokensLimit < context {
      throw ValidationError("--tokens-limit must be at least --context (\(context))")
    }
  }

  func windows(_ text: String, _ model: Model, bytesWithoutTokenizer: Bool = false) throws -> Windows {
    let windows = try Windows(
      textPath: text, context: context, limit: tokensLimit, model: model,
      bytesWithoutTokenizer: bytesWithoutTokenizer)
    if windows.tokenization == .bytes {
      Terminal.error("warning: the model has no tokenizer.json, so the text's bytes are taken as token ids")
    }
    return windows
  }
}

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Measures the perplexity of a text.",
    discussion: """
      The text is tokenized without special tokens and cut into windows that run
      alone from position 0; the rest is dropped.

      Example: smelt evaluate model.ingot --text evaluation.txt
      """)

  @Argument(help: "A directory, a .gguf or an .ingot.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var text: TextOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let model = try opening.open(model)
    let evaluation = try evaluate(model, try text.windows(model), common.run)
    try output.show(
      evaluation.json,
      "perplexity \(fixed(evaluation.perplexity, 4)) (mean NLL \(fixed(evaluation.meanNLL, 6)) nats) over "
        + "\(grouped(evaluation.predictedTokens)) tokens in \(evaluation.windows) windows of \(evaluation.context); "
        + "\(fixed(evaluation.seconds, 1)) s, peak memory \(byteText(evaluation.peakMemoryBytes))")
  }
}

struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits", abstract: "Writes the logits of given token ids to a safetensors file.",
    discussion: """
      The token file is {"sequences": [[1, 2, 3], …]}; the result holds logits.i
      [tokens, vocabulary] for sequence i.

      Example: smelt logits DIR out.safetensors --tokens ids.json --routing
      """)

  @Argument(help: "A directory, a .gguf or an .ingot.")
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The safetensors file to write.")
  var result: String
  @Option(name: .long, help: ArgumentHelp("The file with the token ids.", valueName: "file"))
  var tokens: String
  @Flag(name: .long, help: "Also write hidden.i.L, the output of each layer.")
  var hiddenStates = false
  @Flag(name: .long, help: "Also write experts.i.L and expert_weights.i.L.")
  var routing = false
  @Flag(name: .long, help: "Replace a result that exists.")
  var overwrite = false
  @OptionGroup var common: CommonOptions

  func run() throws {
    let model = try opening.open(model)
    let sequences = try readTokenFile(tokens, for: model)
    try model.refuseAlias(result, and: [tokens])
    try writeLogits(
      model, sequences: sequences, to: result, hiddenStates: hiddenStates, routing: routing,
      overwrite: overwrite,
      common.run)
    try Output.line(result)
  }
}
