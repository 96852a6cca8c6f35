"""Structured pruning against the onnx package and ONNX Runtime.

* Every model at ratio 0.5: valid, loadable, the same outputs with the same shapes, finite where the original's are.
* Convolutional models: which indices went is read off the weights alone, by comparing the cut constants with the original's; the
  original with those slices set to zero must give what the cut model gives in ONNX Runtime.

By default trained models and fixtures run; SECATEUR_CROSS_ALL=1, or --only with a name, takes the others too.
"""

import os
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

import corpus
import runtime

# Models without normalisation over channels at run time, so that zeros are the same as nothing.
MASKED = ("digits_cnn.onnx", "digits_cnn_bn.onnx", "lenet5_mnist.onnx", "resnet8_cifar10.onnx", "resnet8_cifar10_bn.onnx")
TOLERANCE = 1e-4
LARGEST = 64 << 20


def check(report, secateur):
    every = bool(os.environ.get("SECATEUR_CROSS_ALL") or report.only)
    with tempfile.TemporaryDirectory(prefix="secateur-prune-") as folder:
        for model in corpus.every_model():
            if not report.wants(model.name):
                continue
            if os.path.getsize(model.path) > LARGEST:
                report.skipped(model.name, "too large")
                continue
            trained = model.name.startswith(("models/trained/", "fixtures/")) or os.path.basename(model.path) in MASKED
            if not every and not trained:
                report.skipped(model.name, "only checked when it is named with --only, or with SECATEUR_CROSS_ALL=1")
                continue
            check_model(report, secateur, folder, model)


def check_model(report, secateur, folder, model):
    try:
        feed = model.inputs(3)
        expected = runtime.run(runtime.session(model.path), feed)
    except Exception as error:  # noqa: BLE001 - a model that ONNX Runtime refuses says nothing about ours
        report.skipped(model.name, f"does not run: {str(error)[:100]}")
        return
    target = os.path.join(folder, "cut.onnx")
    if os.path.exists(target):
        os.remove(target)
    result = secateur.run("prune-channels", model.path, "-o", target, "--ratio", "0.5", "--json")
    if result.code == 1 and not os.path.exists(target) and reasons(result):
        report.skipped(model.name, f"nothing to cut: {reasons(result)}")
        return
    if result.code != 0:
        report.failed(model.name, result.why())
        return
    try:
        onnx.checker.check_model(target)
        found = runtime.run(runtime.session(target), feed)
    except Exception as error:  # noqa: BLE001
        report.failed(model.name, f"{type(error).__name__}: {str(error)[:200]}")
        return
    problem = compare(expected, found)
    if not problem and os.path.basename(model.path) in MASKED:
        problem = against_masked(model.path, target, feed, found)
    if problem:
        report.failed(model.name, problem)
    else:
        report.passed(model.name)


def reasons(result):
    """What a run that changed nothing says was left alone, and why; empty if it says nothing."""
    document = result.json() or {}
    if not document.get("unchanged"):
        return ""
    return "; ".join(document.get("warnings", []))


def compare(expected, found):
    if list(expected) != list(found):
        return f"outputs {list(found)}, expected {list(expected)}"
    for name, value in expected.items():
        a, b = np.asarray(value), np.asarray(found[name])
        if a.dtype.kind not in "fiu":
            continue
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {b.dtype}{list(b.shape)}, expected {a.dtype}{list(a.shape)}"
        if a.dtype.kind == "f" and np.isfinite(a).all() and not np.isfinite(b).all():
            return f"{name}: not finite"
    return None


def kept_indices(before, after):
    """The indices along each axis of `before` that `after` keeps, found by value; None where values do not tell."""
    flat = before.ravel()
    values, first, counts = np.unique(flat, return_index=True, return_counts=True)
    place = {value: at for value, at, count in zip(values, first, counts) if count == 1}
    kept = [np.full(size, -1) for size in after.shape]
    for index in np.ndindex(*after.shape):
        at = place.get(after[index])
        if at is None:
            continue
        for axis, source in enumerate(np.unravel_index(at, before.shape)):
            if kept[axis][index[axis]] not in (-1, source):
                return None
            kept[axis][index[axis]] = source
    if any((axis < 0).any() for axis in kept):
        return None
    return kept if np.array_equal(before[np.ix_(*kept)], after) else None


def against_masked(source, target, feed, found):
    original, cut = onnx.load(source), onnx.load(target)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in cut.graph.initializer}
    variances = {node.input[4] for node in original.graph.node if node.op_type == "BatchNormalization"}
    masked = 0
    for tensor in original.graph.initializer:
        before, after = numpy_helper.to_array(tensor), constants.get(tensor.name)
        if after is None or after.shape == before.shape or tensor.name in variances or before.dtype.kind != "f":
            continue
        kept = kept_indices(before, after)
        if kept is None:
            return f"{tensor.name}: the cut constant is no selection of the original's slices"
        blanked = np.zeros_like(before)
        blanked[np.ix_(*kept)] = before[np.ix_(*kept)]
        tensor.CopyFrom(numpy_helper.from_array(blanked, tensor.name))
        masked += 1
    if masked == 0:
        return "nothing was cut"
    reference = runtime.run(runtime.session(original.SerializeToString()), feed)
    for name, value in reference.items():
        apart = np.abs(value - found[name]).max() / max(np.abs(value).max(), 1e-30)
        if not apart <= TOLERANCE:
            return f"{name}: differs from the masked original by {apart:.2e} of its greatest value"
    return None
