#!/usr/bin/env python3
"""Writes Fixtures/safetensors: files made by the reference library, and what is in them.

    python3 Fixtures/make/safetensors_good.py

all-dtypes.safetensors has every dtype of the format, ranks 0 to 8, empty tensors, and notes; all-dtypes.json says what
is in it: names in file order with dtype, shape and bytes (hex), as the library itself reads them back.
"""
import json, os, random
import numpy as np
import safetensors
from safetensors import TensorSpec, deserialize, serialize

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "safetensors")
random.seed(20)

# The library's word, the element's bits, the storage shape.
WORDS = {
    "bool": 8, "uint8": 8, "int8": 8, "float8_e5m2": 8, "float8_e4m3fn": 8, "float8_e8m0fnu": 8,
    "float8_e4m3fnuz": 8, "float8_e5m2fnuz": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16,
    "int32": 32, "uint32": 32, "float32": 32, "complex64": 64, "float64": 64, "int64": 64, "uint64": 64,
    "float4_e2m1fn_x2": 8, "float6_e2m3fn": 6, "float6_e3m2fn": 6,
}
keep, specs, skipped = [], {}, []


def add(name, word, shape):
    bits = int(np.prod(shape, dtype=np.int64)) * WORDS[word]
    assert bits % 8 == 0
    data = np.frombuffer(bytes(random.randrange(2 if word == "bool" else 256) for _ in range(bits // 8)), np.uint8).copy()
    keep.append(data)
    try:
        specs[name] = TensorSpec(dtype=word, shape=shape, data_ptr=data.ctypes.data if data.size else 8, data_len=data.nbytes)
    except Exception as error:
        skipped.append((word, str(error)[:120]))


for word in WORDS:
    add(f"dtype.{word}", word, [3, 4])
for rank in range(9):
    add(f"rank.{rank}", "float32", [1 + (i + rank) % 2 for i in range(rank)])
add("empty.first", "bfloat16", [0])
add("empty.middle", "int64", [4, 0, 2])
add("layers.0.ffn.experts.11.w1.weight \"quoted\" \\ \u00e9\u4e2d\U0001f600", "uint8", [5])

content = serialize(specs, {"format": "pt", "note": "a \"quoted\" line\nand another, \u00e9"})
with open(os.path.join(HERE, "all-dtypes.safetensors"), "wb") as out:
    out.write(content)
tensors = [
    {"name": name, "dtype": t["dtype"], "shape": t["shape"], "hex": bytes(t["data"]).hex()}
    for name, t in deserialize(content)
]
length = int.from_bytes(content[:8], "little")
order = json.loads(content[8 : 8 + length])
tensors.sort(key=lambda t: (order[t["name"]]["data_offsets"], list(order).index(t["name"])))
with open(os.path.join(HERE, "all-dtypes.json"), "w") as out:
    json.dump({"library": "safetensors " + safetensors.__version__, "metadata": order["__metadata__"], "tensors": tensors}, out, indent=1)
    out.write("\n")
print(len(tensors), "tensors,", len(content), "bytes; the library does not write:", skipped)
