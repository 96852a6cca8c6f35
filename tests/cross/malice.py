"""fixtures/malice through the binary: each file gets its error code and exit status 2; what is valid is processed and does not grow.
What ONNX Runtime runs all the same is read with a warning, and is an error with --strict.

Nothing may panic, hang or need memory beyond reason, whatever the file says.
"""

import csv
import os
import tempfile

import corpus
import tool

FOLDER = os.path.join(corpus.FIXTURES, "malice")
SECONDS = 20
# What recorded provenance may add to a small file.
SLACK = 1024
# What is put up with, with a warning, unless --strict is given.
PUT_UP_WITH = ("missing-opset-import", "unknown-operator", "deprecated-operator", "not-sorted")


def check(report, secateur):
    limited = tool.Secateur(secateur.binary, timeout=SECONDS)
    with open(os.path.join(FOLDER, "expected.tsv"), newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        if not report.wants(row["file"]):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-malice-") as folder:
            target = os.path.join(folder, "out.onnx")
            source = os.path.join(FOLDER, row["file"])
            result = limited.run("simplify", source, "-o", target, "--json")
            if row["code"] in PUT_UP_WITH and result.code == 0:
                warned = (result.json() or {}).get("warnings")
                os.remove(target)
                result = limited.run("simplify", source, "-o", target, "--json", "--strict")
                problem = examine(result, row["code"], source, target) or (None if warned else "no warning")
            else:
                problem = examine(result, row["code"], source, target)
        report.failed(row["file"], f"{problem} ({row['why']})") if problem else report.passed(row["file"])


def examine(result, code, source, target):
    if "panicked" in result.stderr or result.code < 0 or result.code == 101:
        return f"crashed: {result.why()}"
    if code == "ok":
        if result.code != 0:
            return result.why()
        if os.path.getsize(target) > os.path.getsize(source) + SLACK:
            return f"grew from {os.path.getsize(source)} to {os.path.getsize(target)} bytes"
        return None
    if os.path.exists(target):
        return "something was written"
    document = result.json()
    found = document.get("error", {}).get("code") if isinstance(document, dict) else None
    if result.code != 2 or found != code:
        return f"exit {result.code} with code {found}, not exit 2 with {code}"
    return None
