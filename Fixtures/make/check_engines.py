"""Holds the rules of `smelt check --for` against the engines' own code.

    python3 check_engines.py [--vllm DIR] [--sglang DIR] [--transformers DIR] [--mlx DIR] [--llama DIR] [--ollama DIR] [--smelt SMELT]

Each DIR is the unpacked package of the version that Formats/engines.md names (a wheel is a zip file: `vllm/…`, `sglang/…`, `transformers/…`,
`mlx_lm/…`), llama.cpp's and Ollama's their source trees. What is not given is skipped, and said. Checked:

1. the lists of architectures in EngineArchitectures.swift are those of the sources;
2. every row's facts stand in the sources: texts of functions found by their syntax trees, so that a rule whose code moved or changed fails;
3. names: `packed_modules_mapping`, renamed prefixes and the names that experts are asked by, as EngineNames.swift has them;
4. with --smelt: vLLM's and SGLang's own configuration code (compressed_tensors.py, its utils and the choice of the experts' method, imported
   with stand-ins for everything else) reads directories that smelt writes, is asked for every fused matrix and every layer's experts, and raises
   exactly where `smelt check --for` says that it refuses. Needs torch, pydantic and compressed-tensors.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
SWIFT = ROOT / "Sources/SmeltPipeline/Engines"
Q = "vllm/model_executor/layers/quantization"
CT = Q + "/compressed_tensors"
S = "sglang/srt/layers/quantization"
SCT = S + "/compressed_tensors"
TF = "transformers"

# The facts of each row: a file, a function or class in it (None: the file), and texts that it holds, spaces aside.
FACTS = {
    "vllm/container": [(Q + "/__init__.py", None, ['"compressed-tensors"', '!"gguf"'])],
    "vllm/configuration": [("vllm/transformers_utils/config.py", "get_config", ["raise ValueError"])],
    "vllm/architecture": [("vllm/model_executor/models/registry.py", None, ["_TEXT_GENERATION_MODELS", "_PREVIOUSLY_SUPPORTED_MODELS"])],
    "vllm/borrowed-architecture": [("vllm/model_executor/models/registry.py", None, ["_TRANSFORMERS_BACKEND_MODELS"])],
    "vllm/method": [(Q + "/__init__.py", None, ['"modelopt"', '"fp8"', '"deepseek_v4_fp8"', '"mxfp4"', '"gptq"', '"awq"', '"mxfp8"'])],
    "vllm/fused-scheme": [
        (CT + "/utils.py", "should_ignore_layer", ["any(shards_ignored) and not all(shards_ignored)", "raise ValueError"]),
        (Q + "/utils/quant_utils.py", "is_layer_skipped", ["elif is_shard_skipped != is_skipped", "raise ValueError"]),
    ],
    "vllm/expert-scheme": [(CT + "/compressed_tensors_moe/compressed_tensors_moe.py", "get_moe_method", ["cur_dict == scheme_dict", "All MoE projections need to have same"])],
    "vllm/declared-scheme": [
        (CT + "/utils.py", "find_matched_target", ["_find_first_match(layer_name, targets) or _match_fused_layer(layer_name, targets, fused_mapping) or _find_first_match(module.__class__.__name__, targets, True)"]),
        (CT + "/compressed_tensors_moe/compressed_tensors_moe.py", "get_moe_method", ["layer_name}.0.{proj_name}"]),
    ],
    "vllm/plain-role": [("vllm/model_executor/models/mixtral.py", "MixtralMoE", ["GateLinear(hidden_size, num_experts, params_dtype=params_dtype, prefix=f'{prefix}.gate')"]),
                        ("vllm/model_executor/models/qwen3_moe.py", "Qwen3MoeSparseMoeBlock", ["GateLinear(config.hidden_size, config.num_experts, quant_config=quant_config"])],
    "vllm/nvfp4-fused-scale": [(CT + "/schemes/compressed_tensors_w4a4_nvfp4.py", "process_weights_after_loading", ["layer.weight_global_scale.max()", "torch.unique(layer.weight_global_scale)"])],
    "vllm/nvfp4-expert-scale": [(CT + "/compressed_tensors_moe/compressed_tensors_moe_w4a4_nvfp4.py", "process_weights_after_loading", ["layer.w13_weight_global_scale[:, 0]"])],
    "vllm/modelopt-block-experts": [
        (Q + "/modelopt.py", "ModelOptMixedPrecisionConfig", ["if quant_algo in _BLOCK_FP8_MOE_ALGOS", "return Fp8MoEMethod(self.fp8_block_config, layer)"]),
        (Q + "/fp8.py", "Fp8MoEMethod", ["'weight_scale_inv' if self.block_quant else 'weight_scale'", "f'w13_{self.weight_scale_name}'"]),
    ],
    "vllm/fp8-fused-scale": [(Q + "/utils/w8a8_utils.py", "requantize_with_max_scale", ["weight_scale.max()", "ops.scaled_fp8_quant(weight_dq, max_w_scale)"])],
    "vllm/fp8-expert-scale": [(Q + "/utils/fp8_utils.py", "process_fp8_weight_tensor_strategy_moe", ["weight_scales.max(dim=1)", "ops.scaled_fp8_quant"])],
    "vllm/fp8-tensor-expert-activations": [(CT + "/compressed_tensors_moe/compressed_tensors_moe_w8a8_fp8.py", "__init__", ["self.input_quant.strategy == QuantizationStrategy.TENSOR", "assert self.weight_quant.strategy == QuantizationStrategy.BLOCK"])],
    "vllm/fp8-channel-expert-activations": [
        (CT + "/compressed_tensors_moe/compressed_tensors_moe_w8a8_fp8.py", "__init__", ["self.input_quant.strategy == QuantizationStrategy.TOKEN", "raise ValueError"]),
        (CT + "/compressed_tensors_moe/compressed_tensors_moe.py", "get_moe_method", ["not valid_format_and_bits", "CompressionFormat.pack_quantized.value"]),
    ],
    "vllm/fp8-block-expert-activations": [(CT + "/compressed_tensors_moe/compressed_tensors_moe.py", "get_moe_method", ["Unsupported FusedMoe scheme"]), (CT + "/compressed_tensors.py", "_is_fp8_w8a8", ["weight_quant is None or input_quant is None"])],
    "vllm/int8-expert-activations": [(CT + "/compressed_tensors_moe/compressed_tensors_moe_w8a8_int8.py", "__init__", ["QuantizationStrategy.CHANNEL", "QuantizationStrategy.TOKEN", "raise ValueError"])],
    "vllm/nvfp4-activations": [(CT + "/compressed_tensors.py", "_get_scheme_from_parts", ["input quantization must also be NVFP4"])],
    "vllm/activation-order": [(CT + "/compressed_tensors.py", "_quantization_scheme_map_from_config", ["ActivationOrdering.GROUP.value", "raise ValueError"])],
    "vllm/expert-group": [(Q + "/utils/marlin_utils.py", "check_moe_marlin_supports_config", ["group_size in [-1, 32, 64, 128]"])],
    "vllm/w4afp8-group": [
        (CT + "/schemes/compressed_tensors_w4a8_fp8.py", "__init__", ["self.group_size != 128 or self.strategy != 'group'", "raise ValueError"]),
        (CT + "/compressed_tensors_moe/compressed_tensors_moe_w4a8_fp8.py", "__init__", ["assert self.group_size == 128"]),
    ],
    "vllm/w4afp8-width": [(CT + "/compressed_tensors_moe/compressed_tensors_moe_w4a8_fp8.py", "create_weights", ["assert hidden_size % 256 == 0", "assert intermediate_size_per_partition % 256 == 0"])],
    "vllm/expert-width": [(Q + "/utils/marlin_utils.py", "check_moe_marlin_supports_config", ["hidden_size % 128 == 0"])],
    "vllm/shard-groups": [
        (CT + "/schemes/compressed_tensors_wNa16.py", "create_weights", ["verify_group_size_divides_partition"]),
        (Q + "/utils/fp8_utils.py", "validate_fp8_block_shape", ["input_size_per_partition % block_k != 0"]),
    ],
    "vllm/expert-blocks": [(Q + "/utils/fp8_utils.py", "validate_fp8_block_shape_moe", ["intermediate_size_per_partition % block_n != 0", "raise ValueError"])],
    "vllm/blocks": [(Q + "/utils/fp8_utils.py", "validate_fp8_block_shape", ["sizes_to_check = output_partition_sizes[:-1]", "output_partition_size % block_n != 0"])],
    "vllm/shards": [("vllm/distributed/utils.py", "divide", ["ensure_divisibility"])],
    "vllm/scale-type": [(CT + "/schemes/compressed_tensors_wNa16.py", "create_weights", ["dtype=params_dtype"])],
    "vllm/kv-cache": [(CT + "/compressed_tensors.py", "validate_kv_cache_scheme", ["type_ != 'float' or num_bits != 8", "QuantizationStrategy.ATTN_HEAD", "QuantizationStrategy.TENSOR"])],
    "vllm/drafts": [("vllm/model_executor/models/deepseek_mtp.py", None, ["quant_config"]), ("vllm/model_executor/models/qwen3_5_mtp.py", None, ["quant_config"])],
    "vllm/draft-scheme": [("vllm/model_executor/models/deepseek_mtp.py", None, ["quant_config=quant_config"]), ("vllm/model_executor/models/qwen3_5_mtp.py", None, ["quant_config"])],
    "vllm/stacked-experts": [("vllm/model_executor/layers/fused_moe/layer.py", None, ["fused_moe_make_expert_params_mapping"])],
    "vllm/gpt-oss": [("vllm/model_executor/models/gpt_oss.py", "GptOssModel", ["quant_method == 'gpt_oss_mxfp4'", "_load_weights_other"])],
    "vllm/expert-type": [("vllm/models/deepseek_v4/quant_config.py", "DeepseekV4FP8Config", ["expert_dtype"])],
    "sglang/container": [(S + "/__init__.py", None, ["'compressed-tensors'", "'gguf'"])],
    "sglang/configuration": [("sglang/srt/configs/model_config.py", None, ["get_config"])],
    "sglang/architecture": [
        ("sglang/srt/models/registry.py", None, ["EntryClass"]),
        ("sglang/srt/model_loader/loader.py", "_get_gguf_weights_map", ["model_type == 'qwen3_moe'", "Unknown gguf model_type"]),
    ],
    "sglang/borrowed-architecture": [("sglang/srt/models/transformers.py", None, ["EntryClass"])],
    "sglang/method": [(S + "/__init__.py", None, ["'fp8'", "'mxfp8'", "'modelopt'", "'compressed-tensors'", "'awq'"])],
    "sglang/fused-scheme": [(SCT + "/utils.py", "should_ignore_layer", ["elif should_ignore_shard != should_ignore_layer", "raise ValueError"])],
    "sglang/expert-scheme": [(SCT + "/compressed_tensors.py", "get_moe_scheme", ["All MoE projections need to have same", "'.0.gate_proj', '.0.up_proj', '.0.down_proj'"])],
    "sglang/declared-scheme": [(SCT + "/utils.py", "find_matched_target", ["_find_first_match(layer_name, targets) or _find_first_match(module.__class__.__name__, targets, True) or _match_fused_layer(layer_name, targets, fused_mapping)"])],
    "sglang/plain-role": [("sglang/srt/models/mixtral.py", "MixtralMoE", ["quant_config=None"])],
    "sglang/nvfp4-fused-scale": [(SCT + "/schemes/compressed_tensors_w4a16_nvfp4.py", "process_weights_after_loading", ["torch.unique(global_scale).numel() != 1", "raise ValueError"])],
    "sglang/nvfp4-expert-scale": [(SCT + "/schemes/compressed_tensors_w4a16_nvfp4_moe.py", "process_weights_after_loading", ["w13_global_scale != w13_global_scale[:, :1]", "raise ValueError"])],
    "sglang/modelopt-fused-scale": [(S + "/modelopt_quant.py", None, ["layer.weight_scale_2.max()"])],
    "sglang/modelopt-blocks": [
        (S + "/modelopt_quant.py", "ModelOptMixedPrecisionConfig", ["return Fp8LinearMethod(self.fp8_block_config)", "return Fp8MoEMethod(self.fp8_block_config)"]),
        (S + "/fp8.py", "Fp8LinearMethod", ["layer.register_parameter('weight_scale_inv', scale)"]),
    ],
    "sglang/modelopt-expert-scale": [(S + "/modelopt_quant.py", None, ["layer.w13_weight_scale_2[:, 0]"])],
    "sglang/fp8-fused-scale": [(S + "/utils.py", "requantize_with_max_scale", ["weight_scale.max()"])],
    "sglang/fp8-expert-scale": [(SCT + "/schemes/compressed_tensors_w8a8_fp8_moe.py", "process_weights_after_loading", ["w13_weight_scale.max(dim=1)"])],
    "sglang/fp8-tensor-expert-activations": [(SCT + "/schemes/compressed_tensors_w8a8_fp8_moe.py", "__init__", ["self.input_quant.strategy == QuantizationStrategy.TENSOR", "assert self.weight_quant.strategy == QuantizationStrategy.BLOCK"])],
    "sglang/fp8-channel-expert-activations": [(SCT + "/schemes/compressed_tensors_w8a8_fp8_moe.py", "__init__", ["self.input_quant.strategy == QuantizationStrategy.TOKEN"]), (SCT + "/compressed_tensors.py", "get_moe_scheme", ["Unsupported FusedMoe scheme"])],
    "sglang/fp8-block-activations": [(SCT + "/compressed_tensors.py", "_is_fp8_w8a16", ["QuantizationStrategy.TENSOR, QuantizationStrategy.CHANNEL", "!BLOCK"])],
    "sglang/int8-experts": [(SCT + "/compressed_tensors.py", "get_moe_scheme", ["The W8A8Int8 Fused MoE scheme is implemented only for NPU for now."])],
    "sglang/mxfp4-linear": [(SCT + "/utils.py", "is_activation_quantization_format", ["!mxfp4"]), (SCT + "/compressed_tensors.py", "_get_scheme_from_parts", ["No compressed-tensors compatible scheme was found."])],
    "sglang/mxfp8": [(SCT + "/compressed_tensors.py", None, ["!mxfp8"])],
    "sglang/expert-format": [(SCT + "/schemes/compressed_tensors_wNa16_moe.py", "__init__", ["self.quant_config.quant_format == CompressionFormat.pack_quantized.value", "raise ValueError"])],
    "sglang/packed-activations": [
        (SCT + "/compressed_tensors.py", "_is_wNa16_group_channel", ["input_quant_none = input_quant is None"]),
        (SCT + "/compressed_tensors.py", "_get_scheme_from_parts", ["No compressed-tensors compatible scheme was found.", "!_is_wint4afp8"]),
    ],
    "sglang/int4-bytes": [
        (SCT + "/compressed_tensors.py", "_get_scheme_from_parts", ["quant_format == CompressionFormat.pack_quantized.value", "!_is_dynamic_token_w4a8"]),
        (SCT + "/compressed_tensors.py", "get_moe_scheme", ["The W4A8Int8 Fused MoE scheme is implemented only for NPU for now."]),
    ],
    "sglang/w4afp8-group": [("sglang/srt/layers/moe/cutlass_w4a8_moe.py", "cutlass_w4a8_moe", ["128"]), (SCT + "/schemes/compressed_tensors_w4a8_fp8_moe.py", None, ["CompressedTensorsW4AFP8MoE"])],
    "sglang/gpt-oss": [("sglang/srt/models/gpt_oss.py", "load_weights", ["quant_config_name == 'mxfp4'", "quant_config_name == 'quark'", "self._load_normal_weights"])],
    "sglang/gguf-types": [(S + "/gguf.py", "fused_mul_mat_gguf", ["Unsupported GGUF quantization type"]), (S + "/gguf.py", None, ["WeightType.IQ4_NL", "!WeightType.MXFP4", "!WeightType.TQ1_0"])],
    "sglang/shard-groups": [(SCT + "/schemes/compressed_tensors_wNa16.py", "create_weights", ["assert input_size_per_partition % group_size == 0"]), (S + "/fp8.py", None, ["input_size_per_partition % block_k != 0"])],
    "sglang/expert-blocks": [(S + "/fp8.py", None, ["intermediate_size_per_partition % block_n != 0"])],
    "sglang/blocks": [(S + "/fp8.py", "validate_block_quant_shapes", ["output_partition_size % block_n != 0", "len(output_partition_sizes) > 1"]),
                      ("sglang/srt/models/deepseek_v2.py", None, ["self.fused_qkv_a_proj_with_mqa = ReplicatedLinear"])],
    "sglang/nvfp4-expert-width": [(SCT + "/schemes/compressed_tensors_w4a16_nvfp4_moe.py", "process_weights_after_loading", ["layer.hidden_size % 128 != 0"])],
    "sglang/nvfp4-expert-hidden": [(SCT + "/schemes/compressed_tensors_w4a16_nvfp4_moe.py", "process_weights_after_loading", ["layer.intermediate_size_per_partition % 64 != 0"])],
    "sglang/shards": [("sglang/srt/distributed/utils.py", "divide", ["ensure_divisibility"])],
    "sglang/scale-type": [(SCT + "/schemes/compressed_tensors_wNa16.py", "create_weights", ["dtype=params_dtype"])],
    "sglang/kv-cache": [(SCT + "/compressed_tensors.py", "is_supported_scheme", ["'tensor'", "not kv_cache_scheme.get('dynamic', False)"])],
    "sglang/stacked-experts": [("sglang/srt/layers/moe/fused_moe_triton/layer.py", "make_expert_params_mapping", ["experts."])],
    "transformers/container": [(TF + "/modeling_utils.py", None, ["safetensors", "gguf_file"])],
    "transformers/configuration": [(TF + "/configuration_utils.py", "get_config_dict", ["cls._get_config_dict"])],
    "transformers/architecture": [(TF + "/models/auto/modeling_auto.py", None, ["MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"])],
    "transformers/method": [(TF + "/quantizers/auto.py", None, ["'compressed-tensors'", "'fp8'", "'mxfp8'", "'mxfp4'", "'gptq'", "'awq'", "!'modelopt'"])],
    "transformers/nvfp4-experts": [(TF + "/integrations/compressed_tensors.py", "CompressedTensorsDequantize", ["'weight_packed' not in key", "self.weight_scale", "!weight_global_scale"])],
    "transformers/int8-experts": [(TF + "/integrations/compressed_tensors.py", "CompressedTensorsDequantize", ["weights_args.type == 'float' and weights_args.num_bits == 8", "'weight_packed' not in key"])],
    "transformers/fp8-block-experts": [(TF + "/integrations/compressed_tensors.py", "CompressedTensorsDequantize", ["quant.to(torch.float32) * scale.to(torch.float32)"])],
    "transformers/asymmetric-experts": [(TF + "/integrations/compressed_tensors.py", "CompressedTensorsDequantize", ["self.weight_shape", "!zero_point"])],
    "transformers/expert-activations": [(TF + "/quantizers/base.py", "update_weight_conversions", ["operations=[dequantize(self)] + converter.operations"])],
    "transformers/expert-scheme": [(TF + "/integrations/compressed_tensors.py", "get_experts_scheme", ["return groups[0]"])],
    "transformers/dense-scheme": [(TF + "/integrations/compressed_tensors.py", "get_dense_scheme", ["return groups[0]"])],
    "transformers/gpt-oss": [(TF + "/conversion_mapping.py", None, ["!gpt_oss"]), (TF + "/models/gpt_oss/modeling_gpt_oss.py", "GptOssExperts", ["self.gate_up_proj = nn.Parameter"])],
    "transformers/stacked-experts": [(TF + "/conversion_mapping.py", None, ["experts.*"])],
    "llama.cpp/container": [("src/llama-model-loader.cpp", None, ["gguf_init_from_file"])],
    "llama.cpp/architecture": [("src/llama-arch.cpp", None, ["LLM_ARCH_NAMES"])],
    "llama.cpp/tokenizer": [("src/llama-vocab.cpp", None, ["LLM_KV_TOKENIZER_MODEL"])],
    "llama.cpp/file": [("src/llama-model-loader.cpp", None, ["key not found in model", "missing tensor"])],
    "llama.cpp/code": [("src/llama-model-loader.cpp", None, ["wrong number of tensors"])],
    "llama.cpp/computes": [("src/models/llama.cpp", None, ["!swa"])],
    "ollama/container": [("convert/convert.go", None, ["safetensors"])],
    "ollama/configuration": [("convert/convert.go", None, ['fs.ReadFile(fsys, "config.json")'])],
    "ollama/architecture": [("convert/convert.go", None, ["unsupported architecture"]), ("LLAMA_CPP_VERSION", None, ["b10488"])],
    "ollama/tokenizer": [("LLAMA_CPP_VERSION", None, ["b10488"])],
    "ollama/file": [("LLAMA_CPP_VERSION", None, ["b10488"])],
    "ollama/code": [("LLAMA_CPP_VERSION", None, ["b10488"])],
    "ollama/computes": [("LLAMA_CPP_VERSION", None, ["b10488"])],
    "ollama/types": [("convert/reader_safetensors.go", None, ['case "F32":', 'case "F16":', 'case "BF16":', 'case "F8_E4M3":', "unknown data type"])],
    "ollama/method": [("convert/reader_safetensors.go", None, ["missing fp8 scale companion", "WeightBlockSize", "BlockStructure"]), ("convert/convert_gptoss.go", None, ["mlp.experts.gate_up_proj_"])],
    "ollama/fp8-scales": [("convert/reader_safetensors.go", None, ["missing fp8 block size metadata", "float-quantized"])],
    "mlx/container": [("mlx_lm/utils.py", "load_model", ["model*.safetensors"])],
    "mlx/configuration": [("mlx_lm/utils.py", "load_config", ["config.json"])],
    "mlx/architecture": [("mlx_lm/utils.py", "_get_classes", ["not supported"])],
    "mlx/format": [("mlx_lm/utils.py", "_compressed_tensors_quantization", ["'nvfp4-pack-quantized'", "'mxfp4-pack-quantized'", "'pack-quantized'", "raise ValueError"])],
    "mlx/packed-group": [("mlx_lm/utils.py", "_compressed_tensors_quantization", ["{'group_size': 32, 'bits': 4, 'mode': 'affine'}"])],
    "mlx/packed-names": [("mlx_lm/models/deepseek_v3.py", None, ["weight_packed"]), ("mlx_lm/models/mistral4.py", None, ["weight_packed"]), ("mlx_lm/models/llama.py", None, ["!weight_packed"])],
    "mlx/fp8-names": [("mlx_lm/models/deepseek_v3.py", None, ["weight_scale_inv"]), ("mlx_lm/models/minimax.py", None, ["weight_scale_inv"]), ("mlx_lm/models/llama.py", None, ["!weight_scale_inv"])],
    "mlx/modelopt": [("mlx_lm/utils.py", "load_model", ["Unsupported modelopt quant_algo"])],
}

failures = 0


def fail(text):
    global failures
    failures += 1
    print("FAIL", text)


def part(tree, name):
    """The sources of every function or class of a name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds) and node.name == name]


