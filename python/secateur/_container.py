"""Packed models: a model with its external data in few bytes, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native
from ._arrays import view
from ._errors import wrong
from ._model import Saved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from ._outcome import PathLike


class PackedPart(NamedTuple):
    """A part of a container: its bytes in the model, and those that it takes."""

    name: str
    bytes: int
    packed: int


class Packed(NamedTuple):
    """What packing a model gave."""

    #: The container.
    output: str
    #: Bytes of the model with its external data, and of the container.
    model_bytes: int
    bytes: int
    #: The graph, and tensors of less than 256 bytes.
    graph: PackedPart
    #: The other tensors, in the order of the file.
    tensors: tuple[PackedPart, ...]


def pack(
    model: PathLike,
    output: PathLike,
    *,
    base: PathLike | None = None,
    speed: Literal["small", "fast"] = "small",
    force: bool = False,
    jobs: int | None = None,
) -> Packed:
    """Packs a model file and its external data into a container, from which :func:`unpack` makes the same files again.

    Everything that takes a model takes a container. ``base`` names a model that whoever unpacks has, too; then what differs is stored.
    ``speed="fast"`` leaves out what is slow to read.

    >>> import pathlib, tempfile, secateur
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> packed = secateur.pack("fixtures/digits_cnn.onnx", folder / "digits.sct")
    >>> packed.bytes < packed.model_bytes
    True
    >>> secateur.simplify(folder / "digits.sct").verdict
    'equal'
    """
    if speed not in ("small", "fast"):
        raise wrong("option-value", f"speed: {speed!r} is neither 'small' nor 'fast'")
    found = json.loads(
        _native.pack(os.fspath(model), os.fspath(output), speed == "fast", _path(base), _options(force, jobs))
    )
    parts = tuple(PackedPart(**part) for part in found.pop("tensors"))
    return Packed(graph=PackedPart(**found.pop("graph")), tensors=parts, **found)


def unpack(
    container: PathLike,
    output: PathLike,
    *,
    base: PathLike | None = None,
    force: bool = False,
    jobs: int | None = None,
) -> Saved:
    """Writes the files that a container was made of: the model as ``output``, its external data beside it.

    A container that was packed with a base needs it: ``base``, or a file of its name beside the container. What is damaged raises
    :class:`InputError` with a code that begins with ``container-``, and nothing is written.
    """
    files, notes = _native.unpack(os.fspath(container), os.fspath(output), _path(base), _options(force, jobs))
    return Saved(tuple(files), tuple(notes))


class Container(Mapping[str, Any]):
    """The tensors of a container by name, as NumPy arrays; none but the one that is asked for is decoded.

    Those of less than 256 bytes are stored with the graph and are not among them.

    >>> import pathlib, tempfile, secateur
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.sct"
    >>> _ = secateur.pack("fixtures/digits_cnn.onnx", path)
    >>> container = secateur.Container(path)
    >>> "fc.weight" in container, container.parts[0].packed < container.parts[0].bytes
    (True, True)
    """

    __slots__ = ("_native", "_parts")

    def __init__(self, path: PathLike, *, base: PathLike | None = None) -> None:
        self._native = _native.Container.open(os.fspath(path), _path(base))
        self._parts = {name: PackedPart(name, size, packed) for name, size, packed in self._native.tensors() if name}

    @property
    def base(self) -> str | None:
        """The name that the file of its base had, where it was packed with one."""
        return self._native.base()

    @property
    def parts(self) -> tuple[PackedPart, ...]:
        """What each tensor takes."""
        return tuple(self._parts.values())

    def __getitem__(self, name: str) -> Any:
        if name not in self._parts:
            raise KeyError(name)
        return view(self._native.tensor(name))

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"<secateur.Container: {len(self)} tensors>"


def _path(path: PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)


def _options(force: bool, jobs: int | None) -> _native.Options:
    given = {"force": force, "jobs": jobs}
    return _native.Options(json.dumps({name: value for name, value in given.items() if value is not None}))
