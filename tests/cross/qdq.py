"""QuantizeLinear and DequantizeLinear themselves, in tract with the kernels of this project, against ONNX Runtime: bit for bit.

500 random cases: every type of codes that ONNX Runtime has kernels for, float and half scales, per tensor, per axis and blocked, with
and without zero points, ties, saturation, infinities, `saturate: 0` of the floats of 8 bits. What ONNX Runtime refuses is counted as
skipped. Models have no inputs: what they compute is compared with a model of the recorded results.
"""

import os
import tempfile

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import runtime

CASES = 500
PER_MODEL = 50
INTEGERS = {
    "INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "UINT16": (0, 65535),
    "INT4": (-8, 7), "UINT4": (0, 15), "INT2": (-2, 1), "UINT2": (0, 3),
}
FLOATS = {
    "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn, "FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "FLOAT8E5M2": ml_dtypes.float8_e5m2, "FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
LARGEST = {"FLOAT8E4M3FN": 448, "FLOAT8E4M3FNUZ": 240, "FLOAT8E5M2": 57344, "FLOAT8E5M2FNUZ": 57344}
KINDS = list(INTEGERS) + list(FLOATS)


def check(report, secateur):
    rng = np.random.default_rng(11)
    with tempfile.TemporaryDirectory(prefix="secateur-qdq-") as folder:
        ran = {}
        cases = [Case(rng, number) for number in range(CASES)]
        for case in cases:
            if not report.wants(case.name):
                continue
            if case.beyond():
                report.skipped(case.name, "ONNX Runtime makes NaN of what rounds to infinity")
                continue
            try:
                case.expected = runtime.run(runtime.session(model([case]).SerializeToString()), {})[case.output]
                ran.setdefault(case.kind, 0)
                ran[case.kind] += 1
            except Exception as error:  # noqa: BLE001 - a case that ONNX Runtime refuses says nothing about ours
                report.skipped(case.name, str(error).splitlines()[0][:120])
        cases = [case for case in cases if case.expected is not None]
        for first in range(0, len(cases), PER_MODEL):
            examine(report, secateur, folder, cases[first:first + PER_MODEL])
        if not report.only:
            report.note(f"{len(cases)} of {CASES} cases run in ONNX Runtime: " +
                        ", ".join(f"{kind} {count}" for kind, count in sorted(ran.items())))
            if len(ran) < 10:
                report.failed("types", f"ONNX Runtime ran {sorted(ran)} only")


def examine(report, secateur, folder, cases):
    """All cases in one model; one by one to name those that differ."""
    if not cases:
        return
    path, reference = os.path.join(folder, "cases.onnx"), os.path.join(folder, "reference.onnx")
    onnx.save(model(cases), path)
    onnx.save(recorded(cases), reference)
    result = secateur.run("verify", reference, path, "--json")
    verdict = result.json()["verdict"] if result.code in (0, 1) and result.stdout else result.why()
    if verdict == "equal":
        for case in cases:
            report.passed(case.name)
    elif len(cases) > 1:
        half = len(cases) // 2
        examine(report, secateur, folder, cases[:half])
        examine(report, secateur, folder, cases[half:])
    else:
        report.failed(cases[0].name, f"{verdict} {result.why()[:300] if verdict != 'different' else ''}")


class Case:
    """One operator with constant operands, and a Cast behind a quantization to see its codes."""

    def __init__(self, rng, number):
        self.kind = KINDS[number % len(KINDS)]
        self.quantizes = bool(rng.integers(2))
        self.half = rng.integers(5) == 0
        layout = ("tensor", "axis", "block")[int(rng.integers(3))]
        shape = [int(size) for size in rng.integers(1, 7, int(rng.integers(1, 5)))]
        axis = int(rng.integers(len(shape)))
        block = int(rng.integers(1, shape[axis] + 1))
        self.attributes = {}
        if layout == "tensor":
            parameters = []
        elif layout == "axis":
            parameters = [shape[axis]]
        else:
            parameters = list(shape)
            parameters[axis] = -(-shape[axis] // block)
            self.attributes["block_size"] = block
        if layout != "tensor":
            self.attributes["axis"] = axis - len(shape) if rng.integers(2) else axis
        self.name = f"{number} {'Quantize' if self.quantizes else 'Dequantize'} {self.kind} {layout} {'half' if self.half else 'float'}"
        self.output = f"y{number}"
        self.number, self.expected = number, None
        real = np.float16 if self.half else np.float32
        # Powers of two make ties, others do not.
        scale = rng.choice([0.25, 0.5, 1.0, 2.0], parameters) if rng.integers(2) else rng.uniform(0.01, 3, parameters)
        scale = np.asarray(scale, real)
        zero = self.zero(rng, parameters)
        self.constants = [tensor(f"s{number}", scale)]
        if zero is not None:
            self.constants.append(zero)
        if self.quantizes:
            with np.errstate(over="ignore"):
                self.constants.insert(0, tensor(f"x{number}", self.reals(rng, shape).astype(real)))
            if zero is None:
                self.attributes["output_dtype"] = getattr(TensorProto, self.kind)
            if self.kind in FLOATS and rng.integers(2):
                self.attributes["saturate"] = 0
        else:
            self.constants.insert(0, self.codes(rng, shape))

    def beyond(self):
        """Whether a quotient is between the largest value and the first infinite one of a float8e5m2 that does not saturate."""
        if self.kind != "FLOAT8E5M2" or self.attributes.get("saturate", 1):
            return False
        x, scale = (np.abs(numpy_helper.to_array(constant).astype(np.float64)) for constant in self.constants[:2])
        low, high = x / scale.max(), x / scale.min()
        return bool(((high > 57344) & (low < 65537) & np.isfinite(x)).any())

    def reals(self, rng, shape):
        low, high = INTEGERS.get(self.kind, (-LARGEST.get(self.kind, 0), LARGEST.get(self.kind, 0)))
        span = float(rng.choice([1.0, 0.05, 3.0])) * max(high, -low)
        values = rng.uniform(-span, span, shape)
        choice = rng.integers(3)
        if choice == 0:
            values = np.round(values * 2) / 2
        elif choice == 1:
            values = values * 2.0 ** rng.integers(-18, 1, shape)
        extreme = rng.random(shape)
        return np.where(extreme < 0.03, np.inf, np.where(extreme > 0.97, -np.inf, values))

    def zero(self, rng, parameters):
        if rng.integers(4) == 0:
            return None
        if self.kind in FLOATS:
            return codes(f"z{self.number}", self.kind, np.zeros(parameters))
        low, high = INTEGERS[self.kind]
        return codes(f"z{self.number}", self.kind, rng.integers(low, high + 1, parameters))

    def codes(self, rng, shape):
        if self.kind in FLOATS:
            return codes(f"x{self.number}", self.kind, rng.uniform(-1, 1, shape) * LARGEST[self.kind] * 2.0 ** rng.integers(-16, 1, shape))
        low, high = INTEGERS[self.kind]
        return codes(f"x{self.number}", self.kind, rng.integers(low, high + 1, shape))

    def nodes(self):
        inputs = [constant.name for constant in self.constants]
        if not self.quantizes:
            return [helper.make_node("DequantizeLinear", inputs, [self.output], **self.attributes)]
        seen = TensorProto.FLOAT if self.kind in FLOATS else TensorProto.INT32
        return [helper.make_node("QuantizeLinear", inputs, [f"q{self.number}"], **self.attributes),
                helper.make_node("Cast", [f"q{self.number}"], [self.output], to=seen)] if seen == TensorProto.INT32 else [
                   helper.make_node("QuantizeLinear", inputs, [f"q{self.number}"], **self.attributes),
                   # Which NaN a cast makes is nobody's concern.
                   helper.make_node("Cast", [f"q{self.number}"], [f"c{self.number}"], to=seen),
                   helper.make_node("IsNaN", [f"c{self.number}"], [f"n{self.number}"]),
                   helper.make_node("Where", [f"n{self.number}", "nan", f"c{self.number}"], [self.output])]

    def type(self):
        if self.quantizes:
            return TensorProto.FLOAT if self.kind in FLOATS else TensorProto.INT32
        return TensorProto.FLOAT16 if self.half else TensorProto.FLOAT


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def codes(name, kind, values):
    """A constant of the type, from numbers that are rounded to it."""
    values = np.asarray(values)
    if kind in FLOATS:
        raw = values.astype(np.float32).astype(FLOATS[kind]).view(np.uint8)
        return helper.make_tensor(name, getattr(TensorProto, kind), values.shape, raw.tobytes(), raw=True)
    return helper.make_tensor(name, getattr(TensorProto, kind), values.shape, values.ravel().tolist())


def model(cases):
    narrow = any(case.kind.endswith("INT2") for case in cases)
    outputs = [helper.make_tensor_value_info(case.output, case.type(), case.constants[0].dims) for case in cases]
    graph = helper.make_graph([node for case in cases for node in case.nodes()], "cases", [], outputs,
                              [constant for case in cases for constant in case.constants] + [tensor("nan", np.float32(12345))])
    opset = 25 if narrow else 21
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13 if narrow else 10)


def recorded(cases):
    """A model that answers what ONNX Runtime did."""
    nodes, outputs, constants = [], [], []
    for case in cases:
        constants.append(tensor(f"r{case.number}", case.expected))
        nodes.append(helper.make_node("Identity", [f"r{case.number}"], [case.output]))
        outputs.append(helper.make_tensor_value_info(case.output, case.type(), case.constants[0].dims))
    graph = helper.make_graph(nodes, "recorded", [], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
