#!/usr/bin/env python3
"""Writes Fixtures/malformed: one small file (or folder) a fault, and beside it what a reader must say.

    python3 Fixtures/make/malformed.py

<fault>.json holds: code (the refusal), file (its name where it is not the fault's own), offset (the byte, where the
rule fixes it), subject (tensor or key), note (what is wrong). "warning": true means that the folder is read and the
code is among the warnings. The rule numbers are those of Formats/safetensors.md.
"""
import json, os, shutil, struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "malformed")
FILES = os.path.join(HERE, "safetensors")
FOLDERS = os.path.join(HERE, "directory")
seen = set()


def note(folder, fault, code, text, offset=None, subject=None, **more):
    assert (folder, fault) not in seen, fault
    seen.add((folder, fault))
    expected = {"code": code, "note": text}
    if offset is not None:
        expected["offset"] = offset
    if subject is not None:
        expected["subject"] = subject
    expected.update(more)
    with open(os.path.join(folder, fault + ".json"), "w") as out:
        json.dump(expected, out, indent=2, ensure_ascii=True)
        out.write("\n")


def raw(fault, code, content, text, offset=None, subject=None):
    """A file of exactly these bytes."""
    with open(os.path.join(FILES, fault + ".safetensors"), "wb") as out:
        out.write(content)
    note(FILES, fault, code, text, offset, subject)


def packed(header, data=b""):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header + data


def st(fault, code, header, data, text, at=None, subject=None, nth=0):
    """A file with this header and data; `at` is the text in the header where the fault starts."""
    encoded = header if isinstance(header, bytes) else header.encode()
    offset = None
    if isinstance(at, int):
        offset = at
    elif at is not None:
        needle, position = at.encode(), -1
        for _ in range(nth + 1):
            position = encoded.index(needle, position + 1)
        offset = 8 + position
    raw(fault, code, packed(encoded, data), text, offset, subject)


def tensor(name, dtype, shape, begin, end):
    return f'"{name}":{{"dtype":"{dtype}","shape":{json.dumps(shape, separators=(",", ":"))},"data_offsets":[{begin},{end}]}}'


def header(*members):
    return "{" + ",".join(members) + "}"


def good(*tensors, data=None):
    """A right file: (name, dtype, shape, byte count)…"""
    members, position = [], 0
    for name, dtype, shape, count in tensors:
        members.append(tensor(name, dtype, shape, position, position + count))
        position += count
    return packed(header(*members), bytes(range(256))[:position] if data is None else data)


A = tensor("a", "F32", [2], 0, 8)
DATA = bytes(range(8))


