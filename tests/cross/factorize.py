"""Layers of lower rank against numpy: the same ranks put into the weights by its singular value decomposition, and the variance that
the layers' own outputs lose in ONNX Runtime.
"""

import os
import re
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

import corpus
import runtime

MODELS = (
    "models/trained/digits_cnn.onnx",
    "models/trained/lenet5_mnist.onnx",
    "models/trained/lenet_300_100_mnist.onnx",
    "models/trained/resnet8_cifar10.onnx",
    "models/trained/digits_vit.onnx",
    "models/trained/vit_d64x4_mnist.onnx",
)
SAMPLES = 64
TOLERANCE = 1e-4
DETAIL = re.compile(r"^(.*): rank (\d+) of (\d+), ([0-9.]+) % of the variance")


def check(report, secateur):
    root = corpus.folder()
    with tempfile.TemporaryDirectory(prefix="secateur-factorize-") as folder:
        for path in MODELS:
            for basis in ("weights", "outputs"):
                name = f"{os.path.basename(path)} {basis}"
                if not report.wants(name):
                    continue
                if root is None:
                    report.skipped(name, "the corpus is not there")
                    continue
                problem = check_model(secateur, folder, os.path.join(root, path), basis)
                if problem:
                    report.failed(name, problem)
                else:
                    report.passed(name)


def check_model(secateur, folder, path, basis):
    plain, target, data = (os.path.join(folder, name) for name in ("plain.onnx", "thin.onnx", "data.npz"))
    done = secateur.run("simplify", path, "-o", plain, "--force", "--no-verify", "--allow-unchanged")
    if done.code != 0:
        return done.why()
    model = onnx.load(plain)
    entry = model.graph.input[0]
    shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(5).standard_normal((SAMPLES, *shape)).astype(np.float32)
    np.savez(data, **{entry.name: x})
    words = ["factorize", plain, "-o", target, "--target-macs", "0.7", "--basis", basis, "--no-verify", "--force", "--json"]
    if basis == "outputs":
        words += ["--data", f"calibration={data}"]
    done = secateur.run(*words)
    document = done.json() or {}
    if done.code != 0:
        return done.why()
    step = document["steps"][0]
    notes = [note for note in step.get("notes", []) if "not checked" in note]
    if notes:
        return notes[0]
    onnx.checker.check_model(target, full_check=True)
    left = document["after"]["macs"] / document["before"]["macs"]
    if left > 0.7:
        return f"{left:.3f} of the multiply-accumulates remain"
    details = [DETAIL.match(line) for change in step["changes"] for line in change.get("details", [])]
    chosen = {match[1]: (int(match[2]), float(match[4])) for match in details if match}
    if not chosen:
        return "no layer was factorized"
    feed = {entry.name: x}
    found = runtime.run(runtime.session(target), feed)
    if basis == "weights":
        dense = onnx.load(plain)
        for node in dense.graph.node:
            if label(node) in chosen:
                truncate(dense, node, chosen[label(node)][0])
        return apart(runtime.run(runtime.session(dense.SerializeToString()), feed), found)
    return variance(model, chosen, feed)


def label(node):
    return node.name or node.output[0]


def apart(expected, found):
    for name, value in expected.items():
        share = np.abs(value - found[name]).max() / np.abs(value).max()
        if not share <= TOLERANCE:
            return f"{name}: {share:.2e} of its greatest value from the weights that numpy cut"
    return None


def truncate(model, node, rank):
    """Puts the best matrix of this rank into the weight of a layer."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weight = numpy_helper.to_array(tensor).astype(np.float64)
    matrix = weight.reshape(len(weight), -1)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    cut = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(weight.shape).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(cut, tensor.name))


def variance(model, chosen, feed):
    """Whether each layer's outputs lose as much as the report says, seen from what they are in ONNX Runtime."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    layers = {label(node): node for node in wide.graph.node if label(node) in chosen}
    known = {output.name for output in wide.graph.output}
    for node in layers.values():
        if node.output[0] not in known:
            wide.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    values = runtime.run(runtime.session(wide.SerializeToString()), feed)
    for name, (rank, said) in chosen.items():
        node = layers[name]
        value = values[node.output[0]].astype(np.float64)
        axis = 1 if node.op_type == "Conv" else value.ndim - 1
        rows = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])
        if node.op_type != "MatMul":
            rows = rows - rows.mean(0)
        eigen = np.linalg.eigvalsh(rows.T @ rows)
        lost = 100 * eigen[: len(eigen) - rank].clip(0).sum() / eigen.clip(0).sum()
        # Statistics take some of the positions of a sample.
        if abs(lost - said) > 0.02 + 0.1 * lost:
            return f"{name}: rank {rank} loses {lost:.3f} % of the variance, the report says {said}"
    return None
