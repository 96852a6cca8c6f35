"""152 micro-models, each with one thing to rewrite (132) or one thing that must be left alone (20).

A probe is *done* when the rewritten model satisfies its condition; a guard is *kept* when it does. Conditions are stated over the
rewritten model only, so that any correct way of getting there counts. What secateur leaves alone by default has the reason as `left`,
and where options or another verb do it, these as `ask`.

usage: probe_models.py DIR      writes DIR/<name>.onnx and DIR/INDEX.md
"""

import os
import sys

import numpy as np
import onnx
from onnx import numpy_helper

import models

PROBES = []


# Options of `simplify` that ask for a file that may become larger, for operators which ONNX Runtime alone has (the names take more bytes
# than probes have to spare), and for rewrites that may change results.
GROWTH = ["--max-growth", "1"]
ORT = ["--families", "ort", *GROWTH]
LATEST = ["--families", "ort-latest", *GROWTH]
PARALLEL = ["--families", "parallel", *GROWTH]
APPROXIMATE = ["--safety", "approximate"]


class Probe:
    """One micro-model: `title` is the row in the table, `condition` what a rewritten model is asked for, `left` why it is not
    rewritten by default, `ask` the options of `simplify` or the verb with its options by which it is."""

    def __init__(self, title, name, model, condition, says, guard, numeric, left=None, ask=None):
        self.title = title
        self.name = name
        self.model = model
        self.condition = condition
        self.says = says
        self.guard = guard
        self.numeric = numeric
        self.left = left
        self.ask = ask

    def command(self):
        """The verb and the options that ask for the rewrite."""
        return ["simplify", *self.ask] if self.ask[0].startswith("-") else list(self.ask)


def weight(shape, seed=0, scale=0.5, positive=False):
    values = np.random.default_rng(1000 + seed).standard_normal(shape).astype(np.float32) * np.float32(scale)
    return np.abs(values) + np.float32(0.1) if positive else values


def ints(*values):
    return np.array(values, np.int64)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


def build(signature, body, weights=None, opset=17, ir=8, domains=(), functions=""):
    """A model from ONNX text plus initializers given as arrays."""
    imports = ", ".join([f'"" : {opset}'] + [f'"{domain}" : 1' for domain in domains])
    model = onnx.parser.parse_model(
        f"<ir_version: {ir}, opset_import: [{imports}]>\nprobe {signature} {{\n{body}\n}}\n{functions}"
    )
    for name, values in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return model


def condition(gone=(), has=(), at_most=None, exactly=None, also=None):
    """The condition and its words: operators gone, operators present, a bound or exact counts of nodes."""

    def test(model):
        counts = models.operators(model)
        if any(op in counts for op in gone) or any(op not in counts for op in has):
            return False
        if at_most is not None and models.count_nodes(model) > at_most:
            return False
        if exactly and any(counts.get(op, 0) != count for op, count in exactly.items()):
            return False
        return also is None or also[0](model)

    words = []
    if gone:
        words.append("no " + ", ".join(gone))
    if has:
        words.append("has " + ", ".join(has))
    if at_most is not None:
        words.append(f"at most {at_most} node{'' if at_most == 1 else 's'}")
    for op, count in (exactly or {}).items():
        words.append(f"{count} {op}")
    if also:
        words.append(also[1])
    return test, "; ".join(words)


def probe(title, name, model, numeric=True, guard=False, left=None, ask=None, **wanted):
    test, says = condition(**wanted)
    PROBES.append(Probe(title, name, model, test, says, guard, numeric, left, ask))


def guard(title, name, model, numeric=True, **wanted):
    probe("guard: " + title, "guard-" + name, model, numeric=numeric, guard=True, **wanted)


def file_bytes_at_most(limit):
    return (lambda model: model.ByteSize() <= limit), f"file of at most {limit:,} bytes"


X23 = "(float[2,3] x) => (float[2,3] y)"
X234 = "(float[2,3,4] x) => (float[2,3,4] y)"
IMAGE = "(float[2,3,8,8] x) => (float[2,4,{0},{0}] y)"


def folding():
    probe("fold: const+const", "fold-const-add", build(X23, "c = Add(a, b)\n y = Add(x, c)", {"a": weight((3,)), "b": weight((3,), 1)}), at_most=1)
    probe("fold: Transpose(weight)", "fold-transpose-weight", build("(float[2,3] x) => (float[2,5] y)", "t = Transpose(w)\n y = MatMul(x, t)", {"w": weight((5, 3))}), gone=["Transpose"], at_most=1)
    probe("fold: Constant nodes -> initializers", "fold-constant-node", build(X23, "c = Constant <value: tensor = float[3] {1, 2, 3}> ()\n y = Add(x, c)"),
          also=(lambda m: not any(n.op_type == "Constant" for n in models.nodes(m)), "no Constant node"),
          left="a Constant node and an initializer are the same to a runtime, and the file keeps the form that it has")
    probe("fold: Range(const)", "fold-range", build("(float[8] x) => (float[8] y)", "r = Range(a, b, c)\n y = Mul(x, r)", {"a": scalar(0.0), "b": scalar(8.0), "c": scalar(1.0)}), gone=["Range"])
    probe("fold: ConstantOfShape small", "fold-constant-of-shape", build(X23, "c = ConstantOfShape <value: tensor = float[1] {2.5}> (s)\n y = Mul(x, c)", {"s": ints(2, 3)}), gone=["ConstantOfShape"])
    guard("ConstantOfShape 64MB kept", "constant-of-shape-64mb", build("(float[4096] x) => (float[4096,4096] y)", "c = ConstantOfShape <value: tensor = float[1] {0.5}> (s)\n y = Add(x, c)", {"s": ints(4096, 4096)}), also=file_bytes_at_most(1_000_000))
    guard("Tile 64MB kept", "tile-64mb", build("(float[4096] x) => (float[4096,4096] y)", "t = Tile(c, r)\n y = Add(x, t)", {"c": weight((1, 4096)), "r": ints(4096, 1)}), also=file_bytes_at_most(1_000_000))
    guard("shared weight via Identity not copied", "identity-shared-weight", build("(float[2,256] x) => (float[2,256] y)", "v = Identity(w)\n u = Identity(w)\n a = MatMul(x, w)\n b = MatMul(a, v)\n y = MatMul(b, u)", {"w": weight((256, 256), scale=0.05)}), also=file_bytes_at_most(300_000))
    guard("RandomNormal not folded", "random-not-folded", build(X23, "r = RandomNormal <shape = [2, 3]> ()\n y = Add(x, r)"), numeric=False, has=["RandomNormal"])


