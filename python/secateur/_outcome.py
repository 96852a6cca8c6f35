"""Running steps and pipelines, and what comes of it."""

from __future__ import annotations

import json
import logging
import math
import os
from contextlib import contextmanager, nullcontext
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, TypedDict, TypeVar, Union

from . import _native
from ._arrays import packed
from ._data import DataLike, by_role
from ._errors import GateError, refusal, wrong
from ._model import Model, ModelLike, Saved, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from .reports import RunReport

T = TypeVar("T")

#: Where remarks and warnings go.
LOG = logging.getLogger("secateur")

PathLike = Union[str, "os.PathLike[str]"]
#: Called with what goes on, how much is done, and of how much where that is known; ``True`` shows bars of ``tqdm``.
Progress = Union[bool, "Callable[[str, int, int | None], object]"]


class CallOptions(TypedDict, total=False):
    """How models are run: what every function takes that runs some."""

    engine: Literal["tract", "ort"] | None
    """What runs models: tract, which is built in, or the installed ONNX Runtime."""
    jobs: int | None
    """Threads; results do not depend on it. All cores if nothing is said."""
    seed: int | None
    """The seed of everything random; 0 if nothing is said."""
    progress: Progress | None
    """Who is told what goes on."""


class ComparingOptions(CallOptions, total=False):
    """How outputs are compared."""

    sizes: Mapping[str, int] | None
    """Sizes of free dimensions, by symbol or as ``input[axis]``."""
    tolerance: Mapping[str, float] | None
    """The largest error that is *within* by element type, as a share of the largest magnitude of the reference."""
    rounds: int | None
    """Rounds of synthetic inputs at each size."""
    unoptimised: bool | None
    """Whether models are compared without the engine's own optimisation."""
    verify_time: float | None
    """How many seconds to compare."""


class RunOptions(ComparingOptions, total=False):
    """What every step and pipeline takes, beside its own options: the flags of the command line with these names."""

    data: DataLike | None
    """Samples; or a mapping from ``calibration``, ``evaluation`` and ``training`` to samples."""
    compare: bool | None
    """Whether the result is compared with the model; yes if nothing is said."""
    gates: Sequence[str] | None
    """Conditions on the result, as ``"accuracy.drop=0.01"`` or ``"size.at-most=0.3"``."""
    bind: Mapping[str, int | str] | None
    """Sizes of dimensions of the result, by symbol or as ``input[axis]``; a name makes a batch of 1 free."""
    constant_inputs: bool | None
    """Whether graph inputs that have a default become constants first."""
    keep: Sequence[str] | None
    """Regular expressions of nodes and values that stay as they are."""
    fuel: int | None
    """At most this many rewrites."""
    only: Sequence[str] | None
    """Rewrites that are this safe (``exact``, ``rounding``, ``approximate``), rules or parts of a step, and no others."""
    rules: Sequence[PathLike] | None
    """Folders with more rewrite rules."""
    max_growth: float | None
    """How much the file may grow, as a share of its size."""
    strict: bool | None
    """Whether warnings about models are errors."""
    dry_run: bool | None
    """Whether the pipeline only says what it would do."""
    allow_unchanged: bool | None
    """Whether a result is accepted in which nothing changed that was asked to."""
    provenance: bool | None
    """Whether a changed model records where it comes from; yes if nothing is said, but never where that alone makes the file larger."""
    output: PathLike | None
    """The file that an accepted result is written to."""
    force: bool | None
    """Whether files that exist may be replaced; what is read never is."""
    in_place: bool | None
    """Whether an accepted result is written over the file of the model."""
    report: PathLike | None
    """The file of a report: a page with the graphs (``.html``), JSON, Markdown or JUnit XML by its ending."""
    refused: Literal["raise", "return"] | None
    """Whether a result that is not accepted raises :class:`GateError`, or is returned with ``accepted`` false."""


