"""Errors: their classes, what they say, and that the command line says the same."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from subjects import CALIBRATION, CNN_BN, FIXTURES, MLP, ROOT, TEST, answer, python

import secateur
from secateur import _errors, _native

MALICE = FIXTURES / "malice"
UNKNOWN_KEY = "{ steps: [simplify], gate: [] }"
#: A call, and the same on the command line.
SAME: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a file that is not there": (lambda: secateur.simplify("no.onnx"), ("simplify", "no.onnx", "-o", "out.onnx")),
    "a model with a cycle": (
        lambda: secateur.simplify(MALICE / "cycle-two.onnx"),
        ("simplify", MALICE / "cycle-two.onnx", "-o", "out.onnx"),
    ),
    "a value that nobody gives": (
        lambda: secateur.verify(MALICE / "value-undefined.onnx", MLP),
        ("verify", MALICE / "value-undefined.onnx", MLP),
    ),
    "no data": (lambda: secateur.quantize(MLP), ("quantize", MLP, "-o", "out.onnx")),
    "data of another shape": (
        lambda: secateur.quantize(MLP, data=FIXTURES / "data" / "sk_logreg_pipeline_iris_test.npz"),
        ("quantize", MLP, "-o", "out.onnx", "--data", FIXTURES / "data" / "sk_logreg_pipeline_iris_test.npz"),
    ),
    "a preset that is not there": (lambda: secateur.run("simplifi", MLP), ("run", "simplifi", MLP, "-o", "out.onnx")),
    "a key of a pipeline": (
        lambda: secateur.run("unknown.yaml", MLP),
        ("run", "unknown.yaml", MLP, "-o", "out.onnx"),
    ),
    "an output that exists": (
        lambda: secateur.simplify(CNN_BN, output="unknown.yaml"),
        ("simplify", CNN_BN, "-o", "unknown.yaml"),
    ),
    "an output that is read": (
        lambda: secateur.simplify(CNN_BN, output=CNN_BN, force=True),
        ("simplify", CNN_BN, "-o", CNN_BN, "--force"),
    ),
    "a dimension that is not there": (
        lambda: secateur.bind(MLP, {"btach": 1}),
        ("bind", MLP, "--sizes", "btach=1", "-o", "out.onnx"),
    ),
    "a name that nobody explains": (lambda: secateur.explain("quantise"), ("explain", "quantise")),
    "a value of an option": (
        lambda: secateur.prune_channels(MLP, ratio=1.5),
        ("prune", "channels", MLP, "--ratio", "1.5", "-o", "out.onnx"),
    ),
    "labels that are not there": (
        lambda: secateur.evaluate(MLP, secateur.Data(CALIBRATION).labels("z")),
        ("evaluate", MLP, "--data", CALIBRATION, "--labels", "z"),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_an_error_is_that_of_the_command_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown.yaml").write_text(UNKNOWN_KEY)
    call, arguments = SAME[name]
    with pytest.raises(secateur.SecateurError) as caught:
        call()
    printed = answer(*arguments, cwd=tmp_path)
    body = printed["error"]
    assert caught.value.to_dict() == printed
    assert caught.value.step == body.get("step")
    for field in ("code", "message", "hint", "file", "node", "value", "line", "column"):
        assert getattr(caught.value, field) == body[field]
    assert str(caught.value).endswith(f"hint: {body['hint']}") is (body["hint"] is not None)
    assert [path.name for path in tmp_path.iterdir()] == ["unknown.yaml"]


def codes() -> dict[str, list[str]]:
    """The table of codes in the documentation, by what they are of."""
    text = (ROOT / "docs" / "library.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|$", text, re.MULTILINE)
    return {kind: re.findall(r"`([a-z0-9-]+)`", names) for names, kind in rows if kind != "library"}


def test_every_code_has_a_class() -> None:
    found = codes()
    assert len(found) > 10
    ours = {"autodiff-internal", "internal-lower", "pass-defect", "pass-invalid-model", "threads", "cancelled"}
    for kind, names in found.items():
        for name in names:
            wanted = secateur.InputError
            if kind == "files":
                wanted = secateur.FileError  # type: ignore[assignment]
            elif kind == "engines" or name == "engine":
                wanted = secateur.EngineError  # type: ignore[assignment]
            elif name == "not-accepted":
                wanted = secateur.GateError  # type: ignore[assignment]
            elif name in ours:
                wanted = secateur.SecateurError  # type: ignore[assignment]
            assert _errors.kind_of(name) is wanted, name
    known = {name for names in found.values() for name in names}
    assert _errors.FILES <= known
    assert _errors.OURS - {"defect"} <= known


def test_classes_are_those_that_callers_expect() -> None:
    assert issubclass(secateur.InputError, ValueError)
    assert issubclass(secateur.FileError, OSError)
    assert issubclass(secateur.EngineError, RuntimeError)
    for kind in (secateur.InputError, secateur.FileError, secateur.EngineError, secateur.GateError):
        assert issubclass(kind, secateur.SecateurError)
    with pytest.raises(OSError, match="cannot read no.onnx") as caught:
        secateur.Model("no.onnx")
    assert caught.value.filename == "no.onnx"
    assert "[Errno" not in str(caught.value)


def test_an_error_names_the_place() -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.Model(MALICE / "value-undefined.onnx")
    assert caught.value.file == str(MALICE / "value-undefined.onnx")
    assert caught.value.value is not None
    with pytest.raises(secateur.InputError) as caught:
        secateur.Pipeline.parse("steps: [simplify, {quantize: {calibrat: mse}}]\n")
    assert (caught.value.line, caught.value.code) == (1, "unknown-option")
    assert caught.value.column is not None
    with pytest.raises(secateur.InputError) as caught:
        secateur.Pipeline.of("simplify", "quantize").run(MLP, data={"input": memoryview(bytes(1024)).cast("f", (4, 1, 8, 8))})
    assert caught.value.step == 2


def refused() -> secateur.GateError:
    """The error of a result that is not as good as was asked for."""
    pipeline = secateur.Pipeline.parse("{ steps: [simplify], gates: [{ size: { at-most: 0.01 } }] }")
    with pytest.raises(secateur.GateError) as caught:
        pipeline.run(CNN_BN)
    return caught.value


def test_a_broken_gate_carries_the_outcome(tmp_path: Path) -> None:
    error = refused()
    assert error.code == "not-accepted"
    assert "0.01" in str(error)
    assert "refused='return'" in (error.hint or "")
    outcome = error.outcome
    assert outcome is not None
    assert (outcome.accepted, outcome.changed) == (False, True)
    assert [gate.passed for gate in outcome.report.gates] == [False]
    with pytest.raises(secateur.GateError) as caught:
        outcome.save(tmp_path / "out.onnx")
    assert caught.value.outcome is outcome
    assert list(tmp_path.iterdir()) == []
    outcome.result.save(tmp_path / "all-the-same.onnx")
    assert secateur.Model(tmp_path / "all-the-same.onnx").nodes


def test_what_is_refused_may_be_returned(tmp_path: Path) -> None:
    outcome = secateur.simplify(CNN_BN, gates=["size.at-most=0.01"], refused="return", output=tmp_path / "out.onnx")
    assert not outcome.accepted
    assert list(tmp_path.iterdir()) == []


WRONG_RULE = """
rule: relu-is-nothing
summary: A rule that changes what a model computes.
safety: exact
opset: 7..
match: |
  y = Relu (x)
