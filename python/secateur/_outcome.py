"""Running steps and pipelines, and what comes of it."""

from __future__ import annotations

import difflib
import json
import logging
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

from . import _native
from ._data import DataLike, by_role
from ._errors import GateError, InputError, wrong
from ._model import Model, ModelLike, Saved, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .reports import RunReport

#: Where remarks and warnings go.
LOG = logging.getLogger("secateur")

PathLike = Union[str, "os.PathLike[str]"]
#: Called with what goes on, how much is done, and of how much where that is known; ``True`` shows bars of ``tqdm``.
Progress = Union[bool, "Callable[[str, int, int | None], object]"]


class CallOptions(TypedDict, total=False):
    """How models are run: what every function takes that runs some."""

    data: DataLike
    """Samples; or a mapping from ``calibration``, ``evaluation`` and ``training`` to samples."""
    engine: Literal["tract", "ort"]
    """What runs models: tract, which is built in, or the installed ONNX Runtime."""
    jobs: int
    """Threads; results do not depend on it. All cores if nothing is said."""
    seed: int
    """The seed of everything random; 0 if nothing is said."""
    progress: Progress
    """Who is told what goes on."""


class ComparingOptions(CallOptions, total=False):
    """How outputs are compared."""

    sizes: Mapping[str, int]
    """Sizes of free dimensions, by symbol or as ``input[axis]``."""
    tolerance: Mapping[str, float]
    """The largest error that is *within* by element type, as a share of the largest magnitude of the reference."""
    rounds: int
    """Rounds of synthetic inputs at each size."""
    unoptimised: bool
    """Whether models are compared without the engine's own optimisation."""
    verify_time: float
    """How many seconds to compare."""


class RunOptions(ComparingOptions, total=False):
    """What every step and pipeline takes, beside its own options: the flags of the command line with these names."""

    compare: bool
    """Whether the result is compared with the model; yes if nothing is said."""
    gates: Sequence[str]
    """Conditions on the result, as ``"accuracy.drop=0.01"`` or ``"size.at-most=0.3"``."""
    bind: Mapping[str, int | str]
    """Sizes of dimensions of the result, by symbol or as ``input[axis]``; a name makes a batch of 1 free."""
    constant_inputs: bool
    """Whether graph inputs that have a default become constants first."""
    keep: Sequence[str]
    """Regular expressions of nodes and values that stay as they are."""
    fuel: int
    """At most this many rewrites."""
    only: Sequence[str]
    """Rewrites that are this safe (``exact``, ``rounding``, ``approximate``), rules or parts of a step, and no others."""
    rules: Sequence[PathLike]
    """Folders with more rewrite rules."""
    max_growth: float
    """How much the file may grow, as a share of its size."""
    strict: bool
    """Whether warnings about models are errors."""
    dry_run: bool
    """Whether the pipeline only says what it would do."""
    allow_unchanged: bool
    """Whether a result is accepted in which nothing changed that was asked to."""
    provenance: bool
    """Whether a changed model records where it comes from; yes if nothing is said."""
    output: PathLike
    """The file that an accepted result is written to."""
    force: bool
    """Whether files that exist may be replaced; what is read never is."""
    in_place: bool
    """Whether an accepted result is written over the file of the model."""
    report: PathLike
    """The file of a report, as JSON, Markdown or JUnit XML by its ending."""
    refused: Literal["raise", "return"]
    """Whether a result that is not accepted raises :class:`GateError`, or is returned with ``accepted`` false."""


