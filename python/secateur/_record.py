"""What answers have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

#: The field for a key, and what reads its value.
Readers = dict[str, tuple[str, Callable[[Any], Any]]]
T = TypeVar("T", bound="Record")


class Record:
    """An object of an answer."""

    _document: dict[str, Any]
    _text: str
    _html: str

    @classmethod
    def _readers(cls) -> Readers:
        return {}

    @classmethod
    def from_dict(cls: type[T], document: dict[str, Any], text: str = "", html: str = "") -> T:
        """Makes it of what the command line prints under ``--json``; ``text`` and ``html`` are how people see it."""
        readers = cls._readers()
        values = {}
        for name, value in document.items():
            attribute, read = readers.get(name, (name.replace("-", "_"), frozen))
            values[attribute] = None if value is None else read(value)
        made = cls(**values)
        for name, kept in (("_document", document), ("_text", text), ("_html", html)):
            object.__setattr__(made, name, kept)
        return made

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints under ``--json``."""
        return copy.deepcopy(self._document)

    def __str__(self) -> str:
        return getattr(self, "_text", "") or repr(self)

    def _repr_html_(self) -> str | None:
        return getattr(self, "_html", "") or None


def frozen(value: Any) -> Any:
    """Lists become tuples, in mappings, too."""
    if isinstance(value, dict):
        return {name: frozen(one) for name, one in value.items()}
    return tuple(frozen(one) for one in value) if isinstance(value, list) else value


def many(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Reads each item of a list."""
    return lambda value: tuple(read(one) for one in value)


def by_name(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Reads each value of a mapping."""
    return lambda value: {name: read(one) for name, one in value.items()}
