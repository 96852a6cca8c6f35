#!/usr/bin/env python3
"""Accuracy that is left when channels are pruned, with and without a refit, by criterion and share of MACs removed.

usage: prune_accuracy.py [--secateur BIN] [-o docs/prune-accuracy.md]

The digits CNN runs on fixtures/, LeNet-5 on the corpus' MNIST images (SECATEUR_CORPUS; left out without it). Each cell is one run of
`prune-channels --target-macs`, whose result is compared with the masked original before it is written, and one of `evaluate`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CRITERIA = ("magnitude", "lamp", "fpgm", "random")
REFITTED = ("magnitude", "reconstruction")
CALIBRATION = 500
SCOPES = ("layer", "global")
REMOVED = (0.1, 0.2, 0.3, 0.5)
SEEDS = 3


def call(binary, *arguments):
    done = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def models(folder):
    """Name, model, description of the evaluation data, calibration data."""
    fixtures = os.path.join(ROOT, "fixtures")
    data = os.path.join(fixtures, "data")
    yield ("digits CNN", os.path.join(fixtures, "digits_cnn.onnx"), os.path.join(data, "digits_test.yaml"),
           os.path.join(data, "digits_calib.npz"))
    corpus = os.environ.get("SECATEUR_CORPUS", "")
    images = os.path.join(corpus, "data", "mnist_u8.npz")
    if not os.path.exists(images):
        return
    source = np.load(images)
    normalised = lambda x: ((x.astype(np.float32) / 255 - 0.1307) / 0.3081).reshape(-1, 1, 28, 28)
    x = normalised(source["x_test"])
    np.savez(os.path.join(folder, "calibration.npz"), x=normalised(source["x_train"][:CALIBRATION]))
    np.savez(os.path.join(folder, "mnist.npz"), x=x, y=source["y_test"].astype(np.int64))
    description = os.path.join(folder, "mnist.yaml")
    with open(description, "w") as file:
        file.write("npz: mnist.npz\nlabels: y\n")
    yield ("LeNet-5", os.path.join(corpus, "models", "trained", "lenet5_mnist.onnx"), description,
           os.path.join(folder, "calibration.npz"))


def accuracy(binary, model, data):
    return call(binary, "evaluate", model, "--data", data)["accuracy"]


def row(binary, folder, model, data, criterion, scope, more):
    cells = []
    for removed in REMOVED:
        found = []
        for seed in range(SEEDS if criterion == "random" else 1):
            target = os.path.join(folder, "cut.onnx")
            call(binary, "prune-channels", model, "-o", target, "--force", "--criterion", criterion, "--scope", scope,
                 "--target-macs", str(1 - removed), "--seed", str(seed), *more)
            found.append(accuracy(binary, target, data))
        cells.append(f"{100 * sum(found) / len(found):.1f}")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target", "release", "secateur"))
    parser.add_argument("-o", "--output", default=os.path.join(ROOT, "docs", "prune-accuracy.md"))
    args = parser.parse_args()
    text = ["# Accuracy after pruning, before and after a refit", "",
            "Accuracy in percent when at least this share of the multiply-accumulates is removed and nothing is retrained. `refit` is least squares on "
            f"300 (digits) or {CALIBRATION} (MNIST) training images without labels. "
            f"`random` is the mean of {SEEDS} seeds. Made by benches/compare/prune_accuracy.py.", ""]
    with tempfile.TemporaryDirectory(prefix="secateur-prune-") as folder:
        for name, model, data, calibration in models(folder):
            text += [f"## {name}: {100 * accuracy(args.secateur, model, data):.1f} % before", "",
                     "| criterion | scope | refit | " + " | ".join(f"{round(100 * r)} %" for r in REMOVED) + " |",
                     "|---|---|---|" + "---:|" * len(REMOVED)]
            refit = ["--refit", "--data", f"calibration={calibration}"]
            rows = [(criterion, "no", []) for criterion in CRITERIA] + [(criterion, "yes", refit) for criterion in REFITTED]
            for criterion, recovery, more in rows:
                for scope in SCOPES:
                    cells = row(args.secateur, folder, model, data, criterion, scope, more)
                    text.append(f"| {criterion} | {scope} | {recovery} | " + " | ".join(cells) + " |")
            text.append("")
    with open(args.output, "w") as file:
        file.write("\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    main()
