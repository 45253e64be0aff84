"""Holds directories with static scales and ModelOpt's layout against the code of others that reads them.

    python3 check_scales.py SMELT [--models FOLDER] [--vllm FOLDER] [--sglang FOLDER] [--modelopt FOLDER]

SMELT is the built command, FOLDER of --models the one with the fixtures' models; the others hold the unpacked wheels of vLLM (0.33),
SGLang (0.5) and ModelOpt (0.47), of which a few Python files run, with stand-ins for what needs a GPU. For each model and scheme:

1. compressed-tensors reads the section; every module that declares a static scale has one, the same for all that engines fuse;
2. ModelOpt's own converter makes config.json's section of hf_quant_config.json, member for member but its name;
3. numbers of NVFP4 are those of ModelOpt's formula, code x (scale x scale_2), as smelt reads them;
4. vLLM's and SGLang's configurations read the section, give every module its algorithm, fused ones too, and leave out what stays
   as it is; vLLM finds the scales of caches by their names; vLLM's method for FP8 experts passes its own assertion, and a backend's table takes its pair of keys.

Needs numpy, safetensors, torch, compressed-tensors.
"""

import argparse
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
from unittest import mock

import torch
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file

CASES = [
    ("FP8", "compressed-tensors", []), ("NVFP4", "compressed-tensors", []), ("FP8", "modelopt", []),
    ("NVFP4", "modelopt", []), ("nvfp4", "modelopt", []), ("mixed", "modelopt", []),
    ("FP8", "compressed-tensors", ["--kv-cache", "fp8"]), ("mixed", "modelopt", ["--kv-cache", "fp8"]),
    ("fp8-tensor", "compressed-tensors", []), ("fp8-block", "modelopt", []),
]
MODELS = ["qwen3_moe", "mixtral", "deepseek_v3", "qwen3"]
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
GRID = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])


class Stub(types.ModuleType):
    """A module whose capitalized names are empty classes and whose other names are mocks."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        empty = {"__init__": lambda self, *words, **more: None}
        value = type(name, (), empty) if name[:1].isupper() and not name.isupper() else mock.MagicMock(name=name)
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of a package that are listed in its folder, and stubs for all others."""

    def __init__(self, package, folder, real):
        self.package, self.folder, self.real = package, pathlib.Path(folder), real

    def find_spec(self, name, path=None, target=None):
        if name != self.package and not name.startswith(self.package + "."):
            return None
        if name in self.real:
            place = self.folder / (name.replace(".", "/") + ".py")
            return importlib.util.spec_from_file_location(name, place)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


def tensors(folder):
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(load_file(path))
    return out


def expect(condition, *words):
    if not condition:
        raise AssertionError(" ".join(str(word) for word in words))


def same(stored, suffix, dense):
    """Scales that engines keep one of: all experts' gate and up, their downs, what reads one norm."""
    groups = {}
    for name, value in stored.items():
        if not name.endswith(suffix):
            continue
        module = name[: -len(suffix)]
        if ".experts." in module:
            part = "down" if module.endswith(("down_proj", "w2")) else "gate up"
            key = (module.split(".experts.")[0], part)
        else:
            stem, last = module.rsplit(".", 1)
            key = (stem, next((k for k, parts in FUSED.items() if last in parts), last))
        groups.setdefault(key, set()).add(value.item())
        expect(value.item() > 0, name)
    expect(groups, "no", suffix)
    for key, found in groups.items():
        expect(len(found) == 1, key, found)


def check_compressed(section, stored, word):
    config = QuantizationConfig.model_validate(section)
    scheme = config.config_groups["group_0"]
    inputs = scheme.input_activations
    if word == "FP8":
        expect(inputs.strategy == "tensor" and inputs.dynamic is False, inputs)
        same(stored, ".input_scale", True)
    elif word == "NVFP4":
        expect(inputs.strategy == "tensor_group" and inputs.dynamic == "local", inputs)
        same(stored, ".input_global_scale", True)
    else:
        expect(inputs.strategy == "tensor" and inputs.dynamic is True, inputs)
    if config.kv_cache_scheme is not None:
        expect(config.kv_cache_scheme.num_bits == 8 and config.kv_cache_scheme.strategy == "tensor", config.kv_cache_scheme)
        expect(any(name.endswith(".self_attn.k_scale") for name in stored), "no k_scale")


