"""`transfer parameters` and `transfer structure` against ONNX Runtime.

Every export of a trained corpus model gets the weights of every other one, by structure: the source's values, initializers and nodes
are renamed at random, and the target's weights are noise. All parameters have to be loaded, each adaptation named, and the outputs be
the source's to rounding. Then heads with other classes, other input channels, resized position embeddings, weight files and gates.
With SECATEUR_CROSS_LARGE=1 the same on MobileNetV2 (pretrained, into both exports of the skeleton), ResNet-18 and a ViT.
"""

import glob
import itertools
import os
import tempfile

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

import corpus
import runtime
import tool

# Exports of one trained model.
FAMILIES = (
    ("digits_cnn", "digits_cnn_bn", "digits_cnn_dynamo"),
    ("digits_gru", "digits_gru_dynamo"),
    ("digits_mlp", "digits_mlp_dynamo"),
    ("digits_vit", "digits_vit_dynamo"),
    ("lenet5_mnist", "lenet5_mnist_dynamo"),
    ("lenet_300_100_mnist", "lenet_300_100_mnist_dynamo"),
    ("lstm128_mnist", "lstm128_mnist_dynamo"),
    ("resnet8_cifar10", "resnet8_cifar10_bn", "resnet8_cifar10_dynamo"),
    ("vit_d64x4_mnist", "vit_d64x4_mnist_dynamo"),
)
FREE = ("layout", "batch-norm", "dtype")
# A weight of noise must give other outputs, relative to their range.
DIFFERENT = 1e-2


def floats(model):
    """Float tensors of initializers and Constant nodes with more than one number."""
    held = list(model.graph.initializer)
    held += [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    return [tensor for tensor in held if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1]


def noise(model, seed):
    """Replaces the weights."""
    random = np.random.default_rng(seed)
    source = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    settings = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    variances = {source.get(node.input[4], node.input[4]) for node in norms}
    for tensor in floats(model):
        if tensor.name in settings:
            continue
        values = random.normal(size=list(tensor.dims)).astype(np.float32) * 0.3
        if tensor.name in variances:
            values = np.abs(values) + 0.5
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    return model


def renamed(model, seed):
    """Every value, initializer and node under a random name; interface included."""
    random = np.random.default_rng(seed)
    names = {"": ""}

    def name(old):
        if old not in names:
            names[old] = "%016x" % random.integers(1 << 62)
        return names[old]

    for node in model.graph.node:
        assert not any(attribute.HasField("g") for attribute in node.attribute)
        for listed in (node.input, node.output):
            listed[:] = [name(old) for old in listed]
        node.name = name("node " + node.name)
    for values in (model.graph.input, model.graph.output, model.graph.initializer):
        for value in values:
            value.name = name(value.name)
    del model.graph.value_info[:]
    return model


def outputs(model, x):
    session = runtime.session(model if isinstance(model, str) else model.SerializeToString())
    given = x if isinstance(x, list) else [x]
    return session.run(None, {value.name: array for value, array in zip(session.get_inputs(), given)})


def relative(a, b):
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(a).max(), 1e-30))


