#!/usr/bin/env python3
"""Accuracy of weight pruning without retraining, by criterion, scope and sparsity, as a Markdown table.

usage: prune_weights.py --secateur BIN --corpus DIR [--samples N] > docs/prune-weights-table.md

Statistics come from the first N training images of MNIST, accuracy from its 10,000 test images; both run in tract.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

MODELS = {"LeNet-300-100": "lenet_300_100_mnist", "LeNet-5": "lenet5_mnist"}
CRITERIA = ("magnitude", "gradient", "taylor", "fisher", "wanda", "random")
SPARSITIES = (0.5, 0.8, 0.9, 0.95)
SCOPES = ("layer", "global")


def run(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secateur", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    print("# Weight pruning without retraining\n")
    print(f"Top-1 accuracy in percent on the 10,000 test images of MNIST; statistics from the first {args.samples} training images.")
    print("Made by `benches/compare/prune_weights.py`. The best criterion of a column is in bold.")
    with tempfile.TemporaryDirectory() as folder:
        spec = {}
        for role, part, more in (("test", "test", "batch: 100"), ("train", "train", f"samples: {args.samples}")):
            spec[role] = os.path.join(folder, f"{role}.yaml")
            with open(spec[role], "w") as file:
                data = os.path.abspath(os.path.join(args.corpus, "data", "mnist_u8.npz"))
                file.write(f"npz: {data}\ninputs: {{input: x_{part}}}\nlabels: y_{part}\npreprocess: mnist\n{more}\n")
        for title, name in MODELS.items():
            model = os.path.join(args.corpus, "models", "trained", name + ".onnx")
            stats, pruned = (os.path.join(folder, name + end) for end in (".safetensors", ".onnx"))
            run(args.secateur, "stats", model, "--for", "gradients", "--data", spec["train"], "-o", stats, "--json")
            accuracy = lambda path: run(args.secateur, "evaluate", path, "--data", spec["test"], "--latency-runs", "0", "--json")["accuracy"]
            for scope in SCOPES:
                rows = {}
                for criterion in CRITERIA:
                    options = {"wanda": ["--data", f"calibration={spec['train']}"]}.get(criterion, [])
                    if criterion in ("gradient", "taylor", "fisher"):
                        options = ["--stats", stats]
                    rows[criterion] = []
                    for sparsity in SPARSITIES:
                        run(args.secateur, "prune-weights", model, "-o", pruned, "--criterion", criterion, "--scope", scope,
                            "--sparsity", str(sparsity), "--force", "--json", *options)
                        rows[criterion].append(accuracy(pruned))
                print(f"\n## {title}, ranked by {scope} ({100 * accuracy(model):.2f} % dense)\n")
                print("| criterion |" + "".join(f" {sparsity:.0%} |" for sparsity in SPARSITIES))
                print("|---|" + "---|" * len(SPARSITIES))
                best = [max(row[column] for row in rows.values()) for column in range(len(SPARSITIES))]
                for criterion, row in rows.items():
                    cells = [f"{100 * value:.2f}" for value in row]
                    cells = [f"**{cell}**" if value == top else cell for cell, value, top in zip(cells, row, best)]
                    print(f"| {criterion} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
