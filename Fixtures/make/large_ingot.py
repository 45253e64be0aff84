"""An ingot of as many weights as the largest models have, to measure how long one takes to open: 61 layers of 820 experts of three
MXFP4 matrices (150,060 weights, 300,120 frames, 4.4 million chunks), all zeros, in 154 MB.

    python3 Fixtures/make/large_ingot.py FILE
"""

import sys

from ingot import Frame, Ingot, Weight

LAYERS, EXPERTS, ROWS, COLUMNS = 61, 820, 2048, 7168


def main(path):
    entries = []
    codes, scales = Frame(bytes(ROWS * COLUMNS // 2), "zstd"), Frame(bytes(ROWS * COLUMNS // 32), "zstd")
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            for matrix in ("gate", "up", "down"):
                parts = []
                for name, dtype, dims, frame in [("values", "U8", [ROWS, COLUMNS // 2], codes),
                                                 ("scales", "F8_E8M0", [ROWS, COLUMNS // 32], scales)]:
                    copy = Frame(b"", "zstd")
                    copy.__dict__.update(frame.__dict__)
                    parts.append((name, dtype, dims, copy))
                entries.append(Weight(f"blk.{layer}.ffn_{matrix}_exps.weight#{expert}", "mxfp4", [ROWS, COLUMNS], parts,
                                      layer, expert))
    ingot = Ingot(entries)
    with open(path, "wb") as file:
        file.write(ingot.build()[0])


main(sys.argv[1])