def dynamic_shapes():
    probe("fold: Shape->Gather static dim of dynamic tensor", "fold-shape-gather-static-dim", build("(float[N,3,4] x, float[M] z) => (float[P,4] y, float[N,3,4] w)", "s = Shape(x)\n d = Gather(s, two)\n t = Concat <axis = 0> (minus, d)\n y = Reshape(z, t)\n w = Relu(x)", {"two": ints(2), "minus": ints(-1)}), gone=["Shape", "Gather", "Concat"])
    probe("dyn: Reshape(x,[Shape(x)[0],-1]) -> const [0,-1]", "dyn-reshape-flatten", build("(float[N,3,4] x) => (float[N,12] y)", "s = Shape(x)\n d = Gather <axis = 0> (s, zero)\n t = Concat <axis = 0> (d, minus)\n y = Reshape(x, t)", {"zero": ints(0), "minus": ints(-1)}), gone=["Shape", "Gather", "Concat"], at_most=1)
    probe("dyn: Reshape(x,Shape(x)) -> nop", "dyn-reshape-own-shape", build("(float[N,3,4] x) => (float[N,3,4] y)", "s = Shape(x)\n r = Reshape(x, s)\n y = Relu(r)"), gone=["Shape", "Reshape"])
    probe("dyn: symbolic value prop (N*2 reshape with one unknown)", "dyn-symbolic-value", build("(float[N,4] x) => (float[M,2] y)", "s = Shape(x)\n d = Gather <axis = 0> (s, zero)\n e = Mul(d, two)\n t = Concat <axis = 0> (e, two)\n y = Reshape(x, t)", {"zero": ints(0), "two": ints(2)}), gone=["Shape", "Gather", "Mul", "Concat"])
    probe("dyn: Slice(Shape) static part", "dyn-slice-shape-static", build("(float[N,3,4] x, float[M] z) => (float[P,3,4] y, float[N,3,4] w)", "s = Shape(x)\n d = Slice(s, one, three)\n t = Concat <axis = 0> (minus, d)\n y = Reshape(z, t)\n w = Relu(x)", {"one": ints(1), "three": ints(3), "minus": ints(-1)}), gone=["Shape", "Slice", "Concat"])


def eliminations():
    probe("elim: Identity", "elim-identity", build(X23, "i = Identity(x)\n y = Relu(i)"), gone=["Identity"])
    probe("elim: Identity on graph output", "elim-identity-output", build(X23, "i = Relu(x)\n y = Identity(i)"), gone=["Identity"])
    probe("elim: Dropout (inference)", "elim-dropout", build(X23, "i = Dropout(x)\n y = Relu(i)"), gone=["Dropout"])
    probe("elim: Cast same type", "elim-cast-same", build(X23, "i = Cast <to = 1> (x)\n y = Relu(i)"), gone=["Cast"])
    probe("elim: Cast f32->f64->f32", "elim-cast-widening", build(X23, "i = Cast <to = 11> (x)\n j = Cast <to = 1> (i)\n y = Relu(j)"), gone=["Cast"])
    probe("elim: Reshape to same shape", "elim-reshape-same", build(X23, "i = Reshape(x, s)\n y = Relu(i)", {"s": ints(2, 3)}), gone=["Reshape"])
    probe("merge: Reshape+Reshape", "merge-reshape-reshape", build("(float[2,3,4] x) => (float[6,4] y)", "i = Reshape(x, s)\n y = Reshape(i, t)", {"s": ints(4, 6), "t": ints(6, 4)}), at_most=1)
    probe("elim: Transpose identity perm", "elim-transpose-identity", build(X234, "i = Transpose <perm = [0, 1, 2]> (x)\n y = Relu(i)"), gone=["Transpose"])
    probe("elim: Transpose pair cancels", "elim-transpose-pair", build(X234, "i = Transpose <perm = [2, 0, 1]> (x)\n j = Transpose <perm = [1, 2, 0]> (i)\n y = Relu(j)"), gone=["Transpose"])
    probe("merge: Transpose+Transpose", "merge-transpose-transpose", build("(float[2,3,4] x) => (float[3,4,2] y)", "i = Transpose <perm = [2, 0, 1]> (x)\n y = Transpose <perm = [2, 0, 1]> (i)"), at_most=1)
    probe("move: Transpose..Relu..Transpose^-1 cancels", "move-transpose-relu", build(X234, "i = Transpose <perm = [2, 0, 1]> (x)\n r = Relu(i)\n y = Transpose <perm = [1, 2, 0]> (r)"), gone=["Transpose"])
    probe("elim: Pad zero", "elim-pad-zero", build(X23, "i = Pad(x, p)\n y = Relu(i)", {"p": ints(0, 0, 0, 0)}), gone=["Pad"])
    probe("elim: Slice full range", "elim-slice-full", build(X23, "i = Slice(x, a, b, c)\n y = Relu(i)", {"a": ints(0), "b": ints(2**31 - 1), "c": ints(1)}), gone=["Slice"])
    probe("elim: Concat single input", "elim-concat-single", build(X23, "i = Concat <axis = 0> (x)\n y = Relu(i)"), gone=["Concat"])
    probe("merge: Concat+Concat", "merge-concat-concat", build("(float[2,3] x, float[2,3] u, float[2,3] v) => (float[6,3] y)", "i = Concat <axis = 0> (x, u)\n y = Concat <axis = 0> (i, v)"), at_most=1)
    probe("elim: Split one output", "elim-split-one", build(X23, "i = Split <axis = 1> (x, s)\n y = Relu(i)", {"s": ints(3)}), gone=["Split"])
    probe("elim: Expand to same shape", "elim-expand-same", build(X23, "i = Expand(x, s)\n y = Relu(i)", {"s": ints(2, 3)}), gone=["Expand"])
    probe("elim: Expand before broadcasting binary op", "elim-expand-before-binary", build("(float[1,3] x, float[2,3] u) => (float[2,3] y)", "i = Expand(x, s)\n y = Add(i, u)", {"s": ints(2, 3)}), gone=["Expand"])
    probe("merge: Unsqueeze+Unsqueeze", "merge-unsqueeze-unsqueeze", build("(float[2,3] x) => (float[1,2,3,1] y)", "i = Unsqueeze(x, a)\n y = Unsqueeze(i, b)", {"a": ints(0), "b": ints(3)}), at_most=1)
    probe("merge: Squeeze+Squeeze", "merge-squeeze-squeeze", build("(float[1,2,3,1] x) => (float[2,3] y)", "i = Squeeze(x, a)\n y = Squeeze(i, b)", {"a": ints(0), "b": ints(2)}), at_most=1)
    probe("elim: Unsqueeze+Squeeze cancel", "elim-unsqueeze-squeeze", build(X23, "i = Unsqueeze(x, a)\n j = Squeeze(i, a)\n y = Relu(j)", {"a": ints(1)}), gone=["Unsqueeze", "Squeeze"])
    probe("merge: Flatten/Squeeze + Reshape", "merge-flatten-reshape", build("(float[2,3,4] x) => (float[4,6] y)", "i = Flatten <axis = 1> (x)\n y = Reshape(i, s)", {"s": ints(4, 6)}), at_most=1)