def squeezed(text):
    return re.sub(r"[\s()]+", "", text).replace('"', "'")


def check_facts(folders):
    counted = 0
    for rule, facts in FACTS.items():
        engine = rule.split("/")[0]
        if engine not in folders:
            continue
        for file, name, texts in facts:
            path = folders[engine] / file
            if not path.exists():
                fail(f"{rule}: no {file}")
                continue
            source = path.read_text()
            if path.suffix == ".py":
                tree = ast.parse(source)
                nodes = part(tree, name) if name else [tree]
                if not nodes:
                    fail(f"{rule}: {file} has no {name}")
                    continue
                source = "\n".join(ast.unparse(node) for node in nodes)
            for text in texts:
                counted += 1
                wanted = not text.startswith("!")
                if (squeezed(text.lstrip("!")) in squeezed(source)) != wanted:
                    fail(f"{rule}: {file}: {name or 'the file'} {'lacks' if wanted else 'has'} {text.lstrip('!')}")
    print(f"{counted} facts of {sum(rule.split('/')[0] in folders for rule in FACTS)} rules")


def swift_list(name):
    text = (SWIFT / "EngineArchitectures.swift").read_text()
    return set(re.search(rf'static let {name} = names\(\s*"""(.*?)"""', text, re.S).group(1).split())


