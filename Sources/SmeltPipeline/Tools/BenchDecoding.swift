// What one token costs: products with weights that no cache holds, against the rate at which memory is read.

import SmeltStorage
import SmeltTensors

/// Bytes of codes that are read for one product: more than caches hold.
private let decodingBytes = 128 << 20
/// Input channels of a weight.
private let decodingColumns = 4096

/// For each encoding the products of one token, in bytes of the weight a second and in tokens a
/// second at 10⁹ weights a token.
func benchDecoding(seconds: Double, reads: Double) -> [BenchRow] {
  var rows: [BenchRow] = []
  let names = [
    "f32", "f16", "bf16", "f8_e4m3.channel", "f8_e4m3.block", "f8_e4m3.block1x32", "int8.channel",
    "int8.group128", "int4.group128", "mxfp4", "nvfp4",
  ]
  for name in names + GGUFBlock.all.map(\.name) {
    guard let encoding = Encodings.named(name) else { continue }
    let perRow = max(1, encoding.byteCount(of: [64, decodingColumns]) / 64)
    let outputs = decodingBytes / perRow / 64 * 64
    guard let weight = benchWeight(name, [outputs, decodingColumns]), encoding.coded(weight) != nil else {
      continue
    }
    let x = Matrix(
      rows: 1, columns: decodingColumns, values: (0..<decodingColumns).map { Float($0 % 17) / 16 - 0.5 })
    let time = bestTime(seconds) { _ = multiply(x, weight) }
    let rate = Double(weight.byteCount) / time / 1e9
    rows.append(
      BenchRow(
        name: "product, 1 token × [\(outputs), \(decodingColumns)] \(name)", value: rate,
        unit: "GB/s of weights",
        shareOfReads: rate / reads))
    if activationBlock(encoding) != nil {
      let time = bestTime(seconds) { _ = multiplyIntegers(x, weight) }
      let rate = Double(weight.byteCount) / time / 1e9
      rows.append(
        BenchRow(
          name: "the same, as whole numbers", value: rate, unit: "GB/s of weights",
          shareOfReads: rate / reads))
    }
    rows.append(
      BenchRow(
        name: "the product in float32, 10⁹ weights a token",
        value: Double(outputs * decodingColumns) / time / 1e9,
        unit: "tokens/s"))
  }
  return rows
}
