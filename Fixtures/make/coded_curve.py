"""Measures `int8-coded` against GGUF's K types at the same stored size: a table and Formats/coded.svg.

    python3 Fixtures/make/coded_curve.py SMELT MODEL [--results FILE]

SMELT is the built command, MODEL a directory with calibration.txt and evaluation.txt beside its weights. Each type makes an ingot; then
int8-coded makes one of that size: without calibration, with bits shared by sensitivity, and with GPTQ besides. Mean KL over
evaluation.txt. FILE keeps the figures (JSON), and is used instead of measuring where it exists. Needs nothing but Python.
"""

import argparse
import json
import math
import pathlib
import subprocess
import tempfile

TYPES = ["q4_k", "q5_k", "q6_k", "q8_0"]
WAYS = [("int8-coded", []), ("shared by sensitivity", ["cal"]), ("and gptq", ["cal", "--method", "gptq"])]
COLORS = {"K types": "#777777", "int8-coded": "#4a7fb5", "shared by sensitivity": "#3a9a5b", "and gptq": "#c8553d"}


def measure(smelt, model):
    model = pathlib.Path(model)
    text = ["--calibration", model / "calibration.txt"]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        result, report = pathlib.Path(folder, "x.ingot"), pathlib.Path(folder, "x.json")

        def one(kind, way, options):
            quantize = [smelt, "quantize", model, result, "--quiet", "--overwrite", *options]
            subprocess.run(quantize, check=True, stdout=subprocess.DEVNULL)
            verify = [smelt, "verify", model, result, "--text", model / "evaluation.txt", "--json", report, "--overwrite", "--quiet"]
            subprocess.run(verify, check=True, stdout=subprocess.DEVNULL)
            data = json.loads(report.read_text())
            experts = [w["relative_error"] ** 2 for w in data["weights"] if "_exps" in w["name"]]
            found.append({
                "type": kind, "way": way, "bytes": result.stat().st_size, "kl": data["kl"]["mean"],
                "forced": data["kl"]["forced_routing_mean"], "error": sum(experts) / len(experts)})
            return found[-1]["bytes"]

        for kind in TYPES:
            size = one(kind, "K types", ["--scheme", kind, *text])
            for way, options in WAYS:
                more = text if "cal" in options else []
                one(kind, way, ["--scheme", "int8-coded", "--target-size", str(size), *more, *[o for o in options if o != "cal"]])
    return found


def table(found):
    print("| at the size of | | bytes | mean KL | with the source's experts | experts' square error |\n|---|---|---|---|---|---|")
    for f in found:
        name = f["type"] if f["way"] == "K types" else f["way"]
        print(f"| {f['type']} | {name} | {f['bytes']} | {f['kl']:.2e} | {f['forced']:.2e} | {10 * math.log10(f['error']):.1f} dB |")


def draw(found, path):
    width, height, left, bottom = 640, 380, 70, 50
    sizes = [f["bytes"] for f in found]
    kls = [math.log10(f["kl"]) for f in found]
    low, high = math.floor(min(kls) * 2) / 2, math.ceil(max(kls) * 2) / 2

    def x(size):
        return left + (size - min(sizes)) / (max(sizes) - min(sizes)) * (width - left - 30)

    def y(value):
        return 20 + (high - value) / (high - low) * (height - bottom - 20)

    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    step = low
    while step <= high + 1e-9:
        lines.append(f'<path d="M{left} {y(step):.1f}H{width - 30}" stroke="#dddddd"/>')
        lines.append(f'<text x="{left - 6}" y="{y(step) + 4:.1f}" text-anchor="end">{10 ** step:.1e}</text>')
        step += 0.5
    for size in sorted({f["bytes"] for f in found if f["way"] == "K types"}):
        lines.append(f'<text x="{x(size):.1f}" y="{height - bottom + 18}" text-anchor="middle">{size / 1e6:.1f} MB</text>')
    lines.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">size of the ingot; up: mean KL in nats a token</text>')
    for number, (way, color) in enumerate(COLORS.items()):
        points = sorted((f["bytes"], math.log10(f["kl"])) for f in found if f["way"] == way)
        path_data = "L".join(f"{x(size):.1f} {y(kl):.1f}" for size, kl in points)
        lines.append(f'<path d="M{path_data}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(size):.1f}" cy="{y(kl):.1f}" r="4" fill="{color}"/>' for size, kl in points]
        lines.append(f'<text x="{width - 200}" y="{40 + 18 * number}" fill="{color}">{way}</text>')
    path.write_text("\n".join(lines + ["</svg>", ""]))


def main():
    parser = argparse.ArgumentParser(description="int8-coded against K types at the same stored size")
    parser.add_argument("smelt")
    parser.add_argument("model")
    parser.add_argument("--results", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.results and arguments.results.exists():
        found = json.loads(arguments.results.read_text())
    else:
        found = measure(arguments.smelt, arguments.model)
        if arguments.results:
            arguments.results.write_text(json.dumps(found, indent=1))
    table(found)
    draw(found, pathlib.Path(__file__).parent.parent.parent / "Formats" / "coded.svg")


if __name__ == "__main__":
    main()