#: As many threads as the command line takes; each is one of the system's.
MOST_JOBS = 4096
_SELF = {"data", "progress", "refused", "against"}
_BOOL, _INT, _REAL, _TEXT, _PATH, _LIST, _MAP = "bool", "int", "float", "str", "path", "sequence", "mapping"
_KINDS = {
    "engine": _TEXT,
    "jobs": _INT,
    "seed": _INT,
    "compare": _BOOL,
    "bind": _MAP,
    "constant_inputs": _BOOL,
    "keep": _LIST,
    "fuel": _INT,
    "only": _LIST,
    "rules": _LIST,
    "max_growth": _REAL,
    "strict": _BOOL,
    "dry_run": _BOOL,
    "allow_unchanged": _BOOL,
    "provenance": _BOOL,
    "output": _PATH,
    "in_place": _BOOL,
    "force": _BOOL,
    "report": _PATH,
    "gates": _LIST,
    "sizes": _MAP,
    "tolerance": _MAP,
    "rounds": _INT,
    "unoptimised": _BOOL,
    "verify_time": _REAL,
    "map": _MAP,
    "localize": _BOOL,
    "per_node": _BOOL,
    "node_sqnr": _REAL,
    "output_name": _TEXT,
    "threshold": _REAL,
    "latency_runs": _INT,
    "state": _PATH,
}
_COMPARING = {"sizes", "tolerance", "rounds", "unoptimised", "verify_time"}
_CALL = {"engine", "jobs", "seed"}
RUNNING = {name for name in _KINDS if name not in ("map", "localize", "per_node", "node_sqnr", "output_name")} - {
    "threshold",
    "latency_runs",
    "state",
}
VERIFYING = _CALL | _COMPARING | {"strict", "map", "localize", "per_node", "node_sqnr"}
EVALUATING = _CALL | {"gates", "output_name", "threshold", "latency_runs", "state", "report", "force"}
STATISTICS = _CALL | {"max_growth"}


def _checked(name: str, value: Any) -> Any:
    """A value of an option as JSON has it."""
    kind = _KINDS[name]
    fits = {
        _BOOL: isinstance(value, bool),
        _INT: _is_integer(value) and value >= 0,
        _REAL: (isinstance(value, (int, float)) or hasattr(value, "__float__")) and not isinstance(value, bool),
        _TEXT: isinstance(value, str),
        _PATH: isinstance(value, (str, os.PathLike)),
        _LIST: not hasattr(value, "keys") and hasattr(value, "__iter__"),
        _MAP: hasattr(value, "keys") and hasattr(value, "__getitem__"),
    }[kind]
    if name == "engine" and value not in ("tract", "ort"):
        raise wrong("option-value", f"engine: {value!r} is no engine", "engines are tract and ort", name)
    if not fits:
        raise wrong("option-value", f"{name}: {value!r} is no {kind}", None, name)
    if name == "jobs" and not 1 <= int(value) <= MOST_JOBS:
        raise wrong("option-value", f"jobs: {value!r} is not between 1 and {MOST_JOBS}", None, name)
    if kind == _LIST:
        return [plain(item) for item in ([value] if isinstance(value, (str, os.PathLike)) else value)]
    return float(value) if kind == _REAL else plain(value)


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A value of a caller as JSON has it: paths become texts, tuples lists, scalars of NumPy numbers."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {str(plain(name)): plain(value[name]) for name in value.keys()}  # noqa: SIM118
    if hasattr(value, "__index__"):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value)
    if hasattr(value, "__iter__"):
        return [plain(item) for item in value]
    raise wrong("option-value", f"{value!r} is no value of an option", None, repr(value))


