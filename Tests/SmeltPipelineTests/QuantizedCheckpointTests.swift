// A whole model published quantized: the numbers of an int8-channel ingot written out as compressed-tensors checkpoints, whose
// logits, plans and conversions must be the ingot's own.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct QuantizedCheckpointTests {
  /// How the codes are published.
  enum Form: String, CaseIterable, Sendable {
    /// I8 as they are: lent.
    case plain = "int-quantized"
    /// Words of bytes offset by 128: put in order.
    case packed = "pack-quantized"
  }

  @Test(arguments: Form.allCases)
  func logitsAndConversionsAreTheIngots(_ form: Form) throws {
    let folder = TemporaryFolder()
    let source = try openFixture("mixtral")
    _ = try convert(source, to: folder.file("int8.ingot"), try options("int8-channel"))
    let ingot = try Model.open(folder.file("int8.ingot"))
    let directory = TemporaryFolder()
    try publish(ingot, source, form, in: directory)

    let model = try Model.open(directory.path)
    let windows = try referenceWindows("mixtral")
    let expected = try allLogits(ingot, windows)
    #expect(try allLogits(model, windows) == expected)

    let plan = try Plan(model, try options("keep"))
    let scale = try #require(plan.ledger.first { $0.fate == .dropped })
    #expect(plan.dropped == 1 && scale.rule == "activation-scale" && scale.source.hasSuffix(".input_scale"))
    let tensors = try SafetensorsFile(path: directory.file("model.safetensors")).tensors
    #expect(Set(plan.ledger.map(\.source)) == Set(tensors.map(\.name)))
    #expect(plan.bytesIn == tensors.reduce(0) { $0 + $1.bytes.count })

    for threads in [1, 3] {
      _ = try convert(
        model, to: folder.file("kept\(threads).ingot"),
        try options("keep", compression: .fast, threads: threads))
    }
    #expect(try contents(folder.file("kept1.ingot")) == contents(folder.file("kept3.ingot")))
    let kept = try Model.open(folder.file("kept1.ingot"))
    #expect(try allLogits(kept, windows) == expected)
    #expect(try kept.storedWeights().map(\.encoding.name) == ingot.storedWeights().map(\.encoding.name))
    // What is kept is planned to the byte, though the words of the source are no part of the result.
    #expect(plan.bytesOut == (try kept.storedWeights().reduce(0) { $0 + $1.contentBytes }))
  }

  /// Writes the ingot's weights under the source's names, quantized ones as compressed-tensors publishes them.
  private func publish(_ ingot: Model, _ source: Model, _ form: Form, in folder: TemporaryFolder) throws {
    var tensors: [(SafetensorsWriter.Declaration, [UInt8])] = []
    for spec in source.family.weights {
      let weight = try ingot.weights.weight(spec.name)
      let name = spec.spellings[0].tensor
      let module = name.replacing(".weight", with: "")
      guard weight.encoding is INT8 else {
        tensors.append((.init(name, weight.values.dtype, weight.shape), weight.values.bytes.array))
        continue
      }
      let (rows, columns) = (weight.rows, weight.columns)
      let codes = weight.values.bytes.array
      if form == .plain {
        tensors.append((.init(name, .i8, weight.shape), codes))
      } else {
        let words = (columns + 3) / 4
        var packed = [UInt8](repeating: 0x80, count: rows * words * 4)
        for row in 0..<rows {
          for column in 0..<columns {
            packed[row * words * 4 + column] = codes[row * columns + column] ^ 0x80
          }
        }
        tensors.append((.init("\(module).weight_packed", .i32, [rows, words]), packed))
        let stated = [rows, columns].flatMap { size in
          (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
        }
        tensors.append((.init("\(module).weight_shape", .i64, [2]), stated))
      }
      let scales = try #require(weight.part(.scales))
      tensors.append((.init("\(module).weight_scale", scales.dtype, [rows, 1]), scales.bytes.array))
    }
    tensors.append((.init("model.layers.0.self_attn.q_proj.input_scale", .f32, [1]), [0, 0, 0x80, 0x3F]))
    var writer = try SafetensorsWriter(path: folder.file("model.safetensors"), tensors: tensors.map(\.0))
    for (declaration, bytes) in tensors { try writer.write(declaration.name, bytes) }
    try writer.commit()
    let config = String(decoding: try contents(fixture("models/mixtral/config.json")), as: UTF8.self)
    let quantization = """
      , "quantization_config": {"quant_method": "compressed-tensors", "format": "\(form.rawValue)", "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights":
          {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": true}}}}}
      """
    let end = try #require(config.lastIndex(of: "}"))
    try writeFile(folder.file("config.json"), Array((config[..<end] + quantization).utf8), overwrite: false)
  }
}
