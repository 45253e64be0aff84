// What llama.cpp and Ollama do with a GGUF file, and Ollama with a directory that it imports.

extension EngineRules {
  static let llamaCpp: [EngineRule] = [
    EngineRule(
      "container", .llamaCpp, .refuses, "reads GGUF files", .container(["gguf"]),
      source: "0c1e57098, src/llama-model-loader.cpp", help: "convert the model to .gguf"),
    EngineRule(
      "architecture", .llamaCpp, .refuses, "has no implementation of the architecture", .architecture,
      source: "0c1e57098, src/llama-arch.cpp: LLM_ARCH_NAMES"),
    EngineRule(
      "file", .llamaCpp, .refuses, "wants of a file what gguf.md, section 10, lists by architecture", .file,
      source: "0c1e57098, src/models/*.cpp, src/llama-vocab.cpp: each case names its line",
      help: "convert it again from the checkpoint, with its tokenizer.json beside the weights"),
  ]

  static let ollama: [EngineRule] = [
    EngineRule(
      "container", .ollama, .refuses, "reads GGUF files, and imports directories of safetensors",
      .container(["gguf", "safetensors"]), source: "fb30760, convert/convert.go",
      help: "convert the model to .gguf"),
    EngineRule(
      "architecture", .ollama, .refuses, "has no implementation of the architecture", .architecture,
      source: "fb30760, convert/convert.go: LoadModelMetadata; LLAMA_CPP_VERSION b10488"),
    EngineRule(
      "file", .ollama, .refuses, "wants of a file what llama.cpp does (gguf.md, section 10)", .file,
      source: "fb30760, LLAMA_CPP_VERSION b10488: src/llama-vocab.cpp"),
    EngineRule(
      "types", .ollama, .refuses, "imports F32, F16, BF16, and F8_E4M3 in blocks",
      .types(
        ["F32", "F16", "BF16", "F8_E4M3", "U8"]),
      methods: ["compressed-tensors", "modelopt", "gptq", "awq", "fp8"],
      source: "fb30760, convert/reader_safetensors.go: WriteTo", help: "convert the model to .gguf"),
    EngineRule(
      "method", .ollama, .refuses, "imports quantized directories of FP8 in blocks alone",
      .method(["fp8", "compressed-tensors"]),
      source: "fb30760, convert/reader_safetensors.go: parseSafetensors",
      help: "convert the model to .gguf"),
    EngineRule(
      "fp8-scales", .ollama, .refuses, "imports FP8 with the length of its blocks alone",
      .stored(.all), kinds: [.fp8Tensor, .fp8Channel], methods: ["compressed-tensors", "fp8"],
      source: "fb30760, convert/reader_safetensors.go: fp8Block", help: "convert the model to .gguf"),
  ]
}