replace: |
  y = x
examples:
  - { x: "float[3]" }
"""


def test_outputs_that_differ_are_refused(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "relu-is-nothing.yaml").write_text(WRONG_RULE)
    with pytest.raises(secateur.GateError) as caught:
        secateur.simplify(MLP, rules=[rules], output=tmp_path / "out.onnx")
    assert caught.value.outcome is not None
    assert caught.value.outcome.verdict == "different"
    assert "outputs differ" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["rules"]
    pipeline = secateur.Pipeline.of(("simplify", {"step_rules": [rules]}))
    found = secateur.bisect(pipeline, MLP)
    assert found.breaking is not None
    assert [change.rule for change in found.changes] == ["relu-is-nothing"]


def test_nothing_to_do_is_refused_where_something_was_asked_for() -> None:
    with pytest.raises(secateur.GateError) as caught:
        secateur.quantize_weights(CNN_BN)
    assert "changed nothing" in str(caught.value)
    assert caught.value.hint == "allow_unchanged=True takes the model as it is"
    outcome = secateur.quantize_weights(CNN_BN, allow_unchanged=True)
    assert (outcome.accepted, outcome.changed) == (True, False)
    assert outcome.report.verdict == "equal"


def test_gates_of_an_evaluation() -> None:
    data = secateur.Data(TEST).samples(12)
    with pytest.raises(secateur.GateError) as caught:
        secateur.evaluate(MLP, data, gates=["accuracy.at-least=1.1"], latency_runs=0)
    evaluation = caught.value.evaluation
    assert evaluation is not None
    assert (evaluation.samples, evaluation.accepted) == (12, False)
    assert caught.value.outcome is None
    found = secateur.evaluate(MLP, data, gates=["accuracy.at-least=1.1"], latency_runs=0, refused="return")
    assert found.gates == evaluation.gates
    assert secateur.evaluate(MLP, data, gates=["accuracy.at-least=0.5"], latency_runs=0).accepted


def test_errors_are_pickled() -> None:
    errors: list[secateur.SecateurError] = [refused()]
    for call in (lambda: secateur.Model("no.onnx"), lambda: secateur.Model(b"x"), lambda: secateur.simplify(MLP, jobs=0)):
        with pytest.raises(secateur.SecateurError) as caught:
            call()
        errors.append(caught.value)
    errors.append(_errors.made(json.dumps({"error": {"code": "engine-failed", "message": "m", "node": "n"}}), "text"))
    for error in errors:
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert (str(again), again.to_dict(), again.node) == (str(error), error.to_dict(), error.node)
    with pytest.raises(secateur.GateError) as gate:
        secateur.evaluate(MLP, secateur.Data(TEST).samples(4), gates=["accuracy.at-least=1.1"], latency_runs=0)
    again = pickle.loads(pickle.dumps(gate.value))
    assert again.evaluation == gate.value.evaluation
    assert again.outcome is None, "a result stays in its process"


def test_a_document_is_not_shared() -> None:
    error = refused()
    error.to_dict()["error"]["code"] = "other"
    assert error.to_dict()["error"]["code"] == "not-accepted"


UNAVAILABLE = """
import os, sys, secateur
try:
    secateur.verify(sys.argv[1], sys.argv[1], engine="ort")
