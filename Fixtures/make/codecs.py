#!/usr/bin/env python3
"""Codecs of chunks, written from Formats/codecs.md alone: a decoder of all of them, and an encoder of what is not zstd's.

    python3 Fixtures/make/codecs.py            writes Formats/vectors/codecs.txt
    python3 Fixtures/make/codecs.py --check    decodes the vectors that are there

One case a line: codec, content, chunk, the last two in hexadecimal. Needs zstandard (made with 0.25.0).
"""
import os
import random
import struct
import sys

import zstandard

VECTORS = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../Formats/vectors/codecs.txt"))
STAGES = [[2, 2, 3], [2, 3], [3], [3, 3], [1, 2, 2, 3], [2, 2, 2, 3]]
NAMES = ["raw", "zstd", "bf16-planes", "bf16-pairs", "fp8-planes", "fp8-pairs", "int8-pairs", "f16-split", "f32-split"]


class Fault(Exception):
    pass


def need(condition, rule):
    if not condition:
        raise Fault(rule)


def rotate(v, bits, by):
    by %= bits
    return (v << by | v >> (bits - by)) & ((1 << bits) - 1)


def elements(content, width):
    return [int.from_bytes(content[i:i + width], "little") for i in range(0, len(content), width)]


def nibble_bytes(n):
    return (n + 63) // 64 * 32


