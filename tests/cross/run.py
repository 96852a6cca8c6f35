#!/usr/bin/env python3
"""Checks secateur against the onnx package and ONNX Runtime.

usage: run.py [--secateur BIN] [--only TEXT] [--jobs N] [-v] [CHECK ...]

Each check is a module beside this one with `check(report, secateur)`. The runner needs Python 3 alone: it reuses the running
Python where that has the requirements (requirements.txt), or makes a virtual environment under target/ and installs them; where
they cannot be installed, everything is skipped and the status is 0. Models come from SECATEUR_CORPUS; without it the checks run
on the models under fixtures/ and on those that the onnx package ships. With --jobs above 1 that many checks run at a time, each in
a process of its own, the longest first; what a check printed stays together.

The last line is `N passed, N failed, N skipped`; the status is 1 if anything failed.
"""

import argparse
import concurrent.futures
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
CHECKS = ("malice", "calibration", "facts", "shapes", "rules", "rule_mutations", "fold", "simplify", "fuzz", "equal", "verify", "check", "pairs", "probes", "text", "quantize", "qdq", "prune", "blocks", "factorize", "cluster", "evaluate", "figures", "bake", "gradients", "weights", "weights_fuzz", "extract", "heads", "growth", "merge", "transfer", "splice", "opsets", "state_dict", "chain", "book", "ci_kit", "tables", "container", "compress", "share", "scale")
# Those that take longest, so that several at a time end together.
LONG = ("simplify", "scale", "container", "book", "state_dict", "calibration", "opsets", "quantize", "rules", "rule_mutations", "fuzz", "text", "growth", "extract", "gradients")
TOTALS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


class Report:
    """Counts results and prints failures as they come."""

    def __init__(self, only, verbose):
        self.only = only
        self.verbose = verbose
        self.check = ""
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def wants(self, name):
        """Whether --only selects this model."""
        return not self.only or self.only in name

    def line(self, word, name, why=""):
        print(f"{word:8}{self.check}: {name}{': ' + why if why else ''}", flush=True)

    def passed(self, name, note=""):
        self.counts["passed"] += 1
        if self.verbose:
            self.line("ok", name, note)

    def failed(self, name, why):
        self.counts["failed"] += 1
        self.line("FAILED", name, why)

    def skipped(self, name, why):
        self.counts["skipped"] += 1
        if self.verbose:
            self.line("skipped", name, why)

    def note(self, text):
        print(f"        {text}", flush=True)


def pinned():
    with open(REQUIREMENTS) as file:
        lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def has_requirements():
    try:
        return all(importlib.metadata.version(name) == version for name, version in pinned().items())
    except importlib.metadata.PackageNotFoundError:
        return False


def python_with_requirements():
    """A Python of a virtual environment that has the requirements, or None."""
    folder = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "cross-venv")
    python = os.path.join(folder, "bin", "python")
    try:
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
        subprocess.run(install, check=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the requirements cannot be installed: {error}")
        return None
    return python


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", help="the binary (default: SECATEUR_BIN, or the newest under target/)")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="checks that run at a time (default: 1)")
    parser.add_argument("-v", "--verbose", action="store_true", help="name passed and skipped cases too")
    parser.add_argument("checks", nargs="*", help="checks to run (default: all): " + ", ".join(CHECKS))
    args = parser.parse_args()
    if not has_requirements():
        if os.environ.get("SECATEUR_CROSS_CHILD"):
            sys.exit("the virtual environment lacks the requirements that were installed into it")
        python = python_with_requirements()
        if python is None:
            print(f"0 passed, 0 failed, {len(CHECKS)} skipped")
            return 0
        sys.stdout.flush()
        os.execve(python, [python, os.path.abspath(__file__), *sys.argv[1:]], {**os.environ, "SECATEUR_CROSS_CHILD": "1"})
    return run_side_by_side(args) if args.jobs > 1 else run_checks(args)


def run_side_by_side(args):
    import corpus

    if corpus.folder():
        corpus.arch_folder(corpus.folder())
    rest = [sys.executable, os.path.abspath(__file__), "--only", args.only]
    rest += ["--secateur", args.secateur] if args.secateur else []
    rest += ["--verbose"] if args.verbose else []
    names = args.checks or list(CHECKS)
    names.sort(key=lambda name: LONG.index(name) if name in LONG else len(LONG))
    counts = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        started = [pool.submit(run_alone, [*rest, name]) for name in names]
        for name, done in zip(names, started):
            status, text = done.result()
            lines = text.splitlines()
            totals = TOTALS.match(lines[-1]) if lines else None
            print("\n".join(lines[:-1] if totals else lines), flush=True)
            if totals is None or status not in (0, 1):
                print(f"FAILED  {name}: the check ended with status {status}", flush=True)
                counts[1] += 1
            if totals:
                counts = [count + int(more) for count, more in zip(counts, totals.groups())]
    print(f"{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    return 1 if counts[1] else 0


def run_alone(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.returncode, done.stdout


def run_checks(args):
    import tool

    binary = tool.find(args.secateur)
    if binary is None or not os.path.exists(binary):
        print("no secateur binary: build one, or name it with --secateur", file=sys.stderr)
        return 2
    report = Report(args.only, args.verbose)
    secateur = tool.Secateur(binary)
    for name in args.checks or CHECKS:
        report.check = name
        if not os.path.exists(os.path.join(HERE, name + ".py")):
            if args.checks:
                report.failed(name, "no such check")
            else:
                report.skipped(name, "not there")
            continue
        start = time.perf_counter()
        before = dict(report.counts)
        try:
            importlib.import_module(name).check(report, secateur)
        except Exception as error:
            report.failed(name, f"the check itself failed: {type(error).__name__}: {error}")
        words = ", ".join(f"{report.counts[key] - before[key]} {key}" for key in report.counts)
        print(f"{name}: {words} in {time.perf_counter() - start:.0f} s", flush=True)
    print(", ".join(f"{count} {word}" for word, count in report.counts.items()))
    return 1 if report.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
