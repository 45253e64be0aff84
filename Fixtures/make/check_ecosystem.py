"""Compares directories that smelt wrote with what other programs make of them.

    python3 check_ecosystem.py SMELT [--models FOLDER] [--only NAME …] [--words WORD …] [--transformers]

SMELT is the built command, FOLDER the one with the fixtures' models. For each model (--only: these) and scheme (--words: these) a
directory is written, and

1. config.json is read by compressed-tensors (0.20) as its own configuration, every module matched against targets and `ignore`;
2. every quantized module is decompressed by the package, in float32, and compared bit for bit with what smelt reads from the same
   directory (`convert DIR OUT --scheme f32`);
3. the format that the package infers for the module is the one that was written (but for W4AFP8, of which engines want packed codes);
4. the makers' layouts, which the package does not read, are decoded here: DeepSeek's code x scale of its block, MiniMax-M3's MXFP8,
   gpt-oss's blocks by transformers' own `convert_moe_packed_tensors`;
5. with --transformers the directory is loaded by it on the CPU with `dequantize=True`, and its logits are compared with smelt's.

Needs numpy, safetensors, torch, compressed-tensors; transformers if it is to be asked.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils import match_name
from safetensors.torch import load_file

WORDS = [
    "W8A8", "W8A16", "FP8_DYNAMIC", "fp8-tensor", "FP8_BLOCK", "W4A16", "nvfp4", "mxfp4", "mxfp8", "MXFP8A16", "fp8-block:32", "W4A8",
    "W4AFP8", "W4A16_ASYM", "MXFP4XFP8",
]
MODELS = [
    "qwen3_moe", "mixtral", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "minimax_m2", "minimax_m3_vl", "gpt_oss",
    "qwen3_5_moe", "qwen3_vl_moe", "qwen3_next", "qwen2_moe", "gemma4", "mistral4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hy_v3",
    "nemotron_h", "olmoe", "kimi_k25", "llama", "mistral", "qwen2", "qwen3", "qwen3_5", "gemma4_dense",
]
OWN = [
    ("deepseek_v3", "fp8-block"), ("deepseek_v4", "fp8-block"), ("deepseek_v3-fp8", "keep"), ("deepseek_v4-fp4", "keep"),
    ("deepseek_v4", "fp8-block-e8m0:32"), ("minimax_m3_vl-mxfp8", "keep"), ("gpt_oss-mxfp4", "keep"),
]
SUFFIXES = ("weight_packed", "weight_scale", "weight_shape", "weight_global_scale", "weight_zero_point")


def tensors(folder):
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(load_file(path))
    return out


def scheme_of(config, module):
    """The scheme of a linear module: names before patterns before classes, nothing for those on `ignore`."""
    if any(match_name(module, entry) for entry in config.ignore):
        return None
    for kind in (lambda t: not t.startswith("re:") and t != "Linear", lambda t: t.startswith("re:"), lambda t: t == "Linear"):
        for scheme in config.config_groups.values():
            for target in scheme.targets:
                if kind(target) and (target == "Linear" or match_name(module, target)):
                    return scheme
    return None


def number(numbers, module):
    """A module's plain matrix; gpt-oss's stacks, which plain directories have, hold gate and up in turn and transposed."""
    found = re.match(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj$", module)
    if f"{module}.weight" in numbers or not found:
        return numbers[f"{module}.weight"]
    stack, expert, part = found.groups()
    if part == "down":
        return numbers[f"{stack}.down_proj"][int(expert)].T
    return numbers[f"{stack}.gate_up_proj"][int(expert)][:, int(part == "up") :: 2].T


def check_compressed(folder, plain):
    config = QuantizationConfig.model_validate(json.loads((folder / "config.json").read_text())["quantization_config"])
    stored, numbers = tensors(folder), tensors(plain)
    modules = sorted({name.rsplit(".", 1)[0] for name in stored if name.endswith(".weight_scale")})
    plain_linear = [
        name[: -len(".weight")]
        for name, value in stored.items()
        if name.endswith(".weight") and value.ndim == 2 and name[: -len(".weight")] not in modules
        and not any(word in name for word in ("embed", "norm"))
    ]
    for module in plain_linear:
        assert scheme_of(config, module) is None, f"{module} is plain, but the configuration targets it"
    for module in modules:
        scheme = scheme_of(config, module)
        assert scheme is not None, f"{module} is quantized, but no group targets it"
        state = {
            key: stored[f"{module}.{key}"] for key in ("weight", *SUFFIXES) if f"{module}.{key}" in stored
        }
        name = scheme.format
        name = getattr(name, "value", name)
        compressor = BaseCompressor.get_value_from_registry(name)
        inferred = infer_module_format(torch.nn.Linear, scheme).value
        inputs = scheme.input_activations
        if name == "pack-quantized" and inputs is not None and inputs.type == "float":
            inferred = name  # the package would give codes a byte each; vLLM's CompressedTensorsW4A8Fp8 takes packed ones alone
        assert inferred == name, f"{module}: the package would write {inferred}, found {name}"
        wanted = set(compressor.compression_param_names(scheme))
        assert wanted == set(state), f"{module}: the package has {sorted(wanted)}, found {sorted(state)}"
        if "weight_scale" in state and state["weight_scale"].dtype in (torch.bfloat16, torch.float16):
            state["weight_scale"] = state["weight_scale"].float()
        if name == "nvfp4-pack-quantized":
            weight = nvfp4(state)
        elif name == "mxfp4-pack-quantized":
            weight = mxfp4(state)
        else:
            weight = compressor.decompress(state, scheme)["weight"]
        if name.startswith(("nvfp4", "mxfp4")):
            # The package unpacks to BF16: its numbers are ours, rounded to that type.
            rounded = compressor.decompress(state, scheme)["weight"].float()
            error = (rounded - weight).abs().max() / weight.abs().max()
            assert error <= 2**-7, f"{module}: the package's numbers are {error} off"
        ours = number(numbers, module)
        assert ours.dtype == torch.float32
        assert torch.equal(weight.float(), ours), f"{module}: {(weight.float() - ours).abs().max()} off"
    return len(modules), len(plain_linear)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def codes(packed):
    packed = packed.view(torch.uint8).long()
    return torch.stack([E2M1[packed & 15], E2M1[packed >> 4]], dim=-1).flatten(-2)


def nvfp4(state):
    scale = state["weight_scale"].float() / state["weight_global_scale"]
    return codes(state["weight_packed"]) * scale.repeat_interleave(16, dim=-1)


def mxfp4(state):
    return codes(state["weight_packed"]) * power(state["weight_scale"]).repeat_interleave(32, dim=-1)


def power(scale):
    exponent = scale.view(torch.uint8).int() - 127
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)


def check_own(folder, plain):
    """DeepSeek's FP8 blocks and FP4 groups, MiniMax-M3's MXFP8, gpt-oss's blocks."""
    stored, numbers = tensors(folder), tensors(plain)
    config = json.loads((folder / "config.json").read_text())
    section = config.get("quantization_config") or config["text_config"]["quantization_config"]
    down, across = section.get("weight_block_size", [128, 128])
    count = 0
    for name, value in stored.items():
        if not name.endswith("_blocks"):
            continue
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        weight = convert_moe_packed_tensors(value, stored[name[: -len("_blocks")] + "_scales"], dtype=torch.float32)
        assert torch.equal(weight.cpu(), numbers[name[: -len("_blocks")]]), f"{name} differs"
        count += 1
    for name, value in stored.items():
        if not name.endswith(".weight") or value.dtype not in (torch.float8_e4m3fn, torch.int8):
            continue
        key = next(k for k in (f"{name}_scale_inv", f"{name[:-len('.weight')]}.scale") if k in stored)
        scale = stored[key]
        scale = scale if scale.dtype == torch.float32 else power(scale)
        if value.dtype == torch.int8:
            weight = codes(value) * scale.repeat_interleave(32, dim=-1)
        else:
            scale = scale.repeat_interleave(down, dim=0).repeat_interleave(across, dim=1)
            weight = value.float() * scale[: value.shape[0], : value.shape[1]]
        assert torch.equal(weight, numbers[name]), f"{name} differs"
        count += 1
    return count


