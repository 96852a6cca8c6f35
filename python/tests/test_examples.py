"""The programs in `examples` do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from subjects import CNN_BN, FIXTURES, MLP, ROOT, environment

import secateur

EXAMPLES = ROOT / "python" / "examples"


def example(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120)


def test_every_example_is_run() -> None:
    named = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}", ' in named, path.name


def test_samples_of_a_program(tmp_path: Path) -> None:
    found = example("quantize_with_own_data.py", MLP, "out.onnx", "8", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "8 samples of calibration data" in found.stdout
    assert any(node.op_type == "DequantizeLinear" for node in secateur.Model(tmp_path / "out.onnx").nodes)


@pytest.mark.parametrize(
    ("reference", "candidate", "status", "said"),
    [
        (CNN_BN, MLP, 0, "accuracy  passed"),
        (MLP, CNN_BN, 1, "size is 4.5466"),
        (MLP, FIXTURES / "digits_cnn_bn.data", 2, "read-failed"),
    ],
)
def test_a_gate(reference: Path, candidate: Path, status: int, said: str, tmp_path: Path) -> None:
    data = f"{{npz: {FIXTURES / 'data' / 'digits_test.npz'}, labels: y, samples: 60}}"
    for _ in range(2):
        found = example("gate_in_ci.py", reference, candidate, data, "--report", "report.xml", cwd=tmp_path)
        assert found.returncode == status, found.stderr
    assert said in found.stdout + found.stderr
    assert (tmp_path / "report.xml").is_file() is (status != 2)


def test_a_search(tmp_path: Path) -> None:
    data = f"{{npz: {FIXTURES / 'data' / 'digits_test.npz'}, labels: y, samples: 60}}"
    found = example("search_a_variable.py", CNN_BN, data, "out.onnx", "--drop", "0.3", "--steps", "2", cwd=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    tried = [line.split(":")[0] for line in found.stdout.splitlines() if "hold" in line]
    assert len(tried) == 3
    assert secateur.Model(tmp_path / "out.onnx").facts.macs < secateur.Model(CNN_BN).facts.macs  # type: ignore[operator]
    refused = example("search_a_variable.py", CNN_BN, data, "other.onnx", "--drop", "-1", "--steps", "1", cwd=tmp_path)
    assert (refused.returncode, "no share holds" in refused.stdout) == (1, True), refused.stderr
    assert not (tmp_path / "other.onnx").exists()
