// Rope types against transformers: one model, `llama`, with other settings of its rotation, short and long sequences in one batch.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltModels
@testable import SmeltPipeline

private let cases = [
  "default", "linear", "linear-parameters", "dynamic", "yarn", "yarn-outer", "llama3", "longrope",
  "longrope-outer", "longrope-attention",
]

/// The members of config.json that a case changes; nil takes one out.
private func changes(_ name: String) throws -> [(String, JSON?)] {
  let all = try JSON.scan(Bytes(try contents(fixture("ropes/cases.json"))))
  let object = try #require(all[name]?.object)
  return zip(object.keys, object.values).map { ($0, $1.isNull ? nil : $1) }
}

private func variant(_ name: String) throws -> Variant {
  var variant = try Variant("models/llama")
  for (key, value) in try changes(name) { variant.set(key, value) }
  return variant
}

@Suite struct RopeTypeTests {
  private func reference() throws -> Reference { try Reference(fixture("ropes/reference.safetensors")) }

  @Test func everyCaseIsTried() throws {
    let all = try JSON.scan(Bytes(try contents(fixture("ropes/cases.json"))))
    #expect(Set(all.object?.keys ?? []) == Set(cases))
  }

  @Test(arguments: cases)
  func frequenciesAndMagnitudesEqualTheReference(name: String) throws {
    let reference = try reference()
    let folder = TemporaryFolder()
    let model = try variant(name).open(in: folder)
    let rope = try #require(model.family as? any DecoderFamily).decoder.attention.rope
    for (length, count) in [("short", 48), ("long", 160)] {
      let expected = try #require(reference.floats("\(name).\(length).frequencies"))
      let found = rope.frequencies(length: count)
      #expect(found.count == expected.count)
      for (found, expected) in zip(found, expected) {
        #expect(abs(found - expected) <= 2e-6 * expected, "\(length): \(found), expected \(expected)")
      }
    }
    let magnitude = try #require(reference.floats("\(name).magnitude")).first ?? 0
    #expect(abs(rope.magnitude - magnitude) <= 1e-6)
  }

  /// Each sequence has the frequencies of its own length, whatever runs beside it.
  @Test(arguments: cases)
  func logitsEqualTheReference(name: String) throws {
    let reference = try reference()
    let folder = TemporaryFolder()
    let model = try variant(name).open(in: folder)
    let sequences = try ["short", "long"].map { try reference.sequences("\($0).input_ids")[0] }
    let found = try allLogits(model, Windows(sequences, context: 160))
    let width = model.family.dimensions.vocabulary
    for (length, end) in [("short", 48), ("long", 208)] {
      let expected = try #require(reference.floats("\(name).\(length).logits"))
      let rows = found[(end - 8) * width..<end * width]
      let worst = zip(rows, expected).map { abs($0 - $1) }.max() ?? .infinity
      #expect(expected.count == rows.count && worst <= 1e-4, "\(name) \(length) differs by \(worst)")
    }
  }

  /// What GGUF has keys or tensors for comes back from them alone, to the bit.
  @Test(arguments: ["default", "linear", "linear-parameters", "yarn", "llama3", "longrope", "longrope-outer"])
  func keysAndFactorsSayWhatTheConfigurationSays(name: String) throws {
    let folder = TemporaryFolder()
    let source = try variant(name).open(in: folder, "source")
    var options = try options("keep", exactOnly: true)
    options.target = GGUFResult()
    _ = try convert(source, to: folder.file("a.gguf"), options)
    try rewrite(folder.file("a.gguf"), to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    let windows = Windows([(0..<150).map { $0 * 37 % 256 }, (0..<20).map { $0 * 11 % 256 }], context: 150)
    let expected = try allLogits(source, windows)
    #expect(try allLogits(try Model.open(folder.file("a.gguf")), windows) == expected)
    let bare = try allLogits(try Model.open(folder.file("bare.gguf")), windows)
    // Llama 3's bounds of this case are not those of its models: its factors are float32.
    let worst = zip(bare, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(name == "llama3" ? worst <= 1e-4 : bare == expected, "\(name) differs by \(worst)")
  }

  /// Llama 3's own bounds are found again, so that a checkpoint made of the file says `llama3`.
  @Test func factorsOfLlama3AreRecognized() throws {
    let folder = TemporaryFolder()
    var options = try options("keep", exactOnly: true)
    options.target = GGUFResult()
    _ = try convert(try openFixture("llama"), to: folder.file("a.gguf"), options)
    let file = try GGUFFile(path: folder.file("a.gguf"))
    #expect(file.tensor("rope_freqs.weight")?.shape == [8])
    try rewrite(file.path, to: folder.file("bare.gguf")) { keys in
      keys.removeAll { $0.key.hasPrefix("smelt.") }
    }
    let model = try Model.open(folder.file("bare.gguf"))
    #expect(model.leftOut.map(\.rule) == ["rotary-frequencies"])
    let config = try parseConfig(try #require(try model.smallFile("config.json")), file: "config.json")
    let expected: JSON = [
      "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 64,
    ]
    #expect(config["rope_scaling"]?.text() == expected.text())
  }

  /// Factors that other programs read must not say something else than our copy of config.json.
  @Test func factorsThatContradictTheConfigurationAreRefused() throws {
    let folder = TemporaryFolder()
    var options = try options("keep", exactOnly: true)
    options.target = GGUFResult()
    _ = try convert(try openFixture("llama"), to: folder.file("a.gguf"), options)
    let file = try GGUFFile(path: folder.file("a.gguf"))
    let place = try #require(file.tensor("rope_freqs.weight"))
    var bytes = try contents(file.path)
    bytes[place.offset + 2] ^= 0x40
    try writeFile(folder.file("b.gguf"), bytes, overwrite: false)
    let error = #expect(throws: FormatError.self) { _ = try Model.open(folder.file("b.gguf")) }
    #expect(error?.code == .configValue && error?.subject == "rope_freqs.weight")
  }

  @Test(
    arguments: [
      (["rope_type": "linear"], "factor"), (["rope_type": "linear", "factor": 0], "factor"),
      (["rope_type": "dynamic", "factor": 0.5], "factor"),
      (
        ["rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4], "high_freq_factor"
      ),
      (["rope_type": "llama3", "factor": 8, "high_freq_factor": 4], "low_freq_factor"),
      (["rope_type": "longrope", "long_factor": [1]], "short_factor"),
      (["rope_type": "longrope", "short_factor": [1], "long_factor": [1]], "short_factor"),
      (
        ["rope_type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [1, "a"]],
        "long_factor"
      ),
      (
        ["rope_type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1, 1, 0], "long_factor": [1]],
        "short_factor"
      ),
    ] as [(JSON, String)])
  func impossibleSettingsAreRefused(scaling: JSON, key: String) throws {
    var variant = try Variant("models/llama")
    variant.set("rope_scaling", scaling)
    let folder = TemporaryFolder()
    let error = #expect(throws: FormatError.self) { _ = try variant.open(in: folder) }
    #expect(error?.code == .configValue && error?.subject == key)
  }

  @Test func anUnknownTypeIsNotSupported() throws {
    var variant = try Variant("models/llama")
    variant.set("rope_scaling", ["rope_type": "cubic"])
    let folder = TemporaryFolder()
    let model = try variant.open(in: folder)
    let error = #expect(throws: RequestError.self) { try model.requireForwardPass() }
    #expect(error?.kind == .unsupported && error?.problem.contains("longrope") == true)
  }
}
