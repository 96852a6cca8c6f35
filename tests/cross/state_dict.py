"""PyTorch state dicts into exports that renamed, transposed and folded their weights, against ONNX Runtime.

A state dict is made from an export whose normalisations are kept: its named weights are those of the network, transposed weights and gates
are brought back by this file's own reading of PyTorch's documentation. It is then loaded into other exports of the network (folded
normalisations, TorchScript and dynamo, weights of noise), whose outputs have to be those of the first. A tensor that is missing, one too
many, and numbers that are none have to be refused, with nothing written.
"""

import glob
import os
import re
import tempfile

import numpy as np
import onnx
import safetensors.numpy
from onnx import numpy_helper

import corpus
import runtime
from transfer import noise, outputs, relative

# The export that has every weight, and those that the state dict is loaded into.
NETWORKS = (
    ("models/trained/digits_cnn_bn", "models/trained/digits_cnn", "models/trained/digits_cnn_dynamo"),
    ("models/trained/resnet8_cifar10_bn", "models/trained/resnet8_cifar10", "models/trained/resnet8_cifar10_dynamo"),
    ("models/trained/digits_gru", "models/trained/digits_gru", "models/trained/digits_gru_dynamo"),
    ("models/trained/lstm128_mnist", "models/trained/lstm128_mnist", "models/trained/lstm128_mnist_dynamo"),
    ("models/trained/digits_vit", "models/trained/digits_vit", "models/trained/digits_vit_dynamo"),
    ("models/trained/vit_d64x4_mnist", "models/trained/vit_d64x4_mnist", "models/trained/vit_d64x4_mnist_dynamo"),
    ("models/trained/lenet5_mnist", "models/trained/lenet5_mnist", "models/trained/lenet5_mnist_dynamo"),
    ("arch/ts-resnet18_bn", "arch/ts-resnet18_bn", "arch/ts-resnet18", "arch/dynamo-resnet18"),
    ("arch/ts-mobilenet_v2_bn", "arch/ts-mobilenet_v2", "arch/dynamo-mobilenet_v2"),
    ("arch/ts-mobilenet_v3_small_bn", "arch/ts-mobilenet_v3_small", "arch/dynamo-mobilenet_v3_small"),
    ("arch/ts-efficientnet_b0_bn", "arch/ts-efficientnet_b0", "arch/dynamo-efficientnet_b0"),
    ("arch/ts-unet_w16_bn", "arch/ts-unet_w16", "arch/dynamo-unet_w16"),
    ("arch/ts-crnn_ocr_bn", "arch/ts-crnn_ocr", "arch/dynamo-crnn_ocr"),
    ("arch/ts-bigru_tagger", "arch/ts-bigru_tagger", "arch/dynamo-bigru_tagger"),
    ("arch/ts-bert_mini", "arch/ts-bert_mini", "arch/dynamo-bert_mini"),
    ("arch/ts-gpt2_mini", "arch/ts-gpt2_mini", "arch/dynamo-gpt2_mini"),
)


