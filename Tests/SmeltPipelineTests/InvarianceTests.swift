// What must not change a bit of a result: other sequences in the batch, the number of threads, following the router's
// own choice by force, and the dialect the same weights are kept in.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// Everything a pass gives, as bits.
private struct Outcome: Equatable {
  var logits: [UInt32] = []
  var streams: [[UInt32]] = []
  var experts: [[Int32]] = []
  var factors: [[UInt32]] = []

  /// The part that belongs to one sequence of a batch.
  func part(_ range: Range<Int>, of tokens: Int) -> Outcome {
    func cut<T>(_ all: [T]) -> [T] {
      let width = all.count / tokens
      return Array(all[range.lowerBound * width..<range.upperBound * width])
    }
    return Outcome(
      logits: cut(logits), streams: streams.map(cut), experts: experts.map(cut), factors: factors.map(cut))
  }
}

private func run(_ model: Model, _ batch: TokenBatch, threads: Int = 1, forced: [Routing?]? = nil) throws
  -> (outcome: Outcome, routing: [Routing?])
{
  try run(model.family, model.weights, batch, threads: threads, forced: forced)
}

private func run(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, threads: Int, forced: [Routing?]?
) throws -> (outcome: Outcome, routing: [Routing?]) {
  var outcome = Outcome()
  var routing: [Routing?] = []
  var x = try family.embed(batch, weights)
  for layer in 0..<family.dimensions.layers {
    let pass = Pass(parallel: Parallel(threads: threads), forcedRouting: forced?[layer])
    let route = try family.layer(layer, &x, batch, weights, pass)
    routing.append(route)
    outcome.streams.append(x.values.map(\.bitPattern))
    outcome.experts.append(route?.experts ?? [])
    outcome.factors.append((route?.weights ?? []).map(\.bitPattern))
  }
  let pass = Pass(parallel: Parallel(threads: threads))
  outcome.logits = try family.logits(x, weights, pass).values.map(\.bitPattern)
  return (outcome, routing)
}

/// Sequences around the edges of windows of 4 and 8 tokens, drawn from the first 40 ids.
private let sequences: [[Int]] = {
  var generator = Generator(seed: 51)
  return [1, 3, 4, 5, 8, 9, 33].map { length in (0..<length).map { _ in Int(generator.next() % 40) } }
}()

/// A model of each layout, and golden ones; in the last, layers take what an earlier one chose.
private let subjects = [
  "plain", "published", "models/deepseek_v4", "models/deepseek_v4-fp4", "models/glm_moe_dsa",
]

private func open(_ subject: String, _ folder: TemporaryFolder) throws -> Model {
  guard !subject.hasPrefix("models/") else { return try Model.open(fixture(subject)) }
  TinyV4(subject == "plain" ? .plain : .published).write(to: folder.path)
  return try Model.open(folder.path)
}

@Suite struct InvarianceTests {
  @Test(arguments: subjects)
  func batchIsItsSequencesAlone(_ subject: String) throws {
    let folder = TemporaryFolder()
    let model = try open(subject, folder)
    let batch = TokenBatch(sequences)
    let together = try run(model, batch).outcome
    for (index, sequence) in sequences.enumerated() {
      let alone = try run(model, TokenBatch([sequence])).outcome
      #expect(together.part(batch.range(index), of: batch.count) == alone, "\(sequence.count) tokens")
    }
  }

  @Test(arguments: subjects)
  func threadsChangeNoBit(_ subject: String) throws {
    let folder = TemporaryFolder()
    let model = try open(subject, folder)
    let batch = TokenBatch(sequences)
    #expect(try run(model, batch, threads: 3).outcome == run(model, batch, threads: 1).outcome)
  }

  @Test(arguments: subjects)
  func forcingTheRoutersOwnChoiceChangesNoBit(_ subject: String) throws {
    let folder = TemporaryFolder()
    let model = try open(subject, folder)
    let batch = TokenBatch(sequences)
    let free = try run(model, batch)
    #expect(try run(model, batch, forced: free.routing).outcome == free.outcome)
  }

  /// And another choice does: the test above is no tautology.
  @Test func forcingAnotherChoiceIsFollowed() throws {
    let folder = TemporaryFolder()
    let model = try open("plain", folder)
    let batch = TokenBatch([sequences[6]])
    let free = try run(model, batch)
    let other = free.routing.map { routing in
      routing.map {
        Routing(
          perToken: 2, experts: $0.experts.enumerated().map { Int32($0.offset % 2 * 3) }, weights: $0.weights)
      }
    }
    let forced = try run(model, batch, forced: other)
    #expect(forced.outcome.experts[0] == other[0]?.experts)
    #expect(forced.outcome.logits != free.outcome.logits)
    #expect(forced.outcome.factors != free.outcome.factors)
  }

