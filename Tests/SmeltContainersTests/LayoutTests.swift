// Every published layout against reference decoders, bit for bit: the checkpoints of Fixtures/layouts, which
// compressed-tensors and numpy made.

import SmeltContainers
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct LayoutTests {
  @Test func allFixturesAreThere() {
    #expect(
      LayoutFixture.names == [
        "awq", "compressed-mixed", "compressed-w4a16", "deepseek", "gptq", "gptq-act-order", "gptq-v2",
        "modelopt-fp8", "modelopt-nvfp4", "mxfp4-blocks", "plain-fused",
      ])
  }

  /// Each weight is read as the encoding that it should be, and decodes to the reference's bits.
  @Test(arguments: LayoutFixture.names)
  func numbersAreThoseOfTheReference(_ name: String) throws {
    let fixture = try LayoutFixture(name)
    for item in fixture.cases {
      let joined = try #require(try fixture.join(item.request), "\(item.key)")
      #expect(joined.encoding.name == item.encoding, "\(item.key)")
      #expect(joined.tensors.map(\.name).sorted() == item.took.sorted(), "\(item.key)")
      #expect(joined.tensors[0].name == joined.name)
      let weight = try joined.weight()
      try weight.validate()
      #expect(weight.shape == item.request.shape)
      let expected = try fixture.expected(item.key)
      #expect(weight.decode().map(\.bitPattern) == expected.map(\.bitPattern), "\(item.key)")
      #expect(Set(expected).count > 4, "the reference's numbers differ")
    }
  }

  /// What headers promised is what reading gives: an ingot's layout is planned from the promise.
  @Test(arguments: LayoutFixture.names)
  func partsAreKnownBeforeTheyAreRead(_ name: String) throws {
    let fixture = try LayoutFixture(name)
    for item in fixture.cases {
      let joined = try #require(try fixture.join(item.request))
      let weight = try joined.weight()
      #expect(joined.parts.map(\.name) == weight.parts.map(\.name), "\(item.key)")
      for (promised, found) in zip(joined.parts, weight.parts) {
        #expect(promised.dtype == found.dtype && promised.shape == found.shape, "\(item.key)")
        #expect(promised.byteCount == found.bytes.count, "\(item.key)")
      }
      #expect(joined.byteCount == weight.byteCount)
      joined.evict()
      #expect(try joined.weight().decode() == weight.decode())
    }
  }

  /// Every tensor is a part of a weight, or a scale of activations.
  @Test(arguments: LayoutFixture.names)
  func everyTensorIsAccountedFor(_ name: String) throws {
    let fixture = try LayoutFixture(name)
    let config = try fixture.quantization()
    let joined = try fixture.cases.compactMap { try fixture.join($0.request) }
    let used = Set(joined.flatMap { $0.tensors.map(\.name) })
    for tensor in fixture.tensors where !used.contains(tensor.name) {
      #expect(Layouts.isActivationScale(tensor, config), "\(tensor.name)")
    }
    try config.check(fixture.cases.map(\.request.place), in: fixture)
    let plain = try QuantizationConfig(config: JSON(members: []), file: "config.json")
    #expect(
      !fixture.tensors.contains { Layouts.isActivationScale($0, plain) }, "only quantized models have them")
  }

  /// A stacked tensor's weights take of it what is theirs: all together, all of it.
  @Test(arguments: ["mxfp4-blocks", "plain-fused", "deepseek"])
  func sharesOfStackedTensorsAddUp(_ name: String) throws {
    let fixture = try LayoutFixture(name)
    for tensor in fixture.tensors where tensor.shape.rank >= 2 {
      var total = 0
      var stack = 0
      for item in fixture.cases where item.took.contains(tensor.name) && !item.key.hasPrefix("rows.0.") {
        guard let joined = try fixture.join(item.request) else { continue }
        total += joined.tensors.first { $0.name == tensor.name }?.byteCount ?? 0
        stack = max(stack, item.request.place.stackIndex == nil ? 0 : tensor.shape.dimensions[0])
      }
      guard stack > 0, !tensor.name.hasSuffix(".rows") else { continue }
      #expect(total * stack == tensor.bytes.count * min(2, stack), "\(tensor.name): two experts of \(stack)")
    }
  }

  /// Reading is lent where the published order is ours, so that a pass copies nothing.
  @Test func onlyOtherOrdersAreCopied() throws {
    for (name, built) in [
      ("compressed-mixed", ["int8.group12.zero", "int8.channel", "int4.group12", "int4.group32.zero"]),
      ("compressed-w4a16", []), ("deepseek", []), ("modelopt-nvfp4", []), ("gptq", ["int4.group32.zero"]),
    ] {
      let fixture = try LayoutFixture(name)
      for item in fixture.cases {
        let joined = try #require(try fixture.join(item.request))
        let isOdd = item.request.place.tensor.contains("3.up_proj") || item.encoding != "int8.channel"
        #expect(joined.isBuilt == (built.contains(item.encoding) && isOdd), "\(item.key)")
      }
    }
  }

  /// GPTQ without desc_act may lack its index; with one in order it is taken and says nothing.
  @Test func anIndexInOrderIsNotNeeded() throws {
    var fixture = try LayoutFixture("gptq")
    let item = fixture.cases[0]
    let with = try #require(try fixture.join(item.request)).weight().decode()
    fixture.remove("model.layers.0.mlp.experts.3.w1.g_idx")
    let without = try #require(try fixture.join(item.request))
    #expect(try without.weight().decode() == with && without.tensors.count == 3)
  }

  /// Zero points that a symmetric weight stores are applied, and are zero.
  @Test func zeroPointsOfSymmetricWeightsAreTaken() throws {
    var fixture = try LayoutFixture("compressed-mixed")
    let module = "model.layers.0.self_attn.q_proj"
    let item = try #require(fixture.cases.first { $0.key == module + ".weight" })
    let scale = try #require(fixture.tensor(module + ".weight_scale"))
    fixture.tensors.append(
      TensorInfo(
        name: module + ".weight_zero_point", dtype: .i8, shape: scale.shape, file: scale.file, offset: 0,
        bytes: Bytes([UInt8](repeating: 0, count: scale.shape.count))))
    let joined = try #require(try fixture.join(item.request))
    #expect(joined.encoding.name == "int8.channel.zero" && joined.tensors.count == 3)
    #expect(try joined.weight().decode() == (try fixture.expected(item.key)))
  }

  /// A weight none of whose tensors are there is no error here: another dialect may have it.
  @Test func absentWeightsAreNil() throws {
    for name in LayoutFixture.names {
      let request = WeightRequest(Spelling("model.layers.9.weight"), shape: [4, 4])
      #expect(try LayoutFixture(name).join(request).map(\.name) == nil)
    }
  }
}
