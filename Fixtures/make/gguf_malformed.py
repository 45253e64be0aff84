#!/usr/bin/env python3
"""Writes Fixtures/malformed/gguf: one small GGUF file a fault, and beside it what a reader must say.

    python3 Fixtures/make/gguf_malformed.py

<fault>.json holds: code (the refusal), offset (the byte, where the rule fixes it), subject (tensor or key), file (the
part at fault, for a model of several files, which are a folder), note (what is wrong). The rule numbers are those of
Formats/gguf.md. Needs nothing but Python.
"""
import json
import os
import shutil
import struct

HERE = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "malformed", "gguf"))
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def kv(key, kind, value):
    """A key with its value; `value` may be raw bytes for an array."""
    head = text(key) + struct.pack("<I", kind)
    if kind == STR:
        return head + text(value)
    if isinstance(value, bytes):
        return head + value
    return head + struct.pack("<" + FORMAT[kind], value)


def array(kind, count, content=b""):
    return struct.pack("<IQ", kind, count) + content


def info(name, dims, kind, offset, rank=None):
    return (text(name) + struct.pack("<I", len(dims) if rank is None else rank)
            + b"".join(struct.pack("<Q", dim & (2**64 - 1)) for dim in dims) + struct.pack("<IQ", kind, offset))


def model(kvs, infos, data, alignment=32, version=3, n_tensors=None, n_kv=None):
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos) if n_tensors is None else n_tensors,
                                 len(kvs) if n_kv is None else n_kv)
    head += b"".join(kvs) + b"".join(infos)
    return head + bytes(-len(head) % alignment) + data


ARCH = kv("general.architecture", STR, "golden")
A, B = info("a", [8], 0, 0), info("b", [32, 2], 8, 32)
DATA = bytes(range(32)) + bytes(96)  # a: 32 bytes; b: 68 bytes and padding
GOOD = model([ARCH], [A, B], DATA)


def note(fault, code, why, offset=None, subject=None, **more):
    expected = {"code": code, "note": why}
    if offset is not None:
        expected["offset"] = offset
    if subject is not None:
        expected["subject"] = subject
    expected.update(more)
    path = os.path.join(HERE, fault + ".json")
    assert not os.path.exists(path), fault
    with open(path, "w") as out:
        json.dump(expected, out, indent=2, ensure_ascii=True)
        out.write("\n")


def raw(fault, code, content, why, offset=None, subject=None):
    with open(os.path.join(HERE, fault + ".gguf"), "wb") as out:
        out.write(content)
    note(fault, code, why, offset, subject)


def key(fault, code, entry, why, skip=None, subject=None, last=False):
    """A good file with one more key; the fault is `skip` bytes into it."""
    kvs = [ARCH, entry]
    content = model(kvs, [], b"") if last else model(kvs, [A, B], DATA)
    raw(fault, code, content, why, None if skip is None else 24 + len(ARCH) + skip, subject)


def tensor(fault, code, entry, why, skip=None, subject=None, data=DATA, before=(A,)):
    """A good file with one more tensor behind `before`; the fault is `skip` bytes into it."""
    start = 24 + len(ARCH) + sum(map(len, before))
    raw(fault, code, model([ARCH], [*before, entry], data), why, None if skip is None else start + skip, subject)


