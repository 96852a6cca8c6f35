#!/usr/bin/env python3
"""A sweep of 24 pipelines over EfficientNet-Lite0: pruning, types, equalization; accuracy, size and time of each, and the front.

usage: sweep.py [--secateur BIN] [--engine tract|ort] [--folder FOLDER] [--samples N] [-o docs/sweep-table.md]

The sweep is docs/examples/efficientnet-lite0.yaml. Model and images are those of the corpus (SECATEUR_CORPUS): 64 calibration and 350 evaluation
images. FOLDER keeps the points, so that a run that was ended goes on; times are those of the machine. With --samples only so many images of
either set are read: enough to see whether it runs, and of no use for accuracy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = "models/pretrained/efficientnet_lite0.onnx"
ABOUT = """`benches/compare/sweep.py --engine {engine}` writes this page: [the sweep](examples/efficientnet-lite0.yaml) on 64 calibration and 350 evaluation images of
ImageNet, without labels for anything but the figure. `pruned` is the share of channels, with a refit on the 64 images and no training; `mixed` has 6 bits a
weight on average. Top-1 in percent; ms is the median of one run on one thread. `front`: no other point is better in all three."""
TITLES = {"accuracy": "top-1", "bytes": "MB", "latency ms": "ms"}


def place(folder, corpus):
    """The sweep beside what it names."""
    links = {
        "efficientnet_lite0.onnx": MODEL,
        "calibration": "data/imagenet/calibration",
        "evaluation": "data/imagenet/evaluation",
    }
    for name, target in links.items():
        link = os.path.join(folder, name)
        if not os.path.lexists(link):
            os.symlink(os.path.join(corpus, target), link)
    sweep = os.path.join(folder, "efficientnet-lite0.yaml")
    with open(os.path.join(ROOT, "docs/examples/efficientnet-lite0.yaml"), encoding="utf-8") as file:
        text = file.read()
    with open(sweep, "w", encoding="utf-8") as file:
        file.write(text)
    return sweep


def fewer(folder, samples):
    """Flags that give both roles only so many images."""
    words = []
    for role, more in (("calibration", ""), ("evaluation", ", labels: labels.tsv")):
        images = f"{{folder: {os.path.join(folder, role)}, preprocess: efficientnet-lite{more}}}"
        words += ["--data", f"{role}={{images: {images}, samples: {samples}}}"]
    return words


def number(name, value):
    if value is None:
        return ""
    return {"accuracy": f"{100 * value:.2f}", "bytes": f"{value / 1e6:.2f}"}.get(name, f"{value:.1f}")


def table(report):
    names = [measure["name"] for measure in report["measures"]]
    variables = list(report["points"][0]["vars"])
    heading = variables + [TITLES.get(name, name) for name in names] + ["front", "reason"]
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for point in report["points"]:
        cells = [str(point["vars"][name]).lower() for name in variables]
        cells += [number(name, point["figures"].get(name)) for name in names]
        cells += ["yes" if point["best"] else "", "; ".join(point.get("reasons", []))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target/release/secateur"))
    parser.add_argument("--engine", default="tract", help="what runs the models: tract, or ort, which is several times as fast on float16")
    parser.add_argument("--folder", help="where the points are kept [default: a folder that is removed]")
    parser.add_argument("--samples", type=int, help="images of either set [default: all]")
    parser.add_argument("--note", default="", help="a sentence for the page, as on what else the machine did")
    parser.add_argument("-o", "--output", help="write the table to this file")
    args = parser.parse_args()
    corpus = os.path.abspath(os.environ["SECATEUR_CORPUS"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.abspath(args.folder or temporary)
        os.makedirs(folder, exist_ok=True)
        words = [os.path.abspath(args.secateur), "sweep", place(folder, corpus), "-o", os.path.join(folder, "points-of-sweep"), "--json",
                 "--engine", args.engine]
        if args.samples:
            words += fewer(folder, args.samples)
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 2:
            sys.exit(done.stdout)
        report = json.loads(done.stdout)
    text = table(report)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            file.write("# EfficientNet-Lite0, 24 pipelines\n\n" + ABOUT.format(engine=args.engine) + f" {args.note}".rstrip() + "\n\n" + text)
    print(text, end="")


if __name__ == "__main__":
    main()