def module(node):
    """The module that a node's name tells of: /layer1/layer1.0/conv1/Conv is of layer1.0.conv1."""
    parts = []
    for part in node.name.split("/")[1:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def blocks(array, order):
    """Rows in blocks of equal size, in another order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[at] for at in order])


def state_dict(model):
    """The state dict of a TorchScript export, and the epsilon of its normalisations."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    source = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    state, levels, epsilons = {}, {}, {1e-5}
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        # Weights that the graph computes are made of tensors with their own names.
        if node.op_type in ("LSTM", "GRU") and node.input[1] in held:
            name = module(node)
            level = levels[name] = levels.get(name, -1) + 1
            # To PyTorch's i f g o from i o f c, to its r z n from z r h.
            order = [0, 2, 3, 1] if node.op_type == "LSTM" else [1, 0, 2]
            w, r = held[node.input[1]], held[node.input[2]]
            b = held[node.input[3]]
            for at, ending in enumerate(("", "_reverse")[: len(w)]):
                half = b.shape[1] // 2
                state[f"{name}.weight_ih_l{level}{ending}"] = blocks(w[at], order)
                state[f"{name}.weight_hh_l{level}{ending}"] = blocks(r[at], order)
                state[f"{name}.bias_ih_l{level}{ending}"] = blocks(b[at, :half], order)
                state[f"{name}.bias_hh_l{level}{ending}"] = blocks(b[at, half:], order)
            continue
        if node.op_type == "BatchNormalization":
            epsilons = {attributes.get("epsilon", 1e-5)}
            for word, value in zip(("weight", "bias", "running_mean", "running_var"), node.input[1:]):
                state[f"{module(node)}.{word}"] = held[source.get(value, value)]
            state[f"{module(node)}.num_batches_tracked"] = np.asarray(1)
            continue
        if node.op_type == "LayerNormalization":
            for word, value in zip(("weight", "bias"), node.input[1:]):
                state[f"{module(node)}.{word}"] = held[source.get(value, value)]
            continue
        for value in node.input:
            value = source.get(value, value)
            if value not in held or held[value].dtype != np.float32:
                continue
            if re.fullmatch(r"onnx::MatMul_\d+", value):
                state[f"{module(node)}.weight"] = held[value].T
            elif not value.startswith("onnx::") and held[value].ndim > 0:
                state[value] = held[value]
    return {name: np.ascontiguousarray(array) for name, array in state.items()}, epsilons.pop()


def load(secateur, state, target, *arguments):
    """Status, error and the model that the verb writes."""
    with tempfile.TemporaryDirectory(prefix="secateur-state-") as folder:
        weights, into, out = (os.path.join(folder, name) for name in ("weights.safetensors", "into.onnx", "out.onnx"))
        safetensors.numpy.save_file(state, weights)
        onnx.save(target, into)
        done = secateur.run("transfer", "parameters", weights, into, "-o", out, "--json", *arguments)
        model = onnx.load(out) if os.path.exists(out) else None
    return done, model




def check(report, secateur):
    known = corpus.folder()
    if known is None:
        report.skipped("state dicts", "there is no corpus")
        return
    models = {model.name: model for model in corpus.corpus_models(("models", "arch"))}

    def find(name):
        return next((model for key, model in models.items() if key.removesuffix(".onnx") == name), None)

    for first, *targets in NETWORKS:
        if not any(report.wants(name) for name in targets):
            continue
        source = find(first)
        if source is None:
            report.skipped(first, "it is not in the corpus")
            continue
        reference = onnx.load(source.path)
        state, epsilon = state_dict(reference)
        inputs = source.inputs(1)
        given = list(inputs.values())
        expected = outputs(reference, given)
        for name in targets:
            target = find(name)
            if target is None or not report.wants(name):
                report.skipped(name, "it is not in the corpus")
                continue
            problem, note = judge(secateur, state, epsilon, onnx.load(target.path), given, expected)
            (report.failed if problem else report.passed)(f"{first} into {name}", problem or note)


def judge(secateur, state, epsilon, target, given, expected):
    target = noise(target, 2)
    if max(relative(a, b) for a, b in zip(expected, outputs(target, given))) < 1e-2:
        return "noise gives the same outputs", None
    arguments = ("--epsilon", str(epsilon))
    done, model = load(secateur, state, target, *arguments)
    if done.code != 0 or model is None:
        gates = [gate.get("message") for gate in (done.json() or {}).get("gates", [])]
        return f"{done.why()} {gates}", None
    error = max(relative(a, b) for a, b in zip(expected, outputs(model, given)))
    if not error <= runtime.TOLERANCE:
        return f"outputs differ by {error:.2g}", None
    wrapped, model = load(secateur, {"module." + name: array for name, array in state.items()}, target, *arguments)
    if wrapped.code != 0 or model is None or max(relative(a, b) for a, b in zip(expected, outputs(model, given))) > error:
        return f"with a prefix: {wrapped.why()}", None
    weights = [name for name in sorted(state) if state[name].dtype == np.float32 and state[name].ndim > 1]
    lost = {name: array for name, array in state.items() if name != weights[len(weights) // 2]}
    spare, model = load(secateur, lost, target, *arguments)
    if model is not None or spare.code != 1:
        return f"without {weights[len(weights) // 2]}: exit {spare.code}", None
    more, model = load(secateur, {**state, "another.weight": np.ones((2, 2), np.float32)}, target, *arguments)
    if model is not None or more.code != 1:
        return f"with one weight more: exit {more.code}", None
    broken = {**state, weights[0]: state[weights[0]].copy()}
    broken[weights[0]].flat[1] = np.nan
    nan, model = load(secateur, broken, target, *arguments)
    if model is not None or nan.code != 2 or weights[0] not in nan.why():
        return f"with a NaN in {weights[0]}: {nan.why()}", None
    return None, f"{len(state)} tensors, outputs within {error:.1g}"
