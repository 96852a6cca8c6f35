"""Fixtures: packages that a test needs, and what is put back after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import ModuleType

import pytest

import secateur

# A shell starts commands in the background with SIGINT ignored, and so would be the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def numpy() -> ModuleType:
    """NumPy, where it is installed."""
    found: ModuleType = pytest.importorskip("numpy")
    return found


@pytest.fixture
def onnx(numpy: ModuleType) -> ModuleType:
    """The package onnx, where it is installed."""
    found: ModuleType = pytest.importorskip("onnx")
    return found


@pytest.fixture
def configured() -> Iterator[None]:
    """Where engines run is put back after the test."""
    yield
    secateur.configure()
