"""Random ONNX graphs that run: every node is executed in ONNX Runtime when it is added, for several sizes and kinds of data.

A `Graph` keeps, for each of its values, one array a *case*. A case gives sizes to the free dimensions N and M and chooses what the
elements are: moderate numbers; NaN, infinities, zeros of both signs; no elements at all; ties and saturating numbers. A node that
ONNX Runtime refuses in any case is dropped, so what an operator takes need not be known here, and neither need shapes.
"""

import contextlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CASES = ({"N": 3, "M": 2, "kind": "moderate"}, {"N": 1, "M": 1, "kind": "special"}, {"N": 0, "M": 3, "kind": "moderate"}, {"N": 2, "M": 1, "kind": "ties"})
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1e-40, 20.0, 40.0, -88.0)
TIES = (0.0, 1.0, 1.0, 2.0, -1.0, 20.0, 40.0, 88.0, -40.0, -0.0, 0.25)
MOST_ELEMENTS = 20_000
FLOATS = (np.float32, np.float64, np.float16)


def elements(rng, dtype, shape, kind):
    """Elements of a type: moderate, special or tied ones."""
    dtype = np.dtype(dtype)
    if not shape:
        return elements(rng, dtype, [1], kind).reshape([])
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if dtype.kind == "u":
        return rng.integers(0, 8, shape).astype(dtype)
    if dtype.kind == "i":
        return rng.integers(-6, 7, shape).astype(dtype)
    if kind == "special":
        found = rng.choice(SPECIAL, shape)
        keep = rng.random(shape) < 0.5
        return np.where(keep, rng.normal(0, 2, shape), found).astype(dtype)
    if kind == "ties":
        return rng.choice(TIES, shape).astype(dtype)
    return rng.normal(0, 1.5, shape).astype(dtype)


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def value_info(name, arrays):
    """A value's type: element type, and a number where the size is the same in every case."""
    dims = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(array.shape for array in arrays))]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(arrays[0].dtype), dims)


class Eager:
    """Runs nodes by themselves, with a cache of sessions."""

    def __init__(self, most=4000):
        self.sessions = {}
        self.most = most

    def run(self, opset, nodes, functions, wanted, feeds):
        """The wanted values for each feed, or None where ONNX Runtime refuses."""
        nodes, new = numbered(nodes)
        feeds = [{new.get(name, name): array for name, array in feed.items()} for feed in feeds]
        plain, wanted = wanted, [new.get(name, name) for name in wanted]
        inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim) for name, array in feeds[0].items()]
        graph = helper.make_graph(nodes, "g", inputs, [helper.make_empty_tensor_value_info(name) for name in wanted])
        model = helper.make_model(graph, opset_imports=imports(opset), ir_version=10, functions=functions)
        text = model.SerializeToString(deterministic=True)
        if len(text) > 1_000_000:
            return None
        with contextlib.suppress(Exception):
            if text not in self.sessions:
                if len(self.sessions) >= self.most:
                    self.sessions.clear()
                self.sessions[text] = session(text)
            found = [self.sessions[text].run(wanted, feed) for feed in feeds]
            return [dict(zip(plain, one)) for one in found]
        self.sessions.setdefault(text, None)
        return None


def numbered(nodes):
    """Nodes without bodies with values called by number, so that equal nodes of different graphs share a session."""
    if any(attribute.type == onnx.AttributeProto.GRAPH for node in nodes for attribute in node.attribute):
        return nodes, {}
    new, copies = {}, []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for field in (copy.input, copy.output):
            for index, name in enumerate(field):
                if name:
                    field[index] = new.setdefault(name, f"n{len(new)}")
        copies.append(copy)
    return copies, new


def imports(opset):
    return [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]


class Value:
    """A value of a graph under construction."""

    def __init__(self, name, arrays, constant=False, depth=0):
        self.name = name
        self.arrays = arrays
        self.constant = constant
        self.depth = depth

    @property
    def dtype(self):
        return self.arrays[0].dtype

    @property
    def rank(self):
        return self.arrays[0].ndim

    @property
    def shape(self):
        """Sizes, None where they differ from case to case."""
        return [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*(array.shape for array in self.arrays))]


