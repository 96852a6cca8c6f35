#!/usr/bin/env python3
"""Latency before and after half of the multiply-accumulates are pruned, in tract and in ONNX Runtime, on one thread.

usage: prune_latency.py [--secateur BIN] [--runs N] MODEL...

Every model takes one image and answers class scores. The engines are secateur's (`evaluate --against`, both models in turn, fastest run);
ORT_DYLIB_PATH names the library of ONNX Runtime.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def call(binary, *arguments):
    done = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", default=os.path.join(ROOT, "target", "release", "secateur"))
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--target-macs", default="0.5")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    args = parser.parse_args()
    print("| model | engine | before | after | faster |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="secateur-latency-") as folder:
        for path in args.models:
            cut = os.path.join(folder, "cut.onnx")
            call(args.secateur, "prune", "channels", path, "-o", cut, "--force", "--target-macs", args.target_macs, "--round-to", "8")
            [image] = [value for value in onnx.load(path, load_external_data=False).graph.input][:1]
            sides = [dim.dim_value or 1 for dim in image.type.tensor_type.shape.dim]
            rng = np.random.default_rng(1)
            data = os.path.join(folder, "data.npz")
            np.savez(data, **{image.name: rng.normal(size=sides).astype(np.float32), "labels": np.zeros(sides[0], np.int64)})
            for engine in ("tract", "ort"):
                found = call(args.secateur, "evaluate", path, "--against", cut, "--data", data, "--labels", "labels", "--batch", "1",
                             "--latency-runs", str(args.runs), "--engine", engine, "--jobs", "1")
                before, after = found["latency_ms"]["min"], found["against"]["latency_ms"]["min"]
                print(f"| {os.path.basename(path)} | {engine} | {before:.2f} ms | {after:.2f} ms | {before / after:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
