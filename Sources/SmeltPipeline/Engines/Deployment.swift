// `--for NAME`: the scheme that an engine on a chip is given, and why. Formats/choosing.md says the same with figures.

import SmeltContainers
import SmeltStorage

/// Where a result is to run, and the scheme for it.
package struct Deployment: Sendable, Equatable {
  /// The engine.
  package let engine: Engine
  /// The chip; nil for engines that run the same file on every one.
  package let chip: String?
  /// Other names of the chip, of the same kind for this choice.
  package let siblings: [String]
  /// The word for `--scheme`.
  package let scheme: String
  /// Why this one.
  package let reason: String
  /// Whether the scheme has scales that only calibration chooses.
  package let needsText: Bool

  /// The name that `--for` takes: engine and chip.
  package var name: String { ([engine.rawValue] + [chip].compactMap { $0 }).joined(separator: "-") }

  /// Every name that it answers to.
  package var names: [String] { [name] + siblings.map { "\(engine.rawValue)-\($0)" } }

  /// Whether the result is a `.gguf` file; else it is a directory.
  package var isGGUF: Bool { engine == .llamaCpp || engine == .ollama }

  /// One line for people.
  package var text: String { "for \(name): \(scheme), \(reason)" }

  private init(
    _ engine: Engine, _ chip: String?, or siblings: [String] = [], _ scheme: String, needsText: Bool = false,
    _ reason: String
  ) {
    (self.engine, self.chip, self.siblings, self.scheme) = (engine, chip, siblings, scheme)
    (self.reason, self.needsText) = (reason, needsText)
  }

  /// All of them, engine by engine.
  package static let all: [Deployment] =
    [Engine.vllm, .sglang].flatMap { engine in
      [
        Deployment(
          engine, "a100", or: ["a800", "a40", "a10", "3090"], "W8A8",
          "the chip multiplies INT8 and has no FP8; of eight bits the one with least error"),
        Deployment(
          engine, "h100", or: ["h200", "h800", "h20", "l40s", "4090"], "FP8_DYNAMIC",
          "the chip multiplies FP8, and a text is not needed"),
        Deployment(
          engine, "b200", or: ["b300", "gb200", "gb300"], "NVFP4", needsText: true,
          "the chip multiplies FP4 in groups of 16; its INT8 kernels are missing in the engine"),
        Deployment(
          engine, "mi300", or: ["mi300x", "mi325", "mi325x", "mi350", "mi355"], "FP8_DYNAMIC",
          "the chip multiplies FP8; the engine converts the codes to the chip's own FP8 where that differs"),
        Deployment(
          engine, "ascend", or: ["910b", "910c", "a2", "a3"], "W8A8",
          "the chip multiplies INT8, and the engine's plugin reads it with a scale for each token"),
        Deployment(engine, "cpu", or: ["x86"], "W8A8", "processors multiply INT8 (VNNI, AMX) and no FP8"),
      ]
    } + [
      Deployment(
        .llamaCpp, nil, "q4_k_m", "about 4.9 bits a weight; q8_0 and q6_k lose less, q3_k_m is smaller"),
      Deployment(.ollama, nil, "q4_k_m", "as for llama.cpp, whose code it runs"),
    ]

  /// The deployment of a name. `cpu`, `apple` and `metal` are llama.cpp's; an engine's name alone does not say which chip.
  /// - Throws: `RequestError` usage, with the nearest name.
  package static func named(_ text: String) throws -> Deployment {
    let wanted = text.lowercased()
    let words = ["llamacpp", "llama-cpp", "cpu", "apple", "metal", "llama.cpp-apple", "llama.cpp-cpu"]
    let name = words.contains(wanted) ? Engine.llamaCpp.rawValue : wanted
    if let found = all.first(where: { $0.names.contains(name) }) { return found }
    let chips = all.filter { $0.engine.rawValue == name }.map(\.name)
    guard chips.isEmpty else {
      throw RequestError(
        .usage, "'\(excerpt(text))' does not say on which chip",
        help: "one of " + chips.joined(separator: ", "))
    }
    throw unknownName(text, kind: "place to run", among: all.map(\.name), or: all.flatMap(\.names))
  }

  /// Refuses a result of another kind than the engine reads, and scales that nothing would choose.
  /// - Parameter hasText: whether there are or will be statistics of a text.
  /// - Throws: `RequestError` usage.
  func require(_ container: Container, _ result: String, hasText: Bool) throws {
    guard container.name == (isGGUF ? Container.gguf : .safetensors).name else {
      throw RequestError(
        .usage,
        "\(engine.title) reads \(isGGUF ? "a .gguf file" : "a directory of safetensors"), and '\(excerpt(result))' would be \(container.ending.map { "an \($0)" } ?? "a directory")",
        help: isGGUF ? "name the result NAME.gguf" : "name a folder as the result")
    }
    guard hasText || !needsText else {
      throw RequestError(
        .usage, "\(scheme) for \(name) has scales of activations, which only a text can tell",
        help: "give --calibration text.txt, or take \(scheme)A16 with --scheme")
    }
  }
}
