"""Residual blocks: how many an architecture is known to have, and what is left when they go.

The counts are those of the papers: blocks whose input and output have one shape, in a transformer an attention and a feed-forward part
each. Without them every model is valid, and in ONNX Runtime gives what the original gives whose branches are multiplied by zero; which
input of an addition is the branch is found here, by what depends on what.
"""

import os
import re
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

import corpus
import runtime

# Blocks with one shape, and additions that are the end of none as a projection stands beside.
KNOWN = {
    "ts-resnet18": 5,
    "ts-resnet18_bn": 5,
    "dynamo-resnet18": 5,
    "ts-resnet50": 12,
    "dynamo-resnet50": 12,
    "ts-mobilenet_v2": 10,
    "ts-mobilenet_v2_bn": 10,
    "dynamo-mobilenet_v2": 10,
    "ts-mobilenet_v3_small": 6,
    "ts-efficientnet_b0": 9,
    "ts-efficientnet_b0_bn": 9,
    "dynamo-efficientnet_b0": 9,
    "ts-regnet_y_400mf": 12,
    "ts-convnext_tiny": 18,
    "ts-swin_t": 24,
    "ts-vit_tiny_patch16_224": 24,
    "dynamo-vit_tiny_patch16_224": 24,
    "ts-bert_mini": 8,
    "dynamo-bert_mini": 8,
    "ts-gpt2_mini": 8,
    "dynamo-gpt2_mini": 8,
    "ts-densenet121_bn": 0,
    "ts-squeezenet1_1": 0,
}
TOLERANCE = 1e-4


def check(report, secateur):
    with tempfile.TemporaryDirectory(prefix="secateur-blocks-") as folder:
        found = {os.path.basename(model.path).removesuffix(".onnx"): model for model in corpus.every_model()}
        for name, count in KNOWN.items():
            if not report.wants(name):
                continue
            if name not in found:
                report.skipped(name, "the corpus' architectures are not there")
                continue
            problem = check_model(secateur, folder, found[name], count)
            if problem:
                report.failed(name, problem)
            else:
                report.passed(name)


def check_model(secateur, folder, model, count):
    target = os.path.join(folder, "cut.onnx")
    words = ("prune-blocks", model.path, "-o", target, "--blocks", ".", "--no-verify", "--force", "--json")
    result = secateur.run(*words)
    document = result.json() or {}
    if count == 0:
        return None if document.get("unchanged") and result.code == 1 else f"blocks in a model that has none: {result.why()}"
    if result.code != 0:
        return result.why()
    changes = {change["rule"]: change for change in document["steps"][0]["changes"]}
    gone = changes["blocks removed"]
    if gone["count"] != count:
        return f"{gone['count']} blocks, known are {count}"
    notes = [note for note in document["steps"][0].get("notes", []) if "not checked" in note]
    if notes:
        return notes[0]
    labels = [re.search(r"nodes before (.*?): ", line).group(1) for line in gone["details"]]
    onnx.checker.check_model(target)
    feed = model.inputs(3)
    expected = runtime.run(runtime.session(masked(onnx.load(model.path), labels).SerializeToString()), feed)
    outputs = runtime.run(runtime.session(target), feed)
    for name, value in expected.items():
        apart = np.abs(value - outputs[name]).max() / max(np.abs(value).max(), 1e-30)
        if not apart <= TOLERANCE:
            return f"{name}: differs from the model whose branches are zero by {apart:.2e} of its greatest value"
    return None


def masked(model, labels):
    """The model in which the branches of these additions are multiplied by zero."""
    producers = {name: node for node in model.graph.node for name in node.output}

    def depends(start, wanted):
        pending, seen = [start], set()
        while pending:
            name = pending.pop()
            if name == wanted:
                return True
            node = producers.get(name)
            if node is not None and name not in seen:
                seen.add(name)
                pending += node.input
        return False

    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds = set(types.values()) & {onnx.TensorProto.FLOAT16}
    kind = np.float16 if kinds else np.float32
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), kind), "nothing"))
    nodes = []
    for node in model.graph.node:
        if node.name in labels or set(node.output) & set(labels):
            first, second = node.input
            slot = 1 if depends(second, first) else 0
            nothing = f"{node.output[0]}/nothing"
            nodes.append(helper.make_node("Mul", [node.input[slot], "nothing"], [nothing]))
            node.input[slot] = nothing
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
