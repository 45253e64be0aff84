"""A second reader of ingots, made from Formats/ingot.md and Formats/codecs.md alone. Needs numpy and zstandard.

    python3 Fixtures/make/read_ingot.py x.ingot                     lists weights and files, and checks every hash
    python3 Fixtures/make/read_ingot.py x.ingot --compare DIR       holds all bytes against the safetensors in DIR, which
                                                                    `smelt convert x.ingot DIR` wrote
"""

import hashlib
import json
import os
import re
import struct
import sys

import numpy as np
import zstandard

CHUNK = 1 << 18
NONE = (1 << 32) - 1
DTYPES = ("BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 "
          "F64 I64 U64").split()
PARTS = ["values", "scales", "global_scale", "zero_points", "group_index"]
STAGES = [[2, 2, 3], [2, 3], [3], [3, 3], [1, 2, 2, 3], [2, 2, 2, 3]]
TABLE = []
for value in range(256):
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    TABLE.append(value)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def need(condition, message):
    if not condition:
        raise SystemExit(f"refused: {message}")


# ---- codecs.md ----


def part(data, at, stored, length):
    """Section 3, K5: `length` bytes stored as `stored`; and where the next part starts."""
    piece = data[at : at + stored]
    if stored < length:
        piece = zstandard.ZstdDecompressor().decompress(piece, max_output_size=length)
    need(len(piece) == length, "a part of another length")
    return np.frombuffer(piece, np.uint8), at + stored


def nibbles(packed, count):
    rows = packed.reshape(-1, 32)
    return np.concatenate([rows & 15, rows >> 4], axis=1).reshape(-1)[:count]


