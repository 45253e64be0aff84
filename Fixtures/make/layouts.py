"""Small checkpoints of every quantized layout, with the float32 numbers they stand for.

    python layouts.py OUT            (OUT is Fixtures/layouts)

Each folder holds config.json (the quantization part alone), model.safetensors and cases.json, which names weights, where they
lie, their shape, the encoding they are read as, the tensors they take, and the tensor of expected.safetensors with their
numbers. Expected numbers of compressed-tensors come from the package's own decompression, with its scales widened to
float32 first so that nothing is rounded to bfloat16; those of AWQ from the package's AWQ converter; the others from numpy
decoders of the published layouts below. Needs torch, compressed-tensors, numpy, ml_dtypes, safetensors.
"""
import json
import os
import sys

import ml_dtypes
import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor, unpack_fp4_from_uint8, unpack_from_int32
from compressed_tensors.compressors.mx_utils import decompress_mx_scale
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import generate_gparam
from safetensors.torch import save_file

OUT = sys.argv[1]
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
torch.manual_seed(7)
rng = np.random.default_rng(7)


class Folder:
    """One checkpoint being made."""

    def __init__(self, name, config):
        self.path = os.path.join(OUT, name)
        os.makedirs(self.path, exist_ok=True)
        self.config, self.tensors, self.expected, self.cases = config, {}, {}, []

    def add(self, name, expected, encoding, tensors, place=None, key=None):
        key = key or name
        self.expected[key] = expected.to(torch.float32).contiguous()
        self.cases.append({"tensor": name, **(place or {}), "shape": list(expected.shape), "encoding": encoding,
                           "tensors": tensors, "expected": key})

    def save(self):
        with open(os.path.join(self.path, "config.json"), "w") as f:
            json.dump(self.config, f, indent=1, default=str)
            f.write("\n")
        with open(os.path.join(self.path, "cases.json"), "w") as f:
            f.write("[\n" + ",\n".join(" " + json.dumps(c) for c in self.cases) + "\n]\n")
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, os.path.join(self.path, "model.safetensors"))
        save_file(self.expected, os.path.join(self.path, "expected.safetensors"))


# ---- compressed-tensors ----

def weights(rows, columns):
    w = torch.randn(rows, columns) * 0.05 * (1 + 3 * torch.rand(rows, 1))
    w[:, :: 7] *= 4
    return w.to(torch.bfloat16).to(torch.float32)


