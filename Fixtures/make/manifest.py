#!/usr/bin/env python3
"""Writes Fixtures/MANIFEST.json: every file of Fixtures with its size, its SHA-256 and who made it.

    python3 Fixtures/make/manifest.py

Run it after adding or changing a fixture; a test compares the manifest with the files both ways. A new folder needs a
line in FOLDERS. Needs nothing but Python.
"""
import hashlib
import json
import os

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

# Makers: what made the files, and the versions that the bytes depend on. A folder of models brings its own manifest.json.
MAKERS = {
    "unknown": {"script": "transformers' save_pretrained of a random model, seed 0", "versions": {"transformers": "5.24.0"}},
    "malformed": {"script": "Fixtures/make/malformed.py", "versions": {}},
    "ingot": {"script": "Fixtures/make/ingot.py", "versions": {}},
    "gguf_malformed": {"script": "Fixtures/make/gguf_malformed.py", "versions": {}},
    "imatrix": {"script": "llama-imatrix, both forms of one run; the text's name was exchanged for another as long",
                "versions": {"llama.cpp": "0c1e57098"}},
    "gguf": {"script": "llama.cpp's ggml_quantize_chunk and llama-gguf-split", "versions": {
        "llama.cpp": "0c1e57098", "ggml": "0.25.3", "transformers": "5.23.0"}},
    "checkpoint": {"script": "Tests/SmeltPipelineTests/CheckpointFaults.swift", "versions": {}},
    "safetensors": {"script": "Fixtures/make/safetensors_good.py", "versions": {"safetensors": "0.8.0"}},
    "tokenizers": {"script": "Fixtures/make/tokenizer_cases.py", "versions": {"tokenizers": "0.23.3"}},
    "vocabularies": {"script": "Fixtures/make/tokenizers_2026.py", "versions": {
        "sentencepiece": "0.2.3", "tiktoken": "0.14.0", "tokenizers": "0.23.3"}},
    "gguf_tokenizers": {"script": "Fixtures/make/gguf_tokenizers.py", "versions": {
        "tokenizers": "0.23.3", "llama.cpp": "0c1e57098"}},
    "layouts": {"script": "Fixtures/make/layouts.py", "versions": {
        "compressed-tensors": "0.20.0", "torch": "2.13.0", "ml_dtypes": "0.6.0", "safetensors": "0.8.0"}},
    "reports": {"script": "numpy, random weights under the names and spellings of a public report", "versions": {}},
    "ropes": {"script": "Fixtures/make/golden/gen_dense.py", "versions": {"torch": "2.15.0+cu132", "transformers": "5.24.0"}},
    "configs": {"script": "save_pretrained of the model of the same name", "versions": {"transformers": "5.23.0"}},
}
# Folders and their makers, first match wins.
FOLDERS = [
    ("malformed/safetensors/", "malformed"),
    ("malformed/directory/", "malformed"),
    ("malformed/ingot/", "ingot"),
    ("malformed/gguf/", "gguf_malformed"),
    ("malformed/checkpoint/", "checkpoint"),
    ("safetensors/", "safetensors"),
    ("tokenizers/spm.json", "gguf_tokenizers"),
    ("tokenizers/gguf-", "gguf_tokenizers"),
    ("tokenizers/file", "vocabularies"),
    ("tokenizers/", "tokenizers"),
    ("ropes/", "ropes"),
    ("configs/", "configs"),
    ("layouts/", "layouts"),
    ("reports/", "reports"),
    ("unknown/", "unknown"),
    ("gguf/imatrix.", "imatrix"),
    ("gguf/", "gguf"),
]
SKIPPED = ("make/", "README.md", "MANIFEST.json")


def maker(path):
    if path.startswith("models/"):
        return "/".join(path.split("/")[:2])
    for folder, name in FOLDERS:
        if path.startswith(folder):
            return name
    raise SystemExit(f"{path}: no line of FOLDERS says who made it")


def main():
    makers, files = dict(MAKERS), []
    for folder, folders, names in os.walk(ROOT):
        folders.sort()
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT).replace(os.sep, "/")
            if path.startswith(SKIPPED) or "__pycache__" in path or name == ".DS_Store":
                continue
            with open(os.path.join(ROOT, path), "rb") as file:
                data = file.read()
            made_by = maker(path)
            if made_by not in makers:
                with open(os.path.join(ROOT, made_by, "manifest.json")) as file:
                    own = json.load(file)
                makers[made_by] = {"script": own["script"], "seed": own["seed"], "versions": own["versions"]}
            files.append(
                {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "maker": made_by})
    files.sort(key=lambda file: file["path"].encode())
    unused = set(makers) - {file["maker"] for file in files}
    if unused:
        raise SystemExit(f"no file is made by {', '.join(sorted(unused))}")
    lines = ['{"schema": "smelt.fixtures/1",', '"makers": {']
    lines += [",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(makers.items())), "},"]
    lines += ['"files": [', ",\n".join(json.dumps(file) for file in files), "]}"]
    with open(os.path.join(ROOT, "MANIFEST.json"), "w", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
    print(f"{len(files)} files, {sum(file['bytes'] for file in files)} bytes")


main()
