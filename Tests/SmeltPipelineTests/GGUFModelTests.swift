// GGUF files as models: what llama.cpp's own tools wrote gives the reference's logits, what is written here gives the source's,
// and a file becomes the checkpoint again that it was.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Golden models whose every weight GGUF holds as it is stored, norms and biases widened.
private let plainModels = [
  "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_v4-hfsaved", "glm4_moe", "gpt_oss",
  "llama", "minimax_m2", "mistral", "mixtral", "olmoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
  "qwen3_moe_sharded", "qwen3_5", "qwen3_5_moe", "qwen3_next",
  "qwen3_vl_moe", "nemotron_h",
  "glm4_moe_lite", "glm_moe_dsa", "hy_v3",
]

/// Whether a model has a wrapper around it, whose tensors beside the text model GGUF leaves out.
private func isWrapped(_ name: String) -> Bool { ["qwen3_5", "qwen3_5_moe", "qwen3_vl_moe"].contains(name) }

/// Those whose blocks that draft tokens the file holds.
private let modelsWithDrafts: Set<String> = ["glm4_moe_lite", "glm_moe_dsa", "hy_v3", "nemotron_h"]

/// Golden models of which a GGUF file holds the text model alone.
private let wrappedModels = ["gemma4", "gemma4_dense", "gemma4_e2b", "minimax_m3_vl", "minimax_m3_vl-mxfp8"]

/// A model written as GGUF.
private func written(
  _ name: String, in folder: TemporaryFolder, _ scheme: String = "keep", exactOnly: Bool = true
)
  throws -> Model
{
  var options = try options(scheme, exactOnly: exactOnly)
  options.target = GGUFResult()
  let path = folder.file("\(name).gguf")
  _ = try convert(try openFixture(name), to: path, options)
  return try Model.open(path)
}

/// A copy of a GGUF file with other keys.
func rewrite(_ path: String, to copy: String, _ change: (inout [(key: String, value: GGUFValue)]) -> Void)
  throws
{
  let file = try GGUFFile(path: path)
  var metadata = file.metadata
  change(&metadata)
  var writer = try GGUFWriter(
    path: copy, tensors: file.tensors.map { GGUFPlan.Tensor($0.name, $0.type, $0.shape) }, metadata: metadata)
  for tensor in file.tensors { try writer.write(tensor.name, tensor.bytes) }
  try writer.commit()
}

