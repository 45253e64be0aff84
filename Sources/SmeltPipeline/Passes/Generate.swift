// `generate`: one token after another, with the decoding state doing the remembering. The prompt is text as it is; chat
// templates are left alone.

import SmeltModels
import SmeltStorage
import SmeltTensors
import SmeltTokenizers

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How the next token is taken from the logits.
package struct Sampling: Sendable {
  /// Logits are divided by it; 0 takes the most likely token.
  package var temperature: Double
  /// Only so many of the most likely tokens are drawn from; nil for all.
  package var topK: Int?
  /// Only the most likely tokens that together reach this probability are drawn from; nil for all.
  package var topP: Double?
  private var random: SplitMix64

  /// A way of sampling; greedy by default. The same seed gives the same tokens.
  package init(temperature: Double = 0, topK: Int? = nil, topP: Double? = nil, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    random = SplitMix64(seed: seed)
  }

  /// The next token. Of equally likely tokens the lower id comes first.
  mutating func next(_ logits: UnsafeBufferPointer<Float>) -> Int {
    guard temperature > 0 else { return Metrics.top(logits, 1).first ?? 0 }
    var order = logits.indices.sorted { logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1) }
    if let topK { order = Array(order.prefix(topK)) }
    let best = Double(logits[order[0]])
    var weights = order.map { exp((Double(logits[$0]) - best) / temperature) }
    if let topP {
      let total = weights.reduce(0, +)
      var sum = 0.0
      let count = weights.firstIndex {
        sum += $0
        return sum >= topP * total
      }
      weights = Array(weights.prefix((count ?? weights.count - 1) + 1))
    }
    var rest = random.uniform() * weights.reduce(0, +)
    for (place, weight) in weights.enumerated() {
      rest -= weight
      if rest < 0 { return order[place] }
    }
    return order[weights.count - 1]
  }
}

/// Continues a prompt.
/// - Parameters:
///   - prompt: token ids; at least one.
///   - stops: ids after which nothing follows; the id itself is returned.
///   - drafts: whether a block that drafts tokens proposes some; the new ids are the same.
///   - each: called with each new id as soon as it is known.
///   - done: called with what it took, and with what became of drafts.
/// - Returns: the new ids.
/// - Throws: `RequestError` usage for an empty prompt, unsupported for drafts of a model without, interrupted; refusals of the model's
///   content.
package func generate(
  _ model: Model, prompt: [Int], maxTokens: Int, sampling: Sampling, stops: Set<Int>, drafts: Bool = false,
  _ options: RunOptions, each: (Int) throws -> Void = { _ in },
  done: (Resources, DraftCount) -> Void = { _, _ in }
) throws -> [Int] {
  try model.requireForwardPass()
  if drafts { try model.requireDrafts() }
  guard !prompt.isEmpty else {
    throw RequestError(.usage, "the prompt is empty", help: "give at least one token")
  }
  var sampling = sampling
  let cache = WeightCache([model], .always, options)
  let tally = IntegerTally()
  let weights = try model.multiplying(cache.weights(), as: options.compute, tally)
  var made: [Int] = []
  func take(_ logits: UnsafeBufferPointer<Float>) throws -> (id: Int, goesOn: Bool) {
    let id = sampling.next(logits)
    made.append(id)
    try each(id)
    return (id, made.count < maxTokens && !stops.contains(id))
  }
  var count = DraftCount()
  if maxTokens > 0 {
    count = try continued(
      model.family, weights, cache, prompt, drafts ? model.family.runningDrafts.first : nil, options, take)
  }
  try model.checkUnchanged()
  if options.compute == .int8 { tally.report(to: options.progress) }
  done(cache.resources(), count)
  return made
}

