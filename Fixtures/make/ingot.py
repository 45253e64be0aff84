"""Ingots made from Formats/ingot.md alone, by a second hand: good ones with annotated dumps (Formats/vectors/ingot) and
one broken one for each fault (Fixtures/malformed/ingot). Needs only the xxhash package; the zstd frames are put together
from raw and run-length blocks here, so that the bytes depend on no library. Run from the repository's root:

    python3 Fixtures/make/ingot.py
"""

import json
import os
import struct

import xxhash

MAGIC = b"INGOT\r\n\x1a"
CHUNK = 1 << 20
RAW_BIT = 1 << 31


def xxh(data):
    return xxhash.xxh64(bytes(data), seed=0).intdigest()


def align(value, step):
    return -(-value // step) * step


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return u16(len(data)) + data


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


def split(content, transform):
    """The planes of section 3.4."""
    width = {0: 1, 1: 2, 2: 2, 3: 4}[transform]
    bits = 8 * width
    planes = [bytearray() for _ in range(width)]
    for at in range(0, len(content), width):
        value = int.from_bytes(content[at : at + width], "little")
        if transform in (1, 3):
            value = (value << 1 | value >> (bits - 1)) & ((1 << bits) - 1)
        for plane in range(width):
            planes[plane].append(value >> (8 * (width - 1 - plane)) & 255)
    return b"".join(bytes(plane) for plane in planes) if transform else content


# ---- the container ----


class Frame:
    """A frame and everything its record says; the attributes may be bent before `build`."""

    def __init__(self, content, storage=0, transform=0, raw_chunks=(), stored=None):
        self.storage, self.transform, self.reserved = storage, transform, 0
        self.content_length = len(content)
        self.stored_chunks, self.words, hashes = [], [], b""
        for number, at in enumerate(range(0, len(content), CHUNK)):
            chunk = content[at : at + CHUNK]
            hashes += u64(xxh(chunk))
            raw = storage == 0 or number in raw_chunks
            data = chunk if raw else zframe(split(chunk, transform))
            self.stored_chunks.append(data)
            self.words.append(len(data) | (RAW_BIT if raw else 0))
        if stored is not None:
            self.stored_chunks, self.words = [stored], [len(stored)]
        self.checksums = [xxh(chunk) for chunk in self.stored_chunks]
        self.hash = xxh(hashes)
        self.offset = self.stored_length = None
        self.skip = 0

    def data(self):
        return b"".join(self.stored_chunks)

    def record(self):
        out = [
            (u64(self.offset), "offset"),
            (u64(self.stored_length), "stored length"),
            (u64(self.content_length), "content length"),
            (u64(self.hash), "content hash"),
            (bytes([self.storage]), f"storage: {['raw', 'zstd'][self.storage] if self.storage < 2 else '?'}"),
            (bytes([self.transform]), f"transform {self.transform}"),
            (u16(self.reserved), "reserved"),
        ]
        for number, (word, checksum) in enumerate(zip(self.words, self.checksums)):
            kind = "as it is" if word & RAW_BIT else "zstd"
            out.append((u32(word), f"chunk {number}: {word & ~RAW_BIT} bytes, {kind}"))
            out.append((u64(checksum), f"chunk {number}: XXH64"))
        return out


class Weight:
    def __init__(self, name, encoding, dims, parts):
        self.name, self.encoding, self.dims, self.parts, self.kind = name, encoding, dims, parts, 1

    def frames(self):
        return [part[3] for part in self.parts]

    def record(self):
        out = [
            (bytes([self.kind]), "kind: weight"),
            (string(self.name), f"name {self.name!r}"),
            (string(self.encoding), f"encoding {self.encoding!r}"),
            (shape(self.dims), f"shape {self.dims}"),
            (bytes([len(self.parts)]), "parts"),
        ]
        for name, dtype, dims, frame in self.parts:
            out += [
                (string(name), f"part {name!r}"),
                (string(dtype), f"dtype {dtype!r}"),
                (shape(dims), f"shape {dims}"),
            ] + frame.record()
        return out


class File:
    def __init__(self, name, frame):
        self.name, self.frame = name, frame

    def frames(self):
        return [self.frame]

    def record(self):
        return [(b"\x02", "kind: file"), (string(self.name), f"name {self.name!r}")] + self.frame.record()


class Retired:
    def __init__(self, frame):
        self.frame = frame

    def frames(self):
        return [self.frame]

    def record(self):
        return [(b"\x03", "kind: retired run")] + self.frame.record()


class Ingot:
    """Entries and metadata; the attributes may be bent before `build`."""

    def __init__(self, entries, metadata='{"format":"ingot"}'):
        self.entries, self.metadata = entries, metadata.encode() if isinstance(metadata, str) else metadata
        self.count, self.metadata_length, self.index_tail, self.index_skip = len(entries), None, b"", 0
        self.padding, self.tail = 0, b""
        self.magic, self.read_version, self.write_version, self.flags, self.reserved = MAGIC, 1, 1, 0, b"\0" * 12
        self.index_offset = self.index_length = self.index_hash = self.header_hash = None

    def build(self):
        """The file, and its pieces with their meaning."""
        pieces, end = [], 64

        def place(data, alignment, skip, meaning):
            nonlocal end
            start = align(end, alignment) + skip
            if start > end:
                pieces.append((bytes([self.padding]) * (start - end), "padding"))
            pieces.append((data, meaning))
            end = start + len(data)
            return start

        for entry in self.entries:
            for frame in entry.frames():
                data = frame.data()
                start = place(data, 4096 if frame.storage == 0 and len(data) >= 65536 else 64, frame.skip, "frame")
                frame.offset = start if frame.offset is None else frame.offset
                frame.stored_length = len(data) if frame.stored_length is None else frame.stored_length
        index = [(u32(self.count), "entries")]
        for entry in self.entries:
            index += entry.record()
        length = len(self.metadata) if self.metadata_length is None else self.metadata_length
        index += [(u32(length), "length of the metadata"), (self.metadata + self.index_tail, "metadata")]
        data = b"".join(piece for piece, _ in index)
        start = place(b"", 4096 if len(data) >= 65536 else 64, self.index_skip, "index")
        pieces.pop()
        pieces += index
        header = [
            (self.magic, "magic"),
            (u32(self.read_version), "read version"),
            (u32(self.write_version), "write version"),
            (u64(start if self.index_offset is None else self.index_offset), "offset of the index"),
            (u64(len(data) if self.index_length is None else self.index_length), "length of the index"),
            (u64(xxh(data) if self.index_hash is None else self.index_hash), "XXH64 of the index"),
            (u32(self.flags), "flags"),
            (self.reserved, "reserved"),
        ]
        head = b"".join(piece for piece, _ in header)
        header.append((u64(xxh(head) if self.header_hash is None else self.header_hash), "XXH64 of bytes 0-55"))
        pieces = header + pieces + ([(self.tail, "tail")] if self.tail else [])
        return b"".join(piece for piece, _ in pieces), pieces


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


def norm(name="norm", content=None, frame=None):
    """A weight of two floats: 1, -2."""
    content = f32([1, -2]) if content is None else content
    return Weight(name, "f32", [2], [("values", "F32", [2], frame or Frame(content))])


def config(name="config.json", frame=None):
    return File(name, frame or Frame(b"{}\n"))


def bf16(count):
    """Numbers in [1, 2): 1 + i/128, repeating."""
    return b"".join(u16(0x3F80 + i % 128) for i in range(count))


def coded():
    """A weight of 64 BF16 numbers, transformed and compressed."""
    return Weight("coded", "bf16", [4, 16], [("values", "BF16", [4, 16], Frame(bf16(64), 1, 1))])


def tiny():
    return Ingot([norm(), config()])


def vectors():
    yield "tiny", tiny()
    f16 = b"".join(u16(0x3C00 + i % 200) for i in range(96))
    ones = f32([1 + i / 2**20 for i in range(64)])
    mixed = bf16(CHUNK // 2) + bf16(3)
    yield "coded", Ingot(
        [
            coded(),
            Weight("half", "f16", [96], [("values", "F16", [96], Frame(f16, 1, 2))]),
            Weight("single", "f32", [2, 32], [("values", "F32", [2, 32], Frame(ones, 1, 3))]),
            Weight("empty", "f32", [0, 7], [("values", "F32", [0, 7], Frame(b""))]),
            Weight("plain", "f32", [256], [("values", "F32", [256], Frame(bytes(1024), 1, 0))]),
            Retired(Frame(b"an index that was replaced")),
            File("ledger.json", Frame(b"[" + b" " * 200 + b"]", 1, 0)),
            # A ragged last chunk that zstd does not shrink is stored as it is, without the transform.
            Weight("ragged", "f32", [1, 1027], [("values", "F32", [1, 1027], Frame(f32(range(1027))))]),
        ],
        '{"format":"ingot","family":"none"}',
    )
    # The same rule where chunks are really cut: 1 MiB of coded zeros, then 6 bytes as they are.
    zeros = bytes(CHUNK) + mixed[CHUNK:]
    yield "chunks", Ingot(
        [Weight("chunks", "bf16", [CHUNK // 2 + 3], [("values", "BF16", [CHUNK // 2 + 3], Frame(zeros, 1, 1, (1,)))])]
    )


# ---- broken ones ----


def bent(ingot, **fields):
    for key, value in fields.items():
        setattr(ingot, key, value)
    return ingot


def with_frame(frame, **fields):
    return Ingot([norm(frame=bent(frame, **fields)), config()])


def with_zstd(stored, content=bytes(64)):
    """A weight of 16 floats whose one chunk is these stored bytes."""
    frame = Frame(content, 1, 0, stored=stored)
    return Ingot([Weight("norm", "f32", [16], [("values", "F32", [16], frame)])])


def swapped():
    """Two frames in the file, named the other way round."""
    a, b = Frame(f32([1, 2])), Frame(f32([3, 4]))
    a.offset, b.offset = 128, 64
    return Ingot([norm("a", frame=a), norm("b", frame=b)])


def bombs():
    frame = Frame(b"", 1)
    frame.content_length = (1 << 30) + 1
    frame.stored_chunks = [b"\1" * 1024, b"\1"]
    frame.words = [1] * 1024 + [1 | RAW_BIT]
    frame.checksums = [xxh(b"\1")] * 1025
    return Ingot([config(frame=frame)])


def malformed():
    """name, rule, code, stage (open, read, check or deep), file."""
    good, pieces = tiny().build()
    two = Frame(f32([1, -2]))
    page = Frame(bytes(65536))
    page.skip = 64

    def header(name, rule, **fields):
        return name, rule, "C_HEADER", "open", bent(tiny(), **fields).build()[0]

    yield "empty", "I1", "C_HEADER", "open", b""
    yield "short", "I1", "C_HEADER", "open", good[:63]
    yield header("magic", "I1", magic=b"INGOT\n\n\x1a")
    yield "lfs-pointer", "I1", "SRC_LFS_POINTER", "open", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "unfinished", "I7", "C_HEADER", "open", bytes(64) + good[64:]
    yield header("read-version-newer", "I2", read_version=2, write_version=2)
    yield header("read-version-zero", "I2", read_version=0)
    yield header("write-version-below", "I2", write_version=0)
    yield header("header-checksum", "I3", header_hash=1)
    yield header("flags", "I4", flags=1)
    yield header("reserved-header", "I4", reserved=b"\0" * 11 + b"\1")

    def index(name, rule, ingot, code="C_INDEX", stage="open"):
        return name, rule, code, stage, (ingot if isinstance(ingot, Ingot) else bent(tiny(), **ingot)).build()[0]

    yield index("index-beyond-file", "I5", {"index_offset": 1 << 40})
    yield index("index-overflow", "I5", {"index_offset": (1 << 64) - 8, "index_length": 16})
    yield index("index-too-long", "I5", {"index_length": (1 << 63)})
    yield index("index-in-header", "I5", {"index_offset": 8, "index_length": len(good) - 8})
    yield index("bytes-after-index", "I5", {"tail": b"\0"})
    yield index("index-checksum", "I6", {"index_hash": 7})
    yield index("index-empty", "I20", {"index_offset": len(good), "index_length": 0, "index_hash": xxh(b"")})
    yield index("index-misplaced", "I8", {"index_skip": 64})

    yield index("frame-beyond-index", "I8", with_frame(two, offset=1 << 50))
    yield index("frame-length-beyond", "I8", with_frame(Frame(f32([1, 2])), stored_length=1 << 61))
    yield index("frame-number-too-large", "I20", with_frame(Frame(f32([1, 2])), offset=1 << 63))
    yield index("frames-unsorted", "I8", swapped())
    yield index("frames-overlap", "I8", Ingot([norm(), config(frame=bent(Frame(b"{}\n"), offset=64))]))
    yield index("frame-in-header", "I8", with_frame(Frame(f32([1, 2])), offset=0))
    yield index("frame-gap", "I8", with_frame(Frame(f32([1, 2])), skip=64))
    yield index("frame-misaligned", "I8", with_frame(Frame(f32([1, 2])), skip=8))
    yield index(
        "frame-not-on-page", "I9", Ingot([Weight("page", "f32", [16384], [("values", "F32", [16384], page)])])
    )
    yield index("padding-not-zero", "I10", {"padding": 1}, "C_CHECKSUM", "check")

    yield index("chunk-raw-length", "I11", with_frame(Frame(f32([1, 2])), words=[7 | RAW_BIT]))
    yield index("chunk-not-smaller", "I11", with_zstd(bytes(64)))
    yield index("chunk-empty", "I11", with_zstd(b""))
    yield index("chunk-sum", "I12", bent_chunk_sum())
    yield index("raw-with-transform", "I13", with_frame(Frame(f32([1, 2])), transform=1))
    yield index("raw-with-zstd-chunk", "I13", with_frame(Frame(f32([1, 2])), words=[7]))

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
    yield index("transform-odd", "I16", Ingot([config(frame=bent(Frame(b" " * 201, 1), transform=1))]))
    wrong = coded()
    wrong.parts[0][3].checksums = [5]
    yield index("chunk-checksum", "I18", Ingot([wrong]), "C_CHECKSUM", "read")
    yield index("chunk-checksum-raw", "I18", with_frame(Frame(f32([1, 2])), checksums=[5]), "C_CHECKSUM", "check")
    yield index("file-checksum", "I18", Ingot([config(frame=bent(Frame(b"{}"), checksums=[5]))]), "C_CHECKSUM", "read")
    yield index("content-hash-raw", "I19", with_frame(Frame(f32([1, 2])), hash=5), "C_CHECKSUM", "check")
    yield index("content-hash", "I19", Ingot([bent_hash(coded())]), "C_CHECKSUM", "deep")
    empty = Weight("empty", "f32", [0], [("values", "F32", [0], bent(Frame(b""), hash=5))])
    yield index("content-hash-empty", "I19", Ingot([empty]), "C_CHECKSUM", "check")

    yield index("count-too-large", "I20", {"count": 0xFFFFFFFF})
    yield index("count-too-small", "I20", {"count": 1})
    yield index("bytes-after-metadata", "I20", {"index_tail": b"\0"})
    yield index("metadata-beyond-index", "I20", {"metadata_length": 0xFFFFFF})
    yield index("string-beyond-index", "I20", Ingot([Raw(b"\1" + u16(65535) + b"a" * 40)]))
    many = Frame(b"")
    many.content_length = 1 << 60
    yield index("chunks-beyond-index", "I20", Ingot([config(frame=many)]))
    yield index("kind", "I21", Ingot([Raw(b"\4" + b"\0" * 40)]))
    yield index("storage", "I21", with_frame(Frame(f32([1, 2])), storage=2))
    yield index("transform", "I21", Ingot([config(frame=bent(Frame(b" " * 200, 1), transform=4))]))
    yield index("reserved-record", "I21", with_frame(Frame(f32([1, 2])), reserved=1))
    weight = norm()
    weight.encoding = "f33"
    yield index("encoding", "I21", Ingot([weight]))

    yield index("name-empty", "I22", Ingot([norm("")]))
    yield index("name-long", "I22", Ingot([norm("a" * 1001)]))
    yield index("name-control", "I22", Ingot([norm("a\nb")]))
    yield index("name-bidirectional", "I22", Ingot([norm("a\u202eb")]))
    yield index("name-not-utf8", "I22", Ingot([norm(b"a\xffb")]))
    yield index("file-name-long", "I22", Ingot([config("a" * 256)]))
    yield index("duplicate-weight", "I23", Ingot([norm(), norm()]))
    yield index("duplicate-weight-composed", "I23", Ingot([norm("\u00e9"), norm("e\u0301")]))
    yield index("duplicate-file", "I23", Ingot([config(), config()]))
    for name, dims in [
        ("rank", [1] * 9), ("dimension", [(1 << 40) + 1]), ("dimension-maximal", [(1 << 64) - 1]),
        ("product", [1 << 25, 1 << 24]), ("product-with-zero", [0, 1 << 40, 1 << 40]),
    ]:
        yield index(f"shape-{name}", "I24", Ingot([Weight("w", "f32", dims, [("values", "F32", dims, Frame(b""))])]))
    for name, part in [
        ("name", ("scales", "F32", [2])), ("unknown", ("bias", "F32", [2])), ("dtype", ("values", "BF16", [2])),
        ("dtype-unknown", ("values", "F31", [2])), ("shape", ("values", "F32", [1, 2])),
    ]:
        yield index(f"part-{name}", "I25", Ingot([Weight("w", "f32", [2], [part + (Frame(f32([1, 2])),)])]))
    yield index("part-missing", "I25", Ingot([Weight("w", "f32", [2], [])]))
    yield index("part-surplus", "I25", Ingot([Weight("w", "f32", [2], norm().parts + norm().parts)]))
    yield index("content-too-long", "I26", Ingot([norm(content=f32([1, 2, 3]))]), "C_BOMB")
    yield index("content-enormous", "I26", with_frame(Frame(f32([1, 2])), content_length=1 << 61), "C_BOMB")
    yield index("content-too-short", "I26", Ingot([norm(content=f32([1]))]))
    for name, text in [("parent", ".."), ("self", "."), ("slash", "a/b"), ("backslash", "a\\b"), ("drive", "c:a")]:
        yield index(f"file-name-{name}", "I27", Ingot([config(text)]))
    yield index("file-ratio", "I28", Ingot([config(frame=Frame(bytes(CHUNK), 1))]), "C_BOMB")
    yield index("file-size", "I28", bombs(), "C_BOMB")
    yield index("retired-checksum", "I29", Ingot([Retired(bent(Frame(b"old"), checksums=[5]))]), "C_CHECKSUM", "check")
    yield index("retired-misplaced", "I29", Ingot([Retired(bent(Frame(b"old"), offset=0))]))
    for name, text in [
        ("list", "[]"), ("no-json", "{"), ("duplicate-key", '{"a":1,"a":2}'), ("not-utf8", b'{"a":"\xff"}'),
        ("deep", '{"a":' + "[" * 64 + "]" * 64 + "}"), ("absent", ""),
    ]:
        yield index(f"metadata-{name}", "I30", Ingot([norm()], text))


class Raw:
    """Bytes in the index that are no entry."""

    def __init__(self, data):
        self.bytes = data

    def frames(self):
        return []

    def record(self):
        return [(self.bytes, "bytes")]


def bent_chunk_sum():
    ingot = with_zstd(zframe(bytes(64)))
    ingot.entries[0].frames()[0].words[0] -= 1
    return ingot


def bent_hash(weight):
    weight.frames()[0].hash = 5
    return weight


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
