"""Sweeps: a pipeline with many settings on models, and which of the results no other beats."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _native
from ._data import by_roles
from ._errors import wrong
from ._outcome import LOG, SWEEPING, ComparingOptions, PathLike, Told, options_of, plain, refuse_unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._data import DataLike
    from .reports import SweepReport


class SweepOptions(ComparingOptions, total=False):
    """What :func:`sweep` takes: the flags of the command line with these names."""

    data: Mapping[str, DataLike] | None
    """Data by role, instead of the sweep's."""
    keep_models: bool | None
    """Whether the models of all points are kept that were accepted, and not those of the front alone."""
    retry_failed: bool | None
    """Whether points that failed are computed again."""
    compare: bool | None
    """Whether each result is compared with its model; yes if nothing is said."""
    report: PathLike | None
    """A report: a page (``.html``), JSON or Markdown by its ending."""
    force: bool | None
    """Whether a report may replace a file."""


def sweep(
    sweep: PathLike | Mapping[str, Any], output: PathLike, *, executor: None = None, **options: Unpack[SweepOptions]
) -> SweepReport:
    """Runs a pipeline with many settings on models, measures each result, and says which of them no other beats.

    Args:
        sweep: a file, or the same as a mapping: ``models``, ``pipeline``, ``vars``, ``search``, ``measure``.
        output: the folder of the results. What an earlier run left there is not computed again.
        executor: where points are computed; ``None``: here, one after the other.
        options: see :class:`SweepOptions`.

    >>> import secateur, tempfile
    >>> found = secateur.sweep(
    ...     {
    ...         "model": "fixtures/digits_mlp.onnx",
    ...         "pipeline": {"steps": [{"quantize-weights": {"type": "${type}"}, "when": "${type}"}]},
    ...         "vars": {"type": [None, "int8"]},
    ...         "measure": ["accuracy", "bytes"],
    ...     },
    ...     output=tempfile.mkdtemp(),
    ...     data={"evaluation": secateur.Data("fixtures/data/digits_test.npz").labels("y").samples(100)},
    ... )
    >>> [point.status for point in found.points]
    ['done', 'done']
    """
    refuse_unknown(options, SWEEPING, "sweep", ["data", "progress", "keep_models", "retry_failed"])
    if executor is not None:
        raise wrong("usage", "points are computed in this process", "leave `executor` out")
    given = options_of(options, SWEEPING, None, by_roles(options.get("data")))
    keep, retry = bool(options.get("keep_models")), bool(options.get("retry_failed"))
    with Told(options.get("progress")) as told:
        document = _opened(sweep).run(os.fspath(output), keep, retry, given, told.progress, LOG.info)
    from .reports import SweepReport

    return SweepReport.from_dict(json.loads(document))


def _opened(sweep: PathLike | Mapping[str, Any]) -> _native.Sweep:
    if isinstance(sweep, Mapping):
        return _native.Sweep.parse(json.dumps(plain(sweep)))
    return _native.Sweep.open(os.fspath(sweep))
