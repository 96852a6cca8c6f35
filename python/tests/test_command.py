"""The command that comes with the package."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from subjects import CNN_BN, FIXTURES, MLP, TEST, answer, command, environment

import secateur
from secateur import __main__


def test_it_says_its_version(tmp_path: Path) -> None:
    found = command("--version", cwd=tmp_path)
    assert (found.stdout, found.stderr, found.returncode) == (f"secateur {secateur.__version__}\n", "", 0)


def test_it_is_installed_as_a_program(tmp_path: Path) -> None:
    try:
        importlib.metadata.distribution("secateur")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed")
    program = Path(sysconfig.get_path("scripts")) / "secateur"
    found = subprocess.run([program, "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert found.stdout == f"secateur {secateur.__version__}\n"
    assert importlib.metadata.version("secateur") == secateur.__version__
    assert not importlib.metadata.requires("secateur") or all(
        "extra ==" in requirement for requirement in importlib.metadata.requires("secateur") or []
    )


def test_status_0_where_it_is_done(tmp_path: Path) -> None:
    found = command("simplify", CNN_BN, "-o", "out.onnx", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out.onnx").read_bytes() == secateur.simplify(CNN_BN).result.to_bytes()


def test_status_1_where_the_answer_is_no(tmp_path: Path) -> None:
    assert command("verify", MLP, FIXTURES / "digits_cnn.onnx", cwd=tmp_path).returncode == 1
    gate = ("evaluate", MLP, "--data", TEST, "--samples", "4", "--latency-runs", "0", "--gate", "accuracy.at-least=1.1")
    assert command(*gate, cwd=tmp_path).returncode == 1
    assert command("quantize-weights", CNN_BN, "-o", "out.onnx", cwd=tmp_path).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_status_2_where_it_cannot_be_done(tmp_path: Path) -> None:
    found = command("simplify", "no-such-file.onnx", "-o", "out.onnx", cwd=tmp_path)
    assert found.returncode == 2
    assert "no-such-file.onnx" in found.stderr
    assert command("no-such-verb", cwd=tmp_path).returncode == 2
    assert answer("simplify", "no-such-file.onnx", "-o", "out.onnx", cwd=tmp_path)["error"]["code"] == "read-failed"
    assert list(tmp_path.iterdir()) == []


def test_models_go_through_pipes(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "secateur", "simplify", "-", "-o", "-"]
    found = subprocess.run(words, cwd=tmp_path, env=environment(), input=CNN_BN.read_bytes(), capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert found.stdout == secateur.simplify(CNN_BN.read_bytes()).model


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = b"model-\xff.onnx"
    with open(bytes(tmp_path) + b"/" + name, "wb") as file:
        file.write(MLP.read_bytes())
    words: list[str | bytes] = [sys.executable, "-m", "secateur", "inspect", name, "--json"]
    found = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["nodes"] == 4


def test_its_main_answers_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(arguments: list[str]) -> int:
        asked.append(arguments)
        return 1

    monkeypatch.setattr("secateur._process.command", run)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/secateur", "explain", "quantize"])
    assert __main__.main() == 1
    assert asked == [["secateur", "explain", "quantize"]]
