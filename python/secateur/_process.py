"""How this package starts itself to run an engine in a process of its own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from . import _native
from ._data import counted
from ._errors import wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

#: As many seconds as the command line takes for one call of an engine.
LONGEST = 86_400


def starter() -> tuple[str, list[str]] | None:
    """The program and what it is called with; ``None`` where this process has no interpreter that could be started."""
    program = sys.executable
    if not program or not os.path.isfile(program):
        return None
    native = _native.__file__
    worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_worker.py")
    if not os.path.isfile(worker):
        return None
    return program, ["-I", "-S", worker, native]


def configure(
    *,
    engine_process: bool = True,
    engine_memory: int | None = None,
    engine_time: float | None = None,
) -> None:
    """Says where engines run and how far they may go, for every call from now on.

    Args:
        engine_process: whether each engine has a process of its own (on Linux), so that a crash, a hang or a lack of memory is an
            error and not the end of this process. ``False`` keeps engines inside. At first it is ``True``, unless the environment
            has ``SECATEUR_ENGINE_PROCESS=0``.
        engine_memory: the most megabytes that an engine in a process of its own may take for a model; ``None``: by what the model
            holds, at least 512.
        engine_time: the most seconds that one call of an engine may take; ``None``: by the size of the model, at least 15.

    Raises:
        InputError: a bound that is none.

    >>> import secateur
    >>> secateur.configure(engine_process=True, engine_time=60)
    >>> secateur.configure()
    """
    if engine_memory is not None:
        engine_memory = counted("engine_memory", engine_memory, 1)
    if engine_time is not None and not 0 < engine_time <= LONGEST:
        raise wrong("option-value", f"engine_time: {engine_time!r} is not between 0 and {LONGEST} seconds", None, "engine_time")
    _native.limit_engine_calls(engine_time)
    found = starter() if engine_process else None
    if found is None:
        _native.engines_inside()
    else:
        program, before = found
        _native.engines_in_processes(program, before, engine_memory << 20 if engine_memory else None)


def start() -> None:
    """What holds until somebody configures."""
    configure(engine_process=os.environ.get("SECATEUR_ENGINE_PROCESS", "1") != "0")


def command(arguments: Sequence[str]) -> int:
    """Runs the command line; answers its exit status."""
    program, before = starter() or (sys.executable or "secateur", [])
    return _native.cli(list(arguments), program, before)
