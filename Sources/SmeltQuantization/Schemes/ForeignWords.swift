// Words of other programs for formats that no scheme here gives, and what there is instead.

package import SmeltStorage
internal import SmeltTensors

/// What llama-quantize, vLLM and the hub call formats that are not written here.
package enum ForeignWord {
  /// Types of llama.cpp's blocks that are read and not written, and llama-quantize's mixtures of them, each with the scheme of about
  /// as many bits. Source: llama.cpp, tools/quantize/quantize.cpp.
  private static let readTypes: [(words: [String], near: String)] = [
    (["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m"], "q2_k"),
    (["iq3_xxs", "iq3_xs", "iq3_s", "iq3_m"], "q3_k"),
  ]

  /// Methods, packages and kernels by a part of their word, and what gives the same here.
  private static let methods: [(parts: [String], answer: String)] = [
    (
      ["gptq"],
      "GPTQ chooses the codes of a scheme: --scheme int4-group --method gptq --calibration TEXT, which vLLM, SGLang and transformers load as compressed-tensors"
    ),
    (
      ["awq"],
      "AWQ scales channels before a scheme rounds them: --scheme int4-zero --method awq --calibration TEXT, which vLLM, SGLang and transformers load as compressed-tensors"
    ),
    (["smoothquant"], "SmoothQuant is a method: --scheme int8-channel --method smooth --calibration TEXT"),
    (
      ["bnb", "bitsandbytes", "nf4", "load-in-", "llm.int8"],
      "bitsandbytes rounds while it loads, and its files are not written: int8-channel has 8 bits, int4-group 4"
    ),
    (
      ["modelopt"],
      "ModelOpt's files are a layout: --layout modelopt with --scheme FP8 or NVFP4, and --calibration TEXT"
    ),
    (["compressed-tensors"], "that is a layout of files: --layout compressed-tensors, and a scheme"),
    (["marlin"], "Marlin is a kernel, which vLLM chooses for int4-group, fp8-channel and others"),
    (
      ["ptpc-fp8", "fbgemm-fp8", "fp8-e4m3", "w8a8-fp8", "fp8-w8a8"],
      "a scale a channel, and one a token for activations, is fp8-channel"
    ),
    (
      ["experts-int8", "w8a8-int8", "int8-w8a8"],
      "a scale a channel, and one a token for activations, is W8A8"
    ),
    (["w4a4"], "four bits of both are NVFP4, in capitals"),
  ]

  /// Whole words that say too little.
  private static let vague: [(words: [String], answer: String)] = [
    (
      ["fp4", "4bit", "4-bit", "q4"],
      "of four bits there are nvfp4, mxfp4, int4-group, int4-zero, q4_k_m and q4_0"
    ),
    (
      ["8bit", "8-bit", "q8"], "of eight bits there are fp8-channel, fp8-block, mxfp8, int8-channel and q8_0"
    ),
    (
      ["2bit", "2-bit", "int2", "q2"],
      "of about two bits there are q2_k, which suits any model, q2_0 and tq2_0"
    ),
    (["3bit", "3-bit", "int3", "q3"], "of three bits there is q3_k_m"),
    (["5bit", "5-bit", "int5", "q5", "6bit", "6-bit", "int6", "q6", "fp6"], "there are q5_k_m and q6_k"),
    (
      ["gguf", "ingot", "safetensors"],
      "that is a container, which the result's name says: OUT.gguf, OUT.ingot, OUT/"
    ),
    (
      ["hqq", "aqlm", "quip", "quip#", "exl2", "exl3", "torchao", "quark", "eetq", "vptq", "spqr", "mlx"],
      "it is neither read nor written: int4-group, int4-zero and q4_k_m have four bits, int8-channel eight"
    ),
  ]

  /// What there is to say of a word that no scheme has; nil where nothing is known of it.
  static func refusal(_ text: String) -> RequestError? {
    if let refusal = ofLlamaCpp(text) { return refusal }
    let word = text.lowercased().replacing("_", with: "-")
    let found =
      vague.first { $0.words.contains(word) }?.answer
      ?? methods.first { method in method.parts.contains { word.contains($0) } }?.answer
    return found.map { RequestError(.usage, "'\(text)' is no scheme here", help: $0) }
  }

  /// What there is to say of a type or mixture of llama.cpp's that is not written here; nil for other words.
  package static func ofLlamaCpp(_ text: String) -> RequestError? {
    let lower = text.lowercased()
    // Unsloth's names begin with UD-; its mixtures and others' end in a size that llama-quantize does not have.
    var bare = lower.hasPrefix("ud-") ? String(lower.dropFirst(3)) : lower
    bare = String(bare.prefix { $0 != ":" })  // of q8_0:keep-head the type
    let written = Mixture.names + GGUFScheme.all.map(\.name)
    let types = "of llama.cpp's types there are \(GGUFScheme.all.map(\.name).joined(separator: ", "))"
    if let (_, near) = readTypes.first(where: { $0.words.contains(bare) }) {
      return RequestError(
        .usage, "'\(text)' is read, not written: smelt has no search for its codes",
        help: "nearest that suits any model: \(near); \(types)"
          + "; llama-quantize makes it by the matrix of `smelt calibrate MODEL matrix.gguf --text TEXT`")
    }
    if ["q8_1", "q8_k"].contains(bare) {
      return RequestError(
        .usage, "'\(text)' is a type of activations, read and not written", help: "nearest: q8_0; \(types)")
    }
    for size in ["_xl", "_xxl", "_l"] where bare.hasSuffix(size) || bare != lower {
      var name = bare.hasSuffix(size) ? String(bare.dropLast(size.count)) : bare
      if name == "q8_k" { name = "q8_0" }
      guard let near = [name + "_m", name].first(where: { written.contains($0) }) else { continue }
      return RequestError(
        .usage, "'\(text)' is a mixture that llama-quantize does not have",
        help: "nearest: \(near); a recipe says which tensors get more bits: --recipe FILE, Formats/recipe.md")
    }
    return nil
  }
}
