"""Pipelines, and the functions that compare, measure and explain."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native
from ._data import counted, samples_for
from ._errors import refusal, wrong
from ._model import ModelLike, taken
from ._outcome import (
    BISECTING,
    EVALUATING,
    FEATURES,
    LOG,
    STATISTICS,
    VERIFYING,
    CallOptions,
    ComparingOptions,
    Kept,
    Outcome,
    PathLike,
    Told,
    one_of,
    option_name,
    options_of,
    plain,
    refuse_unknown,
    run_pipeline,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from typing_extensions import Unpack

    from ._data import DataLike
    from ._outcome import RunOptions
    from .reports import Bisection, Difference, EvaluationReport, Findings, Verification


class Pipeline:
    """Steps that rewrite a model, and gates that the result has to pass; it may be run any number of times.

    >>> import secateur
    >>> pipeline = secateur.Pipeline.of("simplify", ("quantize-weights", {"type": "int8"}))
    >>> pipeline.steps
    ('simplify', 'quantize-weights')
    >>> pipeline.run("fixtures/digits_mlp.onnx").accepted
    True
    """

    __slots__ = ("_calls", "_native")

    def __init__(self, native: _native.Pipeline, calls: tuple[tuple[str, ...], ...] = ()) -> None:
        self._native = native
        # What made it, to make it again in another process.
        self._calls = calls

    @classmethod
    def _of(cls, *call: str) -> Pipeline:
        make, *arguments = call
        return cls(getattr(_native.Pipeline, make)(*arguments), (call,))

    def _with(self, *call: str) -> Pipeline:
        make, *arguments = call
        return Pipeline(getattr(self._native, make)(*arguments), (*self._calls, call))

    @classmethod
    def preset(cls, name: str) -> Pipeline:
        """One that comes with secateur; :meth:`presets` names them."""
        return cls._of("preset", name)

    @classmethod
    def presets(cls) -> tuple[str, ...]:
        """The names of the pipelines that come with secateur."""
        return tuple(_native.presets())

    @classmethod
    def parse(cls, yaml: str, vars: Mapping[str, Any] | None = None) -> Pipeline:
        """A pipeline in YAML, with values of its variables; relative paths in it start from the working directory.

        >>> import secateur
        >>> yaml = "vars: { opset: 17 }\\nsteps: [{ convert-opset: { version: '${opset}' } }]"
        >>> secateur.Pipeline.parse(yaml, {"opset": 18}).variables["opset"]
        18
        """
        return cls._of("parse", yaml, json.dumps(plain(vars or {})))

    @classmethod
    def open(cls, path: PathLike, vars: Mapping[str, Any] | None = None) -> Pipeline:
        """A pipeline file, with values of its variables; relative paths in it start from its folder."""
        name, values = os.fspath(path), json.dumps(plain(vars or {}))
        return cls(_native.Pipeline.open(name, values), (("open", os.path.abspath(name), values),))

    @classmethod
    def of(cls, *steps: str | tuple[str, Mapping[str, Any]]) -> Pipeline:
        """Steps one behind the other: each a name, or a name with options as pipelines in YAML have them."""
        made: Pipeline | None = None
        for step in steps:
            name, options = (step, dict[str, Any]()) if isinstance(step, str) else step
            made = cls._of("step", name, _options(options)) if made is None else made.then(name, **options)
        if made is None:
            raise wrong("pipeline-shape", "a pipeline has at least one step")
        return made

    def then(self, name: str, **options: Any) -> Pipeline:
        """The same with one more step."""
        return self._with("then", name, _options(options))

    def set(self, variable: str, value: Any) -> Pipeline:
        """The same with another value of a variable, or of an option of a step, as ``"quantize.calibrate"``."""
        return self._with("set", variable, json.dumps(plain(value)))

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps, in order."""
        return tuple(self._native.steps())

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that it declares, and the options of all steps, with their values."""
        found: dict[str, Any] = json.loads(self._native.variables())
        return found

    def to_yaml(self) -> str:
        """The pipeline in YAML."""
        return self._native.to_yaml()

    def run(self, model: ModelLike, **run: Unpack[RunOptions]) -> Outcome:
        """Runs the steps on a model, compares the result with it and judges the gates; see :func:`run`."""
        return run_pipeline(self._native, model, run, "a pipeline")

    def __repr__(self) -> str:
        return f"<secateur.Pipeline: {', '.join(self.steps)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_again, (self._calls,))


def _options(options: Mapping[str, Any]) -> str:
    return json.dumps({option_name(key): plain(value) for key, value in options.items()})


def _again(calls: tuple[tuple[str, ...], ...]) -> Pipeline:
    """The pipeline that these calls make."""
    first, *others = calls
    made = Pipeline._of(*first)
    for call in others:
        made = made._with(*call)
    return made


def run(pipeline: Pipeline | PathLike, model: ModelLike, **run: Unpack[RunOptions]) -> Outcome:
    """Runs a pipeline on a model, compares the result with it and judges the gates.

    Args:
        pipeline: a :class:`Pipeline`, a pipeline file, or the name of a preset.
        model: the model.
        run: see :class:`RunOptions`.

    Raises:
        GateError: the result is not accepted: outputs differ, a gate is broken, or nothing changed that was asked to.
        InputError: a model, a pipeline, an option or data are not what they should be.
        EngineError: the engine cannot run the model.

    >>> import secateur
    >>> outcome = secateur.run("simplify", "fixtures/digits_cnn_bn.onnx")
    >>> outcome.verdict in ("equal", "within")
    True
    """
    if not isinstance(pipeline, Pipeline):
        name = os.fspath(pipeline)
        is_file = os.path.isfile(name) or os.path.basename(name) != name or os.path.splitext(name)[1] != ""
        pipeline = Pipeline.open(name) if is_file else Pipeline.preset(name)
    return run_pipeline(pipeline._native, model, run, "a run")


class VerifyOptions(ComparingOptions, total=False):
    """How :func:`verify` compares."""

    data: DataLike | None
    """Samples to compare on; inputs made from the reference if nothing is said."""
    strict: bool | None
    """Whether warnings about models are errors."""
    map: Mapping[str, str] | None
    """An input or output of the reference and what stands for it in the model, by name or position."""
    localize: bool | None
    """Whether the first node that differs is named."""
    per_node: bool | None
    """Whether each node of a quantized model is judged alone, too."""
    node_sqnr: float | None
    """The lowest signal-to-noise ratio in decibels that a node may have, with ``per_node``."""
    report: PathLike | None
    """The file of a report: a page with the graphs (``.html``), JSON, Markdown or JUnit XML by its ending."""
    force: bool | None
    """Whether a report that exists is replaced."""


def verify(reference: ModelLike, model: ModelLike, **options: Unpack[VerifyOptions]) -> Verification:
    """Compares the outputs of two models on the same inputs: those of ``data``, else inputs made from the reference itself.

    Returns:
        A report whose ``verdict`` is ``equal``, ``within``, ``different`` or ``not-checked``; ``holds`` is whether the models
        compute the same, or within the tolerance.

    >>> import secateur
    >>> found = secateur.verify("fixtures/digits_mlp.onnx", "fixtures/digits_mlp.onnx")
    >>> found.verdict, found.holds
    ('equal', True)
    """
    refuse_unknown(options, VERIFYING, "verify", ["data", "progress"])
    if options.get("node_sqnr") is not None and not options.get("per_node"):
        raise wrong("usage", "node_sqnr is for nodes that are judged alone", "give per_node=True, too", "node_sqnr")
    first, second = taken(reference)[0], taken(model)[0]
    given = options_of(options, VERIFYING, first)
    with Told(options.get("progress")) as told:
        (document, text, html), _ = _native.verify(first._native, second._native, given, told.progress, LOG.info)
    from .reports import Verification

    return Verification.from_dict(json.loads(document), text, html)


class EvaluateOptions(CallOptions, total=False):
    """How :func:`evaluate` measures."""

    against: ModelLike | None
    """The model to compare with, on the same samples."""
    gates: Sequence[str] | None
    """Conditions on the figures, as ``"accuracy.at-least=0.9"`` or ``"map.drop=0.005"``."""
    output_name: str | None
    """The output that holds the predictions; the first if nothing is said."""
    threshold: float | None
    """A single score above this is class 1; 0.5 if nothing is said."""
    latency_runs: int | None
    """Timed runs; 0 leaves the time out, 20 if nothing is said."""
    state: PathLike | None
    """A file that keeps the counts, to go on after an interruption and to merge shards."""
    report: PathLike | None
    """The file of a report: a page with pictures (``.html``), JSON, Markdown or JUnit XML by its ending."""
    force: bool | None
    """Whether a report that exists is replaced."""
    refused: Literal["raise", "return"] | None
    """Whether a broken gate raises :class:`GateError`, or is in the report alone."""


def evaluate(model: ModelLike, data: DataLike, **options: Unpack[EvaluateOptions]) -> EvaluationReport:
    """Measures a model on data: accuracy, precision, recall, F1, or the figures of the task; latency and size.

    Args:
        model: the model.
        data: samples with labels; :meth:`Data.labels`, :meth:`Data.task` and others say what they are.
        options: see :class:`EvaluateOptions`.

    Raises:
        GateError: a gate is broken or undecided.

    >>> import secateur
    >>> data = secateur.Data("fixtures/data/digits_test.npz").labels("y").samples(100)
    >>> found = secateur.evaluate("fixtures/digits_cnn.onnx", data, gates=["accuracy.at-least=0.9"])
    >>> found.samples, found.accuracy > 0.9
    (100, True)
    """
    refuse_unknown(options, EVALUATING, "evaluate", ["data", "progress", "against", "refused"])
    refused = options.get("refused") or "raise"
    one_of("refused", refused, ("raise", "return"))
    opened = taken(model)[0]
    against = options.get("against")
    reference = None if against is None else taken(against)[0]
    given = options_of(options, EVALUATING, opened, samples_for("evaluation", data, opened), reference)
    with Told(options.get("progress")) as told:
        (document, text, html), holds = _native.evaluate(opened._native, given, told.progress, LOG.info)
    from .reports import EvaluationReport

    found = EvaluationReport.from_dict(json.loads(document), text, html)
    if not holds and refused == "raise":
        broken = "; ".join(f"{gate.name}: {gate.message}" for gate in found.gates if not gate.passed)
        error = refusal(broken, "`error.evaluation` has the figures; refused='return' raises nothing")
        error.evaluation = found
        raise error
    return found


class Stats(Kept):
    """Statistics of a model's values over data, for options of steps such as ``stats``, which take a file of them as well.

    >>> import secateur
    >>> data = secateur.Data("fixtures/data/digits_calib.npz").samples(32)
    >>> ranges = secateur.stats("fixtures/digits_mlp.onnx", data)
    >>> secateur.quantize("fixtures/digits_mlp.onnx", stats=ranges).accepted
    True
    """

    __slots__ = ("_native",)

    def __init__(self, native: _native.Stats) -> None:
        self._native = native

    @classmethod
    def open(cls, path: PathLike) -> Stats:
        """Reads a file of statistics."""
        return cls(_native.Stats.open(os.fspath(path)))

    @classmethod
    def merge(cls, parts: Iterable[PathLike]) -> Stats:
        """Adds up files of shards."""
        return cls(_native.merge_stats([os.fspath(part) for part in parts]))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The samples that are counted, as ranges from and to."""
        return tuple(self._native.ranges)

    @property
    def values(self) -> int:
        """How many values they are of."""
        return self._native.values

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        return tuple(self._native.notes)

    def save(self, path: PathLike) -> None:
        """Writes a file of statistics."""
        self._native.write(os.fspath(path))