def pack(nibbles):
    out = bytearray(nibble_bytes(len(nibbles)))
    for i, x in enumerate(nibbles):
        out[i // 64 * 32 + i % 32] |= x if i % 64 < 32 else x << 4
    return bytes(out)


def unpack(packed, n):
    nibbles = [packed[i // 64 * 32 + i % 32] >> (0 if i % 64 < 32 else 4) & 15 for i in range(n)]
    need(pack(nibbles) == packed, "K6")
    return nibbles


def inflate(stored, count):
    parameters = zstandard.get_frame_parameters(stored)
    need(parameters.content_size == count and parameters.dict_id == 0 and parameters.window_size <= 1 << 18, "K5")
    run = zstandard.ZstdDecompressor().decompressobj()
    out = run.decompress(stored)
    need(len(out) == count and run.eof and not run.unused_data, "K5")
    return out


class Parts:
    def __init__(self, stored, place):
        self.stored, self.place = stored, place

    def take(self, count):
        need(count <= len(self.stored) - self.place, "K3")
        self.place += count
        return self.stored[self.place - count:self.place]

    def part(self, length, count):
        need(length == count or 0 < length < count, "K5")
        stored = self.take(length)
        return stored if length == count else inflate(stored, count)

    def finish(self):
        need(self.place == len(self.stored), "K3")


def decode_planes(stored, n, bf16):
    need(len(stored) >= 36 and stored[0] < len(STAGES) and not any(stored[1:4]), "K7")
    stages = STAGES[stored[0]]
    counts = [n]
    for i, escapes in enumerate(struct.unpack("<4I", stored[4:20])):
        need(escapes <= (counts[i] if i < len(stages) else 0), "K7, K8")
        if i < len(stages):
            counts.append(escapes)
    named, place = [], 20
    for bits in stages:
        named.append(stored[place:place + (1 << bits) - 1])
        place += (1 << bits) - 1
    need(not any(stored[place:36]), "K7")
    parts = Parts(stored, 36)
    low = parts.take(n) if bf16 else unpack(parts.take(nibble_bytes(n)), n)
    coded = []
    for count, bits in zip(counts, stages):
        codes = []
        for first in range(0, count, 64):
            planes = [int.from_bytes(parts.take(8), "little") for _ in range(bits)]
            here = min(64, count - first)
            need(all(p >> here == 0 for p in planes), "K9")
            codes += [sum((p >> i & 1) << b for b, p in enumerate(planes)) for i in range(here)]
        coded.append(codes)
    symbols = list(parts.take(counts[-1]))
    parts.finish()
    need(bf16 or all(s < 16 for s in symbols + [s for names in named for s in names]), "K7")
    for codes, names in zip(reversed(coded), reversed(named)):
        need(codes.count(len(names)) == len(symbols), "K8")
        escaped = iter(symbols)
        symbols = [names[c] if c < len(names) else next(escaped) for c in codes]
    if bf16:
        return b"".join(rotate(s << 8 | m, 16, -1).to_bytes(2, "little") for s, m in zip(symbols, low))
    return bytes(rotate(s << 4 | m, 8, -1) for s, m in zip(symbols, low))


def encode_planes(content, bf16):
    if bf16:
        x = [rotate(v, 16, 1) for v in elements(content, 2)]
        symbols, low = [v >> 8 for v in x], bytes(v & 255 for v in x)
    else:
        x = [rotate(v, 8, 1) for v in content]
        symbols, low = [v >> 4 for v in x], pack([v & 15 for v in x])
    order = sorted(set(symbols), key=lambda s: (-symbols.count(s), s))
    best = None
    for number, stages in enumerate(STAGES):
        left, used, counts, names, planes = symbols, 0, [], b"", b""
        for bits in stages:
            room = (1 << bits) - 1
            here = order[used:used + room]
            used += room
            codes = [here.index(s) if s in here else room for s in left]
            for first in range(0, len(codes), 64):
                for b in range(bits):
                    planes += sum((c >> b & 1) << i for i, c in enumerate(codes[first:first + 64])).to_bytes(8, "little")
            left = [s for s, c in zip(left, codes) if c == room]
            counts.append(len(left))
            names += bytes(here) + bytes(room - len(here))
        counts += [0] * (4 - len(counts))
        chunk = struct.pack("<B3x4I16s", number, *counts, names) + low + planes + bytes(left)
        if best is None or len(chunk) < len(best):
            best = chunk
    return best


def decode(codec, stored, count):
    name = NAMES[codec]
    width = {"bf16-planes": 2, "bf16-pairs": 2, "f16-split": 2, "f32-split": 4}.get(name, 1)
    need(count % width == 0, "K1")
    need(len(stored) == count if name == "raw" else 0 < len(stored) < count, "K2")
    n = count // width
    if name == "raw":
        return stored
    if name == "zstd":
        return inflate(stored, count)
    if name.endswith("planes"):
        return decode_planes(stored, n, width == 2)
    if name == "bf16-pairs":
        base, escape_count, nibble_length, low_length = struct.unpack("<4I", stored[:16])
        need(14 <= base < 256, "K10")
        parts = Parts(stored, 16)
        nibbles = unpack(parts.part(nibble_length, nibble_bytes(n)), n)
        escapes = parts.take(escape_count)
        low = parts.part(low_length, n)
        parts.finish()
        need(nibbles.count(15) == escape_count, "K10")
        escaped = iter(escapes)
        exponents = [base - d if d < 15 else next(escaped) for d in nibbles]
        return b"".join(rotate(e << 8 | m, 16, -1).to_bytes(2, "little") for e, m in zip(exponents, low))
    if name.endswith("pairs"):
        high_length, low_length = struct.unpack("<2I", stored[:8])
        parts = Parts(stored, 8)
        high, low = (unpack(parts.part(length, nibble_bytes(n)), n) for length in (high_length, low_length))
        parts.finish()
        return bytes(rotate(h << 4 | m, 8, -1 if name == "fp8-pairs" else 0) for h, m in zip(high, low))
    lengths = struct.unpack(f"<{width}I", stored[:4 * width])
    parts = Parts(stored, 4 * width)
    planes = [parts.part(length, n) for length in lengths]
    parts.finish()
    back = -1 if name == "f32-split" else 0
    return b"".join(rotate(int.from_bytes(bytes(x), "big"), 8 * width, back).to_bytes(width, "little") for x in zip(*planes))


def part(content):
    coded = zstandard.ZstdCompressor(level=1).compress(content)
    return coded if len(coded) < len(content) else content


def encode(codec, content):
    """Any chunk that the page allows; what our writer makes of zstd's parts may be other bytes."""
    name = NAMES[codec]
    if name == "raw":
        return content
    if name == "zstd":
        return part(content)
    if name.endswith("planes"):
        return encode_planes(content, name == "bf16-planes")
    if name == "bf16-pairs":
        x = [rotate(v, 16, 1) for v in elements(content, 2)]
        exponents = [v >> 8 for v in x]
        base = min(range(14, 256), key=lambda b: (-sum(b - 14 <= e <= b for e in exponents), b))
        nibbles = part(pack([base - e if 0 <= base - e < 15 else 15 for e in exponents]))
        low = part(bytes(v & 255 for v in x))
        escapes = bytes(e for e in exponents if not 0 <= base - e < 15)
        return struct.pack("<4I", base, len(escapes), len(nibbles), len(low)) + nibbles + escapes + low
    if name.endswith("pairs"):
        x = [rotate(v, 8, 1 if name == "fp8-pairs" else 0) for v in content]
        high, low = part(pack([v >> 4 for v in x])), part(pack([v & 15 for v in x]))
        return struct.pack("<2I", len(high), len(low)) + high + low
    width = 4 if name == "f32-split" else 2
    x = [rotate(v, 8 * width, 1 if width == 4 else 0) for v in elements(content, width)]
    planes = [part(bytes(v >> 8 * (width - 1 - p) & 255 for v in x)) for p in range(width)]
    return struct.pack(f"<{width}I", *map(len, planes)) + b"".join(planes)


def cases():
    rng = random.Random(7)
    for codec, name in enumerate(NAMES):
        for n in (64, 200, 321):
            numbers = [rng.gauss(0, 0.02) for _ in range(n)]
            bits = [int.from_bytes(struct.pack("<f", v), "little") for v in numbers]
            if name.startswith("bf16"):
                content = b"".join((b >> 16).to_bytes(2, "little") for b in bits)
            elif name == "f16-split":
                content = b"".join(struct.pack("<e", v) for v in numbers)
            elif name == "f32-split":
                content = b"".join((b & 0xFFFF0000).to_bytes(4, "little") for b in bits)
            elif name == "raw":
                content = bytes(rng.randrange(256) for _ in range(n))
            elif name == "zstd":
                content = bytes(118 + rng.randrange(4) for _ in range(n))
            else:  # few values, so that headers pay in a chunk this small
                content = bytes(rng.choice((0x38, 0x39, 0xB8, 0x3C)) for _ in range(n * 3))
            stored = encode(codec, content)
            if name == "raw" or len(stored) < len(content):
                yield name, content, stored


def main():
    if "--check" not in sys.argv[1:]:
        with open(VECTORS, "w") as out:
            for name, content, stored in cases():
                out.write(f"{name} {content.hex()} {stored.hex()}\n")
    count = 0
    for line in open(VECTORS):
        name, content, stored = line.split()
        content, stored = bytes.fromhex(content), bytes.fromhex(stored)
        assert decode(NAMES.index(name), stored, len(content)) == content, line
        count += 1
    print(f"{count} chunks decoded")


if __name__ == "__main__":
    main()
