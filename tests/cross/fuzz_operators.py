"""What the random graphs are made of: single operators, with attributes and operands that have a chance to run."""

import numpy as np
from onnx import TensorProto, helper

FLOAT = (np.float32, np.float64, np.float16)
INTEGER = (np.int64, np.int32, np.int8, np.uint8, np.int16, np.uint16, np.uint32, np.uint64)

# Elementwise operators of one operand, with the attributes they may have.
UNARY = {
    "Abs": {}, "Acos": {}, "Asinh": {}, "Atan": {}, "Ceil": {}, "Celu": {"alpha": (0.5, 1.0)}, "Cos": {}, "Cosh": {}, "Elu": {"alpha": (1.0, 0.5)}, "Erf": {},
    "Exp": {}, "Floor": {}, "Gelu": {"approximate": ("none", "tanh")}, "HardSigmoid": {"alpha": (0.2, 0.16666667), "beta": (0.5, 0.3)}, "HardSwish": {}, "Identity": {},
    "LeakyRelu": {"alpha": (0.01, 0.5)}, "Log": {}, "Mish": {}, "Neg": {}, "Reciprocal": {}, "Relu": {}, "Round": {}, "Selu": {}, "Sigmoid": {}, "Sign": {}, "Sin": {},
    "Sinh": {}, "Softplus": {}, "Softsign": {}, "Sqrt": {}, "Tan": {}, "Tanh": {}, "ThresholdedRelu": {"alpha": (1.0, 0.3)}, "IsNaN": {}, "IsInf": {},
}
BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Mod")
COMPARE = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
VARIADIC = ("Max", "Min", "Sum", "Mean")
REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")


def fits(x, y):
    return all(a == b or 1 in (a, b) for a, b in zip(x.shape[::-1], y.shape[::-1]))


def choose(rng, options):
    return options[int(rng.integers(len(options)))]


def chance(rng, share):
    return rng.random() < share


def unary(g):
    kind = choose(g.rng, sorted(UNARY))
    value = g.floating() if chance(g.rng, 0.85) else g.any(*INTEGER)
    attributes = {key: choose(g.rng, options) for key, options in UNARY[kind].items() if chance(g.rng, 0.6)}
    return value and g.op(kind, [value], **attributes)


def partner(g, value):
    """Something that broadcasts with a value: another value, or a constant."""
    if chance(g.rng, 0.5):
        other = g.pick(lambda v: v.dtype == value.dtype)
        if other is not None:
            return other
    return broadcast_constant(g, value)


def broadcast_constant(g, value, low=None):
    choice = g.rng.random()
    if choice < 0.35:
        number = choose(g.rng, (0.0, -0.0, 1.0, 0.5, 2.0, -1.0, 3.0, 6.0, np.nan, np.inf))
        if value.dtype.kind != "f":
            number = int(number) if np.isfinite(number) else 3
        if value.dtype.kind == "u":
            number = abs(number)
        if low is not None:
            number = 2
        return g.scalar(value.dtype, number, rank=choose(g.rng, (0, 0, 1, value.rank)))
    shape = [1 if size is None or chance(g.rng, 0.4) else size for size in value.shape]
    shape = shape[int(g.rng.integers(0, len(shape) + 1)):] if chance(g.rng, 0.5) else shape
    if chance(g.rng, 0.1):
        shape = [choose(g.rng, (1, 2))] + shape
    return g.weights(value.dtype, shape, low)


def binary(g):
    kind = choose(g.rng, BINARY)
    value = g.floating() if chance(g.rng, 0.75) else g.any(*INTEGER)
    if value is None:
        return None
    if value.dtype.kind != "f" and kind in ("Div", "Mod", "Pow"):
        # An integer division by zero ends the process.
        return g.op(kind, [value, broadcast_constant(g, value, low=1)])
    other = partner(g, value)
    if kind == "Pow" and not other.constant:
        # A negative number to the power of what rounds to 0 is a number, or none.
        other = broadcast_constant(g, value)
        return g.op(kind, [value, other])
    attributes = {"fmod": 1} if kind == "Mod" else {}
    pair = [value, other] if chance(g.rng, 0.6) or kind == "PRelu" else [other, value]
    # A slope stretches no operand: ONNX Runtime does it, and fails where the result has its memory already.
    if kind == "PRelu" and any(np.broadcast_shapes(x.shape, slope.shape) != x.shape for x, slope in zip(value.arrays, other.arrays) if fits(x, slope)):
        return None
    return g.op(kind, pair, **attributes)


def compare(g):
    value = g.any()
    return value and g.op(choose(g.rng, COMPARE), [value, partner(g, value)])