class StatsOptions(CallOptions, total=False):
    """How :func:`stats` collects."""

    max_growth: float | None
    """How much a model may grow while it is made ready."""


def stats(
    model: ModelLike,
    data: DataLike,
    purpose: Literal["quantize", "gram", "gradients"] = "quantize",
    *,
    loss: Literal["cross-entropy", "mean-squared-error", "binary-cross-entropy"] = "cross-entropy",
    output: str | None = None,
    rows_per_sample: int = 64,
    **options: Unpack[StatsOptions],
) -> Stats:
    """Collects statistics of a model's values over data, in memory that does not grow with them.

    Args:
        model: the model.
        data: samples.
        purpose: what they are for: ranges for ``quantize``, second moments for rounding (``gram``), gradients for pruning.
        loss: the loss of ``gradients``.
        output: the output that the loss reads; the first if nothing is said.
        rows_per_sample: rows of a layer that one sample gives at most, for ``gram``.
        options: see :class:`StatsOptions`.

    >>> import secateur
    >>> secateur.stats("fixtures/digits_mlp.onnx", secateur.Data("fixtures/data/digits_calib.npz").samples(8)).ranges
    ((0, 8),)
    """
    refuse_unknown(options, STATISTICS, "stats", ["data", "purpose", "loss", "output", "rows_per_sample", "progress"])
    one_of("purpose", purpose, ("quantize", "gram", "gradients"))
    one_of("loss", loss, ("cross-entropy", "mean-squared-error", "binary-cross-entropy"))
    rows = counted("rows_per_sample", rows_per_sample, 1)
    opened = taken(model)[0]
    role = "training" if purpose == "gradients" else "calibration"
    given = options_of(options, STATISTICS, opened, samples_for(role, data, opened))
    with Told(options.get("progress")) as told:
        found = _native.stats(opened._native, purpose, given, loss, output, rows, told.progress, LOG.info)
    return Stats(found)


