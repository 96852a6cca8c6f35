"""secateur's inferred types and shapes against onnx.shape_inference and against the shapes that ONNX Runtime produces.

An inferred size is unknown or right: it may say less than the oracles, never something else. A symbol stands for one size in the
whole model. Where onnx.shape_inference and the run disagree, the run is right.
"""

import onnx

import corpus
import models
import runtime


def check(report, secateur):
    totals = {"values": 0, "known": 0, "sizes": 0}
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        result = secateur.run("inspect", model.path, "--values", "--json")
        document = result.json()
        values = document.get("values") if isinstance(document, dict) else document
        if result.code != 0 or not isinstance(values, list):
            report.failed(model.name, result.why())
            continue
        inferred = {entry["name"]: entry for entry in values if entry.get("name")}
        actual = run_time_shapes(model)
        problems = contradictions(inferred, actual, onnx_shapes(model.path), totals)
        if problems:
            report.failed(model.name, "; ".join(problems[:5]) + (f"; {len(problems) - 5} more" if len(problems) > 5 else ""))
        else:
            report.passed(model.name, f"{len(inferred)} values, {len(actual)} seen at run time")
    if totals["sizes"]:
        report.note(f"shapes: {totals['known']} of {totals['sizes']} sizes of {totals['values']} values that ran are numbers or symbols")


def onnx_shapes(path):
    """{name: (dtype, shape)} for the main graph, from the graph's inputs alone: recorded value_info may be wrong."""
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        return {}
    found = {}
    for value in model.graph.value_info:
        described = models.value_shape(value)
        if described:
            found[value.name] = described
    return found


def run_time_shapes(model):
    """{name: (dtype, shape)} of every value of the main graph that ONNX Runtime can return as a tensor."""
    source = onnx.load(model.path)
    del source.graph.value_info[:]
    listed = {value.name for value in source.graph.output}
    for node in source.graph.node:
        for name in node.output:
            if name and name not in listed:
                source.graph.output.append(onnx.ValueInfoProto(name=name))
                listed.add(name)
    try:
        session = runtime.session(source.SerializeToString())
        outputs = runtime.run(session, model.inputs(1))
    except Exception:
        session = runtime.session(model.path)
        outputs = runtime.run(session, model.inputs(1))
    found = {name: feed for name, feed in model.inputs(1).items()}
    found.update((name, value) for name, value in outputs.items() if hasattr(value, "shape"))
    return {name: (dtype_name(value.dtype), list(value.shape)) for name, value in found.items()}


def dtype_name(dtype):
    return {"object": "string", "str": "string"}.get(dtype.name, dtype.name) if dtype.kind not in "US" else "string"


def same_dtype(left, right):
    names = {"float": "float32", "double": "float64", "boolean": "bool"}
    return names.get(left, left) == names.get(right, right)


def contradictions(inferred, actual, oracle, totals):
    problems, symbols = [], {}
    for name, entry in inferred.items():
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if name in actual:
            totals["values"] += 1
            totals["sizes"] += len(actual[name][1])
            totals["known"] += sum(1 for dim in shape or [] if dim is not None)
            problems += against_run(name, dtype, shape, actual[name], symbols)
        elif name in oracle:
            problems += against_onnx(name, dtype, shape, oracle[name])
    return problems


def against_run(name, dtype, shape, actual, symbols):
    if dtype and not same_dtype(dtype, actual[0]):
        return [f"{name}: {dtype}, at run time {actual[0]}"]
    if shape is None:
        return []
    if len(shape) != len(actual[1]):
        return [f"{name}: {shape}, at run time {actual[1]}"]
    problems = []
    for dim, size in zip(shape, actual[1]):
        if isinstance(dim, int) and dim != size:
            problems.append(f"{name}: {shape}, at run time {actual[1]}")
            break
        if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
            problems.append(f"{name}: symbol {dim} is {size}, elsewhere {symbols[dim]}")
            break
    return problems


def against_onnx(name, dtype, shape, oracle):
    element, sizes = oracle
    named = onnx.TensorProto.DataType.Name(element).lower() if element else None
    if dtype and named and not same_dtype(dtype, named):
        return [f"{name}: {dtype}, onnx infers {named}"]
    if shape is None or sizes is None:
        return []
    # onnx carries sizes below zero through from models that declare them: they say that the size is unknown.
    clash = any(isinstance(a, int) and isinstance(b, int) and 0 <= b != a for a, b in zip(shape, sizes))
    if len(shape) != len(sizes) or clash:
        return [f"{name}: {shape}, onnx infers {sizes}"]
    return []
