"""Reports: frozen records that say what the command line prints under `--json`."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from subjects import CALIBRATION, CNN_BN, FIXTURES, MLP, TEST, answer

import secateur
from secateur import reports
from secateur._record import Record

#: What the clock and the machine say, and where files are written.
MEASURED = {
    "seconds",
    "files",
    "output",
    "latency",
    "latency_ms",
    "latency_note",
    "pace",
    "samples_per_second",
    "peak_memory_bytes",
}


def settled(document: Any) -> Any:
    """A document without what was measured."""
    if isinstance(document, dict):
        return {name: settled(value) for name, value in document.items() if name not in MEASURED}
    if isinstance(document, list):
        return [settled(value) for value in document if "in place of" not in str(value)]
    return document


def records(value: Any) -> Iterator[Record]:
    """A record and all that are in it."""
    if isinstance(value, Record):
        yield value
        for field in dataclasses.fields(value):  # type: ignore[arg-type]
            yield from records(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from records(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from records(item)


def lists(value: Any) -> bool:
    """Whether a list, which could be changed, is anywhere in a record."""
    if isinstance(value, Record):
        return any(lists(getattr(value, field.name)) for field in dataclasses.fields(value))  # type: ignore[arg-type]
    if isinstance(value, dict):
        return any(map(lists, value.values()))
    return isinstance(value, list) or (isinstance(value, tuple) and any(map(lists, value)))


DYNAMO = FIXTURES / "digits_mlp_dynamo.onnx"
CNN = FIXTURES / "digits_cnn.onnx"
QUANTIZED = FIXTURES / "digits_cnn_qdq_pc_s8s8.onnx"
TEXT_DATA = f"{{npz: {CALIBRATION}, samples: 12}}"
LABELLED = f"{{npz: {CALIBRATION}, samples: 12, labels: y}}"
ANSWERS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "run": (lambda: secateur.simplify(CNN_BN).report, ("simplify", CNN_BN, "-o", "out.onnx")),
    "run of a plan": (
        lambda: secateur.quantize(MLP, data=TEXT_DATA).report,
        ("quantize", MLP, "--data", TEXT_DATA, "-o", "out.onnx"),
    ),
    "run of a transfer": (
        lambda: secateur.transfer_parameters(
            FIXTURES / "state_dict" / "target.onnx", FIXTURES / "state_dict" / "weights.safetensors"
        ).report,
        (
            *("transfer", "parameters", FIXTURES / "state_dict" / "weights.safetensors"),
            *(FIXTURES / "state_dict" / "target.onnx", "-o", "out.onnx"),
        ),
    ),
    "run with gates": (
        lambda: secateur.run("edge-int8", MLP, data={"calibration": TEXT_DATA, "evaluation": LABELLED}, refused="return").report,
        (
            *("run", "edge-int8", MLP, "-o", "out.onnx"),
            *("--data", f"calibration={TEXT_DATA}", "--data", f"evaluation={LABELLED}"),
        ),
    ),
    "verify": (lambda: secateur.verify(MLP, MLP), ("verify", MLP, MLP)),
    "verify that localizes": (
        lambda: secateur.verify(
            MLP, DYNAMO, localize=True, map={"input": "input"}, sizes={"batch": 2}, tolerance={"float": 1e-9}
        ),
        ("verify", MLP, DYNAMO, "--localize", "--map", "input=input", "--size", "batch=2", "--tolerance", "float=1e-9"),
    ),
    "verify each node": (
        lambda: secateur.verify(CNN, QUANTIZED, data=TEXT_DATA, per_node=True, node_sqnr=90),
        ("verify", CNN, QUANTIZED, "--data", TEXT_DATA, "--per-node", "--node-sqnr", "90"),
    ),
    "evaluate": (
        lambda: secateur.evaluate(MLP, secateur.Data(TEST).samples(12), latency_runs=0),
        ("evaluate", MLP, "--data", TEST, "--samples", "12", "--latency-runs", "0"),
    ),
    "evaluate against another": (
        lambda: secateur.evaluate(
            MLP,
            secateur.Data(TEST).samples(12),
            against=CNN_BN,
            gates=["accuracy.drop=0.9", "accuracy.at-least=1.5"],
            refused="return",
        ),
        (
            *("evaluate", MLP, "--data", TEST, "--samples", "12", "--against", CNN_BN),
            *("--gate", "accuracy.drop=0.9", "--gate", "accuracy.at-least=1.5"),
        ),
    ),
    "evaluate targets": (
        lambda: secateur.evaluate(MLP, secateur.Data(TEST).samples(4).task("embedding").labels("reference"), against=CNN_BN),
        (
            *("evaluate", MLP, "--data", TEST, "--samples", "4", "--task", "embedding"),
            *("--labels", "reference", "--against", CNN_BN),
        ),
    ),
    "inspect": (lambda: secateur.Model(CNN_BN).facts, ("inspect", CNN_BN)),
    "diff": (lambda: secateur.difference(MLP, CNN_BN), ("diff", MLP, CNN_BN)),
    "check": (lambda: secateur.check(CNN_BN), ("check", CNN_BN)),
    "bisect": (
        lambda: secateur.bisect(secateur.Pipeline.of("simplify"), CNN_BN),
        ("bisect", CNN_BN, "--pipeline", "simplify"),
    ),
}


@cache
def called(name: str) -> Record:
    """The report of a call, which is made once."""
    report: Record = ANSWERS[name][0]()
    return report


@pytest.fixture(scope="module", params=ANSWERS)
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, dict[str, Any]]:
    """The report of a call, and what the command line prints for the same."""
    _, arguments = ANSWERS[request.param]
    return called(request.param), answer(*arguments, cwd=tmp_path_factory.mktemp("answer"))


def test_a_report_says_what_the_command_line_prints(answered: tuple[Record, dict[str, Any]]) -> None:
    report, printed = answered
    assert settled(report.to_dict()) == settled(printed)
    assert list(report.to_dict()) == [name for name in printed if name in report.to_dict()], "in the same order"


def test_a_report_has_a_field_for_every_key(answered: tuple[Record, dict[str, Any]]) -> None:
    report, printed = answered
    # What is read is read by the fields alone: a key without one is an error.
    assert type(report).from_dict(printed) == type(report).from_dict(json.loads(json.dumps(printed)))
    with pytest.raises(TypeError, match="no_such_key"):
        type(report).from_dict({**printed, "no-such-key": 1})


def test_a_report_is_frozen(answered: tuple[Record, dict[str, Any]]) -> None:
    report, _ = answered
    found = list(records(report))
    assert found
    for record in found:
        field = dataclasses.fields(record)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.something = 1  # type: ignore[attr-defined]
    assert not lists(report)


def test_a_changed_dict_does_not_change_a_report(answered: tuple[Record, dict[str, Any]]) -> None:
    report, _ = answered
    before = json.dumps(report.to_dict())
    report.to_dict().clear()
    for value in report.to_dict().values():
        if isinstance(value, (dict, list)):
            value.clear()
    assert json.dumps(report.to_dict()) == before


def test_a_report_is_pickled(answered: tuple[Record, dict[str, Any]]) -> None:
    report, _ = answered
    again = pickle.loads(pickle.dumps(report))
    assert again == report
    assert again.to_dict() == report.to_dict()
    assert str(again) == str(report)


def test_there_is_a_class_for_every_answer_that_has_a_schema() -> None:
    assert {type(called(name)).__name__ for name in ANSWERS} == {
        *("RunReport", "Verification", "EvaluationReport", "ModelFacts", "Difference", "Findings", "Bisection")
    }
    for name in reports.__all__:
        kind = getattr(reports, name)
        assert issubclass(kind, Record)
        assert kind.__dataclass_params__.frozen


def test_findings_of_files_that_are_no_models_and_of_models_in_memory(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    wrong = tmp_path / "wrong.onnx"
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "i"], ["y"], "sum")],
        "g",
        [value("x", 1, [2]), value("i", 7, [2])],
        [value("y", 1, [2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, wrong)
    found = secateur.check(wrong)
    assert [(one.code, one.place.node) for one in found.findings] == [("type-mismatch", "sum")]
    assert not found.passed and "type-mismatch" in str(found)
    in_memory = secateur.check(secateur.Model(CNN_BN), only="unfused-batch-norm", deny="warning")
    assert {one.code for one in in_memory.findings} == {"unfused-batch-norm"} and not in_memory.passed
    with pytest.raises(secateur.SecateurError, match="tensorrt"):
        secateur.check(CNN_BN, target="tensortr")


def test_fields_have_the_names_of_the_document() -> None:
    outcome = secateur.transfer_parameters(
        FIXTURES / "state_dict" / "target.onnx", FIXTURES / "state_dict" / "weights.safetensors"
    )
    account = outcome.report.steps[0].transfer
    assert account is not None
    assert account.to_dict()["by-structure"] is account.by_structure
    figures = secateur.evaluate(MLP, secateur.Data(TEST).samples(12), latency_runs=0).per_class[0]
    assert figures.class_ == figures.to_dict()["class"]


def test_what_a_comparison_says() -> None:
    same = secateur.verify(MLP, MLP)
    assert (same.verdict, same.holds) == ("equal", True)
    other = secateur.verify(MLP, CNN)
    assert (other.verdict, other.holds) == ("different", False)
    assert other.outputs[0].max_abs is not None
    per_node = secateur.verify(CNN, QUANTIZED, per_node=True, node_sqnr=1000.0)
    assert per_node.per_node is not None
    assert (per_node.per_node.verdict, per_node.holds) == ("different", False)
    with pytest.raises(secateur.InputError) as caught:
        secateur.verify(MLP, MLP, node_sqnr=10.0)
    assert caught.value.hint == "give per_node=True, too"


def test_text_for_people() -> None:
    outcome = secateur.simplify(CNN_BN)
    assert str(outcome) == str(outcome.report)
    assert "nodes" in str(outcome)
    assert "verdict: within" in str(outcome)
    assert "verdict: equal" in str(secateur.verify(MLP, MLP))
    assert "accuracy" in str(secateur.evaluate(MLP, secateur.Data(TEST).samples(4), latency_runs=0))
    inner = outcome.report.steps[0]
    assert str(inner) == repr(inner)
    assert repr(outcome).startswith("<secateur.Outcome: within, accepted, <secateur.Model: ")


def test_reports_are_written(tmp_path: Path) -> None:
    for ending, said in ((".json", '"verdict"'), (".md", "| nodes"), (".xml", "<testsuites")):
        path = tmp_path / f"report{ending}"
        secateur.simplify(CNN_BN, report=path)
        assert said in path.read_text()
    printed = json.loads((tmp_path / "report.json").read_text())
    assert settled(printed) == settled(secateur.simplify(CNN_BN).report.to_dict())
    evaluated = tmp_path / "evaluation.md"
    secateur.evaluate(MLP, secateur.Data(TEST).samples(4), latency_runs=0, report=evaluated)
    assert "accuracy" in evaluated.read_text()
    with pytest.raises(secateur.FileError):
        secateur.evaluate(MLP, secateur.Data(TEST).samples(4), latency_runs=0, report=evaluated)
    secateur.evaluate(MLP, secateur.Data(TEST).samples(4), latency_runs=0, report=evaluated, force=True)