def variadic(g):
    first = g.floating() if chance(g.rng, 0.8) else g.any(*INTEGER)
    if first is None:
        return None
    rest = [partner(g, first) for _ in range(int(g.rng.integers(0, 3)))]
    return g.op(choose(g.rng, VARIADIC), [first, *rest])


def logical(g):
    first = g.any(np.bool_)
    if first is None:
        return None
    kind = choose(g.rng, ("And", "Or", "Xor", "Not", "Where"))
    if kind == "Not":
        return g.op(kind, [first])
    if kind == "Where":
        value = g.any()
        if chance(g.rng, 0.2):
            first = g.constant(np.array(choose(g.rng, ([True], [False], True, False))))
        return g.op(kind, [first, value, partner(g, value)])
    return g.op(kind, [first, g.any(np.bool_) if chance(g.rng, 0.6) else g.constant(np.array(chance(g.rng, 0.5)))])


def matmul(g):
    value = g.floating()
    if value is None or value.rank < 1 or value.shape[-1] is None:
        return None
    kind = choose(g.rng, ("MatMul", "MatMul", "Gemm", "Einsum"))
    inner, width = value.shape[-1], int(g.rng.integers(1, 5))
    other = g.weights(value.dtype, [inner, width])
    if chance(g.rng, 0.3):
        other = g.pick(lambda v: v.dtype == value.dtype and v.rank >= 2 and v.shape[-2] == inner) or other
    if kind == "MatMul":
        return g.op(kind, [value, other])
    if kind == "Einsum":
        equation = {2: "ij,jk->ik", 3: "bij,jk->bik", 4: "abij,jk->abik"}.get(value.rank)
        return equation and g.op(kind, [value, other], equation=equation)
    transposed = chance(g.rng, 0.4)
    if transposed:
        other = g.weights(value.dtype, [width, inner])
    bias = choose(g.rng, (None, [width], [1, width], [1], []))
    inputs = [value, other] + ([g.weights(value.dtype, bias or [])] if bias is not None or g.opset < 11 else [])
    attributes = {"transB": int(transposed)} | ({"alpha": 0.5} if chance(g.rng, 0.2) else {}) | ({"beta": 2.0} if chance(g.rng, 0.2) else {})
    return g.op(kind, inputs, **attributes)


def images(g):
    return g.floating(rank=(3, 4), dtypes=(np.float32, np.float64))


def conv_attributes(g, kernel):
    attributes = {}
    if chance(g.rng, 0.5):
        attributes["pads"] = [int(p) for p in g.rng.integers(0, 2, 2 * len(kernel))]
    elif chance(g.rng, 0.2):
        attributes["auto_pad"] = choose(g.rng, ("SAME_UPPER", "SAME_LOWER", "VALID"))
    if chance(g.rng, 0.3):
        attributes["strides"] = [2] * len(kernel)
    return attributes


