"""Cuts a trained model's reference.safetensors down to its first window: logits, hidden states, routing, greedy ids.

    python trim_reference.py FULL/reference.safetensors OUT/reference.safetensors
"""
import sys

from safetensors.numpy import load_file, save_file

full = load_file(sys.argv[1])
kept = {}
for name, values in full.items():
    kept[name] = values[:1].copy() if name in ("input_ids", "logits") else values
save_file(kept, sys.argv[2], metadata={"format": "pt", "trimmed": "first window of the original"})