def algebra():
    probe("elim: x+0", "elim-add-zero", build(X23, "i = Add(x, c)\n y = Relu(i)", {"c": scalar(0.0)}), gone=["Add"])
    probe("elim: x*1", "elim-mul-one", build(X23, "i = Mul(x, c)\n y = Relu(i)", {"c": scalar(1.0)}), gone=["Mul"])
    probe("elim: x-0, x/1", "elim-sub-zero-div-one", build(X23, "i = Sub(x, z)\n j = Div(i, c)\n y = Relu(j)", {"z": scalar(0.0), "c": scalar(1.0)}), gone=["Sub", "Div"])
    probe("elim: Pow(x,1)", "elim-pow-one", build(X23, "i = Pow(x, c)\n y = Relu(i)", {"c": scalar(1.0)}), gone=["Pow"])
    probe("rewrite: Where(Not c,a,b)->Where(c,b,a)", "rewrite-where-not", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "c = Greater(x, u)\n n = Not(c)\n y = Where(n, x, u)"), gone=["Not"])
    probe("elim: Relu(Relu)", "elim-relu-relu", build(X23, "i = Relu(x)\n y = Relu(i)"), at_most=1)
    probe("merge: Clip(Clip)", "merge-clip-clip", build(X23, "i = Clip(x, a, b)\n y = Clip(i, c, d)", {"a": scalar(-0.5), "b": scalar(0.75), "c": scalar(-0.25), "d": scalar(0.9)}), at_most=1)
    probe("merge: Relu+Clip", "merge-relu-clip", build(X23, "i = Relu(x)\n y = Clip(i, a, b)", {"a": scalar(-0.5), "b": scalar(0.75)}), at_most=1)
    probe("rewrite: Min(Max) -> Clip", "rewrite-min-max", build(X23, "i = Max(x, a)\n y = Min(i, b)", {"a": scalar(-0.5), "b": scalar(0.5)}), at_most=1)
    probe("elim: ArgMax(Softmax x)", "elim-argmax-softmax", build("(float[2,3] x) => (int64[2,1] y)", "i = Softmax <axis = -1> (x)\n y = ArgMax <axis = -1> (i)"), gone=["Softmax"],
          left="Softmax may round two different elements to one number, and then ArgMax answers with another one of them", ask=APPROXIMATE)
    probe("merge: Log(Softmax)->LogSoftmax", "merge-log-softmax", build(X23, "i = Softmax <axis = -1> (x)\n y = Log(i)"), has=["LogSoftmax"], at_most=1)
    probe("elim: ReduceMean over size-1 axis", "elim-reduce-mean-one", build("(float[2,1,3] x) => (float[2,1,3] y)", "i = ReduceMean <axes = [1], keepdims = 1> (x)\n y = Relu(i)"), gone=["ReduceMean"])
    probe("merge: ReduceSum(keepdims=0)+Unsqueeze", "merge-reduce-unsqueeze", build("(float[2,3,4] x) => (float[2,1,4] y)", "i = ReduceSum <keepdims = 0> (x, a)\n y = Unsqueeze(i, a)", {"a": ints(1)}), at_most=1)
    probe("elim: ScatterND overwriting everything", "elim-scatter-nd-all", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "i = ScatterND(x, k, u)\n y = Relu(i)", {"k": np.array([[0], [1]], np.int64)}), gone=["ScatterND"])
    probe("elim: SequenceAt(SequenceConstruct)", "elim-sequence-at", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "s = SequenceConstruct(x, u)\n i = SequenceAt(s, k)\n y = Relu(i)", {"k": scalar(1, np.int64)}), gone=["SequenceAt", "SequenceConstruct"])
    probe("elim: Gather over Concat (const index)", "elim-gather-concat", build("(float[1,3] x, float[1,3] u, float[1,3] v) => (float[1,3] y)", "c = Concat <axis = 0> (x, u, v)\n i = Gather <axis = 0> (c, k)\n y = Relu(i)", {"k": ints(1)}), gone=["Gather", "Concat"])
    probe("CSE: identical nodes", "cse-identical", build(X23, "i = Sigmoid(x)\n j = Sigmoid(x)\n y = Mul(i, j)"), exactly={"Sigmoid": 1})
    probe("dedup: equal initializers", "dedup-initializers", build("(float[2,8] x) => (float[2,8] y)", "i = MatMul(x, a)\n r = Relu(i)\n y = MatMul(r, b)", {"a": weight((8, 8)), "b": weight((8, 8))}),
          also=(lambda m: sum(1 for t in models.tensors(m) if list(t.dims) == [8, 8]) == 1, "one [8,8] constant"))
    probe("dead: unused node", "dead-node", build(X23, "d = Sigmoid(x)\n y = Relu(x)"), gone=["Sigmoid"])
    probe("assoc: (x*c1)*c2", "assoc-mul-mul", build(X23, "i = Mul(x, a)\n y = Mul(i, b)", {"a": weight((3,)), "b": weight((3,), 1)}), at_most=1)


def batch_norm(size, seed=0):
    return {"s": weight((size,), seed + 10, positive=True), "b": weight((size,), seed + 11), "m": weight((size,), seed + 12), "v": weight((size,), seed + 13, positive=True)}