def planes(data, count, has_bytes):
    """Section 4: symbols and low bits of `count` elements."""
    stages, escapes = STAGES[data[0]], [count, *struct.unpack_from("<4I", data, 4)]
    names, at = np.frombuffer(data, np.uint8, 16, 20), 36
    size = count if has_bytes else 32 * -(-count // 64)
    low, at = np.frombuffer(data, np.uint8, size, at), at + size
    codes = []
    for number, bits in enumerate(stages):
        groups = -(-escapes[number] // 64)
        plane = np.frombuffer(data, np.uint8, groups * bits * 8, at).reshape(groups, bits, 8)
        bit = np.unpackbits(plane, axis=2, bitorder="little")
        codes.append(sum((bit[:, k] << k for k in range(bits)), np.zeros((groups, 64), np.uint8)).reshape(-1)[: escapes[number]])
        at += groups * bits * 8
    symbols = np.frombuffer(data, np.uint8, escapes[len(stages)], at)
    need(at + len(symbols) == len(data), "bytes behind the last symbol")
    first = sum((1 << bits) - 1 for bits in stages)
    for bits, code in zip(reversed(stages), reversed(codes)):
        first -= (1 << bits) - 1
        table = np.append(names[first : first + (1 << bits) - 1], 0).astype(np.uint8)
        found = table[code]
        found[code == (1 << bits) - 1] = symbols
        symbols = found
    return symbols, low if has_bytes else nibbles(low, count)


def ror(values, bits):
    """A rotation to the right by one."""
    return (values >> values.dtype.type(1)) | (values << values.dtype.type(bits - 1))


def decode(codec, data, length):
    """The content of a chunk."""
    if codec == 1:
        return part(data, 0, len(data), length)[0].tobytes()
    if codec == 2:
        high, low = planes(data, length // 2, True)
        return ror(high.astype("<u2") << np.uint16(8) | low, 16).astype("<u2").tobytes()
    if codec == 3:
        count = length // 2
        base, escaped, stored, rest = data[0], *struct.unpack_from("<3I", data, 4)
        packed, at = part(data, 16, stored, 32 * -(-count // 64))
        nibble = nibbles(packed, count)
        high = (np.int16(base) - nibble).astype(np.uint8)
        high[nibble == 15] = np.frombuffer(data, np.uint8, escaped, at)
        low, at = part(data, at + escaped, rest, count)
        return ror(high.astype("<u2") << np.uint16(8) | low, 16).astype("<u2").tobytes()
    if codec in (4, 5, 6):
        if codec == 4:
            high, low = planes(data, length, False)
        else:
            stored, rest = struct.unpack_from("<2I", data)
            high, at = part(data, 8, stored, 32 * -(-length // 64))
            low, at = part(data, at, rest, 32 * -(-length // 64))
            high, low = nibbles(high, length), nibbles(low, length)
        x = (high << 4 | low).astype(np.uint8)
        return (x if codec == 6 else ror(x, 8)).astype(np.uint8).tobytes()
    need(codec in (7, 8), f"codec {codec} is unknown")
    width = 2 if codec == 7 else 4
    lengths, at = struct.unpack_from(f"<{width}I", data), 4 * width
    x = np.zeros(length // width, f"<u{width}")
    for stored in lengths:
        plane, at = part(data, at, stored, length // width)
        x = x << x.dtype.type(8) | plane
    return (x if codec == 7 else ror(x, 32)).astype(f"<u{width}").tobytes()


# ---- ingot.md ----


def xxh64(data):
    """xxHash's 64-bit hash, seed 0."""
    p1, p2, p3, p4, p5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
    m, n, at = (1 << 64) - 1, len(data), 0

    def turn(v, bits):
        return (v << bits | v >> 64 - bits) & m

    def step(lane, word):
        return turn(lane + word * p2 & m, 31) * p1 & m

    if n >= 32:
        lanes = [p1 + p2 & m, p2, 0, -p1 & m]
        for words in struct.iter_unpack("<4Q", data[: n - n % 32]):
            lanes = [step(lane, word) for lane, word in zip(lanes, words)]
        at = n - n % 32
        h = sum(turn(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & m
        for lane in lanes:
            h = ((h ^ step(0, lane)) * p1 + p4) & m
    else:
        h = p5
    h = h + n & m
    while at + 8 <= n:
        h = (turn(h ^ step(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & m
        at += 8
    if at + 4 <= n:
        h = (turn(h ^ struct.unpack_from("<I", data, at)[0] * p1 & m, 23) * p2 + p3) & m
        at += 4
    for byte in data[at:]:
        h = turn(h ^ byte * p5 & m, 11) * p1 & m
    h = (h ^ h >> 33) * p2 & m
    h = (h ^ h >> 29) * p3 & m
    return struct.pack("<Q", h ^ h >> 32)


class File:
    """One file of an ingot: `weights` (name, encoding, shape, parts), `others` (kind, name, frame)."""

    def __init__(self, path):
        self.data = data = np.memmap(path, np.uint8, "r")
        header = bytes(data[:64])
        need(header[:8] == b"INGOT\r\n\x1a" and struct.unpack_from("<I", header, 8)[0] == 2, "no ingot of version 2")
        need(crc32c(header[:60]) == struct.unpack_from("<I", header, 60)[0], "the header's checksum")
        start, length, checksum = struct.unpack_from("<QQI", header, 16)
        need(start + length == len(data), "the index does not end with the file")
        self.index = index = bytes(data[start:])
        need(crc32c(index) == checksum, "the index's checksum")
        head = struct.unpack_from("<4I4Q4IQQ", index)
        weights, frames, others, encodings, chunks, dimensions, names, metadata, layers, experts = head[:10]
        self.count, self.total = head[11:13]
        self.content_hash, self.identity = index[80:112], index[112:128]
        sizes = [72 * (frames + others), 8 * chunks, 8 * dimensions, 32 * weights, 8 * layers * experts, 8 * others,
                 8 * encodings, 4 * weights, names, metadata]
        places = [128]
        for size in sizes:
            places.append(places[-1] + size)
        need(places[-1] == length, "the tables do not fill the index")
        self.frames_at, self.chunks_at, self.dimensions_at, weights_at, _, others_at, encodings_at = places[:7]
        self.names_at = places[8]
        self.metadata = json.loads(index[places[9] : places[10]])
        self.weights, self.others = [], []
        for at in range(weights_at, weights_at + 32 * weights, 32):
            place, size, rank, parts, first, shape, layer, expert, encoding = struct.unpack_from("<IHBBIIIIH", index, at)
            word = struct.unpack_from("<II", index, encodings_at + 8 * encoding)
            self.weights.append((self.name(place, size), self.name(*word), self.shape(shape, rank),
                                 [self.frame(number) for number in range(first, first + parts)]))
        for number in range(others):
            place, size, kind = struct.unpack_from("<IHH", index, others_at + 8 * number)
            self.others.append((kind, self.name(place, size), self.frame(frames + number)))

    def name(self, place, size):
        return self.index[self.names_at + place : self.names_at + place + size].decode("ascii")

    def shape(self, place, rank):
        return struct.unpack_from(f"<{rank}Q", self.index, self.dimensions_at + 8 * place)

    def frame(self, number):
        """offset, content length, hash, codec, dtype, part, shape, first chunk."""
        at = self.frames_at + 72 * number
        offset, _, length, digest, chunk, shape, codec, dtype, piece, rank = struct.unpack_from("<QQQ32sIIBBBB", self.index, at)
        return offset, length, digest, codec, DTYPES[dtype], PARTS[piece], self.shape(shape, rank), chunk

    def read(self, frame):
        """A frame's content, every checksum and the content hash verified."""
        offset, length, digest, codec, _, _, _, chunk = frame
        out, hashes = [], hashlib.sha256()
        for number, start in enumerate(range(0, length, CHUNK)):
            word, checksum = struct.unpack_from("<II", self.index, self.chunks_at + 8 * (chunk + number))
            stored = bytes(self.data[offset : offset + (word & 0x7FFFFFFF)])
            need(crc32c(stored) == checksum, f"chunk {number} of the frame at {frame[0]}")
            content = stored if word >> 31 else decode(codec, stored, min(CHUNK, length - start))
            hashes.update(xxh64(content))
            out.append(content)
            offset += len(stored)
        need(hashes.digest() == digest, f"the content hash of the frame at {frame[0]}")
        return b"".join(out)


def string(text):
    return struct.pack("<H", len(text)) + text.encode()


def shape(dimensions):
    return struct.pack(f"<B{len(dimensions)}Q", len(dimensions), *dimensions)


def open_all(path):
    """The files of an ingot, and its content hash checked (section 5)."""
    first = File(path)
    paths = [path]
    if first.count > 1:
        stem = re.sub(r"-\d{5}-of-\d{5}\.ingot$", "", path)
        paths = [f"{stem}-{number:05d}-of-{first.count:05d}.ingot" for number in range(1, first.count + 1)]
    files = [File(path) for path in paths]
    need(all((f.identity, f.content_hash) == (first.identity, first.content_hash) for f in files), "parts of two ingots")
    need(sum(len(f.weights) for f in files) == first.total, "not all weights are there")
    whole = hashlib.sha256()
    for name, encoding, dims, parts in sorted(w for f in files for w in f.weights):
        whole.update(b"\1" + string(name) + string(encoding) + shape(dims) + bytes([len(parts)]))
        for frame in parts:
            whole.update(string(frame[5]) + string(frame[4]) + shape(frame[6]) + frame[2])
    for _, name, frame in sorted(o for f in files for o in f.others if o[0] == 1):
        whole.update(b"\2" + string(name) + struct.pack("<Q", frame[1]) + frame[2])
    need(whole.digest() == first.content_hash, "the content hash")
    return files


# ---- the same tensors? ----


def safetensors(folder):
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            data = open(os.path.join(folder, name), "rb").read()
            size = struct.unpack_from("<Q", data)[0]
            for key, entry in json.loads(data[8 : 8 + size]).items():
                if key != "__metadata__":
                    begin, end = entry["data_offsets"]
                    tensors[key] = data[8 + size + begin : 8 + size + end]
    return tensors


def main(path, folder=None):
    files = open_all(path)
    tensors = safetensors(folder) if folder else None
    ledger = next(json.loads(f.read(o[2])) for f in files for o in f.others if o[:2] == (2, "ledger.json")) if folder else None
    sources = {}
    for entry in ledger["ledger"] if folder else []:
        if entry["weight"] and entry["fate"] in ("copied", "converted"):
            sources.setdefault(entry["weight"], entry["source"].split(" ")[0])
    shared = [source for source in set(sources.values()) if list(sources.values()).count(source) > 1]
    same = stacked = 0
    for file in files:
        for name, encoding, dims, parts in file.weights:
            for frame in parts:
                content = file.read(frame)
                if tensors is None:
                    print(f"{name} {encoding} {list(dims)}: {frame[5]} {frame[4]} {list(frame[6])}, codec {frame[3]}")
                    continue
                if sources[name] in shared:  # a tensor that stacks several weights, transposed or not
                    stacked += 1
                    continue
                stem = sources[name].removesuffix(".weight")
                near = [key for key in tensors if key == stem or key.startswith((stem + ".", stem + "_"))]
                need(any(tensors[key] == content for key in near), f"{name} ({frame[5]}) is no tensor of {folder}: {near}")
                same += len(content)
        for kind, name, frame in file.others:
            file.read(frame)
            if tensors is None and kind < 3:
                print(f"{name}: {frame[1]} bytes")
    print(f"{sum(len(f.weights) for f in files)} weights, content hash {files[0].content_hash.hex()}"
          + (f"; {same} bytes are those of {folder}, {stacked} parts of stacked tensors not compared" if folder else ""))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    folder = arguments.pop(arguments.index("--compare") + 1) if "--compare" in arguments else None
    main(next(word for word in arguments if word != "--compare"), folder)