def assigned(tree, name):
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            return node.value
    return None


def compare(name, theirs):
    ours = swift_list(name)
    if ours != theirs:
        fail(f"architectures of {name}: missing {sorted(theirs - ours)[:5]}, too many {sorted(ours - theirs)[:5]}")
    print(f"{name}: {len(theirs)} architectures")


def check_lists(folders):
    if "vllm" in folders:
        tree = ast.parse((folders["vllm"] / "vllm/model_executor/models/registry.py").read_text())
        keys = set()
        for name in ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS"):
            keys |= {key.value for key in assigned(tree, name).keys if isinstance(key, ast.Constant)}
        compare("vllm", keys)
        until = ast.literal_eval(assigned(tree, "_PREVIOUSLY_SUPPORTED_MODELS"))
        text = (SWIFT / "EngineArchitectures.swift").read_text()
        ours = dict(re.findall(r'^    "(\w+)": "([\d.]+)",$', text, re.M))
        if ours != until:
            fail("vllmUntil is not _PREVIOUSLY_SUPPORTED_MODELS")
    if "sglang" in folders:
        names = set()
        for path in (folders["sglang"] / "sglang/srt/models").glob("*.py"):
            value = assigned(ast.parse(path.read_text()), "EntryClass")
            names |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)} if value else set()
        compare("sglang", names)
    if "transformers" in folders:
        tree = ast.parse((folders["transformers"] / TF / "models/auto/modeling_auto.py").read_text())
        types_ = set()
        for name in ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"):
            types_ |= {key for key, _ in ast.literal_eval(assigned(tree, name).args[0])}
        compare("transformers", types_)
        tree = ast.parse((folders["transformers"] / TF / "integrations/ggml.py").read_text())
        keys = {key.value for key in assigned(tree, "GGUF_CONFIG_MAPPING").keys if isinstance(key, ast.Constant)}
        compare("transformersGGUF", keys - {"general", "tokenizer"})
    if "llama.cpp" in folders:
        text = (folders["llama.cpp"] / "src/llama-arch.cpp").read_text()
        names = re.findall(r'"([^"]+)"', re.search(r"LLM_ARCH_NAMES = \{(.*?)\n\};", text, re.S).group(1))
        compare("llamaCpp", set(names) - {"clip", "(unknown)"})
    if "ollama" in folders:
        text = (folders["ollama"] / "convert/convert.go").read_text()
        names = {name for line in re.findall(r"^\s*case (\".*\"):", text, re.M) for name in re.findall(r'"([^"]+)"', line)}
        compare("ollama", {name for name in names if name[0].isupper()})
    if "mlx" in folders:
        skip = "__init__ base cache activations bitlinear_layers gated_delta mla pipeline rope_utils ssm switch_layers".split()
        names = {path.stem for path in (folders["mlx"] / "mlx_lm/models").glob("*.py")} - set(skip)
        tree = ast.parse((folders["mlx"] / "mlx_lm/utils.py").read_text())
        compare("mlx", names | set(ast.literal_eval(assigned(tree, "MODEL_REMAPPING"))))


