"""`secateur verify` through each engine, against what ONNX Runtime says about the same pair of models.

Each model is compared with itself, with a renamed copy, with copies whose weights are off by very little and by a lot, and with
one whose last weight is NaN. The verdict has to be the one that follows from ONNX Runtime's own outputs, and with given data the
reported error has to be the one that ONNX Runtime's outputs have.
"""

import os
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

import corpus
import models
import runtime
import tool

NAMES = ("digits_mlp", "digits_cnn", "digits_cnn_bn", "digits_gru", "digits_vit", "lenet5_mnist")
TOLERANCE = 1e-4
# A pair is used only where ONNX Runtime's figure is this far from the tolerance, so that the verdict is not a matter of rounding.
MARGIN = 5.0
EXIT = {"equal": 0, "within": 0, "different": 1, "not-checked": 1}


def chosen():
    every = corpus.corpus_models(groups=("models",)) + corpus.fixture_models()
    found = {}
    for model in every:
        stem = os.path.splitext(os.path.basename(model.name))[0]
        if stem in NAMES:
            found.setdefault(stem, model)
    return [found[name] for name in NAMES if name in found]


def check(report, secateur):
    library = tool.onnxruntime_library()
    engines = [("tract", None)] + ([("ort", {"ORT_DYLIB_PATH": library})] if library else [])
    with tempfile.TemporaryDirectory(prefix="secateur-verify-") as folder:
        models_found = chosen()
        if not models_found:
            report.skipped("verify", "none of its models is here")
        for model in models_found:
            if report.wants(model.name):
                check_model(report, secateur, model, engines, folder)
        for engine, env in engines:
            not_checked(report, secateur, engine, env, folder)


def check_model(report, secateur, model, engines, folder):
    data = os.path.join(folder, "inputs.npz")
    feeds = model.inputs(3)
    np.savez(data, **feeds)
    session = runtime.session(model.path)
    expected = runtime.run(session, feeds)
    for kind, variant in variants(model.path):
        target = os.path.join(folder, f"{kind}.onnx")
        onnx.save(variant, target)
        difference = runtime.compare(expected, runtime.run(runtime.session(target), feeds))
        verdict = verdict_of(difference)
        for engine, env in engines:
            name = f"{model.name} [{kind}, {engine}]"
            if verdict is None:
                report.skipped(name, f"too near the tolerance: {difference.relative:.3g}")
                continue
            for flags in ((), ("--data", data)):
                label = name[:-1] + (", data]" if flags else "]")
                result = secateur.run("verify", model.path, target, "--engine", engine, "--json", *flags, env=env)
                problem = examine(result, engine, verdict, difference if flags and kind != "nan" else None)
                report.failed(label, problem) if problem else report.passed(label)


def verdict_of(difference):
    """The verdicts that ONNX Runtime's figures allow, or None near the tolerance."""
    if difference.equal:
        return ("equal",)
    if difference.relative <= TOLERANCE / MARGIN:
        return ("within", "equal")
    return ("different",) if difference.relative >= TOLERANCE * MARGIN else None


def examine(result, engine, verdicts, difference):
    document = result.json()
    if not isinstance(document, dict) or "verdict" not in document:
        return result.why()
    verdict = document["verdict"]
    # Another engine adds up in another order: bits that are equal in one may differ slightly in the other for a changed graph.
    if verdict not in verdicts:
        return f"verdict {verdict} instead of {' or '.join(verdicts)}"
    if result.code != EXIT[verdict]:
        return f"exit {result.code} with verdict {verdict}"
    if document.get("engine") != engine:
        return f"engine {document.get('engine')} instead of {engine}"
    if difference is None or not np.isfinite(difference.absolute) or verdict != "different":
        return None
    reported = [output.get("max_abs") for output in document.get("outputs", [])]
    if not reported or any(value is None for value in reported):
        return f"max_abs is {reported}"
    slack = 0.02 if engine == "tract" else 1e-4
    if abs(max(reported) - difference.absolute) > slack * difference.absolute:
        return f"max_abs {max(reported):.6g}, by ONNX Runtime's outputs {difference.absolute:.6g}"
    return None


def variants(path):
    """(kind, model) pairs: from the same bits to clearly different."""
    yield "same", onnx.load(path)
    yield "renamed", renamed(onnx.load(path))
    for kind, change in (("nudged", 1e-6), ("off", 0.3)):
        model = onnx.load(path)
        noise = np.random.default_rng(11)
        for tensor in large_floats(model):
            values = numpy_helper.to_array(tensor)
            factor = 1 + change * noise.uniform(-1, 1, values.shape)
            tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
        yield kind, model
    model = onnx.load(path)
    tensor = large_floats(model)[-1]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[-1] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    yield "nan", model


def large_floats(model):
    return [tensor for tensor in models.tensors(model) if tensor.data_type == onnx.TensorProto.FLOAT and models.element_count(tensor.dims) > 8]


def renamed(model):
    """The same model with every inner value under another name."""
    kept = {value.name for value in list(model.graph.input) + list(model.graph.output)}
    del model.graph.value_info[:]

    def name(old):
        return old if not old or old in kept else "r_" + old

    for tensor in model.graph.initializer:
        tensor.name = name(tensor.name)
    for node in model.graph.node:
        node.input[:] = [name(value) for value in node.input]
        node.output[:] = [name(value) for value in node.output]
    return model


def not_checked(report, secateur, engine, env, folder):
    """An operator that no engine has: the verdict says so, and it is a no unless it is allowed."""
    text = '<ir_version: 8, opset_import: ["" : 17, "acme" : 1]> g (float[2,3] x) => (float[2,3] y) { a = acme.Magic(x)\n y = %s(a) }'
    paths = []
    for operator in ("Relu", "Sigmoid"):
        paths.append(os.path.join(folder, f"unknown-{operator}.onnx"))
        onnx.save(onnx.parser.parse_model(text % operator), paths[-1])
    for flags, wanted in (((), 1), (("--allow-not-checked",), 0)):
        name = f"unknown operator [{engine}{', allowed' if flags else ''}]"
        result = secateur.run("verify", *paths, "--engine", engine, "--json", *flags, env=env)
        document = result.json()
        if not isinstance(document, dict) or document.get("verdict") != "not-checked":
            report.failed(name, result.why() if not isinstance(document, dict) else f"verdict {document.get('verdict')}")
        elif result.code != wanted:
            report.failed(name, f"exit {result.code} instead of {wanted}")
        elif not any("Magic" in str(entry) for entry in document.get("not_checked", [])):
            report.failed(name, f"not_checked does not name the operator: {document.get('not_checked')}")
        else:
            report.passed(name)
