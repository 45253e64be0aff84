// inspect, check, evaluate, logits: one model in, facts out.

import ArgumentParser
import SmeltPipeline
import SmeltStorage

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Shows what a model is, from its headers alone.",
    usage: "smelt inspect [<options>] <model>",
    discussion: "Example: smelt inspect DeepSeek-V4-Flash --tensors")

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Flag(name: .long, help: "List every tensor.")
  var tensors = false
  @Option(name: .long, help: ArgumentHelp("With --expert: where an ingot holds that expert.", valueName: "n"))
  var layer: Int?
  @Option(name: .long, help: ArgumentHelp("With --layer: the routed expert.", valueName: "n"))
  var expert: Int?
  @OptionGroup var output: JSONOption

  func validate() throws {
    guard (layer == nil) == (expert == nil) else {
      throw ValidationError("give --layer and --expert together")
    }
  }

  func run() throws {
    if let layer, let expert {
      let place = try expertPlace(model, layer: layer, expert: expert, remote: opening.remote)
      return try output.show(place.json, place.text)
    }
    let inspection = try inspect(try opening.open(model, isReported: true))
    try output.show(inspection.json(withTensors: tensors), inspection.text(withTensors: tensors))
  }
}

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Scans a model whole: every rule, every checksum, every code and scale.",
    discussion: """
      All damage of an ingot is listed, by weight, expert and chunk; the exit status
      is 2 then.

      With --for nothing is scanned: from headers, what an engine's loader would do
      with every tensor, by rules that name their source (Formats/engines.md). Exit
      status 0 where it loads the model and computes what its files say, 1 where it
      would compute something else, 3 where it would not load it.

      With --rederive the result is made again from its source, by what it records
      of its making, and its bytes are compared, those of configuration and
      tokenizer too (Formats/attestation.md); with --calibration TEXT also what a
      method chose by that text. Exit status 0 where they are the same, 1 where
      bytes differ, 2 where source, statistics or text are not those it was made
      from, 3 where it cannot be made again.

      Example: smelt check model.ingot
               smelt check DIR --for vllm --tp 8
               smelt check --rederive hf://org/name OUT/ --sample 50
      """)

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Flag(
    name: .long, help: "Only hold what an ingot stores against its checksums: as fast as the disk reads.")
  var checksums = false
  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "The engine to ask about: \(Engine.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "engine"), completion: .list(Engine.allCases.map(\.rawValue)))
  var engine: String?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "With --for: the engine's version; by default the one that the rules were read from.", valueName: "v"))
  var engineVersion: String?
  /// The same by a shorter name.
  @Option(name: .customLong("version"), help: .hidden)
  var shortVersion: String?
  @Option(
    name: .long,
    help: ArgumentHelp("With --for: devices that share each matrix (tensor parallelism).", valueName: "n"))
  var tp: Int?
  @Flag(name: .long, help: "With --for: exit status 1 also where something is worth knowing.")
  var strict = false
  @OptionGroup var rederiving: RederiveFlags
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func validate() throws {
    if let tp, !(1...65_536).contains(tp) { throw ValidationError("--tp must be from 1 to 65536") }
    guard rederiving.source == nil || engine == nil && !checksums else {
      throw RequestError(
        .usage, "--rederive compares bytes, which neither --for nor --checksums does",
        help: "give one of them")
    }
    guard engine == nil else {
      guard !checksums else {
        throw RequestError(.usage, "--checksums scans, --for does not", help: "give one of them")
      }
      return
    }
    guard engineVersion == nil, shortVersion == nil, tp == nil, !strict else {
      throw ValidationError("--engine-version, --tp and --strict go with --for")
    }
  }

  func run() throws {
    if let engine {
      let engine = try Engine.named(engine)
      guard tp == nil || engine.cutsMatrices else {
        throw RequestError(
          .usage, "--tp: no rule of \(engine.title) asks how many devices share a matrix",
          help: "omit it; it goes with --for vllm and --for sglang")
      }
      let version = try (engineVersion ?? shortVersion).map { try engine.version($0) }
      let found = try checkEngine(try opening.open(model), for: engine, version: version, shards: tp ?? 1)
      try output.show(found.json, found.text)
      let status = found.exitStatus(isStrict: strict)
      if status != 0 { throw ExitCode(status) }
      return
    }
    if let source = rederiving.source {
      let asked = try rederiving.options(common.run)
      let found = try rederive(
        try opening.open(model, isReported: true), from: try opening.open(source, isReported: true), asked)
      try output.show(found.json, found.text)
      let status = found.verdict.exitStatus
      if status != 0 { throw ExitCode(status) }
      return
    }
    let summary = try checkModel(model, isDeep: !checksums, common.run) {
      try opening.open($0, isReported: true)
    }
    try output.show(summary.json, summary.text)
    if let refusal = summary.refusal { throw refusal }
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

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @OptionGroup var text: TextOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var common: CommonOptions
  @OptionGroup var output: JSONOption

  func run() throws {
    let options = try compute.run(common.run)
    let model = try opening.open(model)
    let evaluation = try evaluate(model, try text.windows(model), options)
    try output.show(
      evaluation.json,
      "perplexity \(fixed(evaluation.perplexity, 4)) (mean NLL \(fixed(evaluation.meanNLL, 6)) nats) over "
        + "\(grouped(evaluation.predictedTokens)) tokens in \(evaluation.windows) windows of \(evaluation.context); "
        + "\(fixed(evaluation.seconds, 1)) s, peak memory \(byteText(evaluation.peakMemoryBytes)); \(evaluation.resources.readText)"
    )
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

  @Argument(
    help: "A directory, a .gguf, an .ingot, or an address: hf://org/name, https://host/folder/.",
    completion: .file())
  var model: String
  @OptionGroup var opening: OpenOptions
  @Argument(help: "The safetensors file to write.", completion: .file())
  var result: String?
  @OptionGroup var named: OutputOption
  @Option(
    name: .long, help: ArgumentHelp("The file with the token ids.", valueName: "file"), completion: .file())
  var tokens: String
  @Flag(name: .long, help: "Also write hidden.i.L, the output of each layer.")
  var hiddenStates = false
  @Flag(name: .long, help: "Also write experts.i.L and expert_weights.i.L.")
  var routing = false
  @Flag(
    name: [.customShort("f"), .long], help: "Replace a result that smelt wrote, and nothing else.")
  var overwrite = false
  @OptionGroup var common: CommonOptions
  @OptionGroup var color: ColorOption

  func validate() throws { _ = try named.path(result) }

  func run() throws {
    let result = try named.path(result)
    let model = try opening.open(model)
    try model.requireForwardPass()
    let sequences = try readTokenFile(tokens, for: model)
    try model.refuseAlias(result, and: [tokens])
    try writeLogits(
      model, sequences: sequences, to: result, hiddenStates: hiddenStates, routing: routing,
      overwrite: overwrite,
      common.run)
    try Output.line(printable(result))
  }
}