def check_names(folders):
    """Renamed prefixes and probes of EngineNames.swift stand in the files that it names."""
    text = (SWIFT / "EngineNames.swift").read_text()
    for block, source in re.findall(r'(?s)\n    Prefix\((.*?)source: "([^"]+)"\)', text):
        engine, file = source.split(",", 1)
        key = engine.split()[0].lower()
        if key not in folders:
            continue
        path = folders[key] / (("vllm/" if key == "vllm" else "sglang/") + file.strip())
        old, new = re.search(r'from: "([^"]+)",\s*to: "([^"]+)"', block).groups()
        if squeezed(f"'{old}': '{new}'") not in squeezed(path.read_text()):
            fail(f"{file.strip()} does not rename {old}")
    for block, source in re.findall(r'(?s)\n    Probe\((.*?)source: "([^"]+)"\)', text):
        engine, file = source.split(",", 1)
        key = engine.split()[0].lower()
        if key not in folders:
            continue
        names = re.findall(r'"(\w+)"', re.search(r"names: \[(.*?)\]", block).group(1))
        # gate, up, down here; gate, down, up there.
        order = [names[0], names[2], names[1]] if len(names) == 3 else names
        source_text = squeezed((folders[key] / "vllm" / file.strip()).read_text())
        wanted = squeezed("ckpt_names=(" + ", ".join(f"'{name}'" for name in order))
        if wanted not in source_text:
            fail(f"{file.strip()} does not ask for {order}")
    if "vllm" in folders:
        mapping = {}
        for path in list((folders["vllm"] / "vllm/model_executor/models").glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    for statement in node.body:
                        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "packed_modules_mapping":
                            try:
                                mapping[node.name] = set(ast.literal_eval(statement.value))
                            except ValueError:
                                pass
        for name in ("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration"):
            if "gate_up_proj" in mapping.get(name, {"gate_up_proj"}):
                fail(f"{name} lists gate_up_proj")
    if "sglang" in folders:
        for stem in ("llama", "mixtral", "qwen2", "qwen2_moe", "qwen3", "olmoe", "gpt_oss", "glm4_moe", "hunyuan_v3"):
            text = (folders["sglang"] / f"sglang/srt/models/{stem}.py").read_text()
            if "packed_modules_mapping" in text:
                fail(f"SGLang's {stem}.py lists fused matrices")


# 4. vLLM's own code on directories that smelt writes.


class Pair:
    """What stands for a function's results: several, none of them true."""

    def __bool__(self):
        return False

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Anything()

    def __iter__(self):
        return iter((Anything(), Anything()))


class Anything:
    """A value of which anything may be asked."""

    def __call__(self, *arguments, **names):
        return Pair()

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Anything()

    def __getitem__(self, key):
        return Anything()

    def __bool__(self):
        return False

    def __iter__(self):
        return iter(())


class Open(type):
    """A class of which anything may be asked."""

    def __getattr__(cls, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Anything()


class StandIn(types.ModuleType):
    """A module with whatever it is asked for: classes for names that look like classes."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        members = {"__init__": lambda self, *a, **k: None, "__getattr__": Anything.__getattr__}
        value = Open(name, (), members) if name[:1].isupper() else Anything()
        if name == "init_logger":
            value = lambda *a: Anything()
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Real files for some modules of a package, stand-ins for all others."""

    def __init__(self, root, package, real):
        self.root, self.package, self.real = root, package, real

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != self.package:
            return None
        file = self.root / (name.replace(".", "/") + ".py")
        if name in self.real and file.exists():
            return importlib.util.spec_from_file_location(name, file)
        spec = importlib.machinery.ModuleSpec(name, self, is_package=True)
        return spec

    def create_module(self, spec):
        module = StandIn(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


def vllm_code(root):
    """The configuration class, and the choice of the experts' method."""
    base = "vllm.model_executor.layers.quantization"
    moe = base + ".compressed_tensors.compressed_tensors_moe"
    real = {
        base + ".utils.config_utils", base + ".compressed_tensors.utils", base + ".compressed_tensors.compressed_tensors",
        moe + ".compressed_tensors_moe",
        moe + ".compressed_tensors_moe_w8a8_fp8", moe + ".compressed_tensors_moe_w8a8_int8",
    }
    sys.meta_path.insert(0, Finder(root, "vllm", real))
    quantization = importlib.import_module(base + ".compressed_tensors.compressed_tensors")
    experts = importlib.import_module(moe + ".compressed_tensors_moe")
    sixteen = importlib.import_module(base + ".compressed_tensors.schemes.compressed_tensors_wNa16")
    sixteen.WNA16_SUPPORTED_BITS = [2, 3, 4, 5, 6, 7, 8]
    experts.WNA16_SUPPORTED_BITS = sixteen.WNA16_SUPPORTED_BITS
    quantization.current_platform = types.SimpleNamespace(get_device_capability=lambda: None, is_xpu=lambda: False, is_rocm=lambda: False)
    experts.current_platform = quantization.current_platform
    return quantization.CompressedTensorsConfig, experts.CompressedTensorsMoEMethod


class QKVParallelLinear:
    pass


class RoutedExperts:
    moe_config = Anything()

    def __init__(self, names):
        self.ckpt_gate_proj_name, self.ckpt_down_proj_name, self.ckpt_up_proj_name = names


class FusedMoE(RoutedExperts):
    """SGLang's name for it, which targets of classes are compared with."""


EXPERTS = RoutedExperts
MAPPING = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def recipe(default, **roles):
    rules = [{"role": role, "scheme": scheme} for role, scheme in roles.items()]
    return {"schema": "smelt.recipe/1", "default": default, "rules": rules}


CASES = [
    # A fixture, a scheme or a recipe, the names of experts (gate, down, up), what its class lists; what is made plain, and ignored.
    ("qwen3_moe", "FP8_DYNAMIC", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"], r"self_attn\.k_proj$"),
    ("qwen3_moe", "FP8_DYNAMIC", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"], r"self_attn\.[qkv]_proj$"),
    ("qwen3_moe", "FP8_DYNAMIC", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"], r"experts\.\d+\.down_proj$"),
    ("qwen3_moe", "W8A8", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"], r"\.experts\."),
    ("mixtral", "FP8_DYNAMIC", ("w1", "w2", "w3"), ["qkv_proj"], r"\.experts\.\d+\.w2$"),
    ("mixtral", "FP8_DYNAMIC", ("w1", "w2", "w3"), ["qkv_proj"], r"\.experts\."),
    ("llama", "W8A8", None, ["qkv_proj", "gate_up_proj"], r"layers\.0\.mlp\.up_proj$"),
    ("llama", "W8A8", None, ["qkv_proj", "gate_up_proj"], r"layers\.0\.mlp\.(up|gate)_proj$"),
    ("qwen3_moe", "FP8_DYNAMIC", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", "W8A8", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", "fp8-tensor", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", "nvfp4", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", "mxfp4", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", "FP8_BLOCK", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("mixtral", "FP8_DYNAMIC", ("w1", "w2", "w3"), ["qkv_proj"]),
    ("glm4_moe", "W8A8", ("gate_proj", "down_proj", "up_proj"), ["qkv_proj", "gate_up_proj"]),
    ("llama", "W8A8", None, ["qkv_proj", "gate_up_proj"]),
    ("llama", "FP8_DYNAMIC", None, ["qkv_proj", "gate_up_proj"]),
    ("deepseek_v3", "W4A16", ("gate_proj", "down_proj", "up_proj"), ["gate_up_proj"]),
    ("qwen3_moe", recipe("keep", attention="int8-channel"), ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", recipe("fp8-channel", routed_down="int8-channel"), ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("qwen3_moe", recipe("fp8-channel", routed_down="keep"), ("gate_proj", "down_proj", "up_proj"), ["qkv_proj"]),
    ("mixtral", recipe("keep", attention="int8-channel"), ("w1", "w2", "w3"), ["qkv_proj"]),
    ("llama", recipe("fp8-channel", dense_up="keep"), None, ["qkv_proj", "gate_up_proj"]),
]
SGLANG_LISTS = {"qwen3_moe": ["qkv_proj", "gate_up_proj"]}
# What the real code decides in the functions that run here.
DECIDED = {"fused-scheme", "expert-scheme", "declared-scheme", "fp8-tensor-expert-activations", "fp8-channel-expert-activations",
           "fp8-block-expert-activations", "fp8-block-activations", "int8-experts", "mxfp4-linear", "int8-expert-activations", "nvfp4-activations", "activation-order"}


def sglang_code(root):
    """The configuration class, which chooses the experts' scheme itself."""
    base = "sglang.srt.layers.quantization.compressed_tensors"
    real = {base + ".utils", base + ".compressed_tensors", base + ".schemes.compressed_tensors_w8a8_fp8_moe"}
    sys.meta_path.insert(0, Finder(root, "sglang", real))
    quantization = importlib.import_module(base + ".compressed_tensors")
    fp8 = importlib.import_module(base + ".schemes.compressed_tensors_w8a8_fp8_moe")
    quantization.CompressedTensorsW8A8Fp8MoE = fp8.CompressedTensorsW8A8Fp8MoE
    quantization.WNA16_SUPPORTED_BITS = [4, 8]
    for name in ("_is_npu", "_is_xpu", "_is_hip"):
        setattr(quantization, name, False)
    configuration = quantization.CompressedTensorsConfig
    configuration._check_scheme_supported = lambda self, *a, **k: True

    class Method:
        @staticmethod
        def get_moe_method(config, layer, module):
            # What get_quant_method asks first.
            return "mxfp4" if config._is_mxfp4_moe(layer_name=module) else config.get_moe_scheme(layer, module)

    configuration.get_scheme = lambda self, layer, module: self.get_linear_scheme(layer, module)
    return configuration, Method


def refusal(configuration, method, config, modules, names, listed):
    """The first refusal of an engine's code for a directory's modules, or None."""
    quantization = configuration.from_config(json.loads(json.dumps(config["quantization_config"])))
    quantization.packed_modules_mapping = {name: MAPPING[name] for name in listed}
    asked = set()
    for module, stored in modules.items():
        prefix, word = module.rsplit(".", 1)
        if ".experts." in module:
            asked.add(("experts", module.split(".experts.")[0] + ".experts", True))
            continue
        fused = next((name for name, parts in MAPPING.items() if word in parts), None)
        asked.add(("linear", f"{prefix}.{fused}" if fused else module, stored))
    for kind, module, stored in sorted(asked, key=str):
        try:
            if kind == "experts":
                method.get_moe_method(quantization, EXPERTS(names), module)
            else:
                scheme = quantization.get_scheme(QKVParallelLinear(), module)
                if (scheme is not None) != bool(stored):
                    return f"{module}: finds {'a scheme' if scheme else 'none'}"
                found = quantization.get_scheme_dict(QKVParallelLinear(), module) if scheme else None
                group = found["weights"].group_size if found and found["weights"].type == "int" else None
                if group and group > 0 and group != stored:
                    return f"{module}: finds groups of {group}, stored are groups of {stored}"
        except (ValueError, AssertionError, NotImplementedError, RuntimeError, ImportError) as error:
            return f"{module}: {type(error).__name__} {str(error)[:80]}"
    return None


def mismatch(configuration, method, config, modules, names, listed):
    """A layer's experts that get a scheme though they are plain, or none though they are quantized."""
    quantization = configuration.from_config(json.loads(json.dumps(config["quantization_config"])))
    quantization.packed_modules_mapping = {name: MAPPING[name] for name in listed}
    for module, stored in modules.items():
        if ".experts.0." in module:
            scheme = method.get_moe_method(quantization, EXPERTS(names), module.split(".experts.")[0] + ".experts")
            if (scheme is not None) != bool(stored):
                return f"{module}: finds {'a scheme' if scheme else 'none'}"
    return None


def make_plain(folder, pattern):
    """Modules of a pattern become plain, and stand on `ignore`."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for name in list(tensors):
            module, word = name.rsplit(".", 1)
            if not re.search(pattern, module):
                continue
            tensor = tensors.pop(name)
            if word == "weight":
                tensors[name] = torch.zeros(tensor.shape, dtype=torch.bfloat16)
                config["quantization_config"]["ignore"].append(module)
        save_file(tensors, path, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def check_code(engine, root, smelt):
    from safetensors import safe_open

    global EXPERTS
    configuration, method = vllm_code(root) if engine == "vllm" else sglang_code(root)
    EXPERTS = RoutedExperts if engine == "vllm" else FusedMoE
    for name, scheme, names, listed, *plain in CASES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            words = ["--scheme", scheme]
            if isinstance(scheme, dict):
                (folder / "recipe.json").write_text(json.dumps(scheme))
                words = ["--recipe", str(folder / "recipe.json")]
            run = subprocess.run([smelt, "convert", str(ROOT / "Fixtures/models" / name), str(folder / "out"), *words, "--quiet"], capture_output=True, text=True)
            if run.returncode:
                print(f"skipped {name} {scheme}: {run.stderr.splitlines()[0]}")
                continue
            for pattern in plain:
                make_plain(folder / "out", pattern)
                scheme = f"{scheme}, plain {pattern}"
            config = json.loads((folder / "out/config.json").read_text())
            modules = {}
            for path in (folder / "out").glob("*.safetensors"):
                with safe_open(path, "pt") as file:
                    keys = set(file.keys())
                    for key in keys:
                        if not key.endswith((".weight", ".weight_packed")) or len(file.get_slice(key).get_shape()) != 2:
                            continue
                        module = key.rsplit(".", 1)[0]
                        if any(word in module for word in ("embed_tokens", "lm_head", "norm")) or module.endswith(("mlp.gate", "block_sparse_moe.gate")):
                            continue
                        # False for a plain one, else the columns of a scale.
                        scale = module + ".weight_scale"
                        shape = file.get_slice(key).get_shape()
                        width = shape[1] * (8 if key.endswith("_packed") and config["quantization_config"].get("format") == "pack-quantized" else 1)
                        count = (file.get_slice(scale).get_shape() or [1])[-1] if scale in keys else 0
                        modules[module] = width // count if count else False
            if engine == "sglang":
                listed = SGLANG_LISTS.get(name, [])
            theirs = refusal(configuration, method, config, modules, names, listed)
            if theirs is None and engine == "sglang" and any(".experts." in m for m, q in modules.items()):
                # Its choice of no scheme for experts that are quantized, or of one for plain ones, is no error of the choice.
                theirs = mismatch(configuration, method, config, modules, names, listed)
            found = json.loads(subprocess.run([smelt, "check", str(folder / "out"), "--for", engine, "--json"], capture_output=True, text=True).stdout)
            ours = [f["rule"] for f in found["findings"] if f["rule"] in DECIDED and f["outcome"] == "refuses"]
            if bool(theirs) != bool(ours):
                fail(f"{engine} {name} {scheme}: its code: {theirs}; smelt: {ours}")
            else:
                print(f"{engine} {name} {scheme}: {'refused, ' + theirs if theirs else 'taken'}; smelt: {', '.join(ours) or 'loads'}")


def main():
    parser = argparse.ArgumentParser()
    for name in ("vllm", "sglang", "transformers", "mlx", "llama", "ollama"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--smelt")
    arguments = parser.parse_args()
    keys = {"llama": "llama.cpp"}
    folders = {keys.get(n, n): getattr(arguments, n) for n in ("vllm", "sglang", "transformers", "mlx", "llama", "ollama") if getattr(arguments, n)}
    for name in ("vllm", "sglang", "transformers", "mlx", "llama.cpp", "ollama"):
        if name not in folders:
            print(f"skipped: {name} was not given")
    check_lists(folders)
    check_facts(folders)
    check_names(folders)
    for engine in ("vllm", "sglang"):
        if arguments.smelt and engine in folders:
            check_code(engine, folders[engine], arguments.smelt)
    print("failed:", failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
