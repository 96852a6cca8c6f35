#!/usr/bin/env python3
"""Accuracy that is left when channels are pruned, before and after a refit and fine-tuning, by criterion and share of MACs removed.

usage: prune_accuracy.py [--secateur BIN] [-o docs/prune-accuracy.md]

The digits CNN runs on fixtures/, LeNet-5 on the corpus' MNIST images and MobileNetV2 on its ImageNet images (SECATEUR_CORPUS; left out
without it). Each cell is one run of `prune channels --target-macs`, whose result is compared with the masked original before it is
written, and one of `evaluate`; rows with fine-tuning run `finetune` in between.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LABELS = ("taylor", "fisher")
CALIBRATION = 500
TRAINING = 10000
REMOVED = (0.1, 0.2, 0.3, 0.5)
SEEDS = 3

# Criterion, scope, refit order or None, epochs of fine-tuning.
SMALL = [(criterion, scope, None, 0)
         for criterion in ("magnitude", "lamp", "fpgm", "wanda", "taylor", "fisher", "reconstruction", "random")
         for scope in ("layer", "global")]
SMALL += [(criterion, scope, "at-once", 0) for criterion in ("magnitude", "reconstruction") for scope in ("layer", "global")]
SMALL += [("reconstruction", "global", "one-by-one", 0), ("magnitude", "layer", None, 2), ("reconstruction", "global", "one-by-one", 2)]
LARGE = [("magnitude", "layer", None, 0), ("magnitude", "layer", "at-once", 0), ("reconstruction", "layer", "at-once", 0),
         ("reconstruction", "global", "at-once", 0), ("reconstruction", "global", "one-by-one", 0)]


def call(binary, *arguments):
    done = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def models(folder):
    """Name, model, rows, description of the evaluation data, calibration data, labelled data for ranking and for training, or None."""
    data = os.path.join(ROOT, "fixtures", "data")
    digits = os.path.join(data, "digits_calib.npz")
    yield ("digits CNN", os.path.join(ROOT, "fixtures", "digits_cnn.onnx"), SMALL, os.path.join(data, "digits_test.yaml"), digits,
           [write(folder, "digits.yaml", f"npz: {digits}\nlabels: y\nbatch: 20\n")] * 2)
    corpus = os.environ.get("SECATEUR_CORPUS", "")
    images = os.path.join(corpus, "data", "mnist_u8.npz")
    if not os.path.exists(images):
        return
    source = np.load(images)
    normalised = lambda x: ((x.astype(np.float32) / 255 - 0.1307) / 0.3081).reshape(-1, 1, 28, 28)
    np.savez(os.path.join(folder, "calibration.npz"), x=normalised(source["x_train"][:CALIBRATION]))
    np.savez(os.path.join(folder, "training.npz"), x=normalised(source["x_train"][:TRAINING]),
             y=source["y_train"][:TRAINING].astype(np.int64))
    np.savez(os.path.join(folder, "mnist.npz"), x=normalised(source["x_test"]), y=source["y_test"].astype(np.int64))
    yield ("LeNet-5", os.path.join(corpus, "models", "trained", "lenet5_mnist.onnx"), SMALL,
           write(folder, "mnist.yaml", "npz: mnist.npz\nlabels: y\nbatch: 100\n"), os.path.join(folder, "calibration.npz"),
           [write(folder, "ranking.yaml", f"npz: training.npz\nlabels: y\nsamples: {CALIBRATION}\n"),
            write(folder, "training.yaml", "npz: training.npz\nlabels: y\nbatch: 20\n")])
    imagenet = os.path.join(corpus, "data", "imagenet")
    described = lambda part, more: f"images: {{ folder: {imagenet}/{part}, preprocess: torchvision{more} }}\n"
    # The BatchNormalizations are folded first: the refit moves weights and biases.
    simple = os.path.join(folder, "mobilenet.onnx")
    yield ("MobileNetV2", (os.path.join(corpus, "models", "pretrained", "mobilenet_v2_torchvision_bn.onnx"), simple), LARGE,
           write(folder, "evaluation.yaml", described("evaluation", ", labels: labels.tsv")),
           write(folder, "calibration.yaml", described("calibration", "")), None)


def accuracy(binary, model, data):
    return call(binary, "evaluate", model, "--data", data)["accuracy"]


def row(binary, folder, model, data, calibration, training, setting):
    criterion, scope, refit, epochs = setting
    more = ["--refit", "--refit-order", refit] if refit else []
    if refit or criterion in ("reconstruction", "wanda"):
        more += ["--data", f"calibration={calibration}"]
    if criterion in LABELS:
        more += ["--data", f"training={training[0]}"]
    cells = []
    for removed in REMOVED:
        found = []
        for seed in range(SEEDS if criterion == "random" else 1):
            target = os.path.join(folder, "cut.onnx")
            call(binary, "prune", "channels", model, "-o", target, "--force", "--criterion", criterion, "--scope", scope,
                 "--target-macs", str(1 - removed), "--seed", str(seed), *more)
            if epochs:
                tuned = os.path.join(folder, "tuned.onnx")
                call(binary, "finetune", target, "-o", tuned, "--force", "--epochs", str(epochs), "--data", f"training={training[1]}")
                target = tuned
            found.append(accuracy(binary, target, data))
        cells.append(f"{100 * sum(found) / len(found):.1f}")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target", "release", "secateur"))
    parser.add_argument("-o", "--output", default=os.path.join(ROOT, "docs", "prune-accuracy.md"))
    parser.add_argument("--only", help="only models with this in their name")
    args = parser.parse_args()
    text = ["# Accuracy after pruning, before and after recovery", "",
            "Accuracy in percent when at least this share of the multiply-accumulates is removed. `refit` is least squares on "
            f"300 (digits), {CALIBRATION} (MNIST) or 64 (ImageNet) training images without labels. `epochs` are of `finetune` with its "
            f"default options on 300 digits or {TRAINING} MNIST images. `taylor` and `fisher` take 300 or {CALIBRATION} labelled images. "
            f"`random` is the mean of {SEEDS} seeds. Made by benches/compare/prune_accuracy.py.", ""]
    with tempfile.TemporaryDirectory(prefix="secateur-prune-") as folder:
        for name, model, rows, data, calibration, training in models(folder):
            if args.only and args.only not in name:
                continue
            if isinstance(model, tuple):
                call(args.secateur, "simplify", model[0], "-o", model[1], "--force")
                model = model[1]
            text += [f"## {name}: {100 * accuracy(args.secateur, model, data):.1f} % before", "",
                     "| criterion | scope | refit | epochs | " + " | ".join(f"{round(100 * r)} %" for r in REMOVED) + " |",
                     "|---|---|---|---:|" + "---:|" * len(REMOVED)]
            for setting in rows:
                cells = row(args.secateur, folder, model, data, calibration, training, setting)
                criterion, scope, refit, epochs = setting
                text.append(f"| {criterion} | {scope} | {refit or 'no'} | {epochs or 'no'} | " + " | ".join(cells) + " |")
                print(text[-1], file=sys.stderr, flush=True)
            text.append("")
    # The rest of the page is prune_recover.py's.
    recovered = ""
    if os.path.exists(args.output):
        with open(args.output) as file:
            _, heading, rest = file.read().partition("\n## Recovered")
        recovered = heading + rest
    with open(args.output, "w") as file:
        file.write("\n".join(text).rstrip() + "\n" + recovered)


if __name__ == "__main__":
    main()
