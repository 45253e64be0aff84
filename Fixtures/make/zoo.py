"""Makes small checkpoints of many architectures with transformers, and checks what smelt makes of each.

    python3 zoo.py SMELT [--goldens FOLDER] [--only NAME ...] [--keep FOLDER]

SMELT is the built command. Weights are random, of BF16, F32 or F16, some in shards, embeddings tied where the type ties them. For each
checkpoint, or for each folder of FOLDER with --goldens:

1. `inspect`, `check` and `plan` exit with 0;
2. `convert` to an .ingot and from there to a directory gives the same tensors, names, dimensions, dtypes and bytes, and the same
   files beside them;
3. `quantize` to W8A8 and to FP8_DYNAMIC without data gives every tensor under its name, as it was, or as codes with scales whose
   numbers (decoded by numpy here) lie within the scheme's bound; only matrices of linear layers are quantized, and no router;
4. `verify SOURCE RESULT` says that no forward pass ran, or runs, and finds no fault; `generate` and `evaluate` end with 3 and one
   error where `inspect` says that there is no forward pass, else with 0 and transformers' logits;
5. a copy with one safetensors file cut in half is refused with a code.

Prints a table; exits with 1 where anything failed. Needs numpy; to make the checkpoints torch and transformers (5.24).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

# What most configurations call their sizes; each type below says what it has otherwise.
TEXT = dict(
    vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
EXPERTS = dict(num_experts=4, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
AUDIO = dict(
    d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48, num_mel_bins=16, max_source_positions=50)
BART = dict(
    vocab_size=160, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    decoder_start_token_id=1)
GPT2 = dict(vocab_size=160, n_embd=64, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
MAMBA = dict(state_size=8, mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1)


def text(**more):
    return {**TEXT, **more}


def vision(**more):
    return {**VISION, **more}


# model_type: the auto class that makes it, and its configuration.
CAUSAL, IMAGE, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM"
MASKED, PLAIN, SPEECH = "AutoModelForMaskedLM", "AutoModel", "AutoModelForSpeechSeq2Seq"
ZOO = {
    # state space, and hybrids of it with attention
    "mamba": (CAUSAL, text(state_size=8)),
    "mamba2": (CAUSAL, text(state_size=8, num_heads=8, head_dim=16, n_groups=1, expand=2)),
    "falcon_mamba": (CAUSAL, text(state_size=8)),
    "jamba": (CAUSAL, text(**EXPERTS, **MAMBA, mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
                           expert_layer_offset=1, use_mamba_kernels=False)),
    "bamba": (CAUSAL, text(**MAMBA, attn_layer_indices=[1])),
    "zamba2": (CAUSAL, text(num_hidden_layers=3, layers_block_type=["mamba", "hybrid", "mamba"], mamba_d_state=8, mamba_ngroups=1,
                            n_mamba_heads=8, mamba_headdim=16, num_mem_blocks=1, adapter_rank=4, attention_head_dim=32)),
    "nemotron_h": (CAUSAL, text(layers_block_type=["mamba", "attention", "moe"], num_hidden_layers=3, mamba_num_heads=8,
                                mamba_head_dim=16, n_groups=1, ssm_state_size=8, n_routed_experts=4, moe_intermediate_size=32,
                                moe_shared_expert_intermediate_size=32, num_experts_per_tok=2, n_group=1, topk_group=1)),
    "falcon_h1": (CAUSAL, text(**MAMBA, mamba_d_ssm=128)),
    "granitemoehybrid": (CAUSAL, text(**MAMBA, num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=32,
                                      layer_types=["mamba", "attention"])),
    "lfm2": (CAUSAL, text(layer_types=["conv", "full_attention"], block_multiple_of=16)),
    "recurrent_gemma": (CAUSAL, text(num_hidden_layers=3, lru_width=64, attention_window_size=16)),
    "rwkv": (CAUSAL, dict(vocab_size=160, hidden_size=64, num_hidden_layers=2, attention_hidden_size=64, intermediate_size=96)),
    "qwen3_next": (CAUSAL, text(**EXPERTS, shared_expert_intermediate_size=32, linear_num_value_heads=4, linear_num_key_heads=2,
                                linear_key_head_dim=16, linear_value_head_dim=16,
                                layer_types=["linear_attention", "full_attention"])),
    # vision and language
    "qwen3_vl_moe": (IMAGE, dict(
        text_config=text(**EXPERTS, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=8, out_hidden_size=64,
                           deepstack_visual_indexes=[0], num_position_embeddings=16))),
    "qwen2_vl": (IMAGE, dict(
        text_config=text(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, embed_dim=32, hidden_size=64, mlp_ratio=2, num_heads=2, patch_size=8))),
    "qwen2_5_vl": (IMAGE, dict(
        text_config=text(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, hidden_size=32, out_hidden_size=64, intermediate_size=48, num_heads=2, patch_size=8,
                           fullatt_block_indexes=[1]))),
    "qwen3_vl": (IMAGE, dict(
        text_config=text(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=8, out_hidden_size=64,
                           deepstack_visual_indexes=[0], num_position_embeddings=16))),
    "qwen3_omni_moe_thinker": ("Qwen3OmniMoeThinkerForConditionalGeneration", dict(
        text_config=text(**EXPERTS, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=8, out_hidden_size=64,
                           deepstack_visual_indexes=[0], num_position_embeddings=16),
        audio_config=dict(AUDIO, output_dim=64, downsample_hidden_size=8))),
    "qwen2_5_omni_thinker": ("Qwen2_5OmniThinkerForConditionalGeneration", dict(
        text_config=text(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}),
        vision_config=dict(depth=2, hidden_size=32, out_hidden_size=64, intermediate_size=48, num_heads=2, patch_size=8,
                           fullatt_block_indexes=[1]),
        audio_config=dict(AUDIO, output_dim=64))),
    "llava": (IMAGE, dict(text_config=text(model_type="llama"), vision_config=vision(model_type="clip_vision_model"))),
    "gemma3": (IMAGE, dict(text_config=text(layer_types=["sliding_attention", "full_attention"]),
                           vision_config=vision(model_type="siglip_vision_model"), mm_tokens_per_image=4)),
    "gemma4": (IMAGE, dict(
        text_config=text(layer_types=["sliding_attention", "full_attention"], vocab_size_per_layer_input=160,
                         hidden_size_per_layer_input=8, num_kv_shared_layers=0, global_head_dim=16, enable_moe_block=True,
                         num_experts=4, top_k_experts=2, moe_intermediate_size=32),
        vision_config=vision(num_key_value_heads=2, head_dim=16, position_embedding_size=64), audio_config=None)),
    "internvl": (IMAGE, dict(text_config=text(model_type="qwen2"), vision_config=vision(image_size=[32, 32], patch_size=[8, 8]))),
    "idefics3": (IMAGE, dict(text_config=text(model_type="llama"), vision_config=vision(), scale_factor=2)),
    "mistral3": (IMAGE, dict(text_config=text(model_type="mistral"),
                             vision_config=vision(model_type="pixtral", head_dim=16), spatial_merge_size=2)),
    "mllama": (IMAGE, dict(
        text_config=text(num_hidden_layers=3, cross_attention_layers=[1],
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        vision_config=dict(hidden_size=32, attention_heads=2, intermediate_size=48, num_hidden_layers=2, num_global_layers=1,
                           image_size=32, patch_size=8, max_num_tiles=4, vision_output_dim=64,
                           intermediate_layers_indices=[0]))),
    "llama4": (IMAGE, dict(
        text_config=text(intermediate_size_mlp=96, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2),
        vision_config=vision(vision_output_dim=64, projector_input_dim=64, projector_output_dim=64, intermediate_size=64))),
    "paligemma": (IMAGE, dict(text_config=text(model_type="gemma"), vision_config=vision(model_type="siglip_vision_model"),
                              projection_dim=64)),
    "blip-2": (IMAGE, dict(
        text_config=dict(model_type="opt", vocab_size=160, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2,
                         max_position_embeddings=64, word_embed_proj_dim=32),
        vision_config=vision(), qformer_config=dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                                    intermediate_size=48, encoder_hidden_size=32, vocab_size=160),
        num_query_tokens=4)),
    "clip": (PLAIN, dict(text_config=dict(vocab_size=160, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                          num_attention_heads=2, max_position_embeddings=16),
                         vision_config=vision(), projection_dim=32)),
    # sound
    "whisper": (SPEECH, {**BART, **AUDIO, "max_target_positions": 32}),
    "wav2vec2": (PLAIN, dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, conv_dim=[16, 16],
                             conv_kernel=[10, 3], conv_stride=[5, 2], num_conv_pos_embeddings=8,
                             num_conv_pos_embedding_groups=2)),
    "qwen2_audio": (SEQ2SEQ, dict(text_config=text(model_type="qwen2"), audio_config=AUDIO)),
    # encoder and decoder
    "t5": (SEQ2SEQ, dict(vocab_size=160, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, pad_token_id=0,
                         decoder_start_token_id=0, relative_attention_num_buckets=8)),
    "bart": (SEQ2SEQ, BART),
    "pegasus": (SEQ2SEQ, BART),
    "switch_transformers": (SEQ2SEQ, dict(vocab_size=160, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_decoder_layers=2,
                                          num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_heads=4, num_experts=4,
                                          expert_capacity=4)),
    # encoders
    "bert": (MASKED, text()),
    "modernbert": (MASKED, text(global_attn_every_n_layers=2)),
    "deberta-v2": (MASKED, text(relative_attention=True, pos_att_type=["p2c", "c2p"], max_relative_positions=16)),
    "vit": (PLAIN, vision()),
    # dense
    "phi3": (CAUSAL, text()),
    "gemma2": (CAUSAL, text(query_pre_attn_scalar=16)),
    "olmo2": (CAUSAL, text()),
    "cohere": (CAUSAL, text()),
    "starcoder2": (CAUSAL, text()),
    "gpt_neox": (CAUSAL, text()),
    "gpt2": (CAUSAL, GPT2),
    "gptj": (CAUSAL, {**GPT2, "rotary_dim": 8}),
    "falcon": (CAUSAL, dict(vocab_size=160, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1,
                            eos_token_id=2)),
    "bloom": (CAUSAL, text(n_layer=2, n_head=4)),
    "opt": (CAUSAL, text(ffn_dim=96, word_embed_proj_dim=64)),
    "mpt": (CAUSAL, dict(vocab_size=160, d_model=64, n_layers=2, n_heads=4, max_seq_len=64, expansion_ratio=2)),
    "stablelm": (CAUSAL, text()),
    "smollm3": (CAUSAL, text()),
    "nanochat": (CAUSAL, text()),
    # experts that no family here has
    "phimoe": (CAUSAL, text(num_local_experts=4, num_experts_per_tok=2)),
    "jetmoe": (CAUSAL, text(num_local_experts=4, num_experts_per_tok=2, kv_channels=16, num_key_value_heads=4)),
    "granitemoe": (CAUSAL, text(num_local_experts=4, num_experts_per_tok=2)),
    "ernie4_5_moe": (CAUSAL, text(moe_num_experts=4, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=1,
                                  moe_layer_start_index=1)),
    "glm4_moe_lite": (CAUSAL, text(num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8, v_head_dim=16,
                                   qk_nope_head_dim=8, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                   n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1)),
    "dots1": (CAUSAL, text(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, n_shared_experts=1,
                           first_k_dense_replace=1, n_group=1, topk_group=1, layer_types=["full_attention"] * 2)),
    "hunyuan_v1_moe": (CAUSAL, text(num_experts=4, moe_topk=2)),
    "longcat_flash": (CAUSAL, text(num_layers=2, ffn_hidden_size=96, expert_ffn_hidden_size=32, n_routed_experts=4,
                                   zero_expert_num=2, moe_topk=2, kv_lora_rank=16, q_lora_rank=24, qk_rope_head_dim=8,
                                   qk_nope_head_dim=8, v_head_dim=16, num_key_value_heads=4)),
}
DTYPES = ["bfloat16", "float32", "bfloat16", "float16"]


# MARK: making


def make(name, folder):
    """Writes a checkpoint of random weights; returns its dtype, hashes of matrices that are no linear layer's, and what computes
    the logits of token ids."""
    import hashlib

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    kind, settings = ZOO[name]
    place = list(ZOO).index(name)
    torch.manual_seed(place)
    config = transformers.AutoConfig.for_model(name, **settings)
    dtype = getattr(torch, DTYPES[place % len(DTYPES)])
    maker = getattr(transformers, kind)
    model = maker.from_config(config, dtype=torch.float32) if kind.startswith("Auto") else maker(config)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.normal_(float("norm" in path and parameter.ndim == 1), 0.05)
    model = model.to(dtype)
    model.save_pretrained(folder, **({"max_shard_size": "60KB"} if place % 3 == 0 else {}))
    (folder / "chat_template.jinja").write_text("{{ messages }}\n")
    (folder / "extra").mkdir()
    (folder / "extra" / "notes.txt").write_text("beside the weights\n")
    odd = {}
    for path, module in model.named_modules():
        for key, value in module.named_parameters(recurse=False):
            if value.ndim == 2 and not isinstance(module, torch.nn.Linear):
                bits = value.detach().contiguous().view(torch.uint8).numpy().tobytes()
                odd[hashlib.sha256(bits).hexdigest()] = f"{path}.{key} of {type(module).__name__}"

    def logits(ids):
        loaded = maker.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            return loaded(input_ids=torch.tensor([ids])).logits[0].numpy()

    return str(dtype).removeprefix("torch."), odd, logits


# MARK: reading


class Stored:
    """A tensor as a file has it."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, tuple(shape), data

    def __eq__(self, other):
        return (self.dtype, self.shape, self.data) == (other.dtype, other.shape, other.data)

    def numbers(self):
        """Float64, or nothing where it is no table of floats."""
        plain = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1"}
        if self.dtype in plain:
            found = np.frombuffer(self.data, plain[self.dtype]).astype(np.float64)
        elif self.dtype == "BF16":
            found = (np.frombuffer(self.data, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        elif self.dtype == "F8_E4M3":
            found = E4M3[np.frombuffer(self.data, "u1")]
        else:
            return None
        return found.reshape(self.shape)


def apart(name, value, result):
    """A tensor, or the matrices of a stack of experts, gate rows before up rows, where the result has those instead."""
    stack = re.fullmatch(r"(.*\.experts)\.(gate_up_proj|down_proj)", name)
    if name in result or not stack or len(value.shape) != 3:
        return [(name, value)]
    experts, rows, columns = value.shape
    parts = ["down_proj"] if stack[2] == "down_proj" else ["gate_proj", "up_proj"]
    size = len(value.data) // experts // len(parts)
    places = [(expert, place) for expert in range(experts) for place in range(len(parts))]
    return [
        (f"{stack[1]}.{expert}.{parts[place]}.weight",
         Stored(value.dtype, [rows // len(parts), columns],
                value.data[(expert * len(parts) + place) * size:(expert * len(parts) + place + 1) * size]))
        for expert, place in places]


def e4m3(code):
    sign, exponent, mantissa = -1.0 if code & 128 else 1.0, code >> 3 & 15, code & 7
    if code & 127 == 127:
        return np.nan
    return sign * (mantissa * 2.0**-9 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3 = np.array([e4m3(code) for code in range(256)])


def read(folder, pattern="*.safetensors"):
    """All tensors of a folder by name."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob(pattern)):
        if path.name == "reference.safetensors":
            continue
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                found[name] = Stored(entry["dtype"], entry["shape"], data[8 + length + first : 8 + length + last])
    return found


# MARK: checking


class Failure(Exception):
    pass


def require(truth, what):
    if not truth:
        raise Failure(what)


def undescribed(config):
    """A configuration without what it says of codes, which may be said in other words."""
    if not isinstance(config, dict):
        return config
    return {key: undescribed(value) for key, value in config.items() if key != "quantization_config"}


class Checks:
    """The five checks of one checkpoint."""

    def __init__(self, smelt, source, work, odd, logits):
        self.smelt, self.source, self.work, self.odd, self.logits = smelt, source, work, odd, logits
        self.tensors = read(source)
        self.why, self.dropped, self.coded = None, set(), set()

    def run(self, *words, codes=(0,)):
        done = subprocess.run(
            [self.smelt, *map(str, words)], capture_output=True, text=True, timeout=300, env={**os.environ, "NO_COLOR": "1"})
        shown = f"`{words[0]}` ended with {done.returncode}: {' | '.join(done.stderr.strip().splitlines()[:3])[:400]}"
        require(0 <= done.returncode < 128 and "Fatal error" not in done.stderr, f"crash: {shown}")
        require(done.returncode in codes, shown)
        if done.returncode != 0:
            lines = [line for line in done.stderr.strip().splitlines() if not re.match(r"(left out|not carried|warning): ", line)]
            errors = [line for line in lines if re.match(r"error\[\w+\]: ", line)]
            require(len(errors) == 1 and len(lines) <= 3, f"no single error: {shown}")
        return done

    def headers(self):
        inspected = json.loads(self.run("inspect", self.source, "--json").stdout)
        require(inspected["schema"] == "smelt.inspect/1", "inspect: no schema")
        self.why = inspected.get("no_forward_pass")
        self.run("inspect", self.source, "--tensors")
        self.run("check", self.source, "--quiet")
        plan = json.loads(self.run("plan", self.source, self.work / "x.ingot", "--scheme", "W8A8", "--json").stdout)
        ledger = plan["ledger"]
        self.dropped = {entry["source"] for entry in ledger if entry["fate"] == "dropped"}
        # What is quantized in the source already is respelled: codes and scales of the same weight.
        joined = {entry["weight"] for entry in ledger if entry["fate"] == "joined"}
        self.coded = {entry["source"] for entry in ledger if entry["weight"] in joined}
        found = {entry["source"] for entry in ledger}
        require(found == set(self.tensors), f"plan: the ledger lacks {sorted(set(self.tensors) - found)[:3]}")
        return f"{len(self.tensors)} tensors" + (f", {len(self.dropped)} dropped" if self.dropped else "")

    def around(self):
        ingot, back = self.work / "a.ingot", self.work / "back"
        self.run("convert", self.source, ingot, "--quiet")
        self.run("check", ingot, "--quiet")
        self.run("convert", ingot, back, "--quiet")
        result = read(back)
        wanted = {name: value for name, value in self.tensors.items() if name not in self.dropped}
        require(
            set(result) == set(wanted),
            f"back: lacks {sorted(set(wanted) - set(result))[:3]}, has {sorted(set(result) - set(wanted))[:3]} too")
        for name, value in wanted.items():
            require(result[name] == value, f"back: {name} is {result[name].dtype} {result[name].shape}, other than the source's")
        for path in self.source.rglob("*"):
            name = path.relative_to(self.source)
            if not path.is_file() or path.suffix == ".safetensors" or name.name == "model.safetensors.index.json":
                continue
            require((back / name).is_file(), f"back: {name} is not there")
            if name.name == "config.json" and self.dropped:
                continue  # draft layers that are left out are not declared
            if name.name == "config.json" and self.coded:
                pair = [undescribed(json.loads(p.read_text())) for p in (path, back / name)]
                require(pair[0] == pair[1], "back: config.json says something else")
                continue
            require((back / name).read_bytes() == path.read_bytes(), f"back: {name} is another file")
        self.run("diff", self.source, back, "--quiet")
        return "same"

    def quantized(self, word):
        import hashlib

        folder = self.work / word
        # Engines read no codes of some families' stacks; architectures without a family keep those.
        if self.run("quantize", self.source, folder, "--scheme", word, "--quiet", codes=(0,) if self.why else (0, 3)).returncode:
            return "exit 3"
        result = read(folder)
        count = worst = 0
        wanted = dict(pair for name, value in self.tensors.items() for pair in apart(name, value, result))
        for name, value in wanted.items():
            if name in self.dropped:
                continue
            if name in self.coded:
                module = re.sub(r"\.(weight\w*|scale|qweight|scales|qzeros|g_idx)$|_(blocks|scales)$", "", name)
                require(any(n.startswith(module) for n in result), f"{word}: nothing is there of {module}")
                continue
            require(name in result, f"{word}: {name} is missing")
            found = result[name]
            if found == value:
                continue
            require(found.shape == value.shape, f"{word}: {name} is {found.shape}, was {value.shape}")
            scale = result.get(f"{name}_scale")
            require(scale is not None, f"{word}: {name} changed and has no scales")
            require(found.dtype == {"W8A8": "I8", "FP8_DYNAMIC": "F8_E4M3"}[word], f"{word}: {name} is {found.dtype}")
            source = value.numbers()
            require(source is not None, f"{word}: {name} of {value.dtype} became {found.dtype}")
            digest = hashlib.sha256(value.data).hexdigest()
            require(not re.search(r"router|\.gate\.(wg\.)?weight$", name), f"{word}: the router {name} is quantized")
            require(digest not in self.odd, f"{word}: {name} is quantized, and is {self.odd.get(digest)}")
            scale = scale.numbers()
            require(scale.shape == (value.shape[0], 1), f"{word}: {name} has scales {scale.shape}")
            error = np.abs(found.numbers() * scale - source)
            bound = scale * 0.5 if word == "W8A8" else np.maximum(np.abs(source) / 16, scale * 2.0**-10)
            bound = bound * (1 + 2.0**-10) + 2.0**-22 * np.abs(source)
            require(np.all(error <= bound), f"{word}: {name} is off by {np.nanmax(error / bound):.3g} times the bound")
            worst = max(worst, float(np.max(error / bound)))
            count += 1
        extra = {n for n in result if n not in wanted and not n.endswith("_scale")} if not self.coded else set()
        require(not extra, f"{word}: has {sorted(extra)[:3]} too")
        config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
        sections = [config, *(value for value in config.values() if isinstance(value, dict))]
        said = any("quantization_config" in section for section in sections)
        require(count == 0 or said or not config, f"{word}: config.json says nothing of it")
        self.run("check", folder, "--quiet")
        return f"{count}" + (f" ({worst:.2f})" if count else "")

    def verdict(self):
        ids = self.work / "ids.json"
        ids.write_text(json.dumps({"sequences": [[1, 2, 3, 4]]}))
        why = self.why
        expected = (3,) if why else (0,)
        for verb in ["generate", "evaluate"]:
            self.run(verb, self.source, "--tokens", ids, "--quiet", codes=expected)
        self.run("generate", self.source, "--prompt", "a", "--quiet", codes=(3,) if why else (0, 2))
        for word in ["W8A8", "FP8_DYNAMIC"]:
            if not (self.work / word).exists():
                continue
            text = [] if why else ["--tokens", ids]
            said = self.run("verify", self.source, self.work / word, *text, "--quiet").stdout.strip().splitlines()
            require(said[-1].startswith("verdict: not judged"), f"verify: {said[-1]}")
            require("no weight, setting or token id is wrong" in said[-1], f"verify: {said[-1]}")
            require(("no forward pass was run" in said[-1]) == bool(why), f"verify: {said[-1]}")
        if why:
            return "exit 3"
        if not self.logits:
            return "runs"
        self.run("logits", self.source, self.work / "logits.safetensors", "--tokens", ids, "--quiet")
        ours, theirs = read(self.work, "logits.safetensors")["logits.0"].numbers(), self.logits([1, 2, 3, 4])
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        require(error <= 1e-5, f"logits are {error:.2g} of the largest off")
        return f"runs, {error:.1g}"

    def damaged(self):
        copy = self.work / "cut"
        shutil.copytree(self.source, copy)
        files = sorted(p for p in copy.glob("*.safetensors") if p.name != "reference.safetensors")
        path = files[len(files) // 2]
        os.truncate(path, path.stat().st_size // 2)
        seen = set()
        for words in [("inspect", copy), ("check", copy), ("convert", copy, self.work / "cut.ingot")]:
            done = self.run(*words, "--quiet", codes=(2,)) if words[0] != "inspect" else self.run(*words, codes=(2,))
            seen.add(re.search(r"error\[(\w+)\]", done.stderr)[1])
        require(not (self.work / "cut.ingot").exists(), "cut: a result is there")
        return " ".join(sorted(seen))

    def all(self):
        cells, failures = [], []
        for check in [self.headers, self.around, lambda: self.quantized("W8A8"), lambda: self.quantized("FP8_DYNAMIC"), self.verdict,
                      self.damaged]:
            try:
                cells.append(check())
            except Failure as failure:
                cells.append("FAILED")
                failures.append(str(failure))
        return cells, failures


HEADINGS = ["model", "dtype", "MB", "headers", "ingot and back", "W8A8 (of bound)", "FP8 (of bound)", "passes", "cut in half"]
WIDTHS = [22, 9, 5, 24, 15, 16, 15, 14, 20]


def row(cells):
    return "  ".join(str(cell).ljust(width) for cell, width in zip(cells, WIDTHS)).rstrip()


def main():
    parser = argparse.ArgumentParser(description="Makes small checkpoints of many architectures, and checks what smelt makes of each.")
    parser.add_argument("smelt", help="the built command")
    parser.add_argument("--goldens", type=pathlib.Path, help="check the checkpoints in this folder instead")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder for the checkpoints and all results")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    start, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.keep or pathlib.Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        if arguments.goldens:
            names = sorted(p.parent.name for p in arguments.goldens.glob("*/config.json") if any(p.parent.glob("*.safetensors")))
        else:
            names = list(ZOO)
        names = [name for name in names if not arguments.only or name in arguments.only]
        print(row(HEADINGS), flush=True)
        for name in names:
            work = home / f"{name}.work"
            work.mkdir()
            if arguments.goldens:
                source, (dtype, odd, logits) = arguments.goldens / name, ("", {}, None)
            else:
                source = home / name
                dtype, odd, logits = make(name, source)
            size = sum(p.stat().st_size for p in source.glob("*.safetensors")) / 1e6
            cells, failures = Checks(os.path.abspath(arguments.smelt), source, work, odd, logits).all()
            failed += bool(failures)
            print(row([name, dtype, f"{size:.2f}", *cells]), flush=True)
            for failure in failures:
                print(f"    {failure}", flush=True)
            if not arguments.keep:
                shutil.rmtree(work)
    print(f"{len(names)} checkpoints, {failed} failed, {time.monotonic() - start:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
