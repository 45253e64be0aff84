"""Adds what a block that drafts tokens computes to the references of golden models: short.mtp.0.logits, [B, S - 1, vocabulary].

    python gen_mtp.py FOLDER [FOLDER …]

Row i is made from the model's hidden state of token i after the last norm and the embedding of token i + 1. The main model is
transformers' own, in float32; the block is put together here from transformers' decoder layer of the family and the tensors of
the checkpoint: x = eh_proj [enorm(embedding of the next token); hnorm(hidden state)], the layer, a norm, the head. Needs torch
and transformers (5.24).
"""

import copy
import json
import pathlib
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText


def tensors(folder):
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == "reference.safetensors":
            continue
        with safe_open(path, "pt") as file:
            for name in file.keys():
                out[name] = file.get_tensor(name)
    for name in [n for n in out if n.endswith(".weight_scale_inv")]:
        weight = name[: -len("_scale_inv")]
        rows, columns = out[weight].shape
        scale = out.pop(name).float().repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
        out[weight] = out[weight].float() * scale
    return {name: value.float() if value.is_floating_point() else value for name, value in out.items()}


def block(all_tensors, layers):
    """The block's tensors by the names of a decoder layer, and what joins it to the model."""
    if any(n.startswith("mtp.") for n in all_tensors):
        layer = {n[len("mtp.layers.0."):]: t for n, t in all_tensors.items() if n.startswith("mtp.layers.0.")}
        joint = {"eh_proj": "mtp.fc.weight", "enorm": "mtp.pre_fc_norm_embedding.weight", "hnorm": "mtp.pre_fc_norm_hidden.weight", "norm": "mtp.norm.weight"}
    else:
        prefix = f"model.layers.{layers}."
        layer = {n[len(prefix):]: t for n, t in all_tensors.items() if n.startswith(prefix)}
        norm = "shared_head.norm.weight" if "shared_head.norm.weight" in layer else "final_layernorm.weight"
        joint = {"eh_proj": prefix + "eh_proj.weight", "enorm": prefix + "enorm.weight", "hnorm": prefix + "hnorm.weight", "norm": prefix + norm}
    return layer, {k: all_tensors[v] for k, v in joint.items()}


RENAMED = (("mlp.router.gate.", "mlp.gate."), ("mlp.expert_bias", "mlp.e_score_correction_bias"), ("mlp.shared_mlp.", "mlp.shared_experts."))


def stacked(state, wanted):
    """Experts one by one as transformers has them in memory, where the layer wants them stacked."""
    for old, new in RENAMED:
        state = {n.replace(old, new): t for n, t in state.items()}
    count = len({n.split(".")[2] for n in state if n.startswith("mlp.experts.") and n.split(".")[2].isdigit()})
    if count and "mlp.experts.gate_up_proj" in wanted:
        part = lambda e, p: state.pop(f"mlp.experts.{e}.{p}_proj.weight")
        rows = [(torch.cat([part(e, "gate"), part(e, "up")]), part(e, "down")) for e in range(count)]
        state["mlp.experts.gate_up_proj"] = torch.stack([r[0] for r in rows])
        state["mlp.experts.down_proj"] = torch.stack([r[1] for r in rows])
    return state


def deepseek_v4(folder):
    """DeepSeek-V4's block, which joins the next token to every stream, from the independent pass beside this script."""
    import indep_v4 as v4

    cfg, w = v4.load(str(folder))
    layers = cfg["num_hidden_layers"]
    w.update({f"layers.{layers}.{n[len('mtp.0.'):]}": t for n, t in w.items() if n.startswith("mtp.0.")})
    cfg["compress_ratios"] = cfg["compress_ratios"][:layers] + [0]
    eps = cfg["rms_norm_eps"]

    def run(h, ids, first, last):
        for i in range(first, last):
            name = f"layers.{i}."
            for part in ("attn", "ffn"):
                x, post, c = v4.hc(h, *(w[name + f"hc_{part}_{k}"] for k in ("fn", "base", "scale")), cfg)
                x = v4.rms(x, w[name + f"{part}_norm.weight"], eps)
                y = v4.attention(x, i, w, cfg) if part == "attn" else v4.moe(x, ids, i, w, cfg)
                h = post[..., None] * y[:, None] + torch.einsum("sjk,sjd->skd", c, h)
        return h

    reference = load_file(folder / "reference.safetensors")
    rows = []
    with torch.no_grad():
        for ids in reference["short.input_ids"]:
            h = run(w["embed.weight"][ids][:, None].repeat(1, cfg["hc_mult"], 1), ids, 0, layers)[:-1]
            e = v4.rms(w["embed.weight"][ids[1:]], w["mtp.0.enorm.weight"], eps) @ w["mtp.0.e_proj.weight"].T
            h = v4.rms(h, w["mtp.0.hnorm.weight"], eps) @ w["mtp.0.h_proj.weight"].T + e[:, None]
            h = run(h, ids[1:], layers, layers + 1)
            flat = h.reshape(h.shape[0], -1)
            m = (flat @ w["mtp.0.hc_head_fn"].T) * torch.rsqrt(flat.pow(2).mean(-1, keepdim=True) + eps)
            mix = torch.sigmoid(m * w["mtp.0.hc_head_scale"] + w["mtp.0.hc_head_base"]) + cfg["hc_eps"]
            x = (mix[..., None] * h).sum(1)
            rows.append(v4.rms(x, w["mtp.0.norm.weight"], eps) @ w["head.weight"].T)
    reference["short.mtp.0.logits"] = torch.stack(rows).contiguous()
    save_file(reference, folder / "reference.safetensors", metadata={"format": "pt", "trimmed": "by make/trim_reference.py"})


