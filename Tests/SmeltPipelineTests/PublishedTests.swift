// Checkpoints as strangers published them: Fixtures/reports, whose README names the report behind each.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

/// A checkpoint of Fixtures/reports.
private func report(_ name: String) throws -> Model { try Model.open(fixture("reports/\(name)")) }

@Suite struct PublishedTests {
  @Test(arguments: [
    ("base", "base.lg.safetensors"), ("tie_diff", "tie_diff.ref"), ("ix_overlay", "ix.ref"),
    ("mo_parent", "mo_mixed.ref"), ("mo_w4a16_nvfp4", "mo_mixed.ref"),
    ("cfg_scal_has_theta", "cfg_scal_has_theta.ref"), ("gf_fused_gate_up.gguf", "base.lg.safetensors"),
    ("z_inv", "base.lg.safetensors"),
  ])
  func logitsAreTheReferences(name: String, reference: String) throws {
    let worst = try distance(try report(name), reference)
    #expect(worst <= 2e-5, "\(name) differs by \(worst)")
  }

  /// Every one of them becomes an ingot, a directory and a GGUF file.
  @Test(arguments: [
    "tie_diff", "ix_overlay", "mo_parent", "mo_w4a16_nvfp4", "cfg_scal_has_theta", "gf_fused_gate_up.gguf",
    "z_inv", "goss_lin", "gq_emptygidx", "ct_mixed_class_target", "ct_asym", "nv_scale.gguf",
  ])
  func numbersStayInEveryContainer(name: String) throws {
    let folder = TemporaryFolder()
    let source = try report(name)
    for result in ["a.ingot", "a.gguf", "directory"] {
      try expectEqual(source, try converted(source, folder.file(result)))
    }
  }

  @Test func gptOssWithATensorForEachExpertIsTheSameModel() throws {
    let (model, published) = (try report("goss_lin"), try openFixture("gpt_oss"))
    try expectEqual(model, published)
    let folder = TemporaryFolder()
    let result = try converted(model, folder.file("hub"))
    let names = Set(try SafetensorsDirectory(path: folder.file("hub")).tensors.map(\.name))
    #expect(names == Set(try SafetensorsDirectory(path: fixture("models/gpt_oss")).tensors.map(\.name)))
    try expectEqual(result, published)
  }

  /// The other spellings of one tensor for each expert.
  @Test(arguments: [true, false]) func routersAndHalvesMayBeForThemselves(splits: Bool) throws {
    var variant = try Variant("reports/goss_lin")
    variant.rename { $0.replacing(".router.linear.", with: ".router.") }
    if splits {
      variant.tensors = variant.tensors.flatMap { tensor -> [Variant.Tensor] in
        guard let range = tensor.name.firstRange(of: ".gate_up_projs.") else {
          var other = tensor
          if let range = tensor.name.firstRange(of: ".down_projs.") {
            let tail = tensor.name[range.upperBound...].split(separator: ".")
            other.name = tensor.name[..<range.lowerBound] + ".\(tail[0]).down_proj.\(tail[1])"
          }
          return [other]
        }
        let tail = tensor.name[range.upperBound...].split(separator: ".")
        let rows = tensor.shape.dimensions[0]
        let size = tensor.bytes.count / rows
        return ["gate", "up"].enumerated().map { phase, part in
          Variant.Tensor(
            name: tensor.name[..<range.lowerBound] + ".\(tail[0]).\(part)_proj.\(tail[1])",
            dtype: tensor.dtype,
            shape: Shape([rows / 2] + tensor.shape.dimensions.dropFirst()),
            bytes: stride(from: phase, to: rows, by: 2).flatMap {
              tensor.bytes[$0 * size..<($0 + 1) * size]
            })
        }
      }
    }
    let folder = TemporaryFolder()
    try expectEqual(try variant.open(in: folder), try openFixture("gpt_oss"))
  }

  @Test func frequenciesOfTheRotationAreLeftOutByRule() throws {
    let plan = try Plan(try report("z_inv"), try options("keep"))
    let dropped = plan.ledger.filter { $0.fate == .dropped }
    #expect(dropped.map(\.source) == ["model.layers.0.self_attn.rotary_emb.inv_freq"])
    #expect(dropped.first?.rule == "rotary-frequencies")
    let folder = TemporaryFolder()
    var variant = try Variant("reports/z_inv")
    let place = try variant.place("model.layers.0.self_attn.rotary_emb.inv_freq")
    for (index, name) in ["model.rotary_emb.inv_freq", "rotary_emb.inv_freq", "model.rotary_emb.cos_cached"]
      .enumerated()
    {
      variant.tensors[place].name = name
      #expect(try Plan(try variant.open(in: folder, "\(index)"), try options("keep")).dropped == 1)
    }
    variant.tensors[place].name = "model.layers.0.self_attn.inv_freq"
    #expect(throws: FormatError.self) { try variant.open(in: folder, "other") }
  }

