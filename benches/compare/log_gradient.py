#!/usr/bin/env python3
"""Low-bit weights by gradients beside plain per-channel rounding, as a Markdown table.

usage: log_gradient.py --secateur BIN --corpus DIR [--only NAME] [--bits N ...] [--rows N] > docs/log-gradient-table.md

LeNet-5: gradients on the first 2,000 training images of MNIST, accuracy and SQNR on its 10,000 test images. EfficientNet-Lite0:
gradients and second moments on 64 labelled images, accuracy and SQNR on 350 others. Everything runs in tract.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib

OPERATORS = ["Conv", "Gemm", "MatMul"]
# Title, type, the other options.
ROWS = (
    ("plain", "int4", {}),
    ("log-gradient, at most 4 bits", "int4", {"criterion": "log-gradient"}),
    ("log-gradient, at most 8 bits", "int8", {"criterion": "log-gradient"}),
    ("log-gradient, at most 8 bits, by layer", "int8", {"criterion": "log-gradient", "widths": "layer"}),
    ("plain, GPTQ codes", "int4", {"rounding": "gptq"}),
    ("log-gradient, at most 4 bits, GPTQ codes", "int4", {"criterion": "log-gradient", "rounding": "gptq"}),
    ("log-gradient, at most 8 bits, GPTQ codes", "int8", {"criterion": "log-gradient", "rounding": "gptq"}),
)


def run(*arguments, codes=(0,)):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode not in codes:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


def details(report):
    """Bits of codes and of storage, from the last line of what the step says of its bits."""
    for step in report["steps"]:
        for change in step["changes"]:
            if change["rule"] == "bits dealt out":
                words = change["details"][-1].split()
                return float(words[1]), float(words[-1])
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secateur", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--rows", type=int, default=len(ROWS), help="so many rows of each table")
    args = parser.parse_args()
    corpus = os.path.abspath(args.corpus)
    mnist = {"npz": f"{corpus}/data/mnist_u8.npz", "preprocess": "mnist"}
    images = lambda part: {"images": {"folder": f"{corpus}/data/imagenet/{part}", "labels": "labels.tsv", "preprocess": "efficientnet-lite"}}
    models = {
        "LeNet-5": ("trained/lenet5_mnist", {**mnist, "inputs": {"input": "x_train"}, "labels": "y_train", "samples": 2000},
                    {**mnist, "inputs": {"input": "x_test"}, "labels": "y_test", "batch": 100}),
        "EfficientNet-Lite0": ("pretrained/efficientnet_lite0", images("calibration"), images("evaluation")),
    }
    print("# Low-bit weights by gradients\n")
    print("\n".join((__doc__.split("\n\n")[2].strip(), "Made by `benches/compare/log_gradient.py`.\n")))
    print("`bits`: of the codes in use, in the mean over all weights of Conv and Gemm; one scale a channel in every row. `stored`: bits of the types that")
    print("they are stored in. `packed`: the file after zlib, level 9. SQNR: of the first output, the class scores, against the float model.")
    print("At 4 bits in a type of 4 there is nothing to deal out: scales and codes alone make the difference. A type of 8 holds channels of")
    print("more than 4 bits at the price of a larger file; by layer, few layers pay it. A mean can stay below what was asked for where the next layer is too")
    print("large for what is left.")
    with tempfile.TemporaryDirectory() as folder:
        for title, (name, training, evaluation) in models.items():
            if args.only and args.only not in title:
                continue
            source, out, data = f"{corpus}/models/{name}.onnx", f"{folder}/out.onnx", f"{folder}/evaluation.yaml"
            with open(data, "w") as file:
                json.dump(evaluation, file)
            base, stats = f"{folder}/base.onnx", f"{folder}/stats.safetensors"
            run(args.secateur, "simplify", source, "-o", base, "--force", "--no-verify", "--json")
            with open(f"{folder}/training.yaml", "w") as file:
                json.dump(training, file)
            run(args.secateur, "stats", base, "--for", "gradients", "--data", f"{folder}/training.yaml", "-o", stats, "--force", "--json")
            accuracy = lambda path: 100 * run(args.secateur, "evaluate", path, "--data", data, "--latency-runs", "0", "--json")["accuracy"]
            print(f"\n## {title} ({accuracy(source):.2f} % in float, {os.path.getsize(base):,} bytes)\n")
            print("| weights | bits | stored | bytes | packed | top-1 % | SQNR dB |")
            print("|---|---:|---:|---:|---:|---:|---:|")
            for bits in args.bits:
                for what, kind, options in ROWS[:args.rows]:
                    step = {"type": kind, "bits": bits, "operators": OPERATORS, "minimum-elements": 0, **options}
                    if options.get("criterion") == "log-gradient":
                        step["gradient-stats"] = stats
                    pipeline = {"version": 1, "data": {"calibration": {k: v for k, v in training.items() if k != "labels"}},
                                "steps": [{"quantize-weights": step}]}
                    with open(f"{folder}/pipeline.yaml", "w") as file:
                        json.dump(pipeline, file)
                    report = run(args.secateur, "run", f"{folder}/pipeline.yaml", base, "-o", out, "--force", "--no-verify", "--json")
                    used, stored = details(report) or (bits, 4)
                    compared = run(args.secateur, "verify", base, out, "--data", data, "--json", codes=(0, 1))
                    sqnr = compared["outputs"][0]["sqnr_db"]
                    with open(out, "rb") as file:
                        content = file.read()
                    print(f"| {what} | {used:.2f} | {stored:.2f} | {len(content):,} | {len(zlib.compress(content, 9)):,} | {accuracy(out):.2f} | {sqnr:.1f} |", flush=True)


if __name__ == "__main__":
    main()
