#!/usr/bin/env python3
"""What the Python package costs: import, threads, memory, Ctrl-C.

usage: python_package.py [--model FILE] [--folder FOLDER]

Run by the interpreter of an environment that has the wheel and numpy. --model is an image classifier with a free batch, for example
the corpus's MobileNetV2; without it the small network of fixtures/ is used, which says little about threads. Files go to --folder, or to a
temporary one; the one for the save of a large model needs 5 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def child(code: str, *arguments: str, interrupt: float | None = None) -> str:
    """What a program prints; with `interrupt` it gets SIGINT so many seconds after it prints `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready" and interrupt is not None:
            time.sleep(interrupt)
            lines.append(f"sent {time.time()}\n")
            process.send_signal(2)
        else:
            lines.append(line)
    process.wait()
    return "".join(lines)


def imports() -> float:
    """Median milliseconds of `import secateur` in 20 new interpreters, by -X importtime."""
    times = []
    for _ in range(20):
        command = [sys.executable, "-X", "importtime", "-c", "import secateur"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
        last = [line for line in told.splitlines() if line.endswith("| secateur")][-1]
        times.append(int(last.split("|")[1]) / 1000)
    return statistics.median(times)


THREADS = """
import logging, sys, time, threading, numpy, secateur
logging.disable(logging.WARNING)
model = secateur.Model(sys.argv[1])
name, _, shape, _ = model.inputs[0]
shape = [size if isinstance(size, int) else 1 for size in shape]
data = secateur.Data({name: numpy.random.default_rng(0).standard_normal((16, *shape[1:]), dtype="float32")})
work = lambda: secateur.quantize(model, data=data, jobs=1)
work()
def timed(threads, each):
    begin = time.perf_counter()
    made = [threading.Thread(target=lambda: [work() for _ in range(each)]) for _ in range(threads)]
    [one.start() for one in made]
    [one.join() for one in made]
    return time.perf_counter() - begin
print(min(timed(1, 4) for _ in range(2)), min(timed(2, 2) for _ in range(2)))
"""

STREAM = """
import logging, sys, numpy, secateur
logging.disable(logging.WARNING)
count = int(sys.argv[2])
model = secateur.Model(sys.argv[1])
name, _, shape, _ = model.inputs[0]
shape = [size if isinstance(size, int) else 1 for size in shape]
def samples():
    made = numpy.random.default_rng(0)
    for _ in range(count):
        yield {name: made.standard_normal(shape, dtype="float32")}
secateur.quantize(model, data=samples(), compare=False)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""

INTERRUPTED = """
import logging, os, sys, time, numpy, secateur
logging.disable(logging.WARNING)
model, what, out = sys.argv[1:4]
opened = secateur.Model(model)
name, _, shape, _ = opened.inputs[0]
shape = [size if isinstance(size, int) else 1 for size in shape]
made = numpy.random.default_rng(0)
width = opened.outputs[0].shape[-1]
arrays = {name: made.standard_normal((256, *shape[1:]), dtype="float32")}
labels = {"y": made.integers(0, width, 256)}
calls = {
    "quantize": lambda: secateur.quantize(model, data=arrays, output=out),
    "finetune": lambda: secateur.finetune(model, data=secateur.Data({**arrays, **labels}).labels("y"), epochs=50, output=out),
    "simplify": lambda: secateur.simplify(model, output=out, verify_time=60),
    "save": lambda: secateur.simplify(model, output=out, compare=False, allow_unchanged=True),
}
print("ready", flush=True)
try:
    calls[what]()
    print("finished")
except KeyboardInterrupt:
    print(f"answered {time.time()}", flush=True)
time.sleep(1)
"""

SAVED = """
import sys, threading, time, secateur
peak = 0
def anonymous():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) / 1024
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.005)
done = False
watching = threading.Thread(target=watch)
watching.start()
secateur.simplify(sys.argv[1], compare=False, allow_unchanged=True, output=sys.argv[2])
done = True
watching.join()
print(peak)
"""


def large(folder: Path) -> Path:
    """A model of 2.4 GB that `simplify` leaves as it is: three products with weights in one sparse file."""
    import onnx
    from onnx import TensorProto, helper

    size = 14142
    nodes, weights, value = [], [], "x"
    with open(folder / "large.data", "wb") as file:
        file.truncate(3 * size * size * 4)
        for index in range(3):
            file.seek(index * size * size * 4)
            file.write(struct.pack("<f", index + 1.0))
            weight = TensorProto(name=f"w{index}", data_type=1, dims=[size, size], data_location=TensorProto.EXTERNAL)
            entries = {"location": "large.data", "offset": index * size * size * 4, "length": size * size * 4}
            for key, entry in entries.items():
                weight.external_data.add(key=key, value=str(entry))
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [value, weight.name], [f"h{index}"]))
            nodes.append(helper.make_node("Relu", [f"h{index}"], [f"r{index}"]))
            value = f"r{index}"
    ends = [helper.make_tensor_value_info(name, 1, [1, size]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def interrupted(model: str, what: str, after: float, folder: Path) -> str:
    """How long a call takes to answer SIGINT, and whether it left a file."""
    out = folder / f"{what}.onnx"
    told = dict(line.split(" ", 1) for line in child(INTERRUPTED, model, what, str(out), interrupt=after).splitlines() if " " in line)
    left = sorted(path.name for path in folder.iterdir() if path.name.startswith(what) or path.suffix in (".tmp", ".part"))
    if "answered" not in told:
        return "finished before"
    return f"{(float(told['answered']) - float(told['sent'])) * 1000:.0f} ms, {'left ' + ', '.join(left) if left else 'no file left'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "fixtures" / "digits_cnn_bn.onnx"))
    parser.add_argument("--stream", default=str(ROOT / "fixtures" / "digits_cnn_bn.onnx"), help="the model that 10,000 samples go through")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="secateur-bench-") as name:
        folder = asked.folder or Path(name)
        print(f"import: {imports():.1f} ms", flush=True)
        one, two = map(float, child(THREADS, asked.model).split())
        print(f"four calls of quantize: {one:.2f} s on one thread, {two:.2f} s on two: {one / two:.2f}x", flush=True)
        few, many = (float(child(STREAM, asked.stream, str(count))) for count in (100, 10_000))
        print(f"quantize, peak memory: {few:.0f} MB with 100 samples, {many:.0f} MB with 10,000", flush=True)
        for what, after in (("quantize", 2.0), ("finetune", 4.0), ("simplify", 0.5)):
            print(f"Ctrl-C in {what}: {interrupted(asked.model, what, after, folder)}", flush=True)
        try:
            path = large(folder)
        except ImportError as error:
            print(f"a model of 2.4 GB: skipped, {error}")
            return
        print(f"Ctrl-C in a save of 2.4 GB: {interrupted(str(path), 'save', 0.5, folder)}", flush=True)
        peak = float(child(SAVED, str(path), str(folder / "same.onnx")))
        same = os.path.getsize(folder / "same.onnx") == os.path.getsize(path)
        print(f"2.4 GB that nothing changes: {peak:.0f} MB anonymous memory at most{'' if same else ', ANOTHER FILE'}")
        print(json.dumps({"python": sys.version.split()[0]}))


if __name__ == "__main__":
    main()
