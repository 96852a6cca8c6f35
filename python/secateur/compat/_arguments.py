"""Arguments of other packages' functions: what is refused, and by which words."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from .._errors import InputError, wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Characters of a value that messages show.
_SHOWN = 120


class Refusal(NamedTuple):
    """An argument that may only have one value here."""

    default: object
    """The value that it may have; ``None`` stands for empty collections, too."""
    why: str
    """Why it may have no other."""
    hint: str
    """What to do instead."""


def refused(function: str, argument: str, value: object, why: str, hint: str | None = None) -> InputError:
    """The exception for an argument that would have to be ignored."""
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return wrong("unknown-option", f"{function}: {argument}={shown} is not taken: {why}", hint, argument)


def refuse(function: str, given: Mapping[str, object], refusals: Mapping[str, Refusal]) -> None:
    """Refuses the first argument that has another value than the one it may have."""
    for argument, refusal in refusals.items():
        if argument in given and not is_unset(given[argument], refusal.default):
            raise refused(function, argument, given[argument], refusal.why, refusal.hint)


def is_unset(value: object, default: object = None) -> bool:
    """Whether an argument has its default, as it stands or as an empty collection."""
    if value is None:
        return default is None
    if default is None:
        return isinstance(value, (str, list, tuple, dict, set, frozenset)) and not value
    return bool(value == default)


def refuse_unknown(function: str, argument: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuses a name that the other package does not know either."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"names are {', '.join(known)}"
            raise refused(function, argument, name, "there is nothing by this name", hint)


def names_of(given: str | Iterable[str] | None) -> list[str]:
    """A list of names, one name, or nothing."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    names = list(given) if hasattr(given, "__iter__") else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise wrong("option-value", f"{given!r} is no list of names", "give texts in a list")
    return names


def replaced(function: str, argument: str, given: str | Iterable[str] | None, parts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The rules and parts of ``simplify`` that do what another package has names for."""
    names = names_of(given)
    refuse_unknown(function, argument, names, parts)
    return sorted({part for name in names for part in parts[name]})