class Graph:
    """A graph under construction: the main graph, a body or a function."""

    def __init__(self, rng, opset, eager, outer=None, prefix=""):
        self.rng = rng
        self.opset = opset
        self.eager = eager
        self.outer = outer
        self.prefix = outer.prefix if outer else prefix
        self.cases = outer.cases if outer else list(CASES)
        self.values = []
        self.hidden = []
        self.inputs = []
        self.nodes = []
        self.initializers = []
        self.functions = outer.functions if outer else []
        self.counter = outer.counter if outer else [0]
        self.constants = {}
        self.infinite = outer.infinite if outer else [False] * len(self.cases)
        self.attempts = 0

    def name(self, stem="v"):
        self.counter[0] += 1
        return f"{self.prefix}{stem}{self.counter[0]}"

    # What there is to read.

    def visible(self):
        return self.values + (self.outer.visible() if self.outer else [])

    def scope(self):
        """Everything that a node may read by name: constants that operators have for themselves as well."""
        return self.values + self.hidden + (self.outer.scope() if self.outer else [])

    def known_constant(self, key):
        return self.constants.get(key) or (self.outer.known_constant(key) if self.outer else None)

    def pick(self, accept=lambda value: True):
        """A value that fits, newer ones more often; None if there is none."""
        found = [value for value in self.visible() if accept(value)]
        if not found:
            return None
        if self.rng.random() < 0.6:
            own = [value for value in found if value in self.values]
            found = own[-4:] or found
        return found[int(self.rng.integers(len(found)))]

    def floating(self, rank=None, dtypes=FLOATS):
        return self.pick(lambda v: v.dtype in [np.dtype(t) for t in dtypes] and (rank is None or v.rank in (rank if isinstance(rank, tuple) else (rank,))))

    def any(self, *dtypes, rank=None):
        wanted = [np.dtype(t) for t in dtypes]
        return self.pick(lambda v: (not wanted or v.dtype in wanted) and (rank is None or v.rank == rank))

    # What is added.

    def input(self, dtype, dims):
        """A graph input; dimensions are numbers or the symbols N and M."""
        arrays = []
        for case in self.cases:
            shape = [case[dim] if isinstance(dim, str) else dim for dim in dims]
            arrays.append(elements(self.rng, dtype, shape, case["kind"]))
        value = Value(self.name("x"), arrays)
        self.inputs.append((value, dims))
        self.note_infinities([value])
        self.values.append(value)
        return value

    def constant(self, array, listed=True):
        """A constant: an initializer, of this graph or an outer one, or a Constant node; often one that is there already."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        known = self.known_constant(key)
        if known is not None and self.rng.random() < 0.7:
            return known
        value = Value(self.name("c"), [array] * len(self.cases), constant=True)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), value.name)
        if self.rng.random() < 0.2:
            self.nodes.append(helper.make_node("Constant", [], [value.name], value=tensor))
        else:
            self.initializers.append(tensor)
        self.constants[key] = value
        self.note_infinities([value])
        (self.values if listed else self.hidden).append(value)
        return value

    def weights(self, dtype, shape, low=None):
        """A random constant, sometimes one of zeros, ones or special numbers."""
        dtype = np.dtype(dtype)
        choice = self.rng.random()
        if choice < 0.06:
            array = np.full(shape, self.rng.choice([0.0, -0.0, 1.0, 0.5, 2.0, -1.0]))
        elif choice < 0.1 and dtype.kind == "f" and low is None:
            array = elements(self.rng, dtype, shape, "special")
        else:
            array = elements(self.rng, dtype, shape, "moderate")
        if low is not None:
            array = np.abs(array.astype(np.float64)) + low
        with np.errstate(all="ignore"):
            return self.constant(array.astype(dtype))

    def scalar(self, dtype, number, rank=0):
        with np.errstate(all="ignore"):
            return self.constant(np.full([1] * rank, number).astype(dtype), listed=False)

    def integers(self, numbers):
        return self.constant(np.array(numbers, np.int64), listed=False)

    def add(self, nodes, keep=None):
        """Adds nodes as one unit; the results of all of them that can be kept, or None. Nothing is added where they do not run."""
        nodes = [node for node in nodes if node is not None]
        if not nodes or self.attempts > 400:
            return None
        self.attempts += 1
        made = [name for node in nodes for name in node.output if name]
        reads = free_names(nodes, set(made))
        known = {value.name: value for value in self.scope()}
        if any(name not in known for name in reads):
            return None
        wanted = [name for name in (keep or made) if name in made]
        feeds = [{name: known[name].arrays[case] for name in sorted(reads)} for case in range(len(self.cases))]
        if not reads:
            feeds = [{}] * len(self.cases)
        functions = [f for f in self.functions if any(calls(node, f.name) for node in nodes)]
        found = self.eager.run(self.opset, nodes, functions, wanted, feeds) if reads else self.alone(nodes, wanted)
        if found is None or any(not isinstance(one[name], np.ndarray) or one[name].dtype == object for one in found for name in wanted):
            return None
        if any(one[name].size > MOST_ELEMENTS for one in found for name in wanted):
            return None
        if any(len({one[name].ndim for one in found}) > 1 for name in wanted):
            return None
        self.nodes.extend(nodes)
        values = [Value(name, [one[name] for one in found]) for name in wanted]
        self.note_infinities(values)
        for case, feed in enumerate(feeds):
            # 0 / 0 on the way is the underflow of what is divided: a Softmax has a number there.
            if not any(is_nan(array) for array in feed.values()) and any(is_nan(value.arrays[case]) for value in values):
                self.infinite[case] = True
        self.values.extend(values)
        return values

    def note_infinities(self, values):
        """Remembers the cases in which an element is infinite: there rounding rules may give the finite value, or NaN."""
        for value in values:
            for case, array in enumerate(value.arrays):
                if array.dtype.kind == "f" and np.isinf(array).any():
                    self.infinite[case] = True

    def alone(self, nodes, wanted):
        return self.eager.run(self.opset, nodes, [], wanted, [{}]) and [self.eager.run(self.opset, nodes, [], wanted, [{}])[0]] * len(self.cases)

    def op(self, kind, inputs, outputs=1, **attributes):
        """One node of these values; its results, or None. An input may be None where it is left out."""
        if any(isinstance(value, str) for value in inputs):
            return None
        attributes = {key: value for key, value in attributes.items() if not isinstance(value, list) or value}
        made = [self.name() for _ in range(outputs)]
        return self.add([helper.make_node(kind, names(inputs), made, **attributes)])


def names(inputs):
    found = ["" if value is None else value.name for value in inputs]
    while found and not found[-1]:
        found.pop()
    return found


def calls(node, name):
    if node.op_type == name and node.domain == "local":
        return True
    return any(calls(inner, name) for attribute in node.attribute for body in [attribute.g] for inner in body.node)


def is_nan(array):
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def free_names(nodes, made):
    """Names that nodes and their bodies read and do not make."""
    found = set()
    for node in nodes:
        found |= {name for name in node.input if name and name not in made}
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                body = attribute.g
                own = {v.name for v in body.input} | {t.name for t in body.initializer} | {name for inner in body.node for name in inner.output}
                found |= {name for name in free_names(body.node, own) if name not in made}
                found |= {v.name for v in body.output if v.name not in own and v.name not in made}
    return found
