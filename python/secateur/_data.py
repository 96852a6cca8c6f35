"""Samples: anything that can be iterated, or what the command line takes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union

from . import _native
from ._arrays import is_array, packed
from ._errors import wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ._model import Model

#: What data are for.
ROLES = ("calibration", "evaluation", "training")
#: The array of labels where an item has one more array than the model has inputs.
LABELS = "y"

#: What stands for samples: a path or a description as the command line takes it, named arrays, one array for the only input, an
#: iterable of batches (dicts, or tuples in the order of the inputs, with labels last), a ``CalibrationDataReader``, or
#: :class:`Data`.
DataLike = Union[str, "os.PathLike[str]", "Data", "Mapping[str, Any]", "Iterable[Any]", Any]


class Data:
    """Samples, described or handed over.

    Args:
        source: a path or a description in YAML or JSON, as ``--data`` takes it (``secateur explain data``); a mapping of such a
            description; named arrays with samples along axis 0; or an iterable of such named arrays, which is read to its end at
            once, in memory that does not grow.
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
        """The array that holds the labels (integers are classes, floats are targets), the table of labels of a folder of images,
        or ``"reference"``: what the reference answers is true."""
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
        return Data._of(self._native.samples(counted("samples", count)))

    def seed(self, seed: int) -> Data:
        """The seed of the choice of samples."""
        return Data._of(self._native.seed(counted("seed", seed)))

    def batch(self, samples: int) -> Data:
        """Samples a run, where the model leaves it open."""
        return Data._of(self._native.batch(counted("batch", samples, 1)))

    def shard(self, index: int, count: int) -> Data:
        """Part ``index`` of ``count``, ``index`` from 0."""
        return Data._of(self._native.shard(counted("shard", index), counted("shard", count, 1)))


def _yaml(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def counted(name: str, value: Any, least: int = 0) -> int:
    """A whole number that a caller gives."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= int(value) < 2**63:
        raise wrong("option-value", f"{name}: {value!r} is not a whole number from {least}", None, name)
    return int(value)


def by_role(data: DataLike | None, model: Model) -> list[tuple[str | None, _native.Data]]:
    """Data with their roles: of a mapping whose keys are roles, else without one."""
    if data is None:
        return []
    if isinstance(data, Mapping) and any(role in ROLES for role in data) and not _are_inputs(data, model):
        for role in data:
            if role not in ROLES:
                from difflib import get_close_matches

                near = get_close_matches(str(role), ROLES, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"roles are {', '.join(ROLES)}"
                raise wrong("unknown-role", f"there is no role `{role}` of data", hint, str(role))
        return [(role, _of(one, model)) for role, one in data.items()]
    return [(None, _of(data, model))]


def by_roles(data: Mapping[str, DataLike] | None) -> list[tuple[str | None, _native.Data]]:
    """Data with their roles, for models that are not open here."""
    if data is None:
        return []
    if not isinstance(data, Mapping) or not all(role in ROLES for role in data):
        raise wrong("unknown-role", "data come with their roles", f"a mapping of {', '.join(ROLES)}")
    return [(role, _read(one, None)) for role, one in data.items()]


def samples_for(role: str, data: DataLike, model: Model) -> list[tuple[str | None, _native.Data]]:
    """Data for this role."""
    return [(role, _of(data, model))]


def _of(data: DataLike, model: Model) -> _native.Data:
    return data._native if isinstance(data, Data) else _read(data, None, model)


def _are_inputs(names: Iterable[str], model: Model) -> bool:
    inputs = {value.name for value in model.inputs}
    return all(name in inputs for name in names)


def _read(source: Any, names: list[str] | None, model: Model | None = None) -> _native.Data:
    if isinstance(source, Data):
        return source._native
    if isinstance(source, (str, os.PathLike)):
        return _native.Data.open(os.fspath(source))
    naming = _Names(names, model)
    if is_array(source):
        return naming.labelled(_native.Data.arrays(naming.pairs(source)))
    if hasattr(source, "keys") and hasattr(source, "__getitem__"):
        items = {str(key): source[key] for key in source.keys()}  # noqa: SIM118
        if not items:
            raise wrong("data-empty", "a mapping without arrays holds no samples")
        plain = (str, int, float, bool, dict, os.PathLike, type(None))
        if any(isinstance(item, plain) for item in items.values()):
            return _native.Data.open(_described(items))
        return naming.labelled(_native.Data.arrays(naming.pairs(items)))
    if isinstance(source, (bytes, bytearray)) or not (hasattr(source, "get_next") or hasattr(source, "__iter__")):
        raise wrong(
            "data-spec",
            f"a {type(source).__name__} holds no samples",
            "give a path, a dict of arrays, an iterable of dicts of arrays, or secateur.Data",
        )
    return naming.labelled(_native.Data.stream(map(naming.pairs, _items(source))))


def _described(description: dict[str, Any]) -> str:
    """A description of data as the command line takes it."""
    try:
        return json.dumps(description, default=os.fspath)
    except TypeError:
        names = ", ".join(name for name, item in description.items() if not isinstance(item, (str, int, float, dict)))
        raise wrong(
            "data-spec",
            f"a mapping holds arrays, or texts and numbers that describe data, and not both: {names}",
            "give arrays alone, or secateur.Data(arrays).labels(...)",
        ) from None


def _items(source: Any) -> Iterator[Any]:
    """Batches, of a reader of ONNX Runtime too, which says by ``None`` or an empty dict that nothing follows."""
    if not hasattr(source, "get_next"):
        yield from source
        return
    while item := source.get_next():
        yield item


class _Names:
    """What the arrays of an item are called."""

    def __init__(self, names: list[str] | None, model: Model | None) -> None:
        self.names = names
        self.model = model
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
            if self.model is None:
                raise wrong("data-array", "arrays without names", "give dicts, or say names=[...]")
            self.names = [value.name for value in self.model.inputs if not value.optional]
            if count == len(self.names) + 1 and LABELS not in self.names:
                self.names.append(LABELS)
                self.has_labels = True
        return self.names

    def labelled(self, data: _native.Data) -> _native.Data:
        """The same, with labels where items had them."""
        return data.labels(LABELS) if self.has_labels else data
