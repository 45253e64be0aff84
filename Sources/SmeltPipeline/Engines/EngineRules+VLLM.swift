// What vLLM 0.33.0 does with a directory. Paths are those of its package; `layers/` stands for `model_executor/layers/`, `CT` for
// `layers/quantization/compressed_tensors`.

extension EngineRules {
  private static let compressed = ["compressed-tensors"]
  private static let fused: [EngineKind] = [.nvfp4]

  static let vllm: [EngineRule] = [
    EngineRule(
      "container", .vllm, .refuses, "reads directories of safetensors", .container(["safetensors"]),
      source: "0.33.0, layers/quantization/__init__.py: QuantizationMethods has no gguf",
      help: "convert the model to a directory"),
    EngineRule(
      "configuration", .vllm, .refuses, "reads what a model is from config.json", .configuration,
      source: "0.33.0, transformers_utils/config.py: get_config",
      help: "there is no config.json: put the publisher's beside the weights"),
    EngineRule(
      "architecture", .vllm, .refuses, "has no implementation of the architecture", .architecture,
      source: "0.33.0, model_executor/models/registry.py"),
    EngineRule(
      "borrowed-architecture", .vllm, .notes, "runs the implementation of transformers", .borrowed,
      source: "0.33.0, model_executor/models/registry.py: _TRANSFORMERS_BACKEND_MODELS"),
    EngineRule(
      "method", .vllm, .refuses, "does not know the method of quantization",
      .method(["compressed-tensors", "modelopt", "fp8", "deepseek_v4_fp8", "mxfp4", "mxfp8", "gptq", "awq"]),
      source: "0.33.0, layers/quantization/__init__.py: QuantizationMethods"),
    EngineRule(
      "fused-scheme", .vllm, .refuses, "has one scheme for a fused matrix", .parts(.linear),
      source:
        "0.33.0, CT/utils.py: should_ignore_layer; "
        + "layers/quantization/utils/quant_utils.py: is_layer_skipped",
      help: "give the parts one scheme"),
    EngineRule(
      "expert-scheme", .vllm, .refuses, "has one scheme for gate, up and down of a layer's experts",
      .parts(.experts), source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe.py: get_moe_method",
      help: "give down the scheme of gate and up"),
    EngineRule(
      "declared-scheme", .vllm, .refuses, "finds another scheme for a module than the one it is stored in",
      .declared,
      source: "0.33.0, CT/compressed_tensors.py: get_scheme_dict; CT/utils.py: find_matched_target",
      help: "convert it again, or name the modules in config.json as the engine asks for them"),
    EngineRule(
      "plain-role", .vllm, .refuses, "keeps routers, norms and embeddings plain", .plainRoles,
      source: "0.33.0, model_executor/models/*.py: GateLinear without quant_config, but in qwen3_moe.py",
      help: "leave these as they are"),
    EngineRule(
      "nvfp4-fused-scale", .vllm, .differs,
      "keeps the largest global scale of a fused matrix's parts", .number(.linear, .largest), kinds: fused,
      source: "0.33.0, CT/schemes/compressed_tensors_w4a4_nvfp4.py: weight_global_scale.max()",
      help: "convert it again: parts of a fused matrix get one global scale"),
    EngineRule(
      "nvfp4-expert-scale", .vllm, .differs, "keeps gate's global scale for gate and up",
      .number(.experts, .first), kinds: fused,
      source:
        "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe_w4a4_nvfp4.py: "
        + "w13_weight_global_scale[:, 0]",
      help: "convert it again: gate and up of an expert get one global scale"),
    EngineRule(
      "modelopt-block-experts", .vllm, .refuses,
      "looks for the scales of experts in blocks as weight_scale_inv, of two dimensions",
      .scalesNamed(.experts, "weight_scale_inv"), kinds: [.fp8Block], methods: ["modelopt"],
      source: "0.33.0, layers/quantization/modelopt.py: ModelOptMixedPrecisionConfig.get_quant_method; "
        + "layers/quantization/fp8.py: Fp8MoEMethod.create_weights",
      help: "write blocks with --layout compressed-tensors"),
    EngineRule(
      "fp8-fused-scale", .vllm, .differs, "rounds a fused matrix again to the largest scale of its parts",
      .number(.linear, .rounded), kinds: [.fp8Tensor],
      source: "0.33.0, layers/quantization/utils/w8a8_utils.py: requantize_with_max_scale",
      help: "convert it again: parts of a fused matrix get one scale"),
    EngineRule(
      "fp8-expert-scale", .vllm, .differs, "rounds gate and up of an expert again to the larger scale",
      .number(.experts, .rounded), kinds: [.fp8Tensor],
      source: "0.33.0, layers/quantization/utils/fp8_utils.py: process_fp8_weight_tensor_strategy_moe",
      help: "convert it again: gate and up of an expert get one scale"),
    EngineRule(
      "fp8-tensor-expert-activations", .vllm, .refuses,
      "takes experts with one scale a matrix with one scale for activations, stored, alone",
      .activations(.experts, ["static", "tensor"]), kinds: [.fp8Tensor], methods: compressed,
      source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe_w8a8_fp8.py: __init__",
      help: "store experts as fp8-channel, or with static activation scales"),
    EngineRule(
      "fp8-channel-expert-activations", .vllm, .refuses,
      "takes experts with a scale a channel with a scale for each token alone",
      .activations(.experts, ["token"]), kinds: [.fp8Channel], methods: compressed,
      source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe_w8a8_fp8.py: __init__; "
        + "compressed_tensors_moe.py: weights alone are pack-quantized",
      help: "declare activations by token"),
    EngineRule(
      "fp8-block-expert-activations", .vllm, .refuses,
      "has no experts of FP8 whose activations stay as they are",
      .activations(.experts, ["group", "token", "tensor"]), kinds: [.fp8Block], methods: compressed,
      source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe.py: get_moe_method",
      help: "declare activations by group"),
    EngineRule(
      "int8-expert-activations", .vllm, .refuses, "takes experts of INT8 with a scale for each token alone",
      .activations(.experts, ["token"]), kinds: [.int8], methods: compressed,
      source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe_w8a8_int8.py: __init__"),
    EngineRule(
      "nvfp4-activations", .vllm, .refuses, "takes NVFP4 with activations in NVFP4, or as they are",
      .activations(.all, ["local", "none"]), kinds: [.nvfp4], methods: compressed,
      source: "0.33.0, CT/compressed_tensors.py: _get_scheme_from_parts"),
    EngineRule(
      "activation-order", .vllm, .refuses, "has no columns in the order of a table of groups", .indexed,
      methods: compressed, source: "0.33.0, CT/compressed_tensors.py: _quantization_scheme_map_from_config",
      help: "quantize without actorder group"),
    EngineRule(
      "expert-group", .vllm, .refuses, "takes packed experts in groups of 32, 64 or 128, or by channel",
      .groups(.experts, [-1, 32, 64, 128]), kinds: [.packed],
      source: "0.33.0, layers/quantization/utils/marlin_utils.py: check_moe_marlin_supports_config",
      help: "choose a group of 32, 64 or 128"),
    EngineRule(
      "w4afp8-group", .vllm, .refuses, "takes 4-bit integers with activations in FP8 in groups of 128 alone",
      .groupsWithFP8(.all, [128], multiple: nil), kinds: [.packed], methods: compressed,
      source: "0.33.0, CT/schemes/compressed_tensors_w4a8_fp8.py: __init__; "
        + "CT/compressed_tensors_moe/compressed_tensors_moe_w4a8_fp8.py: __init__",
      help: "choose a group of 128, or leave activations as they are"),
    EngineRule(
      "w4afp8-width", .vllm, .refuses,
      "takes experts of 4-bit integers with activations in FP8 in multiples of 256 channels",
      .groupsWithFP8(.experts, nil, multiple: 256), kinds: [.packed], methods: compressed,
      source: "0.33.0, CT/compressed_tensors_moe/compressed_tensors_moe_w4a8_fp8.py: create_weights",
      help: "use fewer devices, or leave activations as they are"),
    EngineRule(
      "expert-width", .vllm, .refuses, "takes packed experts whose input channels are a multiple of 128",
      .expertInputs(128), kinds: [.packed],
      source: "0.33.0, layers/quantization/utils/marlin_utils.py: check_moe_marlin_supports_config"),
    EngineRule(
      "shard-groups", .vllm, .refuses, "cuts input channels between groups of scales only",
      .shardColumns(.all),
      source: "0.33.0, CT/schemes/compressed_tensors_wNa16.py: verify_group_size_divides_partition; "
        + "layers/quantization/utils/fp8_utils.py: validate_fp8_block_shape",
      help: "use fewer devices, expert parallelism, or a smaller group"),
    EngineRule(
      "expert-blocks", .vllm, .refuses, "has experts whose hidden channels a device are whole blocks",
      .shardRows(.experts, exceptLast: false), kinds: [.fp8Block],
      source: "0.33.0, layers/quantization/utils/fp8_utils.py: validate_fp8_block_shape_moe",
      help: "use fewer devices or expert parallelism"),
    EngineRule(
      "blocks", .vllm, .refuses, "has parts of fused and cut matrices of whole blocks, but for a last part",
      .shardRows(.linear, exceptLast: true), kinds: [.fp8Block],
      source: "0.33.0, layers/quantization/utils/fp8_utils.py: validate_fp8_block_shape",
      help: "use fewer devices, or fp8-channel"),
    EngineRule(
      "shards", .vllm, .refuses, "cuts heads and channels evenly", .shards,
      source: "0.33.0, distributed/utils.py: divide", help: "use a number of devices that divides them"),
    EngineRule(
      "scale-type", .vllm, .differs, "keeps the scales of packed integers in the type of the model's numbers",
      .scaleType, kinds: [.packed],
      source: "0.33.0, CT/schemes/compressed_tensors_wNa16.py: weight_scale of params_dtype"),
    EngineRule(
      "kv-cache", .vllm, .refuses,
      "keeps keys and values in FP8 with symmetric scales, one each or one a head",
      .cache(["tensor", "attn_head"]), methods: compressed,
      source: "0.33.0, CT/compressed_tensors.py: validate_kv_cache_scheme"),
    EngineRule(
      "drafts", .vllm, .notes, "builds the blocks that draft tokens with the model's scheme, or plain",
      .drafts,
      methods: compressed, source: "0.33.0, model_executor/models/deepseek_mtp.py, qwen3_5_mtp.py",
      help: "leave them as they are, or check the share of accepted drafts"),
    EngineRule(
      "draft-scheme", .vllm, .differs,
      "finds another scheme for a block that drafts tokens, where that is asked for, than it is stored in",
      .declaredDrafts,
      source: "0.33.0, model_executor/models/deepseek_mtp.py, qwen3_5_mtp.py: quant_config of the model",
      help: "convert it again with --mtp keep, or name its modules in config.json"),
    EngineRule(
      "stacked-experts", .vllm, .refuses, "asks for each expert's matrices by its number", .stacked,
      kinds: EngineKind.quantized, methods: compressed,
      source: "0.33.0, layers/fused_moe/layer.py: fused_moe_make_expert_params_mapping",
      help: "convert it again: experts are written one by one"),
    EngineRule(
      "gpt-oss", .vllm, .refuses, "loads gpt-oss' quantized experts from mxfp4's blocks", .method(["mxfp4"]),
      kinds: EngineKind.quantized, families: ["gpt_oss"],
      source: "0.33.0, model_executor/models/gpt_oss.py: load_weights",
      help: "write it with --scheme mxfp4"),
    EngineRule(
      "expert-type", .vllm, .refuses, "takes experts for FP4 where expert_dtype does not say fp8",
      .expertType,
      kinds: [.fp8Block], methods: ["fp8"], families: ["deepseek_v4"],
      source: "0.33.0, models/deepseek_v4/quant_config.py: DeepseekV4FP8Config",
      help: "set expert_dtype to fp8 in config.json"),
  ]
}
