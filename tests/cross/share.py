"""Where weights lie, against the onnx package and ONNX Runtime: models on one data file (`share`), data moved out (`convert-external`) and
in again (`single-file`). Every model that is written is accepted by the checker, holds the same tensors and gives the same bits.
"""

import os
import shutil
import tempfile

import onnx
from onnx import external_data_helper, numpy_helper

import corpus
import runtime

# Bytes of models beyond which a round trip is only made, not run.
LARGEST = 120_000_000


def check(report, secateur):
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-share-") as folder:
            try:
                problem, note = check_model(secateur, folder, model)
            except Skipped as why:
                report.skipped(model.name, str(why))
                continue
        report.failed(model.name, problem) if problem else report.passed(model.name, note)


class Skipped(Exception):
    """A model on which nothing can be said."""


def check_model(secateur, folder, model):
    reference = runs(model)
    apart, whole = os.path.join(folder, "apart.onnx"), os.path.join(folder, "whole.onnx")
    done = secateur.run("convert-external", model.path, "-o", apart, "--json")
    document = done.json() or {}
    if done.code == 1 and "no initializer" in str(document.get("reason")):
        return None, "nothing to move"
    if done.code != 0:
        return done.why(), None
    problem = same(model, reference, apart)
    if problem:
        return f"convert-external: {problem}", None
    if not document["tensors"]:
        return None, "what lies outside is small and has come in"
    if os.path.getsize(os.path.join(folder, os.path.basename(document["files"][1]))) > document["bytes"] * 2:
        return f"convert-external: {document['bytes']} bytes take {document['files']}", None
    done = secateur.run("single-file", apart, "-o", whole)
    if done.code != 0:
        return done.why(), None
    problem = same(model, reference, whole)
    if problem:
        return f"single-file: {problem}", None
    if canonical(model.path) and content(whole) != content(model.path):
        return "single-file: other bytes than the model had", None
    if reference is None:
        return None, "not run, as it is large"
    return check_shared(secateur, folder, model, reference)


def check_shared(secateur, folder, model, reference):
    """The model and a twin of it in another folder, with external data and one more output."""
    other = os.path.join(folder, "other")
    os.mkdir(other)
    twin = os.path.join(other, "twin.onnx")
    if not make_twin(model.path, twin):
        return None, "no output is a tensor"
    first = os.path.join(folder, "model.onnx")
    copy(model.path, folder, first)
    shared = os.path.join(folder, "shared")
    done = secateur.run("share", first, twin, "--data", "common.data", "-o", shared, "--json")
    if done.code != 0:
        return f"share: {done.why()}", None
    document = done.json()
    sizes = {name: os.path.getsize(os.path.join(shared, name)) for name in os.listdir(shared)}
    if document["after"] != sum(sizes.values()):
        return f"share: {document['after']} bytes are said, {sizes} are there", None
    if not document["shared"]["common"]:
        return "share: the twins have nothing in common", None
    if document["after"] > document["before"]:
        return f"share: {document['before']} bytes became {document['after']}", None
    for name, original in (("model.onnx", first), ("twin.onnx", twin)):
        path = os.path.join(shared, name)
        problem = same(model, None, path, original) or bits(reference, model, path)
        if problem:
            return f"share: {name}: {problem}", None
    return None, f"{document['before']} -> {document['after']} bytes"


def runs(model):
    """The outputs of a model, or None where it is large; skips those that do not run, or that give other bits the second time."""
    if size_of(model.path) > LARGEST:
        return None
    try:
        feeds = model.inputs(5)
        outputs = runtime.run(runtime.session(model.path), feeds)
        again = runtime.run(runtime.session(model.path), feeds)
    except Exception as error:
        raise Skipped(f"it does not run: {str(error)[:120]}") from None
    if not runtime.compare(outputs, again).equal:
        raise Skipped("it gives other outputs each time")
    return outputs


def same(model, reference, path, original=None):
    """What a written model has that the original has not, or the other way round."""
    if accepted(original or model.path) and not accepted(path):
        return "the checker refuses it"
    left, right = tensors(original or model.path), tensors(path)
    if list(left) != list(right):
        return f"tensors {sorted(set(left) ^ set(right))[:3]}"
    for key, (kind, dims, data) in left.items():
        if right[key] != (kind, dims, data):
            return f"tensor {key} is another"
    return bits(reference, model, path) if reference is not None else None


def accepted(path):
    try:
        onnx.checker.check_model(path)
    except Exception:
        return False
    return True


def bits(reference, model, path):
    if reference is None:
        return None
    found = runtime.run(runtime.session(path), model.inputs(5))
    difference = runtime.compare(reference, {name: found[name] for name in reference})
    return None if difference.equal else str(difference.reason)


def tensors(path):
    """The tensors of a model by their place, with their type, shape and elements."""
    model = onnx.load(path)
    found = {}
    for at, tensor in enumerate(external_data_helper._get_all_tensors(model)):
        if tensor.data_type == onnx.TensorProto.STRING:
            data = tuple(tensor.string_data)
        else:
            data = numpy_helper.to_array(tensor).tobytes()
        found[at, tensor.name] = (tensor.data_type, tuple(tensor.dims), data)
    return found


def make_twin(path, twin):
    """Whether there is one: a model that has an output twice."""
    model = onnx.load(path)
    graph = model.graph
    output = next((output for output in graph.output if output.type.HasField("tensor_type")), None)
    if output is None:
        return False
    graph.node.append(onnx.helper.make_node("Identity", [output.name], [f"{output.name}.twin"], name="twin"))
    graph.output.append(onnx.ValueInfoProto(name=f"{output.name}.twin", type=output.type))
    # ONNX Runtime does not read shapes from external data, so small tensors stay inside.
    onnx.save(model, twin, save_as_external_data=True, location="twin.weights", size_threshold=1024)
    return True


def copy(path, folder, target):
    """The model in another folder, with its external data."""
    shutil.copy(path, target)
    for tensor in external_data_helper._get_all_tensors(onnx.load(path, load_external_data=False)):
        for entry in tensor.external_data:
            if entry.key == "location":
                shutil.copy(os.path.join(os.path.dirname(path), entry.value), os.path.join(folder, entry.value))


def canonical(path):
    """Whether all elements stand in `raw_data`, no tensor says where, and the message is as protobuf itself writes it."""
    model = onnx.load(path, load_external_data=False)
    initializers = external_data_helper._get_initializer_tensors(model)
    plain = all(not tensor.HasField("data_location") and (tensor.HasField("raw_data") or small(tensor)) for tensor in initializers)
    return plain and model.SerializeToString() == content(path)


def small(tensor):
    """Whether a tensor stays in the model whatever its elements stand in."""
    return tensor.data_type == onnx.TensorProto.STRING or numpy_helper.to_array(tensor).nbytes < 1024


def size_of(path):
    model = onnx.load(path, load_external_data=False)
    locations = {
        entry.value
        for tensor in external_data_helper._get_all_tensors(model)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [path, *(os.path.join(os.path.dirname(path), location) for location in locations)]
    return sum(map(os.path.getsize, files))


def content(path):
    with open(path, "rb") as file:
        return file.read()
