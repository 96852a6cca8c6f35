"""Calibration data of a reader as secateur takes samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._arguments import refused
from .._models import whole_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def runs(reader: Any, stride: int | None) -> Iterator[Mapping[str, Any]]:
    """What a reader gives until it gives ``None`` or nothing, in parts of ``stride`` where the reader is told of parts."""
    return _samples(_items(reader) if not stride else _strided(reader, stride))


def _items(reader: Any) -> Iterator[Mapping[str, Any]]:
    while item := reader.get_next():
        yield item


def _strided(reader: Any, stride: int) -> Iterator[Mapping[str, Any]]:
    count = len(reader)
    if count % stride:
        raise refused("quantize_static", "CalibStridedMinMax", stride, f"{count} runs are no multiple of it", "give a divisor")
    for start in range(0, count, stride):
        reader.set_range(start_index=start, end_index=start + stride)
        yield from _items(reader)


def _samples(items: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Items with samples along the first axis; where the inputs of a run do not agree on how many, each is a run as it is."""
    whole = None
    for item in items:
        if whole is None:
            counts = {tuple(getattr(array, "shape", ()))[:1] for array in item.values()}
            whole = len(counts) > 1 or counts == {()}
        yield whole_runs(item) if whole else item