def convolution(g):
    value = images(g)
    if value is None or value.shape[1] in (None, 0):
        return None
    channels = value.shape[1]
    kernel = [choose(g.rng, (1, 1, 2, 3)) for _ in range(value.rank - 2)]
    width = int(g.rng.integers(1, 5))
    if chance(g.rng, 0.75):
        group = channels if chance(g.rng, 0.2) else 1
        weights = g.weights(value.dtype, [width * group, channels // group, *kernel])
        out = width * group
        kind = "Conv"
    else:
        weights, group, out, kind = g.weights(value.dtype, [channels, width, *kernel]), 1, width, "ConvTranspose"
    bias = [g.weights(value.dtype, [out])] if chance(g.rng, 0.5) else []
    attributes = conv_attributes(g, kernel) | ({"group": group} if group != 1 else {})
    return g.op(kind, [value, weights, *bias], **attributes)


def pool(g):
    value = images(g)
    if value is None:
        return None
    kind = choose(g.rng, ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"))
    if "Max" in kind and not all(np.isfinite(array).all() for array in value.arrays):
        # ONNX Runtime gives the lowest number for a window of NaN.
        return None
    if kind.startswith("Global"):
        return g.op(kind, [value])
    kernel = [choose(g.rng, (1, 2)) for _ in range(value.rank - 2)]
    attributes = conv_attributes(g, kernel)
    if kind == "AveragePool" and chance(g.rng, 0.4):
        attributes["count_include_pad"] = 1
    return g.op(kind, [value], kernel_shape=kernel, **attributes)


def normalization(g):
    kind = choose(g.rng, ("BatchNormalization", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization", "LRN", "GroupNormalization"))
    value = g.floating(rank=(2, 3, 4))
    if value is None or value.shape[1] in (None, 0):
        return None
    channels = value.shape[1]
    vector = lambda low=None: g.weights(value.dtype, [channels], low)
    if kind == "BatchNormalization":
        return g.op(kind, [value, vector(), vector(), vector(), vector(0.1)], epsilon=choose(g.rng, (1e-5, 0.1)))
    if kind == "InstanceNormalization":
        # ONNX Runtime reads past the end of an empty value, and may die of it.
        if any(array.size == 0 for array in value.arrays):
            return None
        return g.op(kind, [value, vector(), vector()])
    if kind == "LayerNormalization":
        size = value.shape[-1]
        return size and g.op(kind, [value, g.weights(value.dtype, [size]), g.weights(value.dtype, [size])], axis=-1)
    if kind == "GroupNormalization":
        return g.op(kind, [value, vector(), vector()], num_groups=1)
    if kind == "LRN":
        return g.op(kind, [value], size=3)
    return g.op(kind, [value], axis=int(g.rng.integers(-1, value.rank)), p=choose(g.rng, (1, 2)))


def softmax(g):
    value = g.floating()
    if value is None or value.rank == 0:
        return None
    kind = choose(g.rng, ("Softmax", "LogSoftmax", "Hardmax"))
    return g.op(kind, [value], axis=int(g.rng.integers(-value.rank if g.opset >= 11 else 0, value.rank)))


def axes_of(g, value, most=2):
    count = min(value.rank, int(g.rng.integers(1, most + 1)))
    axes = sorted(int(a) for a in g.rng.permutation(value.rank)[:count])
    return [a - value.rank for a in axes] if chance(g.rng, 0.3) and g.opset >= 11 else axes


def with_axes(g, kind, value, axes, since, **attributes):
    """An operator whose axes are an attribute before an opset and an input from it on."""
    if axes is None:
        return g.op(kind, [value], **attributes)
    if g.opset >= since:
        return g.op(kind, [value, g.integers(axes)], **attributes)
    return g.op(kind, [value], axes=axes, **attributes)


def reduction(g):
    value = g.floating() if chance(g.rng, 0.8) else g.any(np.int64, np.int32)
    if value is None or value.rank == 0:
        return None
    kind = choose(g.rng, REDUCE)
    axes = axes_of(g, value) if chance(g.rng, 0.85) else None
    keep = choose(g.rng, ({}, {"keepdims": 0}, {"keepdims": 1}))
    return with_axes(g, kind, value, axes, 13 if kind == "ReduceSum" else 18, **keep)


def arg(g):
    value = g.floating() if chance(g.rng, 0.8) else g.any()
    if value is None or value.rank == 0:
        return None
    axis = int(g.rng.integers(value.rank))
    if chance(g.rng, 0.25):
        count = [g.integers([1])] if g.opset >= 10 else []
        attributes = {"axis": axis} | ({} if count else {"k": 1}) | ({"largest": int(chance(g.rng, 0.7))} if g.opset >= 11 else {})
        return g.op("TopK", [value, *count], outputs=2, **attributes)
    last = {"select_last_index": 1} if g.opset >= 12 and chance(g.rng, 0.2) else {}
    return g.op(choose(g.rng, ("ArgMax", "ArgMin")), [value], axis=axis, keepdims=int(chance(g.rng, 0.5)), **last)


def transpose(g):
    value = g.any()
    if value is None:
        return None
    permutation = {} if chance(g.rng, 0.2) else {"perm": [int(a) for a in g.rng.permutation(value.rank)]}
    return g.op("Transpose", [value], **permutation)


def reshape(g):
    value = g.any()
    if value is None:
        return None
    choice = g.rng.random()
    if choice < 0.15:
        return g.op("Flatten", [value], axis=int(g.rng.integers(0, value.rank + 1)))
    if choice < 0.3:
        ones = [axis for axis, size in enumerate(value.shape) if size == 1]
        if ones:
            return with_axes(g, "Squeeze", value, [choose(g.rng, ones)], 13)
    if choice < 0.5:
        return with_axes(g, "Unsqueeze", value, [int(g.rng.integers(0, value.rank + 1))], 13)
    target = []
    for axis, size in enumerate(value.shape):
        target.append(0 if size is None or chance(g.rng, 0.2) else size)
    if chance(g.rng, 0.4) and target:
        target[int(g.rng.integers(len(target)))] = -1
    elif len(target) >= 2 and chance(g.rng, 0.7):
        at = int(g.rng.integers(len(target) - 1))
        joined = -1 if 0 in target[at:at + 2] else target[at] * target[at + 1]
        target[at:at + 2] = [joined]
    elif chance(g.rng, 0.3):
        target = [-1]
    if chance(g.rng, 0.2):
        target.insert(int(g.rng.integers(len(target) + 1)), 1)
    return g.op("Reshape", [value, g.integers(target)])


def concat(g):
    first = g.any()
    if first is None or first.rank == 0:
        return None
    others = [g.pick(lambda v: v.dtype == first.dtype and v.rank == first.rank) for _ in range(int(g.rng.integers(0, 3)))]
    values = [first, *[value for value in others if value is not None]]
    axis = int(g.rng.integers(first.rank))
    beside = lambda value: [array.shape[:axis] + array.shape[axis + 1:] for array in value.arrays]
    # ONNX Runtime joins values without elements whatever their other sizes are, and reads what is not there.
    if any(beside(value) != beside(first) for value in values):
        return None
    return g.op("Concat", values, axis=axis)


def slicing(g):
    value = g.any()
    if value is None or value.rank == 0:
        return None
    choice = g.rng.random()
    axis = int(g.rng.integers(value.rank))
    if choice < 0.5:
        start, end = choose(g.rng, ((0, 2**31 - 1), (1, 2**31 - 1), (0, 1), (-1, 2**31 - 1), (0, -1), (1, 3), (0, 2), (-9, 2), (5, 9), (-9, -1), (2, 1)))
        if g.opset < 10:
            return g.op("Slice", [value], starts=[start], ends=[end], axes=[axis])
        if chance(g.rng, 0.15):
            start, end = choose(g.rng, ((-1, -(2**62)), (-9, -(2**63)), (99, -9), (2, 0), (-1, -2), (0, 0)))
            return g.op("Slice", [value, g.integers([start]), g.integers([end]), g.integers([axis]), g.integers([choose(g.rng, (-1, -2))])])
        return g.op("Slice", [value, g.integers([start]), g.integers([end]), g.integers([axis])])
    if choice < 0.75:
        index = choose(g.rng, (0, -1, [0], [0, 0], [-1, 0], [[0]]))
        return g.op("Gather", [value, g.constant(np.array(index, np.int64))], axis=axis)
    if choice < 0.9 and value.shape[axis]:
        size = value.shape[axis]
        left = int(g.rng.integers(0, size + 1))
        if g.opset >= 13:
            return g.op("Split", [value, g.integers([left, size - left])], outputs=2, axis=axis)
        return g.op("Split", [value], outputs=2, axis=axis, split=[left, size - left])
    kind = choose(g.rng, ("GatherElements", "ScatterElements", "GatherND"))
    if kind == "GatherND":
        return g.op(kind, [value, g.constant(np.zeros([1, 1], np.int64))])
    zeros = g.constant(np.zeros([1] * value.rank, np.int64))
    return g.op(kind, [value, zeros] + ([g.weights(value.dtype, [1] * value.rank)] if kind == "ScatterElements" else []), axis=axis)


def cast(g):
    value = g.any()
    if value is None:
        return None
    target = choose(g.rng, (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.INT8, TensorProto.UINT8))
    if value.dtype.kind == "f" and target not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BOOL):
        # What ONNX leaves open is no test: NaN, infinities and numbers out of range.
        if not all(np.isfinite(array).all() and (np.abs(array) < 100).all() and (target != TensorProto.UINT8 or (array >= 0).all()) for array in value.arrays):
            return None
    return g.op("Cast", [value], to=target)


def clip(g):
    value = g.floating() if chance(g.rng, 0.8) else g.any(*INTEGER)
    if value is None:
        return None
    low, high = choose(g.rng, ((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 0.5), (1.0, -1.0), (-0.5, 3.0), (0, 0)))
    if value.dtype.kind != "f":
        low, high = (None if bound is None else abs(int(bound)) for bound in (low, high))
    if g.opset < 11:
        bounds = {key: float(bound) for key, bound in (("min", low), ("max", high)) if bound is not None}
        return g.op("Clip", [value], **bounds)
    return g.op("Clip", [value, *[None if bound is None else g.scalar(value.dtype, bound) for bound in (low, high)]])


def pad(g):
    value = g.floating() if chance(g.rng, 0.8) else g.any()
    if value is None or value.rank == 0:
        return None
    pads = [int(p) if chance(g.rng, 0.4) else 0 for p in g.rng.integers(0, 2, 2 * value.rank)]
    mode = choose(g.rng, ("constant", "constant", "edge", "reflect"))
    if g.opset < 11:
        return g.op("Pad", [value], pads=pads, mode=mode)
    fill = [g.scalar(value.dtype, choose(g.rng, (0, 1)))] if chance(g.rng, 0.3) else []
    return g.op("Pad", [value, g.integers(pads), *fill], mode=mode)


def expansion(g):
    value = g.any()
    if value is None:
        return None
    if chance(g.rng, 0.5):
        return g.op("Tile", [value, g.integers([choose(g.rng, (1, 1, 2)) for _ in range(value.rank)])])
    target = [1 if size is None else (choose(g.rng, (1, 3)) if size == 1 else size) for size in value.shape]
    return g.op("Expand", [value, g.integers(([2] if chance(g.rng, 0.2) else []) + target)])


def sizes(g):
    value = g.any()
    if value is None:
        return None
    kind = choose(g.rng, ("Shape", "Size", "NonZero", "ConstantOfShape", "Range", "EyeLike", "Compress", "CumSum", "Trilu", "OneHot", "DepthToSpace"))
    if kind in ("Shape", "Size", "NonZero"):
        return g.op(kind, [value])
    if kind == "ConstantOfShape":
        value = g.pick(lambda v: v.dtype == np.int64 and v.rank == 1 and all((a >= 0).all() and (a < 9).all() and a.size < 5 for a in v.arrays))
        return value and g.op(kind, [value])
    if kind == "Range":
        value = g.pick(lambda v: v.dtype == np.int64 and v.rank == 0 and all(-9 < int(a) < 99 for a in v.arrays))
        return value and g.op(kind, [g.constant(np.array(0)), value, g.constant(np.array(1))])
    if kind == "EyeLike":
        return g.op(kind, [value])
    if kind == "Compress":
        least = min(array.shape[0] for array in value.arrays) if value.rank else 0
        return least and g.op(kind, [value, g.constant(np.array([True, False, True][:least]))], axis=0)
    if kind == "CumSum":
        return g.op(kind, [value, g.constant(np.array(0))], exclusive=int(chance(g.rng, 0.3)))
    if kind == "OneHot":
        index = g.any(np.int64)
        return index and g.op(kind, [index, g.constant(np.array(4)), g.constant(np.array([0, 1], np.float32))])
    if kind == "DepthToSpace":
        return g.op(kind, [value], blocksize=1)
    return g.op(kind, [value], upper=int(chance(g.rng, 0.5)))


def resizing(g):
    value = images(g)
    if value is None or g.opset < 11:
        return None
    scales = g.constant(np.array([1, 1] + [choose(g.rng, (1, 2))] * (value.rank - 2), np.float32))
    return g.op("Resize", [value, g.constant(np.zeros(0, np.float32)) if g.opset < 13 else None, scales], mode=choose(g.rng, ("nearest", "linear")))


def dropout(g):
    value = g.floating()
    return value and g.op("Dropout", [value])


def quantization(g):
    value = g.floating(dtypes=(np.float32,))
    if value is None or g.opset < 10 or not all(np.isfinite(a).all() for a in value.arrays):
        return None
    kind = choose(g.rng, (np.int8, np.uint8))
    scale, zero = g.scalar(np.float32, choose(g.rng, (0.05, 0.5, 0.1))), g.scalar(kind, choose(g.rng, (0, 3)))
    codes = g.op("QuantizeLinear", [value, scale, zero])
    if not codes:
        return None
    back = g.op("DequantizeLinear", [codes[0], scale, zero])
    if back and chance(g.rng, 0.5):
        g.op("QuantizeLinear", [back[0], scale, zero])
    return back


def recurrent(g):
    value = g.floating(rank=3, dtypes=(np.float32,))
    if value is None or value.shape[-1] in (None, 0) or any(array.size == 0 for array in value.arrays):
        # ONNX Runtime's kernels end the process where there is nothing to compute.
        return None
    kind, gates = choose(g.rng, (("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    hidden = 2
    inputs = [value, g.weights(np.float32, [1, gates * hidden, value.shape[-1]]), g.weights(np.float32, [1, gates * hidden, hidden])]
    return g.op(kind, inputs, outputs=2, hidden_size=hidden)


OPERATORS = (
    (unary, 14), (binary, 14), (compare, 3), (variadic, 4), (logical, 3), (matmul, 6), (convolution, 6), (pool, 3), (normalization, 5), (softmax, 4), (reduction, 6), (arg, 4), (transpose, 5),
    (reshape, 7), (concat, 4), (slicing, 6), (cast, 4), (clip, 4), (pad, 3), (expansion, 4), (sizes, 4), (resizing, 1), (dropout, 1), (quantization, 2), (recurrent, 1),
)
