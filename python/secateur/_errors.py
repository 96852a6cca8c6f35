"""Exceptions. Every one has the stable code of the error, and says where it is and what may help."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._outcome import Outcome
    from .reports import EvaluationReport


class SecateurError(Exception):
    """Something could not be done.

    Attributes:
        code: what went wrong, in one stable word such as ``"output-exists"``.
        message: the same for people.
        hint: what may help, in words of the command line, or ``None``.
        file, node, value: where it is, each ``None`` if that is not known.
        step: which step of a pipeline, counted from 1, or ``None``.
        line, column: the place in a text, or ``None``.

    >>> import secateur
    >>> try:
    ...     secateur.Pipeline.preset("simplifi")
    ... except secateur.SecateurError as error:
    ...     print(error.code, "|", error.hint)
    unknown-preset | did you mean `simplify`?
    """

    code: str
    message: str
    hint: str | None
    file: str | None
    node: str | None
    value: str | None
    step: int | None
    line: int | None
    column: int | None

    def __init__(self, text: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        body = dict(document or {})
        self._document = body
        self.code = str(body.get("code", "defect"))
        self.message = str(body.get("message", text))
        for name in ("hint", "file", "node", "value", "step", "line", "column"):
            setattr(self, name, body.get(name))

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.args[0] if self.args else "", self._document))

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints under ``--json``."""
        return {"error": dict(self._document)}

    def _advise(self, hint: str) -> None:
        """Gives another hint, in words of this package."""
        self.hint = self._document["hint"] = hint


class InputError(SecateurError, ValueError):
    """A model, an option, a pipeline, a rule or data are not what they should be."""


class FileError(SecateurError, OSError):
    """A file cannot be read or written, exists already, or is also read."""

    def __init__(self, text: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(text, document)
        self.filename = self.file

    def __str__(self) -> str:
        return SecateurError.__str__(self)


class EngineError(SecateurError, RuntimeError):
    """The engine cannot run a model, took too long, needed too much memory, or is not there."""


class GateError(SecateurError):
    """A result is not as good as was asked for, or nothing changed that was asked to.

    Attributes:
        outcome: the result with its report, or ``None`` where there is none. It can be used all the same:
            ``error.outcome.result.save(path)``.
        evaluation: the report of an evaluation whose gates do not hold, or ``None``.
    """

    outcome: Outcome | None = None
    evaluation: EvaluationReport | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The model of an outcome stays in its process.
        return (*super().__reduce__(), {"evaluation": self.evaluation})


FILES = frozenset(
    {
        "baseline",
        "external-output-exists",
        "interrupted",
        "not-a-file",
        "output-exists",
        "output-is-input",
        "output-is-input-data",
        "output-is-output",
        "read-failed",
        "report",
        "stored-report",
        "sweep-record",
        "write-failed",
    }
)
OURS = frozenset({"defect", "internal-lower", "pass-defect", "pass-invalid-model", "autodiff-internal", "threads"})


def kind_of(code: str) -> type[SecateurError]:
    """The class of an error with this code."""
    if code in FILES:
        return FileError
    if code == "not-accepted":
        return GateError
    if code.startswith("engine-"):
        return EngineError
    if code in OURS or code == "cancelled":
        return SecateurError
    return InputError


def made(document: str, text: str) -> SecateurError:
    """The exception for an error that came as JSON."""
    body = json.loads(document)["error"]
    return kind_of(body["code"])(text, body)


def _document(code: str, message: str, hint: str | None, value: str | None = None) -> dict[str, Any]:
    fields = ("file", "node", "value", "hint", "line", "column")
    return {"code": code, "message": message, **dict.fromkeys(fields), "value": value, "hint": hint}


def wrong(code: str, message: str, hint: str | None = None, value: str | None = None) -> InputError:
    """An error about what the caller gave, found on this side."""
    return InputError(message, _document(code, message, hint, value))


def refusal(message: str, hint: str) -> GateError:
    """The exception for a result that is not as good as was asked for."""
    return GateError(message, _document("not-accepted", message, hint))
