"""Models for the tests of drop-ins, and the command line beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[3] / "fixtures"


def corpus_models() -> list[Path]:
    """The models of the corpus, if there is one."""
    corpus = os.environ.get("SECATEUR_CORPUS")
    return sorted(Path(corpus, "models").rglob("*.onnx")) if corpus else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "corpus_model" not in metafunc.fixturenames:
        return
    models = corpus_models()
    absent = pytest.mark.skip(reason="SECATEUR_CORPUS names no folder with the corpus of models")
    found = models or [pytest.param(None, marks=absent)]
    metafunc.parametrize("corpus_model", found, ids=lambda path: path.stem if path else "none")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of small models."""
    return FIXTURES


@pytest.fixture(scope="session")
def command():
    """Runs the command line of this interpreter's package; it has to succeed."""

    def run(*arguments: object) -> str:
        line = [sys.executable, "-m", "secateur", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def outputs():
    """What ONNX Runtime computes, without optimisations of its own."""
    runtime = pytest.importorskip("onnxruntime")

    def run(model: object, feeds: dict[str, object]) -> list[object]:
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = model.SerializeToString() if hasattr(model, "SerializeToString") else os.fspath(model)
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, feeds)

    return run
