"""Small random nets for the checks of quantization, and a reference of static quantization for them.

The reference takes the places of the pairs from the result that is judged, and nothing else: ranges are extremes of the float model's
values over all calibration samples, scales, zero points and the weights' codes are computed here.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import runtime

HELD_OUT = 48
#: Operators behind which values keep their codes, so that both sides share one range.
MOVING = {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Concat", "Slice", "Split", "Gather", "Identity"}


class Net:
    """A model, samples to calibrate on, others to judge it by, and how it is quantized."""

    def __init__(self, kind, model, free, calibration, held_out, batch, fixed, options):
        self.kind = kind
        self.model = model
        self.free = free  # The same with a free batch.
        self.input = model.graph.input[0].name
        self.calibration = calibration
        self.held_out = held_out
        self.batch = batch
        self.fixed = fixed
        self.options = options


class Builder:
    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape, fan):
        spread = self.rng.normal(0, 1, shape) * self.rng.uniform(0.3, 1.7, (shape[0],) + (1,) * (len(shape) - 1))
        return self.constant((spread / np.sqrt(fan)).astype(np.float32))

    def bias(self, size):
        return self.constant(self.rng.normal(0, 0.2, size).astype(np.float32))

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def add(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}" + (f"_{at}" if outputs > 1 else "") for at in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"n{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, inputs, outputs):
        x = self.add("MatMul", x, self.weight(inputs, outputs, fan=inputs))
        return self.add("Add", x, self.bias(outputs)) if self.rng.integers(4) else x

    def activation(self, x):
        kind = self.rng.integers(6)
        if kind == 0:
            return self.add("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(self.rng.choice([1, 6]))))
        return self.add(("Relu", "Relu", "Sigmoid", "Tanh", "LeakyRelu")[kind - 1], x)

    def normalise(self, x, size):
        scale = self.constant(self.rng.uniform(0.5, 1.5, size).astype(np.float32))
        return self.add("LayerNormalization", x, scale, self.bias(size), axis=-1)


def random_net(seed):
    rng = np.random.default_rng([20, seed])
    kinds = (convolution, convolution_1d, attention, heads_in_batch, recurrent, sequence_first, windows, text_lines)
    make = kinds[seed % len(kinds)]
    builder = Builder(rng)
    out, shape = make(builder)
    batch = int(rng.choice([1, 2, 3, 5]))
    fixed = bool(rng.integers(2))
    model, free = (built(builder, out, [size, *shape]) for size in (batch if fixed else "N", "N"))
    profiles = ([], ["--set", "profile=ort-arm"], ["--set", "scheme=int16"], ["--set", "per-channel=false"],
                ["--set", "correct-bias=false"])
    # The reference has no remedy against saturating kernels, which costs precision.
    options = [*profiles[int(rng.integers(len(profiles)))], "--set", "saturation=ignore"]
    count = int(rng.integers(9, 26))
    return Net(make.__name__, model, free, samples(rng, count, shape), samples(rng, HELD_OUT, shape), batch, fixed, options)


def built(builder, out, dims):
    graph = helper.make_graph(
        builder.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_empty_tensor_value_info(out)], builder.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def samples(rng, count, shape):
    """Samples whose later steps are larger, and whose parts are."""
    x = rng.normal(0, 1, (count, *shape))
    growth = np.linspace(0.1, 3, shape[0]).reshape((-1,) + (1,) * (len(shape) - 1))
    x = x * growth if len(shape) > 1 and shape[0] > 4 else x * rng.uniform(0.5, 2)
    return x.astype(np.float32)


def convolution(b):
    channels, x = int(b.rng.choice([1, 3])), "x"
    size = 8
    shape = (channels, size, size)
    for _ in range(int(b.rng.integers(2, 4))):
        width = int(b.rng.choice([4, 8]))
        group = channels if b.rng.integers(4) == 0 else 1
        width = channels if group > 1 else width
        kernel = int(b.rng.choice([1, 3]))
        inputs = [x, b.weight(width, channels // group, kernel, kernel, fan=channels // group * kernel * kernel)]
        inputs += [b.bias(width)] if b.rng.integers(3) else []
        y = b.add("Conv", *inputs, kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4, group=group)
        y = b.activation(y)
        if width == channels and b.rng.integers(2):
            y = b.add("Add", y, x)
        if b.rng.integers(4) == 0:
            y = b.add("Concat", y, x, axis=1)
            width += channels
        x, channels = y, width
    if b.rng.integers(2):
        x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        size //= 2
    if b.rng.integers(2):
        x = b.add("Flatten", b.add("GlobalAveragePool", x))
        width = channels
    else:
        x = b.add("Flatten", x)
        width = channels * size * size
    weight = b.weight(5, width, fan=width)
    return b.add("Gemm", x, weight, b.bias(5), transB=1), shape


def convolution_1d(b):
    shape = (6, 16)
    x = b.add("Conv", "x", b.weight(8, 6, 3, fan=18), b.bias(8), kernel_shape=[3], pads=[1, 1])
    x = b.activation(x)
    x = b.add("Conv", x, b.weight(8, 8, 3, fan=24), kernel_shape=[3], pads=[1, 1])
    x = b.add("Transpose", x, perm=[2, 0, 1])
    x = b.linear(x, 8, 8)
    x = b.activation(x)
    return b.add("Transpose", b.linear(x, 8, 3), perm=[1, 0, 2]), shape


def block(b, x, width, attend):
    y = attend(b, b.normalise(x, width) if b.rng.integers(2) else x)
    x = b.add("Add", x, y)
    y = b.linear(b.normalise(x, width), width, 2 * width)
    y = b.linear(b.activation(y), 2 * width, width)
    return b.add("Add", x, y)


def attention(b):
    """Batch first, heads on an axis of their own; sometimes query, key and value in one product [3, N, H, L, D]."""
    steps, width, heads = 6, 16, 4
    together = bool(b.rng.integers(2))

    def attend(b, x):
        if together:
            x = b.add("Reshape", b.linear(x, width, 3 * width), b.ints(-1, steps, 3, heads, width // heads))
            x = b.add("Transpose", x, perm=[2, 0, 3, 1, 4])
            parts = [b.add("Gather", x, b.constant(np.int64(at)), axis=0) for at in range(3)]
            q, k, v = parts[0], b.add("Transpose", parts[1], perm=[0, 1, 3, 2]), parts[2]
        else:
            q, k, v = (b.add("Transpose", b.add("Reshape", b.linear(x, width, width),
                                                b.ints(-1, steps, heads, width // heads)), perm=order)
                       for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = b.add("Mul", b.add("MatMul", q, k), b.constant(np.float32((width // heads) ** -0.5)))
        y = b.add("MatMul", b.add("Softmax", scores, axis=-1), v)
        y = b.add("Reshape", b.add("Transpose", y, perm=[0, 2, 1, 3]), b.ints(-1, steps, width))
        return b.linear(y, width, width)

    x = block(b, b.linear("x", 10, width), width, attend)
    return b.linear(b.add("ReduceMean", x, axes=[1], keepdims=0), width, 4), (steps, 10)


def heads_in_batch(b):
    """Sequence first, heads joined with the batch: [N * heads, L, D] or, split along the features, [heads * N, L, D]."""
    steps, width, heads = 6, 16, 2
    split = bool(b.rng.integers(2))

    def attend(b, x):
        def apart(y, order):
            if split:
                parts = b.add("Split", y, b.ints(*[width // heads] * heads), outputs=heads, axis=2)
                y = b.add("Concat", *parts, axis=1)  # [L, heads * N, D]
            else:
                y = b.add("Reshape", y, b.ints(steps, -1, width // heads))  # [L, N * heads, D]
            return b.add("Transpose", y, perm=order)

        q, k, v = (apart(b.linear(x, width, width), order) for order in ([1, 0, 2], [1, 2, 0], [1, 0, 2]))
        scores = b.add("Mul", b.add("MatMul", q, k), b.constant(np.float32((width // heads) ** -0.5)))
        y = b.add("Transpose", b.add("MatMul", b.add("Softmax", scores, axis=-1), v), perm=[1, 0, 2])
        if split:
            parts = b.add("Split", b.add("Reshape", y, b.ints(steps, heads, -1, width // heads)), b.ints(*[1] * heads),
                          outputs=heads, axis=1)
            y = b.add("Concat", *[b.add("Squeeze", part, b.ints(1)) for part in parts], axis=2)
        else:
            y = b.add("Reshape", y, b.ints(steps, -1, width))
        return b.linear(y, width, width)

    x = b.add("Transpose", b.linear("x", 10, width), perm=[1, 0, 2])
    x = block(b, x, width, attend)
    return b.add("Transpose", b.linear(x, width, 4), perm=[1, 0, 2]), (steps, 10)


def recurrent(b):
    steps, features, hidden = 10, 6, 8
    kind = ("LSTM", "GRU", "RNN")[int(b.rng.integers(3))]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    both = bool(b.rng.integers(2))
    directions = 2 if both else 1
    x = b.activation(b.linear("x", features, 12))
    x = b.add("Transpose", x, perm=[1, 0, 2])
    y, state = b.add(kind, x, b.weight(directions, gates * hidden, 12, fan=12), b.weight(directions, gates * hidden, hidden, fan=hidden),
                     b.bias((directions, 2 * gates * hidden)), outputs=2, hidden_size=hidden,
                     direction="bidirectional" if both else "forward")
    if b.rng.integers(2):
        x = b.add("Reshape", b.add("Transpose", y, perm=[0, 2, 1, 3]), b.ints(0, 0, directions * hidden))
        x = b.linear(x, directions * hidden, 8)
        return b.add("Transpose", b.linear(b.activation(x), 8, 4), perm=[1, 0, 2]), (steps, features)
    x = b.add("Reshape", b.add("Transpose", state, perm=[1, 0, 2]), b.ints(-1, directions * hidden))
    return b.linear(b.activation(b.linear(x, directions * hidden, 8)), 8, 4), (steps, features)


def sequence_first(b):
    x = b.add("Transpose", "x", perm=[1, 0, 2])
    if b.rng.integers(2):
        x = b.linear(b.activation(b.linear(x, 16, 16)), 16, 8)
    else:  # [T * N, F]
        x = b.add("Reshape", x, b.ints(-1, 16))
        x = b.add("Gemm", x, b.weight(16, 16, fan=16), b.bias(16), transB=1)
        x = b.add("Gemm", b.activation(x), b.weight(8, 16, fan=16), b.bias(8), transB=1)
        x = b.add("Reshape", x, b.ints(12, -1, 8))
    return b.add("Transpose", x, perm=[1, 0, 2]), (12, 16)


def windows(b):
    """[N, 8, 8, C] cut into windows [N * 4, 16, C], with attention in each, and put together again."""
    width = 12
    x = b.linear("x", 5, width)
    y = b.add("Reshape", x, b.ints(-1, 2, 4, 2, 4, width))
    y = b.add("Reshape", b.add("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), b.ints(-1, 16, width))
    q, v = b.linear(y, width, width), b.linear(y, width, width)
    k = b.add("Transpose", b.linear(y, width, width), perm=[0, 2, 1])
    scores = b.add("Softmax", b.add("Mul", b.add("MatMul", q, k), b.constant(np.float32(width ** -0.5))), axis=-1)
    y = b.linear(b.add("MatMul", scores, v), width, width)
    y = b.add("Transpose", b.add("Reshape", y, b.ints(-1, 2, 2, 4, 4, width)), perm=[0, 1, 3, 2, 4, 5])
    x = b.add("Add", x, b.add("Reshape", y, b.ints(-1, 8, 8, width)))
    return b.linear(b.activation(b.linear(x, width, width)), width, 3), (8, 8, 5)


def text_lines(b):
    """Columns of an image as steps of a recurrent layer, as text recognition has them."""
    x = b.add("Conv", "x", b.weight(6, 1, 3, 3, fan=9), b.bias(6), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = b.add("MaxPool", b.activation(x), kernel_shape=[4, 2], strides=[4, 2])
    x = b.add("Conv", x, b.weight(8, 6, 3, 3, fan=54), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = b.add("Squeeze", b.add("MaxPool", b.activation(x), kernel_shape=[2, 1], strides=[2, 1]), b.ints(2))
    x = b.add("Transpose", x, perm=[2, 0, 1])
    y, _ = b.add("GRU", x, b.weight(1, 24, 8, fan=8), b.weight(1, 24, 8, fan=8), b.bias((1, 48)), outputs=2, hidden_size=8)
    return b.add("Transpose", b.linear(b.add("Squeeze", y, b.ints(1)), 8, 5), perm=[1, 0, 2]), (1, 8, 16)


def run_all(session, net, samples):
    """Outputs over all samples, batch by batch; a batch that the file fixes is filled up and what fills it left out."""
    found = {}
    step = net.batch if net.fixed else len(samples)
    for first in range(0, len(samples), step):
        part = samples[first:first + step]
        real = len(part)
        if net.fixed and real < step:
            part = np.concatenate([part, np.repeat(part[-1:], step - real, axis=0)])
        for name, value in runtime.run(session, {net.input: part}).items():
            found.setdefault(name, []).append(value)
    return found


def noise(reference, other, net):
    signal = error = 0.0
    step = net.batch
    count = len(net.held_out) // step * step
    expected, found = (run_all(session, net, net.held_out[:count]) for session in (reference, other))
    for name, parts in expected.items():
        for a, b in zip(parts, found[name]):
            signal += float((a.astype(np.float64) ** 2).sum())
            error += float(((a.astype(np.float64) - b) ** 2).sum())
    return signal, error


def values(simple, net):
    """Each float value of the model, which has a free batch, over all calibration samples."""
    model = onnx.ModelProto.FromString(simple.SerializeToString())
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for output in node.output:
            if output and output not in known:
                model.graph.output.append(helper.make_empty_tensor_value_info(output))
    session = runtime.session(model.SerializeToString())
    found = runtime.run(session, {net.input: net.calibration})
    return {net.input: net.calibration, **{name: value for name, value in found.items() if value.dtype == np.float32}}


def reference(net, simple, result):
    """The result with scales, zero points and weights of our own, and the number of pairs on activations."""
    model = onnx.ModelProto.FromString(result.SerializeToString())
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in simple.graph.initializer}
    known = values(simple, net)
    ranges = {name: (float(value.min()), float(value.max())) for name, value in known.items()}
    made = {output for node in graph.node for output in node.output}
    pairs = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    sources = {node.input[0]: node for node in pairs}
    shared = groups(simple, sources, constants)
    changed, stems = {}, {}
    for value, node in sources.items():
        scale, zero = scale_of([ranges[clamped(simple, made, member)] for member in shared[value]], constants[node.input[2]])
        changed[node.input[1]], changed[node.input[2]] = scale, zero
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            array = weight_of(node, constants, floats)
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
            stems[node.output[0]] = node.input[0].removesuffix("_quantized"), array
        else:
            nodes.append(node)
    if "correct-bias=false" not in net.options:
        for node in nodes:
            correct_bias(node, nodes, graph, floats, lambda value: known[clamped(simple, made, value)], stems)
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return model, len(pairs)


def correct_bias(node, nodes, graph, floats, known, stems):
    """Takes the mean error that the rounded weights cause off the bias of a convolution or Gemm."""
    if node.op_type not in ("Conv", "Gemm") or node.input[1] not in stems or len(node.input) < 3:
        return
    stem, rounded = stems[node.input[1]]
    producers = {output: other for other in nodes for output in other.output}
    read = node.input[0]
    while read in producers and producers[read].op_type in ("DequantizeLinear", "QuantizeLinear"):
        read = producers[read].input[0]
    value = known(read).astype(np.float64)
    mean = value.mean(axis=tuple(axis for axis in range(value.ndim) if axis != 1))
    error = rounded.astype(np.float64) - floats[stem]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Gemm":
        moved = (error if attributes.get("transB", 0) else error.T) @ mean
    else:
        taps = error.reshape(error.shape[0], error.shape[1], -1).sum(axis=2)
        group = attributes.get("group", 1)
        each = error.shape[0] // group
        moved = np.array([taps[out] @ mean[out // each * taps.shape[1]:][:taps.shape[1]] for out in range(error.shape[0])])
    for tensor in graph.initializer:
        if tensor.name == node.input[2]:
            bias = stems[node.input[2]][1] if node.input[2] in stems else floats.get(node.input[2], np.zeros(moved.shape))
            tensor.CopyFrom(numpy_helper.from_array((bias - moved).astype(np.float32), node.input[2]))


def clamped(simple, made, value):
    """The clamp behind a value, where the result has none and the range of codes stands for it; else the value."""
    for node in simple.graph.node:
        if value in node.input and node.op_type in ("Relu", "Clip") and node.output[0] not in made:
            return node.output[0]
    return value


def groups(simple, sources, constants):
    """Values that share their codes: one moves the other's, and the result gives both the same scale."""
    group = {value: [value] for value in sources}

    def parameters(value):
        return tuple(numpy_helper.to_array(constants[name]).tobytes() for name in sources[value].input[1:3])

    for _ in range(2):
        for node in simple.graph.node:
            if node.op_type not in MOVING:
                continue
            ends = [value for value in [*node.input, *node.output] if value in sources]
            for a in ends:
                for b in ends:
                    if group[a] is not group[b] and parameters(a) == parameters(b):
                        merged = group[a] + group[b]
                        for value in merged:
                            group[value] = merged
    return group