def fusions():
    conv = {"w": weight((4, 3, 3, 3), scale=0.2), "bias": weight((4,), 3)}
    probe("fuse: Conv+BN", "fuse-conv-bn", build(IMAGE.format(6), "c = Conv(x, w, bias)\n y = BatchNormalization(c, s, b, m, v)", {**conv, **batch_norm(4)}), gone=["BatchNormalization"], at_most=1)
    second = {name + "2": values for name, values in batch_norm(4, 50).items()}
    probe("fuse: Conv+BN, weight shared by 2 convs (both kept right)", "fuse-conv-bn-shared-weight", build("(float[2,3,8,8] x) => (float[2,4,6,6] y, float[2,4,6,6] z)", "c = Conv(x, w)\n y = BatchNormalization(c, s, b, m, v)\n r = Relu(x)\n d = Conv(r, w)\n z = BatchNormalization(d, s2, b2, m2, v2)", {"w": conv["w"], **batch_norm(4), **second}), gone=["BatchNormalization"],
          left="each Conv would have a weight of its own, and the file would grow by one of them", ask=GROWTH)
    probe("fuse: ConvTranspose+BN", "fuse-conv-transpose-bn", build("(float[2,3,8,8] x) => (float[2,4,10,10] y)", "c = ConvTranspose(x, w, bias)\n y = BatchNormalization(c, s, b, m, v)", {"w": weight((3, 4, 3, 3), scale=0.2), "bias": conv["bias"], **batch_norm(4)}), gone=["BatchNormalization"], at_most=1)
    probe("fuse: Gemm+BN", "fuse-gemm-bn", build("(float[2,3] x) => (float[2,4] y)", "c = Gemm <transB = 1> (x, w, bias)\n y = BatchNormalization(c, s, b, m, v)", {"w": weight((4, 3)), "bias": conv["bias"], **batch_norm(4)}), gone=["BatchNormalization"], at_most=1)
    probe("fuse: MatMul+BN", "fuse-matmul-bn", build("(float[2,3] x) => (float[2,4] y)", "c = MatMul(x, w)\n y = BatchNormalization(c, s, b, m, v)", {"w": weight((3, 4)), **batch_norm(4)}), gone=["BatchNormalization"])
    probe("fuse: Conv+Add(bias)", "fuse-conv-add", build(IMAGE.format(6), "c = Conv(x, w)\n y = Add(c, a)", {"w": conv["w"], "a": weight((1, 4, 1, 1), 4)}), at_most=1)
    probe("fuse: Conv+Mul(scale)", "fuse-conv-mul", build(IMAGE.format(6), "c = Conv(x, w, bias)\n y = Mul(c, a)", {**conv, "a": weight((1, 4, 1, 1), 4)}), at_most=1)
    probe("fuse: Mul->Conv (input scale)", "fuse-mul-conv", build(IMAGE.format(6), "i = Mul(x, a)\n y = Conv(i, w, bias)", {**conv, "a": weight((1, 3, 1, 1), 4)}), at_most=1)
    probe("fuse: Pad+Conv", "fuse-pad-conv", build(IMAGE.format(8), "i = Pad(x, p)\n y = Conv(i, w, bias)", {**conv, "p": ints(0, 0, 1, 1, 0, 0, 1, 1)}), at_most=1)
    probe("fuse: Pad+AveragePool", "fuse-pad-average-pool", build("(float[2,3,8,8] x) => (float[2,3,8,8] y)", "i = Pad(x, p)\n y = AveragePool <kernel_shape = [3, 3], count_include_pad = 1> (i)", {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}), at_most=1)
    probe("fuse: Conv+Relu (contrib FusedConv)", "fuse-conv-relu-contrib", build(IMAGE.format(6), "c = Conv(x, w, bias)\n y = Relu(c)", conv), at_most=1,
          left="no operator of ONNX is a Conv with an activation; FusedConv is one of ONNX Runtime, which makes it by itself as it loads a model", ask=ORT)
    gemm = {"w": weight((3, 4)), "a": weight((4,), 5)}
    probe("fuse: MatMul+Add 2D -> Gemm", "fuse-matmul-add", build("(float[2,3] x) => (float[2,4] y)", "c = MatMul(x, w)\n y = Add(c, a)", gemm), has=["Gemm"], at_most=1)
    probe("fuse: MatMul+Add, dynamic batch 2D", "fuse-matmul-add-dynamic", build("(float[N,3] x) => (float[N,4] y)", "c = MatMul(x, w)\n y = Add(c, a)", gemm), has=["Gemm"], at_most=1)
    probe("fuse: Transpose->MatMul/Gemm", "fuse-transpose-gemm", build("(float[3,2] x) => (float[2,4] y)", "t = Transpose <perm = [1, 0]> (x)\n y = Gemm(t, w, a)", gemm), gone=["Transpose"], at_most=1)
    probe("fuse: MatMul scale into weight", "fuse-matmul-scale", build("(float[2,3] x) => (float[2,4] y)", "i = Mul(x, k)\n y = MatMul(i, w)", {"w": gemm["w"], "k": scalar(0.125)}), gone=["Mul"])
    probe("fuse: 3 MatMul QKV -> 1", "fuse-qkv", build("(float[2,5,8] x) => (float[2,5,8] q, float[2,5,8] k, float[2,5,8] v)", "q = MatMul(x, a)\n k = MatMul(x, b)\n v = MatMul(x, c)", {"a": weight((8, 8), 1), "b": weight((8, 8), 2), "c": weight((8, 8), 3)}), exactly={"MatMul": 1},
          left="a Split copies the three results at every run, and what fuses attention later looks for three products", ask=PARALLEL)
    probe("fuse: 3 MatMul+bias QKV -> 1", "fuse-qkv-bias", build("(float[N,5,8] x) => (float[N,5,8] q, float[N,5,8] k, float[N,5,8] v)", "d = MatMul(x, a)\n q = Add(d, s)\n e = MatMul(x, b)\n k = Add(t, e)\n f = MatMul(x, c)\n v = Add(f, u)", {"a": weight((8, 8), 1), "b": weight((8, 8), 2), "c": weight((8, 8), 3), "s": weight((8,), 4), "t": weight((8,), 5), "u": weight((8,), 6)}), exactly={"MatMul": 1, "Add": 1},
          left="a Split copies the three results at every run, and what fuses attention later looks for three products", ask=PARALLEL)
    guard("parallel MatMuls with a weight of each batch kept", "parallel-batched", build("(float[2,5,8] x) => (float[2,5,8] q, float[2,5,4] k)", "q = MatMul(x, a)\n k = MatMul(x, b)", {"a": weight((2, 8, 8), 1), "b": weight((8, 4), 2)}), exactly={"MatMul": 2})
    probe("rewrite: Einsum -> MatMul", "rewrite-einsum", build("(float[2,3,4] x, float[2,4,5] u) => (float[2,3,5] y)", 'y = Einsum <equation = "bij,bjk->bik"> (x, u)'), gone=["Einsum"], has=["MatMul"])
    probe("rewrite: Pow(x,2) -> Mul", "rewrite-pow-two", build(X23, "y = Pow(x, c)", {"c": scalar(2.0)}), gone=["Pow"])


