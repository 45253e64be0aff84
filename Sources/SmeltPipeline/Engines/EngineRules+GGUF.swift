// What llama.cpp and Ollama do with a GGUF file, and Ollama with a directory that it imports.

import SmeltModels

extension EngineRules {
  static let llamaCpp: [EngineRule] = [
    EngineRule(
      "container", .llamaCpp, .refuses, "reads GGUF files", .container(["gguf"]),
      source: "0c1e57098, src/llama-model-loader.cpp", help: "convert the model to .gguf"),
    EngineRule(
      "architecture", .llamaCpp, .refuses, "has no implementation of the architecture", .architecture,
      source: "0c1e57098, src/llama-arch.cpp: LLM_ARCH_NAMES"),
    EngineRule(
      "tokenizer", .llamaCpp, .refuses, "wants a tokenizer in the file", .file([.tokenizer]),
      source: "0c1e57098: src/llama-vocab.cpp",
      help: "convert it again from the checkpoint, with its tokenizer.json beside the weights"),
    EngineRule(
      "file", .llamaCpp, .refuses, "wants the keys and tensors of the architecture", .file([.contents]),
      source: "0c1e57098: src/models/*.cpp, each case names its line",
      help: "convert it again from the checkpoint"),
    EngineRule(
      "code", .llamaCpp, .refuses, "has no code for what the model is made of", .file([.model]),
      source: "0c1e57098: src/models/*.cpp, each case names its line",
      help: "no conversion changes that: run a directory in another engine"),
    EngineRule(
      "computes", .llamaCpp, .differs, "computes otherwise than the model asks", .computes,
      source: "0c1e57098: src/models/*.cpp; gguf.md, section 10",
      help: "no conversion changes that: run a directory in another engine"),
  ]

  static let ollama: [EngineRule] = [
    EngineRule(
      "container", .ollama, .refuses, "reads GGUF files, and imports directories of safetensors",
      .container(["gguf", "safetensors"]), source: "fb30760, convert/convert.go",
      help: "convert the model to .gguf"),
    EngineRule(
      "configuration", .ollama, .refuses, "reads what a model is from config.json", .configuration,
      source: "fb30760, convert/convert.go: LoadModelMetadata",
      help: "there is no config.json: put the publisher's beside the weights"),
    EngineRule(
      "architecture", .ollama, .refuses, "has no implementation of the architecture", .architecture,
      source: "fb30760, convert/convert.go: LoadModelMetadata; LLAMA_CPP_VERSION b10488"),
    EngineRule(
      "tokenizer", .ollama, .refuses, "wants a tokenizer in the file", .file([.tokenizer]),
      source: "fb30760, LLAMA_CPP_VERSION b10488: src/llama-vocab.cpp",
      help: "convert it again from the checkpoint, with its tokenizer.json beside the weights"),
    EngineRule(
      "file", .ollama, .refuses, "wants the keys and tensors of the architecture", .file([.contents]),
      source: "fb30760, LLAMA_CPP_VERSION b10488: src/models/*.cpp, each case names its line",
      help: "convert it again from the checkpoint"),
    EngineRule(
      "code", .ollama, .refuses, "has no code for what the model is made of", .file([.model]),
      source: "fb30760, LLAMA_CPP_VERSION b10488: src/models/*.cpp, each case names its line",
      help: "no conversion changes that: run a directory in another engine"),
    EngineRule(
      "computes", .ollama, .differs, "computes otherwise than the model asks", .computes,
      source: "fb30760, LLAMA_CPP_VERSION b10488: src/models/*.cpp; gguf.md, section 10",
      help: "no conversion changes that: run a directory in another engine"),
    EngineRule(
      "types", .ollama, .refuses, "imports F32, F16, BF16, and F8_E4M3 in blocks",
      .types(["F32", "F16", "BF16", "F8_E4M3"]),
      methods: ["compressed-tensors", "modelopt", "gptq", "awq", "fp8", "mxfp8"],
      source: "fb30760, convert/reader_safetensors.go: WriteTo", help: "convert the model to .gguf"),
    EngineRule(
      "method", .ollama, .refuses,
      "imports quantized directories of FP8 in blocks, and gpt-oss' MXFP4, alone",
      .method(["fp8", "compressed-tensors", "mxfp4"]),
      source: "fb30760, convert/reader_safetensors.go: parseSafetensors; convert/convert_gptoss.go",
      help: "convert the model to .gguf"),
    EngineRule(
      "fp8-scales", .ollama, .refuses, "imports FP8 in float-quantized blocks alone",
      .stored(.all), kinds: [.fp8Tensor, .fp8Channel, .mxfp8, .nvfp4],
      methods: ["compressed-tensors", "fp8"],
      source: "fb30760, convert/reader_safetensors.go: fp8Block", help: "convert the model to .gguf"),
  ]
}
