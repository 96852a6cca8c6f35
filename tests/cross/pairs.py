"""`secateur verify` on pairs of models that differ in one thing each: none is *equal* or *within*.

Each pair has an input on which ONNX Runtime gives different outputs. The first model compared with itself is *equal*, or
of an operator that the engine lacks.
"""

import os
import tempfile

import numpy as np
import onnx
import onnx.parser

import runtime

IDENTITY = "(float[N,8] x) => (float[N,8] y) { y = Identity(x) }"
NORMAL = {"x": "rng.normal(0, 1, (2, 8))"}


def slope(kind, attributes):
    return f"(float[N,8] x) => (float[N,8] y) {{ y = {kind}{attributes}(x) }}"


def image(body, shape="float[N,2,6,6]", extra=""):
    return f"({shape} x) => (float[A,B,C,D] y) {extra} {{ {body} }}"


def against(constant, first, second, kind="float", shape="[N,8]", out=None, size=""):
    """Two operators of the input `x` and a constant."""
    return tuple(f"({kind}{shape} x) => ({out or kind}{shape} y) <{kind}{size} c = {{{constant}}}> {{ {body} }}" for body in (first, second))


def image_pair(first, second, extra=""):
    return image(first, extra=extra), image(second, extra=extra)


def layer(kind, attributes, gates, bias=0.0):
    """A recurrent layer with weights that are a pattern of their own."""
    offsets = ", ".join([str(bias)] * gates * 6)
    weight = ", ".join(f"{0.1 * ((7 * at) % 11 - 5):.2f}" for at in range(gates * 9))
    return f"""(float[T,N,3] x) => (float[T,D,N,3] y) <float[1,{3 * gates},3] w = {{{weight}}}, float[1,{3 * gates},3] r = {{{weight}}}, float[1,{6 * gates}] b = {{{offsets}}}>
        {{ y = {kind}<hidden_size = 3{attributes}>(x, w, r, b) }}"""


def weights(change):
    """A product with 64 weights, one of which is off."""
    numbers = [0.1 * ((5 * at) % 13 - 6) for at in range(64)]
    numbers[37] += change
    return f"(float[N,8] x) => (float[N,8] y) <float[8,8] w = {{{', '.join(f'{v:.4f}' for v in numbers)}}}> {{ y = MatMul(x, w) }}"


def loop(count):
    return f"""(float[N,8] x) => (float[N,8] y) <int64 n = {{{count}}}, bool on = {{1}}>
        {{ y = Loop<body = b (int64 i, bool c, float[N,8] s) => (bool d, float[N,8] t) <float k = {{1.1}}> {{ d = Identity(c) t = Mul(s, k) }}>(n, on, x) }}"""


def branch(otherwise):
    return f"""(float[N,8] x) => (float[N,8] y) <float z = {{0}}> {{ s = ReduceSum<keepdims = 0>(x) p = Greater(s, z)
        y = If<then_branch = t () => (float[N,8] a) {{ a = Relu(x) }}, else_branch = e () => (float[N,8] b) {{ b = {otherwise}(x) }}>(p) }}"""


