#!/usr/bin/env python3
"""Accuracy before and after fine-tuning, by pruning criterion and sparsity, as Markdown tables.

usage: finetune_weights.py --secateur BIN --corpus DIR [--only NAME] [--epochs N] > docs/finetune-weights-table.md

Weights are ranked over the whole model (`scope: global`). Statistics come from the first 2,000 training images of MNIST, training
from all 60,000 (or --samples), accuracy from the 10,000 test images; everything runs in tract.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from prune_weights import CRITERIA, MODELS, SPARSITIES

FEW = 2000
# Sparsities of the steps, each followed by some epochs, the last by more.
GRADUAL = (0.5, 0.7, 0.8, 0.86, 0.9)


def run(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secateur", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of every cell")
    parser.add_argument("--gradual", type=int, default=4, help="epochs after each step of gradual pruning; six times as many at the end; 0: none")
    parser.add_argument("--samples", type=int, default=60000, help="training images")
    args = parser.parse_args()
    npz = os.path.abspath(os.path.join(args.corpus, "data", "mnist_u8.npz"))
    images = lambda part, **more: {"npz": npz, "inputs": {"input": f"x_{part}"}, "labels": f"y_{part}", "preprocess": "mnist", **more}
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        for name, spec in (("test.yaml", images("test", batch=100)), ("few.yaml", images("train", samples=FEW))):
            with open(path(name), "w") as file:
                json.dump(spec, file)
        accuracy = lambda model: 100 * run(args.secateur, "evaluate", model, "--data", path("test.yaml"), "--latency-runs", "0", "--json")["accuracy"]

        def pipeline(model, steps, out):
            described = {"version": 1, "data": {"training": images("train", samples=args.samples), "calibration": images("train", samples=FEW)}, "steps": steps}
            with open(path("pipeline.yaml"), "w") as file:
                json.dump(described, file)
            run(args.secateur, "run", path("pipeline.yaml"), model, "-o", path(out), "--force", "--no-verify", "--json")
            return accuracy(path(out))

        for title, name in MODELS.items():
            if args.only and args.only != title:
                continue
            model = os.path.join(args.corpus, "models", "trained", name + ".onnx")
            run(args.secateur, "stats", model, "--for", "gradients", "--data", path("few.yaml"), "-o", path("stats"), "--force", "--json")
            prune = lambda sparsity, **more: {"prune-weights": {"sparsity": sparsity, "scope": "global", **more}}
            tune = lambda epochs, rate=0.01, decay=0.0: {"finetune": {"epochs": epochs, "learning-rate": rate, "weight-decay": decay, "patience": 100}}
            print(f"\n## {title} ({accuracy(model):.2f} % dense): before, and after {args.epochs} epochs over {args.samples:,} images\n")
            print("| criterion |" + "".join(f" {sparsity:.0%} |" for sparsity in SPARSITIES))
            print("|---|" + "---|" * len(SPARSITIES))
            for criterion in CRITERIA:
                more = {"criterion": criterion}
                if criterion in ("gradient", "taylor", "fisher"):
                    more["stats"] = path("stats")
                cells = []
                for sparsity in SPARSITIES:
                    before = pipeline(model, [prune(sparsity, **more)], "pruned.onnx")
                    cells.append(f"{before:.2f} → {pipeline(path('pruned.onnx'), [tune(args.epochs)], 'tuned.onnx'):.2f}")
                print(f"| {criterion} | " + " | ".join(cells) + " |", flush=True)
            if args.gradual:
                steps = []
                for sparsity in GRADUAL:
                    epochs = args.gradual * (6 if sparsity == GRADUAL[-1] else 1)
                    steps += [prune(sparsity), tune(epochs, 0.03, 2e-4)]
                print(f"\nBy magnitude in steps of {', '.join(f'{sparsity:.0%}' for sparsity in GRADUAL)} with {args.gradual} epochs each and "
                      f"{args.gradual * 6} at the end (rate 0.03, decay 2e-4): {pipeline(model, steps, 'gradual.onnx'):.2f} %.", flush=True)


if __name__ == "__main__":
    main()