  /// As transformers 5 reads it: `rope_scaling` that says anything takes the place of `rope_parameters`, and what is in the object
  /// goes before what is beside it.
  @Test(
    arguments: [
      ([("rope_scaling", ["rope_type": "default", "rope_theta": 500_000]), ("rope_theta", 10_000)], true),
      ([("rope_parameters", ["rope_theta": 500_000]), ("rope_scaling", JSON(.null))], true),
      (
        [
          ("rope_parameters", ["rope_theta": 10_000]),
          ("rope_scaling", ["type": "default", "rope_theta": 500_000]),
        ], true
      ),
      ([("rope_parameters", ["rope_theta": 500_000]), ("rope_scaling", [:])], true),
      (
        [
          ("rope_parameters", ["rope_theta": 500_000]), ("rope_theta", 10_000), ("rope_scaling", JSON(.null)),
        ], true
      ),
      ([("rope_scaling", ["rope_type": "default"]), ("rope_theta", 500_000)], true),
      ([("rope_scaling", ["rope_type": "default"]), ("rope_theta", 10_000)], false),
    ] as [([(String, JSON)], Bool)])
  func theBaseOfTheRotationIsFoundWhereTransformersFindsIt(keys: [(String, JSON)], isTheReferences: Bool)
    throws
  {
    var variant = try Variant("reports/cfg_scal_has_theta")
    for (key, value) in keys { variant.set(key, value) }
    let folder = TemporaryFolder()
    let worst = try distance(try variant.open(in: folder), "cfg_scal_has_theta.ref")
    #expect((worst <= 2e-5) == isTheReferences, "\(keys): \(worst)")
  }

  // MARK: quantized

  @Test func anEmptyTableOfGroupsIsNone() throws {
    var variant = try Variant("reports/gq_emptygidx")
    let empty = try report("gq_emptygidx")
    let plan = try Plan(empty, try options("keep"))
    #expect(plan.dropped == 0 && plan.ledger.contains { $0.source.hasSuffix(".g_idx") && $0.fate == .joined })
    variant.tensors.removeAll { $0.name.hasSuffix(".g_idx") }
    let folder = TemporaryFolder()
    try expectEqual(empty, try variant.open(in: folder))
  }

  /// Groups that are no runs of columns stay what they are in a directory.
  @Test func activationOrderIsKept() throws {
    var variant = try Variant("reports/gq_emptygidx")
    for index in variant.tensors.indices where variant.tensors[index].name.hasSuffix(".g_idx") {
      let module = variant.tensors[index].name.dropLast("g_idx".count)
      let words = variant.tensors[try variant.place(module + "qweight")]
      let columns = words.shape.dimensions[0] * 8
      variant.tensors[index].shape = [columns]
      variant.tensors[index].bytes = (0..<columns).flatMap { column in
        withUnsafeBytes(of: Int32(column % max(1, columns / 32)).littleEndian) { Array($0) }
      }
    }
    let section = try #require(variant.config.first { $0.0 == "quantization_config" }?.1.object)
    variant.set(
      "quantization_config",
      JSON(members: zip(section.keys, section.values).map { $0 == "desc_act" ? ($0, true) : ($0, $1) }))
    let folder = TemporaryFolder()
    let source = try variant.open(in: folder)
    #expect(try source.storedWeights().contains { $0.encoding.name == "int4.group32.zero.indexed" })
    try expectEqual(source, try converted(source, folder.file("result")))
  }

  @Test func classesOfTargetsAreMatchedAsClasses() throws {
    let stored = try report("ct_mixed_class_target").storedWeights()
    func encoding(_ name: String) -> String? {
      stored.first { $0.spec.name.description == name }?.encoding.name
    }
    #expect(encoding("blk.0.attn_q.weight") == "f8_e4m3.channel")
    #expect(encoding("blk.1.ffn_up_exps.weight#3") == "int4.group32")
  }

  @Test(arguments: [
    (["Qwen3MoeExperts"], true), (["Qwen3MoeSparseMoeBlock"], true), (["Qwen3MoeMLP"], true),
    (["re:.*experts.*"], true), (["Qwen3MoeRMSNorm"], false), (["Embedding"], false), (["Conv1d"], false),
    (["experts"], false),
  ])
  func whatAClassHolds(targets: [String], isRead: Bool) throws {
    var variant = try Variant("reports/ct_mixed_class_target")
    let section = try #require(variant.config.first { $0.0 == "quantization_config" }?.1)
    let text = section.text().replacing(
      #"["Qwen3MoeExperts","re:.*experts.*"]"#, with: JSON(targets.map { JSON($0) }).text())
    #expect(text != section.text() || targets == ["Qwen3MoeExperts", "re:.*experts.*"])
    variant.set("quantization_config", try JSON.scan(text))
    let folder = TemporaryFolder()
    if isRead {
      try expectEqual(try variant.open(in: folder), try report("ct_mixed_class_target"))
    } else {
      let error = #expect(throws: FormatError.self) { try variant.open(in: folder) }
      #expect(error?.code == .quantConfig)
    }
  }

  /// The codes, scales and zero points of the source come back byte for byte.
  @Test func zeroPointsAreKeptInADirectory() throws {
    let folder = TemporaryFolder()
    try converted(try report("ct_asym"), folder.file("result"))
    let source = try SafetensorsDirectory(path: fixture("reports/ct_asym"))
    let result = try SafetensorsDirectory(path: folder.file("result"))
    #expect(Set(source.tensors.map(\.name)) == Set(result.tensors.map(\.name)))
    for tensor in source.tensors {
      let other = try #require(result.tensor(tensor.name))
      #expect(other.dtype == tensor.dtype && other.shape == tensor.shape, "\(tensor.name)")
      #expect(other.bytes.array == tensor.bytes.array, "\(tensor.name)")
    }
    let group = try section(folder.file("result"))["config_groups"]?["group_0"]
    #expect(group?["weights"]?["symmetric"]?.bool == false && group?["format"]?.string == "pack-quantized")
  }

  /// Another layout needs another description.
  @Test func descriptionsOfTheSourcesCodesStayBehind() throws {
    let folder = TemporaryFolder()
    let variant = try Variant("reports/gq_emptygidx")
    try variant.write(to: folder.file("model"))
    try writeFile(folder.file("model/quantize_config.json"), Array("{}".utf8), overwrite: false)
    try converted(try Model.open(folder.file("model")), folder.file("result"))
    #expect(pathKind(folder.file("result/quantize_config.json")) == .nothing)
  }
}