class Features(NamedTuple):
    """What was written: the value, how many samples, elements of each, and whether there are labels beside them."""

    value: str
    samples: int
    width: int
    labelled: bool


def features(
    model: ModelLike, at: str, output: PathLike, data: DataLike, **options: Unpack[CallOptions]
) -> Features:
    """Writes what a model computes at a value for each sample, as an npz file: ``features``, float32, a row a sample, and
    ``labels`` where the data have them.

    Args:
        model: the model.
        at: the value; ``"auto"`` is what the last Gemm or MatMul with constant weights reads.
        output: the file; it must not exist.
        data: samples.
        options: see :class:`CallOptions`.

    >>> import secateur, tempfile
    >>> data = secateur.Data("fixtures/data/digits_calib.npz").samples(8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     secateur.features("fixtures/digits_mlp.onnx", "auto", f"{folder}/features.npz", data).width
    32
    """
    refuse_unknown(options, FEATURES, "features", ["data", "at", "output", "progress"])
    opened = taken(model)[0]
    given = options_of(options, FEATURES, opened, samples_for("evaluation", data, opened))
    with Told(options.get("progress")) as told:
        found = _native.features(opened._native, at, os.fspath(output), given, told.progress, LOG.info)
    return Features(*found)


def difference(a: ModelLike, b: ModelLike) -> Difference:
    """What differs between two models by names, without running them.

    >>> import secateur
    >>> secateur.difference("fixtures/digits_mlp.onnx", "fixtures/digits_mlp.onnx").same
    True
    """
    from .reports import Difference

    document = _native.difference(taken(a)[0]._native, taken(b)[0]._native)
    return Difference.from_dict(json.loads(document))


