"""What the random graphs are made of: groups of operators that rewrite rules look for, bodies and local functions."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from fuzz_graphs import Graph, value_info
from fuzz_operators import FLOAT, OPERATORS, axes_of, broadcast_constant, chance, choose, conv_attributes, images, with_axes


class Miss(Exception):
    """The graph has nothing that the motif could start from."""


def one(g, kind, *inputs, **attributes):
    """The first result of a node, or Miss."""
    found = g.op(kind, list(inputs), **attributes)
    if not found:
        raise Miss
    return found[0]


def need(value):
    if value is None:
        raise Miss
    return value


def first(found):
    return need(found)[0]


def chain(g, value, *steps):
    """Operators one after the other; a step is a name or a name with more operands, which stand on either side."""
    for step in steps:
        if isinstance(step, str):
            value = one(g, step, value)
        else:
            kind, number = step
            pair = [value, g.scalar(value.dtype, number)]
            if kind in ("Add", "Mul", "Max", "Min") and chance(g.rng, 0.4):
                pair.reverse()
            value = one(g, kind, *pair)
    return value


# Weights and normalizations.


def fused_normalization(g):
    value = need(images(g) or g.floating(rank=2))
    channels = need(value.shape[1])
    layer = choose(g.rng, ("Conv", "ConvTranspose", "Gemm", "MatMul", "none")) if value.rank > 2 else choose(g.rng, ("Gemm", "MatMul"))
    width = int(g.rng.integers(1, 4))
    vectors = lambda count: [g.weights(value.dtype, [count]), g.weights(value.dtype, [count]), g.weights(value.dtype, [count]), g.weights(value.dtype, [count], 0.1)]
    if layer == "none":
        value = one(g, "BatchNormalization", value, *vectors(channels))
        layer, after = "Conv", True
    else:
        after = False
    bias = [g.weights(value.dtype, [width])] if chance(g.rng, 0.6) else []
    if layer in ("Conv", "ConvTranspose") and value.rank > 2:
        kernel = [choose(g.rng, (1, 3)) for _ in range(value.rank - 2)]
        shape = [width, channels, *kernel] if layer == "Conv" else [channels, width, *kernel]
        value = one(g, layer, value, g.weights(value.dtype, shape), *bias, **conv_attributes(g, kernel))
    elif value.rank == 2:
        bias = bias or ([g.weights(value.dtype, [1])] if g.opset < 11 else [])
        value = one(g, layer, value, g.weights(value.dtype, [channels, width]), *(bias if layer == "Gemm" else []))
    if after:
        return value
    choice = choose(g.rng, ("norm", "norm", "add", "mul", "both", "point"))
    if choice == "norm":
        return one(g, "BatchNormalization", value, *vectors(width), epsilon=choose(g.rng, (1e-5, 1e-3)))
    if choice == "point" and value.rank > 2:
        return one(g, "Conv", value, g.weights(value.dtype, [2, width] + [1] * (value.rank - 2)))
    shape = choose(g.rng, ([width] + [1] * (value.rank - 2), [1, width] + [1] * (value.rank - 2), [], [1], [2, width] + [1] * (value.rank - 2)))
    for kind in {"add": ["Add"], "mul": ["Mul"]}.get(choice, ["Mul", "Add"]):
        value = one(g, kind, value, g.weights(value.dtype, shape))
    return value


def padded(g):
    value = need(images(g))
    pads = [0, 0] + [1] * (value.rank - 2) + [0, 0] + [int(p) for p in g.rng.integers(0, 2, value.rank - 2)]
    spread = one(g, "Pad", value, **{"pads": pads}) if g.opset < 11 else one(g, "Pad", value, g.integers(pads))
    if chance(g.rng, 0.5):
        return one(g, "AveragePool", spread, kernel_shape=[3] * (value.rank - 2), **({"count_include_pad": 1} if chance(g.rng, 0.5) else {}))
    return one(g, "Conv", spread, g.weights(value.dtype, [2, need(value.shape[1])] + [3] * (value.rank - 2)))


def linear(g):
    value = need(g.pick(lambda v: v.dtype in FLOAT and v.rank >= 2 and v.shape[-1]))
    inner, width = value.shape[-1], int(g.rng.integers(1, 4))
    if chance(g.rng, 0.3):
        value = one(g, "Mul", value, g.scalar(value.dtype, 0.5, rank=choose(g.rng, (0, 1, 2))))
    weights = g.weights(value.dtype, [inner, width])
    if chance(g.rng, 0.3):
        weights = one(g, "Transpose", g.weights(value.dtype, [width, inner]), perm=[1, 0])
    if chance(g.rng, 0.2) and value.rank == 2:
        value = one(g, "Transpose", one(g, "Transpose", value, perm=[1, 0]), perm=[1, 0])
    value = one(g, "MatMul", value, weights)
    if chance(g.rng, 0.3):
        value = one(g, choose(g.rng, ("Mul", "Div")), value, g.weights(value.dtype, choose(g.rng, ([], [1], [width], [2, 1])), 0.1))
    for _ in range(int(g.rng.integers(0, 3))):
        value = one(g, "Add", value, g.weights(value.dtype, choose(g.rng, ([width], [1], [], [1, width], [2, width], [2, 1]))))
    return value


def layer_norm(g):
    value = need(g.pick(lambda v: v.dtype in FLOAT and v.rank >= 1 and v.shape[-1]))
    size, since = value.shape[-1], 18
    mean = lambda x: need(with_axes(g, "ReduceMean", x, [-1 if g.opset >= 11 else x.rank - 1], since, keepdims=1))[0]
    centred = one(g, "Sub", value, mean(value)) if chance(g.rng, 0.6) else value
    square = chain(g, centred, ("Pow", 2)) if chance(g.rng, 0.5) else one(g, "Mul", centred, centred)
    root = chain(g, mean(square), ("Add", choose(g.rng, (1e-5, 1e-3))), "Sqrt")
    result = one(g, "Div", centred, root) if chance(g.rng, 0.6) else one(g, "Mul", centred, one(g, "Reciprocal", root))
    gain = g.weights(value.dtype, choose(g.rng, ([size], [size], [1], [1, size], [2, size])))
    result = one(g, "Mul", result, gain)
    return one(g, "Add", result, g.weights(value.dtype, choose(g.rng, ([size], [1], [1, size])))) if chance(g.rng, 0.8) else result


def attention(g):
    queries = need(g.floating(rank=4, dtypes=(np.float32,)))
    batch, heads, _, width = queries.shape
    if not heads or not width:
        raise Miss
    make = lambda length, size: g.weights(np.float32, [choose(g.rng, (1, 1, batch or 1)), choose(g.rng, (heads, heads, 1)), length, size])
    if chance(g.rng, 0.3):
        queries, keys, values = make(2, width), queries, make(need(queries.shape[2]), 3)
    else:
        keys, values = make(3, width), make(3, 2)
    if chance(g.rng, 0.4):
        keys = queries
        values = queries
    scores = one(g, "MatMul", queries, one(g, "Transpose", keys, perm=[0, 1, 3, 2]))
    scores = one(g, "Mul", scores, g.scalar(np.float32, 0.5, rank=choose(g.rng, (0, 0, 1, 4))))
    return one(g, "MatMul", one(g, "Softmax", scores, axis=choose(g.rng, (-1, 3)) if g.opset >= 11 else 3), values)


# Activations.


def activation(g):
    x = need(g.floating())
    c = lambda number: g.scalar(x.dtype, number)
    kind = choose(g.rng, ("gelu", "gelu", "tanh", "swish", "mish", "sigmoid", "softplus", "softsign", "hard"))
    if kind == "gelu":
        inner = chain(g, x, ("Div", 1.4142135) if chance(g.rng, 0.5) else ("Mul", 0.70710677), "Erf", ("Add", 1))
        return product(g, x, inner)
    if kind == "tanh":
        cube = chain(g, x, ("Pow", 3)) if chance(g.rng, 0.5) else one(g, "Mul", x, one(g, "Mul", x, x))
        inner = chain(g, one(g, "Add", x, one(g, "Mul", cube, c(0.044715))), ("Mul", 0.7978846), "Tanh", ("Add", 1))
        return product(g, x, inner)
    if kind == "swish":
        return one(g, "Mul", x, chain(g, x, "Sigmoid") if chance(g.rng, 0.6) else chain(g, x, ("Mul", 1.702), "Sigmoid"))
    if kind == "mish":
        return one(g, "Mul", x, chain(g, x, "Softplus", "Tanh"))
    if kind == "sigmoid":
        bottom = chain(g, x, "Neg", "Exp", ("Add", 1))
        return one(g, "Reciprocal", bottom) if chance(g.rng, 0.5) else one(g, "Div", c(1), bottom)
    if kind == "softplus":
        return chain(g, x, "Exp", ("Add", 1), "Log")
    if kind == "softsign":
        return one(g, "Div", x, chain(g, x, "Abs", ("Add", 1)))
    inner = one(g, "Clip", chain(g, x, ("Add", 3)), c(0), c(6)) if g.opset >= 11 else one(g, "Clip", chain(g, x, ("Add", 3)), min=0.0, max=6.0)
    if chance(g.rng, 0.3):
        return one(g, "Mul", x, one(g, "HardSigmoid", x, alpha=0.16666667, beta=0.5))
    inner = chain(g, inner, ("Div", 6))
    return one(g, "Mul", x, inner) if chance(g.rng, 0.6) else inner


def product(g, x, inner):
    choice = choose(g.rng, (0, 1, 2))
    if choice == 0:
        return chain(g, one(g, "Mul", x, inner), ("Mul", 0.5))
    if choice == 1:
        return one(g, "Mul", chain(g, x, ("Mul", 0.5)), inner)
    return one(g, "Mul", x, chain(g, inner, ("Mul", 0.5)))


def bounded(g):
    x = need(g.floating())
    c = lambda number: g.scalar(x.dtype, number, rank=choose(g.rng, (0, 0, 0, 1)))
    for _ in range(int(g.rng.integers(2, 4))):
        kind = choose(g.rng, ("Relu", "Clip", "Max", "Min", "Abs", "Sigmoid", "Exp"))
        if kind == "Clip" and g.opset >= 11:
            low, high = choose(g.rng, ((0.0, 6.0), (-1.0, 1.0), (0.5, None), (None, -1.0), (2.0, 1.0), (-0.0, 0.0)))
            x = one(g, "Clip", x, *[None if bound is None else g.scalar(x.dtype, bound) for bound in (low, high)])
        elif kind in ("Max", "Min"):
            x = one(g, kind, x, c(choose(g.rng, (0.0, -0.0, 1.0, -1.0, 0.5))))
        elif kind != "Clip":
            x = one(g, kind, x)
    return x


def neutral(g):
    """Operators with operands that do nothing, or nearly."""
    x = need(g.floating() if chance(g.rng, 0.7) else g.any(np.int64, np.int32, np.int8, np.uint8))
    for _ in range(int(g.rng.integers(1, 4))):
        kind, number = choose(g.rng, (("Add", 0.0), ("Add", -0.0), ("Sub", 0.0), ("Sub", -0.0), ("Mul", 1.0), ("Div", 1.0), ("Pow", 1.0), ("Pow", 2.0), ("Pow", 0.5), ("Pow", 3.0), ("Mul", 0.0), ("Neg", None), ("Round", None), ("Sum", None)))
        if number is None:
            x = one(g, kind, x)
            continue
        if x.dtype.kind != "f" and (number != int(number) or kind == "Div" and number == 0):
            continue
        other = g.scalar(x.dtype, number, rank=choose(g.rng, (0, 0, 1, x.rank))) if chance(g.rng, 0.7) else g.constant(np.full([1 if s is None else s for s in x.shape], number, x.dtype))
        x = one(g, kind, x, other) if kind not in ("Add", "Mul") or chance(g.rng, 0.5) else one(g, kind, other, x)
    return x


def constants_in_a_row(g):
    x = need(g.floating() if chance(g.rng, 0.7) else g.any(np.int64, np.int32, np.int8))
    kind = choose(g.rng, ("Add", "Mul"))
    for _ in range(2):
        pair = [x, broadcast_constant(g, x)]
        x = one(g, kind, *(pair if chance(g.rng, 0.7) else pair[::-1]))
    return x


def negated(g):
    x, u = need(g.floating()), need(g.floating())
    return one(g, choose(g.rng, ("Add", "Sub")), x, one(g, "Neg", u)) if chance(g.rng, 0.6) else one(g, "Mul", x, one(g, "Reciprocal", u))


def chosen(g):
    x = need(g.any())
    condition = g.pick(lambda v: v.dtype == np.bool_ and not v.constant)
    if chance(g.rng, 0.3) or condition is None:
        shape = [1 if s is None else s for s in x.shape]
        condition = g.constant(np.full(choose(g.rng, ([], [1], shape, [2] + shape)), chance(g.rng, 0.5)))
    elif chance(g.rng, 0.6):
        condition = one(g, "Not", condition)
    return one(g, "Where", condition, x, broadcast_constant(g, x) if chance(g.rng, 0.5) else need(g.pick(lambda v: v.dtype == x.dtype)))


# Reductions.


def reduced(g):
    x = need(g.floating())
    if x.rank == 0:
        raise Miss
    kind = choose(g.rng, ("softmax", "logsum", "l1", "l2", "squares", "logsoftmax", "lp", "squeeze", "unsqueeze", "argmax", "argmax"))
    axis = int(g.rng.integers(x.rank))
    total = lambda value, name="ReduceSum", **kw: first(with_axes(g, name, value, [axis], 13 if name == "ReduceSum" else 18, **kw))
    if kind == "softmax":
        e = one(g, "Exp", x if chance(g.rng, 0.5) else one(g, "Sub", x, total(x, "ReduceMax", keepdims=1)))
        return one(g, "Div", e, total(e, keepdims=1))
    if kind == "logsum":
        return one(g, "Log", total(one(g, "Exp", x)))
    if kind == "l1":
        return total(one(g, "Abs", x))
    if kind in ("l2", "squares"):
        found = total(one(g, "Mul", x, x)) if chance(g.rng, 0.6) else total(x, "ReduceSumSquare")
        return one(g, "Sqrt", found) if kind == "l2" else found
    if kind == "logsoftmax":
        return one(g, "Log", one(g, "Softmax", x, axis=axis))
    if kind == "lp":
        return one(g, "Div", x, total(x, "ReduceL2", keepdims=1))
    if kind == "argmax":
        soft = choose(g.rng, ("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Exp", "Relu", "Neg"))
        value = one(g, soft, x, axis=axis) if "Soft" in soft else one(g, soft, x)
        return one(g, choose(g.rng, ("ArgMax", "ArgMin")), value, axis=axis, keepdims=int(chance(g.rng, 0.5)))
    name = choose(g.rng, ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"))
    if kind == "squeeze":
        return first(with_axes(g, "Squeeze", total(x, name, keepdims=1), [axis], 13))
    return first(with_axes(g, "Unsqueeze", total(x, name, keepdims=0), [axis], 13))


# Shapes.


def computed_shape(g):
    """A reshape to sizes that are read from a tensor, as exporters write it."""
    x = need(g.pick(lambda v: v.rank >= 2))
    y = x if chance(g.rng, 0.7) else need(g.pick(lambda v: v.rank == x.rank))
    sizes = one(g, "Shape", y)
    if chance(g.rng, 0.2):
        return one(g, choose(g.rng, ("Reshape", "Expand")), x, sizes)
    parts, left = [], x.rank
    kept = int(g.rng.integers(0, x.rank))
    for axis in range(kept):
        if chance(g.rng, 0.5):
            part = one(g, "Gather", sizes, g.constant(np.array(axis)), axis=0)
            part = first(with_axes(g, "Unsqueeze", part, [0], 13))
        elif g.opset >= 10:
            part = one(g, "Slice", sizes, g.integers([axis]), g.integers([axis + 1]), g.integers([0]))
        else:
            part = one(g, "Slice", sizes, starts=[axis], ends=[axis + 1], axes=[0])
        parts.append(part)
    if chance(g.rng, 0.5) and left - kept >= 1:
        tail = one(g, "Slice", sizes, g.integers([kept]), g.integers([x.rank]), g.integers([0])) if g.opset >= 10 else one(g, "Slice", sizes, starts=[kept], ends=[x.rank], axes=[0])
        whole = first(with_axes(g, "ReduceProd", tail, [0], 18, keepdims=1))
        parts.append(whole)
    else:
        parts.append(g.integers([-1]))
    if chance(g.rng, 0.2):
        parts.insert(int(g.rng.integers(len(parts) + 1)), g.integers([1]))
    target = one(g, "Concat", *parts, axis=0)
    return one(g, "Reshape", x, target)


def views(g):
    """Changes of shape one after the other."""
    x = need(g.any())
    for _ in range(int(g.rng.integers(2, 4))):
        kind = choose(g.rng, ("Unsqueeze", "Squeeze", "Flatten", "Reshape", "Transpose", "Identity"))
        if kind == "Unsqueeze":
            x = first(with_axes(g, kind, x, [int(g.rng.integers(x.rank + 1))], 13))
        elif kind == "Squeeze":
            ones = [axis for axis, size in enumerate(x.shape) if size == 1]
            if ones:
                x = first(with_axes(g, kind, x, [choose(g.rng, ones)] if chance(g.rng, 0.8) else None, 13))
        elif kind == "Flatten" and x.rank:
            x = one(g, kind, x, axis=int(g.rng.integers(x.rank + 1)))
        elif kind == "Transpose":
            x = one(g, kind, x, perm=[int(a) for a in g.rng.permutation(x.rank)])
        elif kind == "Identity":
            x = one(g, kind, x)
        else:
            free = [axis for axis, size in enumerate(x.shape) if size is None]
            target = [-1 if size is None and len(free) == 1 else 0 if size is None else size for size in x.shape]
            if chance(g.rng, 0.5) and len(target) >= 2:
                target = choose(g.rng, (target[:-2] + [-1] if -1 not in target[:-2] else target, [-1], [0, -1], [1] + [s if s else -1 for s in target]))
            x = one(g, "Reshape", x, g.integers(target))
    return x


def transposes(g):
    x = need(g.pick(lambda v: v.rank >= 2))
    inner = [int(a) for a in g.rng.permutation(x.rank)]
    x = one(g, "Transpose", x, perm=inner)
    act = choose(g.rng, ("Relu", "Neg", "Abs", "Sigmoid", "Cast", "Identity", "none", "Add"))
    if act == "Cast":
        x = one(g, "Cast", x, to=TensorProto.DOUBLE)
    elif act == "Add":
        x = one(g, act, x, broadcast_constant(g, x))
    elif act != "none":
        x = one(g, act, x)
    outer = [inner.index(axis) for axis in range(x.rank)] if chance(g.rng, 0.6) and x.rank == len(inner) else [int(a) for a in g.rng.permutation(x.rank)]
    return one(g, "Transpose", x, perm=outer)


def pieces(g):
    """Concat and what takes it apart again."""
    x = need(g.pick(lambda v: v.rank >= 1))
    axis = int(g.rng.integers(x.rank))
    y = g.pick(lambda v: v.dtype == x.dtype and v.rank == x.rank and v.shape[:axis] + v.shape[axis + 1:] == x.shape[:axis] + x.shape[axis + 1:]) or x
    joined = one(g, "Concat", x, y, axis=axis)
    choice = choose(g.rng, ("slice", "slice", "concat", "gather", "twice"))
    if choice == "concat":
        return one(g, "Concat", *([joined, x] if chance(g.rng, 0.5) else [x, joined, y]), axis=axis)
    size = x.shape[axis]
    if size is None:
        raise Miss
    if choice == "gather":
        return one(g, "Gather", joined, g.constant(np.array([choose(g.rng, (0, size, -1))])), axis=axis)
    start, end = choose(g.rng, ((0, size), (size, 2**31 - 1), (1, size + 1), (-size, 2**31 - 1)))
    part = cut(g, joined, start, end, axis)
    return cut(g, part, 0, 1, int(g.rng.integers(x.rank))) if choice == "twice" else part


def cut(g, x, start, end, axis):
    if g.opset >= 10:
        return one(g, "Slice", x, g.integers([start]), g.integers([end]), g.integers([axis]))
    return one(g, "Slice", x, starts=[start], ends=[end], axes=[axis])


def expanded(g):
    x = need(g.any())
    other = need(g.pick(lambda v: v.dtype == x.dtype and v.rank >= x.rank))
    target = one(g, "Shape", other) if chance(g.rng, 0.5) else g.integers([1 if s is None else s for s in other.shape])
    spread = one(g, "Expand", x, target)
    kind = choose(g.rng, ("Add", "Sub", "Mul", "Equal", "Less", "Greater")) if x.dtype != np.bool_ else choose(g.rng, ("And", "Or", "Equal"))
    pair = [spread, other if chance(g.rng, 0.7) else x]
    return one(g, kind, *(pair if chance(g.rng, 0.5) else pair[::-1]))


def casts(g):
    x = need(g.pick(lambda v: v.dtype.kind in "fiub"))
    types = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL) + (() if x.dtype.kind == "f" else (TensorProto.INT64, TensorProto.INT32, TensorProto.INT8))
    own = helper.np_dtype_to_tensor_dtype(x.dtype)
    x = one(g, "Cast", x, to=choose(g.rng, types))
    if chance(g.rng, 0.5) and g.opset >= 13:
        # bfloat16 is no type of NumPy's, so it stays inside.
        names = [g.name() for _ in range(3)]
        middle = choose(g.rng, ("Identity", "Reshape"))
        inputs = [names[0]] + ([g.integers([-1]).name] if middle == "Reshape" else [])
        unit = [helper.make_node("Cast", [x.name], [names[0]], to=TensorProto.BFLOAT16), helper.make_node(middle, inputs, [names[1]]), helper.make_node("Cast", [names[1]], [names[2]], to=TensorProto.FLOAT)]
        if x.dtype.kind == "f":
            return first(g.add(unit, keep=[names[2]]))
    if x.dtype.kind == "f" and own not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
        return x
    return one(g, "Cast", x, to=own)


def sequences(g):
    x = need(g.any())
    if g.opset < 11:
        raise Miss
    names = [g.name() for _ in range(2)]
    y = g.pick(lambda v: v.dtype == x.dtype) or x
    position = g.constant(np.array(choose(g.rng, (0, 1, -1, -2))), listed=False)
    return first(g.add([helper.make_node("SequenceConstruct", [x.name, y.name], [names[0]]), helper.make_node("SequenceAt", [names[0], position.name], [names[1]])], keep=[names[1]]))


# Bodies and functions.


def body_graph(g, inputs, steps):
    """A body with these (name, arrays) inputs and some nodes of its own."""
    from fuzz_graphs import Value

    body = Graph(g.rng, g.opset, g.eager, outer=g)
    for name, arrays in inputs:
        value = Value(name, arrays)
        body.values.append(value)
    grow(body, steps, depth=1)
    return body


def finish(body, name, inputs, outputs):
    graph = helper.make_graph(body.nodes, name, [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a[0].dtype), None) for n, a in inputs],
                              [helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(v.dtype), None) for v in outputs], body.initializers)
    return graph


def conditional(g):
    condition = g.pick(lambda v: v.dtype == np.bool_ and all(a.size == 1 for a in v.arrays) and v.rank == 0)
    if condition is None or chance(g.rng, 0.2):
        condition = g.constant(np.array(chance(g.rng, 0.5)), listed=False) if chance(g.rng, 0.4) else None
    if condition is None:
        x = need(g.any(np.float32, np.int64))
        total = first(with_axes(g, "ReduceMax", one(g, "Concat", one(g, "Reshape", x, g.integers([-1])), g.weights(x.dtype, [1]), axis=0), None, 18, keepdims=0))
        condition = one(g, "Greater", total, g.scalar(x.dtype, 1))
    branches, results = [], []
    for word in ("then", "else"):
        body = body_graph(g, [], int(g.rng.integers(1, 5)))
        own = [value for value in body.values if any(value.name in node.output for node in body.nodes)]
        if not own:
            raise Miss
        branches.append((word, body, own))
    pairs = [(a, b) for a in branches[0][2] for b in branches[1][2] if a.dtype == b.dtype and a.rank == b.rank]
    if g.opset < 11:
        # Branches of the first version agree in their shapes.
        pairs = [(a, b) for a, b in pairs if all(x.shape == y.shape for x, y in zip(a.arrays, b.arrays))]
    if not pairs:
        raise Miss
    results = pairs[int(g.rng.integers(len(pairs)))]
    graphs = {f"{word}_branch": finish(body, word, [], [value]) for (word, body, _), value in zip(branches, results)}
    return first(g.add([helper.make_node("If", [condition.name], [g.name()], **graphs)]))


def loop(g):
    state = need(g.pick(lambda v: v.dtype in (*FLOAT, np.int64) and v.rank <= 4))
    names = [g.name() for _ in range(3)]
    count = len(g.cases)
    inputs = [(names[0], [np.array(0)] * count), (names[1], [np.array(True)] * count), (names[2], state.arrays)]
    body = body_graph(g, inputs, int(g.rng.integers(1, 5)))
    fits = lambda v: v.dtype == state.dtype and all(a.shape == b.shape for a, b in zip(v.arrays, state.arrays)) and any(v.name in n.output for n in body.nodes)
    made = [value for value in body.values if fits(value)]
    if not made:
        raise Miss
    goes_on = body.op("Identity", [body.values[1]])
    scanned = [value for value in body.values if any(value.name in n.output for n in body.nodes)][:1] if chance(g.rng, 0.4) else []
    graph = finish(body, "body", inputs, [goes_on[0], made[-1], *scanned])
    trips = g.constant(np.array(int(g.rng.integers(0, 4))), listed=False)
    true = g.constant(np.array(True), listed=False) if chance(g.rng, 0.7) else None
    return first(g.add([helper.make_node("Loop", [trips.name, true.name if true else "", state.name], [g.name() for _ in range(1 + len(scanned))], body=graph)]))


def scan(g):
    state = need(g.pick(lambda v: v.dtype == np.float32 and v.rank == 1))
    rows = need(g.pick(lambda v: v.dtype == np.float32 and v.rank == 2 and all(a.shape[0] >= 1 for a in v.arrays)))
    names = [g.name() for _ in range(2)]
    inputs = [(names[0], state.arrays), (names[1], [a[0] for a in rows.arrays])]
    body = body_graph(g, inputs, int(g.rng.integers(1, 4)))
    made = [v for v in body.values if v.dtype == state.dtype and all(a.shape == b.shape for a, b in zip(v.arrays, state.arrays)) and any(v.name in n.output for n in body.nodes)]
    if not made:
        raise Miss
    return first(g.add([helper.make_node("Scan", [state.name, rows.name], [g.name()], body=finish(body, "body", inputs, [made[-1]]), num_scan_inputs=1)]))


def function(g):
    """A local function made of a few nodes, called once or twice."""
    from fuzz_graphs import Value

    if g.outer is not None or len(g.functions) > 2 or g.opset < 13:
        raise Miss
    x = need(g.floating(dtypes=(np.float32,)))
    inner = Graph(g.rng, g.opset, g.eager, prefix=g.prefix)
    inner.cases, inner.counter, inner.infinite = g.cases, g.counter, g.infinite
    inner.values.append(Value(g.name("p"), x.arrays))
    grow(inner, int(g.rng.integers(2, 6)), depth=1)
    for tensor in inner.initializers:
        inner.nodes.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    made = [v for v in inner.values if any(v.name in n.output and n.op_type != "Constant" for n in inner.nodes)]
    if not made:
        raise Miss
    name = g.name("Block")
    g.functions.append(helper.make_function("local", name, [inner.values[0].name], [made[-1].name], inner.nodes, [helper.make_opsetid("", g.opset)]))
    result = None
    for argument in (x, need(g.pick(lambda v: v.dtype == np.float32))) if chance(g.rng, 0.5) else (x,):
        result = g.add([helper.make_node(name, [argument.name], [g.name()], domain="local")]) or result
    if result is None:
        g.functions.pop()
        raise Miss
    return result[0]


MOTIFS = (
    (fused_normalization, 10), (padded, 2), (linear, 6), (layer_norm, 4), (attention, 3), (activation, 8), (bounded, 4), (neutral, 7), (constants_in_a_row, 4), (negated, 2), (chosen, 3), (reduced, 8),
    (computed_shape, 7), (views, 7), (transposes, 5), (pieces, 4), (expanded, 4), (casts, 4), (sequences, 2),
)
CONTROL = ((conditional, 3), (loop, 3), (scan, 1), (function, 3))


def weighted(rng, table):
    weights = np.array([weight for _, weight in table], float)
    return table[int(rng.choice(len(table), p=weights / weights.sum()))][0]


def grow(g, steps, depth=0):
    """Adds about as many operators or motifs."""
    for _ in range(steps):
        roll = g.rng.random()
        table = CONTROL if depth == 0 and roll < 0.06 else MOTIFS if roll < 0.45 else OPERATORS
        try:
            weighted(g.rng, table)(g)
        except Miss:
            continue
