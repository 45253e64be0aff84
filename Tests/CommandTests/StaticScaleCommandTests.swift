// Directories for engines as a user asks for them: layouts, static scales, caches.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct StaticScaleCommandTests {
  /// One command calibrates, quantizes, and gives the scales; the proof rounds as the result declares.
  @Test func scalesComeFromOneCommand() throws {
    let shell = Shell()
    let made = try shell.run(
      "smelt quantize tiny r --scheme NVFP4 --layout modelopt --calibration tiny/calibration.txt --context 64 --tokens-limit 1024 --json"
    )
    #expect(made.exit == 0 && made.stderr == "", "\(made.stderr)")
    let config = try shell.run("cat r/hf_quant_config.json")
    #expect(config.stdout.contains(#""quant_algo": "NVFP4""#))
    let proof = try shell.run(
      "smelt verify tiny r --text tiny/evaluation.txt --context 64 --tokens-limit 256 --activations declared --json"
    )
    #expect(proof.exit == 0, "\(proof.stderr)")
    let json = try proof.json()
    #expect(try Contract("verify").problems(json) == [])
    #expect(json["activations"]?["rounding"]?.string == "declared")
    let (rounded, plain) = (json["activations"]?["kl"]?["mean"]?.double, json["kl"]?["mean"]?.double)
    #expect(try #require(rounded) > #require(plain))
  }

  @Test func whatIsMissingIsSaid() throws {
    let shell = Shell()
    for (line, exit, words) in [
      ("smelt convert tiny r --scheme FP8", Int32(64), ["--calibration TEXT", "FP8_DYNAMIC"]),
      ("smelt quantize tiny r --scheme NVFP4", 64, ["--calibration TEXT", "NVFP4A16"]),
      ("smelt convert tiny r --scheme nvfp4 --activations static", 64, ["--calibration TEXT"]),
      ("smelt convert tiny r --scheme fp8-tensor --layout modelopt", 3, ["--activations static"]),
      ("smelt convert tiny r --scheme int8 --layout modelopt", 3, ["ModelOpt's layout"]),
      ("smelt convert tiny r --scheme nvfp4 --kv-cache fp8", 3, ["deepseek_v4"]),
      ("smelt convert tiny r --scheme nvfp4 --layout modlopt", 64, ["did you mean modelopt?"]),
      ("smelt convert tiny r.ingot --scheme nvfp4 --layout modelopt", 64, ["directories of safetensors"]),
    ] {
      let outcome = try shell.run(line)
      #expect(outcome.exit == exit, "\(line): \(outcome.stderr)")
      for word in words { #expect(outcome.stderr.contains(word), "\(line): \(outcome.stderr)") }
    }
    #expect(try shell.names().isEmpty)
  }
}
