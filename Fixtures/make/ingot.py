"""Ingots made from Formats/ingot.md alone, by a second hand: good ones with annotated dumps (Formats/vectors/ingot) and
one broken one for each fault (Fixtures/malformed/ingot). Needs nothing but Python; the zstd frames are put together
from raw and run-length blocks here, so that the bytes depend on no library; chunks of other codecs are those of
Formats/vectors/codecs.txt. Run from the repository's root:

    python3 Fixtures/make/ingot.py
"""

import hashlib
import json
import os
import struct

MAGIC = b"INGOT\r\n\x1a"
CHUNK = 1 << 18
RAW_BIT = 1 << 31
NONE = (1 << 32) - 1
CODECS = {name: code for code, name in enumerate(
    "raw zstd bf16-planes bf16-pairs fp8-planes fp8-pairs int8-pairs f16-split f32-split".split())}
DTYPES = (
    "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 "
    "I64 U64"
).split()
PARTS = ["values", "scales", "global_scale", "zero_points", "group_index"]
KINDS = {"file": 1, "note": 2, "retired": 3}

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc(data):
    """CRC-32C."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def sha(data):
    return hashlib.sha256(data).digest()


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


def align(value, step):
    return -(-value // step) * step


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def text(value):
    return value if isinstance(value, bytes) else value.encode()


def string(value):
    return u16(len(text(value))) + text(value)


def shape(dimensions):
    return bytes([len(dimensions)]) + b"".join(u64(d) for d in dimensions)


# ---- zstd frames from raw and run-length blocks (RFC 8878) ----


def blocks(content):
    """(kind, size, payload) of each block: run-length for runs of 8 or more, raw between them."""
    out, at, raw = [], 0, b""
    while at < len(content):
        run = 1
        while at + run < len(content) and content[at + run] == content[at] and run < 131072:
            run += 1
        if run >= 8:
            if raw:
                out.append((0, len(raw), raw))
                raw = b""
            out.append((1, run, content[at : at + 1]))
        else:
            raw += content[at : at + run]
        at += run
    if raw or not out:
        out.append((0, len(raw), raw))
    return out


def zframe(content, size="content", dictionary=None, window=None, drop_blocks=0):
    """One zstd frame. `size=None` leaves the content size out; `window` is a window descriptor byte."""
    single = window is None and size is not None
    descriptor, fields = (0x20 if single else 0), b""
    if not single:
        fields += bytes([0x38 if window is None else window])
    if dictionary is not None:
        descriptor |= 1
        fields += bytes([dictionary])
    if size is not None:
        descriptor |= 0x80
        fields += u32(len(content) if size == "content" else size)
    out = b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + fields
    parts = blocks(content)
    parts = parts[: len(parts) - drop_blocks]
    for index, (kind, count, payload) in enumerate(parts):
        head = (index == len(parts) - 1) | kind << 1 | count << 3
        out += head.to_bytes(3, "little") + payload
    return out


# ---- the container ----


class Frame:
    """A frame and everything its record says; the attributes may be bent before `build`."""

    def __init__(self, content, codec="raw", raw_chunks=(), stored=None):
        self.codec, self.dtype, self.part, self.dims, self.reserved = CODECS[codec], "U8", "values", [], 0
        self.content, self.content_length = content, len(content)
        self.stored_chunks, self.words, hashes = [], [], b""
        for number, at in enumerate(range(0, len(content), CHUNK)):
            chunk = content[at : at + CHUNK]
            hashes += xxh64(chunk)
            raw = codec == "raw" or number in raw_chunks
            data = chunk if raw else zframe(chunk)
            self.stored_chunks.append(data)
            self.words.append(len(data) | (RAW_BIT if raw else 0))
        if stored is not None:
            self.stored_chunks, self.words = [stored], [len(stored)]
        self.checksums = [crc(chunk) for chunk in self.stored_chunks]
        self.hash = sha(hashes)
        self.offset = self.stored_length = None
        self.skip = 0

    def data(self):
        return b"".join(self.stored_chunks)

    def chunks(self):
        return b"".join(u32(word) + u32(checksum) for word, checksum in zip(self.words, self.checksums))


class Weight:
    """A weight: parts are (name, dtype, dimensions, frame)."""

    def __init__(self, name, encoding, dims, parts, layer=NONE, expert=NONE):
        self.name, self.encoding, self.dims, self.parts, self.layer, self.expert = name, encoding, dims, parts, layer, expert
        for part, dtype, part_dims, frame in parts:
            frame.part, frame.dtype, frame.dims = part, dtype, part_dims

    def frames(self):
        return [part[3] for part in self.parts]


class Other:
    def __init__(self, name, frame, kind="file"):
        self.name, self.frame, self.kind = name, frame, KINDS.get(kind, kind)

    def frames(self):
        return [self.frame]


class Ingot:
    """Weights, files and metadata; attributes may be bent before `build`, and `patches` are laid over the index:
    (table, offset in it, bytes)."""

    def __init__(self, entries, metadata='{"format":"ingot"}', number=1, count=1, total=None):
        self.weights = [entry for entry in entries if isinstance(entry, Weight)]
        self.others = [entry for entry in entries if isinstance(entry, Other)]
        self.metadata = text(metadata)
        self.number, self.count, self.total = number, count, len(self.weights) if total is None else total
        self.content_hash = self.identity = None
        self.patches, self.index_tail, self.index_skip, self.padding, self.tail = [], b"", 0, 0, b""
        self.magic, self.read_version, self.write_version, self.flags, self.reserved = MAGIC, 2, 2, 0, b"\0" * 20
        self.index_offset = self.index_length = self.index_hash = self.header_hash = None
        self.layers = max([w.layer + 1 for w in self.weights if w.layer != NONE], default=0)
        self.experts = max([w.expert + 1 for w in self.weights if w.expert != NONE], default=0)

    def frames(self):
        return [frame for entry in self.weights + self.others for frame in entry.frames()]

    def content(self):
        """What section 5 hashes."""
        out = []
        for weight in sorted(self.weights, key=lambda weight: text(weight.name)):
            data = b"\1" + string(weight.name) + string(weight.encoding) + shape(weight.dims) + bytes([len(weight.parts)])
            for part, dtype, dims, frame in weight.parts:
                data += string(part) + string(dtype) + shape(dims) + frame.hash
            out.append((0, text(weight.name), data))
        for other in sorted((o for o in self.others if o.kind == 1), key=lambda other: text(other.name)):
            data = b"\2" + string(other.name) + u64(other.frame.content_length) + other.frame.hash
            out.append((1, text(other.name), data))
        return out

    def place(self):
        """Gives every frame its place; says the frames' bytes with the padding before them."""
        pieces, end = [], 64
        for frame in self.frames():
            data = frame.data()
            start = align(end, 4096 if frame.codec == 0 and len(data) >= 65536 else 64) + frame.skip
            if start > end:
                pieces.append((bytes([self.padding]) * (start - end), "padding"))
            pieces.append((data, "frame"))
            end = start + len(data)
            frame.offset = start if frame.offset is None else frame.offset
            frame.stored_length = len(data) if frame.stored_length is None else frame.stored_length
        return pieces, end

    def described(self):
        """What the identity hashes of this file."""
        return b"".join(
            u64(f.offset) + u64(f.stored_length) + f.chunks() for weight in self.weights for f in weight.frames())

    def build(self):
        """The file, and its pieces with their meaning."""
        pieces, end = self.place()
        content_hash = self.content_hash or sha(b"".join(data for _, _, data in sorted(self.content())))
        identity = self.identity or sha(self.described())[:16]
        strings, dims, encodings, places = b"", [], [], {}
        tables = {name: [] for name in "frames chunks dimensions weights experts files encodings order".split()}

        def name_place(name):
            nonlocal strings
            strings += text(name)
            return len(strings) - len(text(name))

        def shape_place(dimensions):
            key = tuple(dimensions)
            if key not in places:
                places[key] = len(dims)
                dims.extend(dimensions)
            return places[key]

        chunk_count = 0
        frame_rows = []

        def add_frame(frame):
            nonlocal chunk_count
            frame_rows.append([
                (u64(frame.offset), "offset"), (u64(frame.stored_length), "stored length"),
                (u64(frame.content_length), "content length"), (frame.hash, "content hash"),
                (u32(chunk_count), "first chunk"), (u32(shape_place(frame.dims)), "first dimension"),
                (bytes([frame.codec]), f"codec {frame.codec}"),
                (bytes([DTYPES.index(frame.dtype)]), f"dtype {frame.dtype}"),
                (bytes([PARTS.index(frame.part)]), f"part {frame.part}"), (bytes([len(frame.dims)]), "rank"),
                (u32(frame.reserved), "reserved")])
            for word, checksum in zip(frame.words, frame.checksums):
                kind = "as it is" if word & RAW_BIT else "coded"
                tables["chunks"] += [(u32(word), f"chunk {chunk_count}: {word & ~RAW_BIT} bytes, {kind}"),
                                     (u32(checksum), f"chunk {chunk_count}: CRC-32C")]
                chunk_count += 1

        frame_count = 0
        for weight in self.weights:
            if weight.encoding not in encodings:
                encodings.append(weight.encoding)
                tables["encodings"].append(
                    (u32(name_place(weight.encoding)) + u32(len(text(weight.encoding))), f"encoding {weight.encoding!r}"))
            tables["weights"] += [
                (u32(name_place(weight.name)), f"name {weight.name!r}"), (u16(len(text(weight.name))), "length of the name"),
                (bytes([len(weight.dims)]), "rank"), (bytes([len(weight.parts)]), "parts"),
                (u32(frame_count), "first frame"), (u32(shape_place(weight.dims)), "first dimension"),
                (u32(weight.layer), "layer"), (u32(weight.expert), "expert"),
                (u16(encodings.index(weight.encoding)), "encoding"), (bytes(6), "reserved")]
            for frame in weight.frames():
                add_frame(frame)
            frame_count += len(weight.parts)
        for other in self.others:
            tables["files"].append(
                (u32(name_place(other.name)) + u16(len(text(other.name))) + u16(other.kind),
                 f"kind {other.kind}, name {other.name!r}"))
            add_frame(other.frame)
        tables["frames"] = [piece for row in frame_rows for piece in row]
        owned = {}
        for row, weight in enumerate(self.weights):
            owned.setdefault((weight.layer, weight.expert), []).append(row)
        for layer in range(self.layers):
            for expert in range(self.experts):
                rows = owned.get((layer, expert), [])
                tables["experts"].append(
                    (u32(rows[0] if rows else 0) + u32(len(rows)), f"layer {layer}, expert {expert}: weights {rows}"))
        order = sorted(range(len(self.weights)), key=lambda row: text(self.weights[row].name))
        tables["order"] = [(u32(row), f"weight {row}") for row in order]
        tables["dimensions"] = [(u64(d), f"dimension {d}") for d in dims]
        head = [
            (u32(len(self.weights)), "weights"), (u32(frame_count), "frames of weights"), (u32(len(self.others)), "files"),
            (u32(len(encodings)), "encodings"), (u64(chunk_count), "chunks"), (u64(len(dims)), "dimensions"),
            (u64(len(strings)), "bytes of names"), (u64(len(self.metadata)), "bytes of metadata"),
            (u32(self.layers), "layers"), (u32(self.experts), "experts"), (u32(self.number), "part"),
            (u32(self.count), "of parts"), (u64(self.total), "weights of all parts"), (u64(0), "reserved"),
            (content_hash, "content hash"), (identity, "identity")]
        index, starts, at = [], {}, 0
        for name, table in [("head", head)] + list(tables.items()) + [
                ("names", [(strings, "names")]), ("metadata", [(self.metadata + self.index_tail, "metadata")])]:
            starts[name] = at
            at += sum(len(piece) for piece, _ in table)
            index += [(piece, meaning) for piece, meaning in table if piece]
        data = bytearray(b"".join(piece for piece, _ in index))
        for table, offset, value in self.patches:
            data[starts[table] + offset : starts[table] + offset + len(value)] = value
        start = align(end, 4096 if len(data) >= 65536 else 64) + self.index_skip
        if start > end:
            pieces.append((bytes([self.padding]) * (start - end), "padding"))
        at = 0
        for piece, meaning in index:
            pieces.append((bytes(data[at : at + len(piece)]), meaning))
            at += len(piece)
        header = [
            (self.magic, "magic"), (u32(self.read_version), "read version"), (u32(self.write_version), "write version"),
            (u64(start if self.index_offset is None else self.index_offset), "offset of the index"),
            (u64(len(data) if self.index_length is None else self.index_length), "length of the index"),
            (u32(crc(data) if self.index_hash is None else self.index_hash), "CRC-32C of the index"),
            (u32(self.flags), "flags"), (self.reserved, "reserved")]
        head = b"".join(piece for piece, _ in header)
        header.append((u32(crc(head) if self.header_hash is None else self.header_hash), "CRC-32C of bytes 0-59"))
        pieces = header + pieces + ([(self.tail, "tail")] if self.tail else [])
        return b"".join(piece for piece, _ in pieces), pieces


