"""The types of arguments, with ONNX Runtime's names and numbers. Its own members and readers are taken as well."""

from __future__ import annotations

import abc
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from .._arguments import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self


class _Named(Enum):
    """An enumeration whose members are written by name."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_string(cls, name: str) -> Self:
        """The member with this name."""
        if name not in cls.__members__:
            raise ValueError(f"{cls.__name__} has no {name!r}: it has {', '.join(cls.__members__)}")
        return cls[name]


class QuantType(_Named):
    """Types of codes."""

    QInt8 = 0
    QUInt8 = 1
    QFLOAT8E4M3FN = 2
    QInt16 = 3
    QUInt16 = 4
    QInt4 = 5
    QUInt4 = 6

    @property
    def tensor_type(self) -> int:
        """ONNX's number of the element type."""
        return _TENSOR_TYPES[self.name]


_TENSOR_TYPES = {"QInt8": 3, "QUInt8": 2, "QFLOAT8E4M3FN": 17, "QInt16": 5, "QUInt16": 4, "QInt4": 22, "QUInt4": 21}


class QuantFormat(_Named):
    """How codes stand in the graph."""

    QOperator = 0
    QDQ = 1


class CalibrationMethod(Enum):
    """How ranges of activations are found."""

    MinMax = 0
    Entropy = 1
    Percentile = 2
    Distribution = 3


class CalibrationDataReader(abc.ABC):
    """Gives the inputs of one run after the other. Any class with ``get_next`` passes for one."""

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        return callable(getattr(subclass, "get_next", None)) or NotImplemented

    @abc.abstractmethod
    def get_next(self) -> dict[str, Any] | None:
        """Arrays by the name of the input; ``None`` or an empty dict where nothing follows."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        item = self.get_next()
        if item is None:
            raise StopIteration
        return item

    def set_range(self, start_index: int, end_index: int) -> None:
        """Has :meth:`get_next` go on from one index to before another; ``CalibStridedMinMax`` needs it, and a length."""
        raise NotImplementedError


E = TypeVar("E", bound=Enum)


def member(function: str, argument: str, value: object, kind: type[E]) -> E:
    """The member of an enumeration that a value is: one of ours, or the one of ONNX Runtime with the same name."""
    if isinstance(value, kind):
        return value
    if isinstance(value, Enum) and type(value).__name__ == kind.__name__ and value.name in kind.__members__:
        return kind[value.name]
    names = ", ".join(kind.__members__)
    raise refused(function, argument, value, f"it is no {kind.__name__}", f"{kind.__name__} has {names}")
