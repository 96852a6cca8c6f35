"""Containers: what secateur packs, a reader that was written from docs/container.md unpacks, byte for byte, and so does secateur.

Every model of the corpus goes both ways with secateur; the reader, which is plain Python, takes those with small graphs, all ways of
storing tensors among them, a model with external data, and pairs of a model and its base.
"""

import os
import random
import shutil
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

import container_reader
import corpus

# Bytes of a container and of a model that the reader takes: it needs some 0.2 ms for each byte of a graph.
LARGEST_GRAPH, LARGEST = 20_000, 300_000
NODE_TESTS = 40


def check(report, secateur):
    with tempfile.TemporaryDirectory(prefix="secateur-container-") as folder:
        paths = {model.name: model.path for model in corpus.every_model()}
        paths.update(node_tests(folder))
        paths.update(made(folder))
        for name, path in sorted(paths.items()):
            if report.wants(name):
                answer(report, name, both(secateur, folder, path))
        for name, base, path in pairs(folder):
            if report.wants(name):
                answer(report, name, with_base(secateur, folder, base, path))
        for name, problem in damaged(secateur, folder):
            answer(report, name, problem)


def answer(report, name, problem):
    report.failed(name, problem) if problem else report.passed(name)


def node_tests(folder):
    """A few of the ONNX node tests, which have every element type among their constants."""
    archive = os.path.join(corpus.folder() or "", "onnx-node-tests.tgz")
    if not os.path.exists(archive):
        return {}
    shutil.unpack_archive(archive, os.path.join(folder, "node-tests"))
    found = []
    for place, _, names in os.walk(os.path.join(folder, "node-tests")):
        found += [os.path.join(place, name) for name in names if name == "model.onnx"]
    chosen = random.Random(21).sample(sorted(found), NODE_TESTS)
    return {f"node test {os.path.basename(os.path.dirname(path))}": path for path in chosen}


def model_of(tensors):
    identity = helper.make_node("Identity", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"]
    return helper.make_model(helper.make_graph([identity], "g", value[:1], value[1:], tensors))


def made(folder):
    """Models with one tensor for each way in which a block is stored, and one whose data lie in three files."""
    rng = np.random.default_rng(21)
    weights = (rng.standard_normal((40, 9, 3, 3)) * rng.uniform(0.01, 1, (40, 1, 1, 1))).astype(np.float32)
    sparse = np.where(np.abs(weights) < 0.5, 0, weights).astype(np.float32)
    arrays = {
        "weights": weights,
        "half": weights.astype(np.float16),
        "double": weights.astype(np.float64),
        "sparse": sparse,
        "levels": np.round(weights * 4).astype(np.float32) / 4,
        "fill": np.full(1000, 1.5, np.float32),
        "codes": np.clip(np.round(weights * 60), -128, 127).astype(np.int8),
        "unsigned": np.clip(np.round(weights * 30) + 128, 0, 255).astype(np.uint8),
        "places": np.arange(3000, dtype=np.int64) * 7 % 1000,
        "wide": rng.integers(-(2**40), 2**40, 500),
        "special": np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45] * 60, np.float32),
        "random": rng.integers(0, 256, 5000).astype(np.uint8),
    }
    model = model_of([numpy_helper.from_array(array, name) for name, array in arrays.items()])
    model.graph.initializer.append(helper.make_tensor("int4", onnx.TensorProto.INT4, [600], rng.integers(-8, 8, 600)))
    model.graph.initializer.append(helper.make_tensor("typed", onnx.TensorProto.FLOAT, [360], weights.ravel()[:360]))
    paths = {"made ways": os.path.join(folder, "ways.onnx"), "made external": os.path.join(folder, "external.onnx")}
    onnx.save(model, paths["made ways"])
    onnx.save(model, paths["made external"], save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=1024)
    return paths