@Suite struct GGUFModelTests {
  /// Files of llama.cpp's conversion against transformers in float32 on the checkpoints they were made from.
  @Test(arguments: [
    ("qwen3moe.bf16", "qwen3moe"), ("deepseek2.bf16", "deepseek2"), ("gpt-oss.bf16", "gpt-oss"),
  ])
  func filesOfLlamaCppGiveTheReferencesLogits(file: String, reference: String) throws {
    let model = try Model.open(fixture("gguf/models/\(file).gguf"))
    let golden = try SafetensorsFile(path: fixture("gguf/models/logits.safetensors"))
    let ids = try #require(golden.tensor("input_ids")).bytes.withUnsafeBytes { bytes in
      Array(bytes.bindMemory(to: Int64.self)).map { Int($0) }
    }
    let expected = try #require(golden.tensor(reference)).bytes.withUnsafeBytes { bytes in
      Array(bytes.bindMemory(to: Float.self))
    }
    let found = try allLogits(model, Windows([ids], context: ids.count))
    let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(found.count == expected.count && worst <= 2e-5, "\(file) differs by \(worst)")
  }

  /// Quantized types are what their decoded numbers are: an ingot of float32 gives the same logits.
  @Test(arguments: ["olmoe.q8_0", "deepseek4.f32"])
  func quantizedFilesRunAsTheirDecodedNumbers(file: String) throws {
    let folder = TemporaryFolder()
    let model = try Model.open(fixture("gguf/models/\(file).gguf"))
    let windows = Windows([(0..<40).map { $0 * 7 % 384 }], context: 40)
    _ = try convert(model, to: folder.file("a.ingot"), try options("f32"))
    let decoded = try Model.open(folder.file("a.ingot"))
    #expect(try allLogits(model, windows) == allLogits(decoded, windows))
  }

  @Test(
    arguments: plainModels + [
      "deepseek_v3-fp8", "deepseek_v4-fp4", "gpt_oss-mxfp4", "tiny-v4", "mistral4",
    ] + wrappedModels)
  func whatIsWrittenGivesTheSourcesLogits(name: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    let result = try written(name, in: folder)
    #expect(result.containerName == "gguf" && result.family.modelType == source.family.modelType)
    let windows = Windows([(0..<40).map { $0 * 37 % 256 }, (0..<9).map { $0 * 11 % 256 }], context: 40)
    #expect(try allLogits(source, windows) == allLogits(result, windows), "logits are bit-identical")
    #expect(try checkModel(result, RunOptions()).weights == result.family.weights.count)
    #expect(result.family.core.weights.count == source.family.core.weights.count)
    if modelsWithDrafts.contains(name) { #expect(result.drafts.count == source.drafts.count) }
  }

  /// Other programs read the keys, not our copy of config.json: they say the same.
  @Test(arguments: [
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "glm4_moe", "minimax_m2", "mixtral", "olmoe",
    "qwen3_moe", "tiny-v4", "llama", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_next", "qwen3_vl_moe",
    "glm4_moe_lite", "glm_moe_dsa", "hy_v3", "mistral4", "nemotron_h",
    "gemma4", "gemma4_dense", "gemma4_e2b",
  ])
  func keysAloneSayWhatTheConfigurationSays(name: String) throws {
    let folder = TemporaryFolder()
    let result = try written(name, in: folder)
    let bare = folder.file("bare.gguf")
    try rewrite(result.path, to: bare) { keys in keys.removeAll { $0.key.hasPrefix("smelt.") } }
    let model = try Model.open(bare)
    let windows = Windows([(0..<40).map { $0 * 37 % 256 }], context: 40)
    #expect(try allLogits(model, windows) == allLogits(result, windows))
  }

  /// Text models of wrappers come back without the wrapper: every weight under the text model's own name, with its bytes.
  @Test(arguments: plainModels.filter(isWrapped))
  func aWrappersTextModelBecomesACheckpoint(name: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    var options = try options("keep", exactOnly: true)
    options.target = SafetensorsResult()
    _ = try convert(try written(name, in: folder), to: folder.file("back"), options)
    let original = try SafetensorsDirectory(path: fixture("models/\(name)"))
    let back = try SafetensorsDirectory(path: folder.file("back"))
    let beside = original.tensors.filter { $0.name.contains(".visual.") }
    #expect(!beside.isEmpty && back.tensors.count == original.tensors.count - beside.count)
    for tensor in back.tensors {
      let name = tensor.name.hasPrefix("model.") ? WrapperForm.insideModel.tensor(tensor.name) : tensor.name
      let old = try #require(original.tensor(name), "\(name)")
      guard !tensor.name.hasSuffix(".A_log") else { continue }
      #expect(old.dtype == tensor.dtype && old.bytes.array == tensor.bytes.array, "\(tensor.name)")
    }
    // Rates of decay are stored as they are used: of several logarithms in float32 with the same rate one comes back.
    for spec in source.family.weights where spec.name.base.hasSuffix(".ssm_a") {
      let rates = try [source, try Model.open(folder.file("back"))].map { model in
        try model.weights.weight(spec.name).decode().map(NumberMap.negativeExponential.apply)
      }
      #expect(rates[0] == rates[1])
    }
  }

  /// Apart from a count of draft layers that GGUF needs, the configuration is the source's.
  @Test func aBlockThatNoKeyCountsIsCounted() throws {
    let folder = TemporaryFolder()
    let written = try written("qwen3_next", in: folder)
    #expect((written.family as? CarryingFamily)?.draftBlocks == 1)
    var options = try options("keep")
    options.target = SafetensorsResult()
    _ = try convert(written, to: folder.file("back"), options)
    let config = try JSON.scan(Bytes(contents(folder.file("back/config.json"))))
    #expect(config["num_nextn_predict_layers"]?.integer == 1)
  }

  @Test(
    arguments: plainModels.filter { !isWrapped($0) && !["qwen3_next", "nemotron_h"].contains($0) } + [
      "tiny-v4", "deepseek_v4-fp4", "gpt_oss-mxfp4",
    ])
  func aFileBecomesTheCheckpointAgain(name: String) throws {
    let folder = TemporaryFolder()
    var options = try options("keep", exactOnly: true)
    options.target = SafetensorsResult()
    _ = try convert(try written(name, in: folder), to: folder.file("back"), options)
    let original = try SafetensorsDirectory(path: fixture("models/\(name)"))
    let back = try SafetensorsDirectory(path: folder.file("back"))
    let drafts = name == "deepseek_v4-fp4" ? "mtp." : "none"
    #expect(
      Set(back.tensors.map(\.name))
        == Set(original.tensors.map(\.name).filter { !$0.hasPrefix(drafts) }))
    for tensor in back.tensors {
      let old = try #require(original.tensor(tensor.name))
      #expect(old.dtype == tensor.dtype && old.shape == tensor.shape, "\(tensor.name)")
      #expect(old.bytes.array == tensor.bytes.array, "\(tensor.name) is bit-identical")
    }
    // Apart from layers that draft tokens, which are not there, the configuration is the source's too.
    let published = try contents(fixture("models/\(name)/config.json"))
    let bare = try ResultConfig.withoutDrafts(Bytes(published)).array
    let config = modelsWithDrafts.contains(name) ? published : bare
    #expect(try contents(folder.file("back/config.json")) == config)
    #expect((name == "deepseek_v4-fp4" || modelsWithDrafts.contains(name)) == (bare != published))
  }

  @Test func aSplitModelIsOneModel() throws {
    let folder = TemporaryFolder()
    var options = try options("keep")
    options.target = GGUFResult(split: GGUFPlan.Split(maxBytes: 200_000))
    let summary = try convert(try openFixture("olmoe"), to: folder.file("a.gguf"), options)
    #expect(summary.files.count > 1)
    let windows = Windows([(0..<20).map { $0 * 37 % 256 }], context: 20)
    let parts = try Model.open(summary.files[0])
    #expect(try allLogits(parts, windows) == allLogits(try openFixture("olmoe"), windows))
  }

  /// The number of threads changes no byte.
  @Test func threadsChangeNoByte() throws {
    let folder = TemporaryFolder()
    for threads in [1, 3] {
      var options = try options("keep", threads: threads)
      options.target = GGUFResult()
      _ = try convert(try openFixture("deepseek_v3"), to: folder.file("\(threads).gguf"), options)
      options.target = SafetensorsResult(shardBytes: 100_000)
      _ = try convert(try openFixture("gpt_oss"), to: folder.file("\(threads)"), options)
    }
    #expect(try contents(folder.file("1.gguf")) == contents(folder.file("3.gguf")))
    for name in try namesInFolder(folder.file("1")) {
      #expect(try contents(folder.file("1/\(name)")) == contents(folder.file("3/\(name)")), "\(name)")
    }
  }
}