/// Continues a prompt until `take`, which is given the logits after each token, says that it is enough.
private func continued(
  _ family: some ModelFamily, _ weights: some Weights, _ cache: WeightCache, _ prompt: [Int],
  _ block: DraftBlock?, _ options: RunOptions,
  _ take: (UnsafeBufferPointer<Float>) throws -> (id: Int, goesOn: Bool)
) throws -> DraftCount {
  if let block {
    var generation = DraftedGeneration(family, weights, cache, block, options)
    try generation.run(prompt, take: take)
    return generation.count
  }
  let state = DecodingState()
  let pass = Pass(parallel: options.parallel, state: state)
  var (next, goesOn) = (prompt, true)
  while goesOn {
    try Interrupt.check()
    let x = try lastStream(family, weights, cache, next, pass, state)
    let logits = try family.logits(x[x.rows - 1..<x.rows], weights, pass)
    let (id, isNotLast) = try logits.values.withUnsafeBufferPointer { try take($0) }
    (next, goesOn) = ([id], isNotLast)
  }
  return DraftCount()
}

/// The stream after the last layer of some tokens that continue a state, [tokens, streams × hidden].
func lastStream(
  _ family: some ModelFamily, _ weights: some Weights, _ cache: WeightCache, _ ids: [Int], _ pass: Pass,
  _ state: DecodingState
) throws -> Matrix {
  let batch = TokenBatch([ids], firstPosition: state.position)
  var x = try family.embed(batch, weights)
  try LayerPass(family, cache, SilentProgress(), trims: false).run { layer in
    _ = try family.layer(layer, &x, batch, weights, pass)
  }
  state.advance(ids.count)
  return x
}

extension Model {
  /// The ids that end a text: `eos_token_id` of generation_config.json, else of config.json.
  /// - Throws: `CFG_VALUE` when it is neither an id nor a list of ids.
  package func endTokens() throws -> Set<Int> {
    for name in ["generation_config.json", "config.json"] {
      guard let bytes = try smallFile(name) else { continue }
      let config = try parseConfig(bytes, file: name)
      guard let value = config["eos_token_id"], !value.isNull else { continue }
      let ids = value.array ?? [value]
      return Set(
        try ids.map { id in
          guard let id = id.integer, id >= 0 else {
            throw FormatError(
              .configValue, file: name, subject: "eos_token_id", offset: value.offset,
              "found \(id.kind), expected an id or a list of ids")
          }
          return id
        })
    }
    return []
  }
}

/// A model's text and ids, for callers that know nothing of tokenizers.
package struct TextDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let vocabulary: Int

  /// The tokenizer of a model.
  /// - Throws: `SRC_MISSING` if the model has no tokenizer; the errors of reading its files.
  package init(_ model: Model) throws {
    tokenizer = try model.tokenizer()
    vocabulary = model.family.dimensions.vocabulary
  }

  /// The ids of a text.
  /// - Throws: `TOK_VALUE` for a token that has no row in the model's embedding.
  package func encode(_ text: String) throws -> [Int] {
    let ids = tokenizer.encode(text)
    try tokenizer.requireRows(ids, of: vocabulary)
    return ids
  }

  /// The bytes of ids; a character may be cut at the end.
  package func decode(_ ids: [Int]) -> [UInt8] { tokenizer.decode(ids) }
}

/// A prompt without its byte-order mark, and what is worth saying of it.
package func checkedPrompt(_ prompt: String) -> (text: String, notes: [String]) {
  var (scalars, notes) = (prompt.unicodeScalars, [String]())
  if scalars.first == "\u{FEFF}" {
    scalars.removeFirst()
    notes.append("the prompt begins with a byte-order mark, which was taken off")
  }
  let text = String(scalars)
  if Array(text.utf8).firstRange(of: [0x0D, 0x0A]) != nil {
    notes.append("the prompt has lines that end in CR LF; the carriage returns are part of the text")
  }
  return (text, notes)
}

/// The bytes of a prompt as ids, for a model without a tokenizer.
/// - Throws: `RequestError` usage where the model has a tokenizer, or fewer than 256 ids.
package func byteIds(_ prompt: String, for model: Model) throws -> [Int] {
  try model.requireBytes()
  return prompt.utf8.map(Int.init)
}
