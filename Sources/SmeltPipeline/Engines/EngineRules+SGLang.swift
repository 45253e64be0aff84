// What SGLang 0.5.23 does with a directory. Paths are those below `srt`; `CT` stands for `layers/quantization/compressed_tensors`.

extension EngineRules {
  private static let compressed = ["compressed-tensors"]

  static let sglang: [EngineRule] = [
    EngineRule(
      "container", .sglang, .refuses, "reads directories of safetensors, and GGUF files",
      .container(["safetensors", "gguf"]), source: "0.5.23, model_loader/loader.py",
      help: "convert the model to a directory"),
    EngineRule(
      "configuration", .sglang, .refuses, "reads what a model is from config.json", .configuration,
      source: "0.5.23, configs/model_config.py: get_config",
      help: "there is no config.json: put the publisher's beside the weights"),
    EngineRule(
      "architecture", .sglang, .refuses, "has no implementation of the architecture", .architecture,
      source: "0.5.23, models/*.py: EntryClass"),
    EngineRule(
      "borrowed-architecture", .sglang, .notes, "runs the implementation of transformers", .borrowed,
      source: "0.5.23, models/transformers.py"),
    EngineRule(
      "method", .sglang, .refuses, "does not know the method of quantization",
      .method(["compressed-tensors", "modelopt", "fp8", "mxfp8", "mxfp4", "gptq", "awq"]),
      source: "0.5.23, layers/quantization/__init__.py: BASE_QUANTIZATION_METHODS"),
    EngineRule(
      "fused-scheme", .sglang, .refuses, "has one scheme for a fused matrix", .parts(.linear),
      source: "0.5.23, CT/utils.py: should_ignore_layer", help: "give the parts one scheme"),
    EngineRule(
      "expert-scheme", .sglang, .refuses, "has one scheme for gate, up and down of a layer's experts",
      .parts(.experts), source: "0.5.23, CT/compressed_tensors.py: get_moe_scheme",
      help: "give down the scheme of gate and up"),
    EngineRule(
      "declared-scheme", .sglang, .refuses, "finds another scheme for a module than the one it is stored in",
      .declared,
      source: "0.5.23, CT/compressed_tensors.py: get_scheme_dict; CT/utils.py: find_matched_target",
      help: "convert it again, or name the modules in config.json as the engine asks for them"),
    EngineRule(
      "plain-role", .sglang, .refuses, "keeps routers, norms and embeddings plain", .plainRoles,
      source: "0.5.23, models/*.py: gate = ReplicatedLinear(…, quant_config=None)",
      help: "leave these as they are"),
    EngineRule(
      "nvfp4-fused-scale", .sglang, .refuses, "takes a fused matrix with one global scale alone",
      .number(.linear, .largest), kinds: [.nvfp4], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_w4a16_nvfp4.py: process_weights_after_loading",
      help: "convert it again: parts of a fused matrix get one global scale"),
    EngineRule(
      "nvfp4-expert-scale", .sglang, .refuses, "takes gate and up of an expert with one global scale alone",
      .number(.experts, .first), kinds: [.nvfp4], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_w4a16_nvfp4_moe.py: process_weights_after_loading",
      help: "convert it again: gate and up of an expert get one global scale"),
    EngineRule(
      "modelopt-fused-scale", .sglang, .differs, "keeps the largest global scale of a fused matrix's parts",
      .number(.linear, .largest), kinds: [.nvfp4], methods: ["modelopt"],
      source: "0.5.23, layers/quantization/modelopt_quant.py: weight_scale_2.max()"),
    EngineRule(
      "modelopt-expert-scale", .sglang, .differs, "keeps gate's global scale for gate and up",
      .number(.experts, .first), kinds: [.nvfp4], methods: ["modelopt"],
      source: "0.5.23, layers/quantization/modelopt_quant.py: w13_weight_scale_2[:, 0]"),
    EngineRule(
      "modelopt-blocks", .sglang, .refuses,
      "looks for the scales of blocks as weight_scale_inv, of two dimensions",
      .scalesNamed(.all, "weight_scale_inv"), kinds: [.fp8Block], methods: ["modelopt"],
      source: "0.5.23, layers/quantization/modelopt_quant.py: ModelOptMixedPrecisionConfig.get_quant_method; "
        + "layers/quantization/fp8.py: Fp8LinearMethod.create_weights",
      help: "write blocks with --layout compressed-tensors"),
    EngineRule(
      "fp8-fused-scale", .sglang, .differs, "rounds a fused matrix again to the largest scale of its parts",
      .number(.linear, .rounded), kinds: [.fp8Tensor],
      source: "0.5.23, layers/quantization/utils.py: requantize_with_max_scale",
      help: "convert it again: parts of a fused matrix get one scale"),
    EngineRule(
      "fp8-expert-scale", .sglang, .differs, "rounds gate and up of an expert again to the larger scale",
      .number(.experts, .rounded), kinds: [.fp8Tensor],
      source: "0.5.23, CT/schemes/compressed_tensors_w8a8_fp8_moe.py: process_weights_after_loading",
      help: "convert it again: gate and up of an expert get one scale"),
    EngineRule(
      "fp8-tensor-expert-activations", .sglang, .refuses,
      "takes experts with one scale a matrix with one scale for activations alone",
      .activations(.experts, ["static", "tensor"]), kinds: [.fp8Tensor], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_w8a8_fp8_moe.py: __init__",
      help: "store experts as fp8-channel, or with static activation scales"),
    EngineRule(
      "fp8-channel-expert-activations", .sglang, .refuses,
      "takes experts with a scale a channel with a scale for each token alone",
      .activations(.experts, ["token"]), kinds: [.fp8Channel], methods: compressed,
      source:
        "0.5.23, CT/schemes/compressed_tensors_w8a8_fp8_moe.py: __init__; "
        + "CT/compressed_tensors.py: get_moe_scheme",
      help: "declare activations by token"),
    EngineRule(
      "fp8-block-activations", .sglang, .refuses, "has no FP8 in blocks whose activations stay as they are",
      .activations(.all, ["group", "token", "tensor"]), kinds: [.fp8Block], methods: compressed,
      source: "0.5.23, CT/compressed_tensors.py: _is_fp8_w8a16", help: "declare activations by group"),
    EngineRule(
      "int8-experts", .sglang, .refuses, "has no experts of INT8 but on NPUs", .stored(.experts),
      kinds: [.int8], methods: compressed, source: "0.5.23, CT/compressed_tensors.py: get_moe_scheme",
      help: "use fp8-channel or W4A16"),
    EngineRule(
      "mxfp4-linear", .sglang, .refuses, "has no MXFP4 of compressed-tensors but in experts",
      .stored(.linear), kinds: [.mxfp4], methods: compressed,
      source:
        "0.5.23, CT/compressed_tensors.py: _get_scheme_from_parts; "
        + "CT/utils.py: is_activation_quantization_format",
      help: "keep what is no expert in another scheme"),
    EngineRule(
      "mxfp8", .sglang, .refuses, "has no MXFP8 of compressed-tensors", .stored(.all),
      kinds: [.mxfp8],
      methods: compressed, source: "0.5.23, CT/compressed_tensors.py: _get_scheme_from_parts",
      help: "use the makers' layout"),
    EngineRule(
      "expert-format", .sglang, .refuses,
      "takes packed experts where the whole configuration says pack-quantized alone",
      .format(["pack-quantized"], .experts),
      kinds: [.packed], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_wNa16_moe.py: __init__",
      help: "use one scheme for all that is quantized"),
    EngineRule(
      "packed-activations", .sglang, .refuses,
      "has no packed integers whose activations are rounded but in experts", .activations(.linear, ["none"]),
      kinds: [.packed], methods: compressed,
      source: "0.5.23, CT/compressed_tensors.py: _get_scheme_from_parts, _is_wNa16_group_channel",
      help: "leave activations as they are (W4A16), or use W8A8 or fp8-channel"),
    EngineRule(
      "int4-bytes", .sglang, .refuses, "has no 4-bit integers in bytes of their own but on NPUs",
      .stored(.all),
      kinds: [.int4], methods: compressed,
      source: "0.5.23, CT/compressed_tensors.py: _get_scheme_from_parts, get_moe_scheme",
      help: "use W4A16, W8A8 or fp8-channel"),
    EngineRule(
      "w4afp8-group", .sglang, .refuses,
      "runs experts of 4-bit integers with activations in FP8 by a kernel for groups of 128 alone",
      .groupsWithFP8(.experts, [128], multiple: nil), kinds: [.packed], methods: compressed,
      source: "0.5.23, layers/moe/cutlass_w4a8_moe.py: cutlass_w4a8_moe",
      help: "choose a group of 128, or leave activations as they are"),
    EngineRule(
      "gpt-oss", .sglang, .refuses, "loads gpt-oss' quantized experts from mxfp4's blocks alone",
      .method(["mxfp4"]), kinds: EngineKind.quantized, families: ["gpt_oss"],
      source: "0.5.23, models/gpt_oss.py: load_weights", help: "write it with --scheme mxfp4"),
    EngineRule(
      "gguf-types", .sglang, .refuses, "has no kernels for the types of blocks",
      .fileTypes([
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
        "Q6_K", "IQ1_M", "IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL",
      ]), source: "0.5.23, layers/quantization/gguf.py: fused_mul_mat_gguf",
      help: "choose a scheme of these types, or run a directory"),
    EngineRule(
      "shard-groups", .sglang, .refuses, "cuts input channels between groups of scales only",
      .shardColumns(.all),
      source: "0.5.23, CT/schemes/compressed_tensors_wNa16.py: create_weights; layers/quantization/fp8.py",
      help: "use fewer devices, expert parallelism, or a smaller group"),
    EngineRule(
      "expert-blocks", .sglang, .refuses, "has experts whose hidden channels a device are whole blocks",
      .shardRows(.experts, exceptLast: false), kinds: [.fp8Block],
      source: "0.5.23, layers/quantization/fp8.py: Fp8MoEMethod.create_weights",
      help: "use fewer devices or expert parallelism"),
    EngineRule(
      "blocks", .sglang, .refuses, "has parts of fused and cut matrices of whole blocks",
      .shardRows(.linear, exceptLast: false), kinds: [.fp8Block], methods: ["fp8"],
      source: "0.5.23, layers/quantization/fp8.py: Fp8LinearMethod.validate_block_quant_shapes",
      help: "use fewer devices, or fp8-channel"),
    EngineRule(
      "nvfp4-expert-width", .sglang, .refuses,
      "takes NVFP4 experts whose input channels are a multiple of 128",
      .expertInputs(128), kinds: [.nvfp4], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_w4a16_nvfp4_moe.py: process_weights_after_loading"),
    EngineRule(
      "nvfp4-expert-hidden", .sglang, .refuses,
      "takes NVFP4 experts whose hidden channels a device are a multiple of 64", .expertHidden(64),
      kinds: [.nvfp4], methods: compressed,
      source: "0.5.23, CT/schemes/compressed_tensors_w4a16_nvfp4_moe.py: process_weights_after_loading"),
    EngineRule(
      "shards", .sglang, .refuses, "cuts heads and channels evenly", .shards,
      source: "0.5.23, distributed/utils.py: divide", help: "use a number of devices that divides them"),
    EngineRule(
      "scale-type", .sglang, .differs,
      "keeps the scales of packed integers in the type of the model's numbers",
      .scaleType, kinds: [.packed],
      source: "0.5.23, CT/schemes/compressed_tensors_wNa16.py: weight_scale of params_dtype"),
    EngineRule(
      "kv-cache", .sglang, .differs,
      "leaves the cache's scales unused but for stored FP8 scales of whole tensors",
      .cache(["tensor"]), methods: compressed, source: "0.5.23, CT/compressed_tensors.py: is_supported_scheme"
    ),
    EngineRule(
      "stacked-experts", .sglang, .refuses, "asks for each expert's matrices by its number", .stacked,
      kinds: EngineKind.quantized, methods: compressed,
      source: "0.5.23, layers/moe/fused_moe_triton/layer.py: make_expert_params_mapping",
      help: "convert it again: experts are written one by one"),
  ]
}
