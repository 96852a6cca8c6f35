"""Gradient models against finite differences in runtimes that share no code with secateur.

Reads what the suite writes when SECATEUR_GRADIENT_CASES names a folder (one folder a case: model.onnx and an .pb file an input),
runs each model in float64 through onnx's reference evaluator, or in ONNX Runtime where the evaluator has no kernel, and compares
`grad/x` with central differences of `loss` along a random direction and along single elements.

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

STEP, TOLERANCE = 1e-6, 2e-6


def runners(model):
    names = [output.name for output in model.graph.output]
    try:
        reference = ReferenceEvaluator(model)
        yield "onnx", lambda feeds: dict(zip(names, reference.run(None, feeds)))
    except Exception:
        pass  # The evaluator lacks an operator, which ONNX Runtime may have.
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return
    yield "ort", lambda feeds: dict(zip(names, session.run(None, feeds)))


def compare(run, feeds, wanted, random):
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
            ends = [float(run({**feeds, name: start + sign * STEP * way})["loss"]) for sign in (1, -1)]
            numeric = (ends[0] - ends[1]) / (2 * STEP)
            worst = max(worst, abs(numeric - float((slope * way).sum())) / scale)
    return None if worst <= TOLERANCE else f"off by {worst:.1e}"


def main(folder):
    random = np.random.default_rng(1)
    results, failures = collections.defaultdict(collections.Counter), []
    for path in sorted(pathlib.Path(folder).iterdir()):
        operator = path.name.rpartition("-")[0]
        model = onnx.load(path / "model.onnx")
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            # GroupNormalization 18 is deprecated in its own version.
            if "deprecated" not in str(error):
                failures.append(f"{path.name}: {error}")
        feeds = {
            file.stem: numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
            for file in path.glob("*.pb")
        }
        wanted = [output.name.removeprefix("grad/") for output in model.graph.output if output.name != "loss"]
        reasons = []
        for runtime, run in runners(model):
            try:
                with np.errstate(all="ignore"):
                    problem = compare(run, feeds, wanted, random)
            except Exception as error:
                reasons.append(f"{runtime}: {type(error).__name__} {str(error)[:120]}")
                continue
            if problem is None:
                results[operator][runtime] += 1
                break
            reasons.append(f"{runtime}: {problem}")
        else:
            results[operator]["failed"] += 1
            failures.append(f"{path.name}: {'; '.join(reasons)}")
    for operator, counts in sorted(results.items()):
        print(f"{operator}: {dict(counts)}")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
