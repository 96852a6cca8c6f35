"""What the tests run on, and how they run programs. Nothing here needs another package than secateur."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import secateur

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "fixtures"
MLP = FIXTURES / "digits_mlp.onnx"
CNN_BN = FIXTURES / "digits_cnn_bn.onnx"
#: Above the size from which files are mapped.
VIT = FIXTURES / "digits_vit.onnx"
EXTERNAL = FIXTURES / "digits_mlp_external.onnx"
CALIBRATION = FIXTURES / "data" / "digits_calib.npz"
TEST = FIXTURES / "data" / "digits_test.yaml"


def pixels(count: int, seed: int = 0) -> Any:
    """Samples for the digits models as a buffer of the standard library: floats of the shape `[count, 1, 8, 8]`."""
    draw = random.Random(seed)
    values = array("f", (draw.uniform(-1, 1) for _ in range(count * 64)))
    return memoryview(values).cast("B").cast("f", (count, 1, 8, 8))


def classes(count: int) -> Any:
    """Labels for as many samples, `int64 [count]`."""
    return memoryview(array("q", (index % 10 for index in range(count))))


def quantized(data: Any, **options: Any) -> bytes:
    """The bytes of the quantized MLP, without the record of where it comes from."""
    outcome = secateur.quantize(MLP, data=data, provenance=False, compare=False, **options)
    return outcome.result.to_bytes()


def chain_model(layers: int, width: int = 64, input_name: str = "x", node_name: str = "dense") -> bytes:
    """A model of this many matrix products with random weights, `float [batch, width]` to the same."""
    draw = random.Random(1)
    nodes, weights = [], []
    for index in range(layers):
        weight = array("f", (draw.uniform(-1, 1) / width**0.5 for _ in range(width * width)))
        weights.append(_field(5, _tensor(f"w{index}", (width, width), weight.tobytes())))
        left = input_name if index == 0 else f"v{index - 1}"
        name = "y" if index == layers - 1 else f"v{index}"
        nodes.append(_field(1, _node("MatMul", f"{node_name}{index}", (left, f"w{index}"), (name,))))
    graph = b"".join(nodes) + _field(2, b"chain") + b"".join(weights)
    graph += _field(11, _value(input_name, width)) + _field(12, _value("y", width))
    return b"\x08\x08" + _field(7, graph) + _field(8, b"\x10\x11")


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _field(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _node(operator: str, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bytes:
    values = b"".join(_field(1, value) for value in inputs) + b"".join(_field(2, value) for value in outputs)
    return values + _field(3, name) + _field(4, operator)


def _tensor(name: str, dims: tuple[int, ...], raw: bytes) -> bytes:
    return b"".join(b"\x08" + _varint(dim) for dim in dims) + b"\x10\x01" + _field(8, name) + _field(9, raw)


def _value(name: str, width: int) -> bytes:
    shape = _field(1, _field(2, "batch")) + _field(1, b"\x08" + _varint(width))
    return _field(1, name) + _field(2, _field(1, b"\x08\x01" + _field(2, shape)))


def environment(**more: str) -> dict[str, str]:
    """The environment of this process for another one, which finds the same package and these tests wherever it runs."""
    places = [str(Path(__file__).parent)]
    package = Path(secateur.__file__).parents[1]
    if package.name != "site-packages":
        places.append(str(package))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), **more}


def command(*arguments: str | os.PathLike[str], cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    words = [sys.executable, "-m", "secateur", *(os.fspath(argument) for argument in arguments)]
    return subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, **more)


def answer(*arguments: str | os.PathLike[str], cwd: Path) -> dict[str, Any]:
    """What the command line prints under `--json`."""
    found = command(*arguments, "--json", cwd=cwd)
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def python(code: str, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a program of one text in a process of its own."""
    words = [sys.executable, "-c", code, *arguments]
    return subprocess.run(words, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=60)


def children(of: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2] if entry.name.isdigit() else ("Z", "0")
        except OSError:
            continue
        if int(parent) == of and state != "Z":
            found.append(int(entry.name))
    return found