def activations():
    gelu = "d = Div(x, root)\n e = Erf(d)\n f = Add(e, one)\n g = Mul(x, f)\n y = Mul(g, half)"
    constants = {"root": scalar(np.sqrt(2.0)), "one": scalar(1.0), "half": scalar(0.5)}
    probe("fuse: erf-GELU -> Gelu (opset 20)", "fuse-gelu-20", build(X23, gelu, constants, opset=20, ir=9), has=["Gelu"], at_most=1)
    probe("fuse: erf-GELU -> contrib Gelu (opset 17)", "fuse-gelu-17-contrib", build(X23, gelu, constants), has=["Gelu"], at_most=1,
          left="ONNX has a Gelu from opset 20 on; this one is of ONNX Runtime", ask=ORT)
    probe("fuse: x*Sigmoid(x) -> Swish/QuickGelu", "fuse-swish", build(X23, "s = Sigmoid(x)\n y = Mul(x, s)"), at_most=1,
          left="ONNX has a Swish from opset 24 on, and few runtimes have a kernel for it; QuickGelu is one of ONNX Runtime", ask=ORT)
    probe("fuse: HardSwish", "fuse-hard-swish", build(X23, "h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)\n y = Mul(x, h)"), has=["HardSwish"], at_most=1)
    probe("fuse: x+3,clip0-6,/6,*x -> HardSwish", "fuse-hard-swish-clip", build(X23, "a = Add(x, three)\n c = Clip(a, zero, six)\n d = Div(c, six)\n y = Mul(x, d)", {"three": scalar(3.0), "zero": scalar(0.0), "six": scalar(6.0)}), has=["HardSwish"], at_most=1)
    norm = {"two": scalar(2.0), "eps": scalar(1e-5), "g": weight((8,), positive=True), "b": weight((8,), 1)}
    layer = "mu = ReduceMean <axes = [-1]> (x)\n d = Sub(x, mu)\n p = Pow(d, two)\n var = ReduceMean <axes = [-1]> (p)\n e = Add(var, eps)\n r = Sqrt(e)\n n = Div(d, r)\n s = Mul(n, g)\n y = Add(s, b)"
    probe("fuse: LayerNormalization", "fuse-layer-norm", build("(float[2,5,8] x) => (float[2,5,8] y)", layer, norm), has=["LayerNormalization"], at_most=1)
    alone = "mu = ReduceMean <axes = [-1]> (x)\n d = Sub(x, mu)\n p = Mul(d, d)\n var = ReduceMean <axes = [-1]> (p)\n e = Add(var, eps)\n r = Sqrt(e)\n n = Div(d, r)\n s = Mul(n, u)\n y = Add(s, v)"
    probe("fuse: LayerNormalization with a computed factor", "fuse-layer-norm-adaptive", build("(float[2,5,8] x, float[2,1,8] u, float[2,1,8] v) => (float[2,5,8] y)", alone, {"eps": norm["eps"]}), has=["LayerNormalization"], at_most=3)
    first = "mu = ReduceMean <axes = [1]> (x)\n d = Sub(x, mu)\n p = Pow(d, two)\n var = ReduceMean <axes = [1]> (p)\n e = Add(var, eps)\n r = Sqrt(e)\n n = Div(d, r)\n s = Mul(g, n)\n y = Add(s, b)"
    probe("fuse: LayerNormalization, channels first", "fuse-layer-norm-channels-first", build("(float[2,8,5,4] x) => (float[2,8,5,4] y)", first, {**norm, "g": norm["g"].reshape(8, 1, 1), "b": norm["b"].reshape(8, 1, 1)}), has=["LayerNormalization"], at_most=3)
    fast = "mu = ReduceMean <axes = [-1]> (x)\n q = Mul(x, x)\n sq = ReduceMean <axes = [-1]> (q)\n mm = Mul(mu, mu)\n var = Sub(sq, mm)\n e = Add(var, eps)\n r = Sqrt(e)\n d = Sub(x, mu)\n n = Div(d, r)\n s = Mul(n, g)\n y = Add(s, b)"
    probe("fuse: LayerNormalization, E[x^2] - E[x]^2", "fuse-layer-norm-of-squares", build("(float[2,5,8] x) => (float[2,5,8] y)", fast, {k: norm[k] for k in ("eps", "g", "b")}), has=["LayerNormalization"], at_most=1,
          left="where the squares are large beside their differences the parts keep few digits and give NaN, and a LayerNormalization does not", ask=APPROXIMATE)
    unbiased = "mu = ReduceMean <axes = [-1]> (x)\n d = Sub(x, mu)\n p = Mul(d, d)\n m = ReduceMean <axes = [-1]> (p)\n var = Mul(m, k)\n e = Add(var, eps)\n r = Sqrt(e)\n n = Div(d, r)\n s = Mul(n, g)\n y = Add(s, b)"
    probe("fuse: LayerNormalization, unbiased variance", "fuse-layer-norm-unbiased", build("(float[2,5,8] x) => (float[2,5,8] y)", unbiased, {**{k: norm[k] for k in ("eps", "g", "b")}, "k": scalar(8 / 7)}), has=["LayerNormalization"], at_most=1)
    probe("fuse: RMSNorm (x*Reciprocal(Sqrt), opset 23)", "fuse-rms-norm-23", build("(float[2,5,8] x) => (float[2,5,8] y)", "p = Pow(x, two)\n m = ReduceMean(p, ax)\n e = Add(m, eps)\n r = Sqrt(e)\n i = Reciprocal(r)\n n = Mul(x, i)\n y = Mul(n, g)", {**{k: norm[k] for k in ("two", "eps", "g")}, "ax": ints(-1)}, opset=23, ir=10), has=["RMSNormalization"], at_most=1)
    probe("fuse: RMSNorm (x/Sqrt, opset 17)", "fuse-rms-norm-17-contrib", build("(float[2,5,8] x) => (float[2,5,8] y)", "p = Pow(x, two)\n m = ReduceMean <axes = [-1]> (p)\n e = Add(m, eps)\n r = Sqrt(e)\n n = Div(x, r)\n y = Mul(n, g)", {k: norm[k] for k in ("two", "eps", "g")}), at_most=1,
          left="ONNX has an RMSNormalization from opset 23 on; BranchwiseRMSNorm is one of ONNX Runtime from 1.31 on", ask=LATEST)
    probe("fuse: LpNormalization", "fuse-lp-norm", build("(float[2,8] x) => (float[2,8] y)", "n = ReduceL2 <axes = [1], keepdims = 1> (x)\n y = Div(x, n)"), has=["LpNormalization"], at_most=1,
          left="a vector of zeros over its norm is NaN, and LpNormalization makes 0 of it", ask=APPROXIMATE)
    probe("fuse: SDPA -> Attention/MHA", "fuse-sdpa", build("(float[2,4,5,8] q, float[2,4,5,8] k, float[2,4,5,8] v) => (float[2,4,5,8] y)", "t = Transpose <perm = [0, 1, 3, 2]> (k)\n s = MatMul(q, t)\n d = Mul(s, c)\n p = Softmax <axis = -1> (d)\n y = MatMul(p, v)", {"c": scalar(1 / np.sqrt(8.0))}, opset=23, ir=10), gone=["Softmax"], at_most=1)
    heads = "a = Reshape(q, sh)\n b = Reshape(k, sh)\n c = Reshape(v, sh)\n d = Transpose <perm = [0, 2, 1, 3]> (a)\n e = Transpose <perm = [0, 2, 3, 1]> (b)\n f = Transpose <perm = [0, 2, 1, 3]> (c)\n s = MatMul(d, e)\n t = Mul(s, scale)\n p = Softmax <axis = -1> (t)\n o = MatMul(p, f)\n r = Transpose <perm = [0, 2, 1, 3]> (o)\n y = Reshape(r, back)"
    probe("fuse: heads of attention -> MultiHeadAttention", "fuse-multi-head-attention", build("(float[N,5,12] q, float[N,5,12] k, float[N,5,12] v) => (float[N,5,12] y)", heads, {"sh": ints(0, 0, 4, 3), "back": ints(0, 0, 12), "scale": scalar(1 / np.sqrt(3.0))}), at_most=1,
          left="ONNX has an Attention from opset 23 on; MultiHeadAttention is one of ONNX Runtime", ask=ORT)
    embed = "a = Gather(w, ids)\n b = Gather(g, kinds)\n c = Add(a, b)\n d = Add(c, p)\n y = LayerNormalization(d, f, h)"
    probe("fuse: embeddings -> EmbedLayerNormalization", "fuse-embed-layer-norm", build("(int64[2,4] ids, int64[2,4] kinds) => (float[2,4,8] y)", embed, {"w": weight((20, 8), 1), "g": weight((20, 8), 2), "p": weight((4, 8), 3), "f": norm["g"], "h": norm["b"]}), at_most=3,
          left="EmbedLayerNormalization takes int32 alone and no index below 0, which Gather counts from the end, and no model says that its inputs have none")
    probe("fuse: Add+LayerNorm -> SkipLayerNorm", "fuse-skip-layer-norm", build("(float[2,5,8] x, float[2,5,8] u) => (float[2,5,8] y)", "a = Add(x, u)\n y = LayerNormalization(a, g, b)", {k: norm[k] for k in ("g", "b")}), at_most=1,
          left="ONNX has no such operator; SkipLayerNormalization is one of ONNX Runtime", ask=ORT)


