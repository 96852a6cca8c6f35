"""Where weights lie: in one data file for several models, beside a model, or inside it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native
from ._errors import refusal, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._outcome import PathLike


class SharedModel(NamedTuple):
    """A model that shares a data file."""

    #: The file that was read, and the one that was written.
    input: str
    output: str
    #: Bytes of the model with its external data before, and of its file after.
    before: int
    after: int
    #: Bytes of the data file that are tensors of it.
    data_bytes: int


class SharedContents(NamedTuple):
    """Contents of tensors that are stored once and stand for several tensors, of one model or of several."""

    #: How many contents, and how many tensors have one of them.
    contents: int
    tensors: int
    #: Bytes of the contents, each once, and bytes that are not stored again.
    bytes: int
    saved: int
    #: How many of the contents more than one model has.
    common: int


class Shared(NamedTuple):
    """What became of several models that share a data file."""

    #: The data file, which is ``None`` where no tensor is large enough to lie in it, and its bytes.
    data: str | None
    data_bytes: int
    #: The models, in the order in which they were given.
    models: tuple[SharedModel, ...]
    #: What is stored once and stands for several tensors.
    shared: SharedContents
    #: Bytes of all files before and after; a file that several models read counts once.
    before: int
    after: int
    #: What became of the data files of models that were replaced.
    notes: tuple[str, ...]


class Relocated(NamedTuple):
    """What became of a model whose weights were to move."""

    #: Where the model went, and every file that belongs to it: the model, then its external data.
    output: str
    files: tuple[str, ...]
    #: Whether anything moved, and why not.
    changed: bool
    reason: str | None
    #: How many tensors moved, and their bytes.
    tensors: int
    bytes: int
    #: Bytes of the model with its external data before and after.
    before: int
    after: int
    #: What became of the data files of a model that was replaced.
    notes: tuple[str, ...]


def share(
    models: Iterable[PathLike],
    folder: PathLike,
    *,
    data: str,
    smallest: int = 1024,
    force: bool = False,
    jobs: int | None = None,
) -> Shared:
    """Writes model files under their own names into a folder, all of them with one data file, ``data``, beside them.

    What is the same in two tensors is stored once; every other byte of the models stays. Tensors below ``smallest`` bytes lie in the
    models. Either all files are there afterwards or none. With ``force`` they replace what is there, but no data file that another
    model in the folder reads.

    >>> import pathlib, tempfile, secateur
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> models = ["fixtures/digits_mlp.onnx", "fixtures/digits_mlp_external.onnx"]
    >>> shared = secateur.share(models, folder / "both", data="common.data")
    >>> shared.data_bytes, shared.shared.common, shared.after < shared.before
    (9472, 2, True)
    """
    paths = [os.fspath(model) for model in models]
    given = _options(force=force, jobs=jobs)
    found = json.loads(_native.share(paths, os.fspath(folder), data, _size(smallest), given))
    return Shared(
        models=tuple(SharedModel(**model) for model in found.pop("models")),
        shared=SharedContents(**found.pop("shared")),
        notes=tuple(found.pop("notes")),
        **found,
    )


def convert_external(
    model: PathLike,
    output: PathLike | None = None,
    *,
    data: str | None = None,
    smallest: int = 1024,
    force: bool = False,
    in_place: bool = False,
    allow_unchanged: bool = False,
    jobs: int | None = None,
) -> Relocated:
    """Moves the weights of a model file to one data file beside ``output``: ``data``, or a file that is called like the model.

    Every other byte of the model stays. ``smallest`` is the fewest bytes of a tensor that moves; external data that are smaller come into
    the model. Where there is nothing to move, :class:`GateError` is raised unless ``allow_unchanged``.

    >>> import pathlib, tempfile, secateur
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> moved = secateur.convert_external("fixtures/digits_mlp.onnx", folder / "apart.onnx", data="weights.data")
    >>> whole = secateur.single_file(folder / "apart.onnx", folder / "whole.onnx")
    >>> moved.tensors, len(moved.files), len(whole.files)
    (2, 2, 1)
    """
    given = _options(force=force, jobs=jobs, in_place=in_place, allow_unchanged=allow_unchanged)
    target = _target(model, output, in_place)
    found = _native.convert_external(os.fspath(model), target, data, _size(smallest), given)
    return _relocated("convert_external", found)


def single_file(
    model: PathLike,
    output: PathLike | None = None,
    *,
    force: bool = False,
    in_place: bool = False,
    allow_unchanged: bool = False,
) -> Relocated:
    """Takes the external data of a model file into the file. Every other byte of the model stays.

    A model of more than 2 GiB - 1 is an :class:`InputError` with the code ``model-too-large``. Where the model has no external data,
    :class:`GateError` is raised unless ``allow_unchanged``.
    """
    given = _options(force=force, jobs=None, in_place=in_place, allow_unchanged=allow_unchanged)
    found = _native.single_file(os.fspath(model), _target(model, output, in_place), given)
    return _relocated("single_file", found)


def _relocated(name: str, document: str) -> Relocated:
    found = json.loads(document)
    if found["output"] is None:
        raise refusal(f"{name} changed nothing: {found['reason']}", "allow_unchanged=True takes the model as it is")
    return Relocated(files=tuple(found.pop("files")), notes=tuple(found.pop("notes")), **found)


def _target(model: PathLike, output: PathLike | None, in_place: bool) -> str:
    if output is None and in_place:
        return os.fspath(model)
    if output is None:
        raise wrong("usage", "there is no output", "name one, or pass in_place=True")
    if in_place and os.fspath(output) != os.fspath(model):
        raise wrong("usage", "in_place writes the model; output names another file")
    return os.fspath(output)


def _size(smallest: int) -> int:
    if smallest < 0:
        raise wrong("option-value", f"smallest: {smallest} is no number of bytes")
    return smallest


def _options(*, force: bool, jobs: int | None, **switches: bool) -> _native.Options:
    given: dict[str, Any] = {"force": force, **switches}
    if jobs is not None:
        given["jobs"] = jobs
    return _native.Options(json.dumps(given))