  // MARK: dialects

  @Test func savedDialectGivesTheSameBits() throws {
    let batch = TokenBatch(sequences)
    let hub = try Model.open(fixture("models/deepseek_v4"))
    let saved = try Model.open(fixture("models/deepseek_v4-hfsaved"))
    #expect(try inspect(saved).dialect == "transformers-saved" && inspect(hub).dialect == "hub")
    #expect(try run(saved, batch).outcome == run(hub, batch).outcome)
  }

  /// The names and the fused, stacked experts that transformers has in memory, made from the golden checkpoint.
  @Test func memoryDialectGivesTheSameBits() throws {
    let hub = try Model.open(fixture("models/deepseek_v4"))
    let folder = TemporaryFolder()
    try Rewriter(fixture("models/deepseek_v4")).write(to: folder.path)
    let memory = try Model.open(folder.path)
    #expect(try inspect(memory).dialect == "transformers")
    let batch = TokenBatch(sequences)
    #expect(try run(memory, batch).outcome == run(hub, batch).outcome)
    _ = try checkModel(memory, RunOptions())
  }

  /// A stack of more experts, or of wider ones, than config.json names: nothing of it may be left behind in silence.
  @Test(arguments: ["gate_up_proj", "down_proj"], [true, false])
  func stacksAreTakenWhole(part: String, more: Bool) throws {
    let folder = TemporaryFolder()
    var rewriter = try Rewriter(fixture("models/deepseek_v4"))
    let name = "model.layers.1.mlp.experts.\(part)"
    rewriter.grow(name, more ? 0 : 1)
    try rewriter.write(to: folder.path)
    let error = try #require(throws: FormatError.self) { try Model.open(folder.path) }
    #expect(
      error.code == .configShape && error.subject == name && error.file == "model.safetensors", "\(error)")
  }
}

/// The golden checkpoint under the names of transformers' memory.
private struct Rewriter {
  private let config: [UInt8]
  private var tensors: [(name: String, dtype: DType, shape: [Int], bytes: [UInt8])] = []

  init(_ path: String) throws {
    config = try readSmallFile(path + "/config.json", limit: 1 << 20, code: .configJSON).array
    let source = try SafetensorsFile(path: path + "/model.safetensors")
    let family = try ModelFamilies.family(of: JSON.scan(Bytes(config)), file: "config.json")
    for spec in family.weights where spec.spellings[2].isWhole {
      let tensor = try #require(source.tensor(spec.spellings[0].tensor))
      tensors.append((spec.spellings[2].tensor, tensor.dtype, tensor.shape.dimensions, tensor.bytes.array))
    }
    for layer in 0..<family.dimensions.layers {
      func stack(_ parts: [String]) throws -> [UInt8] {
        try (0..<family.dimensions.experts).flatMap { expert in
          try parts.flatMap { part in
            try #require(source.tensor("layers.\(layer).ffn.experts.\(expert).\(part).weight")).bytes.array
          }
        }
      }
      let stem = "model.layers.\(layer).mlp.experts."
      tensors.append((stem + "gate_up_proj", .bf16, [8, 64, 64], try stack(["w1", "w3"])))
      tensors.append((stem + "down_proj", .bf16, [8, 64, 32], try stack(["w2"])))
    }
  }

  /// Adds zeros to a dimension, 0 (experts) or 1 (rows): one more of them at the end of the tensor.
  mutating func grow(_ name: String, _ dimension: Int) {
    guard let place = tensors.firstIndex(where: { $0.name == name }) else {
      preconditionFailure("there is no '\(name)'")
    }
    tensors[place].shape[dimension] += 1
    let count = tensors[place].shape.reduce(2, *)
    tensors[place].bytes += [UInt8](repeating: 0, count: count - tensors[place].bytes.count)
  }

  func write(to folder: String) throws {
    putFile(folder + "/config.json", config)
    var writer = try SafetensorsWriter(
      path: folder + "/model.safetensors", tensors: tensors.map { .init($0.name, $0.dtype, Shape($0.shape)) })
    for tensor in tensors { try writer.write(tensor.name, tensor.bytes) }
    try writer.commit()
  }
}
