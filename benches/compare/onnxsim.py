#!/usr/bin/env python3
"""Times `secateur.compat.onnxsim.simplify` beside `onnxsim.simplify`: the same call on every model, from a path to a ModelProto.

usage: onnxsim.py [--corpus DIR] [--arch DIR] [--only TEXT] [--runs N] [--timeout SECONDS]

Both packages are imported once; each call is made in a child of that process, so that a crash is one result, and imports are not
in the times. A child calls once to warm up and then --runs times, or as often as fits into --timeout; what counts is the median.
Needs onnxsim and secateur, built with optimisations; the corpus is found through SECATEUR_CORPUS, too.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import signal
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# This file is called as the package is, and must not be imported in its place.
sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != HERE]

import onnxsim  # noqa: E402

import secateur  # noqa: E402
from secateur.compat import onnxsim as compat  # noqa: E402

TOOLS = {"secateur": compat.simplify, "onnxsim": onnxsim.simplify}


def times(simplify, path, runs, timeout):
    """Seconds of one call after the other, the first one left out."""
    simplify(path)
    found = []
    start = time.perf_counter()
    while len(found) < runs and (not found or time.perf_counter() - start < timeout / 2):
        before = time.perf_counter()
        simplify(path)
        found.append(time.perf_counter() - before)
    return found


def measured(tool, path, runs, timeout):
    """Median seconds in a child of this process, or a word for what went wrong."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            with open(os.devnull, "w", encoding="utf-8") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                with contextlib.suppress(Exception):
                    os.write(write, json.dumps(times(TOOLS[tool], path, runs, timeout)).encode())
                    status = 0
        finally:
            os._exit(status)
    os.close(write)
    late = []
    timer = threading.Timer(timeout, lambda: (late.append(True), os.kill(child, signal.SIGKILL)))
    timer.start()
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    if late:
        return f"> {timeout:g}"
    return statistics.median(json.loads(text)) if status == 0 and text else "error"


def models(corpus, arch, only):
    """Names and paths, the corpus first."""
    for title, folder in (("", os.path.join(corpus, "models") if corpus else None), ("arch/", arch)):
        for base, _, files in sorted(os.walk(folder)) if folder else ():
            for file in sorted(files):
                name = title + os.path.relpath(os.path.join(base, file), folder)
                if file.endswith(".onnx") and only in name:
                    yield name.removesuffix(".onnx"), os.path.join(base, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", default=os.environ.get("SECATEUR_CORPUS"))
    parser.add_argument("--arch", help="a folder that the corpus' materialize.py has filled")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose names hold this")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=240)
    arguments = parser.parse_args()
    rows = list(models(arguments.corpus, arguments.arch, arguments.only))
    if not rows:
        sys.exit("no models: give --corpus or --arch")
    versions = f"secateur {secateur.__version__}, onnxsim {importlib.metadata.version('onnxsim')}"
    print(f"Milliseconds, median of {arguments.runs}: {versions}\n")
    print("| model | secateur | onnxsim | onnxsim / secateur |\n|---|---:|---:|---:|", flush=True)
    ratios = []
    for name, path in rows:
        found = {tool: measured(tool, path, arguments.runs, arguments.timeout) for tool in TOOLS}
        numbers = [value for value in found.values() if isinstance(value, float)]
        ratio = ""
        if len(numbers) == len(TOOLS):
            ratios.append(found["onnxsim"] / found["secateur"])
            ratio = f"{ratios[-1]:.2f}"
        cells = [f"{1e3 * value:.1f}" if isinstance(value, float) else value for value in found.values()]
        print(f"| {name} | {' | '.join(cells)} | {ratio} |", flush=True)
    if ratios:
        mean = math.exp(statistics.fmean(map(math.log, ratios)))
        print(
            f"\n{len(ratios)} models of both: median ratio {statistics.median(ratios):.2f}, geometric mean {mean:.2f}, "
            f"least {min(ratios):.2f}, most {max(ratios):.2f};\nsecateur is the faster one on {sum(one > 1 for one in ratios)}"
        )


if __name__ == "__main__":
    main()
