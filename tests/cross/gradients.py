"""Gradient models against finite differences in runtimes that share no code with secateur.

Reads what the suite writes when SECATEUR_GRADIENT_CASES names a folder (a folder a case; in it `double` and `float`, each with
model.onnx and an .pb file an input), and compares `grad/x` with central differences of `loss` along a random direction and along
single elements: in float64 through onnx's reference evaluator or ONNX Runtime, and where neither has the kernels in float32
through ONNX Runtime.

    SECATEUR_GRADIENT_CASES=DIR cargo test --test suite autodiff::rules
    python3 tests/cross/gradients.py DIR
"""

import collections
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

# Step and tolerance of an element type.
PRECISION = {"double": (1e-6, 2e-6), "float": (4e-3, 1e-2)}
# The evaluator or ONNX Runtime computes these in float32 inside, also on float64: differences in float64 say nothing.
SINGLE = {"Cast", "Erf", "Gelu", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization", "Shrink"}

# Its loop over channels runs over the batch.
WRONG_IN_EVALUATOR = {"LRN"}


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
