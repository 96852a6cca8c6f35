"""Where weights lie: one data file for several models, weights beside a model and inside it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from subjects import EXTERNAL, FIXTURES, MLP, answer

import secateur

CNN = FIXTURES / "digits_cnn.onnx"


def test_models_share_a_data_file(tmp_path: Path) -> None:
    shared = secateur.share([MLP, str(EXTERNAL)], tmp_path / "both", data="common.data", jobs=2)
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["common.data", MLP.name, EXTERNAL.name]
    assert shared.data == str(tmp_path / "both" / "common.data")
    assert shared.data_bytes == Path(shared.data).stat().st_size
    assert shared.after == sum(path.stat().st_size for path in (tmp_path / "both").iterdir())
    assert shared.before == sum(model.before for model in shared.models)
    assert shared.shared == secateur.SharedContents(contents=2, tensors=4, bytes=9472, saved=9472, common=2)
    for model, source in zip(shared.models, (MLP, EXTERNAL)):
        assert (model.input, Path(model.output).name, model.data_bytes) == (str(source), source.name, 9472)
        assert secateur.verify(source, model.output, unoptimised=True).verdict == "equal"
    with pytest.raises(secateur.FileError) as caught:
        secateur.share([MLP], tmp_path / "both", data="other.data")
    assert caught.value.code == "output-exists"
    again = secateur.share([MLP, EXTERNAL], tmp_path / "both", data="common.data", force=True)
    assert again == shared


def test_the_command_line_answers_the_same(tmp_path: Path) -> None:
    shared = secateur.share([MLP, CNN], tmp_path / "ours", data="common.data", smallest=200)
    printed = answer("share", MLP, CNN, "--data", "common.data", "--smallest", "200", "-o", tmp_path / "theirs", cwd=tmp_path)
    assert printed["shared"] == shared.shared._asdict()
    assert (printed["before"], printed["after"]) == (shared.before, shared.after)
    for path in (tmp_path / "ours").iterdir():
        assert path.read_bytes() == (tmp_path / "theirs" / path.name).read_bytes()


def test_names_that_clash_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(MLP, tmp_path / "a" / MLP.name)
    for models, data, code in (
        ([MLP, tmp_path / "a" / MLP.name], "common.data", "output-is-output"),
        ([MLP], MLP.name, "output-is-output"),
        ([MLP], "sub/common.data", "usage"),
    ):
        with pytest.raises(secateur.SecateurError) as caught:
            secateur.share(models, tmp_path / "out", data=data)
        assert caught.value.code == code
        assert not (tmp_path / "out").exists()
    with pytest.raises(secateur.InputError):
        secateur.share([MLP], tmp_path / "out", data="common.data", smallest=-1)


def test_weights_go_out_and_come_back(tmp_path: Path) -> None:
    moved = secateur.convert_external(MLP, tmp_path / "apart.onnx")
    assert moved.changed and moved.reason is None
    assert (moved.tensors, moved.bytes, moved.before) == (2, 9472, MLP.stat().st_size)
    assert moved.after == sum(Path(file).stat().st_size for file in moved.files)
    assert secateur.verify(MLP, moved.output, unoptimised=True).verdict == "equal"
    whole = secateur.single_file(moved.output, tmp_path / "whole.onnx")
    assert (whole.files, whole.tensors) == ((str(tmp_path / "whole.onnx"),), 2)
    assert (tmp_path / "whole.onnx").read_bytes() == MLP.read_bytes()
    # In the place of the model, and all of it.
    placed = secateur.convert_external(tmp_path / "whole.onnx", in_place=True, data="w.data", smallest=0)
    assert placed.files == (str(tmp_path / "whole.onnx"), str(tmp_path / "w.data"))
    back = secateur.single_file(tmp_path / "whole.onnx", in_place=True)
    assert back.tensors == placed.tensors == 4
    assert any("it is left" in note for note in back.notes)
    assert (tmp_path / "whole.onnx").read_bytes() == MLP.read_bytes()


def test_where_nothing_moves_the_reason_is_raised(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    for call, reason in (
        (partial(secateur.convert_external, MLP, target, smallest=10**6), "no initializer has 1000000 bytes"),
        (partial(secateur.single_file, MLP, target), "no external data"),
    ):
        with pytest.raises(secateur.GateError, match=reason) as caught:
            call()
        assert caught.value.code == "not-accepted"
        assert not target.exists()
        same = call(allow_unchanged=True)
        assert (same.changed, same.output) == (False, str(target))
        assert reason in str(same.reason)
        assert target.read_bytes() == MLP.read_bytes()
        target.unlink()


def test_an_output_is_named_once(tmp_path: Path) -> None:
    for call in (secateur.convert_external, secateur.single_file):
        with pytest.raises(secateur.InputError, match="no output"):
            call(EXTERNAL)
        with pytest.raises(secateur.InputError, match="another file"):
            call(EXTERNAL, tmp_path / "out.onnx", in_place=True)
    assert list(tmp_path.iterdir()) == []
