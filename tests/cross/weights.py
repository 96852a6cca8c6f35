"""Gradient statistics and weight pruning against numpy and ONNX Runtime.

* Σ g of `stats --for gradients`: its product with a random direction is the central difference of the summed loss of the original
  model in float64, for every parameter.
* `prune-weights`: share of zeros, N of each M, masks and untouched numbers, as numpy sees them.
"""

import json
import os
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

import gradients as differences
from corpus import FIXTURES

SAMPLES = 20
# In float64 steps are too small to cross kinks of Relu and MaxPool; what is left is the float32 of the statistics.
STEP = 1e-6
TOLERANCE = 1e-4


def check(report, secateur):
    with tempfile.TemporaryDirectory(prefix="secateur-weights-") as folder:
        for name in ("digits_mlp", "digits_cnn"):
            if not report.wants(name):
                continue
            model = os.path.join(FIXTURES, name + ".onnx")
            for part in (gradients, pruned):
                problem = part(secateur, model, folder)
                (report.failed if problem else report.passed)(f"{name} {part.__name__}", problem or "")


def load_file(path):
    """The float64 tensors of a safetensors file."""
    with open(path, "rb") as file:
        bytes = file.read()
    start = 8 + int.from_bytes(bytes[:8], "little")
    header = json.loads(bytes[8:start])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            found[name] = np.frombuffer(bytes[start + first:start + last], np.float64).reshape(entry["shape"])
    return found


def losses(model, x, y):
    """The cross-entropy of each sample, in float64."""
    name, output = model.graph.input[0].name, model.graph.output[0].name
    feeds = {name: x.astype(np.float64)}
    try:
        z = differences.runtime(model)(feeds)[output]
    except Exception:
        # ONNX Runtime has no float64 kernel for some operators, convolutions among them.
        z = differences.reference(model)(feeds)[output]
    z = z - z.max(axis=1, keepdims=True)
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]


def gradients(secateur, path, folder):
    test = np.load(os.path.join(FIXTURES, "data", "digits_test.npz"))
    x, y = test["x"][:SAMPLES].astype(np.float32), (test["y"][:SAMPLES].astype(np.int64) + 1) % 10
    data, out = os.path.join(folder, "data.npz"), os.path.join(folder, "stats.safetensors")
    np.savez(data, x=x, y=y)
    spec = os.path.join(folder, "data.yaml")
    with open(spec, "w") as file:
        file.write(f"npz: {data}\nlabels: y\n")
    result = secateur.run("stats", path, "--for", "gradients", "--data", spec, "-o", out, "--force")
    if result.code != 0:
        return result.why()
    found, random = load_file(out), np.random.default_rng(5)
    model = differences.double(onnx.load(path))
    for tensor in model.graph.initializer:
        key = f"gradients/{tensor.name}/sum"
        if key not in found:
            continue
        start = numpy_helper.to_array(tensor)
        way = random.normal(size=start.shape)
        way /= np.linalg.norm(way)
        ends = []
        for sign in (1, -1):
            moved = onnx.ModelProto()
            moved.CopyFrom(model)
            target = next(one for one in moved.graph.initializer if one.name == tensor.name)
            target.CopyFrom(numpy_helper.from_array((start + sign * STEP * way).astype(start.dtype), tensor.name))
            ends.append(losses(moved, x, y).sum())
        slope, numeric = float((found[key] * way).sum()), (ends[0] - ends[1]) / (2 * STEP)
        if abs(slope - numeric) > TOLERANCE * max(1.0, abs(numeric)):
            return f"{tensor.name}: slope {slope} instead of {numeric}"
        if not (found[f"gradients/{tensor.name}/absolute"] + 1e-9 >= np.abs(found[key])).all():
            return f"{tensor.name}: sums of sizes are below sizes of sums"
    return None if any(key.endswith("/sum") for key in found) else "no gradients"


def weights(path):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def pruned(secateur, path, folder):
    out, masks = os.path.join(folder, "pruned.onnx"), os.path.join(folder, "masks.npz")
    before = weights(path)
    for options, share in ((["--sparsity", "0.8"], 0.8), (["--pattern", "2:4"], 0.5)):
        result = secateur.run("prune-weights", path, "-o", out, "--masks", masks, "--force", *options)
        if result.code != 0:
            return result.why()
        onnx.checker.check_model(out)
        after, kept = weights(out), np.load(masks)
        if not kept.files:
            return "no masks"
        for name, mask in kept.items():
            if not np.array_equal(after[name], np.where(mask, before[name], 0)):
                return f"{name}: not the original under its mask"
            if abs((~mask).sum() - share * mask.size) > 0.5:
                return f"{name}: {(~mask).mean():.3f} pruned instead of {share}"
            if share == 0.8 and mask.any() and np.abs(before[name][~mask]).max() > np.abs(before[name][mask]).min():
                return f"{name}: a larger weight went"
            # Some layout has four of any block in a row along its sum; it is one of the first two axes.
            blocks = [np.moveaxis(mask, axis, -1).reshape(-1, 4) for axis in (0, 1) if mask.shape[axis] % 4 == 0]
            if share == 0.5 and not any((block.sum(axis=1) == 2).all() for block in blocks):
                return f"{name}: not 2 of each 4"
        for name in set(before) - set(kept.files):
            if not np.array_equal(before[name], after[name]):
                return f"{name} changed without a mask"
    return None
