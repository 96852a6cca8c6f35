#!/usr/bin/env python3
"""Quantization of EfficientNet-Lite0 and MobileNetV2: secateur beside ONNX Runtime's own quantizer and NNCF.

usage: quantize.py [--secateur BIN] [--only PATTERN] [-o docs/quantize-table.md]

NNCF's rows are made where the package `nncf` is installed.

Calibrates on the corpus' 64 calibration images and evaluates on its 350 evaluation images (SECATEUR_CORPUS). Figures are those
of ONNX Runtime with its default optimisations (`fused`) and with optimisations off (`reference`), which computes in float what
the Q/DQ pairs say. On a processor without VNNI the fused kernels saturate, and the two differ.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

try:
    import nncf
except ImportError:
    nncf = None

MODELS = {
    "efficientnet_lite0": ("EfficientNet-Lite0", "efficientnet-lite"),
    "mobilenet_v2_torchvision_bn": ("MobileNetV2", "torchvision"),
}
MEAN, DEVIATION = np.array([.485, .456, .406], np.float32), np.array([.229, .224, .225], np.float32)

FOUR_BITS = ["quantize-weights", "--type", "int4", "--minimum-elements", "0", "--set", "operators=[Conv,Gemm,MatMul]"]
# Stands for `layers` that give the model's depthwise, first and last layers 8 bits.
WIDE = ["--set", "WIDE"]
SECATEUR = [
    ("secateur, default", []),
    ("secateur, biases not corrected", [["quantize", "--correct-bias=false"]]),
    ("secateur, saturation ignored", [["quantize", "--saturation", "ignore"]]),
    ("secateur, percentile 99.999", [["quantize", "--set", "calibrate={percentile: 99.999}"]]),
    ("secateur, mse", [["quantize", "--set", "calibrate=mse"]]),
    ("secateur, per tensor", [["quantize", "--per-channel=false"]]),
    ("secateur, per tensor, equalize",
     [["equalize"], ["quantize", "--per-channel=false"]]),
    ("secateur, residual connections equalized", [["equalize", "--pairs=false"], ["quantize"]]),
    ("secateur, equalize", [["equalize"], ["quantize"]]),
    ("secateur, equalize, percentile 99.99", [["equalize"], ["quantize", "--set", "calibrate={percentile: 99.99}"]]),
    ("secateur, moving average", [["quantize", "--set", "calibrate=moving-average"]]),
    ("secateur, 4-bit weights, nearest", [[*FOUR_BITS, "--rounding", "nearest"]]),
    ("secateur, 4-bit weights, gptq, biases not corrected", [[*FOUR_BITS, "--rounding", "gptq", "--correct-bias=false"]]),
    ("secateur, 4-bit weights, gptq", [[*FOUR_BITS, "--rounding", "gptq"]]),
    ("secateur, 4-bit weights, adaround", [[*FOUR_BITS, "--rounding", "adaround"]]),
    ("secateur, 4-bit weights, depthwise, first and last 8 bits, adaround", [[*FOUR_BITS, "--rounding", "adaround", *WIDE]]),
    ("secateur, 4-bit weights, depthwise, first and last 8 bits, gptq, 8-bit activations",
     [["quantize", "--weights", "int4", "--rounding", "gptq", *WIDE]]),
    ("secateur, 4- and 8-bit weights, 5 bits on average", [["search-precision", "--bits", "5", "--minimum-elements", "0"]]),
]
RUNTIME = [
    ("ONNX Runtime, min-max u8s8 per channel", CalibrationMethod.MinMax, True, False),
    ("ONNX Runtime, min-max u8s8 per channel, reduce-range", CalibrationMethod.MinMax, True, True),
    ("ONNX Runtime, min-max u8s8 per tensor", CalibrationMethod.MinMax, False, False),
    ("ONNX Runtime, percentile u8s8 per channel", CalibrationMethod.Percentile, True, False),
]
NNCF = [
    ("NNCF, mixed preset", "MIXED", True),
    ("NNCF, performance preset", "PERFORMANCE", True),
    ("NNCF, mixed preset, full bias correction", "MIXED", False),
]


def wide_layers(path):
    """An option `layers` by which depthwise convolutions and the first and the last layer have weights of 8 bits."""
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    found = [(node.output[0], next((a.i for a in node.attribute if a.name == "group"), 1)) for node in graph.node
             if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants]
    names = [name for at, (name, group) in enumerate(found) if at in (0, len(found) - 1) or group > 1]
    return "layers=[{match: '^(" + "|".join(map(re.escape, names)) + ")$', type: int8}]"


def images(folder, preprocess):
    with open(os.path.join(folder, "labels.tsv"), encoding="utf-8") as file:
        rows = [line.split("\t") for line in file.read().split("\n")[1:] if line]
    samples = []
    for name, _ in rows:
        pixels = np.asarray(Image.open(os.path.join(folder, name)).convert("RGB"), np.float32)
        values = (pixels - 127) / 128 if preprocess == "efficientnet-lite" else (pixels / 255 - MEAN) / DEVIATION
        samples.append(values.transpose(2, 0, 1)[None])
    return np.concatenate(samples).astype(np.float32), np.array([int(label) for _, label in rows])


def session(path, optimise=True, save=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save:
        options.optimized_model_filepath = save
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs(path, samples, optimise=True):
    run = session(path, optimise)
    name = run.get_inputs()[0].name
    return np.concatenate([run.run(None, {name: sample[None]})[0].reshape(1, -1) for sample in samples])


def latency(path, sample):
    run = session(path)
    name = run.get_inputs()[0].name
    times = []
    for _ in range(40):
        start = time.perf_counter()
        run.run(None, {name: sample[None]})
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


class Reader(CalibrationDataReader):
    def __init__(self, name, samples):
        self.feeds = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.feeds, None)


def row(title, path, samples, labels, reference, seconds, folder):
    saved = os.path.join(folder, "optimised.onnx")
    session(path, save=saved)
    counts = Counter(node.op_type for node in onnx.load(saved).graph.node)
    cells = [title]
    for optimise in (True, False):
        found = outputs(path, samples, optimise)
        error = 10 * np.log10((reference ** 2).sum() / max(((reference - found) ** 2).sum(), 1e-30))
        top = 100 * (found.argmax(1) == labels).mean()
        agree = 100 * (found.argmax(1) == reference.argmax(1)).mean()
        cells += [f"{top:.2f}", f"{agree:.2f}", f"{error:.1f}"]
    fused = f"{counts['QLinearConv']} / {counts['QLinearAdd']}"
    cells += [fused, f"{latency(path, samples[0]):.1f}", f"{os.path.getsize(path) / 1e6:.1f}", f"{seconds:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--secateur", default=os.environ.get("SECATEUR_BIN", "target/release/secateur"))
    parser.add_argument("--only", default="", help="rows whose title this pattern finds")
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    corpus = os.environ["SECATEUR_CORPUS"]
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = re.search(r"^flags\s*:(.*)$", file.read(), re.M).group(1).split()
    vnni = any(flag in flags for flag in ("avx512_vnni", "avx_vnni"))
    lines = [
        "# Static int8 quantization",
        "",
        f"Made by `benches/compare/quantize.py` with ONNX Runtime {onnxruntime.__version__}, one thread, on a processor "
        f"{'with' if vnni else 'without'} VNNI: 64 images for calibration, 350 others for evaluation. *Fused* is ONNX Runtime",
        "with its default optimisations, *reference* with optimisations off: float arithmetic between the Q/DQ pairs. top-1 and",
        "agreement with the float model in per cent (350 images: one is 0.29), SQNR of the logits in dB, milliseconds an image",
        "(least of 40), MB, seconds for calibrating and writing.",
        "",
    ]
    for name, (title, preprocess) in MODELS.items():
        source = os.path.join(corpus, "models", "pretrained", f"{name}.onnx")
        data = os.path.join(corpus, "data", "imagenet")
        samples, labels = images(os.path.join(data, "evaluation"), preprocess)
        calibration, _ = images(os.path.join(data, "calibration"), preprocess)
        reference = outputs(source, samples)
        top = 100 * (reference.argmax(1) == labels).mean()
        lines += [
            f"## {title}", "",
            f"Float: top-1 {top:.2f}, {latency(source, samples[0]):.1f} ms, {os.path.getsize(source) / 1e6:.1f} MB.", "",
            "| | fused top-1 | agree | SQNR | reference top-1 | agree | SQNR | QLinearConv / Add | ms | MB | s |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        with tempfile.TemporaryDirectory(prefix="secateur-compare-") as folder:
            spec = os.path.join(folder, "calibration.yaml")
            with open(spec, "w", encoding="utf-8") as file:
                file.write(f"images: {{ folder: {os.path.join(data, 'calibration')}, labels: labels.tsv, "
                           f"preprocess: {preprocess} }}\n")
            for label, steps in SECATEUR:
                if not re.search(arguments.only, label):
                    continue
                path, started = source, time.perf_counter()
                for index, step in enumerate(steps or [["quantize"]]):
                    target = os.path.join(folder, f"step{index}.onnx")
                    step = [wide_layers(source) if word == "WIDE" else word for word in step]
                    subprocess.run([arguments.secateur, *step, path, "-o", target, "--data", spec, "--force", "-qq"],
                                   check=True, stdout=sys.stderr)
                    path = target
                cells = row(label, path, samples, labels, reference, time.perf_counter() - started, folder)
                lines.append("| " + " | ".join(cells) + " |")
            for label, method, per_channel, reduced in RUNTIME:
                if not re.search(arguments.only, label):
                    continue
                prepared, target = os.path.join(folder, "prepared.onnx"), os.path.join(folder, "runtime.onnx")
                started = time.perf_counter()
                quant_pre_process(source, prepared)
                reader = Reader(session(prepared).get_inputs()[0].name, calibration)
                quantize_static(prepared, target, reader, per_channel=per_channel, reduce_range=reduced,
                                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method)
                cells = row(label, target, samples, labels, reference, time.perf_counter() - started, folder)
                lines.append("| " + " | ".join(cells) + " |")
            for label, preset, fast in NNCF if nncf else []:
                if not re.search(arguments.only, label):
                    continue
                started = time.perf_counter()
                prepared, target = os.path.join(folder, "prepared.onnx"), os.path.join(folder, "nncf.onnx")
                quant_pre_process(source, prepared)
                name = session(prepared).get_inputs()[0].name
                data_set = nncf.Dataset([{name: sample[None]} for sample in calibration])
                made = nncf.quantize(onnx.load(prepared), data_set, preset=nncf.QuantizationPreset[preset],
                                     fast_bias_correction=fast, subset_size=len(calibration))
                onnx.save(made, target)
                cells = row(label, target, samples, labels, reference, time.perf_counter() - started, folder)
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    text = "\n".join(lines)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
