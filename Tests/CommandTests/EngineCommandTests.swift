// `check --for` and `verify --as` as a user meets them.

import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct EngineCommandTests {
  private func shell() throws -> Shell {
    let shell = Shell()
    try shell.write("ids.json", #"{"sequences": [[1, 2, 3, 4, 5, 6, 7, 8]]}"#)
    _ = try shell.run("ln -s '\(fixture("models/qwen3_moe"))' moe; ln -s '\(fixture("models/llama"))' llama")
    return shell
  }

  @Test func statusSaysWhatTheEngineDoes() throws {
    let shell = try shell()
    let made = try shell.run(
      "smelt convert moe w8a8 --scheme W8A8 --quiet && smelt convert moe m.ingot --quiet")
    #expect(made.exit == 0, "\(made.stderr)")
    for (line, exit) in [
      ("w8a8 --for vllm", Int32(0)), ("w8a8 --for transformers", 3), ("w8a8 --for sglang", 3),
      ("m.ingot --for vllm", 3),
      ("llama --for mlx", 0), ("llama --for llama.cpp", 3), ("w8a8 --for vllm --tp 3", 3),
      ("w8a8 --for vllm --tp 2", 0),
      ("w8a8 --for vllm --strict", 0), ("no-such --for vllm", 2),
    ] {
      let outcome = try shell.run("smelt check \(line)")
      #expect(outcome.exit == exit, "\(line): \(outcome.exit)\n\(outcome.stdout)\(outcome.stderr)")
      guard exit != 2 else { continue }
      #expect(outcome.stderr == "", "\(line)")
      // A path or a name of a module may be longer than a line; words of ours are not.
      let long = outcome.stdout.split(separator: "\n").filter { $0.count > 80 }
      #expect(long == [], "\(line)")
    }
  }

  @Test func machinesReadOneObject() throws {
    let shell = try shell()
    let outcome = try shell.run(
      "smelt convert moe w --scheme W8A8 --quiet --json >&2; "
        + "smelt check w --for sglang --tp 2 --engine-version 0.5.20 --json"
    )
    #expect(outcome.exit == 3)
    let json = try outcome.json()
    #expect(try Contract("check --for").problems(json) == [])
    #expect(json["schema"]?.string == "smelt.engine-check/1" && json["verdict"]?.string == "refuses")
    #expect(json["version"]?.string == "0.5.20" && json["rules_read_from"]?.string == "0.5.23")
    #expect(json["tensor_parallel"]?.integer == 2)
    #expect(try shell.run("smelt check llama --for vllm --version 0.33.0").exit == 0)
    #expect(json["findings"]?.array?.first?["rule"]?.string == "int8-experts")
  }

  @Test(arguments: [
    ("check moe --for vlm", "did you mean vllm?"), ("check moe --tp 2", "--for"),
    ("check moe --strict", "--for"),
    ("check moe --version 1", "--for"), ("check moe --engine-version 1", "--for"),
    ("check moe --for vllm --engine-version banana", "no version of vLLM"),
    ("check moe --for vllm --version banana", "no version of vLLM"),
    ("check moe --for mlx --tp 2", "--tp"), ("check moe --for llama.cpp --tp 2", "--tp"),
    ("check moe --for ollama --tp 1", "--tp"), ("check moe --for transformers --tp 2", "--tp"),
    ("check moe --for vllm --checksums", "--checksums"),
    ("check moe --for vllm --tp 0", "--tp"), ("verify moe moe --tokens ids.json --as mlx", "vllm, sglang"),
    ("verify moe moe --tokens ids.json --as vllm --activations int8", "--as"),
  ])
  func wrongWishesAreRefused(_ line: String, _ words: String) throws {
    let outcome = try shell().run("smelt \(line)")
    #expect(
      outcome.exit == 64 && outcome.stderr.contains(words), "\(line): \(outcome.exit) \(outcome.stderr)")
  }

  @Test func thresholdsHoldInTheEngineToo() throws {
    let shell = try shell()
    let line = "smelt verify moe w --tokens ids.json --quiet --as vllm"
    let outcome = try shell.run("smelt convert moe w --scheme W8A8 --quiet --json >&2; \(line) --json")
    #expect(outcome.exit == 0, "\(outcome.stderr)")
    let json = try outcome.json()
    #expect(try Contract("verify").problems(json) == [])
    let (own, engine) = (json["kl"]?["mean"]?.double ?? .nan, json["engine"]?["kl"]?["mean"]?.double ?? .nan)
    #expect(own.isFinite && engine.isFinite && own != engine)
    let bound = (own + engine) / 2
    #expect(try shell.run("\(line) --max-kl \(bound)").exit == 1)
    #expect(try shell.run("\(line) --max-kl \(max(own, engine))").exit == 0)
    let refused = try shell.run("\(line.replacing("vllm", with: "sglang"))")
    #expect(
      refused.exit == 3 && refused.stderr.contains("smelt check MODEL --for sglang"), "\(refused.stderr)")
  }
}
