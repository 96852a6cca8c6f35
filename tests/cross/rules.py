"""`secateur rules test` in both engines: no example and no random instance of one speaks against its rule, ONNX Runtime runs examples of every
rule, and each is proven on 20 random instances."""

import tool

# ONNX Runtime has no kernel for what these rules make or replace.
NOT_RUN = {"tract": None, "ort": set()}
# Random instances, of other sizes and values than the examples have, that prove a rule.
INSTANCES = 20


def check(report, secateur):
    library = tool.onnxruntime_library()
    for engine in ("tract", "ort"):
        if engine == "ort" and library is None:
            report.skipped(engine, "there is no ONNX Runtime library")
            continue
        environment = {"ORT_DYLIB_PATH": library} if engine == "ort" else None
        result = secateur.run("rules", "test", "--engine", engine, "--json", env=environment)
        document = result.json()
        if not isinstance(document, dict) or "cases" not in document:
            report.failed(engine, result.why())
            continue
        for case in document["cases"]:
            name = f"{engine}: {case['rule']} example {case['example']} {case['variant']}opset {case['opset']}"
            name += f" random instance {case['instance']}" if case["instance"] else ""
            if case["verdict"] == "failed":
                report.failed(name, case["detail"])
            elif case["verdict"] in ("equal", "within", "refused"):
                report.passed(name, case["verdict"])
            else:
                report.skipped(name, case["detail"])
        for name in document["unproven"]:
            report.failed(f"{engine}: {name}", "no example proves it")
        not_run = {entry["rule"] for entry in document["not-run"]}
        for name, count in document["instances"].items():
            if count < INSTANCES and name not in not_run:
                report.failed(f"{engine}: {name}", f"{count} random instances are proven")
        allowed = NOT_RUN[engine]
        for entry in document["not-run"]:
            if allowed is not None and entry["rule"] not in allowed:
                report.failed(f"{engine}: {entry['rule']}", f"no example runs: {entry['reason']}")
        if result.code != (0 if document["passed"] else 1):
            report.failed(engine, f"exit {result.code}")
