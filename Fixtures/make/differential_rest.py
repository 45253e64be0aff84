"""Golden checkpoints with changed settings (router, rotation, windows, epsilons): smelt's logits against golden/indep_rest.py.

    python differential_rest.py SMELT SEED COUNT models/NAME [models/NAME …]

Prints the largest difference of each changed model; above 1e-4 something is wrong (or a choice was nearly tied: the
references' ids avoid that for the published settings only). Needs torch and safetensors.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "golden"))
import indep_rest  # noqa: E402

SMELT, SEED, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
random.seed(SEED)


def change(c):
    """Settings that no tensor's shape depends on."""
    kind = c["model_type"]
    said = {}

    def put(key, values):
        if key in c:
            c[key] = said[key] = random.choice(values)

    put("rms_norm_eps", [1e-6, 1e-5, 1e-3])
    put("rope_theta", [500.0, 10000.0, 1e6])
    put("num_experts_per_tok", [1, 2, 3])
    if kind == "deepseek_v2":
        put("topk_method", ["greedy", "group_limited_greedy"])
    elif kind not in ("mixtral", "minimax_m2", "gpt_oss"):
        put("norm_topk_prob", [True, False])
    if kind.startswith("deepseek") or kind == "glm4_moe":
        put("routed_scaling_factor", [1.0, 2.5])
        put("n_group", [1, 2, 4] if kind != "glm4_moe" else [1, 2])
        if c.get("n_group", 1) > 1:
            c["topk_group"] = said["topk_group"] = random.choice([g for g in (1, 2) if g <= c["n_group"]])
            if c["n_routed_experts"] // c["n_group"] * c["topk_group"] < c["num_experts_per_tok"]:
                c["topk_group"] = said["topk_group"] = c["n_group"]
        else:
            c["topk_group"] = 1
    if isinstance(c.get("rope_scaling"), dict):
        c["rope_scaling"] = dict(c["rope_scaling"], factor=random.choice([2.0, 8.0, 40.0]))
        if kind.startswith("deepseek"):
            m = random.choice([(1.0, 1.0), (0.707, 0.707), (1.0, 0.5)])
            c["rope_scaling"]["mscale"], c["rope_scaling"]["mscale_all_dim"] = m
        said["rope_scaling"] = c["rope_scaling"]["factor"]
    put("sliding_window", [3, 16] if kind in ("mixtral", "gpt_oss") else [c.get("sliding_window")])
    put("swiglu_limit", [1.0, 2.5, 7.0])
    put("index_topk", [3, 12, 200])
    if kind == "olmoe":
        c["clip_qkv"] = said["clip_qkv"] = random.choice([None, 0.5])
    return said


for source in sys.argv[4:]:
    config, weights = indep_rest.load(source)
    for number in range(COUNT):
        changed = json.loads(json.dumps(config))
        said = change(changed)
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(source):
                if name.startswith("model"):
                    shutil.copy(os.path.join(source, name), folder)
            json.dump(changed, open(folder + "/config.json", "w"))
            sequences = [[random.randrange(changed["vocab_size"]) for _ in range(n)] for n in (1, 2, 9, 40, 150)]
            json.dump({"sequences": sequences}, open(folder + "/ids.json", "w"))
            run = subprocess.run(
                [SMELT, "logits", folder, folder + "/out.safetensors", "--tokens", folder + "/ids.json"],
                capture_output=True, text=True)
            if run.returncode:
                print(os.path.basename(source.rstrip("/")), "refused:", run.stderr.splitlines()[0], said, flush=True)
                continue
            found = load_file(folder + "/out.safetensors")
            worst = []
            with torch.no_grad():
                for i, ids in enumerate(sequences):
                    expected = indep_rest.forward(torch.tensor(ids), weights, changed)
                    worst.append((expected - found[f"logits.{i}"]).abs().max().item())
            note = "" if max(worst) < 1e-4 else "<< too far: " + " ".join(f"{w:.1e}" for w in worst)
            print(os.path.basename(source.rstrip("/")), f"{max(worst):.2e}", note, said if note else "", flush=True)