def files():
    # 1
    raw("empty", "ST_TRUNCATED", b"", "no byte at all", 0)
    raw("seven-bytes", "ST_TRUNCATED", b"\x10\0\0\0\0\0\0", "the header length is cut", 7)
    # 2
    raw("length-zero", "ST_HEADER_SIZE", packed("", DATA), "a header of no bytes, then data", 0)
    raw("length-zero-alone", "ST_HEADER_SIZE", bytes(8), "a header of no bytes, and nothing else", 0)
    raw("length-over-limit", "ST_HEADER_SIZE", struct.pack("<Q", 100_000_001) + header(A).encode() + DATA, "one over the limit", 0)
    raw("length-enormous", "ST_HEADER_SIZE", struct.pack("<Q", 2**64 - 1) + header(A).encode() + DATA, "2^64 - 1: adding 8 wraps", 0)
    raw("length-sign", "ST_HEADER_SIZE", struct.pack("<Q", 2**63) + header(A).encode() + DATA, "2^63: negative when signed", 0)
    raw("length-beyond-file", "ST_HEADER_SIZE", packed(header(A), DATA)[:40], "the file ends within the header", 0)
    raw("length-off-by-one", "ST_HEADER_SIZE", struct.pack("<Q", 3) + b"{}", "one byte more than there is", 0)
    raw("gguf", "ST_HEADER_SIZE", b"GGUF\x03\0\0\0" + bytes(16), "a GGUF file under a wrong name", 0)
    raw("zip", "ST_HEADER_SIZE", b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(20), "a PyTorch archive under a wrong name", 0)
    # 3
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 4999802720\n"
    raw("lfs-pointer", "SRC_LFS_POINTER", pointer, "what git leaves when git-lfs is not installed", 0)
    # 4
    raw("html", "SRC_NOT_WEIGHTS", b"<!DOCTYPE html>\n<html><head><title>429</title></head></html>\n", "a web page", 0)
    raw("html-lower", "SRC_NOT_WEIGHTS", b"\n  <html lang=\"en\"><body>Not found</body></html>", "a web page after white space", 0)
    raw("html-bom", "SRC_NOT_WEIGHTS", b"\xef\xbb\xbf<!doctype html><html></html>", "a web page after a byte order mark", 0)
    raw("xml-error", "SRC_NOT_WEIGHTS", b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "an object store's error", 0)
    raw("json-error", "SRC_NOT_WEIGHTS", b'{"error":"Repository not found"}', "a server's error in JSON", 0)
    raw("text-error", "SRC_NOT_WEIGHTS", b"Entry not found", "a server's error in words", 0)
    raw("missing-length", "SRC_NOT_WEIGHTS", header(A).encode() + DATA, "the header without its length", 0)
    # 5
    raw("zero-file", "ST_ZERO_PAGE", bytes(64), "nothing but zeros, as an interrupted download leaves", 0)
    raw("zero-header", "ST_ZERO_PAGE", packed(bytes(32), DATA), "a length and then zeros", 8)
    # 6
    st("not-utf8", "ST_HEADER_JSON", b'{"\xff\xfe":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA, "a name that is not UTF-8", 8 + 2)
    st("not-utf8-overlong", "ST_HEADER_JSON", b'{"\xc0\xaf":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA, "an overlong spelling of a slash", 8 + 2)
    st("leading-space", "ST_HEADER_JSON", " " + header(A), DATA, "the header must begin with '{'", 8)
    st("leading-bom", "ST_HEADER_JSON", b"\xef\xbb\xbf" + header(A).encode(), DATA, "a byte order mark", 8)
    st("list", "ST_HEADER_JSON", "[" + header(A) + "]", DATA, "a list, not an object", 8)
    st("blank", "ST_HEADER_JSON", "        ", b"", "padding without a header", 8)
    st("garbage-after", "ST_HEADER_JSON", header(A) + "x", DATA, "text after the object", 8 + len(header(A)))
    st("second-object", "ST_HEADER_JSON", header(A) + "{}", DATA, "two objects: two readers, two models", 8 + len(header(A)))
    st("newline-padding", "ST_HEADER_JSON", header(A) + "\n\n", DATA, "padding other than spaces", 8 + len(header(A)) + 1)
    st("zero-padding", "ST_HEADER_JSON", header(A) + "\0\0", DATA, "padding other than spaces", 8 + len(header(A)))
    st("unfinished", "ST_HEADER_JSON", header(A)[:-1], DATA, "the closing brace is missing", 8 + len(header(A)) - 1)
    st("trailing-comma", "ST_HEADER_JSON", header(A)[:-1] + ",}", DATA, "a comma before the closing brace", 8 + len(header(A)))
    st("single-quotes", "ST_HEADER_JSON", header(A).replace('"', "'"), DATA, "Python's quotes", 9)
    st("control-in-string", "ST_HEADER_JSON", '{"a\nb":{}}', b"", "a raw newline in a name", 8 + 3)
    st("bad-escape", "ST_HEADER_JSON", '{"\\x41":{}}', b"", "an escape JSON does not have", 8 + 3)
    st("lone-surrogate", "ST_HEADER_JSON", '{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA, "half a surrogate pair")
    st("nan", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', DATA, "NaN is not JSON", "NaN")
    st("leading-zero", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}', DATA, "02 is not JSON", "02")
    st("tensor-is-list", "ST_HEADER_JSON", '{"a":[1]}', b"", "a tensor must be an object", "[1]", "a")
    st("tensor-is-null", "ST_HEADER_JSON", '{"a":null}', b"", "a tensor must be an object", "null", "a")
    st("no-dtype", "ST_HEADER_JSON", '{"a":{"shape":[2],"data_offsets":[0,8]}}', DATA, "dtype is missing", '{"shape"', "a")
    st("no-shape", "ST_HEADER_JSON", '{"a":{"dtype":"F32","data_offsets":[0,8]}}', DATA, "shape is missing", '{"dtype"', "a")
    st("no-offsets", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[2]}}', DATA, "data_offsets is missing", '{"dtype"', "a")
    st("extra-field", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"file":"b"}}', DATA, "a field nobody knows", '"b"', "a")
    st("shape-is-string", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}}', DATA, "a shape must be a list", '"2"', "a")
    st("dimension-is-string", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}', DATA, "a dimension must be a number", '"2"', "a")
    st("one-offset", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}}', DATA, "an end without a begin", "[8]", "a")
    st("three-offsets", "ST_HEADER_JSON", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}', DATA, "one offset too many", "[0,8,8]", "a")
    # 7
    st("deep", "ST_HEADER_LIMIT", '{"a":' * 40 + "1" + "}" * 40, b"", "forty levels", 8 + 5 * 8)
    st("deep-list", "ST_HEADER_LIMIT", '{"a":{"shape":' + "[" * 2000 + "]" * 2000 + "}}", b"", "two thousand lists")
    # 8
    st("duplicate-tensor", "ST_DUPLICATE", header(A, A), DATA, "one name twice", '"a"', "a", nth=1)
    st("duplicate-escaped", "ST_DUPLICATE", header(A, tensor("\\u0061", "F32", [2], 8, 16)), DATA * 2, "one name in two spellings", '"\\u0061"', "a")
    st("duplicate-canonical", "ST_DUPLICATE", header(tensor("\u00e9", "F32", [2], 0, 8), tensor("e\u0301", "F32", [2], 8, 16)), DATA * 2, "two spellings of one visible name", '"e\u0301"')
    st("duplicate-long", "ST_DUPLICATE", '{"__metadata__":{"' + "k" * 5000 + '":"1","' + "k" * 5000 + '":"2"}}', b"", "a note of 5,000 letters twice", '"kkk', nth=1)
    st("duplicate-dtype", "ST_DUPLICATE", '{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', DATA, "two dtypes", '"dtype"', nth=1)
    st("duplicate-offsets", "ST_DUPLICATE", '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]}}', DATA, "two places", '"data_offsets"', nth=1)
    st("duplicate-metadata", "ST_DUPLICATE", header('"__metadata__":{}', '"__metadata__":{}', A), DATA, "two blocks of notes", '"__metadata__"', "__metadata__", nth=1)
    st("duplicate-note", "ST_DUPLICATE", header('"__metadata__":{"k":"1","k":"2"}', A), DATA, "one note twice", '"k"', nth=1)
    # 9
    st("dtype-unknown", "ST_DTYPE", header(tensor("a", "F33", [2], 0, 8)), DATA, "no such dtype", '"F33"', "a")
    st("dtype-lower-case", "ST_DTYPE", header(tensor("a", "f32", [2], 0, 8)), DATA, "dtypes are spelled in capitals", '"f32"', "a")
    st("dtype-long", "ST_DTYPE", header(tensor("a", "F" * 5000, [2], 0, 8)), DATA, "a dtype of 5,000 letters", '"FFF', "a")
    st("dtype-number", "ST_DTYPE", '{"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}}', DATA, "a dtype must be a name", "32", "a")
    # 10
    st("dimension-negative", "ST_NUMBER", header(tensor("a", "F32", [-2], 0, 8)), DATA, "a negative dimension", "-2", "a")
    st("dimensions-negative-twice", "ST_NUMBER", header(tensor("a", "F32", [-1, -2], 0, 8)), DATA, "two negatives make a right product", "-1", "a")
    st("dimension-fraction", "ST_NUMBER", header(tensor("a", "F32", [1.5], 0, 8)), DATA, "half a row", "1.5", "a")
    st("dimension-exponent", "ST_NUMBER", header(A).replace("[2]", "[2e0]"), DATA, "whole numbers are written whole", "2e0", "a")
    st("dimension-infinite", "ST_NUMBER", header(A).replace("[2]", "[1e999]"), DATA, "beyond every number", "1e999", "a")
    st("dimension-over-2-53", "ST_NUMBER", header(tensor("a", "U8", [2**53 + 1], 0, 8)), DATA, "not exact in every reader", str(2**53 + 1), "a")
    st("dimension-over-2-64", "ST_NUMBER", header(tensor("a", "U8", [2**64 + 8], 0, 8)), DATA, "8 once wrapped", str(2**64 + 8), "a")
    st("dimension-minus-zero", "ST_NUMBER", header(A).replace("[2]", "[-0]").replace("8]", "0]"), b"", "zero has no sign", "-0", "a")
    st("offset-negative", "ST_NUMBER", header(tensor("a", "F32", [2], -8, 0)), DATA, "a negative offset", "-8", "a")
    st("offset-over-2-63", "ST_NUMBER", header(tensor("a", "F32", [2], 0, 2**63)), DATA, "negative when signed", str(2**63), "a")
    # 11
    st("rank-nine", "ST_RANK", header(tensor("a", "F32", [1] * 8 + [2], 0, 8)), DATA, "nine dimensions", "[1,1", "a")
    st("rank-thousand", "ST_RANK", header(tensor("a", "F32", [1] * 1000, 0, 4)), DATA[:4], "a thousand dimensions", "[1,1", "a")
    # 12
    st("product-overflow", "ST_OVERFLOW", header(tensor("a", "U8", [2**32, 2**32], 0, 0)), b"", "2^64 elements: 0 once wrapped", "[4294967296", "a")
    st("product-overflow-zero", "ST_OVERFLOW", header(tensor("a", "U8", [2**53, 2**53, 0], 0, 0)), b"", "the product wraps before the zero", "[9007", "a")
    st("product-overflow-behind-zero", "ST_OVERFLOW", header(tensor("a", "U8", [0, 2**53, 2**53], 0, 0)), b"", "a zero hides the overflow from who multiplies from the left", "[0,9007", "a")
    st("bits-overflow", "ST_OVERFLOW", header(tensor("a", "F32", [2**31, 2**31, 1], 0, 0)), b"", "2^62 elements of 32 bits", "[2147483648", "a")
    # 13
    st("subbyte-f4", "ST_SUBBYTE", header(tensor("a", "F4", [3], 0, 2)), DATA[:2], "12 bits", "[3]", "a")
    st("subbyte-f6", "ST_SUBBYTE", header(tensor("a", "F6_E2M3", [3], 0, 3)), DATA[:3], "18 bits", "[3]", "a")
    # 14
    st("offsets-reversed", "ST_OFFSETS", header(tensor("a", "F32", [2], 8, 0)), DATA, "the begin after the end", "[8,0]", "a")
    st("offset-beyond-data", "ST_OFFSETS", header(A, tensor("b", "F32", [2], 1000, 1008)), DATA * 2, "a tensor in no man's land", "[1000,1008]", "b")
    # 15
    st("size-small", "ST_SIZE_MISMATCH", header(tensor("a", "F32", [2], 0, 4)), DATA, "4 bytes for 8", "[0,4]", "a")
    st("size-large", "ST_SIZE_MISMATCH", header(tensor("a", "F32", [1], 0, 8)), DATA, "8 bytes for 4", "[0,8]", "a")
    st("size-scalar", "ST_SIZE_MISMATCH", header(tensor("a", "F32", [], 0, 8)), DATA, "a scalar has one element", "[0,8]", "a")
    st("size-beyond-data", "ST_SIZE_MISMATCH", header(tensor("a", "U8", [8], 0, 2**53)), DATA, "copies 8 PiB if believed", "[0,9007", "a")
    # 16
    st("hole", "ST_LAYOUT", header(A, tensor("b", "F32", [1], 12, 16)), DATA * 2, "4 bytes nobody names", "[12,16]", "b")
    st("hole-at-start", "ST_LAYOUT", header(tensor("a", "F32", [2], 8, 16)), DATA * 2, "the first tensor must be at 0", "[8,16]", "a")
    st("overlap", "ST_LAYOUT", header(A, tensor("b", "F32", [2], 4, 12)), DATA + DATA[:4], "two tensors share 4 bytes", "[4,12]", "b")
    st("same-place", "ST_LAYOUT", header(A, tensor("b", "F32", [2], 0, 8)), DATA, "two tensors share all bytes", "[0,8]", "b", nth=1)
    # 17
    st("trailing-byte", "ST_TRAILING", header(A), DATA + b"\0", "one byte more", 8 + len(header(A)) + 8)
    st("trailing-zip", "ST_TRAILING", header(A), DATA + b"PK\x05\x06" + bytes(18), "two formats in one file", 8 + len(header(A)) + 8)
    st("trailing-no-tensor", "ST_TRAILING", "{}", DATA, "data and no tensor", 10)
    # 18
    st("truncated-by-one", "ST_TRUNCATED", header(A), DATA[:7], "the last byte is missing", 8 + len(header(A)) + 7, "a")
    st("truncated-all-data", "ST_TRUNCATED", header(A, tensor("b", "BF16", [4], 8, 16)), b"", "only the header is there", 8 + len(header(A, tensor("b", "BF16", [4], 8, 16))), "a")
    st("truncated-second", "ST_TRUNCATED", header(A, tensor("b", "BF16", [4], 8, 16)), DATA + DATA[:3], "cut within the second tensor", None, "b")
    # 19
    st("metadata-number", "ST_METADATA", header('"__metadata__":{"k":1}', A), DATA, "a number for a string", "1}", "__metadata__.k")
    st("metadata-nested", "ST_METADATA", header('"__metadata__":{"k":{"l":"m"}}', A), DATA, "an object for a string", '{"l"', "__metadata__.k")
    st("metadata-list", "ST_METADATA", header('"__metadata__":["k"]', A), DATA, "a list for an object", '["k"]', "__metadata__")
    st("metadata-null", "ST_METADATA", header('"__metadata__":null', A), DATA, "null for an object", "null", "__metadata__")
    # 20
    for fault, name, text in [
        ("name-empty", "", "no name"),
        ("name-long", "n" * 1001, "1,001 bytes"),
        ("name-very-long", "n" * 20000, "20,000 bytes"),
        ("name-nul", "a\\u0000b", "a NUL in the name"),
        ("name-newline", "a\\nb", "a line break in the name"),
        ("name-escape", "a\\u001b[2Jb", "a terminal's escape sequence in the name"),
        ("name-delete", "a\x7fb", "a control character above the letters"),
        ("name-c1", "a\u0085b", "a control character of the upper half"),
        ("name-bidi", "a\u202eb", "a mark that turns text round"),
        ("name-arabic-mark", "a\u061cb", "a direction mark"),
        ("name-zero-width", "a\u200bb", "an invisible space"),
    ]:
        st(fault, "ST_NAME", header(tensor(name, "F32", [2], 0, 8)), DATA, text, 9)
    # 21
    st("zero-size-inside", "ST_LAYOUT", header(A, tensor("z", "F32", [0], 4, 4)), DATA, "an empty tensor within another", "[4,4]", "z")
    st("zero-size-beyond", "ST_OFFSETS", header(A, tensor("z", "F32", [0, 4], 16, 16)), DATA, "an empty tensor beyond the data", "[16,16]", "z")


def folder(fault, code, shards, index, text, offset=None, subject=None, **more):
    """A folder with these files and, if there is one, this index."""
    place = os.path.join(FOLDERS, fault)
    os.makedirs(place)
    for name, content in shards.items():
        with open(os.path.join(place, name), "wb") as out:
            out.write(content)
    if index is not None:
        content = index if isinstance(index, bytes) else json.dumps(index).encode()
        with open(os.path.join(place, "model.safetensors.index.json"), "wb") as out:
            out.write(content)
        if isinstance(offset, str):
            offset = content.index(offset.encode())
    note(FOLDERS, fault, code, text, offset, subject, **more)


def index(**lines):
    return {"metadata": {"total_size": 16}, "weight_map": lines}


def folders():
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    a, b = good(("a", "F32", [2], 8)), good(("b", "F32", [2], 8))
    pair = {one: a, two: b}
    # 22
    for fault, value, text in [
        ("path-parent", "../model.safetensors", "the folder above"),
        ("path-dots", "..", "the folder above, bare"),
        ("path-dot", ".", "the folder itself"),
        ("path-absolute", "/etc/passwd", "an absolute path"),
        ("path-subfolder", "parts/model.safetensors", "a folder below"),
        ("path-backslash", "..\\model.safetensors", "the folder above, elsewhere"),
        ("path-drive", "C:model.safetensors", "a drive letter"),
        ("path-nul", "model.safetensors\0.txt", "a NUL"),
        ("path-empty", "", "no name"),
        ("path-long", "m" * 300, "longer than any file name"),
    ]:
        folder(fault, "IDX_PATH", pair, index(b=two, a=value), text, json.dumps(value), "a")
    # 24
    three = {"a": "model-00001-of-00003.safetensors", "b": "model-00002-of-00003.safetensors", "c": "model-00003-of-00003.safetensors"}
    folder("missing-shards", "IDX_MISSING", {three["a"]: a}, index(**three), "two of three shards are not there", None, three["b"], mentions=[three["b"], three["c"]])
    folder("missing-all", "IDX_MISSING", {"config.json": b"{}\n"}, index(a=one, b=two), "an index alone", None, one, mentions=[one, two])
    folder("no-index-incomplete", "IDX_MISSING", {three["a"]: a, three["c"]: b}, None, "shards without index, one of them missing", None, three["b"], mentions=[three["b"]])
    folder("no-index-several", "IDX_MISSING", {"first.safetensors": a, "second.safetensors": b}, None, "two files and nothing that says which is the model", None, "model.safetensors.index.json")
    folder("no-index-last-alone", "IDX_MISSING", {two: b}, None, "the second of two shards alone", None, one, mentions=[one])
    # 25
    folder("index-names-more", "IDX_MISMATCH", pair, index(a=one, b=two, c=two), "the index names a tensor no shard has", f'"{two}"}}}}', "c")
    folder("index-wrong-shard", "IDX_MISMATCH", pair, index(a=two, b=two, c=one), "the tensor is in the other shard", f'"{two}"', "a")
    folder("shard-holds-more", "IDX_MISMATCH", {one: a, two: good(("b", "F32", [2], 8), ("c", "F32", [1], 4))}, index(a=one, b=two), "a shard has a tensor the index does not name", None, "c", file=two)
    # 26
    folder("two-shards", "IDX_DUPLICATE", {one: a, two: good(("b", "F32", [2], 8), ("a", "F32", [2], 8))}, index(a=one, b=two), "one tensor in two shards, of which the index names one", None, "a", file=two, warning=True)
    folder("two-shards-unnamed", "IDX_DUPLICATE", {one: good(("a", "F32", [2], 8), ("c", "F32", [1], 4)), two: good(("b", "F32", [2], 8), ("c", "F32", [1], 4))}, index(a=one, b=two), "one tensor in two shards, of which the index names none", None, "c", file=two)
    folder("two-shards-no-index", "IDX_DUPLICATE", {one: a, two: a}, None, "one tensor in two shards, no index", None, "a", file=two)
    folder("index-key-twice", "IDX_DUPLICATE", pair, f'{{"weight_map":{{"a":"{one}","b":"{two}","a":"{two}"}}}}'.encode(), "the index names a tensor twice", f'"a":"{two}"')
    # 27
    folder("total-size", "IDX_TOTAL", pair, {"metadata": {"total_size": 17}, "weight_map": {"a": one, "b": two}}, "a wrong sum", "17", "metadata.total_size", warning=True)
    folder("total-size-text", "IDX_TOTAL", pair, {"metadata": {"total_size": "16"}, "weight_map": {"a": one, "b": two}}, "a sum in quotes", '"16"', "metadata.total_size", warning=True)
    folder("stale-single", "IDX_MISMATCH", {**pair, "model.safetensors": a}, index(a=one, b=two), "model.safetensors beside an index that does not name it", None, "model.safetensors", warning=True)
    folder("no-index-complete", "IDX_MISSING", pair, None, "all shards and no index", None, "model.safetensors.index.json", warning=True)
    # the index itself
    folder("index-not-json", "IDX_JSON", pair, b'{"weight_map": ', "cut off", 15)
    folder("index-empty", "IDX_JSON", pair, b"", "an empty file", 0)
    folder("index-list", "IDX_JSON", pair, b"[]", "a list", 0, "weight_map")
    folder("index-no-map", "IDX_JSON", pair, {"metadata": {}}, "no weight_map", 0, "weight_map")
    folder("index-map-list", "IDX_JSON", pair, {"weight_map": [one, two]}, "weight_map is a list", "[", "weight_map")
    folder("index-map-empty", "IDX_JSON", pair, {"weight_map": {}}, "weight_map names nothing", "{}", "weight_map")
    folder("index-value-number", "IDX_JSON", pair, {"weight_map": {"a": 1}}, "a number for a name", "1}", "a")
    folder("index-value-null", "IDX_JSON", pair, {"weight_map": {"a": None}}, "null for a name", "null", "a")
    folder("index-deep", "IDX_JSON", pair, b'{"x":' * 60 + b"1" + b"}" * 60, "sixty levels")
    folder("index-lfs", "SRC_LFS_POINTER", pair, b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n", "a pointer", 0)
    folder("index-html", "SRC_NOT_WEIGHTS", pair, b"<!doctype html><p>Rate limited</p>", "a web page", 0)
    # a shard that is wrong by itself
    folder("shard-truncated", "ST_TRUNCATED", {one: a, two: b[:-3]}, index(a=one, b=two), "a shard cut short", None, "b", file=two)
    folder("shard-pointer", "SRC_LFS_POINTER", {one: a, two: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n"}, index(a=one, b=two), "a shard that was not fetched", 0, None, file=two)
    folder("nothing", "SRC_NOT_MODEL", {"config.json": b"{}\n"}, None, "a folder without safetensors")


for place in (FILES, FOLDERS):
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
files()
folders()
print(len([1 for place, _ in seen if place == FILES]), "files,", len([1 for place, _ in seen if place == FOLDERS]), "folders")
