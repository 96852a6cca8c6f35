"""Types: the checker accepts what is right and refuses what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from subjects import environment

#: Each line, and a part of what the checker says of it; nothing where it is right.
CALLS = {
    'secateur.quantize("m.onnx", calibrate="mse")': None,
    'secateur.quantize("m.onnx", calibrate={"percentile": 99.9})': None,
    'secateur.quantize("m.onnx", calibrate="nonsense")': 'Argument "calibrate" to "quantize" has incompatible type',
    'secateur.quantize("m.onnx", calibrat="mse")': 'Unexpected keyword argument "calibrat" for "quantize"',
    'secateur.quantize("m.onnx", per_channel="yes")': 'Argument "per_channel" to "quantize" has incompatible type',
    'secateur.quantize("m.onnx", activations="uint16", weights="int4")': None,
    'secateur.quantize("m.onnx", activations="uint17")': 'Argument "activations" to "quantize" has incompatible type',
    'secateur.quantize(b"", data=[{"x": [1.0]}], output=pathlib.Path("o.onnx"))': None,
    'secateur.quantize("m.onnx", stats=secateur.Stats.open("s"))': None,
    'secateur.quantize("m.onnx", output=5)': 'Argument "output" to "quantize" has incompatible type',
    'secateur.quantize(5)': 'Argument 1 to "quantize" has incompatible type',
    'secateur.prune_channels("m.onnx", ratio=0.5, criterion="taylor", jobs=2)': None,
    'secateur.prune_channels("m.onnx", criterion="tailor")': 'Argument "criterion" to "prune_channels" has incompatible type',
    'secateur.bind("m.onnx", {"batch": 1})': None,
    'secateur.chain("a.onnx", ["b.onnx", b""])': None,
    'secateur.chain("a.onnx")': 'Missing positional argument "others" in call to "chain"',
    'secateur.merge("a.onnx", "b.onnx", method="slerp")': None,
    'secateur.transfer_parameters("a.onnx", state_dict={"w": [1.0]})': None,
    'secateur.simplify("m.onnx", engine="onnxruntime")': 'Argument "engine" to "simplify" has incompatible type',
    'secateur.simplify("m.onnx", progress=print)': None,
    'secateur.simplify("m.onnx", progress=lambda what: None)': 'Argument "progress" to "simplify" has incompatible type',
    'secateur.verify("a.onnx", "b.onnx", data=[], localize=True)': None,
    'secateur.verify("a.onnx", "b.onnx", refused="return")': 'Unexpected keyword argument "refused" for "verify"',
    'secateur.evaluate("a.onnx", "d.npz", against="b.onnx", gates=["accuracy.drop=0.1"])': None,
    'secateur.stats("a.onnx", "d.npz", "gradients", loss="mse")': 'Argument "loss" to "stats" has incompatible type',
    'secateur.run(secateur.Pipeline.preset("simplify"), "m.onnx", compare=False)': None,
    'secateur.Pipeline.of("simplify", ("quantize", {"calibrate": "mse"}))': None,
    'secateur.configure(engine_process="no")': 'Argument "engine_process" to "configure" has incompatible type',
    'reveal_type(secateur.simplify("m.onnx").report.verify)': 'Revealed type is "secateur.reports.VerifyReport | None"',
    'reveal_type(secateur.evaluate("m.onnx", "d.npz").gates[0].passed)': 'Revealed type is "bool"',
    'reveal_type(secateur.Model("m.onnx").inputs[0].shape)': 'Revealed type is "tuple[int | str | None, ...] | None"',
    'secateur.simplify("m.onnx").report.verdict = "equal"': 'Property "verdict" defined in "RunReport" is read-only',
    "secateur.no_such_function": 'Module has no attribute "no_such_function"',
}


def test_the_checker_knows_every_call(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "calls.py"
    program.write_text("\n".join(["import pathlib", "import secateur", *CALLS]) + "\n")
    words = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty", f"--cache-dir={tmp_path / 'cache'}"]
    found = subprocess.run(
        [*words, str(program)], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    said: dict[int, str] = {}
    for line in found.stdout.splitlines():
        place, _, text = line.partition(": ")
        number = int(place.rsplit(":", 1)[1])
        said[number] = said.get(number, "") + text
    for number, (call, wanted) in enumerate(CALLS.items(), 3):
        if wanted is None:
            assert number not in said, f"{call}: {said[number]}"
        else:
            assert wanted in said.get(number, "nothing"), f"{call}: {said.get(number)}"


def test_the_stub_is_that_of_the_compiled_half(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    words = [sys.executable, "-m", "mypy.stubtest", "secateur._native"]
    found = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stdout


def test_the_package_says_that_it_is_typed() -> None:
    import secateur

    assert (Path(secateur.__file__).parent / "py.typed").is_file()
    assert (Path(secateur.__file__).parent / "_native.pyi").is_file()