#: As many threads as the command line takes; each is one of the system's.
MOST_JOBS = 4096
#: The largest whole number of an option, and of a size.
LARGEST, LARGEST_SIZE = 2**64 - 1, 2**63 - 1


class _Unfit(Exception):
    """A value that an option does not take, and what it takes."""


def _scalar(value: Any) -> Any:
    """What NumPy or a framework holds as an array without axes, as Python has it; nothing of one with axes."""
    if not hasattr(value, "dtype"):
        return value
    return value.item() if len(getattr(value, "shape", ())) == 0 else None


def _truth(value: Any) -> bool:
    found = _scalar(value)
    if not isinstance(found, bool):
        raise _Unfit(value, "True or False")
    return found


def _whole(value: Any, least: int = 0, most: int = LARGEST) -> int:
    found = _scalar(value)
    if isinstance(found, bool) or not hasattr(found, "__index__") or not least <= index(found) <= most:
        raise _Unfit(value, f"a whole number from {least} to {most}")
    return index(found)


def _jobs(value: Any) -> int:
    return _whole(value, 1, MOST_JOBS)


def _size(value: Any) -> int:
    return _whole(value, -LARGEST_SIZE - 1, LARGEST_SIZE)


def _size_or_name(value: Any) -> int | str:
    return value if isinstance(value, str) else _whole(value)


def _number(value: Any) -> float:
    found = _scalar(value)
    if isinstance(found, bool) or not isinstance(found, SupportsFloat) or not math.isfinite(found):
        raise _Unfit(value, "a finite number")
    return float(found)


def _seconds(value: Any) -> float:
    if (seconds := _number(value)) < 0:
        raise _Unfit(value, "a number of seconds from 0")
    return seconds


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(value, "a str")
    return value


def _path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise _Unfit(value, "a path")
    return str(os.fspath(value))


def _engine(value: Any) -> str:
    if value not in ("tract", "ort"):
        raise _Unfit(value, "an engine: 'tract' or 'ort'")
    return str(value)


