// DeepSeek-V2, V3 and V3.2 as checkpoints: every spelling of names and configuration gives the same bits, and what is left
// out is left out by rule.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// A golden checkpoint under another configuration, or other names.
private struct Copy {
  var config: [UInt8]
  var tensors: [(name: String, dtype: DType, shape: Shape, bytes: [UInt8])] = []

  init(_ name: String) throws {
    config = try contents(fixture("models/\(name)/config.json"))
    let source = try SafetensorsFile(path: fixture("models/\(name)/model.safetensors"))
    tensors = source.tensors.map { ($0.name, $0.dtype, $0.shape, $0.bytes.array) }
  }

  mutating func setConfig(_ change: (String) -> String) {
    config = Array(change(String(decoding: config, as: UTF8.self)).utf8)
  }

  /// Stacks the experts of each layer and fuses gate and up, as transformers has them in memory.
  mutating func stack() {
    let pieces = tensors.filter { $0.name.contains(".experts.") }
    tensors.removeAll { $0.name.contains(".experts.") }
    let bytes = Dictionary(uniqueKeysWithValues: pieces.map { ($0.name, $0) })
    for layer in 1..<4 {
      let stem = "model.layers.\(layer).mlp.experts."
      func stacked(_ parts: [String]) -> [UInt8] {
        (0..<8).flatMap { expert in parts.flatMap { bytes["\(stem)\(expert).\($0).weight"]?.bytes ?? [] } }
      }
      tensors.append((stem + "gate_up_proj", .bf16, [8, 64, 64], stacked(["gate_proj", "up_proj"])))
      tensors.append((stem + "down_proj", .bf16, [8, 64, 32], stacked(["down_proj"])))
    }
  }

  func open(_ folder: TemporaryFolder) throws -> Model {
    try writeFile(folder.file("config.json"), config, overwrite: true)
    var writer = try SafetensorsWriter(
      path: folder.file("model.safetensors"), tensors: tensors.map { .init($0.name, $0.dtype, $0.shape) })
    for tensor in tensors { try writer.write(tensor.name, tensor.bytes) }
    try writer.commit()
    return try Model.open(folder.path)
  }
}

@Suite struct LatentFamilyTests {
  @Test(arguments: ["deepseek_v2", "deepseek_v3", "deepseek_v32"])
  func bothSpellingsOfTheConfigurationGiveTheSameBits(name: String) throws {
    let folder = TemporaryFolder()
    let windows = try referenceWindows(name, "long.")
    let expected = try allLogits(try openFixture(name), windows)
    var copy = try Copy(name)
    copy.config = try contents(fixture("configs/\(name).json"))
    #expect(try allLogits(try copy.open(folder), windows) == expected)
  }

  @Test(arguments: ["deepseek_v2", "deepseek_v3", "deepseek_v32"])
  func stackedExpertsGiveTheSameBits(name: String) throws {
    let folder = TemporaryFolder()
    let windows = try referenceWindows(name)
    let expected = try allLogits(try openFixture(name), windows)
    var copy = try Copy(name)
    copy.stack()
    let model = try copy.open(folder)
    #expect(try inspect(model).dialect == "transformers")
    #expect(try allLogits(model, windows) == expected)
  }

  @Test func kimiHasTheSameArchitecture() throws {
    let folder = TemporaryFolder()
    let windows = try referenceWindows("deepseek_v3")
    let expected = try allLogits(try openFixture("deepseek_v3"), windows)
    var copy = try Copy("deepseek_v3")
    copy.setConfig { $0.replacing(#""model_type": "deepseek_v3""#, with: #""model_type": "kimi_k2""#) }
    #expect(try allLogits(try copy.open(folder), windows) == expected)
  }

  /// Frequencies that some publishers store; the draft layer with its scales is not left out.
  @Test func whatIsLeftOutIsLeftOutByRule() throws {
    let folder = TemporaryFolder()
    var copy = try Copy("deepseek_v3-fp8")
    copy.tensors.append(("model.layers.0.self_attn.rotary_emb.inv_freq", .f32, [1], [0, 0, 0, 0]))
    let checkpoint = try #require(try copy.open(folder).source as? Checkpoint)
    #expect(checkpoint.dropped.map(\.tensor.name) == ["model.layers.0.self_attn.rotary_emb.inv_freq"])
    let drafts = zip(checkpoint.family.weights, checkpoint.joined).filter(\.0.isDraft)
    let tensors = drafts.flatMap { $0.1.tensors.map(\.name) }
    #expect(tensors.allSatisfy { $0.hasPrefix("model.layers.3.") })
    #expect(tensors.contains("model.layers.3.mlp.experts.7.down_proj.weight_scale_inv"))
    #expect(Set(tensors).count == copy.tensors.count { $0.name.hasPrefix("model.layers.3.") })
  }

  @Test func aTensorOfNoRuleIsRefused() throws {
    let folder = TemporaryFolder()
    var copy = try Copy("deepseek_v3")
    copy.tensors.append(("model.layers.5.enorm.weight", .f32, [1], [0, 0, 0, 0]))
    let error = try #require(throws: FormatError.self) { try copy.open(folder) }
    #expect(error.code == .unknownTensor && error.subject == "model.layers.5.enorm.weight")
  }
}
