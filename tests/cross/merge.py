"""`transfer merge` against numpy.

* The linear merge of two copies with other weights and other names is the mean, to the bit; slerp, task arithmetic and TIES are what
  numpy makes of their formulas.
* `--align`: a copy whose channels were permuted at random, all layers at once, merges with its original into the original, to the bit
  (LeNet-5, and with the residual streams and normalisation of ResNet-18).
* `merge-lora`: W + alpha / r · B·A of a safetensors file.
"""

import json
import os
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

import corpus
import runtime


def check(report, secateur):
    model = os.path.join(corpus.FIXTURES, "digits_cnn.onnx")
    with tempfile.TemporaryDirectory(prefix="secateur-merge-") as folder:
        for part in (methods, refusal, adapter):
            if report.wants(part.__name__):
                problem = part(secateur, model, folder)
                (report.failed if problem else report.passed)(part.__name__, problem or "")
    if not corpus.folder():
        report.skipped("aligned", "there is no corpus")
        return
    paths = {"lenet5_mnist": os.path.join(corpus.folder(), "models", "trained", "lenet5_mnist.onnx"),
             "ts-resnet18_bn": os.path.join(corpus.arch_folder(corpus.folder()), "ts-resnet18_bn.onnx")}
    for name, path in paths.items():
        if not report.wants(name):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-merge-") as folder:
            problem, note = aligned(secateur, name, path, folder)
            (report.failed if problem else report.passed)(f"{name} aligned", problem or note)


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_weights(model, arrays):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return other


