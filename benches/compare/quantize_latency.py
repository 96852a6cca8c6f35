#!/usr/bin/env python3
"""Latency of int8 models in ONNX Runtime: secateur's default beside every configuration of ONNX Runtime's quantizer that fuses.

usage: quantize_latency.py [--secateur BIN] [--rounds N]

The models take turns, one thread, so that other load on the machine meets all of them; milliseconds an image, the least of all
rounds. Needs SECATEUR_CORPUS.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter

import onnx
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantize import MODELS, Reader, images, session

CONFIGURATIONS = [
    ("u8s8 per channel", {"per_channel": True}),
    ("u8s8 per tensor", {"per_channel": False}),
    ("u8s8 per channel, reduce-range", {"per_channel": True, "reduce_range": True}),
    ("u8s8 per tensor, reduce-range", {"per_channel": False, "reduce_range": True}),
    ("u8u8 per tensor", {"per_channel": False, "weight_type": QuantType.QUInt8}),
    ("s8s8 per channel (its default types)", {"per_channel": True, "activation_type": QuantType.QInt8}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--secateur", default=os.environ.get("SECATEUR_BIN", "target/release/secateur"))
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    corpus = os.environ["SECATEUR_CORPUS"]
    for name, (title, preprocess) in MODELS.items():
        source = os.path.join(corpus, "models", "pretrained", f"{name}.onnx")
        data = os.path.join(corpus, "data", "imagenet")
        calibration, _ = images(os.path.join(data, "calibration"), preprocess)
        with tempfile.TemporaryDirectory(prefix="secateur-latency-") as folder:
            candidates = [("float", source)]
            spec = os.path.join(folder, "calibration.yaml")
            with open(spec, "w", encoding="utf-8") as file:
                file.write(f"images: {{ folder: {os.path.join(data, 'calibration')}, labels: labels.tsv, "
                           f"preprocess: {preprocess} }}\n")
            target = os.path.join(folder, "secateur.onnx")
            subprocess.run([arguments.secateur, "quantize", source, "-o", target, "--data", spec, "-qq"],
                           check=True, stdout=sys.stderr)
            candidates.append(("secateur quantize", target))
            prepared = os.path.join(folder, "prepared.onnx")
            quant_pre_process(source, prepared)
            for index, (label, options) in enumerate(CONFIGURATIONS):
                target = os.path.join(folder, f"{index}.onnx")
                reader = Reader(session(prepared).get_inputs()[0].name, calibration)
                options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, **options}
                quantize_static(prepared, target, reader, **options)
                candidates.append((f"ONNX Runtime, {label}", target))
            runs, fused = {}, {}
            for label, path in candidates:
                saved = os.path.join(folder, "optimised.onnx")
                session(path, save=saved)
                counts = Counter(node.op_type for node in onnx.load(saved).graph.node)
                fused[label] = f"{counts['QLinearConv']} / {counts['QLinearAdd']}"
                runs[label] = session(path)
            feed = {runs["float"].get_inputs()[0].name: calibration[:1]}
            least = {label: float("inf") for label in runs}
            for _ in range(arguments.rounds):
                for label, run in runs.items():
                    start = time.perf_counter()
                    run.run(None, feed)
                    least[label] = min(least[label], 1e3 * (time.perf_counter() - start))
            print(f"\n{title}\n\n| | QLinearConv / Add | ms |\n|---|---|---|")
            for label, value in least.items():
                print(f"| {label} | {fused[label]} | {value:.2f} |", flush=True)


if __name__ == "__main__":
    main()
