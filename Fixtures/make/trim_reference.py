"""Cuts reference files down to what the tests compare, so that the repository stays small.

    python trim_reference.py models/NAME [models/NAME …]

Kept: ids, all logits, hidden states and routing of the short sequences, chosen experts of the long one, greedy ids. Of a
trained model (one without `short.` tensors): the first window. Hidden states wider than 200 kB a layer: first and last
layer. The folder's manifest.json is brought up to date.
"""
import hashlib
import json
import os
import re
import sys

from safetensors.numpy import load_file, save_file

for folder in sys.argv[1:]:
    path = os.path.join(folder, "reference.safetensors")
    full = load_file(path)
    hidden = sorted(n for n in full if re.search(r"hidden\.\d+$", n) and not n.startswith("long."))
    kept = {}
    for name, values in full.items():
        if name.startswith("long.hidden") or re.search(r"router\.\d+\.logits$", name):
            continue
        if name.startswith("long.router") and not name.endswith(".experts"):
            continue
        if name in hidden[1:-1] and values.nbytes > 200_000:
            continue
        kept[name] = values[:1].copy() if name in ("input_ids", "logits") else values
    save_file(kept, path, metadata={"format": "pt", "trimmed": "by make/trim_reference.py"})
    data = open(path, "rb").read()
    note = os.path.join(folder, "manifest.json")
    manifest = json.load(open(note))
    manifest["files"]["reference.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "note": "trimmed by make/trim_reference.py"}
    json.dump(manifest, open(note, "w"), indent=1)
