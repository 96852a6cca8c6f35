"""`chain` against ONNX Runtime and the onnx package.

Preprocessing before every network under `models/` (or the fixtures) that takes images, and every network cut at values in its middle and chained again: the result has
to give the bits that both models give one after the other (and those of the original). Where both speak one opset, the result of
`onnx.compose.merge_models` has to agree as well.
"""

import os
import tempfile

import numpy as np
import onnx
import onnx.compose
from onnx import TensorProto, helper, numpy_helper

import corpus
import runtime

# Values at which each network is cut, at most.
CUTS = 3
# Larger files take minutes and show nothing more.
LARGEST = 30 << 20


def preprocessing(channels, opset):
    """Bytes [batch, height, width, channels] as planes around 0; its input is called as that of many networks is."""
    nodes = [
        helper.make_node("Cast", ["input"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["t", "mean"], ["s"]),
        helper.make_node("Div", ["s", "scale"], ["output"]),
    ]
    value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)
    graph = helper.make_graph(
        nodes, "preprocessing",
        [value("input", TensorProto.UINT8, ["images", "high", "wide", channels])],
        [value("output", TensorProto.FLOAT, ["images", channels, "high", "wide"])],
        [numpy_helper.from_array(np.full((channels, 1, 1), 127.5, np.float32), "mean"),
         numpy_helper.from_array(np.full((), 64, np.float32), "scale")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model, feeds):
    session = runtime.session(model if isinstance(model, str) else model.SerializeToString())
    return runtime.run(session, feeds)


def same(a, b):
    return set(a) == set(b) and runtime.compare(a, {name: b[name] for name in a}).equal


def inputs(model):
    defaults = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in defaults]


def before(secateur, path, model, feeds):
    """None or a problem, and a note: preprocessing before the network."""
    taken = inputs(model)[0]
    image = feeds[taken.name]
    opset = next((entry.version for entry in model.opset_import if entry.domain == ""), 0)
    notes = []
    for version in sorted({opset, 18}):
        pre = preprocessing(image.shape[1], version)
        pixels = np.random.default_rng(3).integers(0, 256, (image.shape[0], *image.shape[2:], image.shape[1]), np.uint8)
        planes = run(pre, {"input": pixels})["output"]
        # What a caller may replace is no constant, and a conversion that asks for one is not to be had.
        if version != opset and (opset > version or len(inputs(model)) != len(model.graph.input)):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-chain-") as folder:
            first, out = os.path.join(folder, "pre.onnx"), os.path.join(folder, "out.onnx")
            onnx.save(pre, first)
            done = secateur.run("chain", first, path, "-o", out, "--json")
            if done.code != 0:
                if version != opset and "opset" in done.why():
                    notes.append(f"opset {opset} is not converted to {version}")
                    continue
                return done.why(), None
            chained = onnx.load(out)
        onnx.checker.check_model(chained)
        if version == opset:
            reference = run(model, {**feeds, taken.name: planes})
            found = run(chained, {"input": pixels})
            if not same(reference, found):
                return f"opset {version}: other bits than both in a row", None
            try:
                model.ir_version = pre.ir_version = max(model.ir_version, pre.ir_version)
                merged = onnx.compose.merge_models(pre, model, io_map=[("output", taken.name)], prefix1="first_")
                if not same(run(merged, {"first_input": pixels}), found):
                    return "other bits than merge_models", None
                notes.append("as merge_models")
            except (ValueError, TypeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
                notes.append(f"merge_models: {str(error)[:60]}")
        else:
            reference, found = run(model, {**feeds, taken.name: planes}), run(chained, {"input": pixels})
            worst = max(runtime.compare({name: reference[name]}, {name: found[name]}).relative for name in reference)
            if not worst <= runtime.TOLERANCE:
                return f"opset {opset} with {version}: outputs differ by {worst:.2g}", None
    return None, "; ".join(notes)


def cuts(model):
    """Names of values that everything behind them depends on alone: with them the network falls into two parts."""
    consumers, order = {}, []
    held = {tensor.name for tensor in model.graph.initializer} | {""}
    for at, node in enumerate(model.graph.node):
        for name in node.input:
            consumers[name] = at
    for value in model.graph.output:
        consumers[value.name] = len(model.graph.node)
    constants = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    live = {value.name for value in inputs(model)}
    for at, node in enumerate(model.graph.node):
        if node.op_type == "Constant":
            continue
        live |= set(node.output) - {""}
        live = {name for name in live if consumers.get(name, -1) > at and name not in held | constants}
        if len(live) == 1:
            order.append(next(iter(live)))
    names = [name for name in dict.fromkeys(order) if name not in {value.name for value in model.graph.output}]
    return [names[at] for at in np.linspace(0, len(names) - 1, min(CUTS, len(names))).astype(int)] if names else []


def middle(secateur, path, model, feeds):
    original = run(path, feeds)
    bodies = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    names = [] if bodies else cuts(model)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="secateur-chain-") as folder:
            parts = [os.path.join(folder, part) for part in ("backbone.onnx", "head.onnx", "out.onnx")]
            outputs = [flag for value in model.graph.output for flag in ("--outputs", value.name)]
            for arguments in ((path, "--outputs", name, "-o", parts[0]), (path, "--inputs", name, *outputs, "-o", parts[1])):
                done = secateur.run("extract", *arguments, "--json")
                if done.code != 0:
                    return f"extract at {name}: {done.why()}", None
            done = secateur.run("chain", parts[0], parts[1], "-o", parts[2], "--json")
            if done.code != 0:
                return f"at {name}: {done.why()}", None
            if not same(original, run(parts[2], feeds)):
                return f"at {name}: other bits than the original", None
    return None, f"cut at {len(names)} values"


def check(report, secateur):
    for entry in corpus.corpus_models(("models",)) or corpus.fixture_models():
        if not report.wants(entry.name) or os.path.getsize(entry.path) > LARGEST:
            continue
        model = onnx.load(entry.path)
        feeds = entry.inputs(1)
        given = inputs(model)
        if any(node.op_type.startswith("Random") for node in model.graph.node):
            report.skipped(entry.name, "it is random")
            continue
        try:
            run(entry.path, feeds)
        except Exception as error:  # pylint: disable=broad-except
            report.skipped(entry.name, f"ONNX Runtime does not run it: {str(error)[:80]}")
            continue
        image = feeds.get(given[0].name) if given else None
        if len(given) == 1 and image is not None and image.ndim == 4 and image.dtype == np.float32 and image.shape[1] in (1, 3):
            problem, note = before(secateur, entry.path, onnx.load(entry.path), feeds)
            (report.failed if problem else report.passed)(entry.name + " behind preprocessing", problem or note)
        problem, note = middle(secateur, entry.path, model, feeds)
        (report.failed if problem else report.passed)(entry.name + " cut and chained", problem or note)
