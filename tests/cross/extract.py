"""`secateur extract` on every model at random cuts: a part's outputs are the whole model's intermediate values, bit for bit.

Both run in ONNX Runtime without graph optimisation, on one thread and without prepacked weights. A cut is a seeded pair of places in
the node order: the part computes one or two values behind the second place from all that crosses the first. Models with external
data are among them, and with SECATEUR_CROSS_LARGE=1 one of more than 2 GB (5 GB of disk, 6 GB of memory), made here.

ONNX Runtime computes float16 in float32 where it has no kernel and does not round between two such nodes, so a value that it shows is
not the one that the next node reads. Where float16 is cut, the reference is the part that onnx.utils cuts out.
"""

import os
import random
import tempfile
import zlib

import numpy as np
import onnx
import onnx.utils
from onnx import TensorProto, helper

import corpus
import runtime

PAIRS = 3
TRIES = 50


def check(report, secateur):
    for model in corpus.every_model():
        if report.wants(model.name):
            with tempfile.TemporaryDirectory(prefix="secateur-extract-") as folder:
                check_model(report, secateur, model, folder)
    name = "made/external-data"
    if report.wants(name):
        with tempfile.TemporaryDirectory(prefix="secateur-extract-") as folder:
            check_stored_outside(report, secateur, name, folder, width=64, layers=4)
    name = "made/over-2-gb"
    if report.wants(name):
        if os.environ.get("SECATEUR_CROSS_LARGE") != "1":
            report.skipped(name, "SECATEUR_CROSS_LARGE is not 1")
            return
        with tempfile.TemporaryDirectory(prefix="secateur-extract-") as folder:
            check_stored_outside(report, secateur, name, folder, width=13500, layers=4)


class Cut:
    def __init__(self, inputs, outputs):
        self.inputs = inputs
        self.outputs = outputs


class Uses:
    """Where the values of a main graph come from and which nodes read them."""

    def __init__(self, graph):
        self.nodes = list(graph.node)
        stored = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
        self.made = {value.name: -1 for value in graph.input if value.name not in stored}
        for at, node in enumerate(self.nodes):
            for name in node.output:
                if name:
                    self.made[name] = at
        self.reads = [sorted(self.names_in(node)) for node in self.nodes]

    def names_in(self, node):
        """The values of the main graph that a node reads, by its bodies, too."""
        found = {name for name in node.input if name in self.made}
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                own = {value.name for value in body.input} | {name for inner in body.node for name in inner.output}
                read = {name for inner in body.node for name in self.names_in(inner)}
                read |= {value.name for value in body.output if value.name in self.made}
                found |= read - own
        return found

    def cut(self, first, ends):
        """What has to be given so that `ends` follow from the nodes from place `first` on. Constant nodes are never given."""
        given, seen, pending = set(), set(), list(ends)
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            at = self.made[name]
            if at < 0 or (at < first and self.nodes[at].op_type != "Constant"):
                given.add(name)
            else:
                pending.extend(self.reads[at])
        return sorted(given, key=lambda name: (self.made[name], name))


def draw_cuts(graph, seed):
    """Up to PAIRS cuts, no two alike."""
    uses, rng, cuts = Uses(graph), random.Random(seed), []
    places = [at for at, node in enumerate(uses.nodes) if node.op_type != "Constant"]
    for _ in range(TRIES):
        if len(cuts) == PAIRS or not places:
            break
        last = rng.choice(places)
        first = rng.randint(0, last)
        ends = [rng.choice([name for name in uses.nodes[last].output if name])]
        other = rng.choice([name for name in uses.nodes[rng.choice([at for at in places if first <= at <= last])].output if name])
        if rng.random() < 0.5 and other not in ends:
            ends.append(other)
        inputs = uses.cut(first, ends)
        if inputs and not set(inputs) & set(ends) and all((cut.inputs, cut.outputs) != (inputs, ends) for cut in cuts):
            cuts.append(Cut(inputs, ends))
    return cuts


def exposed(source, names):
    """The model with these values among its outputs."""
    known = {value.name for value in source.graph.output}
    for name in names:
        if name not in known:
            source.graph.output.append(onnx.ValueInfoProto(name=name))
            known.add(name)
    return source


def is_valid(path):
    try:
        onnx.checker.check_model(path)
    except Exception:
        return False
    return True