def _list_of(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    def checked(value: Any) -> list[T]:
        if isinstance(value, (str, os.PathLike)):
            return [read(value)]
        if hasattr(value, "keys") or not hasattr(value, "__iter__"):
            raise _Unfit(value, "a sequence")
        return [read(item) for item in value]

    return checked


def _map_to(read: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    def checked(value: Any) -> dict[str, T]:
        if not hasattr(value, "keys") or not hasattr(value, "__getitem__"):
            raise _Unfit(value, "a mapping")
        return {_text(name): read(value[name]) for name in value.keys()}  # noqa: SIM118

    return checked


_CALL: dict[str, Callable[[Any], Any]] = {"engine": _engine, "jobs": _jobs, "seed": _whole}
_COMPARING: dict[str, Callable[[Any], Any]] = {
    **_CALL,
    "sizes": _map_to(_size),
    "tolerance": _map_to(_number),
    "rounds": _whole,
    "unoptimised": _truth,
    "verify_time": _seconds,
}
#: What each function takes, and what reads a value as JSON has it.
RUNNING: dict[str, Callable[[Any], Any]] = {
    **_COMPARING,
    "compare": _truth,
    "gates": _list_of(_text),
    "bind": _map_to(_size_or_name),
    "constant_inputs": _truth,
    "keep": _list_of(_text),
    "fuel": _whole,
    "only": _list_of(_text),
    "rules": _list_of(_path),
    "max_growth": _number,
    "strict": _truth,
    "dry_run": _truth,
    "allow_unchanged": _truth,
    "provenance": _truth,
    "output": _path,
    "force": _truth,
    "in_place": _truth,
    "report": _path,
}
BISECTING = _COMPARING
VERIFYING: dict[str, Callable[[Any], Any]] = {
    **_COMPARING,
    "strict": _truth,
    "map": _map_to(_text),
    "localize": _truth,
    "per_node": _truth,
    "node_sqnr": _number,
    "report": _path,
    "force": _truth,
}
EVALUATING: dict[str, Callable[[Any], Any]] = {
    **_CALL,
    "gates": _list_of(_text),
    "output_name": _text,
    "threshold": _number,
    "latency_runs": _whole,
    "state": _path,
    "report": _path,
    "force": _truth,
}
SWEEPING: dict[str, Callable[[Any], Any]] = {**_COMPARING, "compare": _truth, "report": _path, "force": _truth}
STATISTICS: dict[str, Callable[[Any], Any]] = {**_CALL, "max_growth": _number}
FEATURES = _CALL


def plain(value: Any) -> Any:
    """A value of a caller as JSON has it: paths become texts, tuples and arrays lists, scalars of NumPy numbers."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return plain(value.tolist())
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {str(plain(name)): plain(value[name]) for name in value.keys()}  # noqa: SIM118
    if hasattr(value, "__index__"):
        return int(value)
    if isinstance(value, SupportsFloat):
        if math.isfinite(value):
            return float(value)
    elif hasattr(value, "__iter__") and not isinstance(value, (bytes, bytearray, memoryview)):
        return [plain(item) for item in value]
    raise wrong("option-value", f"{value!r} is no value of an option", None, repr(value))


def refuse_unknown(given: Mapping[str, Any], known: Iterable[str], what: str, also: Iterable[str] = ()) -> None:
    """Refuses options that nobody knows, with the nearest one that somebody does. ``also`` is what the function takes as well."""
    for name in given:
        if name not in known and name not in also:
            from difflib import get_close_matches

            near = get_close_matches(name, [*known, *also], 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise wrong("unknown-option", f"{what} has no option `{name}`", hint, name)


def one_of(name: str, value: Any, words: Sequence[str]) -> None:
    """Refuses what is none of the words that an option knows."""
    if value not in words:
        raise wrong("option-value", f"{name}: {value!r}", f"one of {', '.join(words)}", name)


def options_of(
    given: Mapping[str, Any],
    known: Mapping[str, Callable[[Any], Any]],
    model: Model | None,
    data: Sequence[tuple[str | None, _native.Data]] = (),
    against: Model | None = None,
) -> _native.Options:
    """The options of a call that were not left out."""
    values = {}
    for name, read in known.items():
        if (value := given.get(name)) is not None:
            try:
                values[name] = read(value)
            except _Unfit as unfit:
                found, wanted = unfit.args
                raise wrong("option-value", f"{name}: {found!r} is not {wanted}", None, name) from None
    if values.get("engine") == "ort":
        _find_runtime()
    found = data if data or model is None else by_role(given.get("data"), model)
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
        elif progress not in (None, False):
            raise wrong("option-value", f"progress: {progress!r} is neither a truth value nor a function", None, "progress")

    def bar(self, what: str, done: int, total: int | None) -> None:
        """Shows it as a bar of ``tqdm``."""
        bar = self.bars.get(what)
        if bar is None:
            bar = self.bars[what] = self.tqdm(desc=what, total=total, leave=False)
        bar.n, bar.total = done, total
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

    __slots__ = ("_made", "_native", "_remake", "_report", "_result")

    def __init__(self, native: _native.Outcome, remake: Callable[[Model], Any]) -> None:
        self._native = native
        self._remake = remake
        self._made: Any = None
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
        :class:`Model` for a path. It is made once."""
        if self._made is None:
            self._made = self._remake(self.result)
        return self._made

    @property
    def report(self) -> RunReport:
        """What each step did, the comparison with the model, the gates."""
        if self._report is None:
            from .reports import RunReport

            document = json.loads(self._native.report())
            self._report = RunReport.from_dict(document, self._native.text(), self._native.html())
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
        if not self.accepted:
            raise not_accepted(self)
        options = _native.Options(json.dumps({"force": bool(force)}))
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
    pipeline: _native.Pipeline,
    model: ModelLike,
    run: Mapping[str, Any],
    what: str,
    also: Sequence[str] = (),
    *,
    macs: bool | None = None,
) -> Outcome:
    """Runs a pipeline; raises where its result is not accepted, unless the caller wants to see. Whoever does not look at the report
    need not have its operations counted."""
    refuse_unknown(run, RUNNING, what, ["data", "progress", "refused", *also])
    refused = run.get("refused") or "raise"
    one_of("refused", refused, ("raise", "return"))
    opened, remake = taken(model)
    options = options_of({**run, "macs": macs}, {**RUNNING, "macs": _truth}, opened)
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
    error = refusal(f"the result is not accepted: {'; '.join(reasons)}", hint)
    error.outcome = outcome
    return error


def step(
    name: str,
    model: ModelLike,
    options: Mapping[str, Any],
    run: Mapping[str, Any],
    files: Mapping[str, Any] | None = None,
) -> Outcome:
    """Runs one step. ``files`` are the options that name files which are read: a path, or a model or statistics in memory."""
    refuse_unknown(run, RUNNING, f"`{name}`", ["data", "progress", "refused", *options, *(files or {})])
    given = {option_name(key): plain(value) for key, value in options.items() if value is not None}
    read = {key: value for key, value in (files or {}).items() if value is not None}
    with _folder() if read else nullcontext("") as folder:
        given.update((key, _file_of(value, folder, key)) for key, value in read.items())
        pipeline = _native.Pipeline.step(name, json.dumps(given))
        return run_pipeline(pipeline, model, run, f"`{name}`", list(options))


def _folder() -> AbstractContextManager[str]:
    """A folder that lives as long as a call."""
    from tempfile import TemporaryDirectory

    return TemporaryDirectory(prefix="secateur-")


def option_name(keyword: str) -> str:
    """The option of a step that a keyword stands for."""
    return keyword.removeprefix("step_").rstrip("_").replace("_", "-")


def several(models: Any) -> list[Any] | None:
    """One model or several."""
    if models is None:
        return None
    return list(models) if isinstance(models, (list, tuple)) else [models]


@contextmanager
def given_weights(source: Any, state_dict: Mapping[str, Any] | None) -> Iterator[Any]:
    """The source of weights: a model, a file, or a state dict in a file of its own."""
    if (source is None) == (state_dict is None):
        raise wrong("usage", "weights come from `source` or from `state_dict`", "give one of them")
    if state_dict is None:
        yield source
        return
    with _folder() as folder:
        yield state_file(state_dict, folder)


def _file_of(value: Any, folder: str, key: str) -> Any:
    """The path of a file; what is in memory is written to a folder that lives as long as the call."""
    if isinstance(value, (list, tuple)):
        # The name of a file may become part of names in the result.
        return [_file_of(one, folder, f"model{number}") for number, one in enumerate(value, 1)]
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    path = os.path.join(folder, key)
    if isinstance(value, Kept):
        value.save(path)
    else:
        path += ".onnx"
        taken(value)[0].save(path)
    return path


class Kept:
    """What steps read from a file, and a caller may have in memory."""

    __slots__ = ()

    def save(self, path: PathLike) -> None:
        """Writes the file."""
        raise NotImplementedError


def state_file(tensors: Mapping[str, Any], folder: str) -> str:
    """A state dict as a file of safetensors. One tensor at a time is copied."""
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
    if not hasattr(tensors, "keys") or not hasattr(tensors, "__getitem__"):
        message = f"state_dict: a {type(tensors).__name__} is no mapping from names to tensors"
        raise wrong("data-array", message, None, "state_dict")
    header: dict[str, Any] = {}
    path = os.path.join(folder, "state.safetensors")
    at = 0
    for name in tensors.keys():  # noqa: SIM118
        array = packed(name, tensors[name])
        kind = kinds.get(array.element)
        if kind is None:
            raise wrong("data-type", f"tensor {name!r} has elements of type {array.element}", None, name)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            file.write(packed(name, tensors[name]).tobytes())
    return path