def check_transformers(smelt, folder, compressed):
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    ids = list(range(1, 17))
    tokens, found = folder.with_suffix(".ids"), folder.with_suffix(".logits")
    tokens.write_text(json.dumps({"sequences": [ids]}))
    subprocess.run([smelt, "logits", folder, found, "--tokens", tokens, "--quiet", "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    ours = load_file(found)["logits.0"]
    options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if compressed else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        return f"loaded, largest logit difference {(logits - ours).abs().max().item():.2g} of {ours.abs().max().item():.3g}"
    except Exception as error:  # what it does not support is a result, not our failure
        return f"not loaded: {type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"


def main():
    parser = argparse.ArgumentParser(description="Compares directories that smelt wrote with what other programs make of them.")
    parser.add_argument("smelt", help="the built command")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "models")
    parser.add_argument("--only", nargs="*", help="these models alone")
    parser.add_argument("--words", nargs="*", default=WORDS, help="these schemes alone")
    parser.add_argument("--transformers", action="store_true", help="load each directory with transformers too")
    arguments = parser.parse_args()
    smelt, models = arguments.smelt, arguments.models
    cases = [(m, w, False) for m in MODELS for w in arguments.words] + [(m, w, True) for m, w in OWN]
    cases = [case for case in cases if arguments.only is None or case[0] in arguments.only]
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        for model, word, own in cases:
            folder, plain = temporary / f"{model}.{word}", temporary / f"{model}.{word}.f32"
            for source, target, scheme in [(models / model, folder, word), (folder, plain, "f32")]:
                subprocess.run(
                    [smelt, "convert", source, target, "--scheme", scheme, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            method = json.loads((folder / "config.json").read_text())
            method = (method.get("quantization_config") or method["text_config"]["quantization_config"])["quant_method"]
            own = method != "compressed-tensors"
            try:
                if own:
                    print(f"{model:18} {word:12} equal: {check_own(folder, plain)} weights ({method}'s own layout)")
                else:
                    quantized, kept = check_compressed(folder, plain)
                    print(f"{model:18} {word:12} equal: {quantized} modules, {kept} linear layers ignored")
            except AssertionError as error:
                failures += 1
                print(f"{model:18} {word:12} FAILED: {error}")
            if arguments.transformers:
                print(f"{'':18} {'':12} transformers: {check_transformers(smelt, folder, not own)}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
