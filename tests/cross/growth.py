"""`widen` and `deepen` in ONNX Runtime: larger models with the outputs of the ones before, to 1e-5 of their range.

Models: LeNet-5, ResNet-18, MobileNetV2 (depthwise convolutions), an LSTM; without a corpus the fixtures' digits.
"""

import os
import tempfile

import onnx
from onnx import numpy_helper

import corpus
import models
import runtime

TOLERANCE = 1e-5
CHOSEN = ("models/trained/lenet5_mnist.onnx", "models/trained/lstm128_mnist.onnx", "arch/ts-resnet18_bn.onnx", "arch/ts-mobilenet_v2_bn.onnx",
          "fixtures/digits_cnn_bn.onnx", "fixtures/digits_gru.onnx", "fixtures/digits_mlp.onnx")
# Layers that a model has at least, which have to grow.
LEAST = {"lenet5_mnist": 3, "ts-resnet18_bn": 10, "ts-mobilenet_v2_bn": 20}


def check(report, secateur):
    for model in corpus.corpus_models(("models", "arch")) + corpus.fixture_models():
        if model.name not in CHOSEN or not report.wants(model.name):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-growth-") as folder:
            feeds = model.inputs(1)
            expected = runtime.run(runtime.session(model.path), feeds)
            wider, alike, deeper = ("widen", ["--ratio", "1.5"]), ("widen", ["--ratio", "1.3", "--shares", "equal"]), ("deepen", [])
            # An identity as wide as the channels between depthwise convolutions is a hundred million numbers.
            runs = (wider,) if "mobilenet" in model.name else (wider, deeper) if model.name.startswith("arch/") else (wider, alike, deeper)
            for verb, flags in runs:
                name = f"{model.name} {' '.join([verb, *flags])}"
                problem, note = grow(secateur, model, verb, flags, feeds, expected, os.path.join(folder, "grown.onnx"))
                (report.failed if problem else report.passed)(name, problem or note)


def sizes(path):
    return [numpy_helper.to_array(tensor).size for tensor in onnx.load(path).graph.initializer]


def grow(secateur, model, verb, flags, feeds, expected, out):
    result = secateur.run(verb, model.path, "-o", out, "--json", "--force", "--seed", "3", *flags)
    if result.code != 0:
        return result.why(), None
    onnx.checker.check_model(out, full_check=True)
    steps = result.json()["steps"][0]
    notes = [note for note in steps.get("notes", []) if "not compared" in note]
    if notes:
        return notes[0], None
    layers = sum(change["count"] for change in steps["changes"] if change["rule"] in ("layer widened", "layer added"))
    stem = os.path.basename(model.name).removesuffix(".onnx")
    if layers < (LEAST.get(stem, 1) if verb == "widen" else 1):
        return f"{layers} layers", None
    before, after = sum(sizes(model.path)), sum(sizes(out))
    if after <= before:
        return f"{before} parameters became {after}", None
    found = runtime.run(runtime.session(out), feeds)
    difference = runtime.compare(expected, found)
    if difference.relative > TOLERANCE:
        return difference.reason, None
    nodes = models.count_nodes(onnx.load(out)) - models.count_nodes(onnx.load(model.path))
    if nodes < layers and verb == "deepen":
        return f"{nodes} more nodes for {layers} layers", None
    return None, f"{layers} layers, {before} -> {after} parameters, {difference.relative:.1g} of the range"
