#!/usr/bin/env python3
"""Shapes of graph that grow: each function writes into a `Net` about `n` nodes (or inputs, names, functions) of one shape.

The same size gives the same bytes. Weights are small, so that what grows is the graph.

usage: shapes.py                    the names of all shapes
       shapes.py NAME SIZE OUT.onnx
"""

import sys

import numpy as np
import onnx
from onnx import StringStringEntryProto, TensorAnnotation, TensorProto, helper, numpy_helper

WIDTH = 4
OPSET = 17


class Net:
    """A model under construction: nodes, constants and the interface."""

    def __init__(self):
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.value_info, self.functions, self.domains, self.metadata = [], [], {}, {}
        self.annotations = []
        self.names = set()
        self.counter = 0

    def name(self, stem="v"):
        self.counter += 1
        return f"{stem}{self.counter}"

    def input(self, name="x", shape=(2, WIDTH), dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name, rank=2, dtype=TensorProto.FLOAT):
        self.outputs.append(helper.make_tensor_value_info(name, dtype, [None] * rank))

    def constant(self, array, name=None):
        name = name or self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def number(self, index):
        """A constant that no other index has and no rule knows."""
        return self.constant(np.float32(1.5 + index / 1024))

    def op(self, operator, *inputs, outputs=1, out=None, **attributes):
        names = out or [self.name() for _ in range(outputs)]
        names = [names] if isinstance(names, str) else names
        domain = attributes.pop("domain", None)
        node = helper.make_node(operator, list(inputs), names, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if len(names) == 1 else names

    def body(self, nodes, outputs, inputs=()):
        info = lambda value: helper.make_tensor_value_info(value[0], value[1], value[2])
        return helper.make_graph(nodes, self.name("body"), [info(i) for i in inputs], [info(o) for o in outputs])

    def model(self):
        graph = helper.make_graph(
            self.nodes, "growth", self.inputs, self.outputs, self.constants, value_info=self.value_info)
        graph.quantization_annotation.extend(self.annotations)
        imports = [helper.make_opsetid("", OPSET)]
        imports += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        model = helper.make_model(graph, ir_version=8, opset_imports=imports, functions=self.functions)
        for key, value in self.metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        return model


SHAPES = {}


def shape(function):
    SHAPES[function.__name__] = function
    return function


# Chains.

@shape
def redundant_chain(net, n):
    value, shape_of = net.input(), net.constant(np.array([2, WIDTH], np.int64))
    zero, one = net.constant(np.float32(0)), net.constant(np.float32(1))
    for index in range(n // 8):
        value = net.op("Identity", value)
        value = net.op("Transpose", net.op("Transpose", value, perm=[1, 0]), perm=[1, 0])
        value = net.op("Mul", net.op("Add", value, zero), one)
        value = net.op("Reshape", value, shape_of)
        value = net.op("Relu", net.op("Add", value, net.number(index)))
    net.output(value)


@shape
def plain_chain(net, n):
    value = net.input()
    for index in range(n):
        value = net.op(["Sigmoid", "Tanh", "Softplus"][index % 3], value)
    net.output(value)


@shape
def identity_chain(net, n):
    value = net.input()
    for _ in range(n):
        value = net.op("Identity", value)
    net.output(value)


@shape
def transpose_chain(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Transpose", value, perm=[1, 0])
    net.output(net.op("Relu", value))


@shape
def reshape_chain(net, n):
    value = net.input()
    shapes = [net.constant(np.array(dims, np.int64)) for dims in ([WIDTH, 2], [1, 8], [8], [2, 2, 2])]
    for index in range(n):
        value = net.op("Reshape", value, shapes[index % 4])
    net.output(net.op("Relu", value), rank=[2, 2, 1, 3][(n - 1) % 4])


@shape
def cast_chain(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Cast", value, to=[TensorProto.DOUBLE, TensorProto.FLOAT][index % 2])
    net.output(net.op("Cast", value, to=TensorProto.FLOAT))


@shape
def unsqueeze_chain(net, n):
    value, axes = net.input(), net.constant(np.array([0], np.int64))
    for index in range(n // 2):
        value = net.op("Relu", net.op("Unsqueeze", value, axes))
        value = net.op("Squeeze", value, axes)
    net.output(value)


@shape
def add_constant_chain(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Add", value, net.number(index))
    net.output(value)


@shape
def slice_chain(net, n):
    value = net.input(shape=(2, n + 4))
    start, axis = net.constant(np.array([1], np.int64)), net.constant(np.array([1], np.int64))
    end = net.constant(np.array([2**40], np.int64))
    for _ in range(n):
        value = net.op("Slice", value, start, end, axis)
    net.output(net.op("Relu", value))


@shape
def concat_chain(net, n):
    x = net.input()
    value = x
    for _ in range(n):
        value = net.op("Concat", value, x, axis=1)
    net.output(value)


@shape
def folded_chain(net, n):
    x = net.input()
    value = net.constant(np.ones((2, WIDTH), np.float32))
    for index in range(n):
        value = net.op(["Sin", "Neg"][index % 2], value)
    net.output(net.op("Add", x, value))


@shape
def quantized_chain(net, n):
    value = net.input()
    scale, zero = net.constant(np.float32(0.05)), net.constant(np.int8(0))
    for _ in range(n // 3):
        value = net.op("QuantizeLinear", value, scale, zero)
        value = net.op("DequantizeLinear", value, scale, zero)
        value = net.op("Sigmoid", value)
    net.output(value)


# Layers.

def convolution(net, value, seed, channels=2):
    rng = np.random.default_rng(seed)
    weight = net.constant(rng.standard_normal((channels, channels, 1, 1)).astype(np.float32))
    return net.op("Conv", value, weight, kernel_shape=[1, 1])


@shape
def conv_bn_relu(net, n):
    value = net.input(shape=(1, 2, 3, 3))
    for index in range(n // 3):
        value = convolution(net, value, index)
        scale = [net.constant(np.array([1 + index / 512, 1.5], np.float32)) for _ in range(4)]
        value = net.op("Relu", net.op("BatchNormalization", value, *scale))
    net.output(value, rank=4)


@shape
def residual(net, n):
    value = net.input(shape=(1, 2, 3, 3))
    for index in range(n // 4):
        inner = convolution(net, net.op("Relu", convolution(net, value, 2 * index)), 2 * index + 1)
        value = net.op("Add", value, inner)
    net.output(value, rank=4)


@shape
def dense_skips(net, n):
    values = [net.input()]
    for index in range(n // 2):
        read = values[-8:]
        joined = net.op("Concat", *read, axis=1) if len(read) > 1 else read[0]
        start, end = net.constant(np.array([0], np.int64)), net.constant(np.array([WIDTH], np.int64))
        values.append(net.op("Slice", joined, start, end, net.constant(np.array([1], np.int64))))
    net.output(net.op("Relu", values[-1]))


@shape
def attention(net, n):
    length, heads = 3, 2
    value = net.input(shape=(1, length, WIDTH))
    split = net.constant(np.array([1, length, heads, WIDTH // heads], np.int64))
    merge = net.constant(np.array([1, length, WIDTH], np.int64))
    for index in range(n // 15):
        rng = np.random.default_rng(index)
        weight = lambda: net.constant(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32))
        part = [net.op("Reshape", net.op("MatMul", value, weight()), split) for _ in range(3)]
        query, key, content = (
            net.op("Transpose", item, perm=perm) for item, perm in zip(part, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
        scores = net.op("Softmax", net.op("Mul", net.op("MatMul", query, key), net.constant(np.float32(0.7))), axis=-1)
        joined = net.op("Reshape", net.op("Transpose", net.op("MatMul", scores, content), perm=[0, 2, 1, 3]), merge)
        value = net.op("Add", value, net.op("MatMul", joined, weight()))
    net.output(value, rank=3)


@shape
def tied_weights(net, n):
    value = net.input()
    weight = net.constant(np.eye(WIDTH, dtype=np.float32) * 0.9)
    for index in range(n // 2):
        value = net.op("Relu", net.op("MatMul", value, weight))
    net.output(value)


@shape
def repeated_weights(net, n):
    value = net.input()
    for index in range(n // 2):
        value = net.op("Relu", net.op("MatMul", value, net.constant(np.eye(WIDTH, dtype=np.float32) * 0.9)))
    net.output(value)


@shape
def shape_computation(net, n):
    value = net.input(shape=("batch", WIDTH))
    zero, axes = net.constant(np.int64(0)), net.constant(np.array([0], np.int64))
    width = net.constant(np.array([WIDTH], np.int64))
    for _ in range(n // 6):
        batch = net.op("Unsqueeze", net.op("Gather", net.op("Shape", value), zero, axis=0), axes)
        value = net.op("Relu", net.op("Reshape", value, net.op("Concat", batch, width, axis=0)))
    net.output(value)


# Fans: one node read by many, many read by one.

@shape
def fan(net, n):
    x = net.input()
    net.output(net.op("Concat", *[net.op("Mul", x, net.number(index)) for index in range(n)], axis=1))


@shape
def equal_nodes(net, n):
    x = net.input()
    net.output(net.op("Concat", *[net.op("Sigmoid", x) for _ in range(n)], axis=1))


@shape
def equal_pairs(net, n):
    value = net.input()
    for _ in range(n // 3):
        value = net.op("Add", net.op("Sigmoid", value), net.op("Sigmoid", value))
    net.output(value)


@shape
def transposed_fan(net, n):
    x = net.input()
    back = lambda: net.op("Transpose", net.op("Transpose", x, perm=[1, 0]), perm=[1, 0])
    net.output(net.op("Concat", *[net.op("Mul", back(), net.number(index)) for index in range(n // 3)], axis=1))


@shape
def split_fan(net, n):
    x = net.input(shape=(2, n))
    parts = net.op("Split", x, outputs=n, axis=1)
    net.output(net.op("Concat", *[net.op("Sigmoid", part) for part in parts], axis=1))


@shape
def split_concat(net, n):
    x = net.input(shape=(2, n))
    net.output(net.op("Concat", *net.op("Split", x, outputs=n, axis=1), axis=1))


@shape
def slices_of_one(net, n):
    x, axis = net.input(shape=(2, n)), net.constant(np.array([1], np.int64))
    at = [net.constant(np.array([index], np.int64)) for index in range(n + 1)]
    net.output(net.op("Concat", *[net.op("Slice", x, at[i], at[i + 1], axis) for i in range(n)], axis=1))


@shape
def gathers_of_one(net, n):
    table = net.constant(np.arange(n * 2, dtype=np.float32).reshape(n, 2))
    index = net.input("index", (1,), TensorProto.INT64)
    value = net.op("Gather", table, index)
    for _ in range(n):
        value = net.op("Add", value, net.op("Gather", table, net.op("Mod", index, net.constant(np.array([_ + 3], np.int64)))))
    net.output(value)


@shape
def wide_sum(net, n):
    x = net.input()
    net.output(net.op("Sum", *[net.op("Mul", x, net.number(index)) for index in range(n)]))


# Trees and ladders.

@shape
def tree(net, n):
    level = [net.op("Mul", net.input(), net.number(0))]
    level = [net.op("Add", "x", net.number(index)) for index in range(n // 2)]
    while len(level) > 1:
        pairs = [net.op("Max", a, b) for a, b in zip(level[::2], level[1::2])]
        level = pairs + ([level[-1]] if len(level) % 2 else [])
    net.output(level[0])


@shape
def diamonds(net, n):
    value = net.input()
    for _ in range(n // 3):
        value = net.op("Add", net.op("Sigmoid", value), net.op("Tanh", value))
    net.output(value)


@shape
def ladder(net, n):
    left = right = net.input()
    for _ in range(n // 2):
        left, right = net.op("Add", left, right), net.op("Mul", net.op("Sigmoid", left), right)
    net.output(net.op("Add", left, right))


# Interfaces.

@shape
def many_inputs(net, n):
    names = [net.input(f"x{index}") for index in range(n)]
    net.output(net.op("Concat", *names, axis=1))


@shape
def many_outputs(net, n):
    x = net.input()
    for index in range(n):
        net.output(net.op("Identity", net.op("Mul", x, net.number(index))))


@shape
def same_outputs(net, n):
    x = net.input()
    for _ in range(n):
        net.output(net.op("Identity", x))


# Constants, names and declarations.

@shape
def unused_constants(net, n):
    for index in range(n):
        net.number(index)
    net.output(net.op("Relu", net.input()))


@shape
def constant_nodes(net, n):
    value = net.input()
    for _ in range(n // 2):
        tensor = numpy_helper.from_array(np.full((1, WIDTH), 0.5, np.float32))
        value = net.op("Sigmoid", net.op("Add", value, net.op("Constant", value=tensor)))
    net.output(value)


@shape
def long_names(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Sigmoid", value, out="module/" * 40 + str(index), name="/layer" * 40 + str(index))
    net.output(value)


@shape
def declared_values(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Sigmoid" if index % 2 else "Identity", value)
        if index + 1 < n:
            net.value_info.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [2, WIDTH]))
    net.output(value)


@shape
def many_domains(net, n):
    value = net.input()
    for index in range(n):
        domain = f"org.example.part{index}"
        net.domains[domain] = 1
        value = net.op("Step", value, domain=domain)
    net.output(value)


@shape
def metadata(net, n):
    value = net.input()
    for index in range(n):
        net.metadata[f"key{index}"] = f"value {index}"
        value = net.op("Identity" if index % 2 else "Sigmoid", value)
    net.output(value)


@shape
def annotations(net, n):
    value = net.input()
    for index in range(n):
        value = net.op("Identity" if index % 2 else "Sigmoid", value)
        entry = StringStringEntryProto(key="SCALE_TENSOR", value=net.number(index))
        net.annotations.append(TensorAnnotation(tensor_name=value, quant_parameter_tensor_names=[entry]))
    net.output(value)


# Bodies and functions.

def function(net, name, nodes, imports=()):
    opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(domain, 1) for domain in imports]
    net.functions.append(helper.make_function("local", name, ["a"], ["r"], nodes, opsets))
    net.domains["local"] = 1


@shape
def many_functions(net, n):
    value = net.input()
    for index in range(n // 3):
        function(net, f"F{index}", [helper.make_node("Sigmoid", ["a"], ["t"]), helper.make_node("Tanh", ["t"], ["r"])])
        value = net.op(f"F{index}", value, domain="local")
    net.output(value)


@shape
def called_function(net, n):
    value = net.input()
    function(net, "F", [helper.make_node("Sigmoid", ["a"], ["t"]), helper.make_node("Identity", ["t"], ["r"])])
    for _ in range(n):
        value = net.op("F", value, domain="local")
    net.output(value)


@shape
def nested_functions(net, n):
    value = net.input()
    for index in range(n // 8):
        for depth in range(4):
            inner = helper.make_node(f"F{index}_{depth - 1}", ["a"], ["t"], domain="local") if depth else \
                helper.make_node("Sigmoid", ["a"], ["t"])
            function(net, f"F{index}_{depth}", [inner, helper.make_node("Tanh", ["t"], ["r"])], ["local"])
        value = net.op(f"F{index}_3", value, domain="local")
    net.output(value)


@shape
def large_function(net, n):
    nodes = [helper.make_node("Sigmoid" if index % 2 else "Identity", [f"t{index}" if index else "a"],
                              [f"t{index + 1}" if index + 1 < n else "r"]) for index in range(n)]
    function(net, "F", nodes)
    net.output(net.op("F", net.op("F", net.input(), domain="local"), domain="local"))


@shape
def nested_ifs(net, n):
    value, condition = net.input(), net.input("condition", (), TensorProto.BOOL)
    depth = 8
    for index in range(n // (2 * depth)):
        inner = None
        for level in range(depth):
            branches = {}
            for branch in ("then_branch", "else_branch"):
                name = net.name("b")
                nodes = [helper.make_node("Sigmoid" if branch[0] == "t" else "Tanh", [value], [name])]
                if inner is not None and branch == "then_branch":
                    name = net.name("b")
                    nodes = [helper.make_node("If", [condition], [name], **inner)]
                branches[branch] = net.body(nodes, [(name, TensorProto.FLOAT, None)])
            inner = branches
        value = net.op("If", condition, **inner)
    net.output(value)


@shape
def many_ifs(net, n):
    x, condition = net.input(), net.input("condition", (), TensorProto.BOOL)
    value = x
    for index in range(n // 3):
        branch = lambda op: net.body(
            [helper.make_node(op, [value], [f"{op}{index}"])], [(f"{op}{index}", TensorProto.FLOAT, None)])
        value = net.op("If", condition, then_branch=branch("Sigmoid"), else_branch=branch("Tanh"))
    net.output(value)


@shape
def captures(net, n):
    x, condition = net.input(), net.input("condition", (), TensorProto.BOOL)
    outer = [net.op("Mul", x, net.number(index)) for index in range(n // 2)]
    sums = lambda op, name: [helper.make_node(op, outer, [name])]
    then, other = (net.body(sums(op, op), [(op, TensorProto.FLOAT, None)]) for op in ("Sum", "Max"))
    net.output(net.op("If", condition, then_branch=then, else_branch=other))


@shape
def loop_body(net, n):
    nodes = [helper.make_node("Sigmoid" if index % 2 else "Identity", [f"t{index}" if index else "carried"],
                              [f"t{index + 1}" if index + 1 < n else "next"]) for index in range(n)]
    nodes.append(helper.make_node("Identity", ["keep"], ["again"]))
    body = net.body(nodes, [("again", TensorProto.BOOL, ()), ("next", TensorProto.FLOAT, None)],
                    [("step", TensorProto.INT64, ()), ("keep", TensorProto.BOOL, ()),
                     ("carried", TensorProto.FLOAT, None)])
    trips, start = net.constant(np.int64(3)), net.constant(np.bool_(True))
    net.output(net.op("Loop", trips, start, net.input(), body=body))


@shape
def many_loops(net, n):
    value = net.input()
    trips, start = net.constant(np.int64(3)), net.constant(np.bool_(True))
    for index in range(n // 4):
        nodes = [helper.make_node("Identity", [f"keep{index}"], [f"again{index}"]),
                 helper.make_node("Sigmoid", [f"carried{index}"], [f"next{index}"])]
        body = net.body(nodes, [(f"again{index}", TensorProto.BOOL, ()), (f"next{index}", TensorProto.FLOAT, None)],
                        [(f"step{index}", TensorProto.INT64, ()), (f"keep{index}", TensorProto.BOOL, ()),
                         (f"carried{index}", TensorProto.FLOAT, None)])
        value = net.op("Loop", trips, start, value, body=body)
    net.output(value)


@shape
def sequence(net, n):
    x = net.input()
    items = net.op("SequenceConstruct", *[net.op("Mul", x, net.number(index)) for index in range(n // 2)])
    net.output(net.op("ConcatFromSequence", items, axis=0))


def build(name, n):
    """The model of a shape at a size."""
    net = Net()
    SHAPES[name](net, n)
    return net.model()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        onnx.save(build(sys.argv[1], int(sys.argv[2])), sys.argv[3])
    else:
        print("\n".join(SHAPES))
