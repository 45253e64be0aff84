// What a checkpoint declares of activations and caches, through an ingot and back; and what a GGUF file loses of it.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

/// A directory's tensors by name.
private func bytes(_ path: String) throws -> [String: [UInt8]] {
  try SafetensorsDirectory(path: path).tensors.reduce(into: [:]) { $0[$1.name] = $1.bytes.array }
}

/// A conversion to GGUF of nothing that is asked to change.
private func toGGUF(exactOnly: Bool = false) throws -> ConvertOptions {
  var options = try options("keep", exactOnly: exactOnly)
  options.target = GGUFResult()
  return options
}

/// An ingot of one weight after another, with a file of declarations.
private func ingot(_ path: String, _ model: Model, _ declarations: String) throws {
  var writer = try IngotWriter(path: path, overwrite: false)
  let plan = try Plan(model, try options("keep"))
  for slab in plan.slabs {
    let weight = try model.weights.weight(plan.weights[slab.weight].stored.spec.name)
    let place = ExpertName(slab.name)
    try writer.beginWeight(
      name: slab.name, shape: slab.shape, encoding: slab.encoding.name, layer: place.layer,
      expert: place.expert)
    for part in weight.parts {
      let form = try FrameCodec.choose(content: part.bytes, dtype: part.dtype, mode: .raw)
      try writer.beginPart(part.name, dtype: part.dtype, shape: part.shape, form: form)
      for index in 0..<FrameCodec.chunkCount(part.bytes.count) {
        let range = FrameCodec.chunkRange(index, of: part.bytes.count)
        try writer.append(try FrameCodec.encode(part.bytes[range], form))
      }
      try writer.endPart()
    }
    writer.endWeight()
  }
  for (name, bytes) in try model.resultFiles(holdsDrafts: true) {
    try writer.addFile(name: name, bytes: bytes, mode: .small)
  }
  try writer.addFile(
    name: RecordedScales.fileName, bytes: Bytes(Array(declarations.utf8)), mode: .small)
  _ = try writer.complete(metadata: try provenance(model, try options("keep")))
  try writer.commit()
}

@Suite struct RecordedScaleTests {
  static let cases: [(word: String, layout: String?, cache: String?)] = [
    ("FP8", "compressed-tensors", "fp8"), ("FP8", "modelopt", "fp8"), ("NVFP4", "compressed-tensors", nil),
    ("NVFP4", "modelopt", "fp8"), ("W8A8", nil, nil), ("W4AFP8", nil, nil), ("FP8_DYNAMIC", nil, nil),
    ("FP8_BLOCK", nil, nil), ("W4A16", nil, nil), ("fp8-channel@a16", nil, nil), ("mxfp8", "modelopt", nil),
    ("MXFP4XFP8", nil, nil),
  ]