def soundness():
    overridable = build("(float[2,3] x, float[3] c) => (float[2,3] y)", "d = Add(c, c)\n y = Add(x, d)", {"c": weight((3,))})
    guard("overridable initializer (also graph input) not folded", "overridable-initializer", overridable,
          also=(lambda m: any(v.name == "c" for v in m.graph.input) and any("c" in n.input for n in m.graph.node), "input c kept and read"))
    guard("two unseeded RandomNormal not CSE-merged", "random-not-merged", build("(float[2,3] x) => (float[2,3] y)", "a = RandomNormal <shape = [2, 3]> ()\n b = RandomNormal <shape = [2, 3]> ()\n d = Sub(a, b)\n y = Add(x, d)"), numeric=False, exactly={"RandomNormal": 2})
    training = build(IMAGE.format(6), "c = Conv(x, w)\n y, rm, rv = BatchNormalization <training_mode = 1> (c, s, b, m, v)", {"w": weight((4, 3, 3, 3), scale=0.2), **batch_norm(4)})
    guard("BN training_mode=1 not fused", "bn-training", training, numeric=True, has=["BatchNormalization"])
    q = {"sc": scalar(0.05), "zp": scalar(0, np.int8), "sc2": scalar(0.03)}
    probe("quant: DQ->Q pair (same params) removed", "quant-dq-q-pair", build("(float[2,3] x) => (float[2,3] y)", "a = QuantizeLinear(x, sc, zp)\n b = DequantizeLinear(a, sc, zp)\n c = QuantizeLinear(b, sc, zp)\n y = DequantizeLinear(c, sc, zp)", {"sc": q["sc"], "zp": q["zp"]}), exactly={"QuantizeLinear": 1, "DequantizeLinear": 1})
    int8 = np.random.default_rng(5).integers(-127, 128, (3, 4)).astype(np.int8)
    guard("DQ(int8 weight) kept (QDQ survives)", "dequantized-weight", build("(float[2,3] x) => (float[2,4] y)", "d = DequantizeLinear(w, sc, zp)\n y = MatMul(x, d)", {"w": int8, "sc": q["sc"], "zp": q["zp"]}), has=["DequantizeLinear", "MatMul"])
    guard("lossy f32->f16->f32 cast kept", "cast-f16", build(X23, "a = Cast <to = 10> (x)\n y = Cast <to = 1> (a)"), exactly={"Cast": 2})
    guard("lossy i64->i32->i64 cast kept", "cast-i32", build("(int64[2,3] x) => (int64[2,3] y)", "b = Mul(x, big)\n a = Cast <to = 6> (b)\n y = Cast <to = 7> (a)", {"big": scalar(2**40 + 3, np.int64)}), exactly={"Cast": 2})
    guard("broadcasting x*ones kept", "mul-ones-broadcast", build("(float[1,3] x) => (float[4,3] y)", "y = Mul(x, c)", {"c": np.ones((4, 1), np.float32)}), at_most=2,
          also=(lambda m: any(n.op_type in ("Mul", "Expand", "Tile", "Add") for n in m.graph.node), "a broadcasting node is left"))
    guard("x*0 kept", "mul-zero", build(X23, "y = Mul(x, c)", {"c": scalar(0.0)}), has=["Mul"])
    guard("reflect Pad kept", "pad-reflect", build("(float[2,3,8,8] x) => (float[2,4,8,8] y)", 'i = Pad <mode = "reflect"> (x, p)\n y = Conv(i, w)', {"w": weight((4, 3, 3, 3), scale=0.2), "p": ints(0, 0, 1, 1, 0, 0, 1, 1)}), has=["Pad"])
    guard("valued Pad kept", "pad-valued", build("(float[2,3,8,8] x) => (float[2,4,8,8] y)", "i = Pad(x, p, c)\n y = Conv(i, w)", {"w": weight((4, 3, 3, 3), scale=0.2), "p": ints(0, 0, 1, 1, 0, 0, 1, 1), "c": scalar(1.5)}), has=["Pad"])
    guard("reversed slice kept", "slice-reversed", build("(float[4,3] x) => (float[4,3] y)", "i = Slice(x, a, b, ax, st)\n y = Relu(i)", {"a": ints(-1), "b": ints(-(2**31)), "ax": ints(0), "st": ints(-1)}), has=["Slice"])
    guard("opset-11 Softmax keeps its flattening meaning", "softmax-11", build("(float[2,3,4] x) => (float[2,3,4] y)", "i = Softmax <axis = 1> (x)\n y = Log(i)", opset=11, ir=6))
    guard("Conv with 2 users: the raw output stays right", "conv-two-users", build("(float[2,3,8,8] x) => (float[2,4,6,6] y, float[2,4,6,6] z)", "c = Conv(x, w)\n y = BatchNormalization(c, s, b, m, v)\n z = Relu(c)", {"w": weight((4, 3, 3, 3), scale=0.2), **batch_norm(4)}), has=["Relu"])


def structure():
    probe("ctrl: simplify inside If branches", "ctrl-if-branches", build("(bool b, float[2,3] x) => (float[2,3] y)", "y = If (b) <then_branch = then () => (float[2,3] p) { i = Identity(x)\n p = Relu(i) }, else_branch = other () => (float[2,3] q) { j = Identity(x)\n q = Sigmoid(j) }>"), gone=["Identity"])
    functions = '<domain: "local", opset_import: ["" : 17]>\ntwice (a) => (b) { t = Relu(a)\n b = Add(t, t) }'
    probe("func: local function inlined", "func-inlined", build(X23, "y = local.twice(x)", domains=["local"], functions=functions), gone=["twice"],
          also=(lambda m: not m.functions, "no functions"),
          left="a function is how a model names a part that a runtime may replace as a whole", ask=["inline-functions"])
    probe("dom: contrib op kept, neighbours simplified", "dom-contrib", build(X23, "i = Identity(x)\n g = com.microsoft.QuickGelu <alpha = 1.5> (i)\n j = Identity(g)\n y = Relu(j)", domains=["com.microsoft"]), gone=["Identity"], has=["QuickGelu"])
    probe("dom: unknown custom op kept, neighbours simplified", "dom-custom", build(X23, "i = Identity(x)\n g = acme.Magic <alpha = 1.5> (i)\n j = Identity(g)\n y = Relu(j)", domains=["acme"]), numeric=False, gone=["Identity"], has=["Magic"])
    described = build(X23, "i = Identity(x)\n y = Relu(i)")
    entry = described.metadata_props.add()
    entry.key, entry.value = "owner", "vision team"
    described.producer_name, described.producer_version = "exporter", "7.1"
    described.graph.input[0].doc_string = "pixels"
    probe("meta: model metadata_props kept", "meta-metadata-props", described, also=(lambda m: any(p.key == "owner" and p.value == "vision team" for p in m.metadata_props), "metadata kept"))
    probe("meta: input doc_string kept", "meta-input-doc", described, also=(lambda m: m.graph.input[0].doc_string == "pixels", "doc_string kept"))
    named = build(X23, "i = Identity(x)\n y = Relu(i)")
    named.graph.node[1].name, named.graph.node[1].doc_string = "the-relu", "why it is here"
    probe("meta: node name + doc_string kept", "meta-node-name-doc", named, also=(lambda m: any(n.name == "the-relu" and n.doc_string == "why it is here" for n in m.graph.node), "name and doc_string kept"))
    probe("io: unused graph input kept", "io-unused-input", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "i = Identity(x)\n y = Relu(i)"), also=(lambda m: [v.name for v in m.graph.input] == ["x", "u"], "inputs x, u"))
    probe("io: output that is a constant kept", "io-constant-output", build("(float[2,3] x) => (float[2,3] y, float[3] z)", "y = Relu(x)\n z = Add(a, a)", {"a": weight((3,))}), also=(lambda m: [v.name for v in m.graph.output] == ["y", "z"], "outputs y, z"))