def draw(model, seed, batch=3):
    shape = [dim.dim_value or batch for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Transfer:
    """One run of the verb in a folder of its own."""

    def __init__(self, secateur, source, target, *arguments):
        with tempfile.TemporaryDirectory(prefix="secateur-transfer-") as folder:
            paths = [os.path.join(folder, name) for name in ("source.onnx", "target.onnx", "out.onnx")]
            if isinstance(source, str):
                paths[0] = source
            else:
                onnx.save(source, paths[0])
            onnx.save(target, paths[1])
            self.result = secateur.run("transfer", "parameters", paths[0], paths[1], "-o", paths[2], "--json", *arguments)
            document = self.result.json() or {}
            steps = document.get("steps") or [{}]
            self.account = steps[0].get("transfer") or {"weights": [], "source": []}
            self.model = onnx.load(paths[2]) if os.path.exists(paths[2]) else None
        if self.model is not None:
            onnx.checker.check_model(self.model, full_check=True)

    def fates(self):
        fates = {}
        for weight in self.account["weights"]:
            fates[weight["fate"]] = fates.get(weight["fate"], 0) + 1
        return fates

    def adapters(self):
        return {how.split(":")[0] for weight in self.account["weights"] for how in weight.get("how", [])}


def check_pair(secateur, source, target, tolerance=runtime.TOLERANCE, x=None):
    """None, or what is wrong with the transfer of all of `source` into `target`."""
    x = draw(source, 1) if x is None else x
    expected = outputs(source, x)
    target = noise(target, 2)
    if max(relative(a, b) for a, b in zip(expected, outputs(target, x))) < DIFFERENT:
        return "noise gives the same outputs", None
    done = Transfer(secateur, renamed(source, 3), target, "--match", "structure", "--require", "1")
    if done.result.code != 0 or done.model is None:
        left = [weight for weight in done.account["weights"] if weight["fate"] == "left"][:3]
        return f"{done.result.why()} {left}", None
    fates, adapters = done.fates(), done.adapters()
    if set(fates) - {"loaded", "adapted"}:
        return f"fates {fates}", None
    if adapters - set(FREE):
        return f"adapters {adapters}", None
    unused = [weight for weight in done.account["source"] if not weight["used"]]
    if unused:
        return f"not used: {unused[:3]}", None
    error = max(relative(a, b) for a, b in zip(expected, outputs(done.model, x)))
    said = f"{fates}, adapters {sorted(adapters)}, outputs within {error:.1g}"
    return (f"outputs differ by {error:.2g}" if not error <= tolerance else None), said


def judge(report, name, answer):
    problem, note = answer
    (report.failed if problem else report.passed)(name, problem or note)


def check(report, secateur):
    folder = corpus.folder()
    if not folder:
        report.skipped("transfer", "there is no corpus")
        return
    trained = lambda name: onnx.load(os.path.join(folder, "models", "trained", name + ".onnx"))
    for family in FAMILIES:
        for source, target in itertools.permutations(family, 2):
            name = f"{source} into {target}"
            if report.wants(name):
                judge(report, name, check_pair(secateur, trained(source), trained(target)))
    for case in (classes, channels, positions, files, names, pruned, refusals):
        if report.wants(case.__name__):
            judge(report, case.__name__, case(secateur, trained))
    if os.environ.get("SECATEUR_CROSS_LARGE") == "1":
        large(report, secateur, folder)


def reshaped(model, name, shape):
    """The initializer in another shape, of noise."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.float32), name))


def with_classes(model, count):
    """The last Gemm with another number of classes."""
    head = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    for name in head.input[1:]:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        reshaped(model, name, [count, *tensor.dims[1:]])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = count
    del model.graph.value_info[:]
    return model


def with_channels(model, count):
    """The first convolution and the input with another number of channels."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == first.input[1])
    reshaped(model, first.input[1], [tensor.dims[0], count, *tensor.dims[2:]])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = count
    del model.graph.value_info[:]
    return model


def check_classes(secateur, source, target, count):
    x = draw(source, 5)
    expected = outputs(source, x)[0]
    sliced = Transfer(secateur, source, noise(with_classes(target, count), 4), "--match", "structure", "--adapt", "head", "--head", "slice",
                      "--head-offset", "2")
    if sliced.model is None:
        return sliced.result.why(), None
    error = relative(expected[:, 2:2 + count], outputs(sliced.model, x)[0])
    if error > runtime.TOLERANCE or "head" not in sliced.adapters():
        return f"sliced head: {error:.2g}, adapters {sliced.adapters()}", None
    left = Transfer(secateur, source, target, "--match", "structure")
    if left.fates().get("left") != 2 or not all("head" in weight["why"] for weight in left.account["weights"] if weight["fate"] == "left"):
        return f"without --adapt head: {left.fates()}", None
    made = [Transfer(secateur, source, target, "--match", "structure", "--adapt", "head", "--seed", "7") for _ in range(2)]
    if made[0].fates().get("initialised") != 2 or made[0].model.graph != made[1].model.graph:
        return f"initialised head: {made[0].fates()}", None
    head = [node for node in made[0].model.graph.node if node.op_type == "Gemm"][-1]
    weight = next(numpy_helper.to_array(tensor) for tensor in made[0].model.graph.initializer if tensor.name == head.input[1])
    bound = 1 / np.sqrt(weight.shape[1])
    if not (np.abs(weight).max() <= bound and np.abs(weight).max() > 0.8 * bound and abs(weight.mean()) < bound / 4):
        return f"initialised head reaches {np.abs(weight).max()} of {bound}", None
    gated = Transfer(secateur, source, target, "--match", "structure", "--require", "1")
    if gated.result.code != 1 or gated.model is not None:
        return f"--require: exit {gated.result.code}", None
    return None, f"sliced head within {error:.1g}"


def classes(secateur, trained):
    return check_classes(secateur, trained("digits_cnn_bn"), trained("digits_cnn_dynamo"), 7)


def check_channels(secateur, source, target, count):
    source_channels = source.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    target = noise(with_channels(target, count), 6)
    refused = Transfer(secateur, source, target, "--match", "structure")
    if refused.fates().get("left", 0) == 0:
        return "input channels adapted without permission", None
    done = Transfer(secateur, source, target, "--match", "structure", "--adapt", "input-channels", "--require", "1")
    if done.model is None:
        return done.result.why(), None
    x = draw(target, 8)
    # One channel stands for all of them; more are the old ones again and again.
    fed = np.repeat(x, source_channels, axis=1)
    if count > 1:
        old = draw(source, 8)
        x, fed = np.concatenate([old] * (count // source_channels), axis=1), old
    error = relative(outputs(source, fed)[0], outputs(done.model, x)[0])
    return (f"outputs differ by {error:.2g}" if error > runtime.TOLERANCE else None), f"{source_channels} to {count}: within {error:.1g}"


def channels(secateur, trained):
    source = trained("resnet8_cifar10_bn")
    for count in (1, 6):
        problem, note = check_channels(secateur, source, trained("resnet8_cifar10"), count)
        if problem:
            return f"{count}: {problem}", None
    return None, note


def positions(secateur, trained):
    source, target = trained("digits_vit_dynamo"), noise(trained("digits_vit"), 9)
    reshaped(target, "pos", [1, 26, 32])
    for dim in target.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 10
    del target.graph.value_info[:]
    done = Transfer(secateur, source, target, "--match", "structure", "--adapt", "positions", "--require", "1")
    if done.model is None:
        return done.result.why(), None
    pos = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.graph.initializer}["pos"]
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in done.model.graph.initializer}["pos"]
    grid = pos[:, 1:].reshape(1, 4, 4, 32).transpose(0, 3, 1, 2)
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="half_pixel")
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    sizes = numpy_helper.from_array(np.array([1, 32, 5, 5], np.int64), "sizes")
    graph = helper.make_graph([node], "resize", [value("x")], [value("y")], [sizes])
    resize = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected = np.concatenate([pos[:, :1], outputs(resize, grid)[0].transpose(0, 2, 3, 1).reshape(1, 25, 32)], axis=1)
    error = relative(expected, found)
    return (f"positions differ by {error:.2g}" if error > 1e-5 else None), f"positions within {error:.1g}"


