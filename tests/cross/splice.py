"""`transfer structure` against ONNX Runtime and the onnx checker.

A region of one export replaces the same region of another one: other opset and IR version, names that collide or are others, weights in
external files, local functions of the same name with other bodies. The part alone (cut out by the onnx package) and the spliced model
have to agree bit for bit in ONNX Runtime, and so has what follows the part. Then fresh weights, and an operator that stands in the way.
"""

import os
import tempfile

import numpy as np
import onnx
import onnx.parser
from onnx import helper, numpy_helper

import corpus
import runtime

# Source, target, operator type, and which of its nodes the region is between (by their outputs).
REGIONS = (
    ("digits_cnn_dynamo", "digits_cnn", "Clip", 0, "Relu", 0),
    ("digits_cnn", "digits_cnn_dynamo", "Clip", 0, "Relu", 0),
    ("digits_cnn_bn", "digits_cnn_bn", "Clip", 0, "Relu", 0),
    ("resnet8_cifar10_bn", "resnet8_cifar10_dynamo", "Relu", 0, "Relu", 2),
    ("resnet8_cifar10_dynamo", "resnet8_cifar10_bn", "Relu", 0, "Relu", 4),
    ("lenet5_mnist_dynamo", "lenet5_mnist", "MaxPool", 0, "Relu", 0),
)
FORMS = ("plain", "external", "functions")


def value(model, operator, index):
    return [node for node in model.graph.node if node.op_type == operator][index].output[0]


