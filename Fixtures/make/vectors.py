"""Makes Formats/vectors: number formats as ml_dtypes (versions in each file's first line) sees them.

    python3 Fixtures/make/vectors.py [model.safetensors of a DeepSeek V4 checkpoint with FP4 experts]

Run from the repository's root. Without the argument mxfp4.txt is left as it is. The build never runs this.

    NAME.txt          code, bits of its float32 value; all codes
    NAME.encode.txt   bits of x, bits of the scale, code of rne(x / scale), saturated; or bits of x, code
    weights.txt       whole weights: parts in hex, float32 bits of every value
"""
import json
import pathlib
import struct
import sys

import ml_dtypes
import numpy as np

OUT = pathlib.Path("Formats/vectors")
STAMP = f"made by Fixtures/make/vectors.py with ml_dtypes {ml_dtypes.__version__}, numpy {np.__version__}"
SEED = 20260801

E4M3, E5M2, E2M1, E8M0 = (
    ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e8m0fnu)
LARGEST = {"e4m3": 448.0, "e5m2": 57344.0, "e2m1": 6.0, "int8": 127.0}
TYPES = {"e4m3": E4M3, "e5m2": E5M2, "e2m1": E2M1}


def bits(values):
    return [f"{b:08x}" for b in np.asarray(values, np.float32).reshape(-1).view(np.uint32)]


def write(name, what, lines):
    text = f"# {what}\n# {STAMP}\n" + "\n".join(lines) + "\n"
    (OUT / name).write_text(text)
    print(f"{name}: {len(lines)} lines")


def codes_of(x, kind):
    """Codes of float32 x by ml_dtypes' nearest-even cast, saturated first."""
    x = np.asarray(x, np.float32)
    if kind == "int8":
        return np.clip(np.rint(x), -127, 127).astype(np.int8).view(np.uint8)
    return np.clip(x, -LARGEST[kind], LARGEST[kind]).astype(TYPES[kind]).view(np.uint8)


def decode_all(kind, count):
    values = np.arange(count, dtype=np.uint8).view(TYPES.get(kind, E8M0)).astype(np.float32)
    write(f"{kind}.txt", "code, bits of its float32 value (7fc00000, ffc00000: not a number)",
          [f"{c:02x} {b}" for c, b in enumerate(bits(values))])
    return values


def scaled_cases(kind, values):
    """Ties between neighbours, their float32 neighbours, the values, subnormals, saturation, random scales."""
    rng = np.random.default_rng(SEED)
    positive = np.unique(values[np.isfinite(values) & (values >= 0)]).astype(np.float32)
    ties = ((positive[1:].astype(np.float64) + positive[:-1]) / 2).astype(np.float32)
    top = np.float32(LARGEST[kind])
    step = top - positive[-2]
    around = np.concatenate([ties, positive, [top + step / 2, top + step, top * 2]]).astype(np.float32)
    inf = np.float32(np.inf)
    x = np.concatenate([
        around, np.nextafter(around, inf), np.nextafter(around, -inf),
        [0, 1e-45, 1.1754944e-38, 1e-8, 3.4028235e38, inf]]).astype(np.float32)
    x = np.concatenate([x, -x])
    scale = np.ones_like(x)
    # Scales that are no powers of two: x / scale is rounded to float32 first, then to the code.
    sx = np.concatenate([rng.standard_normal(160) * 3, rng.standard_normal(80) * 1e-30,
                         rng.standard_normal(80) * 1e30]).astype(np.float32)
    ss = np.exp2(rng.uniform(-9, 3, 320)).astype(np.float32)
    ss[160:240] *= np.float32(2.0 ** -100)
    ss[240:] *= np.float32(2.0 ** 100)
    # Products of a tie and a scale: the division must find the tie again, a product with the reciprocal need not.
    tx = (rng.choice(ties, 64) * rng.choice([-1, 1], 64)).astype(np.float32)
    ts = rng.choice(np.array([3, 5, 7, 0.1, 0.7, 1e-3, 49], np.float32), 64)
    x = np.concatenate([x, sx, (tx * ts).astype(np.float32)])
    scale = np.concatenate([scale, ss, ts])
    with np.errstate(over="ignore"):
        q = (x / scale).astype(np.float32)
    lines = [f"{a} {b} {c:02x}" for a, b, c in zip(bits(x), bits(scale), codes_of(q, kind))]
    write(f"{kind}.encode.txt", "bits of x, bits of the scale, code of rne(x / scale) saturated", lines)


def half_cases(name, dtype):
    """All values' neighbours are too many: every 37th code, its tie upwards, and the ends."""
    codes = np.unique(np.concatenate([
        np.arange(0, 65536, 37), np.arange(0, 40), np.arange(0x7BF8, 0x7C01), np.arange(0x7F70, 0x7F81)]))
    values = codes.astype(np.uint16).view(dtype).astype(np.float32)
    following = (codes + 1).astype(np.uint16).view(dtype).astype(np.float32)
    keep = np.isfinite(values) & np.isfinite(following)
    values, following = values[keep], following[keep]
    ties = ((values.astype(np.float64) + following) / 2).astype(np.float32)
    inf = np.float32(np.inf)
    x = np.concatenate([values, ties, np.nextafter(ties, inf), np.nextafter(ties, -inf),
                        [65519.996, 65520, 65536, 3.4028235e38, 3.3961775e38, inf, -inf, 0.0, -0.0, 1e-45,
                         2.9802322e-08, 2.9802326e-08, -2.9802322e-08]]).astype(np.float32)
    x = np.unique(x.view(np.uint32)).view(np.float32)
    with np.errstate(over="ignore"):
        codes = x.astype(dtype).view(np.uint16)
    write(f"{name}.encode.txt", "bits of x, its code",
          [f"{a} {c:04x}" for a, c in zip(bits(x), codes)])


