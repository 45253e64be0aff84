// What mlx-lm 0.32.2 does with a directory: it keeps codes as they are where MLX has the format.

extension EngineRules {
  private static let compressed = ["compressed-tensors"]

  static let mlx: [EngineRule] = [
    EngineRule(
      "container", .mlx, .refuses, "reads directories of safetensors", .container(["safetensors"]),
      source: "0.32.2, utils.py: load_model", help: "convert the model to a directory"),
    EngineRule(
      "configuration", .mlx, .refuses, "reads what a model is from config.json", .configuration,
      source: "0.32.2, utils.py: load_config",
      help: "there is no config.json: put the publisher's beside the weights"),
    EngineRule(
      "architecture", .mlx, .refuses, "has no implementation of the architecture", .architecture,
      source: "0.32.2, utils.py: _get_classes; models/*.py"),
    EngineRule(
      "format", .mlx, .refuses, "reads packed integers, NVFP4 and MXFP4 of compressed-tensors",
      .format(["pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized"], .all), methods: compressed,
      source: "0.32.2, utils.py: _compressed_tensors_quantization", help: "write it in BF16"),
    EngineRule(
      "packed-group", .mlx, .refuses, "takes packed integers for 4 bits in groups of 32", .groups(.all, [32]),
      kinds: [.packed], methods: compressed, source: "0.32.2, utils.py: _compressed_tensors_quantization",
      help: "use groups of 32, or write it in BF16"),
    EngineRule(
      "packed-names", .mlx, .refuses, "reads the names of compressed-tensors in few models",
      .stored(.all), kinds: [.packed, .nvfp4, .mxfp4], methods: compressed,
      families: EngineArchitectures.mlx.subtracting(["deepseek_v3", "kimi_k2", "kimi_k3", "mistral4"])
        .sorted(),
      source: "0.32.2, models/deepseek_v3.py, kimi_k3.py, mistral4.py: sanitize",
      help: "write it in BF16"),
    EngineRule(
      "fp8-names", .mlx, .refuses, "reads the makers' FP8 in few models", .stored(.all),
      kinds: [.fp8Tensor, .fp8Channel, .fp8Block], methods: ["fp8"],
      families: EngineArchitectures.mlx.subtracting([
        "deepseek_v3", "deepseek_v32", "kimi_k2", "minimax", "minimax_m2", "minimax_m3_vl", "mimo_v2_flash",
        "ministral3", "mistral4",
      ]).sorted(),
      source: "0.32.2, models/*.py: sanitize takes weight_scale_inv", help: "write it in BF16"),
    EngineRule(
      "modelopt", .mlx, .refuses, "reads NVFP4 of ModelOpt alone", .stored(.all),
      kinds: [.fp8Tensor, .fp8Channel, .fp8Block, .mxfp8], methods: ["modelopt"],
      source: "0.32.2, utils.py: load_model"),
  ]
}
