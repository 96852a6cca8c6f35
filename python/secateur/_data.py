"""Samples: anything that can be iterated, or what the command line takes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Union

from . import _native
from ._arrays import is_array, packed
from ._errors import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: What data are for.
ROLES = ("calibration", "evaluation", "training")
#: The array of labels where an item has one more array than the model has inputs.
LABELS = "y"

#: What stands for samples: a path or a description as the command line takes it, named arrays, one array for the only input, an iterable of
#: batches (dicts, or tuples in the order of the inputs, with labels last), a ``CalibrationDataReader``, or :class:`Data`.
DataLike = Union[str, "os.PathLike[str]", "Data", "Mapping[str, Any]", "Iterable[Any]", Any]


class Data:
    """Samples, described or handed over.

    Args:
        source: a path or a description in YAML or JSON, as ``--data`` takes it (``secateur explain data``); a mapping of such a description; named arrays with
            samples along axis 0; or an iterable of such named arrays, which is read to its end at once, in memory that does not grow.
        names: for an iterable of tuples, what each array is called.

    Raises:
        InputError: an array that is none, or that does not go with the ones before it.

    >>> import secateur
    >>> data = secateur.Data("fixtures/data/digits_test.npz").labels("y").samples(100)
    >>> round(secateur.evaluate("fixtures/digits_mlp.onnx", data=data, latency_runs=0).accuracy, 2)
    0.99
    """

    __slots__ = ("_native",)

    def __init__(self, source: DataLike, *, names: Sequence[str] | None = None) -> None:
        self._native: _native.Data = _read(source, list(names) if names is not None else None)

    @classmethod
    def _of(cls, native: _native.Data) -> Data:
        made = object.__new__(cls)
        made._native = native
        return made

    def labels(self, array: str) -> Data:
        """The array that holds the labels (integers are classes, floats are targets), the table of labels of a folder of images, or
        ``"reference"``: what the reference answers is true."""
        return Data._of(self._native.labels(array))

    def input(self, input: str, array: str) -> Data:
        """The array that fills an input of the model, where the names do not agree."""
        return Data._of(self._native.input(input, array))

    def preprocess(self, preprocess: str | Mapping[str, Any]) -> Data:
        """How pixels become values: a preset such as ``"torchvision"``, or fields."""
        return Data._of(self._native.preprocess(_yaml(preprocess)))

    def task(self, task: str) -> Data:
        """What the model is judged by: ``"detection"``, ``"segmentation"``, ..."""
        return Data._of(self._native.task(task))

    def boxes(self, boxes: str | Mapping[str, Any]) -> Data:
        """How boxes are read from the outputs: the name of a layout, or fields."""
        return Data._of(self._native.boxes(_yaml(boxes)))

    def samples(self, count: int) -> Data:
        """At most this many samples: the first ones, or with a seed a random choice."""
        return Data._of(self._native.samples(count))

    def seed(self, seed: int) -> Data:
        """The seed of the choice of samples."""
        return Data._of(self._native.seed(seed))

    def batch(self, samples: int) -> Data:
        """Samples a run, where the model leaves it open."""
        return Data._of(self._native.batch(samples))

    def shard(self, index: int, count: int) -> Data:
        """Part ``index`` of ``count``, ``index`` from 0."""
        return Data._of(self._native.shard(index, count))


def _yaml(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def by_role(data: DataLike | None, inputs: Callable[[], list[str]]) -> list[tuple[str | None, _native.Data]]:
    """Data with their roles: of a mapping whose keys are roles, else without one. ``inputs`` names the inputs of the model."""
    if data is None:
        return []
    if hasattr(data, "keys") and len(data) and all(role in ROLES for role in data):  # noqa: SIM118
        return [(role, of(one, inputs)) for role, one in data.items()]
    return [(None, of(data, inputs))]


def of(data: DataLike, inputs: Callable[[], list[str]]) -> _native.Data:
    """Data of a caller who has a model with these inputs."""
    return data._native if isinstance(data, Data) else _read(data, None, inputs)


def _read(
    source: Any, names: list[str] | None, inputs: Callable[[], list[str]] | None = None
) -> _native.Data:
    if isinstance(source, Data):
        return source._native
    if isinstance(source, (str, os.PathLike)):
        return _native.Data.open(os.fspath(source))
    naming = _Names(names, inputs)
    if is_array(source):
        return _native.Data.arrays(naming.pairs(source))
    if hasattr(source, "keys") and hasattr(source, "__getitem__"):
        keys = list(source.keys())
        if not keys:
            raise wrong("data-empty", "a mapping without arrays holds no samples")
        plain = (str, int, float, bool, dict, os.PathLike, type(None))
        if any(isinstance(source[key], plain) for key in keys):
            return _native.Data.open(json.dumps({key: source[key] for key in keys}, default=os.fspath))
        return naming.labelled(_native.Data.arrays(naming.pairs(source)))
    try:
        items = _items(source)
    except TypeError:
        raise wrong(
            "data-spec",
            f"a {type(source).__name__} holds no samples",
            "give a path, a dict of arrays, an iterable of dicts of arrays, or secateur.Data",
        ) from None
    return naming.labelled(_native.Data.stream(map(naming.pairs, items)))


def _items(source: Any) -> Iterator[Any]:
    if not hasattr(source, "get_next"):
        return iter(source)
    if not callable(source.get_next):
        raise TypeError

    def taken() -> Iterator[Any]:
        # A reader of ONNX Runtime says by None or an empty dict that nothing follows.
        while item := source.get_next():
            yield item

    return taken()


class _Names:
    """What the arrays of an item are called."""

    def __init__(self, names: list[str] | None, inputs: Callable[[], list[str]] | None) -> None:
        self.names = names
        self.inputs = inputs
        self.has_labels = False

    def pairs(self, item: Any) -> list[tuple[str, _native.Array]]:
        """The arrays of one item with their names."""
        if hasattr(item, "keys") and hasattr(item, "__getitem__"):
            return [(str(name), packed(str(name), item[name])) for name in item.keys()]  # noqa: SIM118
        if is_array(item) or not isinstance(item, (tuple, list)):
            item = [item]
        names = self.known(len(item))
        if len(names) != len(item):
            raise wrong(
                "data-array",
                f"an item has {len(item)} arrays, and there are {len(names)} names: {', '.join(names)}",
                "give dicts, or one array for each input, with labels last",
            )
        return [(name, packed(name, array)) for name, array in zip(names, item)]

    def known(self, count: int) -> list[str]:
        """Names for this many arrays by position."""
        if self.names is None:
            if self.inputs is None:
                raise wrong("data-array", "arrays without names", "give dicts, or say names=[...]")
            self.names = self.inputs()
            if count == len(self.names) + 1 and LABELS not in self.names:
                self.names.append(LABELS)
                self.has_labels = True
        return self.names

    def labelled(self, data: _native.Data) -> _native.Data:
        """The same, with labels where items had them."""
        return data.labels(LABELS) if self.has_labels else data
