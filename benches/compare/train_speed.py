#!/usr/bin/env python3
"""Seconds that an image takes to train on: `finetune` in ONNX Runtime and in tract beside PyTorch, in one run.

usage: train_speed.py [--secateur BIN] [--only NAME] [--rounds N]

The models are those of the corpus, simplified; PyTorch gets the same graph by way of onnx2torch, so all sides train the same weights with
the same loss (cross-entropy), batch, optimizer (Adam) and data (random, in memory), on two threads. An epoch is timed alone: of secateur
as half of the difference between a run of three epochs and one of one, of PyTorch after an epoch that warms up. The sides take turns, and
the fastest of the rounds counts. Needs torch, onnx2torch and the corpus (SECATEUR_CORPUS).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from onnx2torch import convert

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
THREADS = 2

# Model, shape of a sample, classes, samples of an epoch, batch.
ROWS = {
    "MobileNetV2": ("models/pretrained/mobilenet_v2_torchvision_bn.onnx", (3, 224, 224), 1000, 96, 16),
    "ResNet-8": ("models/trained/resnet8_cifar10.onnx", (3, 32, 32), 10, 2048, 64),
    "LeNet-5": ("models/trained/lenet5_mnist.onnx", (1, 28, 28), 10, 8192, 64),
    "ViT d64x4": ("models/trained/vit_d64x4_mnist.onnx", (1, 28, 28), 10, 2048, 64),
}


def of_torch(path, x, y, batch):
    """Seconds of an epoch in PyTorch."""
    model = convert(path).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        for at in range(0, len(x), batch):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x[at : at + batch]), y[at : at + batch])
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - begin)
    return seconds[-1]


def of_secateur(binary, engine, path, data, batch, folder):
    """Seconds of an epoch in secateur."""
    times = []
    for epochs in (1, 3):
        words = [binary, "finetune", path, "-o", os.path.join(folder, "out.onnx"), "--force", "--no-verify", "-qq", "--engine", engine]
        words += ["--jobs", str(THREADS), "--epochs", str(epochs), "--batch", str(batch), "--optimizer", "adam"]
        words += ["--learning-rate", "0.0001", "--data", f"training={data}", "--allow-unchanged"]
        begin = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(words)}: {done.stderr}")
        times.append(time.perf_counter() - begin)
    return (times[1] - times[0]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target/release/secateur"))
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    print(f"PyTorch {torch.__version__}, milliseconds an image\n")
    print("| model | batch | PyTorch | secateur, ONNX Runtime | share | secateur, tract | share |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, (path, shape, classes, samples, batch) in ROWS.items():
        if args.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            plain = os.path.join(folder, "plain.onnx")
            source = os.path.join(os.environ["SECATEUR_CORPUS"], path)
            subprocess.run([args.secateur, "simplify", source, "-o", plain, "-qq", "--no-verify", "--allow-unchanged"], check=True)
            rng = np.random.default_rng(0)
            x = rng.standard_normal((samples, *shape)).astype(np.float32)
            y = rng.integers(0, classes, samples).astype(np.int64)
            data = os.path.join(folder, "data.npz")
            facts = subprocess.run([args.secateur, "print", plain], capture_output=True, text=True, check=True).stdout
            entry = facts.split("(", 1)[1].split(")", 1)[0].split()[-1]
            np.savez(data, **{entry: x, "y": y})
            described = f"{{npz: {data}, labels: y, batch: {batch}}}"
            best = [float("inf")] * 3
            for _ in range(args.rounds):
                found = (
                    of_torch(plain, x, y, batch),
                    of_secateur(args.secateur, "ort", plain, described, batch, folder),
                    of_secateur(args.secateur, "tract", plain, described, batch, folder),
                )
                best = [min(pair) for pair in zip(best, found)]
            own, ort, tract = (1000 * seconds / samples for seconds in best)
            print(f"| {name} | {batch} | {own:.3f} | {ort:.3f} | {ort / own:.2f} | {tract:.3f} | {tract / own:.2f} |", flush=True)


if __name__ == "__main__":
    main()
