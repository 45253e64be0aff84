// NVFP4 in GGUF beside a scale of its own. llama.cpp multiplies the product with the blocks by it: value = block's value × scale
// (src/llama-graph.cpp, build_lora_mm and build_moe_ffn; the blocks' E4M3 scales and halved codes in ggml-impl.h).

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct ScaledFileTests {
  private let path = fixture("reports/nv_scale.gguf")

  /// The file with other scales; nil takes them away.
  private func file(_ scale: ((Int) -> Float)?) throws -> GGUFVariant {
    var variant = try GGUFVariant(path: path)
    guard let scale else {
      variant.tensors.removeAll { $0.name.hasSuffix(".scale") }
      return variant
    }
    for index in variant.tensors.indices where variant.tensors[index].name.hasSuffix(".scale") {
      variant.tensors[index].bytes = (0..<variant.tensors[index].shape[0]).flatMap {
        withUnsafeBytes(of: scale($0).bitPattern.littleEndian) { Array($0) }
      }
    }
    return variant
  }

  /// nv.ref holds the logits of the blocks alone.
  @Test func blocksUnderAScaleOfOneAreTheReferences() throws {
    let folder = TemporaryFolder()
    #expect(try distance(try file { _ in 1 }.open(in: folder), "nv.ref") <= 2e-5)
    #expect(try distance(try file(nil).open(in: folder), "nv.ref") <= 2e-5)
    #expect(try distance(try Model.open(path), "nv.ref") > 0.1, "the file's own scales are 0.5")
  }

  @Test func everyNumberIsTheBlocksTimesItsScale() throws {
    let folder = TemporaryFolder()
    let plain = try file(nil).open(in: folder, "plain.gguf")
    let scaled = try file { Float($0 + 1) * 0.75 }.open(in: folder)
    var count = 0
    for spec in scaled.family.weights {
      let (x, y) = (try scaled.weights.weight(spec.name), try plain.weights.weight(spec.name))
      guard x.encoding.name == "nvfp4" else {
        #expect(x.encoding.name == y.encoding.name && x.decode() == y.decode())
        continue
      }
      let factor = Float((spec.name.expert ?? 0) + 1) * 0.75
      #expect(x.decode() == y.decode().map { $0 * factor }, "\(spec.name)")
      count += 1
    }
    #expect(count == 24)
  }

  @Test func blocksAndScalesComeBackByteForByte() throws {
    let folder = TemporaryFolder()
    let source = try file { Float($0 + 1) / 3 }.open(in: folder)
    let ingot = try converted(source, folder.file("a.ingot"))
    for (name, model) in [("b.gguf", source), ("c.gguf", ingot)] {
      let result = try converted(model, folder.file(name))
      try expectEqual(source, result)
      let (old, new) = (
        try GGUFFile(path: folder.file("variant.gguf")), try GGUFFile(path: folder.file(name))
      )
      #expect(Set(old.tensors.map(\.name)) == Set(new.tensors.map(\.name)))
      for tensor in old.tensors {
        let other = try #require(new.tensor(tensor.name))
        #expect(other.type == tensor.type && other.shape == tensor.shape, "\(tensor.name)")
        #expect(other.bytes.array == tensor.bytes.array, "\(tensor.name)")
      }
    }
  }

  /// ModelOpt's global scale becomes the file's, where rows are whole blocks.
  @Test func modelOptsNumbersAreWrittenSo() throws {
    let folder = TemporaryFolder()
    try converted(try Model.open(fixture("reports/mo_parent")), folder.file("a.gguf"))
    let file = try GGUFFile(path: folder.file("a.gguf"))
    #expect(file.tensor("blk.1.ffn_up_exps.weight")?.type.name == "NVFP4")
    #expect(file.tensor("blk.1.ffn_up_exps.scale")?.shape == [4])
    #expect(file.tensor("blk.1.ffn_down_exps.weight")?.type.name == "F32", "32 columns are half a block")
    #expect(try distance(try Model.open(folder.file("a.gguf")), "mo_mixed.ref") <= 2e-5)
  }

  @Test func scalesOfActivationsAreLeftOutByRule() throws {
    var variant = try file { _ in 1 }
    for (name, count) in [("blk.0.attn_q.input_scale", 1), ("blk.0.ffn_up_exps.input_scale", 4)] {
      variant.tensors.append(
        GGUFVariant.Tensor(
          name: name, type: "F32", shape: [count], bytes: [UInt8](repeating: 0, count: 4 * count)))
    }
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    let dropped = try Plan(model, try options("keep")).ledger.filter { $0.fate == .dropped }
    #expect(dropped.count == 2 && dropped.allSatisfy { $0.rule == "activation-scale" })
    variant.tensors[variant.tensors.count - 1].name = "blk.0.nothing.input_scale"
    #expect(throws: FormatError.self) { try variant.open(in: folder) }
  }

  @Test func scalesOfTheHeadAndOfTurnedRowsAreTaken() throws {
    // Mixtral's queries have their rows in another order, and the head has a scale as well.
    let folder = TemporaryFolder()
    let source = try converted(try openFixture("mixtral"), folder.file("source.gguf"))
    var variant = try GGUFVariant(path: folder.file("source.gguf"))
    var generator = Generator(seed: 3)
    for name in ["blk.0.attn_q", "blk.0.attn_k", "output"] {
      let place = try #require(variant.tensors.firstIndex { $0.name == "\(name).weight" })
      let blocks = variant.tensors[place].shape.reduce(1, *) / 64
      variant.tensors[place].type = "NVFP4"
      variant.tensors[place].bytes = (0..<blocks).flatMap { _ in
        (0..<36).map { byte in UInt8.random(in: 0...(byte < 4 ? 0x7E : 0xFF), using: &generator) }
      }
      variant.tensors.append(
        GGUFVariant.Tensor(name: "\(name).scale", type: "F32", shape: [1], bytes: [0, 0, 0, 0x3E]))
    }
    let scaled = try variant.open(in: folder)
    variant.tensors.removeAll { $0.name.hasSuffix(".scale") }
    let plain = try variant.open(in: folder, "plain.gguf")
    for name in ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "output.weight"] {
      let (x, y) = (
        try scaled.weights.weight(WeightName(name)), try plain.weights.weight(WeightName(name))
      )
      #expect(x.encoding.name == "nvfp4" && y.encoding.name == "nvfp4.gguf")
      #expect(x.decode() == y.decode().map { $0 * 0.125 }, "\(name)")
    }
    try expectEqual(scaled, try converted(scaled, folder.file("again.gguf")))
    #expect(source.family.modelType == "mixtral")
  }

  @Test func otherScalesAreRefused() throws {
    let folder = TemporaryFolder()
    func code(_ change: (inout GGUFVariant) -> Void) throws -> String {
      var variant = try file { _ in 1 }
      change(&variant)
      return try #require(throws: FormatError.self) {
        let model = try variant.open(in: folder)
        for spec in model.family.weights { _ = try model.weights.weight(spec.name) }
      }.code.name
    }
    let last = try file(nil).tensors.count
    #expect(
      try code {
        $0.tensors[last].shape = [2]; $0.tensors[last].bytes += [0, 0, 0, 0]
      } == "Q_SCALE_SHAPE")
    #expect(try code { $0.tensors[last].type = "I32" } == "Q_SCALE_SHAPE")
    #expect(try code { $0.tensors[last].bytes = [0, 0, 0xC0, 0x7F] } == "Q_SCALE_VALUE")
    #expect(try code { $0.tensors[last].bytes = [0, 0, 0, 0] } == "Q_SCALE_VALUE")
    #expect(try code { $0.tensors[last].name = "blk.0.ffn_gate_inp.scale" } == "ARCH_UNKNOWN_TENSOR")
  }
}
