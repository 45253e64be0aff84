"""The types that smelt gives the tensors of a GGUF file, one by one against those that llama.cpp's quantizer gives them.

    python3 check_llama_types.py SMELT FOLDER [NAME …] [--record FILE]

FOLDER holds checkpoints (Fixtures/models). Of each, smelt writes a GGUF file in BF16; llama_model_quantize makes a file of every type
name that both know from it, and smelt another of the same name from the checkpoint. --record writes the types of llama.cpp's files, a
line a model and name, for the tests. Needs llama-cpp-python (tried with 0.3.36, built from its sources).
"""

import argparse
import collections
import ctypes
import json
import multiprocessing
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

os.environ["GGML_NO_BACKTRACE"] = "1"

# llama-quantize's names and llama_ftype.
NAMES = {
    "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14,
    "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "q2_k_s": 21, "iq4_nl": 25, "iq4_xs": 30, "tq1_0": 36, "tq2_0": 37,
    "mxfp4_moe": 38, "q1_0": 40, "q2_0": 41, "q3_k": 12, "q4_k": 15, "q5_k": 17,
}
TYPES = {0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 10: "q2_k", 11: "q3_k", 12: "q4_k", 13: "q5_k",
         14: "q6_k", 20: "iq4_nl", 23: "iq4_xs", 26: "i32", 30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 40: "nvfp4",
         41: "q1_0", 42: "q2_0"}
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def types(path):
    """Types by tensor name, from the header of a GGUF file."""
    data = memoryview(path.read_bytes())
    place = 0

    def take(form):
        nonlocal place
        (value,) = struct.unpack_from("<" + form, data, place)
        place += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal place
        length = take("Q")
        place += length
        return bytes(data[place - length:place]).decode()

    def skip(kind):
        nonlocal place
        if kind == 8:
            text()
        elif kind == 9:
            inner, count = take("I"), take("Q")
            for _ in range(count):
                skip(inner)
        else:
            place += SIZES[kind]

    assert bytes(data[:4]) == b"GGUF"
    place = 8
    tensors, keys = take("Q"), take("Q")
    for _ in range(keys):
        text()
        skip(take("I"))
    out = {}
    for _ in range(tensors):
        name = text()
        for _ in range(take("I")):
            take("Q")
        kind = take("I")
        take("Q")
        out[name] = TYPES.get(kind, str(kind))
    return out


def quantize(source, target, number):
    """One file of llama.cpp's, made by a process of its own, since it may stop there."""
    def work():
        import llama_cpp
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread, parameters.allow_requantize = number, 1, True
        code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
        os._exit(0 if code == 0 else 1)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(120)
    return process.exitcode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("smelt")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--record", type=pathlib.Path)
    options = parser.parse_args()
    wrong, same, refused = [], 0, []
    recorded = {}
    models = options.names or sorted(p.name for p in options.folder.iterdir() if (p / "config.json").exists())
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            source = folder / "source"
            shutil.copytree(options.folder / model, source)
            base = folder / "base.gguf"
            made = subprocess.run([options.smelt, "convert", source, base, "--scheme", "bf16", "--quiet"], capture_output=True, text=True)
            if made.returncode:
                print(f"{model}: not written: {made.stderr.strip().splitlines()[0]}", flush=True)
                continue
            line = []
            for name, number in NAMES.items():
                if options.only and name not in options.only:
                    continue
                theirs, ours = folder / "theirs.gguf", folder / "ours.gguf"
                for old in (theirs, ours):
                    old.unlink(missing_ok=True)
                if not quantize(base, theirs, number):
                    refused.append(f"{model} {name}")
                    line.append(f"{name} refused")
                    continue
                made = subprocess.run([options.smelt, "convert", source, ours, "--scheme", name, "--quiet"], capture_output=True, text=True)
                if made.returncode:
                    wrong.append(f"{model} {name}")
                    line.append(f"{name} NOT WRITTEN {made.stderr.strip().splitlines()[0]}")
                    continue
                a, b = types(theirs), types(ours)
                recorded.setdefault(model, {})[name] = dict(sorted(a.items()))
                unlike = {tensor: (a.get(tensor), b.get(tensor)) for tensor in a.keys() | b.keys() if a.get(tensor) != b.get(tensor)}
                if unlike:
                    wrong.append(f"{model} {name}")
                    groups = collections.Counter((tensor.split(".", 2)[-1] if tensor.startswith("blk") else tensor, *pair) for tensor, pair in unlike.items())
                    line.append(f"{name} {len(unlike)} UNLIKE: " + ", ".join(f"{t} {x} -> {y} ({n})" for (t, x, y), n in sorted(groups.items())[:6]))
                else:
                    same += 1
            print(f"{model}: " + ("; ".join(line) or "all types alike"), flush=True)
    if options.record:
        options.record.write_text(json.dumps(recorded, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{same} files alike, {len(refused)} refused by llama.cpp, {len(wrong)} unlike")
    raise SystemExit(f"failed: {wrong}" if wrong else 0)


main()