@Suite struct GGUFModelRefusalTests {
  /// A golden file with keys changed, opened.
  private func opening(
    _ file: String = "qwen3moe.bf16", _ change: (inout [(key: String, value: GGUFValue)]) -> Void
  ) throws -> Model {
    let folder = TemporaryFolder()
    try rewrite(fixture("gguf/models/\(file).gguf"), to: folder.file("a.gguf"), change)
    return try Model.open(folder.file("a.gguf"))
  }

  private func code(_ body: () throws -> Model) -> String? {
    do {
      _ = try body()
      return nil
    } catch let error as FormatError {
      return error.code.name
    } catch let error as RequestError {
      return error.kind.rawValue
    } catch {
      return "another error"
    }
  }

  @Test(arguments: [
    ("qwen3moe.block_count", GGUFValue.u32(0), "CFG_VALUE"),
    ("qwen3moe.block_count", .u32(1), "ARCH_UNKNOWN_TENSOR"),
    ("qwen3moe.block_count", .u32(3), "ARCH_INCOMPLETE"), ("qwen3moe.expert_count", .u32(7), "CFG_SHAPE"),
    ("qwen3moe.expert_used_count", .u32(9), "CFG_VALUE"),
    ("qwen3moe.attention.head_count", .u32(0), "CFG_VALUE"),
    ("qwen3moe.attention.head_count", .string("4"), "CFG_VALUE"),
    ("qwen3moe.attention.head_count", .i32(-4), "CFG_VALUE"),
    ("qwen3moe.embedding_length", .u64(.max), "CFG_VALUE"),
    ("qwen3moe.embedding_length", .u32(65), "CFG_SHAPE"),
    ("qwen3moe.attention.layer_norm_rms_epsilon", .f32(.nan), "CFG_VALUE"),
    ("general.architecture", .u32(1), "CFG_VALUE"),
    ("qwen3moe.rope.scaling.type", .string("cubic"), "unsupported"),
    ("qwen3moe.rope.scaling.type", .string("linear"), "CFG_VALUE"),
  ]) func keysThatMakeNoModelAreRefused(key: String, value: GGUFValue, expected: String) throws {
    let found = code {
      let model = try opening { keys in
        keys.removeAll { $0.key == key }
        keys.append((key, value))
      }
      try model.requireForwardPass()
      return model
    }
    #expect(found == expected, "\(key)")
  }

