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

  /// Each phase that was asked for is there, under what the machine allows by the bytes and parameters of a token.
  @Test func phasesOfAModelAreMeasured() throws {
    let outcome = try Shell().run(
      "smelt bench model v4 --prefill 3,8 --decode 2 --calibrate 32 --passes 1 --threads 1 --json")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let json = try outcome.json()
    #expect(try Contract("bench model").problems(json) == [])
    let phases = try #require(json["phases"]?.array)
    #expect(
      phases.map { "\($0["phase"]?.string ?? "") \($0["tokens"]?.integer ?? 0)" } == [
        "prefill 3", "prefill 8", "decode 2", "calibrate 32",
      ])
    let (parameters, bytes) = try (
      #require(json["active_parameters"]?.integer), #require(json["active_bytes"]?.integer)
    )
    #expect(parameters > 0 && bytes > 0 && bytes < 4 * parameters)
    for phase in phases {
      let rate = try #require(phase["tokens_per_second"]?.double)
      let limit = try #require(phase["limit_tokens_per_second"]?.double)
      #expect(rate > 0 && limit > 0 && abs((phase["share_of_limit"]?.double ?? 0) - rate / limit) < 1e-9)
    }
    let read = try #require(json["memory_read_gb_per_s"]?.double)
    let limit = try #require(phases[2]["limit_tokens_per_second"]?.double)
    #expect(abs(limit - read * 1e9 / Double(bytes)) < 1e-6 * limit)
  }

  /// The arithmetic is the one that was asked for; where no weight is fit for it, a warning says so.
  @Test func phasesRunInTheArithmeticAskedFor() throws {
    let outcome = try Shell().run(
      """
      smelt convert v4 q8.gguf --scheme q8_0 > converted.txt
      smelt bench model q8.gguf --prefill 2 --decode 1 --passes 1 --threads 1 --compute int8 --json
      """)
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    #expect(try outcome.json()["compute"]?.string == "int8")
    #expect(!outcome.stderr.contains("no weight was multiplied in int8"), "\(outcome.stderr)")
    let none = try Shell().run(
      "smelt bench model tiny --prefill 2 --decode 0 --passes 1 --compute int8 --json")
    #expect(none.exit == 0 && none.stderr.contains("no weight was multiplied in int8"), "\(none.stderr)")
  }

  @Test(arguments: [
    ("--prefill 5,x", "--prefill is '5,x'"), ("--prefill ''", "--prefill is ''"),
    ("--decode=-1", "--decode is -1"),
    ("--prefill 0 --decode 0", "nothing is left to measure"), ("--passes 0", "--passes is 0"),
  ])
  func phasesAreChecked(words: String, message: String) throws {
    let outcome = try Shell().run("smelt bench model v4 \(words)")
    #expect(outcome.exit == 64 && outcome.stderr.contains(message), "\(outcome.stderr)")
  }
}
