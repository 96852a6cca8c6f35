"""secateur rewrites ONNX models before deployment and proves that the result still computes what it should.

>>> import secateur
>>> outcome = secateur.simplify("fixtures/digits_cnn_bn.onnx")
>>> outcome.verdict
'within'

A model is a path, bytes, ``onnx.ModelProto``, ``onnx_ir.Model`` or :class:`Model`, and ``outcome.model`` is of the same kind.
Data are anything that can be iterated. What is not as good as was asked for raises :class:`GateError`; remarks and warnings go
to ``logging.getLogger("secateur")``.
"""

from . import _process
from ._calls import (
    EvaluateOptions,
    Explanation,
    Features,
    Pipeline,
    Stats,
    StatsOptions,
    VerifyOptions,
    bisect,
    check,
    compare_reports,
    difference,
    evaluate,
    explain,
    features,
    run,
    schema,
    stats,
    verify,
)
from ._container import Container, Packed, PackedPart, pack, unpack
from ._data import Data, DataLike
from ._errors import EngineError, FileError, GateError, InputError, SecateurError
from ._external import Relocated, Shared, SharedContents, SharedModel, convert_external, share, single_file
from ._model import Model, ModelLike, Node, Saved, Value
from ._native import __version__
from ._outcome import CallOptions, ComparingOptions, Outcome, RunOptions
from ._process import configure
from ._sweep import SweepOptions, sweep
from .steps import *  # noqa: F403
from .steps import __all__ as _steps
from .steps import transfer_merge as merge

__all__ = [
    "CallOptions",
    "ComparingOptions",
    "Container",
    "Data",
    "DataLike",
    "EngineError",
    "EvaluateOptions",
    "Explanation",
    "Features",
    "FileError",
    "GateError",
    "InputError",
    "Model",
    "ModelLike",
    "Node",
    "Outcome",
    "Packed",
    "PackedPart",
    "Pipeline",
    "Relocated",
    "RunOptions",
    "Saved",
    "SecateurError",
    "Shared",
    "SharedContents",
    "SharedModel",
    "Stats",
    "StatsOptions",
    "SweepOptions",
    "Value",
    "VerifyOptions",
    "__version__",
    "bisect",
    "check",
    "configure",
    "compare_reports",
    "convert_external",
    "difference",
    "evaluate",
    "explain",
    "features",
    "merge",
    "pack",
    "run",
    "schema",
    "share",
    "single_file",
    "stats",
    "sweep",
    "unpack",
    "verify",
]
__all__ += _steps

_process.start()
