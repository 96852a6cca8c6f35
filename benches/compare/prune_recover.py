#!/usr/bin/env python3
"""Accuracy after pruning and recovery without labels, beside the accuracy after pruning and a refit alone, with the time of each run.

usage: prune_recover.py [--secateur BIN] [--engine ort|tract] [--only TEXT] [--choose] [--refit] [-o docs/prune-accuracy.md]

The rows are the goals of docs/prune-accuracy.md: MobileNetV2 with 20, 30 and 50 % fewer multiply-accumulates, EfficientNet-Lite0 with 30 %,
on the 1,000 training images of the corpus without their labels; ResNet-8 with 50 % on 10,000 images of CIFAR-10; a ViT with 50 % on MNIST.
Each runs the preset `prune-recover` (variables in the row), then `evaluate` on images that neither the preset nor its constants saw.

With --choose a row runs on 700 of the training images and is judged on the other 300: constants are chosen by that, never by the
evaluation images. With -o the part of the page under "## Recovered" is written anew. Needs the corpus (SECATEUR_CORPUS).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADING = "## Recovered"
HELD_OUT = 300

# Model, share of the multiply-accumulates that stays, variables of the preset, goal in percent.
ROWS = [
    ("MobileNetV2", 0.8, {}, 76.0),
    ("MobileNetV2", 0.7, {}, 74.0),
    ("MobileNetV2", 0.5, {}, 65.0),
    ("EfficientNet-Lite0", 0.7, {}, 80.1),
    ("ResNet-8", 0.5, {}, 79.3),
    ("ViT d64x4", 0.5, {}, 98.2),
]
MODELS = {
    "MobileNetV2": ("models/pretrained/mobilenet_v2_torchvision_bn.onnx", "torchvision"),
    "EfficientNet-Lite0": ("models/pretrained/efficientnet_lite0.onnx", "efficientnet-lite"),
    "ResNet-8": ("models/trained/resnet8_cifar10.onnx", None),
    "ViT d64x4": ("models/trained/vit_d64x4_mnist.onnx", None),
}


def call(binary, *words):
    begin = time.perf_counter()
    done = subprocess.run([binary, *words, "--json"], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout or "{}")
    if done.returncode != 0 and "steps" not in document:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return document, time.perf_counter() - begin


def images(corpus, folder, preprocess, choose):
    """Descriptions of the images to learn from and of those to judge by."""
    source = os.path.join(corpus, "data/imagenet/training")
    if not choose:
        return (
            f"{{images: {{folder: {source}, preprocess: {preprocess}}}, batch: 16}}",
            f"{{images: {{folder: {corpus}/data/imagenet/evaluation, preprocess: {preprocess}, labels: labels.tsv}}, batch: 16}}",
        )
    with open(os.path.join(source, "labels.tsv"), encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    rows = [row for row in rows if row[1].isdigit()]
    random.Random(0).shuffle(rows)
    for part, chosen in (("held", rows[:HELD_OUT]), ("learn", rows[HELD_OUT:])):
        own = os.path.join(folder, part)
        os.makedirs(own, exist_ok=True)
        for name, _ in chosen:
            if not os.path.lexists(os.path.join(own, name)):
                os.symlink(os.path.join(source, name), os.path.join(own, name))
        with open(os.path.join(own, "labels.tsv"), "w", encoding="utf-8") as file:
            file.writelines(f"{name}\t{label}\n" for name, label in chosen)
    return (
        f"{{images: {{folder: {folder}/learn, preprocess: {preprocess}}}, batch: 16}}",
        f"{{images: {{folder: {folder}/held, preprocess: {preprocess}, labels: labels.tsv}}, batch: 16}}",
    )


def arrays(corpus, folder, model, choose):
    """The same for CIFAR-10 and MNIST, normalised as the models expect it."""
    if model == "ResNet-8":
        train = np.load(os.path.join(corpus, "data/cifar10_train10000_u8.npz"))
        test = np.load(os.path.join(corpus, "data/cifar10_test2000_u8.npz"))
        mean, std = ([[[[a]] for a in row]] for row in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
        mean, std = (np.array(row, np.float32).reshape(1, 3, 1, 1) for row in (mean, std))
        parts = [(train["x"], train["y"]), (test["x"], test["y"])]
    else:
        source = np.load(os.path.join(corpus, "data/mnist_u8.npz"))
        mean, std = np.float32(0.1307), np.float32(0.3081)
        parts = [(source["x_train"][:10000], source["y_train"][:10000]), (source["x_test"], source["y_test"])]
    if choose:
        x, y = parts[0]
        cut = len(x) * 7 // 10
        parts = [(x[:cut], y[:cut]), (x[cut:], y[cut:])]
    names = []
    for name, (x, y) in zip(("learn", "judge"), parts):
        x = x.reshape(-1, *((3, 32, 32) if model == "ResNet-8" else (1, 28, 28))).astype(np.float32)
        path = os.path.join(folder, f"{name}.npz")
        np.savez(path, x=(x / 255 - mean) / std, y=y.astype(np.int64))
        names.append(path)
    return f"{{npz: {names[0]}, inputs: {{INPUT: x}}, batch: 64}}", f"{{npz: {names[1]}, inputs: {{INPUT: x}}, labels: y, batch: 64}}"


def accuracy(binary, engine, model, data):
    document, _ = call(binary, "evaluate", model, "--data", f"evaluation={data}", "--engine", engine, "--latency-runs", "0")
    return 100 * document["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target/release/secateur"))
    parser.add_argument("--engine", default="ort")
    parser.add_argument("--only", default="", help="rows whose words contain this, as 'MobileNetV2 0.7'")
    parser.add_argument("--choose", action="store_true", help="learn from 700 training images and judge by the other 300")
    parser.add_argument("--refit", action="store_true", help="also what pruning and refitting alone leaves: a run more for each row")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="more variables of the preset")
    parser.add_argument("--note", default="", help="a sentence for the page, as on what else the machine did")
    parser.add_argument("-o", "--output", help="the page to write the table into")
    args = parser.parse_args()
    corpus = os.path.abspath(os.environ["SECATEUR_CORPUS"])
    lines = []
    for model, macs, variables, goal in ROWS:
        if args.only not in f"{model} {macs}":
            continue
        with tempfile.TemporaryDirectory() as folder:
            path, preprocess = MODELS[model]
            source = os.path.join(corpus, path)
            found = images(corpus, folder, preprocess, args.choose) if preprocess else arrays(corpus, folder, model, args.choose)
            inputs, _ = call(args.secateur, "inspect", source)
            name = inputs["inputs"][0]["name"]
            learn, judge = (text.replace("INPUT", name) for text in found)
            words = ["--data", f"calibration={learn}", "--engine", args.engine, "--no-verify", "--force"]
            given = [*(f"{key}={value}" for key, value in variables.items()), *args.set]
            asked = [word for value in [f"macs={macs}", *given] for word in ("--var", value)]
            target = os.path.join(folder, "out.onnx")
            run, seconds = call(args.secateur, "run", "prune-recover", source, "-o", target, *asked, *words)
            after = accuracy(args.secateur, args.engine, target, judge)
            refitted = ""
            if args.refit:
                call(args.secateur, "run", "prune-recover", source, "-o", target, *asked, "--var", "epochs=0", *words)
                refitted = f"{accuracy(args.secateur, args.engine, target, judge):.1f}"
            before = accuracy(args.secateur, args.engine, source, judge)
            left = run["after"]["macs"] / run["before"]["macs"]
            options = " ".join(f"--var {value}" for value in [f"macs={macs}", *given])
            lines.append(
                f"| {model} | {100 * (1 - left):.1f} % | {before:.1f} | {refitted} | **{after:.1f}** | {goal:.1f} | {seconds / 60:.1f} min |"
                f" `run prune-recover {options}` |"
            )
            print(lines[-1], flush=True)
    if args.output:
        write(args.output, lines, args.note)


def write(path, lines, note):
    with open(path, encoding="utf-8") as file:
        text = file.read().split(HEADING)[0].rstrip("\n")
    about = (
        "Accuracy in percent of the preset `prune-recover`, which needs images without labels: the 1,000 training images of the corpus, or 10,000 of"
        " CIFAR-10 and MNIST. `refit` is the same without the training, the goal is what the project set itself. Made by"
        " benches/compare/prune_recover.py; constants were chosen on 300 of the training images that were held out, and no evaluation image was"
        " looked at for that."
        + f" {note}".rstrip()
    )
    heading = "| model | MACs removed | before | refit | recovered | goal | time | command |\n|---|---:|---:|---:|---:|---:|---:|---|"
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([text, "", HEADING, "", about, "", heading, *lines]) + "\n")


if __name__ == "__main__":
    main()
