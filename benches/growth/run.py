#!/usr/bin/env python3
"""Doubles the size of each shape of graph and says how time and memory of a verb grow: the exponent k of size^k.

usage: run.py SECATEUR [--verb simplify] [--shape NAME ...] [--start 4000] [--until 4.0] [--largest 256000] [--bound 1.15]

A shape is doubled until the verb takes UNTIL seconds of processor time or LARGEST nodes are reached. What the start of the
process takes (the same verb on a model of eight nodes) is taken off; exponents are those of a straight line through the logarithms
of the last three sizes that take a fifth of a second, or 16 MB, beyond that. Processor time, since it does not depend on what else runs.
"""

import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# Models are made by another process: a child begins with the memory of its parent as its peak.
MAKER = [sys.executable, str(Path(__file__).parent / "shapes.py")]

VERBS = {
    "inspect": "inspect {model} --json",
    "simplify": "simplify {model} -o {out} --no-verify --force",
    "simplify-verified": "simplify {model} -o {out} --verify --force",
    "quantize-dynamic": "quantize-dynamic {model} -o {out} --no-verify --force --allow-unchanged",
    "explain-prune": "prune channels {model} --explain --ratio 0.5",
    "inline-functions": "inline-functions {model} -o {out} --no-verify --force --allow-unchanged",
    "bind": "bind {model} -o {out} --no-verify --force --allow-unchanged",
    "convert-opset": "convert-opset {model} -o {out} --opset 19 --no-verify --force --allow-unchanged",
    "print": "print {model}",
    "diff": "diff {model} {model}",
    "verify": "verify {model} {model}",
}
SECONDS, MEGABYTES, POINTS = 0.2, 16.0, 3


def measure(binary, verb, model, out, limit):
    """Processor seconds, peak resident megabytes and exit status of one run."""
    command = [binary, *shlex.split(VERBS[verb].format(model=model, out=out))]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    timer = threading.Timer(limit, child.kill)
    timer.start()
    words = child.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, child.returncode, words


def exponent(points, floor):
    """The slope of a line through (log size, log figure) for the last points above the floor; None without two of them."""
    kept = [(math.log(size), math.log(figure)) for size, figure in points if figure > floor][-POINTS:]
    if len(kept) < 2:
        return None
    x, y = (sum(values) / len(kept) for values in zip(*kept))
    return sum((a - x) * (b - y) for a, b in kept) / sum((a - x) ** 2 for a, _ in kept)


def make(name, size, folder):
    model = folder / "model.onnx"
    subprocess.run([*MAKER, name, str(size), model], check=True)
    return model, folder / "out.onnx"


def start(args, folder):
    """What a run takes on a model that is next to nothing, at best."""
    runs = [measure(args.binary, args.verb, *make("plain_chain", 8, folder), args.limit) for _ in range(3)]
    return min(run[0] for run in runs), min(run[1] for run in runs)


def grow(args, name, folder, base):
    """Time and memory of a shape at doubling sizes, less those of the start, and what went wrong."""
    times, memories, problem = [], [], ""
    for size in [args.start << step for step in range(32)]:
        if size > args.largest:
            break
        model, out = make(name, size, folder)
        seconds, megabytes, status, words = measure(args.binary, args.verb, model, out, args.limit)
        if args.details:
            print(f"  {name} {size}: {seconds:.2f} s, {megabytes:.0f} MB, status {status}", file=sys.stderr)
        if status not in (0, 1):
            problem = f"status {status}: {words.strip().splitlines()[-1] if words.strip() else ''}"
            break
        times.append((size, max(seconds - base[0], 1e-4)))
        memories.append((size, max(megabytes - base[1], 1e-4)))
        if seconds > args.until:
            break
    return times, memories, problem


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--verb", default="simplify", choices=VERBS)
    parser.add_argument("--shape", action="append")
    parser.add_argument("--start", type=int, default=4000)
    parser.add_argument("--until", type=float, default=4.0)
    parser.add_argument("--largest", type=int, default=256000)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run is ended")
    parser.add_argument("--bound", type=float, default=1.15)
    parser.add_argument("--details", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        base = start(args, Path(folder))
        for name in args.shape or subprocess.run(MAKER, capture_output=True, text=True, check=True).stdout.split():
            times, memories, problem = grow(args, name, Path(folder), base)
            time, memory = exponent(times, SECONDS), exponent(memories, MEGABYTES)
            rows.append((max(time or 0, memory or 0), name, time, memory, times, memories, problem))
    rows.sort(key=lambda row: row[0], reverse=True)
    print(f"{args.verb}: worst first; `-`: below {SECONDS} s or {MEGABYTES:.0f} MB at every size but one")
    print("| shape | time | memory | largest size | seconds | MB | |\n|---|---:|---:|---:|---:|---:|---|")
    over = 0
    for worst, name, time, memory, times, memories, problem in rows:
        text = lambda value: "-" if value is None else f"{value:.2f}"
        size, seconds = times[-1] if times else (0, 0.0)
        flag = problem or ("over" if worst > args.bound else "")
        over += bool(flag)
        print(f"| {name} | {text(time)} | {text(memory)} | {size:,} | {seconds:.2f} | {memories[-1][1] if memories else 0:.0f} | {flag} |")
    print(f"{len(rows)} shapes, {over} over {args.bound}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
