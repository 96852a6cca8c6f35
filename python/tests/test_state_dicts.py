"""Weights of a state dict: as from a file, whatever its tensors are."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from subjects import FIXTURES

import secateur
from secateur._outcome import state_file

TARGET = FIXTURES / "state_dict" / "target.onnx"
WEIGHTS = FIXTURES / "state_dict" / "weights.safetensors"


def tensors() -> dict[str, Any]:
    """The file's tensors as buffers of the standard library."""
    content = WEIGHTS.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    found: dict[str, Any] = {}
    for name, about in header.items():
        if name != "__metadata__":
            assert about["dtype"] == "F32"
            first, end = about["data_offsets"]
            found[name] = memoryview(content)[8 + size + first : 8 + size + end].cast("f", about["shape"])
    return found


def transferred(**given: Any) -> bytes:
    return secateur.transfer_parameters(TARGET, provenance=False, **given).result.to_bytes()


def test_a_state_dict_is_as_good_as_its_file() -> None:
    wanted = transferred(source=WEIGHTS)
    assert transferred(state_dict=tensors()) == wanted
    expected = secateur.Model(FIXTURES / "state_dict" / "expected.onnx")
    assert secateur.verify(expected, wanted).verdict == "equal"


def test_arrays_of_numpy(numpy: ModuleType) -> None:
    arrays = {name: numpy.asarray(tensor) for name, tensor in tensors().items()}
    assert transferred(state_dict=arrays) == transferred(source=WEIGHTS)


def test_any_mapping_will_do() -> None:
    class Held(Mapping[str, Any]):
        """Makes its tensors when they are asked for."""

        def __init__(self) -> None:
            self.names = list(tensors())

        def __getitem__(self, name: str) -> Any:
            return tensors()[name]

        def __iter__(self) -> Iterator[str]:
            return iter(self.names)

        def __len__(self) -> int:
            return len(self.names)

    assert transferred(state_dict=Held()) == transferred(source=WEIGHTS)


def test_the_file_is_one_of_safetensors(tmp_path: Path, numpy: ModuleType) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    given = {
        "floats": numpy.arange(6, dtype="float32").reshape(2, 3),
        "halves": numpy.arange(3, dtype="float16"),
        "integers": numpy.arange(3, dtype="int64"),
        "truths": numpy.array([True, False]),
        "bytes": numpy.arange(5, dtype="uint8"),
        "scalar": numpy.float32(2.5),
    }
    read = safetensors.load_file(state_file(given, str(tmp_path)))
    assert set(read) == set(given)
    for name, value in given.items():
        assert read[name].dtype == value.dtype
        assert (read[name] == value).all()
        assert read[name].shape == value.shape


def test_what_stays_behind_is_said() -> None:
    some = tensors()
    some["more.weight"] = some.pop("head.weight")
    with pytest.raises(secateur.GateError) as caught:
        transferred(state_dict=some)
    assert caught.value.outcome is not None
    account = caught.value.outcome.report.steps[0].transfer
    assert account is not None
    assert {weight.name: weight.fate for weight in account.weights}["head.weight"] not in ("loaded", "adapted")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "usage"),
        ({"source": WEIGHTS, "state_dict": {}}, "usage"),
        ({"state_dict": [1, 2]}, "data-array"),
        ({"state_dict": {"w": object()}}, "data-array"),
        ({"state_dict": {"w": memoryview(array("L", [1]))}}, "data-type"),
    ],
)
def test_what_is_no_state_dict(given: dict[str, Any], code: str) -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.transfer_parameters(TARGET, **given)
    assert caught.value.code == code


def test_the_file_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    transferred(state_dict=tensors())
    with pytest.raises(secateur.InputError):
        transferred(state_dict={"w": object()})
    assert os.listdir(tmp_path) == []
