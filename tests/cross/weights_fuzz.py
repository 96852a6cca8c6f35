"""Random nets of linear layers through every pass that makes codes of weights, against ONNX Runtime.

MatMul and Gemm with the constant on either side, transposed, behind Transpose, Cast and Identity, shared, in and around bodies of
If; Gemm with every form of bias, alpha and beta; Conv, grouped ConvTranspose, LSTM, GRU, RNN, embeddings, tied tables, Einsum;
float16; batches of any size. Each result is valid, loads with all optimisations, keeps names and shapes, is no larger, and comes
near the float model. SECATEUR_FUZZ is the number of nets (60 by default), SECATEUR_FUZZ_SEED the first seed.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import runtime

NETS = 60
VARIANTS = {
    # verb and options; the least SQNR in decibels of any output; what the file may grow by, for nets of few weights
    "dynamic": (["quantize-dynamic", "--minimum-elements", "1"], 12),
    "int8": (["quantize-weights", "--minimum-elements", "1"], 22),
    "uint8": (["quantize-weights", "--minimum-elements", "1", "--type", "uint8", "--symmetric=false"], 22),
    "int4": (["quantize-weights", "--minimum-elements", "1", "--type", "int4", "--block", "16"], 4),
    "nbits": (["quantize-weights", "--minimum-elements", "1", "--type", "uint4", "--block", "16",
               "--symmetric=false", "--form", "mat-mul-n-bits"], 4),
    "plain": (["quantize-weights", "--minimum-elements", "1", "--prepare=false"], 22),
    "static": (["quantize", "--data"], 8),
}


def check(report, secateur):
    nets = int(os.environ.get("SECATEUR_FUZZ", NETS))
    first = int(os.environ.get("SECATEUR_FUZZ_SEED", 0))
    with tempfile.TemporaryDirectory(prefix="secateur-weights-") as folder:
        for seed in range(first, first + nets):
            if report.wants(f"net {seed}"):
                one(report, secateur, folder, seed)


def one(report, secateur, folder, seed):
    net = Net(np.random.default_rng(seed))
    model = net.model()
    onnx.checker.check_model(model, full_check=True)
    source, target = os.path.join(folder, "net.onnx"), os.path.join(folder, "out.onnx")
    onnx.save(model, source)
    np.savez(os.path.join(folder, "data.npz"), **net.feeds(16))
    feeds = net.feeds(int(net.rng.choice([1, 3])))
    reference = runtime.run(runtime.session(source), feeds)
    if net.half and not loads(source):
        report.skipped(f"net {seed}", "ONNX Runtime itself crashes while it optimises the float16 model")
        return
    for variant, (arguments, least) in VARIANTS.items():
        name = f"net {seed} {variant}"
        if not report.wants(name):
            continue
        arguments = list(arguments)
        if variant == "static":
            if net.half or net.batch is not None:
                continue
            arguments.append(os.path.join(folder, "data.npz"))
        if os.path.exists(target):
            os.remove(target)
        result = secateur.run(*arguments, source, "-o", target, "--no-verify")
        if not os.path.exists(target):
            if result.code in (0, 1) and "nothing to quantize" in result.stdout + result.stderr:
                report.passed(name, "nothing to quantize")
            else:
                report.failed(name, result.why())
            continue
        problem, noise = compare(target, feeds, reference, least)
        if problem:
            report.failed(name, problem)
        else:
            report.passed(name, f"{noise:.1f} dB, {' '.join(net.steps)}")


def compare(target, feeds, reference, least):
    try:
        onnx.checker.check_model(target, full_check=True)
        found = runtime.run(onnxruntime.InferenceSession(target, quiet(), providers=["CPUExecutionProvider"]), feeds)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}", 0
    if list(found) != list(reference):
        return f"outputs {list(found)}", 0
    worst = np.inf
    for name, expected in reference.items():
        value = found[name]
        if value.shape != expected.shape or value.dtype != expected.dtype:
            return f"{name}: {value.dtype}{value.shape} instead of {expected.dtype}{expected.shape}", 0
        a, b = expected.astype(np.float64), value.astype(np.float64)
        noise = ((a - b) ** 2).sum()
        ratio = 10 * np.log10((a ** 2).sum() / noise) if noise > 0 and (a ** 2).sum() > 0 else np.inf
        worst = min(worst, ratio)
        if not ratio >= least:
            return f"{name}: {ratio:.1f} dB", worst
    return None, worst


def loads(path):
    """Whether ONNX Runtime loads a model with all optimisations, asked of another process."""
    code = f"import onnxruntime as o; o.InferenceSession({path!r}, providers=['CPUExecutionProvider'])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def quiet():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


class Net:
    """A chain of layers over values [batch, features] or [length, batch, features]."""

    def __init__(self, rng):
        self.rng = rng
        self.half = rng.random() < 0.2
        self.opset = int(rng.choice([13, 14, 17, 18, 19, 21]))
        self.batch = None if rng.random() < 0.7 else 3
        self.nodes, self.constants, self.outputs, self.steps = [], [], [], []
        self.weights = []
        self.ids = False
        self.count = 0
        self.length = int(rng.choice([4, 6]))
        self.width = int(rng.choice([16, 24, 32]))
        self.deep = rng.random() < 0.5

    @property
    def dtype(self):
        return np.float16 if self.half else np.float32

    @property
    def kind(self):
        return TensorProto.FLOAT16 if self.half else TensorProto.FLOAT

    def name(self, stem):
        self.count += 1
        # Names that passes like to give, so that some are taken.
        return f"{stem}{self.count}" + ("_scale" if self.rng.random() < 0.1 else "")

    def add(self, operator, inputs, **attributes):
        output = self.name("v")
        named = {"name": f"n_{output}"} if self.rng.random() < 0.5 else {}
        self.nodes.append(helper.make_node(operator, inputs, [output], **named, **attributes))
        return output

    def constant(self, array, stem="w"):
        name = self.name(stem)
        if self.rng.random() < 0.15:
            tensor = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape, scale=None):
        scale = scale if scale is not None else 1 / np.sqrt(max(shape[-2] if len(shape) > 1 else 1, 1))
        return (self.rng.standard_normal(shape) * scale).astype(self.dtype)

    def weight(self, rows, columns):
        """A value [rows, columns] from a constant: stored so, transposed, in half precision, or shared."""
        way = self.rng.random()
        known = [value for shape, value in self.weights if shape == (rows, columns)]
        if known and way < 0.3:
            return known[int(self.rng.integers(len(known)))]
        turned = [value for shape, value in self.weights if shape == (columns, rows)]
        if turned and way < 0.45:
            return self.add("Transpose", [turned[0]], perm=[1, 0])
        array = self.random(rows, columns)
        if way < 0.6:
            value = self.add("Transpose", [self.constant(np.ascontiguousarray(array.T))], perm=[1, 0])
        elif way < 0.7 and not self.half:
            value = self.add("Cast", [self.constant(array.astype(np.float16))], to=TensorProto.FLOAT)
        elif way < 0.75:
            value = self.add("Identity", [self.constant(array)])
        else:
            value = self.constant(array)
        self.weights.append(((rows, columns), value))
        return value

    def model(self):
        value = "x"
        for _ in range(int(self.rng.integers(1, 6))):
            layers = [self.product, self.left if self.deep else self.gemm, self.branch, self.elementwise, self.embedding,
                      self.recurrent if self.deep else self.gemm, self.convolution if self.deep else self.gemm, self.einsum, self.lora]
            layer = layers[int(self.rng.integers(len(layers)))]
            self.steps.append(layer.__name__)
            value = layer(value)
            if self.rng.random() < 0.15:
                self.outputs.append(value)
        self.outputs = [name for name in dict.fromkeys(self.outputs) if name != value and name != "x"] + [self.add("Identity", [value])]
        batch = self.batch or "b"
        shape = [self.length, batch, self.width] if self.deep else [batch, self.width]
        if not self.deep:
            shape = [batch, self.first]
        else:
            shape = [self.first_length, batch, self.first]
        inputs = [helper.make_tensor_value_info("x", self.kind, shape)]
        if self.ids:
            inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, shape[:-1]))
        outputs = [helper.make_tensor_value_info(name, self.kind, [None] * (3 if self.deep else 2)) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)

    @property
    def first(self):
        self.__dict__.setdefault("_first", self.width)
        return self._first

    @property
    def first_length(self):
        self.__dict__.setdefault("_length", self.length)
        return self._length

    def begin(self):
        return self.first, self.first_length

    def feeds(self, samples):
        self.begin()
        rng = np.random.default_rng(5)
        batch = self.batch or samples
        shape = (self._length, batch, self._first) if self.deep else (batch, self._first)
        feeds = {"x": rng.standard_normal(shape).astype(self.dtype)}
        if self.ids:
            feeds["ids"] = rng.integers(0, 20, shape[:-1])
        return feeds

    def product(self, value):
        self.begin()
        columns = int(self.rng.choice([16, 24, 32]))
        value = self.add("MatMul", [value, self.weight(self.width, columns)])
        self.width = columns
        if self.rng.random() < 0.4:
            value = self.add("Add", [value, self.constant(self.random(columns, scale=0.3), "b")])
        return value

    def left(self, value):
        self.begin()
        # [T, B, F] -> [B, T, F], times [rows, T] from the left, and back.
        rows = int(self.rng.choice([4, 6, 8]))
        value = self.add("Transpose", [value], perm=[1, 0, 2])
        value = self.add("MatMul", [self.weight(rows, self.length), value])
        self.length = rows
        # The ids that an embedding adds have the first length.
        return self.add("Transpose", [value], perm=[1, 0, 2])

    def gemm(self, value):
        self.begin()
        columns = int(self.rng.choice([16, 24, 32]))
        transposed = self.rng.random() < 0.6
        weight = self.weight(columns, self.width) if transposed else self.weight(self.width, columns)
        attributes = {"transB": 1} if transposed else {}
        if self.rng.random() < 0.2:
            value = self.add("Transpose", [value], perm=[1, 0])
            attributes["transA"] = 1
        if self.rng.random() < 0.2:
            attributes["alpha"] = float(self.rng.choice([0.5, -1.5]))
        if self.rng.random() < 0.2:
            attributes["beta"] = float(self.rng.choice([0.5, 2.0]))
        shapes = [None, (columns,), (columns,), (1, columns), (1,), (), (1, 1)]
        if self.batch:
            shapes += [(self.batch, 1), (self.batch, columns)]
        shape = shapes[int(self.rng.integers(len(shapes)))]
        inputs = [value, weight]
        if shape is not None:
            bias = self.constant(self.random(*shape, scale=0.3).reshape(shape).astype(self.dtype), "b")
            inputs.append(self.add("Tanh", [bias]) if self.rng.random() < 0.1 else bias)
        self.width = columns
        return self.add("Gemm", inputs, **attributes)

    def branch(self, value):
        """If, whose branches multiply with a weight of the graph around, or with their own."""
        self.begin()
        total = self.add("ReduceSum", [value], keepdims=0)
        flag = self.add("Greater", [total, self.constant(np.array(self.rng.choice([-1e4, 1e4]), self.dtype), "c")])
        outer = self.weight(self.width, self.width)
        branches = {}
        for which in ("then_branch", "else_branch"):
            stem = self.name("body")
            constants, weight = [], outer
            if self.rng.random() < 0.4:
                weight = f"{stem}_w"
                constants.append(numpy_helper.from_array(self.random(self.width, self.width), weight))
            nodes = [helper.make_node("MatMul", [value, weight], [f"{stem}_m"])]
            result = f"{stem}_m"
            if self.rng.random() < 0.5:
                nodes.append(helper.make_node("MatMul", [result, outer], [f"{stem}_n"]))
                result = f"{stem}_n"
            if self.rng.random() < 0.3:
                nodes.append(helper.make_node("Relu", [result], [f"{stem}_r"]))
                result = f"{stem}_r"
            output = helper.make_tensor_value_info(result, self.kind, [None] * (3 if self.deep else 2))
            branches[which] = helper.make_graph(nodes, which, [], [output], constants)
        return self.add("If", [flag], **branches)

    def elementwise(self, value):
        self.begin()
        way = int(self.rng.integers(4))
        if way == 0:
            return self.add("Relu", [value])
        if way == 1:
            return self.add("Add", [value, self.constant(self.random(self.width, scale=0.5), "c")])
        if way == 2:
            shape = [0, 0, self.width] if self.deep else [0, self.width]
            return self.add("Reshape", [value, self.constant(np.array(shape, np.int64), "s")])
        return self.add("Tanh", [value])

    def embedding(self, value):
        """Rows of a table are added; sometimes the table is a product's weight, too."""
        self.begin()
        if self.length != self._length:
            return self.elementwise(value)
        self.ids = True
        table = self.constant(self.random(20, self.width, scale=1.0), "t")
        value = self.add("Add", [value, self.add("Gather", [table, "ids"])])
        if self.rng.random() < 0.4:
            value = self.add("MatMul", [value, self.add("Transpose", [table], perm=[1, 0])])
            self.width = 20
        return value

    def recurrent(self, value):
        self.begin()
        operator, gates = [("LSTM", 4), ("GRU", 3), ("RNN", 1)][int(self.rng.integers(3))]
        both = self.rng.random() < 0.4
        directions, hidden = (2 if both else 1), int(self.rng.choice([8, 12]))
        inputs = [value, self.constant(self.random(directions, gates * hidden, self.width, scale=0.3)),
                  self.constant(self.random(directions, gates * hidden, hidden, scale=0.3))]
        if self.rng.random() < 0.5:
            inputs.append(self.constant(self.random(directions, 2 * gates * hidden, scale=0.2), "b"))
        attributes = {"direction": "bidirectional"} if both else {}
        value = self.add(operator, inputs, hidden_size=hidden, **attributes)
        value = self.add("Transpose", [value], perm=[0, 2, 1, 3])
        self.width = directions * hidden
        return self.add("Reshape", [value, self.constant(np.array([0, 0, self.width], np.int64), "s")])

    def convolution(self, value):
        self.begin()
        value = self.add("Transpose", [value], perm=[1, 2, 0])
        group = int(self.rng.choice([1, 2, 4]))
        if self.rng.random() < 0.5:
            weight = self.random(self.width, self.width // group, 3, scale=0.3)
            value = self.add("Conv", [value, self.constant(weight)], group=group, pads=[1, 1])
        else:
            weight = self.random(self.width, 16 // group, 3, scale=0.3)
            value = self.add("ConvTranspose", [value, self.constant(weight)], group=group, pads=[1, 1])
            self.width = 16
        return self.add("Transpose", [value], perm=[2, 0, 1])

    def einsum(self, value):
        self.begin()
        columns = int(self.rng.choice([16, 24]))
        transposed = self.rng.random() < 0.5
        weight = self.weight(columns, self.width) if transposed else self.weight(self.width, columns)
        letters = "tbf" if self.deep else "bf"
        own = "of" if transposed else "fo"
        left = self.rng.random() < 0.4
        result = f"{letters[:-1]}o"
        equation = f"{own},{letters}->{result}" if left else f"{letters},{own}->{result}"
        self.width = columns
        return self.add("Einsum", [weight, value] if left else [value, weight], equation=equation)

    def lora(self, value):
        """A product with a low-rank branch beside it."""
        self.begin()
        columns, rank = int(self.rng.choice([16, 32])), 4
        base = self.add("MatMul", [value, self.weight(self.width, columns)])
        down = self.add("MatMul", [value, self.weight(self.width, rank)])
        up = self.add("MatMul", [down, self.weight(rank, columns)])
        self.width = columns
        return self.add("Add", [base, up])
