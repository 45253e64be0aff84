// What transformers 5.24.0 does with a directory or a GGUF file. Its modules stay apart as the files have them, but experts, which
// it stacks when it loads them.

extension EngineRules {
  private static let compressed = ["compressed-tensors"]

  static let transformers: [EngineRule] = [
    EngineRule(
      "container", .transformers, .refuses, "reads directories of safetensors, and GGUF files",
      .container(["safetensors", "gguf"]), source: "5.24.0, modeling_utils.py",
      help: "convert the model to a directory"),
    EngineRule(
      "architecture", .transformers, .refuses, "has no implementation of the architecture", .architecture,
      source: "5.24.0, models/auto/modeling_auto.py; integrations/ggml.py"),
    EngineRule(
      "method", .transformers, .refuses, "does not know the method of quantization",
      .method(["compressed-tensors", "fp8", "mxfp8", "mxfp4", "gptq", "awq"]),
      source: "5.24.0, quantizers/auto.py: AUTO_QUANTIZER_MAPPING",
      help: "write it for compressed-tensors"),
    EngineRule(
      "nvfp4-experts", .transformers, .refuses,
      "unpacks experts without their global scales", .stored(.experts), kinds: [.nvfp4],
      methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "keep experts in another scheme"),
    EngineRule(
      "int8-experts", .transformers, .differs,
      "leaves experts of INT8 out when it stacks them, and begins them anew", .stored(.experts),
      kinds: [.int8], methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "use W8A16, fp8-channel or W4A16"),
    EngineRule(
      "fp8-block-experts", .transformers, .refuses,
      "multiplies experts of FP8 by their scales without regard to blocks", .stored(.experts),
      kinds: [.fp8Block], methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "use fp8-channel, or the makers' layout"),
    EngineRule(
      "asymmetric-experts", .transformers, .differs, "unpacks experts without their zero points",
      .zeroPoints(.experts), kinds: [.packed], methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "quantize experts symmetrically"),
    EngineRule(
      "expert-scheme", .transformers, .differs, "unpacks all experts by one group of the configuration",
      .oneScheme(.experts), kinds: EngineKind.quantized, methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: get_experts_scheme",
      help: "give all experts one scheme"),
    EngineRule(
      "dense-scheme", .transformers, .notes,
      "with dequantize=True unpacks all that is no expert by one group of the configuration",
      .oneScheme(.linear), kinds: EngineKind.quantized, methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: get_dense_scheme"),
    EngineRule(
      "stacked-experts", .transformers, .refuses, "asks for each expert's matrices by its number", .stacked,
      kinds: EngineKind.quantized, methods: compressed, source: "5.24.0, conversion_mapping.py",
      help: "convert it again: experts are written one by one"),
  ]
}