def scale_bytes(values, dtype):
    """Scales as stored and the float32 they stand for."""
    kinds = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F8_E8M0": E8M0}
    if dtype == "F8_E8M0":
        values = np.exp2(np.round(np.log2(values)))
    stored = np.asarray(values, np.float32).astype(kinds[dtype])
    return stored.tobytes().hex(), stored.astype(np.float32)


def whole_weights():
    """Small weights of every granularity and scale dtype, ragged edges included; numpy repeats each scale."""
    rng = np.random.default_rng(SEED + 1)
    lines = []

    def case(encoding, shape, dtype, codes, scale_dtype, scale_shape, scale_hex, values):
        lines.append(f"{encoding} {shape[0]} {shape[1]} {dtype} {codes} {scale_dtype} "
                     f"{'x'.join(map(str, scale_shape))} {scale_hex} {''.join(bits(values))}")

    rows, columns = 5, 70
    for fmt, dtype in (("e4m3", "F8_E4M3"), ("e5m2", "F8_E5M2")):
        finite = np.array([c for c in range(256)
                           if np.isfinite(np.uint8([c]).view(TYPES[fmt]).astype(np.float32))[0]], np.uint8)
        for granularity, scale_dtype in (
                ("tensor", "F32"), ("tensor", "F8_E8M0"), ("channel", "F32"), ("channel", "BF16"),
                ("block2x32", "F32"), ("block2x32", "F8_E8M0"), ("block3x33", "F16"), ("block1x32", "BF16"),
                ("block", "F32")):
            codes = rng.choice(finite, (rows, columns))
            numbers = codes.view(TYPES[fmt]).astype(np.float32)
            if granularity == "tensor":
                shape, br, bc = (1,), rows, columns
            elif granularity == "channel":
                shape, br, bc = (rows,), 1, columns
            else:
                br, bc = (int(n) for n in (granularity[5:] or "128x128").split("x"))
                shape = (-(-rows // br), -(-columns // bc))
            scale_hex, scales = scale_bytes(np.exp2(rng.uniform(-12, 4, int(np.prod(shape)))), scale_dtype)
            grid = scales.reshape(-(-rows // br), -(-columns // bc))
            full = np.repeat(np.repeat(grid, br, 0)[:rows], bc, 1)[:, :columns]
            case(f"f8_{fmt}.{granularity}", (rows, columns), dtype, codes.tobytes().hex(), scale_dtype, shape,
                 scale_hex, numbers * full)
    for scale_dtype in ("F32", "BF16", "F16"):
        codes = rng.integers(-128, 128, (rows, 9)).astype(np.int8)
        scale_hex, scales = scale_bytes(np.exp2(rng.uniform(-12, 4, rows)), scale_dtype)
        case("int8.channel", (rows, 9), "I8", codes.tobytes().hex(), scale_dtype, (rows,), scale_hex,
             codes.astype(np.float32) * scales[:, None])
    write("weights.txt", "encoding, rows, columns, dtype of the codes, codes, dtype of the scales, their shape, "
          "scales, float32 bits of every value", lines)


def mxfp4_of_checkpoint(path):
    """The first two rows of an expert's w1 as published, decoded with ml_dtypes' own FP4 and E8M0."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()

        def rows(name, count):
            info = header[name]
            width = info["shape"][1]
            file.seek(start + info["data_offsets"][0])
            return np.frombuffer(file.read(count * width), np.uint8).reshape(count, width)

        packed = rows("layers.0.ffn.experts.0.w1.weight", 2)
        scales = rows("layers.0.ffn.experts.0.w1.scale", 2)
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(2, -1)  # column 2j: the low nibble
    values = nibbles.view(E2M1).astype(np.float32) * np.repeat(scales.view(E8M0).astype(np.float32), 32, axis=1)
    write("mxfp4.txt", "two rows of layers.0.ffn.experts.0.w1 of a published layout: codes, scales, float32 bits",
          [f"{packed[r].tobytes().hex()} {scales[r].tobytes().hex()} {''.join(bits(values[r]))}" for r in (0, 1)])


OUT.mkdir(parents=True, exist_ok=True)
for kind, count in (("e4m3", 256), ("e5m2", 256), ("e2m1", 16)):
    scaled_cases(kind, decode_all(kind, count))
decode_all("e8m0", 256)
scaled_cases("int8", np.arange(-127, 128, dtype=np.float32))
half_cases("f16", np.float16)
half_cases("bf16", ml_dtypes.bfloat16)
whole_weights()
if len(sys.argv) > 1:
    mxfp4_of_checkpoint(sys.argv[1])