def with_function(model, body):
    """Every Relu as a call of `local.act`, which has the given nodes from `v` to `w`."""
    opset = helper.make_opsetid("", model.opset_import[0].version)
    nodes = onnx.parser.parse_graph("g (float[n] v) => (float[n] w) { %s }" % body).node
    model.functions.append(helper.make_function("local", "act", ["v"], ["w"], nodes, [opset]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "act", "local"
    return model


def cut(model, inputs, outputs):
    """The part of a model, by the onnx package."""
    model = onnx.shape_inference.infer_shapes(model)
    return onnx.utils.Extractor(model).extract_model(inputs, outputs)


def bits(model, feeds):
    session = runtime.session(model.SerializeToString())
    return [np.ascontiguousarray(out) for out in session.run(None, feeds)]


def exposed(model, names):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return copy


def check_region(secateur, load, region, form):
    source, target = load(region[0]), load(region[1])
    source_cut, target_cut = [(value(model, *region[2:4]), value(model, *region[4:6])) for model in (source, target)]
    original = load(region[1])
    if form == "functions":
        source = with_function(source, "t = Relu (v) u = Neg (t) w = Neg (u)")
        target = with_function(target, "w = Relu (v)")
    with tempfile.TemporaryDirectory(prefix="secateur-splice-") as folder:
        paths = [os.path.join(folder, name) for name in ("source.onnx", "target.onnx", "out.onnx")]
        for model, path in ((source, paths[0]), (target, paths[1])):
            onnx.save(model, path, save_as_external_data=form == "external", location=os.path.basename(path) + ".data", size_threshold=0)
        source, target = onnx.load(paths[0]), onnx.load(paths[1])
        result = secateur.run("transfer", "structure", paths[1], "--from", paths[0], "--inputs", source_cut[0], "--outputs", source_cut[1],
                              "--into-inputs", target_cut[0], "--into-outputs", target_cut[1], "-o", paths[2], "--json")
        if result.code != 0:
            return result.why()
        if form == "external" and not any(name.startswith("out") and not name.endswith(".onnx") for name in os.listdir(folder)):
            return "no external data was written"
        onnx.checker.check_model(paths[2], full_check=True)
        spliced = onnx.load(paths[2])
    newest = max(source.opset_import[0].version, target.opset_import[0].version)
    if (spliced.opset_import[0].version, spliced.ir_version) != (newest, max(source.ir_version, target.ir_version, spliced.ir_version)):
        return f"opset {spliced.opset_import[0].version}, IR version {spliced.ir_version}"
    if form == "functions" and sorted(function.name for function in spliced.functions) != ["act", "source_act"]:
        return f"functions {[function.name for function in spliced.functions]}"
    produced = {name for node in spliced.graph.node for name in node.output}
    ends = "source/" + source_cut[1] if "source/" + source_cut[1] in produced else source_cut[1]
    shape = [dim.dim_value or 2 for dim in target.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    outputs = [output.name for output in target.graph.output]
    found = bits(exposed(spliced, [target_cut[0], ends, *outputs]), {target.graph.input[0].name: x})
    alone = bits(cut(source, [source_cut[0]], [source_cut[1]]), {source_cut[0]: found[0]})
    if not np.array_equal(alone[0], found[1]):
        return f"the part alone differs by {np.abs(alone[0] - found[1]).max():.2g}"
    behind = bits(cut(target, [target_cut[1]], outputs), {target_cut[1]: found[1]})
    if not np.array_equal(behind[0], found[2]):
        return f"what follows differs by {np.abs(behind[0] - found[2]).max():.2g}"
    if not np.abs(found[1]).max() > 0:
        return "the part gives zeros"
    return None if original.graph.output[0].name == outputs[0] else "another output"


BLOCKED = """<ir_version: 7, opset_import: ["": 13]>
g (float[n,c,h,w] x) => (float[n,c,h,w] y) <float[32] s = {S}, float[32] t = {S}, float[32] m = {S}, float[32] v = {S}> {
  stem = Relu (x)
  y, a, b, c, d = BatchNormalization (stem, s, t, m, v)
}"""


def blocked(secateur, load):
    """An operator that has no form in the newer opset: it is named, and nothing is written."""
    target = load("digits_cnn")
    source = onnx.parser.parse_model(BLOCKED.replace("{S}", "{%s}" % ", ".join(["1"] * 32)))
    with tempfile.TemporaryDirectory(prefix="secateur-splice-") as folder:
        paths = [os.path.join(folder, name) for name in ("source.onnx", "target.onnx", "out.onnx")]
        onnx.save(source, paths[0])
        onnx.save(target, paths[1])
        end = value(target, "Relu", 0)
        result = secateur.run("transfer", "structure", paths[1], "--from", paths[0], "--into-inputs", end, "--into-outputs", end, "-o", paths[2],
                              "--json")
        if result.code != 2 or os.path.exists(paths[2]):
            return f"exit {result.code}"
        return None if "BatchNormalization" in result.why() and "source" in result.why() else result.why()


def fresh(secateur, load):
    """New weights: spread by fan, biases zero, the same for the same seed, another for another."""
    source = load("resnet8_cifar10_bn")
    made = []
    with tempfile.TemporaryDirectory(prefix="secateur-splice-") as folder:
        path = os.path.join(folder, "source.onnx")
        onnx.save(source, path)
        for at, seed in enumerate(("1", "1", "2")):
            out = os.path.join(folder, f"out{at}.onnx")
            result = secateur.run("transfer", "structure", path, "--init", "xavier", "--seed", seed, "-o", out)
            if result.code != 0:
                return result.why()
            onnx.checker.check_model(out, full_check=True)
            made.append(onnx.load(out))
    if made[0].graph != made[1].graph or made[0].graph == made[2].graph:
        return "the seed does not decide"
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in made[0].graph.initializer}
    for node in made[0].graph.node:
        if node.op_type == "Conv":
            weight = weights[node.input[1]]
            place = int(np.prod(weight.shape[2:]))
            bound = np.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * place))
            deviation = weight.std() / (bound / np.sqrt(3))
            if np.abs(weight).max() > bound or abs(deviation - 1) > 0.12 or abs(weight.mean()) > bound / 10:
                return f"{node.name}: deviation {deviation:.2f} of what the fan says"
        if node.op_type == "BatchNormalization" and not (weights[node.input[4]] == 1).all():
            return f"{node.name}: a variance is not one"
    return None


def check(report, secateur):
    folder = corpus.folder()
    if not folder:
        report.skipped("splice", "there is no corpus")
        return
    load = lambda name: onnx.load(os.path.join(folder, "models", "trained", name + ".onnx"))
    for region in REGIONS:
        for form in FORMS:
            name = f"{region[0]} into {region[1]}, {form}"
            if report.wants(name):
                problem = check_region(secateur, load, region, form)
                (report.failed if problem else report.passed)(name, problem or "")
    for case in (blocked, fresh):
        if report.wants(case.__name__):
            problem = case(secateur, load)
            (report.failed if problem else report.passed)(case.__name__, problem or "")