  @Test(arguments: cases) func anIngotKeepsThem(_ row: (word: String, layout: String?, cache: String?))
    throws
  {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    let isStatic = CompressedLayout.meansStatic(row.word)
    let statistics = isStatic ? try learned("qwen3_moe", in: folder) : nil
    let word = row.word.split(separator: "@").first.map(String.init) ?? row.word
    try writeDirectory(
      source, word, to: folder.file("a"), statistics, layout: row.layout,
      activations: row.word.hasSuffix("@a16") ? "none" : nil, cache: row.cache)
    let first = try Model.open(folder.file("a"))
    try writeDirectory(first, "keep", to: folder.file("b"), exactOnly: true)
    let kept = try convert(
      first, to: folder.file("x.ingot"), try options("keep", exactOnly: true))
    #expect(kept.leftOut.isEmpty, "\(kept.leftOut.map(\.text))")
    let middle = try Model.open(folder.file("x.ingot"))
    let (was, now) = (try first.declaredScales(), try middle.declaredScales())
    #expect(Set(was.inputs.keys) == Set(now.inputs.keys) && was.caches == now.caches)
    #expect(was.inputs.isEmpty == ["W4A16", "fp8-channel@a16"].contains(row.word))
    #expect(was.caches.isEmpty == (row.cache == nil) && now.saysAll)
    for (name, input) in was.inputs {
      let other = try #require(now.inputs[name])
      #expect(input.form == other.form && input.isFloat == other.isFloat && input.scale == other.scale)
      #expect(input.fused == other.fused && (input.scale != nil) == isStatic)
    }
    // Another ingot, of parts, and back: what the directory itself gives.
    var split = try options("keep")
    split.target = IngotResult(.fast, maxPartBytes: 400_000)
    _ = try convert(middle, to: folder.file("y.ingot"), split)
    let parts = try namesInFolder(folder.path).filter { $0.hasPrefix("y") }.sorted()
    let last = try Model.open(folder.file(try #require(parts.first)))
    try writeDirectory(last, "keep", to: folder.file("c"), exactOnly: true)
    #expect(try bytes(folder.file("c")) == bytes(folder.file("b")))
    #expect(try section(folder.file("c")).text() == section(folder.file("b")).text())
    #expect(!(try namesInFolder(folder.file("c"))).contains(RecordedScales.fileName))
  }

  /// Weights that are converted meet other activations than the source's.
  @Test func convertedWeightsHaveNone() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    try writeDirectory(source, "FP8", to: folder.file("a"), try learned("qwen3_moe", in: folder))
    let first = try Model.open(folder.file("a"))
    let made = try convert(first, to: folder.file("x.ingot"), try options("bf16"))
    #expect(try Model.open(folder.file("x.ingot")).declaredScales().inputs.isEmpty)
    #expect(made.leftOut.map(\.rule) == [Layouts.activationScale.name])
    // Nothing is declared of plain weights.
    _ = try convert(source, to: folder.file("p.ingot"), try options("keep"))
    #expect(try IngotFile(path: folder.file("p.ingot")).file(RecordedScales.fileName) == nil)
  }

  @Test func aGGUFFileLosesThemAndSaysSo() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("qwen3_moe")
    try writeDirectory(
      source, "FP8", to: folder.file("a"), try learned("qwen3_moe", in: folder), cache: "fp8")
    try writeDirectory(source, "W8A8", to: folder.file("d"))
    for (path, count) in [(folder.file("a"), true), (folder.file("d"), false)] {
      let model = try Model.open(path)
      let weights = try model.declaredScales().inputs.count
      let summary = try convert(
        model, to: path + ".gguf", try toGGUF())
      let warning = try #require(summary.warnings.first { $0.contains("GGUF has no place") })
      #expect(warning.contains("activations of \(weights) weights"))
      #expect(warning.contains("\(weights) static scales") == count)
      #expect(warning.contains("input_scale") == count && warning.contains("4 layers") == count)
      let error = #expect(throws: RequestError.self) {
        try convert(
          model, to: path + "-exact.gguf", try toGGUF(exactOnly: true))
      }
      #expect(error?.kind == .usage && error?.problem.contains("\(weights) weights") == true)
      #expect(error?.help?.contains(".ingot") == true)
      // The same from an ingot.
      _ = try convert(model, to: path + ".ingot", try options("keep"))
      let again = try convert(
        try Model.open(path + ".ingot"), to: path + "-i.gguf", try toGGUF())
      #expect(again.warnings.contains { $0.contains("activations of \(weights) weights") })
    }
    let plain = try convert(
      source, to: folder.file("p.gguf"), try toGGUF(exactOnly: true))
    #expect(!plain.warnings.contains { $0.contains("GGUF has no place") })
  }

  @Test(arguments: [
    ("{", "no JSON"), (#"{"schema":"smelt.activations/9"}"#, "smelt.activations/9"),
    (#"{"schema":"smelt.activations/1","says_all":true,"weights":{}}"#, "'caches'"),
    (row(#""blk.0.nothing.weight":{"form":"token","type":"int"}"#), "blk.0.nothing.weight"),
    (row(#""blk.0.attn_q.weight":{"form":"row","type":"int"}"#), "'row'"),
    (row(#""blk.0.attn_q.weight":{"form":"group","type":"int","columns":0}"#), "'columns'"),
    (row(#""blk.0.attn_q.weight":{"form":"token","type":"bits"}"#), "'type'"),
    (row(#""blk.0.attn_q.weight":{"form":"tensor","type":"float","scale":-1}"#), "-1"),
    (row(#""blk.0.attn_q.weight":{"form":"local","type":"float","divisor":"x"}"#), "string"),
    (row("", #"{"layer":0,"keys":1}"#), "values of layer 0"),
    (row("", #"{"keys":1,"values":1}"#), "without a layer"),
    (row("", #"{"layer":0,"keys":1,"values":1},{"layer":0,"keys":1,"values":1}"#), "layer of its own"),
  ])
  func whatNobodyWritesIsRefused(_ text: String, says: String) throws {
    let folder = TemporaryFolder()
    try ingot(folder.file("x.ingot"), try openFixture("qwen3_moe"), text)
    let model = try Model.open(folder.file("x.ingot"))
    let error = #expect(throws: FormatError.self) { try model.declaredScales() }
    #expect(error?.description.contains(says) == true && error?.subject == RecordedScales.fileName)
    let isScale = ["-1", "string", "values of layer 0"].contains(says)
    #expect(error?.code == (isScale ? .scaleValue : .ingotIndex))
  }
}

/// A file of declarations with these weights and caches.
private func row(_ weights: String, _ caches: String = "") -> String {
  #"{"schema":"smelt.activations/1","says_all":true,"weights":{\#(weights)},"caches":[\#(caches)]}"#
}
