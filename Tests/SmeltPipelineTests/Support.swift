// What the pipeline's tests share: fixtures opened, conversions made, results read back.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// A model of Fixtures/models.
func openFixture(_ name: String) throws -> Model { try Model.open(fixture("models/\(name)")) }

/// Options of a conversion with the default recipe of a scheme.
func options(
  _ scheme: String, compression: CodecMode = .raw, observer: Observer = .absmax,
  statistics: Statistics? = nil, exactOnly: Bool = false, overwrite: Bool = false, threads: Int = 2
) throws -> ConvertOptions {
  ConvertOptions(
    recipe: Recipe(try Schemes.named(scheme), observer: observer), statistics: statistics,
    target: IngotResult(compression), exactOnly: exactOnly, overwrite: overwrite,
    run: RunOptions(parallel: Parallel(threads: threads)))
}

/// The ids that a golden checkpoint's reference was made with, as windows.
func referenceWindows(_ name: String, _ prefix: String = "short.") throws -> Windows {
  let reference = try Reference(of: name)
  let sequences = try reference.sequences("\(prefix)input_ids")
  return Windows(sequences, context: sequences[0].count)
}

/// All logits of some windows.
func allLogits(_ model: Model, _ windows: Windows, threads: Int = 2) throws -> [Float] {
  try allLogits(model.family, model.weights, TokenBatch(windows.sequences), threads)
}

private func allLogits(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ threads: Int
)
  throws -> [Float]
{
  let pass = Pass(parallel: Parallel(threads: threads), memo: LayerMemo())
  var x = try family.embed(batch, weights)
  for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
  return try family.logits(x, weights, pass).values
}

/// The ledger inside an ingot.
func ledger(in ingot: Model) throws -> JSON {
  try JSON.scan(try #require(try ingot.smallFile("ledger.json")))
}

/// The bytes of a file.
func contents(_ path: String) throws -> [UInt8] { try MappedFile(path: path).bytes.array }

/// The names in a folder.
func names(_ folder: TemporaryFolder) throws -> [String] { try namesInFolder(folder.path) }

/// Windows of tokens from a fixed generator.
func someWindows(_ model: Model, count: Int, context: Int) -> Windows {
  var generator = Generator(seed: 9)
  let vocabulary = model.family.dimensions.vocabulary
  return Windows(
    (0..<count).map { _ in (0..<context).map { _ in Int.random(in: 0..<vocabulary, using: &generator) } },
    context: context)
}

/// The numbers of all weights, their bits.
func expectEqual(_ a: Model, _ b: Model) throws {
  for spec in a.family.weights {
    let (x, y) = (try a.weights.weight(spec.name), try b.weights.weight(spec.name))
    if x.encoding is IntegerTable {
      #expect(try x.integers() == y.integers())
    } else {
      #expect(x.decode() == y.decode(), "\(spec.name): \(x.encoding.name), \(y.encoding.name)")
    }
  }
}

/// What a directory's config.json says of its quantized weights.
func section(_ path: String) throws -> JSON {
  try #require(try JSON.scan(Bytes(contents(path + "/config.json")))["quantization_config"])
}

/// A small deepseek_v4 checkpoint made here: one window layer with as many experts and as wide as wanted, BF16 matrices and
/// F32 vectors of a fixed pattern.
func makeCheckpoint(in folder: String, experts: Int, expertWidth: Int) throws {
  let config = """
    {"model_type": "deepseek_v4", "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 1, "hidden_act": "silu",
     "rms_norm_eps": 1e-6, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "qk_rope_head_dim": 16,
     "q_lora_rank": 32, "o_groups": 1, "o_lora_rank": 16, "moe_intermediate_size": \(expertWidth),
     "n_routed_experts": \(experts), "n_shared_experts": 0, "num_experts_per_tok": 1, "scoring_func": "sqrtsoftplus",
     "topk_method": "noaux_tc", "routed_scaling_factor": 1.5, "num_hash_layers": 0, "compress_ratios": [0],
     "sliding_window": 8, "rope_theta": 10000, "compress_rope_theta": 10000, "hc_mult": 2}
    """
  try writeFile(folder + "/config.json", Array(config.utf8), overwrite: false)
  let family = try ModelFamilies.family(of: try JSON.scan(config), file: "config.json")
  let tensors = family.weights.map { spec in
    SafetensorsWriter.Declaration(spec.spellings[0].tensor, spec.shape.rank < 2 ? .f32 : .bf16, spec.shape)
  }
  var writer = try SafetensorsWriter(path: folder + "/model.safetensors", tensors: tensors)
  var generator = Generator(seed: 20)
  let block = (0..<4099).map { _ in generator.normal(0.05) }  // a prime, so that rows differ
  let singles = block.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
  let halves = block.flatMap { value in
    withUnsafeBytes(of: UInt16(value.bitPattern >> 16).littleEndian) { Array($0) }
  }
  for tensor in tensors {
    let pattern = tensor.dtype == .f32 ? singles : halves
    var left = tensor.byteCount
    while left > 0 {
      try writer.write(tensor.name, Array(pattern.prefix(left)))
      left -= min(left, pattern.count)
    }
  }
  try writer.commit()
}

extension ConvertOptions {
  /// Options for an ingot.
  init(recipe: Recipe, exactOnly: Bool = false, overwrite: Bool = false, run: RunOptions = RunOptions()) {
    self.init(
      recipe: recipe, target: IngotResult(.fast), exactOnly: exactOnly, overwrite: overwrite, run: run)
  }
}