def scale_of(ranges, zero):
    kind = numpy_helper.to_array(zero).dtype
    low, high = min(0.0, *(low for low, _ in ranges)), max(0.0, *(high for _, high in ranges))
    info = np.iinfo(kind)
    scale = np.float32((np.float32(high) - np.float32(low)) / (int(info.max) - int(info.min)))
    scale = scale if scale > 0 else np.float32(1)
    return np.array(scale), np.array(np.clip(np.round(info.min - low / scale), info.min, info.max), kind)


def weight_of(node, constants, floats):
    """What a constant's codes should stand for: a weight rounded to the nearest codes, a bias as it is."""
    codes = numpy_helper.to_array(constants[node.input[0]])
    scale = numpy_helper.to_array(constants[node.input[1]])
    stem = node.input[0].removesuffix("_quantized")
    array = floats.get(stem)
    if codes.dtype == np.int32:
        if array is not None:
            return array
        return np.zeros(codes.shape, np.float32)  # A bias that the correction added.
    if array is None or array.shape != codes.shape:
        raise ValueError(f"{stem}: the float model has no such weight")
    info = np.iinfo(codes.dtype)
    zeros = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(1)
    axes = None
    if scale.size > 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1) % array.ndim
        axes = tuple(other for other in range(array.ndim) if other != axis)
    if np.any(zeros != 0):  # An operand that is no weight: its own range, as activations have.
        own, zero = scale_of([(float(array.min()), float(array.max()))], constants[node.input[2]])
        rounded = np.clip(np.round(array / own) + zero.astype(np.int64), info.min, info.max)
        return ((rounded - zero.astype(np.int64)) * own).astype(np.float32)
    largest = np.abs(array).max(axis=axes, keepdims=True)
    if codes.dtype.kind == "u":
        step = np.maximum(array.max(axis=axes, keepdims=True), 0) / info.max
    else:
        step = largest / info.max
    step = np.where(step > 0, step, 1).astype(np.float32)
    return (np.clip(np.round(array / step), info.min, info.max) * step).astype(np.float32)