def trained_apart(model, seed, share=1.0):
    """The model with a share of its weights moved, and without the names of its weights."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name, array in weights(model).items():
        step = rng.normal(size=array.shape) * 0.05 * (rng.random(array.shape) < share)
        moved[name] = (array + step).astype(array.dtype) if array.dtype == np.float32 else array
    return moved


def renamed(model, suffix):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    names = {tensor.name: tensor.name + suffix for tensor in other.graph.initializer}
    for tensor in other.graph.initializer:
        tensor.name = names[tensor.name]
    for node in other.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = names.get(name, name)
    return other


def slerp(a, b, t):
    angle = np.arccos(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def ties(base, models, density):
    differences = [{name: model[name].astype(np.float64) - base[name] for name in base} for model in models]
    kept = []
    for difference in differences:
        sizes = np.concatenate([np.abs(part).ravel() for part in difference.values()])
        least = np.sort(sizes)[len(sizes) - int(round(density * len(sizes)))]
        # Sizes are compared as float32.
        kept.append({name: np.where(np.abs(part).astype(np.float32) >= np.float32(least), part, 0) for name, part in difference.items()})
    merged = {}
    for name in base:
        parts = np.stack([part[name] for part in kept])
        sign = np.sign(parts.sum(axis=0))
        agree = (np.sign(parts) == sign) & (parts != 0)
        count = agree.sum(axis=0)
        merged[name] = base[name] + np.where(count > 0, (parts * agree).sum(axis=0) / np.maximum(count, 1), 0)
    return merged


def methods(secateur, path, folder):
    base = onnx.load(path)
    plain = weights(base)
    sets = [trained_apart(base, seed) for seed in (1, 2, 3)]
    files = {}
    for number, arrays in enumerate(sets):
        files[number] = os.path.join(folder, f"{number}.onnx")
        onnx.save(renamed(with_weights(base, arrays), f".copy{number}"), files[number])
    floats = {name: array.astype(np.float64) for name, array in plain.items() if array.dtype == np.float32}
    sets = [{name: one[name].astype(np.float64) for name in floats} for one in sets]
    a, b, c = sets
    cases = {
        "linear": (2, [], {name: (a[name] + b[name]) / 2 for name in floats}, 0),
        "linear of three": (3, ["--weights", "1", "--weights", "2", "--weights", "5"],
                            {name: (a[name] + 2 * b[name] + 5 * c[name]) / 8 for name in floats}, 1e-7),
        "slerp": (2, ["--weights", "3", "--weights", "1"], {name: slerp(a[name], b[name], 0.25) for name in floats}, 1e-6),
        "task-arithmetic": (3, ["--base", path, "--scale", "0.5"],
                            {name: base + 0.5 * (a[name] + b[name] + c[name] - 3 * base) for name, base in floats.items()}, 1e-7),
        "ties": (3, ["--base", path, "--density", "0.3"], ties(floats, sets, 0.3), 1e-6),
    }
    out = os.path.join(folder, "merged.onnx")
    for name, (count, flags, expected, tolerance) in cases.items():
        result = secateur.run("transfer", "merge", *[files[at] for at in range(count)], "--method", name.split()[0], *flags, "-o", out, "--force")
        if result.code != 0:
            return f"{name}: {result.why()}"
        onnx.checker.check_model(out)
        found = weights(onnx.load(out))
        for weight, value in expected.items():
            error = np.abs(found[weight + ".copy0"] - value.astype(np.float32)).max()
            if error > tolerance * max(1.0, np.abs(value).max()):
                return f"{name}: {weight} differs by {error:.2g}"
    return None


def refusal(secateur, path, folder):
    out = os.path.join(folder, "none.onnx")
    other = os.path.join(corpus.FIXTURES, "digits_mlp.onnx")
    result = secateur.run("transfer", "merge", path, other, "-o", out, "--json")
    if result.code != 2 or os.path.exists(out):
        return f"exit {result.code} for models that differ"
    node = next(node for node in onnx.load(path).graph.node)
    message = result.json()["error"]["message"]
    return None if node.name in message or node.output[0] in message else f"the first node that differs is not named: {message}"


class Permuted:
    """Weights whose axes are put in random orders."""

    def __init__(self, arrays, seed):
        self.arrays = dict(arrays)
        self.rng = np.random.default_rng(seed)
        self.moved = 0

    def order(self, size):
        self.moved += size
        return self.rng.permutation(size)

    def take(self, name, axis, order):
        if name in self.arrays:
            self.arrays[name] = np.ascontiguousarray(np.take(self.arrays[name], order, axis))

    def layer(self, name, order):
        self.take(name + ".weight", 0, order)
        self.take(name + ".bias", 0, order)

    def norm(self, name, order):
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.take(f"{name}.{part}", 0, order)


def permute_lenet5(arrays, seed):
    permuted = Permuted(arrays, seed)
    first, second, third = (permuted.order(arrays[name].shape[0]) for name in ("conv1.weight", "conv2.weight", "fc1.weight"))
    permuted.layer("conv1", first)
    permuted.take("conv2.weight", 1, first)
    permuted.layer("conv2", second)
    area = arrays["fc1.weight"].shape[1] // len(second)
    permuted.take("fc1.weight", 1, (second[:, None] * area + np.arange(area)).ravel())
    permuted.layer("fc1", third)
    permuted.take("fc2.weight", 1, third)
    return permuted


def permute_resnet18(arrays, seed):
    permuted = Permuted(arrays, seed)
    stream = permuted.order(arrays["conv1.weight"].shape[0])
    permuted.layer("conv1", stream)
    permuted.norm("bn1", stream)
    for stage in range(1, 5):
        out = stream if stage == 1 else permuted.order(arrays[f"layer{stage}.0.conv2.weight"].shape[0])
        for block in range(2):
            name = f"layer{stage}.{block}"
            inner = permuted.order(arrays[name + ".conv1.weight"].shape[0])
            permuted.take(name + ".conv1.weight", 1, stream)
            permuted.layer(name + ".conv1", inner)
            permuted.norm(name + ".bn1", inner)
            permuted.take(name + ".conv2.weight", 1, inner)
            permuted.layer(name + ".conv2", out)
            permuted.norm(name + ".bn2", out)
            if block == 0 and stage > 1:
                permuted.take(name + ".downsample.0.weight", 1, stream)
                permuted.layer(name + ".downsample.0", out)
                permuted.norm(name + ".downsample.1", out)
            stream = out
    permuted.take("fc.weight", 1, stream)
    return permuted


def aligned(secateur, name, path, folder):
    source = onnx.load(path)
    arrays = weights(source)
    permuted = (permute_lenet5 if name.startswith("lenet5") else permute_resnet18)(arrays, 11)
    other, out = os.path.join(folder, "permuted.onnx"), os.path.join(folder, "merged.onnx")
    onnx.save(with_weights(source, permuted.arrays), other)
    recipe = {model.path: model for model in corpus.corpus_models(("models", "arch"))}[path]
    feeds = recipe.inputs(1)
    expected = runtime.run(runtime.session(path), feeds)
    same = runtime.compare(expected, runtime.run(runtime.session(other), feeds))
    if same.relative > 1e-4:
        return f"the permuted model is another one: {same.reason}", None
    for flags, equal in ((["--align"], True), ([], False)):
        result = secateur.run("transfer", "merge", path, other, *flags, "-o", out, "--force", "--json", "--allow-unchanged")
        if result.code != 0:
            return result.why(), None
        found = runtime.compare(expected, runtime.run(runtime.session(out), feeds))
        if found.equal != equal:
            return f"{flags}: outputs are {'equal' if found.equal else 'not equal: ' + str(found.reason)}", None
    return None, f"{permuted.moved} units"


def write_safetensors(path, arrays):
    """float32 arrays in the format's own form: length of the header, header, data."""
    header, data = {}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def adapter(secateur, path, folder):
    """An adapter for the convolution and the last layer; numpy adds it."""
    source, rng = onnx.load(path), np.random.default_rng(4)
    plain = weights(source)
    layers = {node.input[1]: node for node in source.graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in plain}
    arrays, expected = {}, dict(plain)
    for weight, node in layers.items():
        if not weight.endswith(".weight"):
            continue
        module, shape, rank = weight.removesuffix(".weight"), plain[weight].shape, 2
        turned = node.op_type == "MatMul" or node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute)
        natural = shape[::-1] if turned else shape
        inner = rng.normal(size=(rank, *natural[1:])).astype(np.float32)
        outer = rng.normal(size=(natural[0], rank, *[1] * (len(natural) - 2))).astype(np.float32)
        arrays[f"base_model.model.{module}.lora_A.weight"], arrays[f"base_model.model.{module}.lora_B.weight"] = inner, outer
        delta = outer.reshape(natural[0], rank).astype(np.float64) @ inner.reshape(rank, -1).astype(np.float64)
        delta = delta.reshape(natural) * 8 / rank
        expected[weight] = plain[weight] + (delta.T if turned else delta)
    if not arrays:
        return "no layer has a weight of its own name"
    file, out = os.path.join(folder, "adapter.safetensors"), os.path.join(folder, "merged.onnx")
    write_safetensors(file, arrays)
    result = secateur.run("merge-lora", path, "--adapter", file, "--alpha", "8", "-o", out, "--force")
    if result.code != 0:
        return result.why()
    onnx.checker.check_model(out)
    found = weights(onnx.load(out))
    for name, array in expected.items():
        if np.abs(found[name] - array).max() > 1e-6 * max(1.0, np.abs(array).max()):
            return f"{name} differs by {np.abs(found[name] - array).max():.2g}"
    return None