def files(secateur, trained):
    """safetensors and npz by name after rules."""
    source = trained("digits_mlp_dynamo")
    x = draw(source, 1)
    weights = {"backbone." + tensor.name: numpy_helper.to_array(tensor).copy() for tensor in floats(source)}
    with tempfile.TemporaryDirectory(prefix="secateur-transfer-") as folder:
        packed, archive = os.path.join(folder, "w.safetensors"), os.path.join(folder, "w.npz")
        safetensors.numpy.save_file(weights, packed)
        np.savez(archive, **weights)
        for path in (packed, archive):
            done = Transfer(secateur, path, noise(trained("digits_mlp"), 2), "--rename", r"[backbone\.(.*), $1]", "--require", "1")
            if done.model is None:
                return f"{os.path.basename(path)}: {done.result.why()}", None
            if not np.array_equal(outputs(source, x)[0], outputs(done.model, x)[0]):
                return f"{os.path.basename(path)}: other outputs", None
        # A file whose normalisations are kept, into a model that has folded them: `state_dict.py` has more of these.
        unfolded = {tensor.name: numpy_helper.to_array(tensor) for tensor in floats(trained("digits_cnn_bn"))}
        np.savez(archive, **unfolded)
        done = Transfer(secateur, archive, noise(trained("digits_cnn_dynamo"), 2))
        if done.model is None:
            return f"a file that is not folded: {done.result.why()}", None
        image = draw(trained("digits_cnn_bn"), 1)
        error = relative(outputs(trained("digits_cnn_bn"), image)[0], outputs(done.model, image)[0])
        if error > runtime.TOLERANCE or "batch-norm" not in done.adapters():
            return f"a file that is not folded: outputs differ by {error:.2g}", None
        # Only the classes' bias: nothing of that operator may be loaded, and that is no success.
        np.savez(archive, **{"fc.bias": unfolded["fc.bias"]})
        done = Transfer(secateur, archive, noise(trained("digits_cnn_dynamo"), 2))
        if done.result.code != 1 or done.model is not None or set(done.fates()) != {"left"}:
            return f"a bias alone: exit {done.result.code}, {done.fates()}", None
    return None, "safetensors and npz"


