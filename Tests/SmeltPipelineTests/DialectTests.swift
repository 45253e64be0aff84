// One model in several spellings: config.json as the hub has it and as transformers 5 saves it; experts one by one and
// stacked and fused as transformers has them in memory. The logits are the same bit for bit.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct DialectTests {
  /// Golden checkpoints with a configuration that transformers 5 wrote.
  @Test(arguments: DecodingTests.models.filter { pathKind(fixture("configs/\($0).json")) == .file })
  func savedConfigurationsGiveTheSameLogits(name: String) throws {
    let folder = TemporaryFolder()
    let source = fixture("models/\(name)")
    for file in try namesInFolder(source) where file.hasPrefix("model") {
      putFile(folder.file(file), try contents("\(source)/\(file)"))
    }
    putFile(folder.file("config.json"), try contents(fixture("configs/\(name).json")))
    let (model, saved) = (try Model.open(source), try Model.open(folder.path))
    let ids = Array(
      try Reference(of: name).sequences("short.input_ids")[0])
    #expect(
      try logits(saved.family, saved.weights, ids) == logits(model.family, model.weights, ids))
  }

  /// `[experts, rows, columns]` under `mlp.experts.…`, gate rows before up rows, and no prefix of the hub's.
  @Test(arguments: [
    "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "minimax_m2", "glm4_moe_lite", "glm_moe_dsa",
    "hy_v3",
  ])
  func fusedExpertsGiveTheSameLogits(name: String) throws {
    let folder = TemporaryFolder()
    let source = try SafetensorsFile(path: fixture("models/\(name)/model.safetensors"))
    try fuse(source, into: folder.file("model.safetensors"))
    try writeFile(
      folder.file("config.json"), try contents(fixture("models/\(name)/config.json")), overwrite: false)
    let hub = try #require(try Model.open(fixture("models/\(name)")).source as? Checkpoint)
    let fused = try #require(try Model.open(folder.path).source as? Checkpoint)
    #expect(hub.dialect == "hub" && fused.dialect == "transformers")
    #expect(hub.family.weights.count == fused.joined.count && fused.dropped.isEmpty)
    let ids = Array(
      try Reference(of: name).sequences("short.input_ids")[0])
    #expect(try logits(fused.family, fused, ids) == logits(hub.family, hub, ids))
  }

  /// Qwen3-VL's stacks as transformers 5 saves them lie the other way, under the same names.
  @Test func stacksOfEitherOrderGiveTheSameLogits() throws {
    var variant = try Variant("models/qwen3_vl_moe")
    for place in variant.tensors.indices where variant.tensors[place].name.contains(".mlp.experts.") {
      let old = variant.tensors[place]
      let (experts, rows, columns) = (old.shape.dimensions[0], old.shape.dimensions[1], old.shape.columns)
      variant.tensors[place].shape = [experts, columns, rows]
      variant.tensors[place].bytes = (0..<experts).flatMap { expert in
        let matrix = Bytes(Array(old.bytes[expert * rows * columns * 2..<(expert + 1) * rows * columns * 2]))
        return transposed(matrix, size: 2, rows: rows, columns: columns).array
      }
    }
    let folder = TemporaryFolder()
    let (turned, hub) = (try variant.open(in: folder), try openFixture("qwen3_vl_moe"))
    #expect(try inspect(turned).dialect == "transformers" && inspect(hub).dialect == "hub")
    let windows = try referenceWindows("qwen3_vl_moe")
    #expect(try allLogits(turned, windows) == allLogits(hub, windows))
  }

  private func logits(_ family: some ModelFamily, _ weights: some Weights, _ ids: [Int]) throws -> [Float] {
    let batch = TokenBatch([ids])
    var x = try family.embed(batch, weights)
    let pass = Pass()
    for layer in 0..<family.dimensions.layers { _ = try family.layer(layer, &x, batch, weights, pass) }
    return try family.logits(x, weights, pass).values
  }
}

/// Writes a checkpoint's tensors anew with the experts of each layer stacked.
func fuse(_ source: SafetensorsFile, into path: String) throws {
  var tensors: [(declaration: SafetensorsWriter.Declaration, bytes: [UInt8])] = []
  var stacks: [String: (shape: [Int], parts: [Int: [UInt8]])] = [:]
  let roles = ["gate_proj": 0, "w1": 0, "up_proj": 1, "w3": 1, "down_proj": 2, "w2": 2]
  for tensor in source.tensors {
    let pieces = tensor.name.split(separator: ".").map(String.init)
    if let place = pieces.firstIndex(of: "experts"), let expert = Int(pieces[place + 1]),
      let role = roles[pieces[place + 2]]
    {
      let stack = "model.layers.\(pieces[2]).mlp.experts.\(role == 2 ? "down_proj" : "gate_up_proj")"
      var entry = stacks[stack] ?? (tensor.shape.dimensions, [:])
      entry.parts[role == 2 ? expert : 2 * expert + role] = tensor.bytes.array
      stacks[stack] = entry
    } else {
      let name = [
        ("block_sparse_moe", "mlp"), ("mlp.router.gate", "mlp.gate"), ("shared_mlp", "shared_experts"),
        ("mlp.expert_bias", "mlp.e_score_correction_bias"),
      ].reduce(tensor.name) { $0.replacing($1.0, with: $1.1) }
      tensors.append((.init(name, tensor.dtype, tensor.shape), tensor.bytes.array))
    }
  }
  for (name, entry) in stacks.sorted(by: { $0.key < $1.key }) {
    let halves = name.hasSuffix("gate_up_proj") ? 2 : 1
    let shape = Shape([entry.parts.count / halves, halves * entry.shape[0], entry.shape[1]])
    tensors.append((.init(name, .bf16, shape), entry.parts.sorted { $0.key < $1.key }.flatMap(\.value)))
  }
  var writer = try SafetensorsWriter(path: path, tensors: tensors.map(\.declaration))
  for tensor in tensors { try writer.write(tensor.declaration.name, tensor.bytes) }
  try writer.commit()
}