def parts(*ingots):
    """The files of one ingot."""
    for ingot in ingots:
        ingot.place()
    whole = sha(b"".join(data for _, _, data in sorted(item for ingot in ingots for item in ingot.content())))
    identity = sha(b"".join(ingot.described() for ingot in ingots))[:16]
    for number, ingot in enumerate(ingots):
        ingot.number, ingot.count, ingot.total = number + 1, len(ingots), sum(len(i.weights) for i in ingots)
        ingot.content_hash, ingot.identity = whole, identity
    return ingots


def dump(pieces):
    """An annotated hex dump: 16 bytes a line, each piece on lines of its own; long runs are cut."""
    lines, at = [], 0
    for data, meaning in pieces:
        for row in range(0, len(data), 16):
            text = " ".join(f"{byte:02x}" for byte in data[row : row + 16])
            lines.append(f"{at + row:06x}  {text:<47}  {meaning if row == 0 else ''}".rstrip())
            if row >= 64 and len(data) > 128:
                lines.append(f"        … {len(data) - row - 16} more bytes")
                break
        at += len(data)
    return "\n".join(lines) + "\n"


def f32(values):
    return b"".join(struct.pack("<f", value) for value in values)


def norm(name="norm", content=None, frame=None, **more):
    """A weight of two floats: 1, -2."""
    content = f32([1, -2]) if content is None else content
    return Weight(name, "f32", [2], [("values", "F32", [2], frame or Frame(content))], **more)