def done_by_none():
    probe("merge: Shape of same-shaped tensors", "none-shape-of-same", build("(float[N,M] x, float[N,M] u) => (float[N,M] y, float[N,M] z, int64[2] s, int64[2] t)", "y = Relu(x)\n z = Sigmoid(u)\n s = Shape(x)\n v = Shape(y)\n t = Add(v, one)", {"one": ints(1)}), exactly={"Shape": 1})
    probe("rewrite: Transpose of unit dims->Reshape", "none-transpose-unit", build("(float[2,1,3] x) => (float[2,3,1] y)", "y = Transpose <perm = [0, 2, 1]> (x)"), gone=["Transpose"],
          left="the shape that Reshape reads would make a file of this size larger than it was", ask=GROWTH)
    probe("merge: Slice+Slice on different axes", "none-slice-slice", build("(float[4,6] x) => (float[2,3] y)", "i = Slice(x, a, b, zero)\n y = Slice(i, a, c, one)", {"a": ints(1), "b": ints(3), "c": ints(4), "zero": ints(0), "one": ints(1)}), at_most=1)
    probe("elim: Neg(Neg)", "none-neg-neg", build(X23, "i = Neg(x)\n j = Neg(i)\n y = Relu(j)"), gone=["Neg"])
    probe("elim: Not(Not)", "none-not-not", build("(bool[2,3] x, bool[2,3] u) => (bool[2,3] y)", "i = Not(x)\n j = Not(i)\n y = And(j, u)"), gone=["Not"])
    probe("elim: Where(const)", "none-where-const", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "i = Where(c, x, u)\n y = Relu(i)", {"c": np.ones((2, 3), np.bool_)}), gone=["Where"])
    probe("elim: Relu after Sigmoid (range facts)", "none-relu-sigmoid", build(X23, "i = Sigmoid(x)\n y = Relu(i)"), gone=["Relu"])
    probe("elim: 1x1 MaxPool", "none-maxpool-1x1", build("(float[2,3,8,8] x) => (float[2,3,8,8] y)", "i = MaxPool <kernel_shape = [1, 1]> (x)\n y = Relu(i)"), gone=["MaxPool"])
    probe("elim: Slice of Concat", "none-slice-concat", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "c = Concat <axis = 1> (x, u)\n i = Slice(c, a, b, one)\n y = Relu(i)", {"a": ints(3), "b": ints(6), "one": ints(1)}), gone=["Slice", "Concat"])
    probe("CSE: commutative", "none-cse-commutative", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "i = Add(x, u)\n j = Add(u, x)\n k = Relu(j)\n y = Mul(i, k)"), exactly={"Add": 1})
    probe("assoc: (x+c1)+c2", "none-assoc-add", build(X23, "i = Add(x, a)\n y = Add(i, b)", {"a": weight((3,)), "b": weight((3,), 1)}), at_most=1)
    probe("rewrite: a*Reciprocal(b)->Div", "none-reciprocal-div", build("(float[2,3] x, float[2,3] u) => (float[2,3] y)", "e = Exp(u)\n r = Reciprocal(e)\n y = Mul(x, r)"), has=["Div"], gone=["Reciprocal"])
    probe("fuse: BN->Conv", "none-bn-conv", build(IMAGE.format(6), "i = BatchNormalization(x, s, b, m, v)\n y = Conv(i, w, bias)", {"w": weight((4, 3, 3, 3), scale=0.2), "bias": weight((4,), 3), **batch_norm(3)}), gone=["BatchNormalization"], at_most=1)
    probe("rewrite: standalone BN->Mul+Add", "none-bn-alone", build("(float[2,3,8,8] x) => (float[2,3,8,8] y)", "r = Relu(x)\n y = BatchNormalization(r, s, b, m, v)", batch_norm(3)), gone=["BatchNormalization"],
          left="two operators that read the data twice would take the place of one")
    probe("fuse: Conv->1x1 Conv", "none-conv-1x1", build(IMAGE.format(6), "c = Conv(x, w)\n y = Conv(c, k)", {"w": weight((4, 3, 3, 3), scale=0.2), "k": weight((4, 4, 1, 1), 7)}), at_most=1)
    tanh = "p = Pow(x, three)\n c = Mul(p, k)\n a = Add(x, c)\n s = Mul(a, root)\n t = Tanh(s)\n o = Add(t, one)\n h = Mul(x, half)\n y = Mul(h, o)"
    probe("fuse: tanh-GELU in HF form", "none-gelu-tanh", build(X23, tanh, {"three": scalar(3.0), "k": scalar(0.044715), "root": scalar(np.sqrt(2 / np.pi)), "one": scalar(1.0), "half": scalar(0.5)}, opset=20, ir=9), has=["Gelu"], at_most=1)
    loop = "y = Loop (n, , x) <body = step (int64 i, bool c, float[2,3] a) => (bool d, float[2,3] b) { d = Identity(c)\n e = Add(a, k)\n b = Relu(e) }>"
    probe("ctrl: unroll const Loop", "none-loop-unroll", build(X23, loop, {"n": scalar(3, np.int64), "k": weight((3,))}), gone=["Loop"],
          left="six operators would take the place of four", ask=["fold-constants", "--unroll", "16"])


