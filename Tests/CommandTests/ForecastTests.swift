// What `plan` promises holds: memory and disk are never above it.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct ForecastTests {
  @Test(arguments: [
    ("convert", "tiny r.ingot", ""), ("convert", "tiny r W8A8", ""), ("convert", "tiny r.gguf q4_k_m", ""),
    ("convert", "fp4 r fp8-channel", ""),
    ("convert", "tiny r.ingot --compression raw --max-part-size 2M", ""),
    ("convert", "v4 r.ingot f32", ""), ("convert", "v4 r --max-shard-size 100K", ""),
    ("quantize", "tiny r.ingot int8", "--tokens-limit 1024"),
    ("quantize", "tiny r W4A16", "--tokens-limit 512"),
    ("quantize", "tiny r.ingot int8 --max-memory 8M", "--tokens-limit 2048"),
    ("quantize", "v4 r.gguf --target-size 900K", "--bytes --tokens-limit 512"),
  ])
  func promisesHold(verb: String, line: String, text: String) throws {
    let shell = Shell()
    let words = line + (text.isEmpty ? "" : " --calibration tiny/calibration.txt \(text)")
    let plan = try shell.run("smelt plan \(words) --json").json()
    let forecast = try #require(plan["forecast"])
    let made = try shell.run("smelt \(verb) \(words) --json").json()
    let conversion = made["conversion"] ?? made
    func promised(_ key: String) throws -> Int { try #require(forecast[key]?.integer) }
    #expect(try #require(conversion["bytes"]?.integer) <= promised("result_bytes"))
    let learned = made["calibration"]
    #expect(try (learned?["spilled_bytes"]?.integer ?? 0) <= promised("spill_bytes"))
    #expect(try #require(conversion["peak_memory_bytes"]?.integer) <= promised("memory_bytes"))
    #expect(forecast["fits"]?.bool == true && (forecast["seconds"]?.double ?? 0) > 0)
    #expect(try shell.names().allSatisfy { $0 == "r" || $0.hasPrefix("r.") || $0.hasPrefix("r-") })
  }

  @Test func aPersonReadsWhetherItFits() throws {
    let shell = Shell()
    let text = try shell.run("smelt plan tiny r W4A16 --calibration tiny/calibration.txt --tokens-limit 512")
    #expect(text.exit == 0 && text.stderr == "", "\(text.stderr)")
    #expect(
      text.stdout.contains("\nfits: about ") && text.stdout.contains("calibrate ")
        && text.stdout.contains("gptq "))
    let tight = try shell.run(
      "smelt plan v4 r.ingot --target-size 100K --calibration tiny/calibration.txt --bytes")
    #expect(tight.exit == 64 && tight.stderr.contains("the weights take at least"), "\(tight.stderr)")
    let alone = try shell.run("smelt plan tiny r.ingot --no-measure --json").json()
    #expect(alone["forecast"] == nil)
    #expect(try shell.names() == [])
  }
}