def refuse_unknown(given: Mapping[str, Any], known: set[str], what: str, also: Sequence[str] = ()) -> None:
    """Refuses options that nobody knows, with the nearest one that somebody does."""
    for name in given:
        if name not in known and name not in _SELF:
            near = difflib.get_close_matches(name, [*known, *also, "data", "progress"], 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise wrong("unknown-option", f"{what} has no option `{name}`", hint, name)


def options_of(
    given: Mapping[str, Any], model: Model, against: Model | None = None, data: DataLike | None = None
) -> _native.Options:
    """The options of a call that were not left out."""
    values = {name: _checked(name, value) for name, value in given.items() if name in _KINDS and value is not None}
    if values.get("engine") == "ort":
        _find_runtime()
    found = by_role(given.get("data", data), lambda: [value.name for value in model.inputs])
    return _native.Options(json.dumps(values), found, against._native if against else None)


def _find_runtime() -> None:
    """Names the ONNX Runtime that this interpreter would import, unless the user has named one."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return
    from importlib.util import find_spec

    spec = find_spec("onnxruntime")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        capi = os.path.join(folder, "capi")
        names = sorted(name for name in os.listdir(capi) if name.startswith("libonnxruntime.")) if os.path.isdir(capi) else []
        if names:
            os.environ["ORT_DYLIB_PATH"] = os.path.join(capi, names[-1])
            return


class Told:
    """Who is told what goes on, for the time of a call."""

    def __init__(self, progress: Progress | None) -> None:
        self.bars: dict[str, Any] = {}
        self.progress: Callable[[str, int, int | None], object] | None = None
        if progress is True:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                self.progress = lambda what, done, total: LOG.info("%s: %s of %s", what, done, total)
            else:
                self.tqdm = tqdm
                self.progress = self.bar
        elif callable(progress):
            self.progress = progress

    def bar(self, what: str, done: int, total: int | None) -> None:
        bar = self.bars.get(what)
        if bar is None:
            bar = self.bars[what] = self.tqdm(desc=what, total=total, leave=False)
        bar.n = done
        bar.refresh()

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()


class Outcome:
    """What steps made of a model, and whether it may be used.

    ``print(outcome)`` shows what changed and how the outputs compare; in a notebook it is a table.
    """

    __slots__ = ("_native", "_remake", "_report", "_result")

    def __init__(self, native: _native.Outcome, remake: Any) -> None:
        self._native = native
        self._remake = remake
        self._report: RunReport | None = None
        self._result: Model | None = None

    @property
    def result(self) -> Model:
        """The resulting model, accepted or not."""
        if self._result is None:
            self._result = Model._of(self._native.model)
        return self._result

    @property
    def model(self) -> Any:
        """The resulting model as the kind of thing that went in: bytes for bytes, ``onnx.ModelProto`` for that, a
        :class:`Model` for a path."""
        return self._remake(self.result)

    @property
    def report(self) -> RunReport:
        """What each step did, the comparison with the model, the gates."""
        if self._report is None:
            from .reports import RunReport

            self._report = RunReport.from_dict(json.loads(self._native.report()))
        return self._report

    @property
    def accepted(self) -> bool:
        """Whether the result is as good as was asked for."""
        return self._native.accepted

    @property
    def changed(self) -> bool:
        """Whether the result differs from the model in any way."""
        return self._native.changed

    @property
    def verdict(self) -> str:
        """How the outputs compare: ``equal``, ``within``, ``different`` or ``not-checked``."""
        return self._native.verdict

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        return tuple(self._native.warnings)

    @property
    def files(self) -> dict[str, bytes]:
        """What steps leave beside the model, by path; :meth:`save` writes it as well."""
        return {os.fspath(path): content for path, content in self._native.files()}

    def save(self, path: PathLike, *, force: bool = False) -> Saved:
        """Writes an accepted result, and what steps leave beside it.

        Raises:
            GateError: the result is not accepted; ``outcome.result.save`` writes it all the same.
            FileError: ``output-exists``, ``output-is-input``, ``write-failed``.
        """
        options = _native.Options(json.dumps({"force": force}))
        files, notes = self._native.save(os.fspath(path), options)
        return Saved(tuple(files), tuple(notes))

    def __str__(self) -> str:
        return self._native.text()

    def __repr__(self) -> str:
        accepted = "accepted" if self.accepted else "not accepted"
        return f"<secateur.Outcome: {self.verdict}, {accepted}, {self.result!r}>"

    def _repr_html_(self) -> str:
        return self._native.html()


def run_pipeline(
    pipeline: _native.Pipeline, model: ModelLike, run: Mapping[str, Any], what: str, also: Sequence[str] = ()
) -> Outcome:
    """Runs a pipeline; raises where its result is not accepted, unless the caller wants to see."""
    refuse_unknown(run, RUNNING, what, also)
    refused = run.get("refused", "raise")
    if refused not in ("raise", "return"):
        raise wrong("option-value", f"refused: {refused!r} is neither 'raise' nor 'return'", None, "refused")
    opened, remake = taken(model)
    options = options_of(run, opened)
    with Told(run.get("progress")) as told:
        native = _native.run(pipeline, opened._native, options, told.progress, LOG.info)
    outcome = Outcome(native, remake)
    for warning in outcome.warnings:
        LOG.warning("%s", warning)
    if not outcome.accepted and refused == "raise":
        raise not_accepted(outcome)
    return outcome


def not_accepted(outcome: Outcome) -> GateError:
    """The exception for a result that is not as good as was asked for."""
    native = outcome._native
    reasons = list(native.broken_gates)
    hint = "`error.outcome` has the result and its report; refused='return' raises nothing"
    if native.unchanged:
        reasons.append("what was asked for changed nothing")
        reasons.extend(native.warnings)
        hint = "allow_unchanged=True takes the model as it is"
    if not reasons:
        reasons.append("its outputs differ")
    message = f"the result is not accepted: {'; '.join(reasons)}"
    error = GateError(message, {"code": "not-accepted", "message": message, "hint": hint})
    error.outcome = outcome
    return error


def step(
    name: str,
    model: ModelLike,
    options: Mapping[str, Any],
    run: Mapping[str, Any],
    models: Mapping[str, Any] | None = None,
) -> Outcome:
    """Runs one step. ``models`` are the options that name other models, which may be anything that stands for one."""
    given = {_option(key): plain(value) for key, value in options.items() if value is not None}
    refuse_unknown(run, RUNNING, f"`{name}`", list(options))
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        for key, value in (models or {}).items():
            if value is not None:
                given[_option(key)] = _files_of(value, folder, key)
        pipeline = _native.Pipeline.step(name, json.dumps(given))
        return run_pipeline(pipeline, model, run, f"`{name}`", list(options))


def _option(name: str) -> str:
    return name.removeprefix("step_").rstrip("_").replace("_", "-")


def several(models: Any) -> list[Any]:
    """One model or several."""
    return list(models) if isinstance(models, (list, tuple)) else [models]


@contextmanager
def given_weights(source: Any, state_dict: Mapping[str, Any] | None) -> Iterator[Any]:
    """The source of weights: a model, a file, or a state dict in a file of its own."""
    if (source is None) == (state_dict is None):
        raise wrong("usage", "weights come from `source` or from `state_dict`", "give one of them")
    if state_dict is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        yield state_file(state_dict, folder)


def _files_of(value: Any, folder: str, key: str) -> Any:
    """Paths of other models; those in memory are written to a folder that lives as long as the call."""
    if isinstance(value, (list, tuple)):
        return [_files_of(one, folder, f"{key}{index}") for index, one in enumerate(value)]
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    path = os.path.join(folder, f"{key}.onnx")
    taken(value)[0].save(path)
    return path


def state_file(tensors: Mapping[str, Any], folder: str) -> str:
    """A state dict as a file of safetensors."""
    from ._arrays import packed

    kinds = {
        "float": "F32",
        "double": "F64",
        "float16": "F16",
        "bfloat16": "BF16",
        "int8": "I8",
        "int16": "I16",
        "int32": "I32",
        "int64": "I64",
        "uint8": "U8",
        "bool": "BOOL",
    }
    header: dict[str, Any] = {}
    path = os.path.join(folder, "state.safetensors")
    at = 0
    body = []
    for name, tensor in tensors.items():
        array = packed(name, tensor)
        kind = kinds.get(array.element)
        if kind is None:
            raise wrong("data-type", f"tensor {name!r} has elements of type {array.element}", None, name)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        body.append(array)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in body:
            file.write(array.tobytes())
    return path


__all__ = ["CallOptions", "ComparingOptions", "InputError", "Outcome", "RunOptions"]
