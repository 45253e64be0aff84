// Statistics as tensors and back, refusals, and coverage.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@Suite struct StatisticsTests {
  let entry = StatisticsEntry(
    WeightName("blk.0.ffn_up_exps.weight", expert: 3), groups: 1, columns: 3, absmax: [1, 2, 0.5],
    meanSquare: [0.25, 1.5, 0.125], counts: [7])
  let grouped = StatisticsEntry(
    WeightName("blk.0.attn_output_a.weight"), groups: 2, columns: 2, absmax: [1, 2, 3, 4],
    meanSquare: [5, 6, 7, 8], counts: [9, 10])
  let tokens = ExpertTokens(layer: 4, counts: [0, 12, 3, 12])

  var statistics: Statistics {
    var statistics = Statistics(modelType: "deepseek_v4", tokens: 512, context: 256, sequences: 2)
    statistics.notes = [("text_sha256", "abc")]
    statistics.add([entry, grouped])
    statistics.add([tokens])
    return statistics
  }

  @Test func tensorsAndMetadataComeBack() throws {
    let written = statistics
    let read = try Statistics(tensors: written.tensors, metadata: written.metadata, file: "s.safetensors")
    #expect(read.modelType == "deepseek_v4")
    #expect(read.tokens == 512)
    #expect(read.context == 256)
    #expect(read.sequences == 2)
    #expect(read.notes.map(\.value) == ["abc"])
    #expect(read.metadata.map(\.key) == written.metadata.map(\.key))
    #expect(try read.entry(entry.weight) == entry)
    #expect(try read.entry(grouped.weight) == grouped)
    #expect(try read.entry(WeightName("blk.9.attn_q_a.weight")) == nil)
    #expect(try read.expertTokens() == [tokens])
    // Of 9 and 10 tokens, 5 and 6 may be one and the same, and 7 and 8.
    #expect(try read.importance(grouped.weight)?.values == [5.5, 5.5, 7.5, 7.5])
    #expect(try read.importance(grouped.weight)?.groups == 2)
  }

  /// An entry without the largest magnitudes, and one of sums that are divided when they are read.
  @Test func whatAnImportanceMatrixKnows() throws {
    let bare = StatisticsEntry(
      WeightName("blk.0.attn_k.weight"), groups: 1, columns: 2, absmax: nil, meanSquare: [1, 2], counts: [3])
    var written = Statistics(modelType: "x", tokens: 1, context: 1, sequences: 1)
    written.add([bare])
    #expect(written.tensors.map(\.name) == ["blk.0.attn_k.weight.mean_square", "blk.0.attn_k.weight.count"])
    let read = try Statistics(tensors: written.tensors, metadata: written.metadata)
    #expect(try read.entry(bare.weight) == bare)

    var sums = Statistics(modelType: nil, tokens: 0, context: 0, sequences: 0)
    let values: [Float] = [1, 2, 9, 9, 5, 7]
    sums.add(
      grouped.weight, sums: Bytes(values.withUnsafeBytes { Array($0) }), columns: 2, counts: [3, 0, 2])
    #expect(try sums.entry(grouped.weight)?.meanSquare == [1 / Float(3), 2 / Float(3), 0, 0, 2.5, 3.5])
    #expect(try sums.entry(grouped.weight)?.counts == [3, 0, 2])
    #expect(try sums.importance(grouped.weight) == nil)
    let spec = WeightSpec(grouped.weight, [6, 2], .attention, layer: 0, inputGroups: 3, spellings: [])
    try sums.check(modelType: "whatever", experts: 1, weights: [spec])
    let other = WeightSpec(grouped.weight, [6, 2], .attention, layer: 0, inputGroups: 2, spellings: [])
    let error = #expect(throws: FormatError.self) {
      try sums.check(modelType: "whatever", experts: 1, weights: [other])
    }
    #expect(error?.code.name == "STAT_MISMATCH")
  }

  @Test func namesAreThoseOfTheDocument() {
    #expect(
      statistics.tensors.map(\.name) == [
        "blk.0.ffn_up_exps.weight#3.absmax", "blk.0.ffn_up_exps.weight#3.mean_square",
        "blk.0.ffn_up_exps.weight#3.count", "blk.0.attn_output_a.weight.absmax",
        "blk.0.attn_output_a.weight.mean_square", "blk.0.attn_output_a.weight.count", "blk.4.ffn_exps.tokens",
      ])
    #expect(statistics.tensors[0].bytes.array == [0, 0, 0x80, 0x3F, 0, 0, 0, 0x40, 0, 0, 0, 0x3F])
    #expect(statistics.tensors[2].bytes.array == [7, 0, 0, 0, 0, 0, 0, 0])
  }

  /// Each case breaks one rule of Formats/statistics.md.
  @Test(
    arguments: [
      "no format", "other format", "no model_type", "negative tokens", "unknown name", "no sibling",
      "wrong dtype", "wrong rank", "sibling of another shape", "bytes too few", "twice", "empty",
    ])
  func brokenRulesAreRefused(_ fault: String) throws {
    var tensors = statistics.tensors
    var metadata = statistics.metadata
    func replace(
      _ index: Int, name: String? = nil, dtype: DType? = nil, shape: Shape? = nil, bytes: Int? = nil
    ) {
      let old = tensors[index]
      let shape = shape ?? old.shape
      tensors[index] = StatisticsTensor(
        name: name ?? old.name, dtype: dtype ?? old.dtype, shape: shape,
        bytes: Bytes([UInt8](repeating: 0, count: bytes ?? (dtype ?? old.dtype).byteCount(shape.count)!)))
    }
    switch fault {
    case "no format": metadata.removeFirst()
    case "other format": metadata[0].value = "smelt.statistics/2"
    case "no model_type": metadata.remove(at: 1)
    case "negative tokens": metadata[2].value = "-1"
    case "unknown name": replace(0, name: "blk.0.ffn_up_exps.weight#3.median")
    case "no sibling": tensors.remove(at: 1)
    case "wrong dtype": replace(0, dtype: .f64)
    case "wrong rank": replace(0, shape: [3])
    case "sibling of another shape": replace(1, shape: [1, 4])
    case "bytes too few": replace(0, bytes: 11)
    case "twice": tensors.append(tensors[6])
    default: for index in 0..<2 { replace(index, shape: [1, 0]) }
    }
    let error = #expect(throws: FormatError.self) {
      try Statistics(tensors: tensors, metadata: metadata, file: "s.safetensors")
    }
    #expect(error?.code.name == "STAT_FORMAT")
    #expect(error?.file == "s.safetensors")
    #expect(error?.subject != nil)
  }

  @Test(arguments: [Float.nan, .infinity, -1]) func valuesNoCalibrationGivesAreRefused(_ bad: Float) throws {
    let broken = StatisticsEntry(
      entry.weight, groups: 1, columns: 3, absmax: [1, 1, 1], meanSquare: [1, bad, 1], counts: [7])
    let read = try Statistics(
      tensors: broken.tensors(),
      metadata: Statistics(modelType: "x", tokens: 1, context: 1, sequences: 1).metadata)
    #expect(throws: FormatError.self) { try read.entry(entry.weight) }
    let error = #expect(throws: FormatError.self) { try read.importance(entry.weight) }
    #expect(error?.code.name == "STAT_FORMAT")
    #expect(error?.problem.hasPrefix("value 1 is ") == true)
  }

  @Test func statisticsOfAnotherModelAreRefused() throws {
    func specs(_ columns: Int, groups: Int = 2) -> [WeightSpec] {
      [
        WeightSpec(entry.weight, [5, columns], .routedUp, layer: 0, spellings: []),
        WeightSpec(grouped.weight, [4, 2], .attention, layer: 0, inputGroups: groups, spellings: []),
      ]
    }
    try statistics.check(modelType: "deepseek_v4", experts: 4, weights: specs(3))
    let faults: [(String, Int, [WeightSpec], String)] = [
      ("mixtral", 4, specs(3), "model_type"), ("deepseek_v4", 5, specs(3), "blk.4.ffn_exps.tokens"),
      ("deepseek_v4", 4, specs(4), "blk.0.ffn_up_exps.weight#3.absmax"),
      ("deepseek_v4", 4, specs(3, groups: 4), "blk.0.attn_output_a.weight.absmax"),
      ("deepseek_v4", 4, [specs(3)[0]], "blk.0.attn_output_a.weight"),
    ]
    for (type, experts, weights, subject) in faults {
      let error = #expect(throws: FormatError.self) {
        try statistics.check(modelType: type, experts: experts, weights: weights)
      }
      #expect(error?.code.name == "STAT_MISMATCH")
      #expect(error?.subject == subject)
    }
  }

  @Test func coverageNamesWhatWasNotReached() {
    let coverage = Coverage([
      ExpertTokens(layer: 0, counts: [5, 0, 3, 0]), ExpertTokens(layer: 11, counts: [2, 1, 1, 4]),
      ExpertTokens(layer: 12, counts: []),
    ])
    #expect(coverage.layers.count == 2)
    #expect(coverage.layers[0].neverReached == [1, 3])
    #expect((coverage.layers[1].fewest, coverage.layers[1].fewestExpert) == (1, 1))
    #expect((coverage.layers[1].most, coverage.layers[1].mostExpert) == (4, 3))
    #expect(coverage.neverReached == 2)
    #expect(
      coverage.text == """
        layer  experts  never reached  fewest tokens  mean   most tokens
            0        4              2   0 (expert 1)     2  5 (expert 0)
           11        4              0   1 (expert 1)     2  4 (expert 3)
        2 of 8 experts were never reached

        """)
    #expect(
      coverage.json.text()
        == #"{"experts":8,"never_reached":2,"layers":[{"layer":0,"experts":4,"never_reached":[1,3],"fewest":0,"#
        + #""fewest_expert":1,"most":5,"most_expert":0,"total":8},{"layer":11,"experts":4,"never_reached":[],"#
        + #""fewest":1,"fewest_expert":1,"most":4,"most_expert":3,"total":8}]}"#)
  }
}
