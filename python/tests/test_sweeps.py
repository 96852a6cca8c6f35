"""Variables of pipelines, and sweeps."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import secateur

ROOT = Path(__file__).parents[2]
YAML = 'vars: { opset: 17, tidy: true }\nsteps:\n- simplify:\n  when: ${tidy}\n- convert-opset: { version: "${opset}" }\n'


def test_a_pipeline_takes_values_of_its_variables(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(YAML)
    for pipeline in (secateur.Pipeline.parse(YAML, {"opset": 18}), secateur.Pipeline.open(path, vars={"opset": 18})):
        assert pipeline.variables["opset"] == 18
        assert pipeline.variables["convert-opset.version"] == 18
        assert pipeline.set("tidy", False).steps == ("convert-opset",)
        again = pickle.loads(pickle.dumps(pipeline.set("opset", 19).then("fold-constants")))
        assert again.variables["opset"] == 19
        # What was added stays when a variable is set.
        assert again.set("tidy", False).steps == ("convert-opset", "fold-constants")
    with pytest.raises(secateur.InputError) as error:
        secateur.Pipeline.parse(YAML, {"opst": 18})
    assert (error.value.code, error.value.hint) == ("unknown-variable", "did you mean `opset`?")
    with pytest.raises(secateur.InputError) as error:
        secateur.Pipeline.parse(YAML).set("opset", "x")
    assert (error.value.code, error.value.line) == ("option-value", 5)


def sweep() -> dict[str, Any]:
    return {
        "model": str(ROOT / "fixtures/digits_mlp.onnx"),
        "pipeline": {"steps": [{"quantize-weights": {"type": "${type}"}, "when": "${type}"}]},
        "vars": {"type": [None, "int8"]},
        "measure": ["accuracy", "bytes"],
    }


def test_a_sweep_is_computed_once_from_a_mapping_and_from_a_file(tmp_path: Path) -> None:
    data = {"evaluation": secateur.Data(ROOT / "fixtures/data/digits_test.npz").labels("y").samples(64)}
    told: list[str] = []
    found = secateur.sweep(
        sweep(), output=tmp_path / "out", data=data, progress=lambda what, done, total: told.append(what)
    )
    assert [point.vars["type"] for point in found.points] == [None, "int8"]
    assert (found.computed, found.missing) == (2, 0)
    assert found.points[1].figures["bytes"] < found.points[0].figures["bytes"]
    assert "sweep" in told
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep()))
    again = secateur.sweep(tmp_path / "sweep.yaml", output=tmp_path / "out", data=data, report=tmp_path / "page.html")
    assert again.computed == 0
    assert again.front == found.front
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_mistakes_have_codes(tmp_path: Path) -> None:
    for change, options, code in [
        ({"var": {}}, {}, "unknown-key"),
        ({"model": "nowhere.onnx"}, {}, "read-failed"),
        ({}, {}, "data-missing"),
        ({}, {"data": {"evalation": "x"}}, "unknown-role"),
        ({}, {"keep_model": True}, "unknown-option"),
        ({}, {"executor": object()}, "usage"),
    ]:
        with pytest.raises(secateur.SecateurError) as error:
            secateur.sweep({**sweep(), **change}, output=tmp_path / "out", **options)  # type: ignore[arg-type,dict-item]
        assert error.value.code == code, (change, options)
    assert not (tmp_path / "out").exists()
