"""Gradient models against finite differences in runtimes that share no code with secateur.

As a check of the runner: `secateur gradients` on the trained models under fixtures/, every parameter, in float64
where the runtimes compute in it.

By itself it reads what the suite writes when SECATEUR_GRADIENT_CASES names a folder (a folder a case; in it `double` and `float`, each with
model.onnx and an .pb file an input), and compares `grad/x` with central differences of `loss` along a random direction and along
single elements: in float64 through onnx's reference evaluator or ONNX Runtime, and where neither has the kernels in float32
through ONNX Runtime.

    SECATEUR_GRADIENT_CASES=DIR cargo test --test suite autodiff::rules
    python3 tests/cross/gradients.py DIR
"""

import collections
import os
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from corpus import FIXTURES

# Step and tolerance of an element type.
PRECISION = {"double": (1e-6, 2e-6), "float": (4e-3, 1e-2)}
# The evaluator or ONNX Runtime computes these in float32 inside, also on float64: differences in float64 say nothing.
SINGLE = {"Cast", "Erf", "Gelu", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization", "Shrink"}

# Trained models whose gradients the runner checks, and how many samples they get.
TRAINED = {"digits_mlp": 6, "digits_cnn": 2, "digits_cnn_bn": 2, "digits_gru": 2, "digits_vit": 2}

# Its loop over channels runs over the batch.
WRONG_IN_EVALUATOR = {"LRN"}


def check(report, secateur):
    data = np.load(os.path.join(FIXTURES, "data", "digits_test.npz"))
    with tempfile.TemporaryDirectory(prefix="secateur-gradients-") as folder:
        for name, count in TRAINED.items():
            if not report.wants(name):
                continue
            path, out = os.path.join(FIXTURES, name + ".onnx"), os.path.join(folder, name + ".onnx")
            result = secateur.run("gradients", path, "--loss", "cross-entropy", "-o", out, "--force")
            if result.code != 0:
                report.failed(name, result.why())
                continue
            onnx.checker.check_model(out, full_check=True)
            # The wrong labels: what the model is sure of has gradients near 0.
            x, y = data["x"][:count], (data["y"][:count] + 1) % 10
            try:
                problem = trained(onnx.load(out), x, y)
            except Exception as error:
                report.skipped(name, f"not run in float64: {type(error).__name__} {str(error)[:100]}")
                continue
            (report.failed if problem else report.passed)(name, problem or "")


def trained(model, x, y):
    """What is wrong with the gradients of a model by its own parameters."""
    single = any(node.op_type in SINGLE - {"Cast"} for node in model.graph.node)
    wide = model if single else double(model)
    kind = np.float32 if single else np.float64
    wanted = [output.name.removeprefix("grad/") for output in wide.graph.output if output.name != "loss"]
    feeds = {tensor.name: numpy_helper.to_array(tensor) for tensor in wide.graph.initializer if tensor.name in wanted}
    if not wanted or set(feeds) != set(wanted):
        return f"gradients of {wanted} for parameters {sorted(feeds)}"
    for tensor in wide.graph.initializer:
        if tensor.name in feeds:
            wide.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    own = [value.name for value in model.graph.input if value.name != "labels"]
    feeds |= {own[0]: x.astype(kind), "labels": y.astype(np.int64)}
    try:
        run = runtime(wide)
        run(feeds)
    except Exception:
        # ONNX Runtime has no float64 kernels for some operators, convolutions among them.
        run = reference(wide)
    with np.errstate(all="ignore"):
        return compare(run, feeds, wanted, "float" if single else "double", np.random.default_rng(3))


def double(model):
    """The model in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    widen = lambda tensor: tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            widen(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == onnx.TensorProto.FLOAT:
                widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
    return wide


def reference(model):
    names = [output.name for output in model.graph.output]
    evaluator = ReferenceEvaluator(model)
    return lambda feeds: dict(zip(names, evaluator.run(None, feeds)))


def runtime(model):
    names = [output.name for output in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: dict(zip(names, session.run(None, feeds)))


def compare(run, feeds, wanted, dtype, random):
    step, tolerance = PRECISION[dtype]
    base = run(feeds)
    worst = 0.0
    for name in wanted:
        slope, start = np.asarray(base[f"grad/{name}"]), feeds[name]
        if slope.shape != start.shape:
            return f"grad/{name} has shape {slope.shape}, not {start.shape}"
        scale = max(np.linalg.norm(slope), 0.1)
        for direction in range(3):
            way = random.uniform(-1, 1, start.shape)
            if direction:
                way = np.zeros(start.shape)
                way.reshape(-1)[random.integers(start.size)] = 1.0
            way = way / np.linalg.norm(way)
            moved = [np.asarray(start + sign * step * way).astype(start.dtype) for sign in (1, -1)]
            ends = [float(run({**feeds, name: end})["loss"]) for end in moved]
            numeric = (ends[0] - ends[1]) / (2 * step)
            worst = max(worst, abs(numeric - float((slope * way).sum())) / scale)
    return None if worst <= tolerance else f"off by {worst:.1e}"


def load(folder):
    model = onnx.load(folder / "model.onnx")
    feeds = {
        file.stem: numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in folder.glob("*.pb")
    }
    return model, feeds


def judge(path, operator, random):
    """Which runtime agreed, and what the others said.

    ONNX Runtime has the last word: the evaluator is overruled where the two differ.
    """
    reasons = []
    for dtype, name, make in [("double", "ort", runtime), ("double", "onnx", reference), ("float", "ort", runtime)]:
        if operator in SINGLE and dtype == "double" or operator in WRONG_IN_EVALUATOR and name == "onnx":
            continue
        model, feeds = load(path / dtype)
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            # GroupNormalization 18 is deprecated in its own version.
            if "deprecated" not in str(error):
                return None, [f"invalid: {error}"]
        wanted = [output.name.removeprefix("grad/") for output in model.graph.output if output.name != "loss"]
        try:
            with np.errstate(all="ignore"):
                problem = compare(make(model), feeds, wanted, dtype, random)
        except Exception as error:
            reasons.append(f"{name} {dtype}: {type(error).__name__} {str(error)[:100]}")
            continue
        if problem is None:
            return f"{name} {dtype}", reasons
        reasons.append(f"{name} {dtype}: {problem}")
        if name == "ort":
            return None, reasons
    return (None if any("off by" in reason for reason in reasons) else "not run"), reasons


def main(folder):
    random = np.random.default_rng(1)
    results, failures = collections.defaultdict(collections.Counter), []
    for path in sorted(pathlib.Path(folder).iterdir()):
        operator = path.name.rpartition("-")[0]
        agreed, reasons = judge(path, operator, random)
        results[operator][agreed or "failed"] += 1
        if agreed in (None, "not run"):
            failures.append(f"{path.name}: {'; '.join(reasons)}")
    for operator, counts in sorted(results.items()):
        print(f"{operator}: {dict(counts)}")
    print("\n".join(failures))
    return 1 if any("failed" in counts for counts in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