def done_by_all():
    probe("fold: Shape(static)", "all-shape-static", build("(float[2,3] x, float[6] z) => (float[2,3] y, float[2,3] w)", "s = Shape(x)\n y = Reshape(z, s)\n w = Relu(x)"), gone=["Shape"],
          left="the constant would make a file of this size larger than it was", ask=GROWTH)
    probe("ctrl: If(const) inlined", "all-if-const", build(X23, "y = If (b) <then_branch = then () => (float[2,3] p) { p = Relu(x) }, else_branch = other () => (float[2,3] q) { q = Sigmoid(x) }>", {"b": scalar(True, np.bool_)}), gone=["If"])
    probe("dead: unused initializer", "all-unused-initializer", build(X23, "i = Identity(x)\n y = Relu(i)", {"w": weight((8, 8))}), also=(lambda m: not m.graph.initializer, "no initializer"))
    produced = build(X23, "i = Identity(x)\n y = Relu(i)")
    produced.producer_name, produced.producer_version = "exporter", "7.1"
    probe("meta: producer kept", "all-producer", produced, also=(lambda m: m.producer_name == "exporter", "producer_name kept"))
    probe("io: dim_param kept", "all-dim-param", build("(float[batch,3] x) => (float[batch,3] y)", "i = Identity(x)\n y = Relu(i)"), also=(lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch" and m.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch", "dim_param kept"))
    probe("io: output names kept", "all-output-names", build("(float[2,3] x) => (float[2,3] y, float[2,3] z)", "r = Relu(x)\n y = Identity(r)\n z = Identity(r)"), also=(lambda m: [v.name for v in m.graph.output] == ["y", "z"], "outputs y, z"))


def symbols():
    at = {"c0": scalar(0, np.int64), "c1": scalar(1, np.int64), "v0": ints(0), "v1": ints(1)}
    size = "s = Shape(x)\n n = Gather(s, c0)\n "
    choice = "y = If (k) <then_branch = a () => (float[N,M] p) { p = Relu(x) }, else_branch = b () => (float[N,M] q) { q = Sigmoid(x) }>"
    table = "(float[N,M] x, float[N,M] u) => (float[N,M] y)"
    probe("sym: heads by Shape, Gather, Concat", "sym-heads", build("(float[N,M,64] x) => (float[N,M,8,8] y)", "s = Shape(x)\n n = Gather(s, v0)\n m = Gather(s, v1)\n t = Concat <axis = 0> (n, m, e, e)\n y = Reshape(x, t)", {**at, "e": ints(8)}), at_most=1)
    probe("sym: Slice to the own size", "sym-slice-own", build("(float[N,M] x) => (float[N,M] y)", "s = Shape(x)\n n = Gather(s, v1)\n i = Slice(x, v0, n, v1)\n y = Relu(i)", at), gone=["Slice"], at_most=1)
    probe("sym: If on two sizes of one symbol", "sym-if-equal", build(table, size + "t = Shape(u)\n m = Gather(t, c0)\n k = Equal(n, m)\n " + choice, at), gone=["If"], at_most=1)
    probe("sym: If on a size below 0", "sym-if-negative", build(table, size + "k = Less(n, c0)\n " + choice, at), gone=["If"], at_most=1)
    probe("sym: Expand by Where of sizes and -1", "sym-where-minus-one", build("(float[N,M] x) => (float[N,M] y)", "s = Shape(x)\n k = Equal(s, m)\n t = Where(k, o, s)\n i = Expand(x, t)\n y = Relu(i)", {"m": ints(-1, -1), "o": ints(1, 1)}), at_most=1)
    probe("sym: ones of the own shape", "sym-ones", build("(float[N,M] x) => (float[N,M] y)", "s = Shape(x)\n o = ConstantOfShape <value = float[1]{1}> (s)\n i = Mul(x, o)\n y = Relu(i)"), at_most=1)
    probe("sym: zeros of the own shape", "sym-zeros", build("(float[N,M] x) => (float[N,M] y)", "s = Shape(x)\n o = ConstantOfShape(s)\n i = Add(x, o)\n y = Relu(i)"), at_most=1)
    probe("sym: Tile of a dimension of 1 before an Add", "sym-tile", build("(float[1,M] x, float[N,M] u) => (float[N,M] y)", "s = Shape(u)\n n = Gather(s, v0)\n r = Concat <axis = 0> (n, v1)\n t = Tile(x, r)\n y = Add(t, u)", at), at_most=1)
    probe("sym: Resize to the own size", "sym-resize", build("(float[N,3,H,W] x) => (float[N,3,H,W] y)", 'n = Shape(x)\n i = Resize <mode = "linear"> (x, , , n)\n y = Relu(i)'), at_most=1)
    probe("sym: sizes gathered one by one", "sym-sizes-joined", build("(float[N,M,4] x, float[4] u) => (float[N,M,2,4] y)", "s = Shape(x)\n n = Gather(s, v0)\n m = Gather(s, v1)\n t = Concat <axis = 0> (n, m, two, four)\n y = Expand(u, t)", {**at, "two": ints(2), "four": ints(4)}), gone=["Gather"], at_most=3)
    probe("sym: positions that a Slice takes of a table", "sym-positions", build("(float[N,M,4] x, float[1,9,4] table) => (float[N,M,2,2] y)", "s = Shape(x)\n m = Gather(s, v1)\n p = Slice(table, v0, m, v1)\n a = Add(x, p)\n t = Shape(a)\n h = Slice(t, v0, two, v0)\n q = Concat <axis = 0> (h, two, two)\n y = Reshape(a, q)", {**at, "two": ints(2)}), gone=["Concat"])
    guard("If on a size and 1", "sym-if-one", build(table, size + "k = Equal(n, c1)\n " + choice, at), has=["If"])
    guard("If on sizes of two symbols", "sym-if-two", build(table, size + "m = Gather(s, c1)\n k = Equal(n, m)\n " + choice, at), has=["If"])


def all_probes():
    if not PROBES:
        for section in (folding, dynamic_shapes, eliminations, algebra, fusions, activations, soundness, structure, done_by_none, done_by_all, symbols):
            section()
    return PROBES


def sizes_for(name):
    """Sizes for symbolic dims where the model needs particular ones."""
    return {"fold-shape-gather-static-dim": {"N": 2, "M": 8}, "dyn-slice-shape-static": {"N": 2, "M": 24}}.get(name, {})


def feeds_for(probe, seed):
    """Inputs for a probe: small normals, booleans, integers; symbolic dims are 2 and up."""
    rng = np.random.default_rng([seed, len(probe.name)])
    feeds, sizes = {}, dict(sizes_for(probe.name))
    for value in probe.model.graph.input:
        if any(tensor.name == value.name for tensor in probe.model.graph.initializer):
            continue
        elem, dims = models.value_shape(value)
        shape = []
        for dim in dims:
            if isinstance(dim, str):
                dim = sizes.setdefault(dim, 2 + len(sizes))
            shape.append(dim)
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem))
        if dtype == np.bool_:
            feeds[value.name] = rng.integers(0, 2, shape).astype(np.bool_)
        elif dtype.kind == "i":
            feeds[value.name] = rng.integers(-9, 9, shape).astype(dtype)
        else:
            feeds[value.name] = (rng.standard_normal(shape) * 2).astype(dtype)
    return feeds


def write(folder):
    os.makedirs(folder, exist_ok=True)
    lines = ["# Probes", "", "| file | what | expected after `simplify` |", "|---|---|---|"]
    for probe in all_probes():
        onnx.save(probe.model, os.path.join(folder, probe.name + ".onnx"))
        lines.append(f"| {probe.name}.onnx | {probe.title} | {probe.says or 'the same numbers'} |")
    with open(os.path.join(folder, "INDEX.md"), "w") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