def parameters(w, args):
    """Scale, zero point (asymmetric only) and global scale by range, in the shapes that the package keeps."""
    rows, columns = w.shape
    low, high = (-(2 ** (args.num_bits - 1)), 2 ** (args.num_bits - 1) - 1)
    top = {4: 6.0, 8: 448.0}[args.num_bits] if args.type == "float" else high
    s = args.strategy
    if s == "tensor":
        groups = w.reshape(1, -1)
        shape = (1,)
    elif s == "channel":
        groups, shape = w, (rows, 1)
    elif s in ("group", "tensor_group"):
        groups, shape = w.reshape(-1, args.group_size), (rows, columns // args.group_size)
    else:
        br, bc = args.block_structure
        pad = torch.nn.functional.pad(w, (0, -columns % bc, 0, -rows % br))
        groups = pad.reshape(pad.shape[0] // br, br, pad.shape[1] // bc, bc).transpose(1, 2).reshape(-1, br * bc)
        shape = (pad.shape[0] // br, pad.shape[1] // bc)
    zero, glob = None, None
    if args.symmetric:
        scale = groups.abs().amax(1) / top
    else:
        least, most = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
        scale = (most - least) / (high - low)
        zero = (low - torch.round(least / scale)).clamp(low, high).to(torch.int8).reshape(shape)
    scale = scale.reshape(shape)
    if s == "tensor_group":
        glob = generate_gparam(w.min(), w.max()).reshape(1)
        scale = (scale * glob).to(torch.float8_e4m3fn).to(torch.float32)
    return scale, zero, glob


def compressed(folder, module, rows, columns, fmt, encoding, scale_dtype=torch.bfloat16, extra=(), **kind):
    """Adds a module that the package compresses."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**kind), format=fmt)
    args = scheme.weights
    w = weights(rows, columns)
    scale, zero, glob = parameters(w, args)
    mx = fmt in ("mxfp4-pack-quantized", "mxfp8-quantized")
    if mx:
        scale = 2.0 ** torch.ceil(torch.log2(scale))
    elif fmt != "nvfp4-pack-quantized":
        scale = scale.to(scale_dtype).to(torch.float32)
    state = {"weight": w, "weight_scale": scale}
    if zero is not None:
        state["weight_zero_point"] = zero
    if glob is not None:
        state["weight_global_scale"] = glob
    out = BaseCompressor.get_value_from_registry(fmt).compress(state, scheme)
    if not mx and fmt != "nvfp4-pack-quantized":
        out["weight_scale"] = out["weight_scale"].to(scale_dtype)
    wide = (decompress_mx_scale(out["weight_scale"]) if mx else out["weight_scale"]).to(torch.float32)
    if fmt == "pack-quantized":
        codes = unpack_from_int32(out["weight_packed"], args.num_bits, out["weight_shape"]).to(torch.float32)
    elif "pack" in fmt:
        codes = unpack_fp4_from_uint8(out["weight_packed"], rows, columns, dtype=torch.float32)
    else:
        codes = out["weight"].to(torch.float32)
    expected = dequantize(x_q=codes, scale=wide, zero_point=zero, args=args, dtype=torch.float32, global_scale=glob)
    assert (expected - w).abs().max() < 0.2 * w.abs().max(), (module, fmt)
    for key, value in out.items():
        folder.tensors[f"{module}.{key}"] = value
    codes_name = "weight_packed" if "weight_packed" in out else "weight"
    order = [codes_name, "weight_scale"] + [k for k in out if k not in (codes_name, "weight_scale")]
    folder.add(f"{module}.weight", expected, encoding, sorted(f"{module}.{k}" for k in order))
    return {**scheme.model_dump(), "targets": [module] if not extra else list(extra)}


def compressed_folders():
    f = Folder("compressed-mixed", None)
    g = {}
    m = "model.layers.0.self_attn."
    g["group_0"] = compressed(f, m + "q_proj", 20, 48, "int-quantized", "int8.channel", num_bits=8, strategy="channel")
    g["group_1"] = compressed(f, m + "k_proj", 20, 48, "int-quantized", "int8.tensor", num_bits=8, strategy="tensor")
    g["group_2"] = compressed(f, m + "v_proj", 20, 48, "naive-quantized", "int8.channel.zero", num_bits=8,
                              strategy="channel", symmetric=False, scale_dtype=torch.float32)
    g["group_3"] = compressed(f, m + "o_proj", 20, 48, "int-quantized", "int8.group16", num_bits=8, strategy="group",
                              group_size=16, extra=[r"re:.*self_attn\.o_proj$"])
    m = "model.layers.0.mlp."
    fp8 = dict(num_bits=8, type="float")
    g["group_4"] = compressed(f, m + "gate_proj", 136, 160, "float-quantized", "f8_e4m3.block", strategy="block",
                              block_structure=[128, 128], **fp8)
    g["group_5"] = compressed(f, m + "up_proj", 20, 48, "float-quantized", "f8_e4m3.channel", strategy="channel", **fp8)
    g["group_6"] = compressed(f, m + "down_proj", 20, 48, "float-quantized", "f8_e4m3.tensor", strategy="tensor",
                              scale_dtype=torch.float32, **fp8)
    m = "model.layers.1.mlp.experts."
    g["group_7"] = compressed(f, m + "0.gate_proj", 20, 96, "mxfp8-quantized", "f8_e4m3.block1x32", strategy="group",
                              group_size=32, scale_dtype=torch.uint8, extra=[r"re:.*\.experts\.[0-3]\.gate_proj"], **fp8)
    fp4 = dict(num_bits=4, type="float")
    g["group_8"] = compressed(f, m + "0.up_proj", 20, 96, "mxfp4-pack-quantized", "mxfp4", strategy="group",
                              group_size=32, scale_dtype=torch.uint8, **fp4)
    g["group_9"] = compressed(f, m + "0.down_proj", 20, 96, "nvfp4-pack-quantized", "nvfp4.divided",
                              strategy="tensor_group", group_size=16, **fp4)
    int4 = dict(num_bits=4, strategy="group")
    g["group_10"] = compressed(f, m + "1.up_proj", 20, 36, "pack-quantized", "int4.group12", group_size=12, **int4)
    g["group_11"] = compressed(f, m + "1.down_proj", 20, 96, "pack-quantized", "int4.group32.zero", group_size=32,
                               symmetric=False, **int4)
    g["group_12"] = compressed(f, m + "2.up_proj", 20, 40, "pack-quantized", "int4.channel", num_bits=4,
                               strategy="channel", scale_dtype=torch.float16)
    g["group_13"] = compressed(f, m + "2.down_proj", 18, 36, "pack-quantized", "int8.group12.zero", num_bits=8,
                               strategy="group", group_size=12, symmetric=False)
    g["group_14"] = compressed(f, m + "3.up_proj", 20, 38, "pack-quantized", "int8.channel", num_bits=8,
                               strategy="channel")
    # One of no group by name: the class decides.
    g["group_15"] = compressed(f, m + "3.down_proj", 20, 96, "pack-quantized", "int4.group32", group_size=32,
                               extra=["Linear"], **int4)
    # Left alone by name, by pattern, and because it is stored plain.
    for name in ("lm_head.weight", "model.layers.1.mlp.gate.weight", "model.norm.weight"):
        f.tensors[name] = weights(4, 48).to(torch.bfloat16)
        f.add(name, f.tensors[name].to(torch.float32), "bf16", [name])
    f.tensors["model.layers.0.self_attn.q_proj.input_scale"] = torch.tensor([0.5])
    f.tensors["model.layers.0.self_attn.k_scale"] = torch.tensor([0.5])
    f.config = {"quantization_config": {
        "quant_method": "compressed-tensors", "format": "mixed-precision", "quantization_status": "compressed",
        "kv_cache_scheme": None, "ignore": ["lm_head", r"re:.*mlp\.gate$", "re:^(?!model).*"], "config_groups": g}}
    f.save()

    # The form in which most checkpoints are: one format for all, the class Linear, an ignore list.
    f = Folder("compressed-w4a16", None)
    m = "model.layers.0.mlp.down_proj"
    group = compressed(f, m, 24, 128, "pack-quantized", "int4.group64", num_bits=4, strategy="group", group_size=64,
                       extra=["Linear"])
    group["format"] = None
    f.config = {"quantization_config": QuantizationConfig(
        config_groups={"group_0": group}, format="pack-quantized", quantization_status="compressed",
        ignore=["lm_head"]).to_dict()}
    f.save()


# ---- numpy decoders of the other layouts ----

def t(array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.uint16).astype(np.int16).copy()).view(torch.bfloat16)
    if array.dtype == ml_dtypes.float8_e4m3fn:
        return torch.from_numpy(array.view(np.uint8).copy()).view(torch.float8_e4m3fn)
    if array.dtype == ml_dtypes.float8_e8m0fnu:
        return torch.from_numpy(array.view(np.uint8).copy()).view(torch.float8_e8m0fnu)
    if array.dtype == np.uint32:
        array = array.view(np.int32)
    return torch.from_numpy(array.copy())


def fp4(rows, columns):
    """Random packed codes and the numbers of them."""
    codes = rng.integers(0, 16, (rows, columns), np.uint8)
    return codes[:, 0::2] | codes[:, 1::2] << 4, FP4[codes]


def e4m3(*shape, positive=False):
    codes = rng.integers(0, 0x7F, shape, np.uint8)
    if not positive:
        codes |= rng.integers(0, 2, shape, np.uint8) << 7
    values = codes.view(ml_dtypes.float8_e4m3fn)
    return values, values.astype(np.float32)


def modelopt_folders():
    f = Folder("modelopt-fp8", {"architectures": ["Any"]})  # older form: a file beside config.json
    m = "model.layers.0.mlp.up_proj"
    codes, values = e4m3(20, 48)
    scale = np.float32(0.0123)
    f.tensors |= {f"{m}.weight": t(codes), f"{m}.weight_scale": torch.tensor(scale), f"{m}.input_scale": torch.tensor(0.5)}
    f.add(f"{m}.weight", torch.from_numpy(values * scale), "f8_e4m3.tensor", [f"{m}.weight", f"{m}.weight_scale"])
    f.save()
    with open(os.path.join(f.path, "hf_quant_config.json"), "w") as file:
        json.dump({"producer": {"name": "modelopt", "version": "0.23.0"},
                   "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
                  file, indent=1)

    f = Folder("modelopt-nvfp4", {"quantization_config": {
        "quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "kv_cache_scheme": None, "ignore": ["lm_head"],
        "quantized_layers": {
            "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
            "model.layers.0.mlp.gate_proj": {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
            "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"}}}})
    m = "model.layers.0.mlp."
    packed, values = fp4(20, 96)
    scale, factor = e4m3(20, 6, positive=True)
    glob = np.float32(0.00317)
    f.tensors |= {f"{m}up_proj.weight": t(packed), f"{m}up_proj.weight_scale": t(scale),
                  f"{m}up_proj.weight_scale_2": torch.tensor(glob), f"{m}up_proj.input_scale": torch.tensor(0.25)}
    f.add(f"{m}up_proj.weight", torch.from_numpy(values * np.repeat(factor * glob, 16, 1)), "nvfp4",
          [f"{m}up_proj.weight", f"{m}up_proj.weight_scale", f"{m}up_proj.weight_scale_2"])
    for name, encoding, scale in (("gate_proj", "f8_e4m3.channel", rng.random((20, 1), np.float32)),
                                  ("down_proj", "f8_e4m3.tensor", np.array([0.7], np.float32))):
        codes, values = e4m3(20, 48)
        f.tensors |= {f"{m}{name}.weight": t(codes), f"{m}{name}.weight_scale": t(scale)}
        f.add(f"{m}{name}.weight", torch.from_numpy(values * scale), encoding,
              [f"{m}{name}.weight", f"{m}{name}.weight_scale"])
    f.save()


def pack_rows(codes):
    """Eight rows a word, the first in the lowest nibble: GPTQ's qweight."""
    words = codes.reshape(-1, 8, codes.shape[1]).astype(np.uint32)
    return sum(words[:, i] << np.uint32(4 * i) for i in range(8)).astype(np.uint32)


def pack_columns(codes, order=range(8)):
    """Eight columns a word; nibble i holds column order[i]."""
    columns = codes.shape[1]
    codes = np.pad(codes, ((0, 0), (0, -columns % 8))).reshape(codes.shape[0], -1, 8).astype(np.uint32)
    return sum(codes[:, :, c] << np.uint32(4 * i) for i, c in enumerate(order)).astype(np.uint32)


def gptq_folder(name, rows, columns, group, desc_act=False, form="gptq", scale_dtype=np.float16, keep_index=True):
    config = {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": desc_act, "sym": False,
              "damp_percent": 0.01}
    if form != "gptq":
        config["checkpoint_format"] = form
    f = Folder(name, {"quantization_config": config})
    m = "model.layers.0.mlp.experts.3.w1"
    size = group if group > 0 else columns
    groups = -(-columns // size)
    index = np.arange(columns, dtype=np.int32) // size
    if desc_act:
        index = index[rng.permutation(columns)]
    codes = rng.integers(0, 16, (columns, rows), np.uint8)
    zeros = rng.integers(0, 16, (groups, rows), np.uint8)
    scales = (rng.random((groups, rows)) * 0.02 + 1e-3).astype(scale_dtype)
    stored = (zeros - 1) & 15 if form == "gptq" else zeros
    f.tensors |= {f"{m}.qweight": t(pack_rows(codes)), f"{m}.qzeros": t(pack_columns(stored)), f"{m}.scales": t(scales)}
    if keep_index:
        f.tensors[f"{m}.g_idx"] = t(index)
    values = (codes.astype(np.int32) - zeros[index]).astype(np.float32) * scales[index].astype(np.float32)
    encoding = ("int4.channel" if group < 0 else f"int4.group{group}") + ".zero" + (".indexed" if desc_act else "")
    f.add(f"{m}.weight", torch.from_numpy(values.T.copy()), encoding, sorted(f.tensors))
    f.tensors["model.norm.weight"] = weights(1, 48)[0].to(torch.bfloat16)
    f.add("model.norm.weight", f.tensors["model.norm.weight"].to(torch.float32), "bf16", ["model.norm.weight"])
    f.save()


def awq_folder():
    rows, columns, group = 24, 96, 32
    f = Folder("awq", {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True,
                                               "version": "gemm", "modules_to_not_convert": None}})
    m = "model.layers.0.self_attn.q_proj"
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    qweight = t(pack_columns(rng.integers(0, 16, (columns, rows), np.uint8), order))
    qzeros = t(pack_columns(rng.integers(0, 16, (columns // group, rows), np.uint8), order))
    scales = t((rng.random((columns // group, rows)) * 0.02 + 1e-3).astype(np.float16))
    f.tensors |= {f"{m}.qweight": qweight, f"{m}.qzeros": qzeros, f"{m}.scales": scales}
    codes, scale, zero = AutoAWQConverter(group_size=group)._convert_gemm_module(qweight, scales, qzeros)
    args = QuantizationArgs(num_bits=4, strategy="group", group_size=group, symmetric=False)
    expected = dequantize(x_q=codes.to(torch.float32), scale=scale.to(torch.float32), zero_point=zero, args=args,
                          dtype=torch.float32)
    f.add(f"{m}.weight", expected, f"int4.group{group}.zero", sorted(f.tensors))
    f.save()


def fused_folders():
    """gpt-oss: interleaved gate and up rows, in blocks of FP4 and as transposed BF16."""
    experts, wide, hidden = 3, 20, 64
    f = Folder("mxfp4-blocks", {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}})
    m = "model.layers.0.mlp.experts."
    for name, out, columns in (("gate_up_proj", 2 * wide, hidden), ("down_proj", hidden, wide * 8)):
        packed, values = fp4(experts * out, columns)
        scales = rng.integers(110, 140, (experts, out, columns // 32), np.uint8)
        factor = np.exp2(scales.astype(np.float32) - 127).reshape(experts * out, -1)
        full = (values * np.repeat(factor, 32, 1)).reshape(experts, out, columns)
        f.tensors |= {f"{m}{name}_blocks": t(packed.reshape(experts, out, columns // 32, 16)),
                      f"{m}{name}_scales": t(scales)}
        took = [f"{m}{name}_blocks", f"{m}{name}_scales"]
        for e in (0, 2):
            if name == "down_proj":
                f.add(m + name, torch.from_numpy(full[e].copy()), "mxfp4", took,
                      {"stackIndex": e, "transposed": True}, f"{name}.{e}")
                continue
            for phase in (0, 1):
                f.add(m + name, torch.from_numpy(full[e, phase::2].copy()), "mxfp4", took,
                      {"stackIndex": e, "rowStride": 2, "rowPhase": phase, "transposed": True}, f"{name}.{e}.{phase}")
    f.save()

    f = Folder("plain-fused", {})
    full = rng.standard_normal((experts, hidden, 2 * wide)).astype(ml_dtypes.bfloat16)
    down = rng.standard_normal((experts, wide, hidden)).astype(np.float32)
    bias = rng.standard_normal((experts, 2 * wide)).astype(ml_dtypes.bfloat16)
    rows = rng.standard_normal((experts, 2 * wide, hidden)).astype(np.float16)
    f.tensors |= {m + "gate_up_proj": t(full), m + "down_proj": t(down), m + "gate_up_proj_bias": t(bias),
                  m + "rows": t(rows)}
    for e in (0, 2):
        f.add(m + "down_proj", torch.from_numpy(down[e].T.copy()), "f32", [m + "down_proj"],
              {"stackIndex": e, "transposed": True}, f"down_proj.{e}")
        f.add(m + "rows", torch.from_numpy(rows[e, wide:].astype(np.float32)), "f16", [m + "rows"],
              {"stackIndex": e, "rows": [wide, 2 * wide]}, f"rows.{e}")
        for phase in (0, 1):
            place = {"stackIndex": e, "rowStride": 2, "rowPhase": phase}
            f.add(m + "gate_up_proj", torch.from_numpy(full[e].T[phase::2].astype(np.float32)), "bf16",
                  [m + "gate_up_proj"], {**place, "transposed": True}, f"gate_up_proj.{e}.{phase}")
            f.add(m + "gate_up_proj_bias", torch.from_numpy(bias[e, phase::2].astype(np.float32)), "bf16",
                  [m + "gate_up_proj_bias"], place, f"gate_up_proj_bias.{e}.{phase}")
            f.add(m + "rows", torch.from_numpy(rows[e, phase::2].astype(np.float32)), "f16", [m + "rows"], place,
                  f"rows.{e}.{phase}")
    f.save()


def deepseek_folder():
    """FP8 by ragged blocks with F32 and E8M0 scales, and the FP4 experts of V4."""
    f = Folder("deepseek", {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                                    "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}})
    rows, columns = 136, 160

    def block(name, scale_name, scale):
        codes, values = e4m3(rows, columns)
        f.tensors |= {name: t(codes), scale_name: t(scale)}
        wide = np.repeat(np.repeat(scale.astype(np.float32), 128, 0), 128, 1)[:rows, :columns]
        f.add(name, torch.from_numpy(values * wide), "f8_e4m3.block", [name, scale_name])

    m = "model.layers.0.mlp.up_proj.weight"
    block(m, m + "_scale_inv", (rng.random((2, 2)) + 0.5).astype(np.float32))
    for expert, scale in ((0, rng.integers(110, 130, (2, 2), np.uint8).view(ml_dtypes.float8_e8m0fnu)),
                          (1, (rng.random((2, 2)) + 0.5).astype(np.float32))):
        name = f"layers.1.ffn.experts.{expert}.w1"
        block(name + ".weight", name + ".scale", scale)
    packed, values = fp4(20, 96)
    scale = rng.integers(110, 130, (20, 3), np.uint8)
    name = "layers.2.ffn.experts.0.w1"
    f.tensors |= {name + ".weight": t(packed.view(np.int8)), name + ".scale": t(scale.view(ml_dtypes.float8_e8m0fnu))}
    f.add(name + ".weight", torch.from_numpy(values * np.repeat(np.exp2(scale.astype(np.float32) - 127), 32, 1)), "mxfp4",
          [name + ".weight", name + ".scale"])
    # Stacked experts: gate rows above up rows, blocks of both.
    name = "model.layers.3.mlp.experts.gate_up_proj"
    codes, values = e4m3(2, 256, 96)
    scale = (rng.random((2, 2, 1)) + 0.5).astype(np.float32)
    f.tensors |= {name: t(codes), name + "_scale_inv": t(scale)}
    full = values * np.repeat(np.repeat(scale, 128, 1), 128, 2)[:, :, :96]
    for e in (0, 1):
        for half in (0, 1):
            f.add(name, torch.from_numpy(full[e, 128 * half:128 * half + 128].copy()), "f8_e4m3.block",
                  [name, name + "_scale_inv"], {"stackIndex": e, "rows": [128 * half, 128 * half + 128]},
                  f"{name}.{e}.{half}")
    f.save()


compressed_folders()
modelopt_folders()
gptq_folder("gptq", 24, 96, 32)
gptq_folder("gptq-act-order", 20, 96, 32, desc_act=True)
gptq_folder("gptq-v2", 24, 96, -1, form="gptq_v2", scale_dtype=np.float32, keep_index=False)
awq_folder()
fused_folders()
deepseek_folder()
