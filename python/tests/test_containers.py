"""Packed models: the same files again, one tensor by itself, and what is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from subjects import FIXTURES

import secateur

MODEL = FIXTURES / "digits_cnn.onnx"


@pytest.mark.parametrize("speed", ["small", "fast"])
def test_a_model_comes_back(tmp_path: Path, speed: Any) -> None:
    packed = secateur.pack(MODEL, tmp_path / "m.sct", speed=speed)
    assert packed.bytes == (tmp_path / "m.sct").stat().st_size < packed.model_bytes == MODEL.stat().st_size
    assert packed.graph.packed + sum(part.packed for part in packed.tensors) < packed.bytes
    saved = secateur.unpack(tmp_path / "m.sct", tmp_path / "again.onnx")
    assert saved.files == (str(tmp_path / "again.onnx"),)
    assert (tmp_path / "again.onnx").read_bytes() == MODEL.read_bytes()


def test_external_data_come_back_under_their_name(tmp_path: Path) -> None:
    source = FIXTURES / "digits_mlp_external.onnx"
    secateur.pack(source, tmp_path / "m.sct", jobs=1)
    saved = secateur.unpack(tmp_path / "m.sct", tmp_path / "m.onnx")
    assert {Path(file).name for file in saved.files} == {"m.onnx", "digits_mlp_external.data"}
    data = (tmp_path / "digits_mlp_external.data").read_bytes()
    assert data == (FIXTURES / "digits_mlp_external.data").read_bytes()


def test_a_base_takes_what_it_has(tmp_path: Path) -> None:
    pruned = secateur.prune_weights(MODEL, sparsity=0.5, compare=False, provenance=False)
    pruned.save(tmp_path / "pruned.onnx")
    alone = secateur.pack(tmp_path / "pruned.onnx", tmp_path / "alone.sct")
    packed = secateur.pack(tmp_path / "pruned.onnx", tmp_path / "m.sct", base=MODEL)
    assert packed.bytes < alone.bytes / 10
    with pytest.raises(secateur.SecateurError) as caught:
        secateur.unpack(tmp_path / "m.sct", tmp_path / "m.onnx")
    assert caught.value.code.startswith("container-base")
    secateur.unpack(tmp_path / "m.sct", tmp_path / "m.onnx", base=MODEL)
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "pruned.onnx").read_bytes()
    assert secateur.Container(tmp_path / "m.sct", base=MODEL).base == MODEL.name


def test_tensors_by_name(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    secateur.pack(MODEL, tmp_path / "m.sct")
    container = secateur.Container(tmp_path / "m.sct")
    whole = secateur.Model(MODEL).initializers
    assert len(container) == len(container.parts) > 0
    for name in container:
        numpy.testing.assert_array_equal(container[name], whole[name])
    assert "none" not in container
    with pytest.raises(KeyError):
        container["none"]


def test_everything_reads_containers(tmp_path: Path) -> None:
    secateur.pack(MODEL, tmp_path / "m.sct")
    assert secateur.Model(tmp_path / "m.sct").to_bytes() == MODEL.read_bytes()
    assert secateur.verify(MODEL, tmp_path / "m.sct").verdict == "equal"


def test_what_is_damaged_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    secateur.pack(MODEL, tmp_path / "m.sct")
    whole = (tmp_path / "m.sct").read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:100] + b"\0" + whole[101:]):
        (tmp_path / "bad.sct").write_bytes(damaged)
        with pytest.raises(secateur.InputError) as caught:
            secateur.unpack(tmp_path / "bad.sct", tmp_path / "bad.onnx")
        assert caught.value.code.startswith("container-")
        assert not os.path.exists(tmp_path / "bad.onnx")
    with pytest.raises(secateur.InputError):
        secateur.pack(MODEL, tmp_path / "x.sct", speed="quick")  # type: ignore[arg-type]
    with pytest.raises(secateur.FileError):
        secateur.pack(MODEL, tmp_path / "m.sct")
    secateur.pack(MODEL, tmp_path / "m.sct", force=True)
