// generate: a prompt in, its continuation out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate", abstract: "Continues a prompt, token by token.",
    discussion: """
      Greedy unless a temperature is given. The prompt is text as it is: no chat
      template is applied.

      With --mtp the model's multi-token-prediction block drafts a token at each
      step, and the model keeps it where it would have made the same one: the
      text does not change, and the number of accepted drafts is said.

      Example: smelt generate DIR --prompt "It is a truth" --max-tokens 40
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Option(name: .long, parsing: .unconditional, help: "The text to continue.")
  var prompt: String?
  @Option(
    name: .long,
    help: ArgumentHelp("Instead of a prompt: {\"sequences\": [[ids…]]}; ids are printed.", valueName: "file"),
    completion: .file())
  var tokens: String?
  @Flag(
    name: .long,
    help: "Take the prompt's bytes as token ids: for models without a tokenizer. Ids are printed.")
  var bytes = false
  @Option(name: .long, help: ArgumentHelp("Stop after so many tokens.", valueName: "n"))
  var maxTokens: Int = 64
  @Option(name: .long, help: ArgumentHelp("Divide the logits by it and draw; 0 is greedy.", valueName: "x"))
  var temperature: Double = 0
  @Option(name: .long, help: ArgumentHelp("Draw from so many of the most likely tokens.", valueName: "n"))
  var topK: Int?
  @Option(
    name: .long,
    help: ArgumentHelp("Draw from the most likely tokens up to this probability.", valueName: "x"))
  var topP: Double?
  @Option(name: .long, help: ArgumentHelp("The same seed gives the same tokens.", valueName: "n"))
  var seed: UInt64 = 0
  @Flag(name: .long, help: "Go on after the end token.")
  var ignoreEos = false
  @Flag(name: .long, help: "Let the multi-token-prediction block draft tokens.")
  var mtp = false
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    guard (prompt == nil) != (tokens == nil) else { throw ValidationError("give --prompt or --tokens") }
    guard !bytes || prompt != nil else { throw ValidationError("--bytes is for --prompt") }
    guard maxTokens > 0 else { throw ValidationError("--max-tokens must be at least 1") }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature must be at least 0")
    }
    if let topK, topK < 1 { throw ValidationError("--top-k must be at least 1") }
    if let topP, !(topP > 0 && topP <= 1) { throw ValidationError("--top-p must be above 0 and at most 1") }
  }

  func run() throws {
    let options = try compute.run(common.run)
    let model = try opening.open(model)
    try model.requireForwardPass()
    let sampling = Sampling(temperature: temperature, topK: topK, topP: topP, seed: seed)
    let writer = try GenerationWriter(
      model, prompt: try prompt.map { try promptText($0) }, tokensPath: tokens, takesBytes: bytes,
      streams: !output.json)
    var (resources, drafts) = (Resources(), DraftCount())
    let made = try generate(
      model, prompt: writer.ids, maxTokens: maxTokens, sampling: sampling,
      stops: ignoreEos ? [] : try model.endTokens(), drafts: mtp, options,
      each: { try writer.show($0) }, done: { (resources, drafts) = ($0, $1) })
    try writer.finish(made, resources, mtp ? drafts : nil, json: output.json)
    if !output.json {
      if mtp { Terminal.note("drafts: \(drafts.accepted) of \(drafts.drafted) accepted") }
      Terminal.note(
        "\(fixed(resources.seconds, 1)) s, peak memory \(byteText(resources.peakMemoryBytes)); \(resources.readText)"
      )
    }
  }
}

/// The prompt without a byte-order mark; what a reader would not see of it is said.
private func promptText(_ prompt: String) throws -> String {
  let (text, notes) = checkedPrompt(prompt)
  for note in notes { Terminal.warn(note) }
  return text
}

/// Writes what is generated while it comes.
private final class GenerationWriter {
  let ids: [Int]
  private let tokenizer: TextDecoder?
  private let streams: Bool
  private let leftOut: [LeftOut]
  private var made: [Int] = []
  private var shown = 0

  init(_ model: Model, prompt: String?, tokensPath: String?, takesBytes: Bool, streams: Bool) throws {
    self.streams = streams
    leftOut = model.leftOut
    if takesBytes {
      ids = try byteIds(prompt ?? "", for: model)
      tokenizer = nil
    } else if let tokensPath {
      ids = try readTokenFile(tokensPath, for: model)[0]
      tokenizer = nil
    } else {
      let decoder = try TextDecoder(model)
      ids = try decoder.encode(prompt ?? "")
      tokenizer = decoder
    }
  }

  func show(_ id: Int) throws {
    made.append(id)
    guard streams else { return }
    guard let tokenizer else { return try Output.text(made.count == 1 ? "\(id)" : " \(id)") }
    let bytes = tokenizer.decode(ids + made)
    let start = shown == 0 ? tokenizer.decode(ids).count : shown
    if bytes.count > start {
      try Output.bytes(Array(bytes[start...]))
      shown = bytes.count
    }
  }

  func finish(_ made: [Int], _ resources: Resources, _ drafts: DraftCount?, json: Bool) throws {
    guard json else { return try Output.line("") }
    var members: [(String, JSON)] = [
      ("schema", "smelt.generate/1"), ("prompt_ids", JSON(ids.map { JSON($0) })),
      ("ids", JSON(made.map { JSON($0) })),
    ]
    if let tokenizer {
      members.append(("text", JSON(String(decoding: tokenizer.decode(made), as: UTF8.self))))
    }
    if let drafts { members.append(("mtp", drafts.json)) }
    members.append(("resources", resources.json))
    members.append(("left_out", JSON(leftOut.map(\.json))))
    try Output.line(JSON(members: members).text(indented: true))
  }
}
