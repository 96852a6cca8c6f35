"""`secateur rules test` in both engines: no example speaks against its rule, and ONNX Runtime runs examples of every rule."""

import tool

# ONNX Runtime has no kernel for what these rules make or replace.
NOT_RUN = {"tract": None, "ort": set()}


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
            if case["verdict"] == "failed":
                report.failed(name, case["detail"])
            elif case["verdict"] in ("equal", "within", "refused"):
                report.passed(name, case["verdict"])
            else:
                report.skipped(name, case["detail"])
        for name in document["unproven"]:
            report.failed(f"{engine}: {name}", "no example proves it")
        allowed = NOT_RUN[engine]
        for entry in document["not-run"]:
            if allowed is not None and entry["rule"] not in allowed:
                report.failed(f"{engine}: {entry['rule']}", f"no example runs: {entry['reason']}")
        if result.code != (0 if document["passed"] else 1):
            report.failed(engine, f"exit {result.code}")