def names(secateur, trained):
    """By name where names agree; a folded and an unfolded model with the same names are not mixed up."""
    source = trained("digits_cnn_bn")
    same = Transfer(secateur, source, noise(trained("digits_cnn_bn"), 2), "--require", "1")
    if same.model is None or same.account["by-structure"] or same.adapters():
        return f"same names: {same.result.why()}", None
    mixed = Transfer(secateur, source, noise(trained("digits_cnn_dynamo"), 2), "--match", "name", "--require", "1")
    if mixed.model is None or mixed.adapters() != {"batch-norm"}:
        return f"folded by name: {mixed.result.why()}, {mixed.adapters()}", None
    x = draw(source, 1)
    error = relative(outputs(source, x)[0], outputs(mixed.model, x)[0])
    return (f"outputs differ by {error:.2g}" if error > runtime.TOLERANCE else None), f"within {error:.1g}"


def pruned(secateur, trained):
    """A target that lost channels gets those of the source that it kept."""
    with tempfile.TemporaryDirectory(prefix="secateur-transfer-") as folder:
        paths = [os.path.join(folder, name) for name in ("source.onnx", "small.onnx", "history.json")]
        onnx.save(trained("resnet8_cifar10"), paths[0])
        cut = secateur.run("prune", "channels", paths[0], "--ratio", "0.4", "--history", paths[2], "-o", paths[1])
        if cut.code != 0:
            return cut.why(), None
        small = onnx.load(paths[1])
        x = draw(small, 1)
        expected = outputs(small, x)[0]
        target = noise(small, 2)
        without = Transfer(secateur, paths[0], target, "--match", "structure", "--require", "1")
        if without.result.code != 1:
            return f"without the history: exit {without.result.code}", None
        done = Transfer(secateur, paths[0], target, "--match", "structure", "--require", "1", "--pruned", paths[2])
        if done.model is None:
            return done.result.why(), None
        error = relative(expected, outputs(done.model, x)[0])
        return (f"outputs differ by {error:.2g}" if error > runtime.TOLERANCE else None), f"within {error:.1g}"


def refusals(secateur, trained):
    """Another architecture: little is loaded, everything is accounted for, and the gate holds."""
    done = Transfer(secateur, trained("lenet5_mnist"), noise(trained("resnet8_cifar10"), 2), "--match", "structure", "--require", "0.5")
    if done.result.code != 1 or done.model is not None:
        return f"exit {done.result.code}", None
    if not all(weight["fate"] in ("loaded", "adapted") or weight.get("why") for weight in done.account["weights"]):
        return "a weight is left without a reason", None
    if not all(weight["used"] or weight.get("why") for weight in done.account["source"]):
        return "a weight is unused without a reason", None
    return None, f"{done.fates()}"


def large(report, secateur, folder):
    arch = os.environ.get("SECATEUR_ARCH", "")
    skeleton = lambda name: os.path.join(arch, name + ".onnx")
    pretrained = os.path.join(folder, "models", "pretrained", "mobilenet_v2_torchvision_bn.onnx")
    recipes = {os.path.basename(model.path): model for model in corpus.corpus_models(("arch",))}
    pairs = [(pretrained, skeleton(name)) for name in ("ts-mobilenet_v2", "ts-mobilenet_v2_bn", "dynamo-mobilenet_v2")]
    pairs += [(skeleton(a), skeleton(b)) for kind in ("resnet18", "vit_tiny_patch16_224", "resnet18_bn", "bert_mini", "gpt2_mini", "bigru_tagger", "crnn_ocr", "unet_w16", "mobilenet_v3_small")
              for a, b in itertools.permutations(("ts-" + kind, "dynamo-" + kind.removesuffix("_bn")), 2)]
    for source, target in pairs:
        name = f"{os.path.basename(source)} into {os.path.basename(target)}"
        if not report.wants(name):
            continue
        if not (os.path.exists(source) and os.path.exists(target)):
            report.skipped(name, "SECATEUR_ARCH has no such model")
            continue
        recipe = recipes.get(os.path.basename(source))
        x = list(recipe.inputs(1).values()) if recipe else None
        judge(report, name, check_pair(secateur, onnx.load(source), onnx.load(target), 1e-3, x))
        if source == pretrained:
            judge(report, name + " classes", check_classes(secateur, onnx.load(source), onnx.load(target), 10))
            judge(report, name + " channels", check_channels(secateur, onnx.load(source), onnx.load(target), 1))