def check(
    model: ModelLike,
    *,
    target: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    deny: Literal["error", "warning", "note"] = "error",
) -> Findings:
    """What is wrong with a model, what costs and what a runtime refuses; nothing is changed.

    Args:
        model: the model. A file that is read but is no valid model is answered by findings with the codes of errors.
        target: runtimes that the model is to run on, such as ``"tensorrt"`` or ``"ort@1.16"``.
        only: codes of the checks that run.
        skip: codes of checks that do not run.
        deny: the severity from which on a finding makes ``passed`` false.

    >>> import secateur
    >>> found = secateur.check("fixtures/digits_cnn_bn.onnx")
    >>> found.passed, found.findings[0].code
    (True, 'unfused-batch-norm')
    """
    from .reports import Findings

    path = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    opened = None if path is not None else taken(model)[0]._native
    one_of("deny", deny, ("error", "warning", "note"))
    targets, kept, left = ([one] if isinstance(one, str) else list(one) for one in (target, only, skip))
    found = _native.check(path, opened, targets, kept, left, deny)
    return Findings.from_dict(json.loads(found[0]), *found[1:])


def compare_reports(results: Mapping[str, PathLike]) -> str:
    """A page in HTML that has stored results side by side: figures, what got worse, what costs and quality buy each other.

    Args:
        results: the files of results as JSON, by the names that the page gives them; the first one is what the others are measured by.

    >>> import secateur
    >>> outcome = secateur.simplify("fixtures/digits_cnn_bn.onnx", report="target/monday.json", force=True)
    >>> "none is worse" in secateur.compare_reports({"monday": "target/monday.json", "tuesday": "target/monday.json"})
    True
    """
    texts = []
    for name, path in results.items():
        with open(path, encoding="utf-8") as file:
            texts.append((name, file.read()))
    return _native.compare_reports(texts)


