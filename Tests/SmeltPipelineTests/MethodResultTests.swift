// Methods into directories that engines load: the numbers are those of an ingot by the same method, config.json says what
// they are, and threads change no byte.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// A method, its rounds of refinement, and what its ledger says of a weight.
private let methods: [(name: String, distill: Int, note: String)] = [
  ("gptq", 0, "gptq: "), ("awq", 0, "awq"), ("smooth", 0, "smooth"), ("rtn", 2, "distilled: "),
]

@Suite struct MethodResultTests {
  @discardableResult
  private func write(
    _ model: Model, _ scheme: String, _ method: (name: String, distill: Int, note: String), to path: String,
    _ target: any ResultTarget, threads: Int
  ) throws -> ConvertSummary {
    var chosen = try MethodOptions(named: method.name)
    chosen.distillRounds = method.distill
    chosen.minTokens = 4
    var options = try options(scheme, threads: threads)
    options.target = target
    return try quantize(
      model, to: path, calibration: someWindows(model, count: 3, context: 24),
      textPath: fixture("models/tiny-v4/calibration.txt"), choosesObserver: true, method: chosen, options
    ).1
  }

  @Test(
    arguments: ["gptq", "awq", "smooth", "rtn"],
    [("int8-channel", "deepseek_v4"), ("int4-group:32", "qwen3_moe")])
  func aDirectoryHoldsTheNumbersOfTheIngot(name: String, kind: (scheme: String, family: String)) throws {
    let folder = TemporaryFolder()
    let model = try openFixture(kind.family)
    let method = try #require(methods.first { $0.name == name })
    let (scheme, isINT8) = (kind.scheme, kind.scheme == "int8-channel")
    for threads in [1, 2] {
      try write(
        model, scheme, method, to: folder.file("out-\(threads)"),
        SafetensorsResult(shardBytes: 100_000, schemeWord: scheme), threads: threads)
    }
    try write(model, scheme, method, to: folder.file("r.ingot"), IngotResult(.raw), threads: 2)
    _ = try convert(model, to: folder.file("plain.ingot"), try options(scheme))

    let result = try Model.open(folder.file("out-1"))
    let ingot = try Model.open(folder.file("r.ingot"))
    _ = try checkModel(result, RunOptions())
    try expectEqual(ingot, result)
    let plain = try Model.open(folder.file("plain.ingot"))
    let changed = try model.family.weights.filter {
      let (a, b) = (try result.weights.weight($0.name), try plain.weights.weight($0.name))
      return !(a.encoding is IntegerTable) && a.decode() != b.decode()
    }
    #expect(!changed.isEmpty, "\(name) chose what rounding to nearest chooses")
    let notes = try #require(try ledger(in: ingot)["ledger"]?.array).compactMap { $0["note"]?.string }
    #expect(notes.contains { $0.contains(method.note) }, "\(notes.first ?? "")")

    let section = try section(folder.file("out-1"))
    #expect(section["quant_method"]?.string == "compressed-tensors")
    #expect(section["format"]?.string == (isINT8 ? "int-quantized" : "pack-quantized"))
    let groups = try #require(section["config_groups"]?.object)
    #expect(groups.keys == ["group_0"])
    let group = try #require(groups.values.first)
    #expect(group["targets"]?.array?.compactMap(\.string) == ["Linear"])
    #expect(group["weights"]?["num_bits"]?.integer == (isINT8 ? 8 : 4))
    #expect(group["weights"]?["type"]?.string == "int")
    #expect(group["weights"]?["symmetric"]?.bool == true)
    #expect(group["weights"]?["strategy"]?.string == (isINT8 ? "channel" : "group"))
    #expect(group["weights"]?["group_size"]?.integer == (isINT8 ? nil : 32))
    #expect((group["input_activations"]?["dynamic"]?.bool ?? false) == isINT8)
    let ignore = try #require(section["ignore"]?.array).compactMap(\.string)
    #expect(ignore.contains(kind.family == "deepseek_v4" ? "head" : "lm_head"))
    #expect(ignore.contains { $0.hasSuffix(".gate") }, "the router stays as it is")

    let files = try namesInFolder(folder.file("out-1"))
    #expect(files.contains("model.safetensors.index.json"))
    #expect(try namesInFolder(folder.file("out-2")) == files)
    // The card's title is the folder's name, and the list holds its hash.
    for file in files where !["README.md", "smelt-manifest.json"].contains(file) {
      let isSame = try contents(folder.file("out-1/\(file)")) == contents(folder.file("out-2/\(file)"))
      #expect(isSame, "\(file)")
    }
    #expect(Set(try names(folder)) == ["out-1", "out-2", "r.ingot", "plain.ingot"])
  }
}
