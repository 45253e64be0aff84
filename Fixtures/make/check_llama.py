"""Logits of golden models in llama.cpp, from the GGUF files that smelt writes of each.

    python3 check_llama.py SMELT FOLDER [NAME …] [--schemes f32 q8_0 q4_k_m …]

FOLDER holds golden checkpoints (Fixtures/models). Each gets a tokenizer of one token a byte, without which llama.cpp loads
nothing, and is converted. Both programs compute logits of the reference's short and long sequences from the same file. llama.cpp
rounds what a product reads to blocks where the matrix is not F32: such files must load and run, and are compared after
llama.cpp's quantizer made F32 of them, which shows that both programs read the same numbers. What does not load, run or agree must have
been said when the file was written. The last table is the matrix of models and schemes. Needs
numpy, safetensors and llama-cpp-python (tried with 0.3.36, built from its sources).
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import tempfile

os.environ["GGML_NO_BACKTRACE"] = "1"

import numpy
import llama_cpp
from safetensors.numpy import load_file

from byte_tokenizer import tokenizer


def apart(function, *arguments):
    """What a function gives in a process of its own, since llama.cpp may stop there; None where it does."""
    context = multiprocessing.get_context("fork")
    ours, other = context.Pipe(False)

    def work():
        try:
            other.send(function(*arguments))
        finally:
            os._exit(0)

    process = context.Process(target=work)
    process.start()
    other.close()
    try:
        result = ours.recv() if ours.poll(240) else None
    except EOFError:
        result = None
    process.kill()
    process.join()
    return result


def widened(source, target):
    """llama.cpp's own reading of a file, as F32."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.allow_requantize = 0, 1, True
    return llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) == 0


def run(path, sequences, width):
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama_cpp.llama_load_model_from_file(str(path).encode(), parameters)
    if not model:
        return None
    out = []
    for ids in sequences:
        context = llama_cpp.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch, context.n_threads, context.n_threads_batch = 512, 512, 512, 1, 1
        context.type_k = context.type_v = 0
        context.flash_attn_type = 0
        handle = llama_cpp.llama_init_from_model(model, context)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.logits[place] = token, place, 1, 1
            batch.seq_id[place][0] = 0
        if llama_cpp.llama_decode(handle, batch) != 0:
            return None
        rows = [numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(handle, i), (width,)).copy() for i in range(len(ids))]
        out.append(numpy.stack(rows))
        llama_cpp.llama_free(handle)
    llama_cpp.llama_free_model(model)
    return out


def cell(smelt, folder, model, reference, scheme):
    """One model under one scheme: what the matrix says, and whether it is as foretold."""
    width = int(reference["short.logits"].shape[-1])
    path, wide = folder / "m.gguf", folder / "wide.gguf"
    for old in (path, wide):
        old.unlink(missing_ok=True)
    made = subprocess.run([smelt, "convert", model, path, "--scheme", scheme], capture_output=True, text=True)
    if made.returncode:
        return f"not written: {made.stderr.strip().splitlines()[0]}", False
    lines = (made.stdout + made.stderr).splitlines()
    refused = [line for line in lines if "llama.cpp does not load" in line or "llama.cpp stops" in line]
    differs = [line for line in lines if "llama.cpp will differ" in line]
    worst, whole, turns = 0.0, 0, []
    for part in ("short", "long"):
        ids = reference[f"{part}.input_ids"].tolist()
        found = apart(run, path, ids, width)
        if found is None:
            return ("as foretold: " + "; ".join(refused) if refused else "does NOT load or run"), bool(refused)
        if not all(numpy.isfinite(rows).all() for rows in found):
            return "numbers that are none", False
        if scheme != "f32":
            if not wide.exists() and not apart(widened, path, wide):
                return "llama.cpp does not widen it", False
            found = apart(run, wide, ids, width)
            if found is None:
                return "runs, its F32 does not", False
        (folder / "ids.json").write_text(json.dumps({"sequences": ids}))
        subprocess.run([smelt, "logits", path, folder / "ours.safetensors", "--tokens", folder / "ids.json", "--quiet", "--overwrite"], check=True, stdout=subprocess.DEVNULL)
        ours = load_file(folder / "ours.safetensors")
        (folder / "ours.safetensors").unlink()
        for i, rows in enumerate(found):
            apart_by = numpy.abs(rows - ours[f"logits.{i}"].reshape(rows.shape)).max(1)
            turned = numpy.flatnonzero(apart_by > 2e-4)
            whole += not len(turned)
            # From one token on a router or an indexer decided a tie the other way; what is before it agrees.
            if len(turned) and turned[0] > 0 and not differs:
                turns.append(f"{part} {i} from token {turned[0]}")
                apart_by = apart_by[:turned[0]]
            worst = max(worst, float(apart_by.max()))
    if refused:
        return f"within {worst:.0e}, but foretold not to load: {refused}", False
    note = " (said)" if differs else f", but {', '.join(turns)}" if turns else ""
    return f"within {worst:.0e}{note}", bool(differs) or worst <= 2e-4 and whole > len(turns)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smelt")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--schemes", nargs="*", default=["f32"])
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: print(text.decode(), end="") if options.verbose else None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    failed, matrix = [], []
    for name in options.names or sorted(p.name for p in options.folder.iterdir() if (p / "reference.safetensors").exists()):
        reference = load_file(options.folder / name / "reference.safetensors")
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            model = folder / "model"
            shutil.copytree(options.folder / name, model)
            (model / "reference.safetensors").unlink()
            width = int(reference["short.logits"].shape[-1])
            if not (model / "tokenizer.json").exists():
                (model / "tokenizer.json").write_text(json.dumps(tokenizer(width)))
            row = []
            for scheme in options.schemes:
                text, holds = cell(options.smelt, folder, model, reference, scheme)
                row.append(text.split(":")[0])
                print(f"{name} {scheme}: {text}", flush=True)
                if not holds:
                    failed.append(f"{name} {scheme}")
            matrix.append((name, row))
    print("| model | " + " | ".join(options.schemes) + " |")
    print("|---" * (1 + len(options.schemes)) + "|")
    for name, row in matrix:
        print(f"| `{name}` | " + " | ".join(row) + " |")
    raise SystemExit(f"failed: {failed}" if failed else 0)


main()
