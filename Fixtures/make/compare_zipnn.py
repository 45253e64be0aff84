#!/usr/bin/env python3
"""ZipNN on the bytes that `smelt bench codec` measures: ratio and speed, to be run beside it on the same core.

    smelt bench codec --input model.safetensors
    python3 Fixtures/make/compare_zipnn.py model.safetensors
    python3 Fixtures/make/compare_zipnn.py weights.raw --dtype bfloat16

A safetensors file is cast as the bench does it: its matrices as BF16, E4M3 by channel, and E4M3 by blocks of 128 x 128 under powers of
two (FP8 codes in the file are taken as they are). A raw file holds numbers of --dtype. Both tools run on one core; pin them
with `taskset -c 0` where there is such a command. ZipNN is called through its Python API, whole buffers in memory, and allocates what
it returns; that is part of its time. Figures are medians of --passes. Needs zipnn (0.5.4), numpy, ml_dtypes.
"""
import argparse
import json
import statistics
import struct
import time

import ml_dtypes
import numpy as np
import zipnn

LIMIT = 8 << 20  # values of a dtype, as the bench takes them
TENSOR_LIMIT = 1 << 20  # values of one tensor
NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


def matrices(path):
    """Float matrices of the file in its own order, at most LIMIT values of a type; and its FP8 bytes."""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    found, left, codes = {}, {}, bytearray()
    for entry in sorted(header.values(), key=lambda t: t["data_offsets"]):
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        shape, dtype = entry["shape"], entry["dtype"]
        if dtype == "F8_E4M3":
            codes += data[first:min(last, first + TENSOR_LIMIT)]
        if dtype not in types or len(shape) < 2 or 0 in shape:
            continue
        whole = np.frombuffer(data[first:last], types[dtype]).reshape(-1, shape[-1])
        rows = min(whole.shape[0], min(left.setdefault(dtype, LIMIT), TENSOR_LIMIT) // whole.shape[1])
        if rows * whole.shape[1] >= 4096:
            left[dtype] -= rows * whole.shape[1]
            found.setdefault(dtype, []).append(whole[:rows].astype(np.float32))
    return found, bytes(codes[:LIMIT])


def by_channel(a):
    absmax = np.abs(a).max(1, keepdims=True)
    return (a / np.where(absmax > 0, absmax / np.float32(448), 1)).astype(ml_dtypes.float8_e4m3fn)


def by_block(a):
    out = np.zeros(a.shape, ml_dtypes.float8_e4m3fn)
    for top in range(0, a.shape[0], 128):
        for left in range(0, a.shape[1], 128):
            block = a[top:top + 128, left:left + 128]
            absmax = np.abs(block).max()
            scale = np.exp2(np.ceil(np.log2(absmax / 448))) if absmax > 0 else 1
            out[top:top + 128, left:left + 128] = (block / np.float32(scale)).astype(ml_dtypes.float8_e4m3fn)
    return out


def measure(name, data, dtype, chunk, passes):
    tool = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype)
    parts = [data[i:i + chunk] for i in range(0, len(data), chunk)]
    times, sizes = {"encode": [], "decode": []}, 0
    for turn in range(passes + 1):
        copies = [bytearray(part) for part in parts]  # compress() overwrites what it is given
        start = time.process_time()
        coded = [tool.compress(part) for part in copies]
        encode = time.process_time() - start
        start = time.process_time()
        back = [tool.decompress(part) for part in coded]
        decode = time.process_time() - start
        if b"".join(bytes(part) for part in back) != data:
            raise SystemExit(f"ZipNN gave back other bytes for {name}")
        if turn > 0:  # the first one warms up
            times["encode"].append(encode)
            times["decode"].append(decode)
        sizes = sum(len(part) for part in coded)
    speed = {key: len(data) / statistics.median(value) / 1e9 for key, value in times.items()}
    print(f"{name:22} {chunk >> 10:6} KiB {len(data) / 1e6:8.1f} MB  ratio {sizes / len(data):.4f}  "
          f"encode {speed['encode']:5.2f} GB/s  decode {speed['decode']:5.2f} GB/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--dtype", choices=sorted(NAMES), help="the file holds nothing but numbers of this type")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--chunk", type=int, action="append", help="KiB of one buffer; may be given again (256, 1024, 4096)")
    options = parser.parse_args()
    samples = []
    if options.dtype:
        with open(options.file, "rb") as file:
            samples.append((NAMES[options.dtype], file.read(), options.dtype))
    else:
        found, codes = matrices(options.file)
        for source, arrays in found.items():
            join = lambda cast: b"".join(np.ascontiguousarray(cast(a)).tobytes() for a in arrays)
            if source != "F16":
                samples.append((f"{source} as BF16", join(lambda a: a.astype(ml_dtypes.bfloat16)), "bfloat16"))
            samples.append((f"{source} as F8 by channel", join(by_channel), "float8_e4m3fn"))
            samples.append((f"{source} as F8 by block", join(by_block), "float8_e4m3fn"))
        if codes:
            samples.append(("F8_E4M3", codes, "float8_e4m3fn"))
    for name, data, dtype in samples:
        for chunk in options.chunk or [256, 1024, 4096]:
            measure(name, data, dtype, chunk << 10, options.passes)


if __name__ == "__main__":
    main()