# name: first, second, inputs on which they differ.
PAIRS = {
    "argmax_ties": ("(float[N,8] x) => (int64[N,1] y) { y = ArgMax<axis = 1>(x) }", "(float[N,8] x) => (int64[N,1] y) { y = ArgMax<axis = 1, select_last_index = 1>(x) }", {"x": "np.ones((1, 8))"}),
    "chaos_all": (*against("1e7", "a = Mul(x, c) y = Sin(a)", "a = Mul(x, c) b = Sin(a) y = Neg(b)"), NORMAL),
    "f16_overflow": ("(float16[N,4] x) => (float16[N,4] y) { y = Mul(x, x) }",
                     "(float16[N,4] x) => (float16[N,4] y) <float c = {65504}> { a = Cast<to = 1>(x) b = Mul(a, a) d = Min(b, c) y = Cast<to = 10>(d) }", {"x": "np.full((1, 4), 300.0, np.float16)"}),
    "int_overflow": ("(int32[N,4] x) => (int32[N,4] y) <int32 k = {1}> { y = Add(x, k) }",
                     "(int32[N,4] x) => (int32[N,4] y) <float o = {1}> { a = Cast<to = 1>(x) b = Add(a, o) y = Cast<to = 6>(b) }", {"x": "np.full((1, 4), 16777217, np.int32)"}),
    "large_1e4": (IDENTITY, "(float[N,8] x) => (float[N,8] y) <float l = {-10000}, float h = {10000}> { y = Clip(x, l, h) }", {"x": "np.full((1, 8), 2e4)"}),
    "len_gt_16": ("(float[N,S] x) => (float[N,S] y) { y = Identity(x) }", "(float[N,S] x) => (float[N,T] y) <int64[1] a = {0}, int64[1] b = {16}, int64[1] c = {1}> { y = Slice(x, a, b, c) }", {"x": "np.ones((1, 20))"}),
    "len_gt_40": ("(float[N,S] x) => (float[N,S] y) { y = Identity(x) }", "(float[N,S] x) => (float[N,T] y) <int64[1] a = {0}, int64[1] b = {40}, int64[1] c = {1}> { y = Slice(x, a, b, c) }", {"x": "np.ones((1, 41))"}),
    "out_order": ("(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Abs(x) }", "(float[N,4] x) => (float[N,4] z, float[N,4] y) { y = Relu(x) z = Abs(x) }", None),
    "in_order": ("(float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Sub(a, b) }", "(float[N,4] b, float[N,4] a) => (float[N,4] y) { y = Sub(a, b) }", None),
    "small_output_beside_large": (*against("1e6", "a = Mul(x, c) y = Concat<axis = 1>(a, x)", "n = Neg(x) a = Mul(x, c) y = Concat<axis = 1>(a, n)"), NORMAL),
    "softplus_large": ("(float[N,4] x) => (float[N,4] y) { y = Softplus(x) }", "(float[N,4] x) => (float[N,4] y) <float o = {1}> { e = Exp(x) a = Add(e, o) y = Log(a) }", {"x": "np.full((1, 4), 100.0)"}),
    "softmax_large": ("(float[N,8] x) => (float[N,8] y) { y = Softmax(x) }", "(float[N,8] x) => (float[N,8] y) <int64[1] a = {1}> { e = Exp(x) s = ReduceSum(e, a) y = Div(e, s) }", {"x": "np.full((1, 8), 100.0)"}),
    "log_sum_exp_large": ("(float[N,8] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceLogSumExp(x, a) }",
                          "(float[N,8] x) => (float[N,1] y) <int64[1] a = {1}> { e = Exp(x) s = ReduceSum(e, a) y = Log(s) }", {"x": "np.full((1, 8), 100.0)"}),
    "uint8_wrap": ("(uint8[N,4] x) => (uint8[N,4] y) { y = Add(x, x) }",
                   "(uint8[N,4] x) => (uint8[N,4] y) <int32 m = {255}> { a = Cast<to = 6>(x) b = Add(a, a) c = Min(b, m) y = Cast<to = 2>(c) }", {"x": "np.full((1, 4), 200, np.uint8)"}),
    "int8_wrap": ("(int32[N,8] x) => (int8[N,8] y) { y = Cast<to = 3>(x) }", "(int32[N,8] x) => (int8[N,8] y) <int32 l = {-128}, int32 h = {127}> { a = Clip(x, l, h) y = Cast<to = 3>(a) }", {"x": "np.full((1, 8), 200, np.int32)"}),
    "int64_through_int32": ("(int64[N,8] x) => (int64[N,8] y) { y = Identity(x) }", "(int64[N,8] x) => (int64[N,8] y) { a = Cast<to = 6>(x) y = Cast<to = 7>(a) }", {"x": "np.full((1, 8), 1 << 40, np.int64)"}),
    "int64_through_float": ("(int64[N,8] x) => (int64[N,8] y) { y = Identity(x) }", "(int64[N,8] x) => (int64[N,8] y) { a = Cast<to = 1>(x) y = Cast<to = 7>(a) }", {"x": "np.full((1, 8), 16777217, np.int64)"}),
    "greater_or_equal": (*against("3.25", "y = Greater(x, c)", "y = GreaterOrEqual(x, c)", out="bool"), {"x": "np.full((1, 8), 3.25)"}),
    "less_or_equal_whole": (*against("5", "y = Less(x, c)", "y = LessOrEqual(x, c)", kind="int64", out="bool"), {"x": "np.full((1, 8), 5, np.int64)"}),
    "less_128": (*against("128", "y = Less(x, c)", "y = LessOrEqual(x, c)", kind="uint8", out="bool"), {"x": "np.full((1, 8), 128, np.uint8)"}),
    "equal_7": ("(int64[N,8] x) => (bool[N,8] y) <int64 c = {7}> { y = Equal(x, c) }", "(int64[N,8] x) => (bool[N,8] y) <int64 c = {8}> { y = Equal(x, c) }", {"x": "np.full((1, 8), 7, np.int64)"}),
    "halves": ("(float[N,8] x) => (float[N,8] y) { y = Round(x) }", "(float[N,8] x) => (float[N,8] y) <float h = {0.5}> { a = Add(x, h) y = Floor(a) }", {"x": "np.full((1, 8), 0.5)"}),
    "halves_down": ("(float[N,8] x) => (float[N,8] y) { y = Round(x) }", "(float[N,8] x) => (float[N,8] y) <float h = {0.5}> { a = Sub(x, h) y = Ceil(a) }", {"x": "np.full((1, 8), 1.5)"}),
    "towards_zero": ("(float[N,8] x) => (int32[N,8] y) { y = Cast<to = 6>(x) }", "(float[N,8] x) => (int32[N,8] y) { a = Floor(x) y = Cast<to = 6>(a) }", {"x": "np.full((1, 8), -1.5)"}),
    "slope": (slope("LeakyRelu", "<alpha = 0.01>"), slope("LeakyRelu", "<alpha = 0.011>"), {"x": "-np.ones((1, 8))"}),
    "relu6": ("(float[N,8] x) => (float[N,8] y) <float l = {0}, float h = {6}> { y = Clip(x, l, h) }", "(float[N,8] x) => (float[N,8] y) <float l = {0}, float h = {6.5}> { y = Clip(x, l, h) }", {"x": "np.full((1, 8), 7.0)"}),
    "relu_max_900": (slope("Relu", ""), "(float[N,8] x) => (float[N,8] y) <float l = {0}, float h = {900}> { y = Clip(x, l, h) }", {"x": "np.full((1, 8), 1000.0)"}),
    "gelu": (slope("Gelu", ""), slope("Gelu", '<approximate = "tanh">'), {"x": "np.full((1, 8), 2.2)"}),
    "elu_celu": (slope("Elu", "<alpha = 0.5>"), slope("Celu", "<alpha = 0.5>"), {"x": "-np.ones((1, 8))"}),
    "hard_sigmoid": (slope("Sigmoid", ""), slope("HardSigmoid", ""), NORMAL),
    "threshold": (slope("ThresholdedRelu", "<alpha = 2.0>"), slope("ThresholdedRelu", "<alpha = 2.5>"), {"x": "np.full((1, 8), 2.2)"}),
    "nan_to_zero": (IDENTITY, "(float[N,8] x) => (float[N,8] y) <float z = {0}> { n = IsNaN(x) y = Where(n, z, x) }", {"x": "np.full((1, 8), np.nan)"}),
    "infinity_cut": (IDENTITY, "(float[N,8] x) => (float[N,8] y) <float z = {0}> { n = IsInf(x) y = Where(n, z, x) }", {"x": "np.full((1, 8), np.inf)"}),
    "power": (*against("2", "y = Pow(x, c)", "a = Abs(x) b = Mul(a, x) y = Identity(b)"), NORMAL),
    "normalise_small": ("(float[N,8] x) => (float[N,8] y) <float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}> { y = LayerNormalization<epsilon = 1e-5>(x, s) }",
                        "(float[N,8] x) => (float[N,8] y) <float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}> { y = LayerNormalization<epsilon = 1e-3>(x, s) }", {"x": "rng.normal(0, 0.01, (1, 8))"}),
    "softmax_axis": ("(float[N,3,3] x) => (float[N,3,3] y) { y = Softmax<axis = 1>(x) }", "(float[N,3,3] x) => (float[N,3,3] y) { y = Softmax<axis = 2>(x) }", {"x": "rng.normal(0, 1, (1, 3, 3))"}),
    "softmax_first_row": ("(float[N,3] x) => (float[N,3] y) { y = Softmax<axis = 1>(x) }", "(float[N,3] x) => (float[N,3] y) { y = Softmax<axis = 0>(x) }", {"x": "rng.normal(0, 1, (2, 3))"}),
    "one_weight": (weights(0.0), weights(0.01), NORMAL),
    "weight_order": ("(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }", "(float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}> { y = Gemm<transB = 1>(x, w) }", {"x": "rng.normal(0, 1, (1, 2))"}),
    "pads_side": (*image_pair("y = Conv<pads = [1, 1, 0, 0]>(x, w)", "y = Conv<pads = [0, 0, 1, 1]>(x, w)", "<float[1,2,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}>"), {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "dilation": (image("q = Pad(x, e) y = Conv(q, w)", extra="<float[1,2,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[8] e = {0, 0, 0, 0, 0, 0, 0, 0}>"),
                 image("q = Pad(x, e) y = Conv<dilations = [2, 2]>(q, w)", extra="<float[1,2,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int64[8] e = {0, 0, 0, 0, 0, 0, 1, 1}>"), {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "pool": (*image_pair("y = MaxPool<kernel_shape = [2, 2]>(x)", "y = AveragePool<kernel_shape = [2, 2]>(x)"), {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "pool_edge": (*image_pair("y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 0>(x)", "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)"), {"x": "np.ones((1, 2, 6, 6))"}),
    "resize_nearest": (*image_pair('y = Resize<mode = "nearest", nearest_mode = "floor">(x, , s)', 'y = Resize<mode = "nearest", nearest_mode = "ceil">(x, , s)', "<float[4] s = {1, 1, 2, 2}>"), {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "resize_corners": (*image_pair('y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(x, , s)', 'y = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(x, , s)', "<float[4] s = {1, 1, 2, 2}>"),
                       {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "depth_order": (*image_pair('q = Concat<axis = 1>(x, x, x, x) y = DepthToSpace<blocksize = 2, mode = "DCR">(q)', 'q = Concat<axis = 1>(x, x, x, x) y = DepthToSpace<blocksize = 2, mode = "CRD">(q)'), {"x": "rng.normal(0, 1, (1, 2, 6, 6))"}),
    "pad_edge": (*image_pair('y = Pad<mode = "constant">(x, p)', 'y = Pad<mode = "edge">(x, p)', "<int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}>"), {"x": "np.ones((1, 2, 6, 6))"}),
    "instance_epsilon": (*image_pair("y = InstanceNormalization<epsilon = 1e-5>(x, s, b)", "y = InstanceNormalization<epsilon = 1e-2>(x, s, b)", "<float[2] s = {1, 1}, float[2] b = {0, 0}>"), {"x": "rng.normal(0, 0.1, (1, 2, 6, 6))"}),
    "gather_index": ("(float[N,8] x) => (float[N] y) <int64 i = {0}> { y = Gather<axis = 1>(x, i) }", "(float[N,8] x) => (float[N] y) <int64 i = {1}> { y = Gather<axis = 1>(x, i) }", NORMAL),
    "gather_negative": ("(int64[N] x) => (float[N] y) <float[4] w = {1, 2, 3, 4}> { y = Gather(w, x) }", "(int64[N] x) => (float[N] y) <float[4] w = {1, 2, 3, 4}> { a = Abs(x) y = Gather(w, a) }", {"x": "np.array([-1], np.int64)"}),
    "concat_order": ("(float[N,4] x) => (float[N,8] y) { a = Abs(x) y = Concat<axis = 1>(x, a) }", "(float[N,4] x) => (float[N,8] y) { a = Abs(x) y = Concat<axis = 1>(a, x) }", {"x": "-np.ones((1, 4))"}),
    "transposed": ("(float[N,4,4] x) => (float[N,4,4] y) { y = Identity(x) }", "(float[N,4,4] x) => (float[N,4,4] y) { y = Transpose<perm = [0, 2, 1]>(x) }", {"x": "rng.normal(0, 1, (1, 4, 4))"}),
    "slice_start": ("(float[N,8] x) => (float[N,3] y) <int64[1] a = {0}, int64[1] b = {3}, int64[1] c = {1}> { y = Slice(x, a, b, c) }",
                    "(float[N,8] x) => (float[N,3] y) <int64[1] a = {1}, int64[1] b = {4}, int64[1] c = {1}> { y = Slice(x, a, b, c) }", NORMAL),
    "split_order": ("(float[N,8] x) => (float[N,4] y, float[N,4] z) { y, z = Split<axis = 1, num_outputs = 2>(x) }", "(float[N,8] x) => (float[N,4] y, float[N,4] z) { z, y = Split<axis = 1, num_outputs = 2>(x) }", NORMAL),
    "divide_down": (*against("2", "y = Div(x, c)", "a = Mod(x, c) b = Sub(x, a) y = Div(b, c)", kind="int32"), {"x": "np.full((1, 8), -7, np.int32)"}),
    "remainder_sign": (*against("3", "y = Mod(x, c)", "y = Mod<fmod = 1>(x, c)", kind="int32"), {"x": "np.full((1, 8), -7, np.int32)"}),
    "shift": (*against("1", "y = BitShift<direction = \"LEFT\">(x, c)", "y = Add(x, c)", kind="uint32"), {"x": "np.full((1, 8), 5, np.uint32)"}),
    "and_or": ("(bool[N,8] a, bool[N,8] b) => (bool[N,8] y) { y = And(a, b) }", "(bool[N,8] a, bool[N,8] b) => (bool[N,8] y) { y = Or(a, b) }", {"a": "np.ones((1, 8), bool)", "b": "np.zeros((1, 8), bool)"}),
    "xor_or": ("(bool[N,8] a, bool[N,8] b) => (bool[N,8] y) { y = Xor(a, b) }", "(bool[N,8] a, bool[N,8] b) => (bool[N,8] y) { y = Or(a, b) }", {"a": "np.ones((1, 8), bool)", "b": "np.ones((1, 8), bool)"}),
    "where_swapped": (*against("0", "p = Greater(x, c) n = Neg(x) y = Where(p, x, n)", "p = Greater(x, c) n = Neg(x) y = Where(p, n, x)"), NORMAL),
    "batch_one": ("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }", "(float[N,4] x) => (float[N,4] y) <int64[1] i = {0}> { a = Gather(x, i) s = Shape(x) y = Expand(a, s) }", {"x": "rng.normal(0, 1, (2, 4))"}),
    "batch_norm_by_batch": ("(float[N,4] x) => (float[N,4] y) { y = Identity(x) }", "(float[N,4] x) => (float[N,4] y) <int64[1] i = {0}> { m = ReduceMax(x, i) q = ReduceMin(x, i) d = Sub(m, q) y = Add(x, d) }", {"x": "rng.normal(0, 1, (2, 4))"}),
    "squeeze_all": ("(float[N,1,4] x) => (float[A,B] y) <int64[1] a = {1}> { y = Squeeze(x, a) }", "(float[N,1,4] x) => (float[A,B] y) { y = Squeeze(x) }", {"x": "np.ones((1, 1, 4))"}),
    "batch_zero": ("(float[N,3,H] x) => (float[N,L,3] y) { y = Transpose<perm = [0, 2, 1]>(x) }",
                   "(float[N,3,H] x) => (float[N,L,3] y) <int64[1] b = {1}, int64[1] c = {3}, int64[1] k = {-1}> { s = Shape(x) a = Slice(s, b, c) d = Concat<axis = 0>(k, a) f = Reshape(x, d) y = Transpose<perm = [0, 2, 1]>(f) }",
                   {"x": "np.ones((1, 3, 0))"}),
    "branch": (branch("Relu"), branch("Identity"), {"x": "-np.ones((1, 8))"}),
    "loop": (loop(3), loop(4), NORMAL),
    "exclusive": ("(float[N,8] x) => (float[N,8] y) <int64 a = {1}> { y = CumSum(x, a) }", "(float[N,8] x) => (float[N,8] y) <int64 a = {1}> { y = CumSum<exclusive = 1>(x, a) }", NORMAL),
    "smallest": ("(float[N,8] x) => (float[N,3] y, int64[N,3] i) <int64[1] k = {3}> { y, i = TopK(x, k) }", "(float[N,8] x) => (float[N,3] y, int64[N,3] i) <int64[1] k = {3}> { y, i = TopK<largest = 0>(x, k) }", NORMAL),
    "backwards": (layer("LSTM", "", 4), layer("LSTM", ', direction = "reverse"', 4), {"x": "rng.normal(0, 1, (4, 1, 3))"}),
    "before_reset": (layer("GRU", "", 3, bias=0.3), layer("GRU", ", linear_before_reset = 1", 3, bias=0.3), {"x": "rng.normal(0, 1, (4, 1, 3))"}),
    "repeat_order": ("(float[N,4] x) => (float[N,8] y) <int64[2] r = {1, 2}> { y = Tile(x, r) }",
                     "(float[N,4] x) => (float[N,8] y) <int64[1] a = {2}, int64[3] r = {1, 1, 2}, int64[2] s = {0, 8}> { u = Unsqueeze(x, a) t = Tile(u, r) y = Reshape(t, s) }", {"x": "rng.normal(0, 1, (1, 4))"}),
    "off_value": ("(int64[N] x) => (float[N,4] y) <int64 d = {4}, float[2] v = {0, 1}> { y = OneHot(x, d, v) }", "(int64[N] x) => (float[N,4] y) <int64 d = {4}, float[2] v = {0.01, 1}> { y = OneHot(x, d, v) }", {"x": "np.array([1], np.int64)"}),
    "reduce_kind": ("(float[N,8] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceL1(x, a) }", "(float[N,8] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceL2(x, a) }", NORMAL),
    "half_rounding": (IDENTITY, "(float[N,8] x) => (float[N,8] y) { a = Cast<to = 10>(x) y = Cast<to = 1>(a) }", {"x": "np.full((1, 8), 1e5)"}),
    "bfloat_rounding": (IDENTITY, "(float[N,8] x) => (float[N,8] y) { a = Cast<to = 16>(x) y = Cast<to = 1>(a) }", {"x": "np.full((1, 8), 1.01)"}),
    "mask": ("(float[N,8] x, bool[N,8] m) => (float[N,8] y) <float c = {-10000}> { b = Where(m, c, x) y = Softmax(b) }",
             "(float[N,8] x, bool[N,8] m) => (float[N,8] y) <float c = {-20000}> { b = Where(m, c, x) y = Softmax(b) }", {"x": "np.full((1, 8), -15000.0)", "m": "np.array([[True] + [False] * 7])"}),
    "upper": ("(float[N,4,4] x) => (float[N,4,4] y) { y = Trilu(x) }", "(float[N,4,4] x) => (float[N,4,4] y) <int64 k = {1}> { y = Trilu(x, k) }", {"x": "np.ones((1, 4, 4))"}),
    "sign_of_division": ("(float[N,8] x) => (float[N,8] y) <float c = {3}> { a = Div(x, c) b = Floor(a) y = Mul(b, c) }", "(float[N,8] x) => (float[N,8] y) <float c = {3}> { a = Div(x, c) b = Ceil(a) y = Mul(b, c) }", NORMAL),
}


def model(text):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')


def check(report, secateur):
    counts = {}
    with tempfile.TemporaryDirectory(prefix="secateur-pairs-") as folder:
        paths = [os.path.join(folder, name) for name in ("first.onnx", "second.onnx")]
        for name, (first, second, inputs) in PAIRS.items():
            if not report.wants(name):
                continue
            pair = [model(text) for text in (first, second)]
            for path, one in zip(paths, pair):
                onnx.save(one, path)
            problem = not_different(pair, inputs)
            if problem:
                report.failed(name, problem)
                continue
            result = secateur.run("verify", *paths, "--json")
            verdict = (result.json() or {}).get("verdict", result.why())
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict not in ("different", "not-checked") or result.code != 1:
                report.failed(name, f"{verdict}, exit {result.code}")
                continue
            itself = secateur.run("verify", paths[0], paths[0], "--json").json() or {}
            # What the engine lacks it cannot compare with itself either.
            if itself.get("verdict") not in ("equal", "not-checked"):
                report.failed(name, f"the first model with itself: {itself.get('verdict')} {itself.get('not_checked')}")
            else:
                report.passed(name, verdict)
    report.note(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    if len(PAIRS) < 60:
        report.failed("pairs", f"only {len(PAIRS)} of at least 60")


def not_different(pair, inputs):
    """Why ONNX Runtime does not tell the models apart, or None."""
    if inputs is None:
        names = [[v.name for v in (*one.graph.input, *one.graph.output)] for one in pair]
        return None if names[0] != names[1] else "the same interface"
    rng = np.random.default_rng(3)
    feeds = {name: eval(text, {"np": np, "rng": rng}) for name, text in inputs.items()}
    found = []
    for one in pair:
        types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in one.graph.input}
        try:
            session = runtime.session(one.SerializeToString())
        except Exception as error:
            return f"ONNX Runtime does not load it: {str(error)[:200]}"
        try:
            found.append(runtime.run(session, {name: np.asarray(array, types[name]) for name, array in feeds.items()}))
        except Exception as error:
            found.append(str(error))
    if isinstance(found[0], str):
        return f"the first model does not run: {found[0][:200]}"
    if isinstance(found[1], str):
        return None
    return None if any(apart(found[0][name], found[1][name]) for name in found[0]) else "ONNX Runtime finds no difference"


def apart(a, b):
    """Whether an element is off by more than rounding."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return True
    if a.dtype.kind != "f":
        return bool((a != b).any())
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.isfinite(x) & np.isfinite(y) & (np.abs(x - y) <= 1e-4 * np.abs(x))
    return not (near | (x == y) | np.isnan(x) & np.isnan(y)).all()