def bisect(pipeline: Pipeline, model: ModelLike, **options: Unpack[ComparingOptions]) -> Bisection:
    """Finds the one rewrite of a pipeline that makes outputs differ, on inputs made from the model.

    >>> import secateur
    >>> found = secateur.bisect(secateur.Pipeline.preset("simplify"), "fixtures/digits_cnn_bn.onnx")
    >>> found.rewrites > 0, found.breaking
    (True, None)
    """
    refuse_unknown(options, BISECTING, "bisect", ["progress"])
    from .reports import Bisection

    opened = taken(model)[0]
    given = options_of(options, BISECTING, opened)
    with Told(options.get("progress")) as told:
        document = _native.bisect(pipeline._native, opened._native, given, told.progress, LOG.info)
    return Bisection.from_dict(json.loads(document))


class Explanation(str):
    """Text for people; ``document`` is the same for programs."""

    document: dict[str, Any]

    @classmethod
    def _of(cls, found: tuple[str, str]) -> Explanation:
        made = cls(found[1])
        made.document = json.loads(found[0])
        return made

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Explanation._of, ((json.dumps(self.document), str(self)),))


def explain(
    name: str, *, model: ModelLike | None = None, node: str | None = None, rules: Sequence[PathLike] = ()
) -> Explanation:
    """Explains a step with its options, a rewrite rule, a preset, or with ``"data"`` how data are described.

    With ``model`` and ``node`` it says why a rule does not fire at that node.

    >>> import secateur
    >>> secateur.explain("quantize").document["kind"]
    'pass'
    """
    options = _native.Options(json.dumps({"rules": [os.fspath(folder) for folder in rules]}))
    if model is None and node is None:
        return Explanation._of(_native.explain(name, options))
    if model is None or node is None:
        raise wrong("usage", "why a rule does not fire is asked of a model and a node", "give both `model` and `node`")
    return Explanation._of(_native.explain_why_not(name, node, taken(model)[0]._native, options))


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of pipelines, descriptions of data, the options of a step, or what a verb answers.

    >>> import secateur
    >>> secateur.schema("widen")["properties"]["ratio"]["default"]
    1.5
    """
    found: dict[str, Any] = json.loads(_native.schema(name))
    return found
