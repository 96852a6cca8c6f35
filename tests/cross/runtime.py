"""Runs models in ONNX Runtime the way bits can be compared: no graph optimisation, one thread."""

import numpy as np
import onnxruntime


# What a rewrite may change by rounding, relative to an output's range.
TOLERANCE = 1e-4


def session(path_or_bytes, level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Prepacked weights take other kernels, and which weights are prepacked depends on how they stand in the file.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(path_or_bytes, options, providers=["CPUExecutionProvider"])


def run(session, feeds):
    """Outputs by name. Inputs that the session does not have are left out of the feeds."""
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in wanted})))


def rounding_allowed(path, feeds, reference):
    """The relative error that rounding explains: TOLERANCE, or twice what ONNX Runtime's own basic rewrites of the original cause.

    Some outputs lie in a range near the arithmetic's own noise (a sigmoid of -8 has a range of 1e-3 and errors of 2e-7).
    """
    rewritten = session(path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    return max(TOLERANCE, 2 * compare(reference, run(rewritten, feeds)).relative)


def flatten(value):
    """The arrays in an output: sequences and maps are opened in a fixed order."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield np.asarray(key)
            yield from flatten(value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flatten(item)
    elif value is None:
        yield np.zeros(0)
    else:
        yield np.asarray(value)


class Difference:
    """How two sets of outputs differ: `equal` is by bit, `relative` is max |a-b| over the output's range."""

    def __init__(self):
        self.equal = True
        self.relative = 0.0
        self.absolute = 0.0
        self.reason = None

    def fail(self, reason):
        self.equal = False
        self.relative = self.absolute = float("inf")
        self.reason = self.reason or reason


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and (a.dtype.hasobject and (a == b).all() or a.tobytes() == b.tobytes())


def compare(reference, other):
    """Compare outputs by name; NaN and infinity must sit at the same positions, integers must be equal."""
    difference = Difference()
    if list(reference) != list(other):
        difference.fail(f"outputs {list(other)} instead of {list(reference)}")
        return difference
    for name in reference:
        left, right = list(flatten(reference[name])), list(flatten(other[name]))
        if len(left) != len(right):
            difference.fail(f"{name}: {len(right)} elements instead of {len(left)}")
            continue
        for a, b in zip(left, right):
            compare_arrays(name, a, b, difference)
    return difference


def compare_arrays(name, a, b, difference):
    if a.dtype != b.dtype or a.shape != b.shape:
        difference.fail(f"{name}: {b.dtype}{list(b.shape)} instead of {a.dtype}{list(a.shape)}")
        return
    if a.size == 0 or same_bits(a, b):
        return
    difference.equal = False
    if a.dtype.kind not in "fc":
        difference.fail(f"{name}: {int((a != b).sum())} of {a.size} {a.dtype} elements differ")
        return
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x)
    same_special = (np.isnan(x) == np.isnan(y)) & (finite == np.isfinite(y))
    same_special &= np.isnan(x) | finite | (x == y)
    if not same_special.all():
        difference.fail(f"{name}: NaN or infinity at other positions")
        return
    if not finite.any():
        return
    x, y = x[finite], y[finite]
    error = float(np.abs(x - y).max())
    extent = max(float(x.max() - x.min()), float(np.abs(x).max()))
    relative = error / extent if extent else (0.0 if error == 0 else float("inf"))
    if relative > difference.relative:
        difference.relative = relative
        difference.reason = f"{name}: max abs {error:.3g} in a range of {extent:.3g}"
    difference.absolute = max(difference.absolute, error)
