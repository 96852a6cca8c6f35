"""Regular expressions that name nodes, as the steps of secateur take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Characters that mean something in a regular expression of Rust.
_META = frozenset("\\.+*?()|[]{}^$#&-~")
#: Names that share a pattern: few patterns are looked up faster than many.
_TOGETHER = 64


def escape(name: str) -> str:
    """A pattern that matches a name as it is written."""
    return "".join(f"\\{character}" if character in _META else character for character in name)


def whole(names: Iterable[str]) -> list[str]:
    """Patterns that match these names and no other."""
    listed = [escape(name) for name in names]
    chunks: list[Sequence[str]] = [listed[at : at + _TOGETHER] for at in range(0, len(listed), _TOGETHER)]
    return [f"^(?:{'|'.join(chunk)})$" for chunk in chunks]
