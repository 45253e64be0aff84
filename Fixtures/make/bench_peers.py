"""Smelt beside llama.cpp and transformers on one made-up model, in one run, turn about.

    python3 bench_peers.py SMELT FOLDER [--threads 1] [--passes 3] [--prefill 512,2048] [--decode 64] [--only forward|convert]

FOLDER takes the model (qwen3_moe in BF16, 1.4 GB, random weights) and what is made of it, about 5 GB. Every figure is the median of
the passes; a pass runs Smelt, then the peer, so that whatever else the machine does meets both. Forward passes on one thread and
conversions are CPU seconds, forward passes on more threads wall time. llama.cpp runs through the library of llama-cpp-python, transformers through torch in
float32; what cannot be imported is left out and said. Needs numpy.
"""

import argparse
import ctypes
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

import numpy

from byte_tokenizer import tokenizer

HIDDEN, LAYERS, EXPERTS, TOP, WIDTH, HEADS, KEYS, HEAD, VOCABULARY = 1024, 12, 32, 4, 512, 16, 4, 64, 32000


def bf16(generator, *shape):
    """Random numbers of deviation 0.02 as the bits of BF16, rounded to nearest."""
    bits = (generator.standard_normal(shape, dtype=numpy.float32) * 0.02).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def write_model(folder):
    """A checkpoint as transformers writes it, without needing transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = numpy.random.default_rng(1)
    one = lambda count: numpy.full(count, 0x3F80, numpy.uint16)
    tensors = {"model.embed_tokens.weight": bf16(generator, VOCABULARY, HIDDEN), "model.norm.weight": one(HIDDEN),
               "lm_head.weight": bf16(generator, VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        tensors[name + "input_layernorm.weight"] = one(HIDDEN)
        tensors[name + "post_attention_layernorm.weight"] = one(HIDDEN)
        for part, rows, columns in [("q", HEADS * HEAD, HIDDEN), ("k", KEYS * HEAD, HIDDEN), ("v", KEYS * HEAD, HIDDEN),
                                    ("o", HIDDEN, HEADS * HEAD)]:
            tensors[f"{name}self_attn.{part}_proj.weight"] = bf16(generator, rows, columns)
        tensors[name + "self_attn.q_norm.weight"] = one(HEAD)
        tensors[name + "self_attn.k_norm.weight"] = one(HEAD)
        tensors[name + "mlp.gate.weight"] = bf16(generator, EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            for part, rows, columns in [("gate", WIDTH, HIDDEN), ("up", WIDTH, HIDDEN), ("down", HIDDEN, WIDTH)]:
                tensors[f"{name}mlp.experts.{expert}.{part}_proj.weight"] = bf16(generator, rows, columns)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            tensor.tofile(file)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_experts": EXPERTS, "num_experts_per_tok": TOP, "moe_intermediate_size": WIDTH, "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": HEADS, "num_key_value_heads": KEYS, "head_dim": HEAD, "vocab_size": VOCABULARY,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu", "norm_topk_prob": True,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False, "attention_bias": False,
        "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 1}, indent=1))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(VOCABULARY)))


def now(arguments):
    return time.process_time() if arguments.threads == 1 else time.perf_counter()


def smelt(program, *words):
    subprocess.run([program, *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def processor_seconds(function):
    """CPU seconds of a function and of the processes it runs."""
    def used():
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    start = used()
    function()
    return used() - start


def rates(program, model, arguments, compute="float32"):
    """Tokens a second of each phase, by `smelt bench model`."""
    text = subprocess.run(
        [program, "bench", "model", str(model), "--prefill", arguments.prefill, "--decode", str(arguments.decode), "--passes", "1",
         "--threads", str(arguments.threads), "--compute", compute, "--quiet", "--json"], check=True, capture_output=True, text=True).stdout
    report = json.loads(text)
    return {f"{phase['phase']} {phase['tokens']}":
            1 / phase["cpu_seconds_per_token"] if arguments.threads == 1 else phase["tokens_per_second"] for phase in report["phases"]}


class LlamaCpp:
    """A GGUF file in llama.cpp, timed as llama-bench times it: a prompt at once, or one token after another."""

    def __init__(self, path, arguments):
        import llama_cpp
        self.library = llama_cpp
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)  # kept: the library holds its address
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_load_model_from_file(str(path).encode(), parameters)
        lengths = [int(length) for length in arguments.prefill.split(",")]
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = max(lengths + [arguments.decode + 32])
        parameters.n_batch = parameters.n_ctx
        parameters.n_ubatch = 512
        parameters.n_threads = parameters.n_threads_batch = arguments.threads
        self.context = llama_cpp.llama_new_context_with_model(self.model, parameters)
        self.generator = numpy.random.default_rng(2)
        self.decode([1] * 16)

    def decode(self, ids):
        array = (self.library.llama_token * len(ids))(*ids)
        if self.library.llama_decode(self.context, self.library.llama_batch_get_one(array, len(ids))):
            raise SystemExit("llama_decode failed")

    def forget(self):
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)

    def rates(self, arguments):
        found = {}
        for length in (int(length) for length in arguments.prefill.split(",")):
            ids = self.generator.integers(0, VOCABULARY, length).tolist()
            self.forget()
            start = now(arguments)
            self.decode(ids)
            found[f"prefill {length}"] = length / (now(arguments) - start)
        if arguments.decode:
            ids = self.generator.integers(0, VOCABULARY, arguments.decode).tolist()
            self.forget()
            self.decode([1] * 16)
            start = now(arguments)
            for token in ids:
                self.decode([token])
            found[f"decode {arguments.decode}"] = arguments.decode / (now(arguments) - start)
        return found


class Transformers:
    """The checkpoint in transformers, in float32."""

    def __init__(self, folder, arguments):
        import torch
        from transformers import AutoModelForCausalLM
        torch.set_num_threads(arguments.threads)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def rates(self, arguments):
        found = {}
        with self.torch.inference_mode():
            for length in (int(length) for length in arguments.prefill.split(",")):
                ids = self.torch.randint(0, VOCABULARY, (1, length))
                start = now(arguments)
                self.model(ids, logits_to_keep=1)
                found[f"prefill {length}"] = length / (now(arguments) - start)
            if arguments.decode:
                cache = self.model(self.torch.ones((1, 16), dtype=self.torch.long), use_cache=True).past_key_values
                start = now(arguments)
                for _ in range(arguments.decode):
                    cache = self.model(self.torch.ones((1, 1), dtype=self.torch.long), past_key_values=cache).past_key_values
                found[f"decode {arguments.decode}"] = arguments.decode / (now(arguments) - start)
        return found


def turns(passes, **sides):
    """Runs the sides turn about; the medians of what each gives, key by key."""
    found = {name: [] for name in sides}
    for _ in range(passes):
        for name, side in sides.items():
            found[name].append(side())
    return {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}


def show(rows, heads):
    widths = [max(len(str(row[column])) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, ["-" * width for width in widths], *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(flush=True)


def forward(arguments, model, work):
    results = {"BF16": model, "INT8": work / "w8a8"}
    files = {name: work / f"{name.lower()}.gguf" for name in ["BF16", "Q8_0", "Q4_K_M"]}
    smelt(arguments.smelt, "convert", model, results["INT8"], "--scheme", "W8A8", "--overwrite")
    for name, path in files.items():
        words = [] if name == "BF16" else ["--scheme", name.lower()]
        smelt(arguments.smelt, "convert", model, path, *words, "--overwrite")
    ingot = work / "model.ingot"
    smelt(arguments.smelt, "convert", model, ingot, "--overwrite")
    rows = []
    for name, ours, peer, compute in [
        ("BF16", model, "llama.cpp", "float32"), ("BF16 in float32", model, "transformers", "float32"),
        ("INT8", results["INT8"], None, "float32"), ("INT8", results["INT8"], None, "int8"), ("ingot", ingot, None, "float32"),
        ("Q8_0", files["Q8_0"], "llama.cpp", "float32"), ("Q8_0", files["Q8_0"], "llama.cpp", "int8"),
        ("Q4_K_M", files["Q4_K_M"], "llama.cpp", "float32"), ("Q4_K_M", files["Q4_K_M"], "llama.cpp", "int8"),
    ]:  # llama.cpp rounds activations to eight bits before its own types: int8 is the same arithmetic
        sides = {"smelt": lambda: rates(arguments.smelt, ours, arguments, compute)}
        try:
            other = None
            if peer == "llama.cpp":
                other = LlamaCpp(files[name], arguments)
            elif peer == "transformers":
                other = Transformers(model, arguments)
            if other:
                sides[peer] = lambda: other.rates(arguments)
        except ImportError as error:
            print(f"{peer} is left out: {error}", file=sys.stderr)
        found = turns(arguments.passes, **sides)
        for phase, rate in found["smelt"].items():
            theirs = found.get(peer, {}).get(phase)
            rows.append([name, compute, phase, f"{rate:.1f}", peer if theirs else "", f"{theirs:.1f}" if theirs else "",
                         f"{rate / theirs:.2f}" if theirs else ""])
        del other
    show(rows, ["weights", "arithmetic", "phase", "Smelt tokens/s", "peer", "tokens/s", "ratio"])


def quantized(source, target, kind):
    import llama_cpp
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = kind, 1
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)):
        raise SystemExit("llama_model_quantize failed")


def convert(arguments, model, work):
    size = (model / "model.safetensors").stat().st_size / 1e9
    source = work / "bf16.gguf"
    smelt(arguments.smelt, "convert", model, source, "--overwrite")
    rows = []
    for name, target, scheme, kind in [
        ("Q8_0", "x.gguf", "q8_0", 7), ("Q4_K_M", "x.gguf", "q4_k_m", 15), ("W8A8", "x", "W8A8", None),
        ("FP8_DYNAMIC", "x", "FP8_DYNAMIC", None), ("ingot", "x.ingot", None, None),
    ]:
        words = ["convert", model, work / target, *(["--scheme", scheme] if scheme else []), "--threads", "1", "--overwrite"]
        sides = {"smelt": lambda: {"cpu": processor_seconds(lambda: smelt(arguments.smelt, *words))}}
        if kind is not None:
            try:
                import llama_cpp  # noqa: F401
                sides["peer"] = lambda: {"cpu": processor_seconds(lambda: quantized(source, work / "y.gguf", kind))}
            except ImportError as error:
                print(f"llama.cpp is left out: {error}", file=sys.stderr)
        found = turns(arguments.passes, **sides)
        ours, theirs = found["smelt"]["cpu"], found.get("peer", {}).get("cpu")
        rows.append([name, f"{ours:.2f}", f"{size / ours:.2f}", f"{theirs:.2f}" if theirs else "", f"{theirs / ours:.1f}" if theirs else ""])
        shutil.rmtree(work / target, ignore_errors=True) if target == "x" else (work / target).unlink()
        (work / "y.gguf").unlink(missing_ok=True)
    show(rows, ["conversion", "Smelt CPU s", "GB per CPU s", "llama.cpp CPU s", "ratio"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("smelt")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--prefill", default="512,2048")
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--only", choices=["forward", "convert"])
    arguments = parser.parse_args()
    os.environ.update(GGML_NO_BACKTRACE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")
    model = arguments.folder / "model"
    if not (model / "tokenizer.json").exists():
        write_model(model)
    if arguments.only != "forward":
        convert(arguments, model, arguments.folder)
    if arguments.only != "convert":
        forward(arguments, model, arguments.folder)


if __name__ == "__main__":
    main()
