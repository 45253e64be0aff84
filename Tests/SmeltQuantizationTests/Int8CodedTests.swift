// Codes for an entropy coder: the step gives the bits that were asked for, nothing is clipped, and the estimate of what a
// Huffman coder needs is a Huffman tree's.

import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

@testable import SmeltQuantization

/// The mean length of a Huffman code, by joining the two rarest again and again.
private func huffmanBits(_ codes: [Int8]) -> Double {
  var weights = Array(Dictionary(grouping: codes) { $0 }.mapValues(\.count).values)
  var sum = 0
  while weights.count > 1 {
    weights.sort(by: >)
    let joined = weights.removeLast() + weights.removeLast()
    weights.append(joined)
    sum += joined
  }
  return Double(sum) / Double(max(1, codes.count))
}

@Suite struct Int8CodedTests {
  @Test func theCostIsThatOfAHuffmanTree() {
    var generator = Generator(seed: 31)
    for spread in [0.0, 0.4, 1, 7, 40, 400] as [Float] {
      for count in [0, 1, 2, 3, 100, 5000] {
        let codes = generator.normals(count, spread).map { Int8(max(-127, min(127, $0.rounded()))) }
        var cost = EntropyCost()
        cost.add([Int8](repeating: 3, count: 17))
        cost = EntropyCost()
        cost.add(codes)
        #expect(abs(cost.bits - huffmanBits(codes)) < 1e-12, "\(spread), \(count)")
      }
    }
  }

  /// Within two hundredths of what was asked for, whatever the numbers look like; less where all scales are as small as they get.
  @Test(arguments: [2, 3, 4.375, 5.5, 6, 6.75, 7.25, 8] as [Double], [false, true])
  func theStepGivesTheBits(bits: Double, hasHeavyTails: Bool) throws {
    var generator = Generator(seed: 32)
    var values = generator.normals(256 * 320, 0.02)
    if hasHeavyTails { for place in values.indices where place % 97 == 0 { values[place] *= 6 } }
    let weight = try floatWeight(values, rows: 256)
    let scheme = Int8Coded(bits: bits)
    let (result, report) = try scheme.quantize(weight, options: QuantizeOptions())
    try result.validate()
    let codes = result.parts[0].bytes.array.map { Int8(bitPattern: $0) }
    let width = scheme.group ?? 320
    // The scales, by decoding the bytes of the part as they lie.
    let scales = result.parts[1].bytes.array.withUnsafeBytes { bytes in
      (0..<256 * (320 / width)).map { place in
        scheme.group == nil
          ? Float(bitPattern: bytes.loadUnaligned(fromByteOffset: 4 * place, as: UInt32.self))
          : Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: 2 * place, as: UInt16.self)) << 16)
      }
    }
    let names = Dictionary(zip(Set(scales).sorted(), 0...)) { first, _ in first }
    let found =
      huffmanBits(codes)
      + (scheme.group == nil ? 0 : huffmanBits(scales.map { Int8(names[$0] ?? 0) }) / Double(width))
    #expect(found < bits * 1.01 && (found > bits * 0.98 || names.count > 24), "\(found)")
    // Nothing clipped: no value is further from its code than half its scale.
    let decoded = result.decode()
    for place in values.indices {
      #expect(abs(values[place] - decoded[place]) <= scales[place / width] * 0.50001)
    }
    if bits <= 5.5, !hasHeavyTails { #expect(names.count == 1) }
    #expect(report.inexactValues > 0)
  }

  @Test func zerosAndSlicesAndNames() throws {
    let zeros = try Schemes.named("int8-coded").quantize(
      try floatWeight([Float](repeating: 0, count: 64), rows: 4))
    #expect(zeros.weight.decode() == [Float](repeating: 0, count: 64))
    #expect(zeros.report.inexactValues == 0)
    for (word, name) in [
      ("int8-coded", "int8-coded"), ("INT8-CODED:6", "int8-coded"), ("int8-coded:5.250", "int8-coded:5.25"),
      ("int8-coded:8.5", "int8-coded:8.5"),
    ] { #expect(try Schemes.named(word).name == name) }
    for word in ["int8-coded:", "int8-coded:1", "int8-coded:9", "int8-coded:x", "int8-coded:nan"] {
      #expect(throws: RequestError.self) { try Schemes.named(word) }
    }
  }

  /// GPTQ under the same step: the same scales, a lower error of the outputs.
  /// A weight without rows has no step to find.
  @Test(arguments: [5, 7, 8] as [Double]) func aWeightOfNoRowsHasAStep(bits: Double) throws {
    let weight = try Weight(
      name: "w", shape: [0, 128], encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: [0, 128], bytes: Bytes([]))])
    #expect(try Int8Coded(bits: bits).survey([SurveyPart(weight, QuantizeOptions())]) == 1)
  }

  @Test func gptqKeepsTheStep() throws {
    var generator = Generator(seed: 33)
    let (rows, columns) = (48, 96)
    let weight = try floatWeight(generator.normals(rows * columns, 0.05), rows: rows)
    let mixing = generator.normals(columns * columns, 0.2)
    let inputs = Matrix(rows: 400, columns: columns) { out in
      for token in 0..<400 {
        let base = generator.normals(columns, 1)
        for column in 0..<columns {
          out[token * columns + column] = (0..<columns).reduce(Float(0)) {
            $0 + base[$1] * mixing[column * columns + $1]
          }
        }
      }
    }
    let hessian = Hessian(columns: columns)
    hessian.add(inputs, parallel: .serial)
    let scheme = Int8Coded(bits: 3.5)
    let step = try #require(try scheme.survey(weight, options: QuantizeOptions()))
    let plain = try scheme.quantize(weight).weight
    let grid = try #require(Grid(INT8.channel, shape: weight.shape)).with(CodedScales(step: step, group: nil))
    let outcome = try #require(try GPTQ().quantize(weight, to: grid, [hessian], parallel: .serial))
    #expect(outcome.weight.parts[1].bytes.array == plain.parts[1].bytes.array)
    func error(_ result: Weight) -> Double {
      hessian.errors(
        Matrix(rows: rows, columns: columns, values: zip(weight.decode(), result.decode()).map { $0 - $1 }),
        parallel: .serial
      ).reduce(0, +)
    }
    #expect(error(outcome.weight) < 0.8 * error(plain))
  }
}
