"""Examples in the texts of all modules; their paths start from the root of the project."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from subjects import ROOT

import secateur

MODULES = [
    "secateur",
    *(
        module.name
        for module in pkgutil.iter_modules(secateur.__path__, "secateur.")
        if module.name not in ("secateur.__main__", "secateur._native", "secateur.compat")
    ),
]
#: Modules whose texts have examples.
WITH_EXAMPLES = {"secateur", "secateur._calls", "secateur._container", "secateur._data", "secateur._errors", "secateur._external", "secateur._model", "secateur._process", "secateur._sweep", "secateur.distributed"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    assert (found.attempted > 0) is (name in WITH_EXAMPLES)
    secateur.configure()


def test_functions_that_are_no_steps_have_an_example() -> None:
    for name in ("run", "verify", "evaluate", "stats", "features", "difference", "check", "bisect", "explain", "schema", "configure"):
        assert ">>> " in (getattr(secateur, name).__doc__ or ""), name
    for name in ("Model", "Data", "Pipeline", "Stats", "SecateurError"):
        assert ">>> " in (getattr(secateur, name).__doc__ or ""), name
