"""`secateur check`, judged by what nobody here wrote.

What it says of operators is compared with whether ONNX Runtime makes a session: on every node test of ONNX, an error for the target `ort`
where the session is made is wrong, and so is silence where the runtime says that it has no implementation. The table of its kernels is
written again and compared. `--fix` on real models gives files that `onnx.checker` takes and that compute the same in ONNX Runtime, and
nothing that was mended is found again. Operators between quantized values that are said to stay in float are there when ONNX Runtime has
optimised the graph, and no others are. The log in SARIF has the properties that version 2.1.0 asks for.
"""

import json
import os
import tarfile
import tempfile
import xml.etree.ElementTree

import onnx
import onnxruntime

import corpus
import runtime
import runtime_table

# Codes by which a model does not load. A check of another kind says nothing about loading.
LOADING = ("unsupported-operator", "unsupported-attribute", "opset-too-new", "ir-version-too-new")
# Of the tests that ONNX Runtime has no implementation for, so many may stay unnoticed: operators within the bodies of functions, and
# types that only a run decides.
UNNOTICED = 0.25
LEVELS = {"none", "note", "warning", "error"}


def check(report, secateur):
    if runtime_table.table() == runtime_table.TABLE.read_text():
        report.passed("table of kernels")
    else:
        report.failed("table of kernels", "tests/cross/runtime_table.py writes another one")
    with tempfile.TemporaryDirectory(prefix="secateur-check-") as folder:
        operators(report, secateur, folder)
        found = corpus.corpus_models(groups=("models",)) + corpus.fixture_models()
        for model in found:
            if report.wants(model.name):
                fixed(report, secateur, model, folder)
        fusions(report, secateur, found, folder)
        forms(report, secateur, found, folder)


def operators(report, secateur, folder):
    """What is said of each node test, beside what ONNX Runtime does with it."""
    archive = os.path.join(corpus.folder() or "", "onnx-node-tests.tgz")
    if not os.path.exists(archive):
        report.skipped("operators", "the corpus has no node tests")
        return
    with tarfile.open(archive) as tests:
        tests.extractall(folder, filter="data")
    names = sorted(os.listdir(os.path.join(folder, "node")))
    lacking, unnoticed, wrong, agreed = 0, [], [], 0
    for name in names:
        path = os.path.join(folder, "node", name, "model.onnx")
        if not report.wants(name) or not os.path.exists(path):
            continue
        document = secateur.run("check", path, "--target", "ort", "--json", "-qq").json() or {}
        if "findings" not in document:
            report.failed(name, f"no findings: {document}")
            continue
        errors = [one for one in document["findings"] if one["severity"] == "error" and one["code"] in LOADING]
        why = load(path)
        if why is None:
            agreed += not errors
            if errors:
                wrong.append(f"{name}: {errors[0]['message']}")
        elif "NOT_IMPLEMENTED" in why or "not implemented" in why:
            lacking += 1
            if not errors:
                unnoticed.append(f"{name}: {why[:160]}")
    if wrong:
        report.failed("operators that run", f"{len(wrong)} are said not to: {'; '.join(wrong[:8])}")
    else:
        report.passed("operators that run", f"{agreed} tests load and are said to")
    if lacking and len(unnoticed) > UNNOTICED * lacking:
        report.failed("operators that do not run", f"{len(unnoticed)} of {lacking} are not noticed: {'; '.join(unnoticed[:12])}")
    else:
        report.passed("operators that do not run", f"{lacking - len(unnoticed)} of {lacking} are noticed; not: {unnoticed[:6]}")


def load(path):
    """Why ONNX Runtime makes no session; None where it does."""
    try:
        runtime.session(path)
    except Exception as error:  # the runtime's exceptions have no base of their own
        return str(error)
    return None


def fixed(report, secateur, model, folder):
    """A model that is mended is a model, computes the same, and has none of the findings that were mended."""
    target = os.path.join(folder, "fixed.onnx")
    result = secateur.run("check", model.path, "--fix", "-o", target, "--force", "--json", "-qq")
    document = result.json() or {}
    if "fix" not in document:
        report.failed(model.name, f"{result.why()}")
        return
    if not document["fix"]["mended"]:
        if any(one["fix"] for one in document["findings"]) and not document["fix"]["failed"]:
            report.failed(model.name, f"nothing of {len(document['findings'])} findings was mended")
        else:
            report.passed(model.name, "nothing to mend")
        return
    try:
        onnx.checker.check_model(target, full_check=False)
    except onnx.checker.ValidationError as error:
        report.failed(model.name, f"the result is no model: {str(error)[:200]}")
        return
    feeds = model.inputs(1)
    given = {value.name for value in onnx.load(target, load_external_data=False).graph.input}
    difference = runtime.compare(
        runtime.run(runtime.session(model.path), feeds),
        runtime.run(runtime.session(target), {name: value for name, value in feeds.items() if name in given}),
    )
    allowed = runtime.rounding_allowed(model.path, feeds, runtime.run(runtime.session(model.path), feeds))
    if difference.relative > allowed:
        report.failed(model.name, f"outputs differ by {difference.relative:.2e} {difference.reason or ''}")
        return
    again = secateur.run("check", target, "--json", "-qq").json() or {}
    mended = {(one["code"], json.dumps(one["place"])) for one in document["fix"]["mended"]}
    left = [one for one in again.get("findings", []) if (one["code"], json.dumps(one["place"])) in mended]
    if left:
        report.failed(model.name, f"mended, and still found: {left[0]['code']} {left[0]['place']}")
    else:
        steps = ", ".join(step["step"] for step in document["fix"]["steps"])
        report.passed(model.name, f"{len(document['fix']['mended'])} mended by {steps}")