except secateur.EngineError as error:
    print(error.code)
del os.environ["ORT_DYLIB_PATH"]
if sys.argv[2:]:
    print(secateur.verify(sys.argv[1], sys.argv[1], engine="ort").engine)
"""


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-library.so")
    found = python(UNAVAILABLE, str(MLP), cwd=tmp_path, ORT_DYLIB_PATH=missing)
    assert (found.stdout, found.returncode) == ("engine-unavailable\n", 0), found.stderr


def test_an_engine_that_comes_later(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    missing = str(tmp_path / "no-such-library.so")
    found = python(UNAVAILABLE, str(MLP), "again", cwd=tmp_path, ORT_DYLIB_PATH=missing)
    assert (found.stdout, found.returncode) == ("engine-unavailable\nort\n", 0), found.stderr


def test_onnx_runtime_runs_where_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = "import sys, secateur; print(secateur.verify(sys.argv[1], sys.argv[1], engine='ort').engine)"
    found = python(code, str(MLP), cwd=tmp_path, ORT_DYLIB_PATH="")
    assert (found.stdout, found.returncode) == ("ort\n", 0), found.stderr


def test_a_defect_in_the_other_half_is_said() -> None:
    with pytest.raises(secateur.SecateurError) as caught:
        _native.Options("{")
    assert type(caught.value) is secateur.SecateurError
    assert caught.value.code == "defect"


def test_warnings_and_remarks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "secateur"):
        outcome = secateur.quantize_weights(CNN_BN, allow_unchanged=True)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == list(outcome.warnings)
    assert {record.name for record in caplog.records} == {"secateur"}
