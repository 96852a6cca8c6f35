#!/usr/bin/env python3
"""Measures `simplify` beside onnxsim and onnxslim: every tool as a fresh process on every corpus model.

For each model and tool: wall seconds (median of three runs, one if a run takes over a minute), peak resident memory, nodes
and bytes after (nodes without Constant nodes, bodies and functions included), and whether the result is a valid model that
computes what the original did (ONNX Runtime, no graph optimisation, two seeded inputs, error relative to the output's range).

usage: simplify_peers.py --corpus DIR [--arch DIR] [--tools onnxsim,onnxslim] [--secateur BIN] [--only TEXT] [--runs N]
                         [--counts-only | --again | --table-only]

Results are merged into docs/data/peers-simplify.json; docs/simplify-table.md is generated from that file. Run it with a
Python that has onnx, onnxruntime, onnxsim and onnxslim (tests/cross/requirements.txt).
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CROSS = os.path.join(ROOT, "tests", "cross")
DATA = os.path.join(ROOT, "docs", "data", "peers-simplify.json")
TABLE = os.path.join(ROOT, "docs", "simplify-table.md")
TIMEOUT = 240
TOOLS = ("onnxsim", "onnxslim", "secateur")
# Why secateur leaves more nodes than a peer whose result is valid, by how the model's name begins.
REASONS = (
    ("light/", "its weights are computed by ConstantOfShape, and constants in their place would make the file many times larger; `--max-growth 1000000` makes them"),
    ("models/real/github-ultraface/", "its weights are graph inputs with a default, which a caller may override; `--constant-inputs` makes constants of them"),
)
sys.path.insert(0, CROSS)

import peers  # noqa: E402  (beside the cross-checks)


def commands(secateur):
    bin_folder = os.path.dirname(sys.executable)
    return {
        "onnxsim": lambda source, target: [os.path.join(bin_folder, "onnxsim"), source, target],
        "onnxslim": lambda source, target: [os.path.join(bin_folder, "onnxslim"), source, target],
        "secateur": lambda source, target: [secateur, "simplify", source, "-o", target, "--no-verify"],
    }


# Started as a process of its own: a child's peak memory starts at its parent's, so the parent of a measured process has to be small.
LAUNCHER = r"""
import json, os, subprocess, sys, threading, time
timeout, log, *command = sys.argv[1:]
with open(log, "wb") as file:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    stopped = []
    timer = threading.Timer(float(timeout), lambda: (stopped.append(True), process.kill()))
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    timer.cancel()
print(json.dumps({"code": None if stopped else os.waitstatus_to_exitcode(status), "seconds": seconds,
                  "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}))
"""


def measure(command, cwd):
    """One run in a fresh process: status (None when it was stopped), wall and CPU seconds, peak MB, its last line of output."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        launch = [sys.executable, "-S", "-c", LAUNCHER, str(TIMEOUT), log.name, *command]
        done = json.loads(subprocess.run(launch, cwd=cwd, capture_output=True, text=True, check=True).stdout)
        text = log.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return done, lines[-1] if lines else ""


def timed(make_command, model, scratch, runs):
    """Runs a tool's command line: (what was measured, path of its result or None)."""
    times, cpus, peak = [], [], 0.0
    for repeat in range(runs):
        target = fresh_target(scratch, repeat)
        done, last = measure(make_command(model.path, target), os.path.dirname(target))
        row = {"seconds": round(done["seconds"], 3), "cpu_seconds": round(done["cpu"], 3), "peak_rss_mb": round(done["peak"], 1)}
        if done["code"] is None:
            return {"status": "timeout", **row}, None
        if done["code"] != 0 or not os.path.exists(target):
            return {"status": "error", **row, "reason": f"exit {done['code']}: {last[:160]}"}, None
        times.append(done["seconds"])
        cpus.append(done["cpu"])
        peak = max(peak, done["peak"])
        if done["seconds"] > 60:
            break
    row = {"seconds": round(statistics.median(times), 3), "cpu_seconds": round(statistics.median(cpus), 3)}
    return {"status": "ok", **row, "runs": len(times), "peak_rss_mb": round(peak, 1)}, target


def untimed(tool, model, scratch):
    """Runs a peer without a process of its own: its result alone counts."""
    target = fresh_target(scratch, 0)
    error = peers.run(tool, model.path, target, TIMEOUT)
    if error:
        return {"status": "timeout" if error.startswith("stopped") else "error", "reason": error}, None
    return {"status": "ok"}, target


def fresh_target(scratch, repeat):
    folder = os.path.join(scratch, f"out{repeat}")
    os.makedirs(folder)
    return os.path.join(folder, "model.onnx")


def judged(row, model, target, scratch):
    """Adds nodes, bytes and whether the result is valid and right, all found out in another process."""
    recipe = os.path.join(scratch, "recipe.json")
    with open(recipe, "w") as file:
        json.dump(model.recipe, file)
    folder = os.path.dirname(target)
    row["bytes"] = sum(os.path.getsize(os.path.join(folder, file)) for file in os.listdir(folder))
    pair = subprocess.run([sys.executable, os.path.join(CROSS, "pair.py"), model.path, target, recipe, "1", "2"],
                          capture_output=True, text=True, timeout=1800)
    if pair.returncode != 0:
        row.update(status="invalid", reason=f"the runtime ended with {pair.returncode}")
        return row
    verdict = json.loads(pair.stdout.splitlines()[-1])
    row["nodes"] = verdict["nodes"]
    if not verdict["valid"]:
        row.update(status="invalid", reason=verdict["reason"])
        return row
    row["relative_error"] = verdict["relative"]
    row["equal"] = verdict["equal"]
    if not verdict["within"]:
        row.update(status="differs", reason=verdict["reason"])
    return row


def load_data():
    if os.path.exists(DATA):
        with open(DATA) as file:
            return json.load(file)
    return {"unit": {"seconds": "wall, median", "nodes": "without Constant nodes, with bodies and functions"}, "models": {}}


def save_data(data):
    data["models"] = dict(sorted(data["models"].items()))
    os.makedirs(os.path.dirname(DATA), exist_ok=True)
    with open(DATA + ".new", "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    os.replace(DATA + ".new", DATA)


def version_of(tool, secateur):
    if tool == "secateur":
        return subprocess.run([secateur, "--version"], capture_output=True, text=True).stdout.strip().split()[-1]
    import importlib.metadata

    return importlib.metadata.version(tool)


def cell(row):
    if row is None:
        return "", "", ""
    seconds = f"{row['seconds']:.2f}" if "seconds" in row else ""
    if row["status"] in ("error", "timeout"):
        return row["status"], "", seconds if row["status"] == "error" else f"> {TIMEOUT}"
    mark = {"ok": "", "invalid": " (invalid)", "differs": " (differs)"}[row["status"]]
    return f"{row.get('nodes', '?')}{mark}", f"{row['bytes']:,}", seconds


def table(data):
    """The table as Markdown, with the totals that the project states as its aims."""
    models = data["models"]
    lines = [
        "# Simplify, side by side",
        "",
        "Generated by `benches/compare/simplify_peers.py` from `docs/data/peers-simplify.json`; not edited by hand.",
        "",
        "Nodes are counted without Constant nodes and with bodies and functions; bytes include external data. *invalid*:",
        "`onnx.checker` or ONNX Runtime refuses the result; *differs*: its outputs are off by more than 1e-4 of their range and",
        "more than ONNX Runtime's own basic rewrites explain.",
        "",
    ]
    versions = data.get("versions", {})
    present = [tool for tool in TOOLS if any(tool in entry for entry in models.values())]
    lines += [*timing(models, present), ""]
    lines += ["Versions: " + ", ".join(f"{tool} {versions.get(tool, '?')}" for tool in present) + ".", ""]
    lines += summary(models, present)
    head = ["model", "nodes", "bytes"] + [f"{tool} {what}" for tool in present for what in ("nodes", "bytes", "s")]
    lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    for name, entry in models.items():
        cells = [name, str(entry["nodes"]), f"{entry['bytes']:,}"]
        for tool in present:
            cells += cell(entry.get(tool))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines + beyond(models)) + "\n"


def with_fewer_nodes(models):
    """(model, its entry, the peer with the fewest nodes) where a peer's result is valid and has fewer nodes than secateur's."""
    found = []
    for name, entry in models.items():
        own = entry.get("secateur", {})
        valid = [tool for tool in ("onnxsim", "onnxslim") if entry.get(tool, {}).get("status") == "ok"]
        if own.get("status") == "ok" and valid:
            best = min(valid, key=lambda tool: entry[tool]["nodes"])
            if entry[best]["nodes"] < own["nodes"]:
                found.append((name, entry, best))
    return found


def reason(name):
    """Why secateur leaves more nodes of this model; None if no reason is written."""
    return next((why for start, why in REASONS if name.startswith(start)), None)


def beyond(models):
    """The list of models of which a peer leaves fewer nodes, with the reasons."""
    lines = ["", "## Fewer nodes elsewhere, and why", "",
             "Models of which a peer leaves fewer nodes than secateur does with its defaults, in a result that is valid and computes the same.", ""]
    for name, entry, best in with_fewer_nodes(models):
        bytes_there = f"in a file of {entry[best]['bytes']:,} bytes made of {entry['bytes']:,}"
        lines.append(f"- {name}, {entry[best]['nodes']} by {best} {bytes_there}, {entry['secateur']['nodes']} here: {reason(name) or 'there is no reason'}.")
    return lines if len(lines) > 5 else []


def timing(models, present):
    """What the seconds are, and which tools have none."""
    timed = {tool: [entry[tool].get("runs", 1) for entry in models.values() if "seconds" in entry.get(tool, {})] for tool in present}
    runs = [count for counts in timed.values() for count in counts]
    lines = []
    if runs:
        often = f"median of {max(runs)} runs" if min(runs) == max(runs) > 1 else "one run" if max(runs) == 1 else f"median of {min(runs)} to {max(runs)} runs"
        lines.append(f"Seconds are wall time of a fresh process, {often}; none compares its result, which secateur does if `--no-verify` is not given.")
    without = [tool for tool in present if not timed[tool]]
    if without:
        lines.append(f"Not timed, because the machine was busy when they were counted (`--counts-only`): {', '.join(without)}; `--again` on a quiet one times them.")
    return lines


def summary(models, present):
    lines = ["| | " + " | ".join(present) + " |", "|---|" + "---:|" * len(present)]

    def count(label, test):
        cells = [str(sum(1 for entry in models.values() if tool in entry and test(entry, entry[tool]))) for tool in present]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")

    count(f"results, of {len(models)} models", lambda entry, row: row["status"] == "ok")
    count("errors and timeouts", lambda entry, row: row["status"] in ("error", "timeout"))
    count("invalid or different results", lambda entry, row: row["status"] in ("invalid", "differs"))
    count("file larger than before", lambda entry, row: row.get("bytes", 0) > entry["bytes"])
    count("file larger than twice before", lambda entry, row: row.get("bytes", 0) > 2 * entry["bytes"])
    medians = []
    for tool in present:
        times = [entry[tool]["seconds"] for entry in models.values() if entry.get(tool, {}).get("status") == "ok" and "seconds" in entry[tool]]
        medians.append(f"{statistics.median(times):.2f}" if times else "")
    lines.append("| median seconds | " + " | ".join(medians) + " |")
    if "secateur" in present:
        lines += ["", *against_peers(models)]
    return lines


def against_peers(models):
    """The three aims against the better of the two peers, counted over models that both sides finished."""
    compared, fewer, ratios = 0, 0, []
    for entry in models.values():
        own = entry.get("secateur")
        rows = [entry[tool] for tool in ("onnxsim", "onnxslim") if "nodes" in entry.get(tool, {})]
        if not own or own["status"] != "ok" or not rows:
            continue
        compared += 1
        fewer += own["nodes"] <= min(row["nodes"] for row in rows)
        if all("seconds" in row for row in rows):
            ratios.append(min(row["seconds"] for row in rows) / own["seconds"])
    if not compared:
        return []
    lines = [f"secateur has no more nodes than the better of the two (valid or not) on {fewer} of {compared} models."]
    if ratios:
        faster = sum(1 for ratio in ratios if ratio > 1)
        lines.append(f"It is faster than both on {faster} of {len(ratios)}, by a factor of {statistics.median(ratios):.1f} in the median.")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="the corpus folder (default: SECATEUR_CORPUS)")
    parser.add_argument("--arch", help="the filled architectures (default: filled into a cache)")
    parser.add_argument("--tools", default="onnxsim,onnxslim", help="peers to run, comma separated; empty for none")
    parser.add_argument("--secateur", help="the secateur binary to run as well")
    parser.add_argument("--only", help="only models whose name contains this")
    parser.add_argument("--runs", type=int, default=3, help="runs per model and tool, the median counts (default: 3)")
    parser.add_argument("--counts-only", action="store_true", help="peers' results without times, for a machine that is busy")
    parser.add_argument("--again", action="store_true", help="measure again what the data file already has")
    parser.add_argument("--table-only", action="store_true", help="only generate the table")
    args = parser.parse_args()
    data = load_data()
    if not args.table_only:
        if args.corpus:
            os.environ["SECATEUR_CORPUS"] = os.path.abspath(args.corpus)
        if args.arch:
            os.environ["SECATEUR_ARCH"] = os.path.abspath(args.arch)
        measure_all(data, args)
    with open(TABLE, "w") as file:
        file.write(table(data))


def measure_all(data, args):
    import corpus
    import models
    import onnx

    tools = [tool for tool in args.tools.split(",") if tool]
    if args.secateur:
        args.secateur = os.path.abspath(args.secateur)
        tools.append("secateur")
    make = commands(args.secateur)
    for tool in tools:
        if args.counts_only and tool != "secateur":
            peers.load(tool)
        data.setdefault("versions", {})[tool] = version_of(tool, args.secateur)
    for model in corpus.corpus_models():
        if args.only and args.only not in model.name:
            continue
        source = onnx.load(model.path, load_external_data=False)
        entry = data["models"].setdefault(model.name, {})
        entry["nodes"] = models.count_nodes(source)
        entry["bytes"] = models.total_bytes(model.path, source)
        for tool in tools:
            if tool != "secateur" and not args.again and tool in entry and (args.counts_only or "seconds" in entry[tool]):
                continue
            scratch = tempfile.mkdtemp(prefix="secateur-peers-")
            try:
                if args.counts_only and tool != "secateur":
                    row, target = untimed(tool, model, scratch)
                else:
                    row, target = timed(make[tool], model, scratch, args.runs)
                entry[tool] = judged(row, model, target, scratch) if target else row
                if "reason" in entry[tool]:
                    entry[tool]["reason"] = re.sub(re.escape(scratch) + r"\S*/", "", entry[tool]["reason"] or "")
            finally:
                shutil.rmtree(scratch)
            print(model.name, tool, json.dumps(entry[tool]), flush=True)
            save_data(data)


if __name__ == "__main__":
    main()