def pairs(folder):
    rng = np.random.default_rng(22)
    weights = rng.standard_normal((60, 100)).astype(np.float32) / 10
    head = rng.standard_normal((10, 60)).astype(np.float32)
    variants = {
        "tuned": (weights + rng.standard_normal(weights.shape).astype(np.float32) / 1e5, head),
        "pruned": (np.where(np.abs(weights) < 0.1, 0, weights).astype(np.float32), head),
        "other head": (weights, rng.standard_normal((7, 60)).astype(np.float32)),
    }
    base = os.path.join(folder, "base.onnx")
    for path, (first, second) in {base: (weights, head)}.items():
        onnx.save(model_of([numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "head")]), path)
    for name, (first, second) in variants.items():
        path = os.path.join(folder, f"{name}.onnx")
        onnx.save(model_of([numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "head")]), path)
        yield f"base and {name}", base, path


def content(path):
    with open(path, "rb") as file:
        return file.read()


def files_of(path):
    """The model and its external data as the reader answers them."""
    found = {"": content(path)}
    for tensor in onnx.external_data_helper._get_all_tensors(onnx.load(path, load_external_data=False)):
        for entry in tensor.external_data:
            if entry.key == "location":
                found[entry.value] = content(os.path.join(os.path.dirname(path), entry.value))
    return found


def both(secateur, folder, path):
    files = files_of(path)
    size = sum(map(len, files.values()))
    for speed in ("fast", "small") if size < 40_000_000 else ("fast",):
        packed, target = os.path.join(folder, "packed.sct"), os.path.join(folder, "unpacked")
        result = secateur.run("pack", path, "-o", packed, "--speed", speed, "--force", "--json")
        if result.code != 0:
            return result.why()
        shutil.rmtree(target, ignore_errors=True)
        os.mkdir(target)
        again = os.path.join(target, "m.onnx")
        undone = secateur.run("unpack", packed, "-o", again)
        if undone.code != 0:
            return undone.why()
        if content(again) != files[""]:
            return f"{speed}: the model is another"
        for location, data in files.items():
            if location and content(os.path.join(target, location)) != data:
                return f"{speed}: {location} is another"
        graph = result.json()["graph"]["bytes"]
        if graph < LARGEST_GRAPH and size < LARGEST and dict(container_reader.unpack(content(packed))) != files:
            return f"{speed}: the reader in Python gives something else"
        if os.path.getsize(packed) > size + 400:
            return f"{speed}: grew from {size} to {os.path.getsize(packed)} bytes"
    return None


def with_base(secateur, folder, base, path):
    packed = os.path.join(folder, "difference.sct")
    alone = os.path.join(folder, "alone.sct")
    for target, words in ((packed, ("--base", base)), (alone, ())):
        result = secateur.run("pack", path, "-o", target, "--force", *words)
        if result.code != 0:
            return result.why()
    if os.path.getsize(packed) * 5 > os.path.getsize(alone) * 3:
        return f"{os.path.getsize(packed)} bytes with the base, {os.path.getsize(alone)} without"
    again = os.path.join(folder, "again.onnx")
    result = secateur.run("unpack", packed, "-o", again, "--force")
    if result.code != 0 or content(again) != content(path):
        return f"not the same: {result.why()}"
    if container_reader.unpack(content(packed), base) != [("", content(path))]:
        return "the reader in Python gives something else"
    wrong = secateur.run("unpack", packed, "-o", os.path.join(folder, "never.onnx"), "--base", path, "--json")
    code = (wrong.json() or {}).get("error", {}).get("code")
    return None if (wrong.code, code) == (2, "container-base-other") else f"a wrong base: {wrong.why()}"


def damaged(secateur, folder):
    """A bit of each tensor's bytes changed: the tensor is named, and nothing is written."""
    path, packed = os.path.join(folder, "ways.onnx"), os.path.join(folder, "whole.sct")
    result = secateur.run("pack", path, "-o", packed, "--force", "--json")
    whole, at = bytearray(content(packed)), 10
    for tensor in result.json()["tensors"]:
        broken = bytearray(whole)
        broken[at + tensor["packed"] // 2] ^= 16
        at += tensor["packed"]
        with open(os.path.join(folder, "broken.sct"), "wb") as file:
            file.write(broken)
        never = os.path.join(folder, "never.onnx")
        refused = secateur.run("unpack", os.path.join(folder, "broken.sct"), "-o", never, "--json")
        error = (refused.json() or {}).get("error", {})
        good = refused.code == 2 and error.get("code") == "container-damaged" and error.get("value") == tensor["name"]
        yield f"damaged {tensor['name']}", None if good and not os.path.exists(never) else refused.why()