def main(folder):
    if json.loads((folder / "config.json").read_text())["model_type"] == "deepseek_v4":
        return deepseek_v4(folder)
    everything = tensors(folder)
    with tempfile.TemporaryDirectory() as plain:
        plain = pathlib.Path(plain)
        written = json.loads((folder / "config.json").read_text())
        for part in (written, written.get("text_config", {})):
            part.pop("quantization_config", None)
        (plain / "config.json").write_text(json.dumps(written))
        save_file({n: t.contiguous() for n, t in everything.items()}, plain / "model.safetensors", metadata={"format": "pt"})
        config = AutoConfig.from_pretrained(plain)
        kind = AutoModelForImageTextToText if config is not config.get_text_config() else AutoModelForCausalLM
        model = kind.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager").eval()
    text = config.get_text_config()
    text._attn_implementation = "eager"
    decoder = model.model.language_model if hasattr(model.model, "language_model") else model.model
    reference = load_file(folder / "reference.safetensors")
    ids = reference["short.input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids)
        print(folder.name, "main model differs from the reference by", (out.logits - reference["short.logits"]).abs().max().item())
        hidden = decoder(input_ids=ids).last_hidden_state[:, :-1]
        own, joint = block(everything, text.num_hidden_layers)
        own_config = copy.deepcopy(text)
        if getattr(own_config, "layer_types", None):
            full = "full_attention" if "full_attention" in text.layer_types else text.layer_types[-1]
            own_config.layer_types = [full]
        if getattr(own_config, "mlp_layer_types", None):
            own_config.mlp_layer_types = ["sparse"]
        if hasattr(own_config, "indexer_types") and own_config.indexer_types:
            own_config.indexer_types = ["full"]
        for key in ("first_k_dense_replace", "num_hidden_layers"):
            if hasattr(own_config, key):
                setattr(own_config, key, 0 if key.startswith("first") else 1)
        layer = type(decoder.layers[-1])(own_config, 0).float().eval()
        missing = layer.load_state_dict(stacked(dict(own), layer.state_dict()), strict=False)
        assert not missing.missing_keys, missing.missing_keys
        norm_class = type(decoder.layers[-1].input_layernorm)

        def norm(x, weight):
            module = norm_class(x.shape[-1], eps=text.rms_norm_eps)
            module.weight.data = weight
            return module(x)

        table = own.get("embed_tokens.weight", decoder.embed_tokens.weight)
        head = own.get("shared_head.head.weight", model.lm_head.weight)
        e = table[ids[:, 1:]]
        x = torch.cat([norm(e, joint["enorm"]), norm(hidden, joint["hnorm"])], -1) @ joint["eh_proj"].T
        count = x.shape[1]
        positions = torch.arange(1, count + 1)[None].expand(x.shape[0], -1)
        mask = torch.full((count, count), float("-inf")).triu(1)[None, None].expand(x.shape[0], 1, -1, -1)
        kwargs = {"position_embeddings": decoder.rotary_emb(x, positions), "position_ids": positions, "attention_mask": mask}
        y = layer(x, **kwargs)
        y = y[0] if isinstance(y, tuple) else y
        logits = norm(y, joint["norm"]) @ head.T
    reference["short.mtp.0.logits"] = logits.contiguous()
    save_file(reference, folder / "reference.safetensors", metadata={"format": "pt", "trimmed": "by make/trim_reference.py"})


for name in sys.argv[1:]:
    main(pathlib.Path(name))
