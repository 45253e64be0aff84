"""Random DeepSeek-V4 configurations and weights: smelt's logits against the independent forward pass in golden/indep_v4.py.

    python differential_v4.py SMELT SEED COUNT

Prints the largest difference of each model; above 1e-4 something is wrong. Needs torch and safetensors.
"""
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden"))
import indep_v4  # noqa: E402

SMELT, SEED, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(SEED)
random.seed(SEED)


def configuration():
    layers = random.choice([1, 3, 5])
    rope = random.choice([8, 16])
    ratios = [random.choice([0, 4, 4, 8, 128]) for _ in range(layers)]
    config = dict(
        model_type="deepseek_v4", vocab_size=random.choice([64, 300]), hidden_size=random.choice([48, 64, 96, 200]),
        num_hidden_layers=layers, num_attention_heads=random.choice([2, 4, 6]), num_key_value_heads=1,
        head_dim=random.choice([16, 32, 48]), qk_rope_head_dim=rope, q_lora_rank=random.choice([24, 40]),
        o_groups=random.choice([1, 2]), o_lora_rank=random.choice([8, 20]), moe_intermediate_size=random.choice([24, 56]),
        n_routed_experts=random.choice([4, 7, 12]), n_shared_experts=1, num_experts_per_tok=random.choice([1, 2, 3]),
        routed_scaling_factor=random.choice([1.0, 1.5, 2.5]), scoring_func="sqrtsoftplus", topk_method="noaux_tc",
        norm_topk_prob=True, num_hash_layers=min(random.choice([0, 1, 2]), layers),
        swiglu_limit=random.choice([10.0, 1.0, 0.7]), sliding_window=random.choice([1, 3, 8, 64]),
        compress_ratios=ratios + [0] * random.choice([0, 1, 3]), compress_rope_theta=160000,
        rope_theta=random.choice([10000, 500.0]), max_position_embeddings=4096, index_n_heads=random.choice([8, 16]),
        index_head_dim=random.choice([rope, rope + 8, 32]), index_topk=random.choice([2, 5, 64]),
        hc_mult=random.choice([2, 3, 4]), hc_sinkhorn_iters=random.choice([1, 3, 20]), hc_eps=1e-6,
        rms_norm_eps=random.choice([1e-6, 1e-5]), hidden_act="silu", tie_word_embeddings=False)
    if random.random() < 0.7:
        config["rope_scaling"] = dict(
            type="yarn", factor=random.choice([2, 16]), beta_fast=32, beta_slow=1,
            original_max_position_embeddings=random.choice([32, 64, 4096]))
    return config, ratios


def normal(*shape, mean=0.0, deviation=None):
    return torch.randn(*shape) * (deviation or 1 / math.sqrt(shape[-1])) + mean


def weights(c, ratios):
    hidden, streams, experts, width = c["hidden_size"], c["hc_mult"], c["n_routed_experts"], c["moe_intermediate_size"]
    heads, head, rank, groups = c["num_attention_heads"], c["head_dim"], c["q_lora_rank"], c["o_groups"]
    vocabulary, perToken = c["vocab_size"], c["num_experts_per_tok"]
    w = {}

    def matrix(name, *shape, gain=1.5):
        w[name] = normal(*shape, deviation=gain / math.sqrt(shape[-1])).to(torch.bfloat16)

    def norm(name, size):
        w[name] = normal(size, mean=1, deviation=0.2).to(torch.bfloat16)

    matrix("embed.weight", vocabulary, hidden, gain=math.sqrt(hidden))
    matrix("head.weight", vocabulary, hidden, gain=2)
    norm("norm.weight", hidden)
    w["hc_head_fn"] = normal(streams, streams * hidden)
    w["hc_head_base"] = normal(streams, deviation=0.5)
    w["hc_head_scale"] = normal(1, mean=1, deviation=0.2)
    for layer, ratio in enumerate(ratios):
        p = f"layers.{layer}."
        for site in ("attn", "ffn"):
            norm(f"{p}{site}_norm.weight", hidden)
            w[f"{p}hc_{site}_fn"] = normal((2 + streams) * streams, streams * hidden)
            w[f"{p}hc_{site}_base"] = normal((2 + streams) * streams, deviation=0.5)
            w[f"{p}hc_{site}_scale"] = normal(3, mean=1, deviation=0.2)
        w[p + "attn.attn_sink"] = normal(heads, deviation=1)
        matrix(p + "attn.wq_a.weight", rank, hidden)
        matrix(p + "attn.wq_b.weight", heads * head, rank)
        matrix(p + "attn.wkv.weight", head, hidden)
        matrix(p + "attn.wo_a.weight", groups * c["o_lora_rank"], heads * head // groups)
        matrix(p + "attn.wo_b.weight", hidden, groups * c["o_lora_rank"])
        norm(p + "attn.q_norm.weight", rank)
        norm(p + "attn.kv_norm.weight", head)
        pools = [("attn.compressor.", head, 2 if ratio == 4 else 1)] if ratio else []
        if ratio == 4:
            pools.append(("attn.indexer.compressor.", c["index_head_dim"], 2))
            matrix(p + "attn.indexer.wq_b.weight", c["index_n_heads"] * c["index_head_dim"], rank, gain=1)
            matrix(p + "attn.indexer.weights_proj.weight", c["index_n_heads"], hidden, gain=1)
        for name, size, copies in pools:
            matrix(p + name + "wkv.weight", copies * size, hidden, gain=1)
            matrix(p + name + "wgate.weight", copies * size, hidden, gain=2)
            w[p + name + "ape"] = normal(ratio, copies * size, deviation=0.5)
            norm(p + name + "norm.weight", size)
        matrix(p + "ffn.gate.weight", experts, hidden, gain=2)
        if layer < c["num_hash_layers"]:
            w[p + "ffn.gate.tid2eid"] = torch.stack([torch.randperm(experts)[:perToken] for _ in range(vocabulary)])
        else:
            w[p + "ffn.gate.bias"] = normal(experts, deviation=0.3)
        for expert in [f"experts.{e}" for e in range(experts)] + ["shared_experts"]:
            matrix(f"{p}ffn.{expert}.w1.weight", width, hidden)
            matrix(f"{p}ffn.{expert}.w3.weight", width, hidden)
            matrix(f"{p}ffn.{expert}.w2.weight", hidden, width)
    return w


def compare(folder):
    config, ratios = configuration()
    stored = weights(config, ratios)
    save_file({k: v.contiguous() for k, v in stored.items()}, folder + "/model.safetensors")
    json.dump(config, open(folder + "/config.json", "w"))
    lengths = random.sample([1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 140], 4)
    sequences = [[random.randrange(config["vocab_size"]) for _ in range(n)] for n in lengths]
    json.dump({"sequences": sequences}, open(folder + "/ids.json", "w"))
    subprocess.run([SMELT, "logits", folder, folder + "/out.safetensors", "--tokens", folder + "/ids.json"], check=True, stdout=subprocess.DEVNULL)
    found = load_file(folder + "/out.safetensors")
    wide = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
    worst = 0.0
    with torch.no_grad():
        for i, ids in enumerate(sequences):
            expected = indep_v4.forward(torch.tensor(ids), wide, dict(config, compress_ratios=ratios))
            worst = max(worst, (expected - found[f"logits.{i}"]).abs().max().item())
    return worst, ratios


for number in range(COUNT):
    with tempfile.TemporaryDirectory() as folder:
        worst, ratios = compare(folder)
        print(number, f"{worst:.2e}", "ratios", ratios, "" if worst < 1e-4 else "<< too far", flush=True)