def check_modelopt(folder, section, stored, plain, package):
    sidecar = json.loads((folder / "hf_quant_config.json").read_text())
    if package:
        spec = importlib.util.spec_from_file_location("convert", package / "modelopt/torch/export/convert_hf_config.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = module.convert_hf_quant_config_format(sidecar)
        groups = made.pop("config_groups", None)
        own = dict(section)
        ours = own.pop("config_groups")
        expect(made == own, made, own)
        if groups is not None:
            order = lambda g: sorted((json.dumps({**v, "targets": sorted(v["targets"])}, sort_keys=True) for v in g.values()))
            expect(order(groups) == order(ours), groups, ours)
    count = 0
    for name, scale in stored.items():
        if not name.endswith(".weight_scale_2"):
            continue
        module = name[: -len(".weight_scale_2")]
        codes = stored[module + ".weight"]
        numbers = GRID[torch.stack([codes & 15, codes >> 4], -1).reshape(codes.shape[0], -1).long()]
        scales = stored[module + ".weight_scale"].float() * scale
        value = numbers * scales.repeat_interleave(16, dim=1)
        expect(torch.equal(value, plain[module + ".weight"]), module)
        count += 1
    for suffix in (".input_scale",):
        if any(name.endswith(suffix) for name in stored):
            same(stored, suffix, True)
    return count


def linear(stored):
    return sorted(name[: -len(".weight_scale")] for name in stored if name.endswith(".weight_scale"))


def kept(stored):
    """Linear layers that stay as they are."""
    quantized = set(linear(stored))
    return [
        name[: -len(".weight")] for name, value in stored.items()
        if name.endswith(".weight") and value.dim() == 2 and name[: -len(".weight")] not in quantized and "embed" not in name
        and "mtp" not in name
    ]


def check_vllm_modelopt(module, section, stored, sidecar):
    kinds = {"FP8": module.ModelOptFp8Config, "FP8_PB_WO": module.ModelOptFp8Config, "NVFP4": module.ModelOptNvFp4Config,
             "W4A16_NVFP4": module.ModelOptNvFp4Config, "MIXED_PRECISION": module.ModelOptMixedPrecisionConfig}
    for source in (section, sidecar):
        config = kinds[section["quant_algo"]].from_config(dict(source))
        config.packed_modules_mapping = FUSED
        for name in linear(stored):
            expect(not config.is_layer_excluded(name), "excluded", name)
            algorithm = section["quant_algo"]
            if algorithm == "MIXED_PRECISION":
                algorithm = section["quantized_layers"][name]["quant_algo"]
                stem, last = name.rsplit(".", 1)
                fused = next((k for k, parts in FUSED.items() if last in parts), last)
                prefix = name.split(".experts.")[0] + ".experts" if ".experts." in name else f"{stem}.{fused}"
                expect(config._resolve_quant_algo(prefix) == algorithm, prefix, config._resolve_quant_algo(prefix), algorithm)
        for name in kept(stored):
            expect(config.is_layer_excluded(name), "not excluded", name)


def check_sglang_modelopt(module, section, stored, sidecar):
    algorithm = section["quant_algo"]
    kinds = {"FP8": module.ModelOptFp8Config, "NVFP4": module.ModelOptFp4Config, "W4A16_NVFP4": module.ModelOptFp4Config,
             "MIXED_PRECISION": module.ModelOptMixedPrecisionConfig}
    if algorithm not in kinds:
        return
    for source in (section, sidecar):
        config = kinds[algorithm].from_config(dict(source))
        for name in linear(stored):
            expect(not config.is_layer_excluded(name), "excluded", name)
            if algorithm == "MIXED_PRECISION":
                expect(config.resolve_quant_algo(name) == section["quantized_layers"][name]["quant_algo"], name)
        for name in kept(stored):
            expect(config.is_layer_excluded(name), "not excluded", name)


def check_experts(module, keys, triton, marlin, section, word):
    """vLLM's method for FP8 experts: its assertion, and a backend whose table has the pair of keys."""
    seen = {}

    def select(config, weight_key, activation_key, allow_vllm_cutlass):
        seen.update(weight=weight_key, activation=activation_key)
        return mock.MagicMock(), None

    group = QuantizationConfig.model_validate(section).config_groups["group_0"]
    module.CompressedTensorsW8A8Fp8MoEMethod.moe = mock.MagicMock()  # what the class above it would set
    with mock.patch.object(module, "select_fp8_moe_backend", select):
        method = module.CompressedTensorsW8A8Fp8MoEMethod(group.weights, group.input_activations, mock.MagicMock())
    expect(method.static_input_scales == (word == "FP8"), method.static_input_scales)
    if word == "FP8":
        expect((seen["weight"], seen["activation"]) == (keys.kFp8StaticTensorSym, keys.kFp8StaticTensorSym), seen)
        expect("(kFp8StaticTensorSym, kFp8StaticTensorSym)" in triton, "no Triton backend")
    else:
        expect(seen["activation"] == keys.kFp8Dynamic128Sym, seen)
        expect("(kFp8StaticTensorSym, kFp8Dynamic128Sym)" not in triton, "Triton takes them: the warning is out of date")
        expect(re.search(r"SUPPORTED_W = \[[^]]*kFp8StaticTensorSym[^]]*\]\s+return weight_key in SUPPORTED_W", marlin), "no Marlin")


def check_caches(module, stored, isLatent):
    """vLLM finds the scales of caches under the names that its layers have."""
    attention = "mla_attn.mla_attn" if isLatent else "attn"
    stems = {name.split(".self_attn.")[0] for name in stored if ".self_attn." in name}
    wanted = {f"{stem}.self_attn.{attention}.{part}_scale": None for stem in stems for part in "kv"}
    for name in stored:
        if name.endswith((".k_scale", ".v_scale")):
            expect(wanted.pop(module.maybe_remap_kv_scale_name(name, dict(wanted)), 0) is None, name)
    expect(not wanted, "without a scale:", list(wanted)[:3])


def load(package, folder, names):
    sys.meta_path.insert(0, Finder(package, folder, set(names)))
    for other in ("runai_model_streamer", "fastsafetensors", "filelock", "tqdm"):  # what only loading needs
        sys.meta_path.insert(0, Finder(other, folder, set()))
    return [importlib.import_module(name) for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("smelt")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent / "models")
    for name in ("vllm", "sglang", "modelopt"):
        parser.add_argument("--" + name, type=pathlib.Path)
    options = parser.parse_args()
    layers = "vllm.model_executor.layers"
    vllm = sglang = None
    if options.vllm:
        keys, _, caches, vllm, experts = load("vllm", options.vllm, [
            f"{layers}.quantization.utils.quant_utils", f"{layers}.quantization.base_config",
            "vllm.model_executor.model_loader.weight_utils", f"{layers}.quantization.modelopt",
            f"{layers}.quantization.compressed_tensors.compressed_tensors_moe.compressed_tensors_moe_w8a8_fp8"])
        folder = options.vllm / layers.replace(".", "/") / "fused_moe/experts"
        triton, marlin = ((folder / f"{name}.py").read_text() for name in ("triton_moe", "marlin_moe"))
    if options.sglang:
        layers = "sglang.srt.layers.quantization"
        sglang = load("sglang", options.sglang, [f"{layers}.base_config", f"{layers}.modelopt_quant"])[-1]
    failed = 0
    text = options.models / "tiny-v4/calibration.txt"
    for model in MODELS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            ids = {"sequences": [[(7 * i + 3 * j) % 250 for i in range(32)] for j in range(3)]}
            (folder / "ids.json").write_text(json.dumps(ids))
            recipe = {"schema": "smelt.recipe/1", "default": "fp8-tensor",
                      "rules": [{"role": role, "scheme": "nvfp4"} for role in ("routed_gate", "routed_up", "routed_down")]}
            (folder / "recipe.json").write_text(json.dumps(recipe))

            def smelt(*words):
                return subprocess.run([options.smelt, *map(str, words)], check=True, capture_output=True, text=True).stdout

            source = options.models / model
            smelt("calibrate", source, folder / "s", "--tokens", folder / "ids.json")
            for word, layout, more in CASES:
                if model == "qwen3" and word == "mixed" or layout == "compressed-tensors" and more and model == "deepseek_v3":
                    continue
                label = f"{model} {word} {layout} {' '.join(more)}"
                out = folder / re.sub(r"\W+", "-", label)
                choice = ["--recipe", folder / "recipe.json", "--activations", "static"] if word == "mixed" else ["--scheme", word]
                try:
                    smelt("convert", source, out, *choice, "--layout", layout, "--statistics", folder / "s", "--observer", "absmax", *more)
                    section = json.loads((out / "config.json").read_text())["quantization_config"]
                    stored = tensors(out)
                    if vllm and more:
                        check_caches(caches, stored, model.startswith("deepseek"))
                    if layout == "compressed-tensors":
                        check_compressed(section, stored, word)
                        if vllm and word in ("FP8", "fp8-tensor"):
                            check_experts(experts, keys, triton, marlin, section, word)
                    else:
                        smelt("convert", out, str(out) + "-f32", "--scheme", "f32")
                        sidecar = json.loads((out / "hf_quant_config.json").read_text())
                        check_modelopt(out, section, stored, tensors(str(out) + "-f32"), options.modelopt)
                        if vllm:
                            check_vllm_modelopt(vllm, section, stored, sidecar)
                        if sglang:
                            check_sglang_modelopt(sglang, section, stored, sidecar)
                    print("ok  ", label)
                except (AssertionError, KeyError, ValueError, subprocess.CalledProcessError) as error:
                    failed += 1
                    print("FAIL", label, error, getattr(error, "stderr", ""))
    print("failed:", failed)
    sys.exit(failed > 0)


main()