def config(name="config.json", frame=None):
    return Other(name, frame or Frame(b"{}\n"))


def bf16(count):
    """Numbers in [1, 2): 1 + i/128, repeating."""
    return b"".join(u16(0x3F80 + i % 128) for i in range(count))


def retired(content):
    return Other("", Frame(content), "retired")


def expert(layer, number, part="gate", value=1):
    return Weight(
        f"blk.{layer}.ffn_{part}_exps.weight#{number}", "bf16", [2, 4],
        [("values", "BF16", [2, 4], Frame(u16(0x3F80 + value) * 8))], layer, number)


def tiny():
    return Ingot([norm(), config()])


def coded():
    """A weight for each chunk of codecs.txt: its codec, its bytes, and the hash of its content."""
    kinds = {"bf16": ("bf16", "BF16", 2), "f16": ("f16", "F16", 2), "f32": ("f32", "F32", 4)}
    weights = []
    with open("Formats/vectors/codecs.txt") as lines:
        for number, line in enumerate(lines):
            codec, content, stored = line.split()
            content, stored = bytes.fromhex(content), bytes.fromhex(stored)
            encoding, dtype, width = kinds.get(codec.split("-")[0], ("i8", "I8", 1))
            frame = Frame(content, codec, stored=None if codec == "raw" else stored)
            dims = [len(content) // width]
            weights.append(Weight(f"{codec} {number}", encoding, dims, [("values", dtype, dims, frame)]))
    return Ingot(weights)


def vectors():
    yield "tiny", tiny()
    yield "coded", coded()
    zeros = bytes(CHUNK) + bf16(3)
    rows = Weight(
        "rows", "int8.channel", [2, 4], [("values", "I8", [2, 4], Frame(bytes(range(8)))),
                                         ("scales", "F32", [2], Frame(f32([0.5, 0.25])))])
    yield "rich", Ingot(
        [
            expert(1, 0), expert(1, 0, "up"), expert(1, 2, value=3), expert(0, 1, value=4),
            Weight("empty", "f32", [0, 7], [("values", "F32", [0, 7], Frame(b""))]),
            Weight("plain", "f32", [256], [("values", "F32", [256], Frame(bytes(1024), "zstd"))]),
            rows,
            # Where chunks are really cut: 256 KiB of coded zeros, then 6 bytes as they are.
            Weight("chunks", "bf16", [CHUNK // 2 + 3], [("values", "BF16", [CHUNK // 2 + 3], Frame(zeros, "zstd", (1,)))]),
            Other("config.json", Frame(b"[" + b" " * 200 + b"]", "zstd")),
            Other("ledger.json", Frame(b"{}"), "note"),
            retired(b"an index that was replaced"),
        ],
        '{"format":"ingot","family":"none"}',
    )
    for number, part in enumerate(parts(Ingot([expert(0, 0), expert(0, 0, "up")]), Ingot([expert(0, 1), config()]))):
        yield f"split-{number + 1:05d}-of-00002", part


# ---- broken ones ----


def bent(ingot, **fields):
    for key, value in fields.items():
        setattr(ingot, key, value)
    return ingot


def patched(ingot, *patches):
    ingot.patches = list(patches)
    return ingot


def with_frame(frame, **fields):
    return Ingot([norm(frame=bent(frame, **fields)), config()])


def two():
    return Frame(f32([1, -2]))


def with_zstd(stored, content=bytes(64)):
    """A weight of 16 floats whose one chunk is these stored bytes."""
    return Ingot([Weight("norm", "f32", [16], [("values", "F32", [16], Frame(content, "zstd", stored=stored))])])


def swapped():
    """Two frames in the file, named the other way round."""
    a, b = Frame(f32([1, 2])), Frame(f32([3, 4]))
    a.offset, b.offset = 128, 64
    return Ingot([norm("a", frame=a), norm("b", frame=b)])


def bombs():
    frame = Frame(b"", "zstd")
    frame.content_length = (1 << 30) + 1
    count = (1 << 30) // CHUNK
    frame.stored_chunks = [b"\1" * count, b"\1"]
    frame.words = [1] * count + [1 | RAW_BIT]
    frame.checksums = [crc(b"\1")] * (count + 1)
    return Ingot([config(frame=frame)])


def experts():
    return Ingot([expert(0, 0), expert(0, 0, "up"), expert(0, 1), norm()])


def malformed():
    """name, rule, code, stage (open, read, check or deep), file."""
    good, pieces = tiny().build()
    page = Frame(bytes(65536))
    page.skip = 64

    def header(name, rule, **fields):
        return name, rule, "C_HEADER", "open", bent(tiny(), **fields).build()[0]

    yield "empty", "I1", "C_HEADER", "open", b""
    yield "short", "I1", "C_HEADER", "open", good[:63]
    yield header("magic", "I1", magic=b"INGOT\n\n\x1a")
    yield "lfs-pointer", "I1", "SRC_LFS_POINTER", "open", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "unfinished", "I7", "C_HEADER", "open", bytes(64) + good[64:]
    yield header("read-version-newer", "I2", read_version=3, write_version=3)
    yield header("read-version-1", "I2", read_version=1, write_version=1)
    yield header("read-version-zero", "I2", read_version=0)
    yield header("write-version-below", "I2", write_version=1)
    yield header("header-checksum", "I3", header_hash=1)
    yield header("flags", "I4", flags=1)
    yield header("reserved-header", "I4", reserved=b"\0" * 19 + b"\1")
    yield header("index-checksum", "I6", index_hash=7)

    def index(name, rule, ingot, code="C_INDEX", stage="open"):
        return name, rule, code, stage, (ingot if isinstance(ingot, Ingot) else bent(tiny(), **ingot)).build()[0]

    def patch(name, rule, *patches, ingot=None, **more):
        return index(name, rule, patched(ingot or tiny(), *patches), **more)

    yield index("index-beyond-file", "I5", {"index_offset": 1 << 40})
    yield index("index-overflow", "I5", {"index_offset": (1 << 64) - 8, "index_length": 16})
    yield index("index-too-long", "I5", {"index_length": (1 << 63)})
    yield index("index-in-header", "I5", {"index_offset": 8, "index_length": len(good) - 8})
    yield index("bytes-after-index", "I5", {"tail": b"\0"})
    yield index("index-empty", "I20", {"index_offset": len(good), "index_length": 0, "index_hash": 0})
    yield index("index-misplaced", "I8", {"index_skip": 64})

    yield index("frame-beyond-index", "I8", with_frame(two(), offset=1 << 50))
    yield index("frame-length-beyond", "I8", with_frame(two(), stored_length=1 << 61))
    yield index("frame-offset-maximal", "I8", with_frame(two(), offset=(1 << 64) - 8))
    yield index("frames-unsorted", "I8", swapped())
    yield index("frames-overlap", "I8", Ingot([norm(), config(frame=bent(Frame(b"{}\n"), offset=64))]))
    yield index("frame-in-header", "I8", with_frame(two(), offset=0))
    yield index("frame-gap", "I8", with_frame(two(), skip=64))
    yield index("frame-misaligned", "I8", with_frame(two(), skip=8))
    yield index("frame-not-on-page", "I9", Ingot([Weight("page", "f32", [16384], [("values", "F32", [16384], page)])]))
    yield index("padding-not-zero", "I10", {"padding": 1}, "C_CHECKSUM", "check")

    yield index("chunk-raw-length", "I11", with_frame(two(), words=[7 | RAW_BIT]))
    yield index("chunk-not-smaller", "I11", with_zstd(bytes(64)))
    yield index("chunk-empty", "I11", with_zstd(b""))
    yield index("chunk-sum", "I12", bent_chunk_sum())
    yield index("raw-with-coded-chunk", "I13", with_frame(two(), words=[7]))

    def frame(name, rule, stored, code="C_FRAME", content=bytes(64)):
        return index(name, rule, with_zstd(stored, content), code, "read")

    full = zframe(bytes(64))
    yield frame("zstd-no-size", "I14", zframe(bytes(64), size=None))
    yield frame("zstd-wrong-size", "I14", zframe(bytes(64), size=63))
    yield frame("zstd-huge-size", "I14", zframe(bytes(64), size=0xFFFFFFFF))
    yield frame("zstd-dictionary", "I14", zframe(bytes(64), dictionary=7))
    yield frame("zstd-window", "I14", zframe(bytes(64), window=(24 - 10) << 3))
    yield frame("zstd-trailing-frame", "I14", full + zframe(b""))
    yield frame("zstd-trailing-byte", "I14", full + b"\0")
    yield frame("zstd-skippable", "I14", b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + full)
    yield frame("zstd-reserved-bit", "I14", full[:4] + bytes([full[4] | 8]) + full[5:])
    yield frame("zstd-cut", "I14", full[:-1])
    yield frame("zstd-header-cut", "I14", full[:6])
    yield frame("zstd-other-magic", "I14", b"\x27" + full[1:])
    yield frame("zstd-reserved-block", "I14", full[:-4] + bytes([full[-4] | 6]) + full[-3:])
    yield frame("zstd-yields-less", "I15", zframe(bytes(32) + b"\1" * 32, drop_blocks=0)[:9] + b"\x03\x01\0\0")
    yield frame("zstd-yields-more", "I15", zframe(bytes(64))[:9] + b"\x03\x08\0\0")
    wrong = with_zstd(zframe(bytes(64)))
    wrong.frames()[0].checksums = [5]
    yield index("chunk-checksum", "I18", wrong, "C_CHECKSUM", "read")
    yield index("chunk-checksum-raw", "I18", with_frame(two(), checksums=[5]), "C_CHECKSUM", "read")
    yield index("file-checksum", "I18", Ingot([config(frame=bent(Frame(b"{}"), checksums=[5]))]), "C_CHECKSUM", "read")
    yield index("content-hash-raw", "I19", with_frame(two(), hash=bytes(32)), "C_HASH", "deep")
    wrong = with_zstd(zframe(bytes(64)))
    wrong.frames()[0].hash = bytes(32)
    yield index("content-hash", "I19", wrong, "C_HASH", "deep")
    empty = Weight("empty", "f32", [0], [("values", "F32", [0], bent(Frame(b""), hash=bytes(32)))])
    yield index("content-hash-empty", "I19", Ingot([empty]), "C_HASH", "deep")
    yield index("content-hash-of-all", "I36", {"content_hash": bytes(32)}, "C_HASH", "check")

    for at, width, field in [
            (0, u32, "weights"), (4, u32, "frames"), (8, u32, "files"), (12, u32, "encodings"), (16, u64, "chunks"),
            (24, u64, "dimensions"), (32, u64, "names"), (40, u64, "metadata"), (48, u32, "layers")]:
        yield patch(f"count-{field}", "I34" if field == "layers" else "I20", ("head", at, width(0xFFFFFFFF)))
        yield patch(f"count-{field}-one-more", "I34" if field == "layers" else "I20", ("head", at, width(1 + good_count(field))))
    yield patch("count-experts", "I20", ("head", 48, u32(0xFFFFFFFF) + u32(0xFFFFFFFF)))
    yield patch("count-chunks-maximal", "I20", ("head", 16, u64((1 << 64) - 1)))
    yield index("bytes-after-metadata", "I20", {"index_tail": b"\0"})
    yield patch("chunk-number", "I20", ("frames", 56, u32(1)))
    many = Frame(b"")
    many.content_length = 1 << 60
    yield index("chunks-beyond-index", "I20", Ingot([config(frame=many)]))
    yield patch("reserved-head", "I21", ("head", 72, b"\1"))
    yield patch("codec", "I21", ("frames", 64, b"\xff"))
    yield patch("dtype", "I21", ("frames", 65, b"\xff"))
    yield patch("part-code", "I21", ("frames", 66, b"\xff"))
    yield patch("reserved-frame", "I21", ("frames", 68, b"\1"))
    yield patch("reserved-weight", "I21", ("weights", 31, b"\1"))
    yield patch("kind", "I21", ("files", 6, u16(4)))
    yield patch("file-dtype", "I21", ("frames", 72 + 65, b"\0"))
    weight = norm()
    weight.encoding = "f33"
    yield index("encoding", "I21", Ingot([weight]))
    yield patch("encoding-number", "I21", ("weights", 24, u16(1)))
    yield patch("encoding-name-beyond", "I21", ("encodings", 0, u32(0xFFFFFFFF)))

    yield index("name-empty", "I22", Ingot([norm("")]))
    yield index("name-long", "I22", Ingot([norm("a" * 1001)]))
    yield index("name-control", "I22", Ingot([norm("a\nb")]))
    yield index("name-nul", "I22", Ingot([norm("a\0b")]))
    yield index("name-bidirectional", "I22", Ingot([norm("a\u202eb")]))
    yield index("name-not-ascii", "I22", Ingot([norm("\u00e9")]))
    yield index("name-not-utf8", "I22", Ingot([norm(b"a\xffb")]))
    yield patch("name-beyond", "I22", ("weights", 0, u32(0xFFFFFFFF)))
    yield index("file-name-long", "I22", Ingot([config("a" * 256)]))
    yield patch("file-name-beyond", "I22", ("files", 0, u32(0xFFFFFFFF)))
    yield index("duplicate-weight", "I23", Ingot([norm(), norm()]))
    yield index("duplicate-file", "I23", Ingot([config(), config()]))
    pair = [norm("a"), norm("b")]
    yield patch("order-wrong", "I23", ("order", 0, u32(1) + u32(0)), ingot=Ingot(pair))
    yield patch("order-repeats", "I23", ("order", 0, u32(0) + u32(0)), ingot=Ingot([norm("a"), norm("b")]))
    yield patch("order-beyond", "I23", ("order", 0, u32(2)), ingot=Ingot([norm("a"), norm("b")]))
    for name, dims in [
        ("dimension", [(1 << 40) + 1]), ("dimension-maximal", [(1 << 64) - 1]),
        ("product", [1 << 25, 1 << 24]), ("product-with-zero", [0, 1 << 40, 1 << 40]),
    ]:
        yield index(f"shape-{name}", "I24", Ingot([Weight("w", "f32", dims, [("values", "F32", dims, Frame(b""))])]))
    yield index("shape-rank", "I24", Ingot([Weight("w", "f32", [1] * 9, [("values", "F32", [1] * 9, Frame(f32([1])))])]))
    yield patch("shape-beyond", "I24", ("weights", 12, u32(0xFFFFFFFF)))
    yield patch("part-shape-beyond", "I24", ("frames", 60, u32(0xFFFFFFFF)))
    for name, part in [
        ("name", ("scales", "F32", [2])), ("dtype", ("values", "BF16", [2])), ("shape", ("values", "F32", [1, 2])),
    ]:
        yield index(f"part-{name}", "I25", Ingot([Weight("w", "f32", [2], [part + (two(),)])]))
    yield index("part-missing", "I25", Ingot([Weight("w", "f32", [2], [])]))
    yield index("part-surplus", "I25", Ingot([Weight("w", "f32", [2], norm().parts + norm().parts)]))
    yield patch("part-of-another", "I25", ("weights", 8, u32(1)))
    yield index("content-too-long", "I26", Ingot([norm(content=f32([1, 2, 3]))]), "C_BOMB")
    yield index("content-too-short", "I26", Ingot([norm(content=f32([1]))]))
    for name, value in [
        ("parent", ".."), ("self", "."), ("slash", "/a"), ("folder-parent", "a/../b"), ("folder-self", "a/./b"),
        ("folder-empty", "a//b"), ("folder-end", "a/"), ("backslash", "a\\b"), ("drive", "c:a"),
    ]:
        yield index(f"file-name-{name}", "I27", Ingot([config(value)]))
    yield index("file-name-of-folder", "I27", Ingot([config("a"), config("a/b")]))
    yield index("note-name-slash", "I27", Ingot([Other("a/b", Frame(b"{}"), 2)]))
    for name, value in [("control", "a\x01"), ("hidden", "a\u202eb")]:
        yield index(f"file-name-{name}", "I22", Ingot([config(value)]))
    yield index("file-ratio", "I28", Ingot([config(frame=Frame(bytes(CHUNK), "zstd"))]), "C_BOMB")
    yield index("file-size", "I28", bombs(), "C_BOMB")
    yield index("retired-checksum", "I29", Ingot([Other("", bent(Frame(b"old"), checksums=[5]), 3)]), "C_CHECKSUM", "check")
    yield index("retired-misplaced", "I29", Ingot([Other("", bent(Frame(b"old"), offset=0), 3)]))
    yield index("retired-name", "I29", Ingot([Other("a", Frame(b"old"), 3)]))
    for name, value in [
        ("list", "[]"), ("no-json", "{"), ("duplicate-key", '{"a":1,"a":2}'), ("not-utf8", b'{"a":"\xff"}'),
        ("deep", '{"a":' + "[" * 64 + "]" * 64 + "}"), ("absent", ""),
    ]:
        yield index(f"metadata-{name}", "I30", Ingot([norm()], value))
    yield index("split-number-zero", "I33", {"number": 0})
    yield index("split-number-beyond", "I33", {"number": 2})
    yield index("split-count-zero", "I33", {"number": 0, "count": 0})
    yield index("split-total", "I33", {"total": 2})
    yield index("split-count-large", "I33", {"count": 100000})
    yield index("split-name", "I35", {"count": 2, "total": 2}, "C_SPLIT")
    yield patch("expert-range", "I34", ("experts", 0, u32(0) + u32(3)), ingot=experts())
    yield patch("expert-missing", "I34", ("experts", 0, u32(0) + u32(1)), ingot=experts())
    yield patch("expert-other", "I34", ("experts", 0, u32(2) + u32(1)), ingot=experts())
    yield patch("expert-beyond", "I34", ("experts", 0, u32(0xFFFFFFFF) + u32(2)), ingot=experts())
    yield patch("expert-start-of-none", "I34", ("experts", 0, u32(1) + u32(0)), ingot=experts())
    apart = Ingot([expert(0, 0), expert(0, 1), expert(0, 0, "up")])
    yield index("expert-apart", "I34", apart)
    yield patch("expert-without-layer", "I34", ("weights", 16, u32(NONE)), ingot=experts())
    yield patch("layer-beyond", "I34", ("weights", 16, u32(1)), ingot=experts())


def good_count(field):
    """The counts of `tiny`."""
    return {"weights": 1, "frames": 1, "files": 1, "encodings": 1, "chunks": 2, "dimensions": 1, "names": 18,
            "metadata": 18, "layers": 0}[field]


def bent_chunk_sum():
    ingot = with_zstd(zframe(bytes(64)))
    ingot.frames()[0].words[0] -= 1
    return ingot


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)


def fresh(folder, endings):
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(endings):
            os.remove(os.path.join(folder, name))
    return folder


if __name__ == "__main__":
    folder = fresh("Formats/vectors/ingot", (".ingot", ".txt"))
    for name, ingot in vectors():
        data, pieces = ingot.build()
        write(f"{folder}/{name}.ingot", data)
        write(f"{folder}/{name}.txt", dump(pieces).encode())
    folder = fresh("Fixtures/malformed/ingot", (".ingot", ".json"))
    names = set()
    for name, rule, code, stage, data in malformed():
        assert name not in names, name
        names.add(name)
        write(f"{folder}/{name}.ingot", data)
        about = {"code": code, "rule": rule, "stage": stage}
        write(f"{folder}/{name}.json", (json.dumps(about) + "\n").encode())
    print(len(names), "malformed")
