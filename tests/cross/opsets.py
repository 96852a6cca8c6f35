"""`secateur convert-opset` to older and newer versions: valid, the same numbers, and never less than onnx.version_converter can.

A model is converted to each of several versions; the result must pass onnx.checker, import what was asked for, keep its interface
and compute the same in ONNX Runtime. A refusal must name a node and leave nothing; where onnx's own converter gives a model that
runs and computes the same, a refusal is a failure unless the version lacks the operator altogether.
"""

import os
import tempfile

import onnx
import onnx.version_converter

import corpus
import models
import runtime

TARGETS = (7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21, 23)
SEED = 1
# Files above this are converted to the two neighbouring targets only.
LARGE = 64 << 20


def check(report, secateur):
    totals = {"converted": 0, "refused": 0, "also": 0}
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        source = onnx.load(model.path, load_external_data=False)
        own = max((entry.version for entry in source.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        targets = [target for target in TARGETS if target != own]
        if own == 0:
            continue
        if models.total_bytes(model.path, source) > LARGE:
            targets = [t for t in targets if t < own][-1:] + [t for t in targets if t > own][:1]
        session = runtime.session(model.path)
        feed = model.inputs(SEED)
        expected = runtime.run(session, feed)
        del session
        for target in targets:
            with tempfile.TemporaryDirectory(prefix="secateur-opsets-") as folder:
                one(report, secateur, model, source, own, target, feed, expected, folder, totals)
    report.note(f"{totals['converted']} converted, {totals['refused']} refused, of which onnx's converter does {totals['also']}")


def one(report, secateur, model, source, own, target, feed, expected, folder, totals):
    name = f"{model.name} [{own} -> {target}]"
    path = os.path.join(folder, "out.onnx")
    result = secateur.run("convert-opset", model.path, "--to", str(target), "-o", path, "--json", "--no-verify")
    if result.code == 2:
        totals["refused"] += 1
        error = (result.json() or {}).get("error", {})
        if error.get("code") != "pass-model" or not error.get("node") or os.path.exists(path):
            report.failed(name, "a refusal without a node: " + result.why())
        elif peer(source, target, feed, expected, model.path) and "introduces it" not in error["message"]:
            totals["also"] += 1
            report.failed(name, "onnx.version_converter does it: " + error["message"])
        else:
            report.skipped(name, error["message"])
        return
    if result.code != 0:
        report.failed(name, result.why())
        return
    problem = examine(path, source, model, target, feed, expected)
    if problem:
        report.failed(name, problem)
    else:
        totals["converted"] += 1
        report.passed(name)


def examine(path, source, model, target, feed, expected):
    """The first thing that is wrong with a result, or None."""
    found = onnx.load(path, load_external_data=False)
    versions = {entry.version for entry in found.opset_import if entry.domain in ("", "ai.onnx")}
    if versions != {target}:
        return f"imports {versions}"
    for side in ("input", "output"):
        before = [value.name for value in getattr(source.graph, side)]
        after = [value.name for value in getattr(found.graph, side)]
        if before != after:
            return f"{side}s are {after} instead of {before}"
    try:
        onnx.checker.check_model(model.path)
        valid = True
    except Exception:
        valid = False
    if valid:
        try:
            onnx.checker.check_model(path)
        except Exception as error:
            return "onnx.checker: " + str(error).strip().splitlines()[0][:200]
    try:
        outputs = runtime.run(runtime.session(path), feed)
    except Exception as error:
        return "ONNX Runtime: " + str(error).strip().splitlines()[0][:200]
    difference = runtime.compare(expected, outputs)
    if difference.relative > runtime.TOLERANCE and difference.relative > runtime.rounding_allowed(model.path, feed, expected):
        return f"{difference.reason}"
    return None


def peer(source, target, feed, expected, path):
    """Whether onnx's own converter gives a model of this version that runs and computes the same."""
    try:
        whole = onnx.load(path)
        converted = onnx.version_converter.convert_version(whole, target)
        onnx.checker.check_model(converted)
        outputs = runtime.run(runtime.session(converted.SerializeToString()), feed)
    except Exception:
        return False
    return runtime.compare(expected, outputs).relative <= runtime.TOLERANCE
