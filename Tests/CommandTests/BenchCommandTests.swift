// bench codec, as a user meets it: the figures are there, and a file without weights is refused.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct BenchCommandTests {
  @Test func everyCodecOfAFileIsMeasured() throws {
    let outcome = try Shell().run("smelt bench codec --input v4/model.safetensors --passes 1 --json")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let json = try outcome.json()
    #expect(try Contract("bench codec").problems(json) == [])
    let rows = try #require(json["codecs"]?.array)
    let pairs = rows.map { "\($0["kind"]?.string ?? "") \($0["codec"]?.string ?? "")" }
    for pair in [
      "BF16 bf16-planes", "BF16 bf16-pairs", "F8_E4M3 by channel fp8-planes", "F8_E4M3 by block fp8-pairs",
      "I8 by channel int8-pairs",
    ] { #expect(pairs.contains(pair), "\(pair) is missing among \(pairs)") }
    for row in rows {
      let ratio = try #require(row["ratio"]?.double)
      #expect(ratio > 0 && ratio <= 1, "\(row.text)")
      for rate in ["encode", "decode", "copy"] {
        #expect(row[rate + "_gb_per_s"]?.double ?? 0 > 0, "\(row.text)")
      }
    }
  }

  @Test func whatHasNoWeightsIsRefused() throws {
    let outcome = try Shell().run(
      """
      printf '\\102\\0\\0\\0\\0\\0\\0\\0{"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}           ' > none.safetensors
      printf '0123456789abcdef' >> none.safetensors
      smelt bench codec --input none.safetensors
      """)
    #expect(outcome.exit == 64 && outcome.stderr.contains("holds no weights to measure"), "\(outcome.stderr)")
    let passes = try Shell().run("smelt bench codec --passes 0")
    #expect(passes.exit == 64 && passes.stderr.contains("--passes is 0"), "\(passes.stderr)")
  }
}
