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
      "configuration", .transformers, .refuses, "reads what a model is from config.json", .configuration,
      source: "5.24.0, configuration_utils.py: get_config_dict",
      help: "there is no config.json: put the publisher's beside the weights"),
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
      "int8-experts", .transformers, .refuses,
      "leaves experts of integers in bytes out, and then has none to stack", .stored(.experts),
      kinds: [.int8, .int4], methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "use W8A16, fp8-channel or W4A16"),
    EngineRule(
      "fp8-block-experts", .transformers, .refuses,
      "multiplies experts of FP8 by their scales without regard to blocks", .stored(.experts),
      kinds: [.fp8Block, .mxfp8], methods: compressed,
      source: "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert",
      help: "use fp8-channel, or the makers' layout"),
    EngineRule(
      "asymmetric-experts", .transformers, .refuses,
      "unpacks experts without their zero points, and wants them",
      .zeroPoints(.experts), kinds: [.packed], methods: compressed,
      source:
        "5.24.0, integrations/compressed_tensors.py: CompressedTensorsDequantize.convert; "
        + "compressed-tensors 0.20.1, compressors/pack_quantized/base.py: decompress",
      help: "quantize experts symmetrically"),
    EngineRule(
      "expert-activations", .transformers, .notes,
      "unpacks experts, so that their activations stay as they are; dequantize=True does so to all matrices",
      .activations(.experts, ["none"]), kinds: [.fp8Tensor, .fp8Channel, .packed], methods: compressed,
      source:
        "5.24.0, quantizers/base.py: update_weight_conversions; quantizers/quantizer_compressed_tensors.py"),
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
      "gpt-oss", .transformers, .differs,
      "finds none of gpt-oss' experts in compressed-tensors, and begins them anew", .stored(.experts),
      kinds: EngineKind.quantized, methods: compressed, families: ["gpt_oss"],
      source:
        "5.24.0, conversion_mapping.py has no gpt_oss; models/gpt_oss/modeling_gpt_oss.py: GptOssExperts",
      help: "write it with --scheme mxfp4"),
    EngineRule(
      "stacked-experts", .transformers, .refuses, "asks for each expert's matrices by its number", .stacked,
      kinds: EngineKind.quantized, methods: compressed, source: "5.24.0, conversion_mapping.py",
      help: "convert it again: experts are written one by one"),
  ]
}