def fusions(report, secateur, found, folder):
    """Operators that are said to stay in float, beside what is left of the graph when ONNX Runtime has optimised it."""
    for model in found:
        graph = onnx.load(model.path).graph
        if not any(node.op_type == "DequantizeLinear" for node in graph.node) or not report.wants(model.name):
            continue
        document = secateur.run("check", model.path, "--target", "ort", "--only", "unfused-qdq", "--json", "-qq").json()
        said = {one["place"]["node"] for one in document["findings"]}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = os.path.join(folder, "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
        left = onnx.load(options.optimized_model_filepath).graph.node
        floats = {node.name or node.output[0]: node for node in left if node.domain in ("", "ai.onnx")}
        gone = sorted(said - set(floats))
        makers = {name: node for node in left for name in node.output}
        readers = {}
        for node in left:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        between = {
            label
            for label, node in floats.items()
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
            and any(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input)
            and [reader.op_type for reader in readers.get(node.output[0], [])] == ["QuantizeLinear"]
        }
        silent = sorted(between - said)
        name = f"fusions of {model.name}"
        if gone:
            report.failed(name, f"said to stay in float, and fused: {gone[:5]}")
        elif silent:
            report.failed(name, f"left between two pairs, and not noticed: {silent[:5]}")
        else:
            report.passed(name, f"{len(said)} operators stay in float, as is said")


def forms(report, secateur, found, folder):
    """The forms for machines, of the models with most findings."""
    for model in found[:12]:
        log = secateur.run("check", model.path, "--format", "sarif", "--target", "tensorrt", "-qq").json()
        fault = sarif_fault(log) if log else "no JSON"
        if fault:
            report.failed(f"SARIF of {model.name}", fault)
        else:
            report.passed(f"SARIF of {model.name}", f"{len(log['runs'][0]['results'])} results")
        suite = secateur.run("check", model.path, "--format", "junit", "--deny", "note", "-qq")
        cases = list(xml.etree.ElementTree.fromstring(suite.stdout).iter("testcase"))
        failures = [case for case in cases if case.find("failure") is not None]
        if (suite.code == 1) is not bool(failures) or len(cases) < 40:
            report.failed(f"JUnit of {model.name}", f"status {suite.code}, {len(failures)} of {len(cases)} cases failed")
        else:
            report.passed(f"JUnit of {model.name}")


def sarif_fault(log):
    """What is against SARIF 2.1.0 in a log of ours, as far as the properties that it uses go (OASIS, sections 3.13 to 3.52)."""
    if log.get("version") != "2.1.0" or not log.get("$schema", "").startswith("https://"):
        return "version or $schema"
    if set(log) != {"$schema", "version", "runs"} or len(log["runs"]) != 1:
        return f"properties {sorted(log)}"
    run = log["runs"][0]
    extra = set(run) - {"tool", "columnKind", "results", "artifacts"}
    driver = run["tool"]["driver"]
    if extra or run["columnKind"] not in ("utf16CodeUnits", "unicodeCodePoints") or not driver.get("name"):
        return f"run: {extra or run['columnKind']}"
    rules = driver["rules"]
    if len({rule["id"] for rule in rules}) != len(rules):
        return "a rule stands twice"
    for rule in rules:
        texts = [rule["shortDescription"]["text"], rule["fullDescription"]["text"], rule["help"]["text"]]
        if not all(texts) or rule["defaultConfiguration"]["level"] not in LEVELS:
            return f"rule {rule['id']}"
    for result in run["results"]:
        if rules[result["ruleIndex"]]["id"] != result["ruleId"]:
            return f"ruleIndex of {result['ruleId']}"
        if result["level"] not in LEVELS or not result["message"]["text"]:
            return f"result of {result['ruleId']}"
        for location in result["locations"]:
            if set(location) - {"physicalLocation", "logicalLocations"}:
                return f"location {sorted(location)}"
            physical = location["physicalLocation"]
            place = physical["artifactLocation"]
            if run["artifacts"][place["index"]]["location"]["uri"] != place["uri"] or " " in place["uri"]:
                return f"artifact {place}"
            if physical["region"]["startLine"] < 1:
                return "a region begins before the first line"
            for logical in location["logicalLocations"]:
                if not logical["name"] or not logical["fullyQualifiedName"]:
                    return f"logical location {logical}"
        if not all(isinstance(value, str) and value for value in result["partialFingerprints"].values()):
            return "fingerprints"
    return None