def check_model(report, secateur, model, folder):
    source = onnx.load(model.path)
    cuts = draw_cuts(source.graph, zlib.crc32(model.name.encode()))
    if not cuts:
        report.skipped(model.name, "no node depends on an input")
        return
    feeds = model.inputs(1)
    wanted = [name for cut in cuts for name in cut.inputs + cut.outputs]
    given = {value.name for value in source.graph.input}
    whole = exposed(source, [name for name in wanted if name not in given])
    try:
        values = {**feeds, **runtime.run(runtime.session(whole.SerializeToString()), feeds)}
    except Exception as error:
        report.skipped(model.name, "ONNX Runtime does not show its values: " + str(error).strip().splitlines()[0][:200])
        return
    valid = is_valid(model.path)
    for at, cut in enumerate(cuts):
        name = f"{model.name} [{at}]"
        target = os.path.join(folder, f"{at}.onnx")
        reference = {**values}
        if any(getattr(values[value], "dtype", None) == np.float16 for value in cut.inputs):
            onnx.utils.extract_model(model.path, target, cut.inputs, cut.outputs, check_model=False)
            reference.update(runtime.run(runtime.session(target), {value: values[value] for value in cut.inputs}))
        problem = examine(secateur, model.path, cut, target, reference, valid)
        if problem:
            report.failed(name, f"{cut.inputs[:4]} -> {cut.outputs}: {problem}")
        else:
            report.passed(name, f"{len(cut.inputs)} inputs -> {cut.outputs}")


def examine(secateur, path, cut, target, values, valid):
    """What is wrong with one part, or None."""
    flags = [flag for name in cut.inputs for flag in ("--inputs", name)]
    flags += [flag for name in cut.outputs for flag in ("--outputs", name)]
    result = secateur.run("extract", path, *flags, "-o", target, "--force", "-v")
    if result.code != 0:
        return result.why()
    interface = onnx.load(target, load_external_data=False).graph
    ranked = all(not value.type.HasField("tensor_type") or value.type.tensor_type.HasField("shape")
                 for value in [*interface.input, *interface.output])
    if not ranked and "rank of" not in result.stdout + result.stderr:
        return "a rank is not known, and nothing says so"
    if valid and ranked:
        try:
            onnx.checker.check_model(target)
        except Exception as error:
            return "onnx.checker: " + str(error).strip().splitlines()[0][:200]
    try:
        session = runtime.session(target)
        inputs = [value.name for value in session.get_inputs()]
        if inputs != cut.inputs:
            return f"inputs are {inputs} instead of {cut.inputs}"
        found = runtime.run(session, {name: values[name] for name in cut.inputs})
    except Exception as error:
        return "ONNX Runtime: " + str(error).strip().splitlines()[0][:300]
    if list(found) != cut.outputs:
        return f"outputs are {list(found)} instead of {cut.outputs}"
    for name in cut.outputs:
        left, right = list(runtime.flatten(values[name])), list(runtime.flatten(found[name]))
        if len(left) != len(right) or not all(runtime.same_bits(a, b) for a, b in zip(left, right)):
            return f"{name} is not equal: {runtime.compare({name: values[name]}, {name: found[name]}).reason}"
    return None


def check_stored_outside(report, secateur, name, folder, width, layers):
    """A chain of products whose weights stand in another file, cut so that the part holds all of them but the first."""
    path, data = os.path.join(folder, "model.onnx"), "weights.bin"
    nodes, stored, size = [], [], 4 * width * width
    with open(os.path.join(folder, data), "wb") as file:
        for at in range(layers):
            row = np.random.default_rng(at).uniform(-1, 1, (width, 1)).astype(np.float32)
            # Rows are rotations of one row, so that a large matrix is made quickly and is no constant.
            for start in range(width):
                file.write(np.roll(row[:, 0], start).tobytes())
            tensor = TensorProto(name=f"w{at}", dims=[width, width], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
            for key, value in (("location", data), ("offset", at * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            stored.append(tensor)
            nodes.append(helper.make_node("MatMul", [f"h{at}", f"w{at}"], [f"h{at + 1}"]))
    inputs = [helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, width])]
    outputs = [helper.make_tensor_value_info(f"h{at}", TensorProto.FLOAT, [1, width]) for at in range(1, layers + 1)]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with open(path, "wb") as file:
        file.write(made.SerializeToString())
    feeds = {"h0": np.random.default_rng(9).uniform(-1, 1, (1, width)).astype(np.float32)}
    values = {**feeds, **runtime.run(runtime.session(path), feeds)}
    for cut in (Cut(["h1"], [f"h{layers}"]), Cut(["h0"], ["h1"])):
        target = os.path.join(folder, "part.onnx")
        problem = examine(secateur, path, cut, target, values, True)
        held = 4 * width * width * (layers - 1 if cut.inputs == ["h1"] else 1)
        written = sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder) if file.startswith("part."))
        if problem is None and not held <= written <= held + 65536:
            problem = f"{written} bytes written for {held} bytes of weights"
        label = f"{name} {cut.inputs} -> {cut.outputs}"
        (report.failed if problem else report.passed)(label, problem or f"{written} bytes")
        for file in os.listdir(folder):
            if file.startswith("part."):
                os.remove(os.path.join(folder, file))
