"""Logits of golden models in llama.cpp, from the GGUF file that smelt writes of each.

    python3 check_llama.py SMELT FOLDER [NAME …] [--scheme f32]

FOLDER holds golden checkpoints (Fixtures/models). Each gets a tokenizer of one token a byte, without which llama.cpp loads
nothing, is converted, and both programs compute logits of the reference's short and long sequences from the same file. Needs
numpy, safetensors and llama-cpp-python (tried with 0.3.36, built from its sources).
"""

import argparse
import ctypes
import json
import multiprocessing
import pathlib
import shutil
import subprocess
import tempfile

import numpy
import llama_cpp
from safetensors.numpy import load_file


def tokenizer(count):
    """One token a byte in the byte-level alphabet of GPT-2, then as many unused ones as the vocabulary has."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    for place, byte in enumerate(b for b in range(256) if b not in letters):
        letters[byte] = chr(256 + place)
    vocabulary = {letters[byte]: byte for byte in range(min(count, 256))}
    vocabulary.update({f"<unused{place}>": place for place in range(256, count)})
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": level,
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []},
    }


def theirs(path, sequences, width):
    """Logits of llama.cpp, computed by a process of its own, since it may stop there; None where it does."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        try:
            return pool.apply_async(run, (path, sequences, width)).get(timeout=120)
        except multiprocessing.TimeoutError:
            return None


def run(path, sequences, width):
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama_cpp.llama_load_model_from_file(str(path).encode(), parameters)
    if not model:
        return None
    out = []
    for ids in sequences:
        context = llama_cpp.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch, context.n_threads = 512, 512, 512, 2
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smelt")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--scheme", default="f32")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: print(text.decode(), end="") if options.verbose else None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    failed = []
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
            made = subprocess.run([options.smelt, "convert", model, folder / "m.gguf", "--scheme", options.scheme], capture_output=True, text=True)
            if made.returncode:
                failed.append(name)
                print(f"{name}: not written: {made.stderr.strip().splitlines()[0]}", flush=True)
                continue
            said = [line.split("differ: ")[1] for line in (made.stdout + made.stderr).splitlines() if "llama.cpp will differ" in line]
            for part in ("short", "long"):
                ids = reference[f"{part}.input_ids"].tolist()
                (folder / "ids.json").write_text(json.dumps({"sequences": ids}))
                subprocess.run([options.smelt, "logits", folder / "m.gguf", folder / f"{part}.safetensors", "--tokens", folder / "ids.json", "--quiet"], check=True, stdout=subprocess.DEVNULL)
                ours = load_file(folder / f"{part}.safetensors")
                found = theirs(folder / "m.gguf", ids, width)
                if found is None:
                    if not said:
                        failed.append(name)
                    print(f"{name}: llama.cpp does not load or run it; said when it was written: {said}", flush=True)
                    break
                worst = max(float(numpy.abs(rows - ours[f"logits.{i}"].reshape(rows.shape)).max()) for i, rows in enumerate(found))
                print(f"{name} {part}: within {worst:.2e} of ours{'; said: ' + '; '.join(said) if said else ''}", flush=True)
                if worst > 2e-4 and not said:
                    failed.append(name)
    raise SystemExit(f"failed: {sorted(set(failed))}" if failed else 0)


main()
