"""Writes a DeepSeek-V4 checkpoint of a chosen size with random weights, for measurements of speed and memory.

    python generate_v4.py OUT --layers 4 --hidden 1024 --experts 32 --width 512

Shards of about 1 GB with an index; the tokenizer is copied from the bundled model. Never needed by the build or tests.
"""
import argparse
import json
import os
import shutil
import struct

import numpy as np

p = argparse.ArgumentParser()
p.add_argument("out")
p.add_argument("--layers", type=int, default=4)
p.add_argument("--hidden", type=int, default=1024)
p.add_argument("--experts", type=int, default=32)
p.add_argument("--width", type=int, default=512)
p.add_argument("--heads", type=int, default=8)
p.add_argument("--head-dim", type=int, default=128)
p.add_argument("--vocab", type=int, default=2048)
a = p.parse_args()
rng = np.random.default_rng(0)
H, V, E, I, NH, D, R = a.hidden, a.vocab, a.experts, a.width, a.heads, a.head_dim, 32
Q, G, O, M, K, IH, ID = 256, 2, 128, 4, 4, 16, 64
ratios = [[0, 4, 128, 4][i % 4] for i in range(a.layers)]
pool = (rng.standard_normal(1 << 22) * 0.02).astype(np.float32)
bf = (pool.view(np.uint32) >> 16).astype(np.uint16)


def bf16(shape):
    n = int(np.prod(shape))
    start = int(rng.integers(0, 1 << 20))
    return ("BF16", shape, np.resize(bf[start:], n).tobytes())


def f32(shape, mean=0.0):
    return ("F32", shape, (rng.standard_normal(shape) * 0.1 + mean).astype(np.float32).tobytes())


def ones(shape):
    return ("BF16", shape, np.full(shape, 0x3F80, np.uint16).tobytes())


def tensors():
    yield "embed.weight", bf16([V, H])
    yield "head.weight", bf16([V, H])
    yield "norm.weight", ones([H])
    yield "hc_head_fn", f32([M, M * H])
    yield "hc_head_base", f32([M])
    yield "hc_head_scale", f32([1])
    for i, ratio in enumerate(ratios):
        n = f"layers.{i}."
        yield n + "attn_norm.weight", ones([H])
        yield n + "ffn_norm.weight", ones([H])
        for s in ("attn", "ffn"):
            yield n + f"hc_{s}_fn", f32([24, M * H])
            yield n + f"hc_{s}_base", f32([24])
            yield n + f"hc_{s}_scale", f32([3])
        yield n + "attn.attn_sink", f32([NH])
        yield n + "attn.wq_a.weight", bf16([Q, H])
        yield n + "attn.q_norm.weight", ones([Q])
        yield n + "attn.wq_b.weight", bf16([NH * D, Q])
        yield n + "attn.wkv.weight", bf16([D, H])
        yield n + "attn.kv_norm.weight", ones([D])
        yield n + "attn.wo_a.weight", bf16([G * O, NH * D // G])
        yield n + "attn.wo_b.weight", bf16([H, G * O])
        if ratio:
            c = 2 if ratio == 4 else 1
            pools = [("attn.compressor.", D, c)]
            if ratio == 4:
                pools.append(("attn.indexer.compressor.", ID, 2))
                yield n + "attn.indexer.wq_b.weight", bf16([IH * ID, Q])
                yield n + "attn.indexer.weights_proj.weight", bf16([IH, H])
            for q, w, c in pools:
                yield n + q + "wkv.weight", bf16([c * w, H])
                yield n + q + "wgate.weight", bf16([c * w, H])
                yield n + q + "ape", f32([ratio, c * w])
                yield n + q + "norm.weight", ones([w])
        yield n + "ffn.gate.weight", bf16([E, H])
        if i < 1:
            yield n + "ffn.gate.tid2eid", ("I64", [V, K], np.stack([rng.permutation(E)[:K] for _ in range(V)]).astype(np.int64).tobytes())
        else:
            yield n + "ffn.gate.bias", f32([E])
        for e in list(range(E)) + [None]:
            q = n + ("ffn.shared_experts." if e is None else f"ffn.experts.{e}.")
            yield q + "w1.weight", bf16([I, H])
            yield q + "w2.weight", bf16([H, I])
            yield q + "w3.weight", bf16([I, H])


class Shards:
    """Writes shards as soon as they are full; names them once their number is known."""

    def __init__(self, out):
        self.out, self.parts, self.size, self.files = out, [], 0, []

    def add(self, name, tensor):
        self.parts.append((name, tensor))
        self.size += len(tensor[2])
        if self.size > 1_000_000_000:
            self.flush()

    def flush(self):
        if not self.parts:
            return
        header, at = {}, 0
        for name, (dtype, shape, data) in self.parts:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = os.path.join(self.out, f"part-{len(self.files)}")
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for _, (_, _, data) in self.parts:
                f.write(data)
        self.files.append((path, [name for name, _ in self.parts], at))
        self.parts, self.size = [], 0

    def finish(self):
        self.flush()
        index = {"metadata": {"total_size": sum(n for _, _, n in self.files)}, "weight_map": {}}
        for i, (path, names, _) in enumerate(self.files):
            final = f"model-{i + 1:05}-of-{len(self.files):05}.safetensors"
            os.rename(path, os.path.join(self.out, final))
            index["weight_map"].update({name: final for name in names})
        json.dump(index, open(os.path.join(self.out, "model.safetensors.index.json"), "w"))


os.makedirs(a.out, exist_ok=True)
shards = Shards(a.out)
for name, tensor in tensors():
    shards.add(name, tensor)
shards.finish()
bundled = os.path.join(os.path.dirname(__file__), "..", "models", "tiny-v4")
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(os.path.join(bundled, name), a.out)
config = json.load(open(os.path.join(bundled, "config.json")))
config.pop("layer_types")
config.pop("compress_rates")
config.update(
    vocab_size=V, hidden_size=H, moe_intermediate_size=I, num_hidden_layers=a.layers, num_attention_heads=NH,
    head_dim=D, qk_rope_head_dim=R, q_lora_rank=Q, o_groups=G, o_lora_rank=O, n_routed_experts=E,
    num_experts_per_tok=K, num_hash_layers=1, compress_ratios=ratios, index_n_heads=IH, index_head_dim=ID, index_topk=32)
json.dump(config, open(os.path.join(a.out, "config.json"), "w"), indent=1)