  @Test(arguments: [
    "general.architecture", "qwen3moe.block_count", "qwen3moe.attention.layer_norm_rms_epsilon",
  ])
  func missingKeysAreRefused(key: String) throws {
    #expect(code { try opening { keys in keys.removeAll { $0.key == key } } } == "CFG_VALUE")
  }

  /// A copy of config.json that other programs do not read must not say something else than what they read.
  @Test func aConfigurationThatContradictsTheKeysIsRefused() throws {
    let folder = TemporaryFolder()
    let path = try written("qwen3_moe", in: folder).path
    for (key, value) in [("qwen3moe.rope.freq_base", GGUFValue.f32(5)), ("smelt.config", .string("{}"))] {
      try rewrite(path, to: folder.file("b.gguf")) { keys in
        guard let place = keys.firstIndex(where: { $0.key == key }) else { return }
        keys[place].value = value
      }
      #expect(code { try Model.open(folder.file("b.gguf")) } == "CFG_VALUE", "\(key)")
      removeFile(folder.file("b.gguf"))
    }
  }

  @Test func whatNoContainerHoldsIsRefusedBeforeAByteIsWritten() throws {
    let folder = TemporaryFolder()
    var options = try options("int8-channel")
    options.target = GGUFResult()
    #expect(throws: RequestError.self) {
      _ = try convert(try openFixture("olmoe"), to: folder.file("a.gguf"), options)
    }
    options.target = SafetensorsResult()
    options.recipe = Recipe(try Schemes.named("keep"))
    let error = #expect(throws: RequestError.self) {
      _ = try convert(try Model.open(fixture("gguf/models/olmoe.q8_0.gguf")), to: folder.file("b"), options)
    }
    #expect(error?.kind == .unsupported && error?.problem.contains("q8_0") == true)
    #expect(try namesInFolder(folder.path) == [])
  }

  @Test func aFolderThatIsMoreThanAModelIsNotReplaced() throws {
    let folder = TemporaryFolder()
    var options = try options("keep", overwrite: true)
    options.target = SafetensorsResult()
    let source = try openFixture("olmoe")
    let path = folder.file("out")
    _ = try convert(source, to: path, options)
    _ = try convert(source, to: path, options)
    try writeFile(folder.file("out/mine.txt"), [1], overwrite: false)
    let first = #expect(throws: RequestError.self) { _ = try convert(source, to: path, options) }
    #expect(first?.kind == .cannotCreate && first?.problem.contains("'mine.txt'") == true)
    #expect(pathKind(folder.file("out/mine.txt")) == .file)
    removeFile(folder.file("out/mine.txt"))
    #expect(mkdir(folder.file("out/sub"), 0o700) == 0)
    let error = #expect(throws: RequestError.self) { _ = try convert(source, to: path, options) }
    #expect(error?.kind == .cannotCreate && pathKind(folder.file("out/config.json")) == .file)
    #expect(try namesInFolder(folder.path) == ["out"])
  }

  @Test func aResultInsideItsSourceIsRefused() throws {
    let folder = TemporaryFolder()
    var options = try options("keep")
    options.target = SafetensorsResult()
    _ = try convert(try openFixture("olmoe"), to: folder.file("a"), options)
    let source = try Model.open(folder.file("a"))
    for place in ["a/b", "a"] {
      #expect(throws: (any Error).self) { _ = try convert(source, to: folder.file(place), options) }
    }
    #expect(try namesInFolder(folder.path) == ["a"])
  }
}
