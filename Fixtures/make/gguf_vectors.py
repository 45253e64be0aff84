"""Writes Formats/vectors/gguf.txt: rows of GGUF blocks as ggml wrote them and the float32 values ggml reads from them.

    python Fixtures/make/gguf_vectors.py TYPES [--rows 1,3,5] [--out FILE] [--more MORE.json]

TYPES is a path without suffix: TYPES.gguf holds one tensor [rows, columns] per type, made by ggml_quantize_chunk
(`Q4_K`; `Q4_K.imx` where the type wants importances), TYPES.json the bytes of their blocks,
TYPES.dequantized.safetensors what ggml's to_float gives.
MORE.json names further tensors ({type: {file, tensor}}, files relative to the folder above it) with their values in
the safetensors beside it. Beside FILE goes gguf.points.txt: every point of the tables, with d = 1 and zeros in every other
field, in the order of their numbers, as a digest of what the gguf package reads. Needs gguf, numpy and safetensors.
"""

import argparse
import json
import os
import struct

import gguf
import numpy as np
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("types")
parser.add_argument("--rows", default="1,3,5")
parser.add_argument("--out", default="Formats/vectors/gguf.txt")
parser.add_argument("--more")
args = parser.parse_args()

NAMES = {"MXFP4": "mxfp4.gguf", "NVFP4": "nvfp4.gguf"}
PLAIN = {"F16", "BF16", "F32"}
VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
lines = []


def tensors_of(path):
    """Where each tensor's bytes begin, by name: {name: bytes from there on}."""
    with open(path, "rb") as file:
        data = file.read()
    at = 8

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size : at].decode(errors="replace")

    def value(kind):
        nonlocal at
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        if kind == 4:
            return take("I")
        at += VALUE_BYTES[kind]

    count, keys = take("Q"), take("Q")
    metadata = {}
    for _ in range(keys):
        key = text()
        metadata[key] = value(take("I"))
    places = {}
    for _ in range(count):
        name = text()
        dimensions = take("I")
        at += 8 * dimensions
        take("I")
        places[name] = take("Q")
    alignment = metadata.get("general.alignment", 32)
    start = (at + alignment - 1) // alignment * alignment
    return {name: data[start + place :] for name, place in places.items()}


def add(kind, raw, values, rows):
    """Lines of one tensor: its bytes, and its values [rows, columns]."""
    name = NAMES.get(kind, kind.lower())
    columns = values.shape[1]
    size = columns // sizes[kind]["block"] * sizes[kind]["bytes"]
    for row in rows:
        floats = "".join("%08x" % bit for bit in values[row].astype("<f4").view("<u4"))
        lines.append(f"{name} {columns} {raw[row * size : (row + 1) * size].hex()} {floats}")


with open(args.types + ".json") as file:
    sizes = {name.partition(".")[0]: entry for name, entry in json.load(file).items()}
wanted = None if args.rows == "all" else [int(row) for row in args.rows.split(",")]
golden = load_file(args.types + ".dequantized.safetensors")
tensors = tensors_of(args.types + ".gguf")
for name in sorted(golden):
    kind, _, suffix = name.partition(".")
    if kind in PLAIN or kind not in sizes or name not in tensors:
        continue
    if wanted and suffix and kind in tensors:
        continue  # once is enough for the page
    add(kind, tensors[name], golden[name], wanted or range(len(golden[name])))

if args.more:
    folder = os.path.dirname(os.path.dirname(os.path.abspath(args.more)))
    golden = load_file(os.path.splitext(args.more)[0] + ".safetensors")
    with open(args.more) as file:
        entries = json.load(file)
    for kind, entry in entries.items():
        if kind in PLAIN:
            continue
        values = golden[entry["key"]]
        values = values.reshape(-1, values.shape[-1])
        add(kind, tensors_of(os.path.join(folder, entry["file"]))[entry["tensor"]], values, range(len(values)))

with open(args.out, "w") as file:
    file.write("# encoding, columns, bytes of a row, float32 bits of every value\n")
    file.write("# made by Fixtures/make/gguf_vectors.py; bytes by ggml_quantize_chunk, values by to_float, ggml 0.25.3\n")
    file.write("\n".join(lines) + "\n")
print(args.out, len(lines), "rows")


def blocks_of_points(kind, points):
    """Blocks of the type whose codes are 0, 1, 2 … points - 1."""
    numbers = np.arange(points)
    width = 4 if kind.startswith("IQ3") else 8
    numbers = numbers.reshape(-1, 256 // width)
    out = np.zeros((len(numbers), sizes[kind]["bytes"]), np.uint8)
    out[:, 1] = 0x3C
    if kind == "IQ2_XXS":
        for group in range(8):
            out[:, 2 + 8 * group : 6 + 8 * group] = numbers[:, 4 * group : 4 * group + 4]
    elif kind == "IQ2_XS":
        out[:, 2:66] = numbers.astype("<u2").view(np.uint8)
    else:
        count = numbers.shape[1]
        out[:, 2 : 2 + count] = numbers & 255
        high = numbers >> 8
        if kind == "IQ2_S":
            for p in range(count):
                out[:, 66 + p // 4] |= (high[:, p] << (p % 4 * 2)).astype(np.uint8)
        elif kind == "IQ3_S":
            for p in range(count):
                out[:, 66 + p // 8] |= (high[:, p] << (p % 8)).astype(np.uint8)
        elif kind == "IQ1_S":
            words = np.zeros((len(numbers), 8), "<u2")
            for p in range(count):
                words[:, p // 4] |= (high[:, p] << (p % 4 * 3)).astype("<u2")
            out[:, 34:50] = words.view(np.uint8)
    return out


def digest(values):
    """FNV-1a, 64 bits, over the bytes of float32 values."""
    state = 0xCBF29CE484222325
    for byte in np.ascontiguousarray(values, "<f4").tobytes():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


with open(os.path.splitext(args.out)[0] + ".points.txt", "w") as file:
    file.write("# encoding, number of points, bytes of the blocks, FNV-1a of the values' float32 bytes\n")
    file.write("# made by Fixtures/make/gguf_vectors.py; values by the gguf package\n")
    for kind, points in [
        ("IQ1_S", 2048), ("IQ2_XXS", 256), ("IQ2_XS", 512), ("IQ2_S", 1024), ("IQ3_XXS", 256), ("IQ3_S", 512),
    ]:
        raw = blocks_of_points(kind, points)
        values = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
        file.write(f"{kind.lower()} {points} {raw.tobytes().hex()} {digest(values):016x}\n")
