"""Folding against ONNX Runtime: an operator of constants, on numbers and on special values, in every float type.

The folded constant is ONNX's definition rounded once, so it differs from ONNX Runtime's kernel by no more than that kernel's own
error; what is NaN, infinite or a zero of some sign is the same. `--only exact` folds what gives the same bits, and nothing else.
"""

import os
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

import runtime

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.5, 88.0, 90.0, 100.0, -17.0, -40.0, -90.0, -104.0, 1e-30, 3e38, 17.0]
UNARY = {
    "Abs": {}, "Acos": {}, "Acosh": {}, "Asin": {}, "Asinh": {}, "Atan": {}, "Atanh": {}, "Ceil": {}, "Celu": {"alpha": 0.5}, "Cos": {}, "Cosh": {}, "Elu": {"alpha": 0.7}, "Erf": {}, "Exp": {},
    "Floor": {}, "Gelu": {"approximate": "tanh"}, "HardSigmoid": {}, "HardSwish": {}, "IsInf": {}, "IsNaN": {}, "LeakyRelu": {}, "Log": {}, "Mish": {}, "Neg": {}, "Reciprocal": {}, "Relu": {},
    "Round": {}, "Selu": {}, "Sigmoid": {}, "Sign": {}, "Sin": {}, "Sinh": {}, "Softplus": {}, "Softsign": {}, "Sqrt": {}, "Tan": {}, "Tanh": {}, "ThresholdedRelu": {}, "LogSoftmax": {}, "Softmax": {},
    "GeluErf": {},
}
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu", "Less", "Greater", "Equal", "Mod", "Mean", "Sum")
# A folded operator in --only exact: IEEE 754 says what it gives.
EXACT = {"Abs", "Ceil", "Floor", "IsInf", "IsNaN", "Neg", "Relu", "Round", "Sqrt", "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "PRelu", "Less", "Greater", "Equal", "Sum", "Max", "Min", "Sign"}
# What ONNX leaves open: the sign of NaN, and which zero is the larger one.
LEFT = {"Sign", "Max", "Min"}
# Errors of kernels, relative and below SMALL absolute: ONNX Runtime approximates Erf, Tanh, Sigmoid and Exp in float.
ALLOWED = {np.float32: 3e-6, np.float64: 1e-7, np.float16: 3e-3}
SMALL = 0.1


def check(report, secateur):
    rng = np.random.default_rng(13)
    for dtype in (np.float32, np.float64, np.float16):
        with np.errstate(all="ignore"):
            values = np.array(SPECIAL + list(rng.normal(0, 3, 200)), dtype)
        for kind, attributes in UNARY.items():
            one(report, secateur, dtype, kind, [values], attributes)
        # Without the largest numbers: whether a mean overflows on the way is the engine's.
        some = values[np.abs(values.astype(np.float64)) < 1e30][:20]
        some = np.concatenate([some, np.array([np.inf, -np.inf, np.nan], dtype)])
        pairs = [np.repeat(some, some.size), np.tile(some, some.size)]
        for kind in BINARY:
            one(report, secateur, dtype, kind, pairs, {"fmod": 1} if kind == "Mod" else {})


def nodes_of(kind, names, attributes):
    if kind == "GeluErf":
        return [helper.make_node("Gelu", names, ["r"])]
    return [helper.make_node(kind, names, ["r"], **attributes)]


def one(report, secateur, dtype, kind, arrays, attributes):
    name = f"{kind} {np.dtype(dtype).name}"
    if not report.wants(name):
        return
    names = [f"c{index}" for index in range(len(arrays))]
    flag = helper.make_tensor_value_info("flag", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [*nodes_of(kind, names, attributes), helper.make_node("Identity", ["flag"], ["same"])], "fold", [flag],
        [helper.make_empty_tensor_value_info("r"), helper.make_empty_tensor_value_info("same")], [numpy_helper.from_array(a, n) for a, n in zip(arrays, names)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    feed = {"flag": np.zeros(1, np.float32)}
    try:
        session = runtime.session(model.SerializeToString())
    except Exception as error:
        report.skipped(name, "ONNX Runtime has no kernel: " + str(error)[:100])
        return
    output = helper.make_tensor_value_info("r", helper.np_dtype_to_tensor_dtype(runtime.run(session, feed)["r"].dtype), None)
    model.graph.output[0].CopyFrom(output)
    model.graph.output[1].CopyFrom(helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [1]))
    wanted = runtime.run(session, feed)["r"]
    with tempfile.TemporaryDirectory(prefix="secateur-fold-") as folder:
        source, target = os.path.join(folder, "source.onnx"), os.path.join(folder, "target.onnx")
        onnx.save(model, source)
        for mode, flags in (("default", ()), ("exact", ("--only", "exact"))):
            result = secateur.run("simplify", source, "-o", target, "--no-provenance", "--no-verify", *flags)
            if not os.path.exists(target):
                report.failed(f"{name} [{mode}]", result.why())
                continue
            judge(report, f"{name} [{mode}]", mode, kind, dtype, wanted, target, feed)
            os.remove(target)


def judge(report, name, mode, kind, dtype, wanted, target, feed):
    folded = all(node.op_type in ("Identity", "Constant") for node in onnx.load(target).graph.node)
    if mode == "exact" and folded and kind not in EXACT:
        report.failed(name, "folded under --only exact although engines round it in their own ways")
        return
    if not folded and kind not in LEFT and (mode == "default" or kind in EXACT) and "oftmax" not in kind:
        report.failed(name, "not folded")
        return
    found = runtime.run(runtime.session(target), feed)["r"]
    problem = difference(wanted, found, 0.0 if mode == "exact" or kind in EXACT else ALLOWED[dtype])
    if problem:
        report.failed(name, problem)
    else:
        report.passed(name)


def difference(wanted, found, allowed):
    """What is wrong, or None: special values in the same places, others within a relative error (absolute below SMALL)."""
    if wanted.dtype != found.dtype or wanted.shape != found.shape:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if wanted.dtype.kind != "f":
        return None if (wanted == found).all() else "truth values differ"
    x, y = wanted.astype(np.float64), found.astype(np.float64)
    special = ~np.isfinite(x) | ~np.isfinite(y)
    with np.errstate(all="ignore"):
        wrong = np.where(special, ~((x == y) | np.isnan(x) & np.isnan(y)), np.abs(x - y) > allowed * np.maximum(np.abs(x), SMALL if allowed else 0))
    if not wrong.any():
        return None
    at = int(np.flatnonzero(wrong)[0])
    return f"element {at}: {found.ravel()[at]!r} instead of {wanted.ravel()[at]!r} ({int(wrong.sum())} of {wrong.size})"