def parts(fault, code, files, why, opened, **more):
    folder = os.path.join(HERE, fault)
    os.makedirs(folder)
    for name, content in files.items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(content)
    note(fault, code, why, opened=opened, **more)


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    # 31
    raw("magic-wrong", "GG_MAGIC", b"GGUX" + GOOD[4:], "the magic is not GGUF", 0)
    raw("magic-swapped", "GG_MAGIC", b"FUGG" + GOOD[4:], "the magic of a big-endian writer", 0)
    raw("magic-ggjt", "GG_MAGIC", b"tjgg" + GOOD[4:], "a format before GGUF", 0)
    raw("magic-zip", "GG_MAGIC", b"PK\x03\x04" + bytes(60), "a zip archive", 0)
    raw("big-endian", "GG_MAGIC", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "a big-endian version", 4, "version")
    raw("lfs-pointer", "SRC_LFS_POINTER",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4242\n", "a git-LFS pointer")
    raw("html", "SRC_NOT_WEIGHTS", b"<!DOCTYPE html><html><body>404</body></html>", "a web page")
    # 32
    for version in (0, 1, 4, 2**31):
        raw(f"version-{version}", "GG_VERSION", model([ARCH], [A, B], DATA, version=version),
            f"version {version}", 4, "version")
    # 33
    raw("tensors-negative", "GG_COUNT", model([ARCH], [A, B], DATA, n_tensors=2**64 - 1), "-1 tensors", 8, "n_tensors")
    raw("tensors-over-limit", "GG_COUNT", model([ARCH], [], b"", n_tensors=2**18 + 1), "2^18 + 1 tensors", 8, "n_tensors")
    raw("tensors-beyond-file", "GG_COUNT", model([ARCH], [A, B], DATA, n_tensors=100), "more than fit", 8, "n_tensors")
    raw("tensors-wrap", "GG_COUNT", model([ARCH], [A, B], DATA, n_tensors=2**61), "a table whose size wraps", 8, "n_tensors")
    raw("keys-negative", "GG_COUNT", model([ARCH], [A, B], DATA, n_kv=2**64 - 1), "-1 keys", 16, "n_kv")
    raw("keys-over-limit", "GG_COUNT", model([ARCH], [A, B], DATA, n_kv=2**16 + 1), "2^16 + 1 keys", 16, "n_kv")
    raw("keys-beyond-file", "GG_COUNT", model([ARCH], [A, B], DATA, n_kv=1000), "more than fit", 16, "n_kv")
    raw("keys-wrap", "GG_COUNT", model([ARCH], [A, B], DATA, n_kv=2**60), "a table whose size wraps", 16, "n_kv")
    # 34
    key("key-empty", "GG_STRING", kv("", U8, 1), "an empty key", 0)
    key("key-control", "GG_STRING", kv("a\x1b[2J", U8, 1), "a control character in a key", 0)
    key("key-not-utf8", "GG_STRING", kv(b"a\xff", U8, 1), "a key that is not UTF-8", 0)
    key("key-too-long", "GG_STRING", kv("k" * 65536, U8, 1), "a key of 65,536 bytes", 0)
    key("key-length-wraps", "GG_STRING", struct.pack("<Q", 2**64 - 1) + bytes(32), "a length of 2^64 - 1", 0)
    key("key-beyond-file", "GG_STRING", struct.pack("<Q", 5000) + bytes(32), "a key longer than the rest", 0)
    key("string-beyond-file", "GG_STRING", text("s") + struct.pack("<IQ", STR, 5000), "a string over the rest", 13, "s")
    key("string-length-wraps", "GG_STRING", text("s") + struct.pack("<IQ", STR, 2**64 - 1), "2^64 - 1 bytes", 13, "s")
    key("string-over-limit", "GG_STRING", text("s") + struct.pack("<IQ", STR, 2**24 + 1), "over 16 MiB", 13, "s")
    key("string-not-utf8", "GG_STRING", kv("s", STR, b"\xc3"), "a string that is not UTF-8", 13, "s")
    key("array-string-wraps", "GG_STRING", kv("s", ARR, array(STR, 2, text("x") + struct.pack("<Q", 2**64 - 1))),
        "a string of 2^64 - 1 bytes in an array", 34, "s")
    key("array-string-not-utf8", "GG_STRING", kv("s", ARR, array(STR, 1, text(b"\xe2\x82"))), "not UTF-8", 25, "s")
    key("array-string-cut", "GG_STRING", kv("s", ARR, array(STR, 1, struct.pack("<Q", 900))), "beyond the file", 25, "s",
        last=True)
    # 35
    key("type-13", "GG_TYPE", text("t") + struct.pack("<I", 13) + bytes(8), "the value type 13", 9, "t")
    key("type-max", "GG_TYPE", text("t") + struct.pack("<I", 2**32 - 1) + bytes(8), "the value type 2^32 - 1", 9, "t")
    key("array-type-13", "GG_TYPE", kv("t", ARR, array(13, 1, bytes(8))), "an array of the type 13", 13, "t")
    key("array-of-arrays", "GG_TYPE", kv("t", ARR, array(ARR, 1, array(U8, 1, b"\x01"))), "an array of arrays", 13, "t")
    # 36
    key("array-beyond-file", "GG_ARRAY", kv("t", ARR, array(U32, 5000)), "more elements than the rest holds", 17, "t")
    key("array-wraps", "GG_ARRAY", kv("t", ARR, array(U64, 2**61)), "a size that wraps to 0", 17, "t")
    key("array-max", "GG_ARRAY", kv("t", ARR, array(U8, 2**64 - 1)), "2^64 - 1 elements", 17, "t")
    key("array-strings-wrap", "GG_ARRAY", kv("t", ARR, array(STR, 2**61)), "a table of strings that wraps", 17, "t")
    # 37
    raw("key-twice", "GG_DUPLICATE", model([ARCH, ARCH], [A, B], DATA), "a key twice", 24 + len(ARCH), "general.architecture")
    tensor("tensor-twice", "GG_DUPLICATE", info("a", [8], 0, 32), "a tensor twice", 0, "a")
    # 38
    for name, kind, value in [("zero", U32, 0), ("not-a-power", U32, 48), ("small", U32, 4), ("large", U32, 131072),
                              ("u64", U64, 32), ("string", STR, "32"), ("max", U32, 2**32 - 1)]:
        key(f"alignment-{name}", "GG_ALIGN", kv("general.alignment", kind, value), f"the alignment {value!r}",
            29, "general.alignment")
    # 39
    tensor("name-64", "GG_NAME", info("n" * 64, [8], 0, 32), "a name of 64 bytes", 0)
    tensor("name-wraps", "GG_NAME", struct.pack("<Q", 2**64 - 1) + bytes(40), "a length of 2^64 - 1", 0)
    tensor("name-empty", "GG_NAME", info("", [8], 0, 32), "an empty name", 0)
    tensor("name-nul", "GG_NAME", info("a\x00b", [8], 0, 32), "a NUL in a name", 0)
    tensor("name-bidi", "GG_NAME", info("a\u202eb", [8], 0, 32), "a direction mark in a name", 0)
    tensor("name-not-utf8", "GG_NAME", info(b"a\xff", [8], 0, 32), "a name that is not UTF-8", 0)
    # 40
    tensor("rank-0", "GG_DIMS", info("x", [], 0, 32), "no dimension", 9, "x")
    tensor("rank-5", "GG_DIMS", info("x", [1] * 5, 0, 32), "5 dimensions", 9, "x")
    tensor("rank-max", "GG_DIMS", info("x", [1] * 4, 0, 32, rank=2**32 - 1), "2^32 - 1 dimensions", 9, "x")
    tensor("dim-0", "GG_DIMS", info("x", [8, 0], 0, 32), "a dimension of 0", 21, "x")
    tensor("dim-negative", "GG_DIMS", info("x", [8, -1], 0, 32), "a dimension of -1", 21, "x")
    tensor("dims-wrap", "GG_DIMS", info("x", [2**32, 2**32], 0, 32), "a product that wraps to 0", 13, "x")
    tensor("dims-wrap-to-small", "GG_DIMS", info("x", [2**61 + 1, 8], 0, 32), "a product that wraps to 8", 13, "x")
    tensor("bytes-wrap", "GG_DIMS", info("x", [2**62], 28, 32), "bytes that wrap to 0", 13, "x")
    # 41
    tensor("block-q8-0", "GG_BLOCK", info("x", [33, 2], 8, 32), "rows of 33 in blocks of 32", 13, "x")
    tensor("block-q4-k", "GG_BLOCK", info("x", [32, 8], 12, 32), "rows of 32 in blocks of 256", 13, "x")
    # 42
    for kind in (4, 31, 38, 43, 2**32 - 1):
        tensor(f"tensor-type-{kind}", "GG_TENSOR_TYPE", info("x", [256], kind, 32), f"the type {kind}", 21, "x")
    # 43
    tensor("offset-unaligned", "GG_OFFSET", info("x", [8], 0, 33), "an offset of 33", 25, "x")
    tensor("offset-hole", "GG_OFFSET", info("x", [8], 0, 64), "32 bytes that nobody owns", 25, "x")
    tensor("offset-beyond-file", "GG_OFFSET", info("x", [8], 0, 2**40), "an offset beyond the file", 25, "x")
    tensor("offset-max", "GG_OFFSET", info("x", [8], 0, 2**64 - 32), "an offset that wraps", 25, "x")
    tensor("size-wraps", "GG_OFFSET", info("x", [2**63 - 33], 24, 32), "offset and size that wrap", 29 - 4, "x")
    tensor("padding-wraps", "GG_OFFSET", info("x", [2**63 - 32 - 1], 24, 32), "padding that wraps", 25, "x")
    raw("first-offset", "GG_OFFSET", model([ARCH], [info("a", [8], 0, 32)], bytes(64)), "the first tensor at 32",
        24 + len(ARCH) + 25, "a")
    raw("trailing", "GG_OFFSET", GOOD + bytes(32), "32 bytes after the last tensor", len(GOOD))
    # 44
    tensor("overlap", "GG_OVERLAP", info("x", [8], 0, 0), "two tensors at 0", 25, "x")
    tensor("overlap-later", "GG_OVERLAP", info("x", [8], 0, 32), "the start of the tensor before", 25, "x",
           before=(A, B))
    # 45
    raw("empty", "GG_TRUNCATED", b"", "no byte", 0)
    raw("header-cut", "GG_TRUNCATED", GOOD[:20], "a header of 20 bytes", 16, "n_kv")
    raw("data-cut", "GG_TRUNCATED", GOOD[:-40], "12 bytes are missing", len(GOOD) - 40, "b")
    raw("data-absent", "GG_TRUNCATED", GOOD[:-128], "no data at all", len(GOOD) - 128, "a")
    raw("size-huge", "GG_TRUNCATED", model([ARCH], [info("a", [2**40], 0, 0)], bytes(32)), "4 TiB in a small file", None, "a")
    # 46
    def part(number, count, total, name, arch=True):
        keys = ([ARCH] if arch else []) + [kv("split.no", U16, number), kv("split.tensors.count", I32, total),
                                           kv("split.count", U16, count)]
        return model(keys, [info(name, [8], 0, 0)], bytes(32))

    raw("concatenated", "GG_SPLIT", GOOD + GOOD, "two files in one", len(GOOD))
    raw("split-no-over-count", "GG_SPLIT", part(2, 2, 2, "a"), "part 2, counted from 0, of 2", None, "split.no")
    raw("split-no-alone", "GG_SPLIT", model([ARCH, kv("split.no", U16, 1)], [A, B], DATA), "part 1 of a whole file", None,
        "split.no")
    raw("split-count-string", "GG_SPLIT", model([ARCH, kv("split.count", STR, "2")], [A, B], DATA), "a count that is text",
        24 + len(ARCH), "split.count")
    raw("split-count-negative", "GG_SPLIT", model([ARCH, kv("split.count", I32, -2)], [A, B], DATA), "a count of -2",
        24 + len(ARCH), "split.count")
    raw("split-name", "GG_SPLIT", part(0, 2, 2, "a"), "a part whose name says nothing of parts", None, "split.count")
    raw("split-total-alone", "GG_SPLIT", model([ARCH, kv("split.tensors.count", I32, 3)], [A, B], DATA), "3 of 2 tensors",
        None, "split.tensors.count")
    one, two = "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"
    good = {one: part(0, 2, 2, "a"), two: part(1, 2, 2, "b", False)}
    parts("split-missing", "GG_SPLIT", {one: good[one]}, "the second part is absent", one, subject="split.count")
    parts("split-second-first", "GG_SPLIT", good, "the second part was opened", two, subject="split.no")
    parts("split-counts-disagree", "GG_SPLIT", {one: good[one], two: part(1, 3, 2, "b", False)}, "2 and 3 parts", one,
          file=two, subject="split.count")
    parts("split-same-part", "GG_SPLIT", {one: good[one], two: good[one]}, "the first part twice", one,
          file=two, subject="split.no")
    parts("split-total", "GG_SPLIT", {one: part(0, 2, 3, "a"), two: part(1, 2, 3, "b", False)}, "3 of 2 tensors", one,
          subject="split.tensors.count")
    parts("split-tensor-twice", "GG_DUPLICATE", {one: good[one], two: part(1, 2, 2, "a", False)}, "a tensor in both", one,
          file=two, subject="a")
    # 47
    key("bool-2", "GG_BOOL", kv("t", BOOL, 2), "a bool of 2", 13, "t")
    key("array-bool-255", "GG_BOOL", kv("t", ARR, array(BOOL, 2, b"\x01\xff")), "a bool of 255 in an array", 26, "t")


main()
