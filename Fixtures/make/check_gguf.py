"""Reads GGUF files with gguf-py, the reader of llama.cpp's own tools, and says what it finds: for results of Smelt.

    python3 check_gguf.py RESULT.gguf [SAME.gguf]

With a second file (or first part) both must hold the same keys and tensors, those of a split left out. Needs numpy and
gguf (tried with 0.19).
"""

import re
import sys
from pathlib import Path

import numpy
from gguf import GGUFReader


def parts(path):
    """The file, or all parts when it is the first of several."""
    match = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not match:
        return [path]
    return [path.with_name(f"{match[1]}-{i + 1:05}-of-{match[2]}.gguf") for i in range(int(match[2]))]


def read(path):
    keys, tensors = {}, {}
    for index, part in enumerate(parts(Path(path))):
        reader = GGUFReader(part)
        for name, field in reader.fields.items():
            own = name.startswith(("GGUF.", "split."))
            if index == 0 and not own:
                keys[name] = (field.types, field.contents())
        if index and any(not n.startswith(("GGUF.", "split.", "general.alignment")) for n in reader.fields):
            sys.exit(f"{part}: metadata in a later part")
        end = reader.data_offset
        for tensor in reader.tensors:
            if tensor.name in tensors:
                sys.exit(f"{tensor.name}: twice")
            if tensor.data_offset % reader.alignment or tensor.data_offset < end:
                sys.exit(f"{tensor.name}: misplaced")
            end = tensor.data_offset + tensor.n_bytes
            tensors[tensor.name] = (tensor.tensor_type.name, tensor.shape.tolist(), numpy.array(tensor.data).tobytes())
        size = part.stat().st_size
        if size < end or size - end >= reader.alignment:
            sys.exit(f"{part}: {size} bytes, the tensors end at {end}")
        print(f"{part.name}: {len(reader.fields)} fields, {len(reader.tensors)} tensors, {size} bytes")
    return keys, tensors


found = read(sys.argv[1])
if len(sys.argv) > 2:
    expected = read(sys.argv[2])
    for name, a, b in zip(("keys", "tensors"), found, expected):
        different = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
        if different or list(a) != list(b):
            sys.exit(f"{name} differ: {different[:5] or 'in order'}")
    print("the same")
