"""Answers as frozen data classes. Written by `generate.py` from the schemas of the answers.

`to_dict()` of each is what the command line prints under ``--json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._record import Record, by_name, frozen, many

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from ._record import Readers

__all__ = [
    "Account",
    "Against",
    "Agreement",
    "Bisection",
    "Candidate",
    "Change",
    "ClassFigures",
    "ClassScores",
    "Culprit",
    "Difference",
    "Divergence",
    "EvaluationReport",
    "Figures",
    "Finding",
    "FindingCounts",
    "FindingPlace",
    "Findings",
    "Fix",
    "GateReport",
    "HeadTraining",
    "Interval",
    "KeptLayer",
    "Latency",
    "LayerFacts",
    "Measure",
    "Mending",
    "ModelFacts",
    "NodeAgreement",
    "NodeError",
    "NodeErrors",
    "NodeReport",
    "NotChecked",
    "OutputFigures",
    "Pace",
    "Part",
    "PlannedNode",
    "PointResult",
    "Reason",
    "RunReport",
    "Scores",
    "Searched",
    "SearchedSamples",
    "SourceWeight",
    "StepReport",
    "SweepReport",
    "TargetWeight",
    "TaskFigures",
    "Times",
    "TrainedClass",
    "ValueFacts",
    "Verification",
    "VerifyReport",
    "Weight",
]


@dataclass(frozen=True, kw_only=True)
class Account(Record):
    """What became of every weight of both models."""

    by_structure: bool
    """Whether weights were paired by structure and not by name."""
    weights: tuple[TargetWeight, ...]
    """The target's weights in the order of the graph."""
    source: tuple[SourceWeight, ...]
    """The source's weights."""
    narrower: bool = False
    """Whether the target is the source with channels removed, as pruning does it."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"weights": ("weights", many(TargetWeight.from_dict)), "source": ("source", many(SourceWeight.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Against(Record):
    """A model against a reference."""

    accuracy: float | None
    """Accuracy of the reference."""
    drop: float | None
    """Accuracy of the reference minus accuracy of the model."""
    drop_interval: Interval | None
    """95 % interval of the drop."""
    agreement: float
    """Share of samples on which both predict the same class."""
    mcnemar_p: float | None
    """Two-sided p-value of McNemar's exact test."""
    only_model: int
    """Samples that only the model gets right, and only the reference."""
    only_reference: int
    """Samples that only the reference gets right."""
    f1: float | None
    """Macro F1 of the reference."""
    latency_ms: Latency | None
    """Time of a run of the reference, measured in turn with the model."""
    bytes: int | None
    """Size of the reference."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"drop_interval": ("drop_interval", Interval.from_dict), "latency_ms": ("latency_ms", Latency.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Agreement(Record):
    """How far two engines are apart on all nodes."""

    engines: tuple[str, ...]
    """The engine whose values both get, and the other one; empty where there is only one."""
    samples: int
    """Samples that were compared."""
    nodes: int
    """Results that were compared."""
    most_codes: float | None
    """Largest difference of all, in codes."""
    differing: float | None
    """Share of all elements that differ."""
    worst: tuple[NodeAgreement, ...]
    """The worst nodes, the worst first; nodes without a difference are left out."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"worst": ("worst", many(NodeAgreement.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Bisection(Record):
    """The rewrite that breaks a model: how many there are, the first after which the outputs differ, and what it was."""

    rewrites: int
    """Rewrites of the whole run."""
    breaking: int | None
    """The number of the first rewrite after which outputs differ; `null` if they do not."""
    changes: tuple[Change, ...]
    """What that rewrite changed."""
    step: str | None
    """The step it is in."""
    divergence: Divergence | None
    """The first node that differs."""
    reason: str | None = None
    """What is different beside figures: the model does not run any more, or cannot be called as before."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"changes": ("changes", many(Change.from_dict)), "divergence": ("divergence", Divergence.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Candidate(Record):
    """One candidate."""

    what: str
    """What it is."""
    on: Literal["search", "held-out", "model"]
    """What it was judged on."""
    holds: bool
    """Whether every bound that was judged holds."""
    chosen: bool
    """Whether it is the result."""
    gates: tuple[GateReport, ...]
    """The bounds that were judged."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"gates": ("gates", many(GateReport.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Change(Record):
    """One kind of change that a pass made, and how often."""

    rule: str
    """The rule, or the part of the pass."""
    count: int
    """How often."""
    details: tuple[str, ...] = ()
    """Details for people: node names, sizes."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class ClassFigures(Record):
    """The figures of one class."""

    class_: int
    """Its number."""
    name: str | None = None
    """Its name, where it has one."""
    support: int
    """How often it is true: boxes, pixels."""
    figures: Mapping[str, float | None]
    """Its figures."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"class": ("class_", frozen)}


@dataclass(frozen=True, kw_only=True)
class ClassScores(Record):
    """Scores of one class."""

    class_: int
    """The class."""
    support: int
    """Samples of it."""
    precision: float
    """Share of the predictions that are right."""
    recall: float
    """Share of the true samples that are found."""
    f1: float
    """Harmonic mean of both, per class; averaged like them."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"class": ("class_", frozen)}


@dataclass(frozen=True, kw_only=True)
class Culprit(Record):
    """The step that made outputs differ."""

    step: int
    """The step, counted from 1."""
    name: str
    """Its pass."""
    divergence: Divergence | None
    """The first node that differs, where it could be found."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"divergence": ("divergence", Divergence.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Difference(Record):
    """How model B differs from model A."""

    same: bool
    """Whether nothing differs."""
    interface: tuple[str, ...]
    """Inputs and outputs that are only in one, or of another type, and what differs around the graph."""
    ops: Mapping[str, tuple[int, int]]
    """Operator counts that differ: in A, in B."""
    only_in_a: tuple[str, ...]
    """Nodes of the main graph that only A has."""
    only_in_b: tuple[str, ...]
    """Nodes of the main graph that only B has."""
    changed_nodes: tuple[str, ...]
    """Nodes that both have and that differ, with what differs."""
    constants: tuple[str, ...]
    """Constants that differ, with what differs."""
    warnings: tuple[str, ...] = ()
    """What is unusual about the files."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"ops": ("ops", by_name(frozen))}


@dataclass(frozen=True, kw_only=True)
class Divergence(Record):
    """Where two models part."""

    value: str
    """The first value, in the reference's order, that both models have and that differs."""
    reference_node: str
    """The node that produces it in the reference."""
    reference_operator: str
    """Its operator."""
    model_node: str
    """The node that produces it in the model."""
    model_operator: str
    """Its operator."""
    origins: tuple[str, ...]
    """Rules and passes that changed what lies between this value and the last values on which both agree."""
    figures: OutputFigures
    """How far the value is off."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"figures": ("figures", OutputFigures.from_dict)}


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(Record):
    """A model measured on data."""

    samples: int
    """Samples counted."""
    accuracy: float | None
    """Share of right predictions."""
    accuracy_interval: Interval | None
    """95 % Wilson interval of the accuracy."""
    top5: float | None
    """Share of samples whose class is among the five best."""
    precision: float | None
    """Macro average over the classes that occur."""
    recall: float | None
    """Macro average over the classes that occur."""
    f1: float | None
    """Macro average over the classes that occur."""
    micro: Scores | None
    """Averages over all samples together."""
    weighted: Scores | None
    """Averages weighted by the samples of each class."""
    confusion: tuple[tuple[int, ...], ...] | None
    """A row a true class, a column a predicted one; `null` above 256 classes."""
    confusion_entries: tuple[tuple[int, int, int], ...] | None = None
    """Nonzero entries of the confusion table: true class, predicted class, count."""
    per_class: tuple[ClassScores, ...] = ()
    """Scores by class."""
    not_finite: int
    """Samples with a NaN or infinite output."""
    mean_squared_error: float | None = None
    """Mean squared error."""
    mean_absolute_error: float | None = None
    """Mean absolute error."""
    r2: float | None = None
    """Coefficient of determination."""
    task: TaskFigures | None = None
    """Figures of another task: boxes, masks, vectors, texts."""
    notes: tuple[str, ...] = ()
    """What the task's answers were taken for, where nobody says it."""
    against: Against | None = None
    """Comparison with the reference on the same samples."""
    latency_ms: Latency | None
    """Time of a run."""
    latency_note: str | None = None
    """What the time does not say."""
    samples_per_second: float | None = None
    """Samples a second over the whole evaluation, data reading included."""
    peak_memory_bytes: int | None = None
    """Peak resident memory of the process."""
    bytes: int | None
    """Size of the model file and its external data."""
    parameters: int | None = None
    """Elements of float and quantized constants."""
    macs: int | None = None
    """Multiply-accumulate operations of one sample."""
    engine: str
    """What ran the model: `tract` or `ort`."""
    gates: tuple[GateReport, ...]
    """Each gate."""
    pictures: tuple[str, ...] = ()
    """Files of the pictures that were drawn."""

    @property
    def accepted(self) -> bool:
        """Whether every gate holds."""
        return all(gate.passed for gate in self.gates)

    @classmethod
    def _readers(cls) -> Readers:
        return {"accuracy_interval": ("accuracy_interval", Interval.from_dict), "micro": ("micro", Scores.from_dict),
            "weighted": ("weighted", Scores.from_dict), "per_class": ("per_class", many(ClassScores.from_dict)),
            "task": ("task", TaskFigures.from_dict), "against": ("against", Against.from_dict),
            "latency_ms": ("latency_ms", Latency.from_dict), "gates": ("gates", many(GateReport.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Figures(Record):
    """Figures of one model on one data set."""

    samples: int
    """Samples counted."""
    accuracy: float | None
    """Share of right predictions."""
    accuracy_interval: Interval | None
    """95 % Wilson interval of the accuracy."""
    top5: float | None
    """Share of samples whose class is among the five best."""
    precision: float | None
    """Macro average over the classes that occur."""
    recall: float | None
    """Macro average over the classes that occur."""
    f1: float | None
    """Macro average over the classes that occur."""
    micro: Scores | None
    """Averages over all samples together."""
    weighted: Scores | None
    """Averages weighted by the samples of each class."""
    confusion: tuple[tuple[int, ...], ...] | None
    """A row a true class, a column a predicted one; `null` above 256 classes."""
    confusion_entries: tuple[tuple[int, int, int], ...] | None = None
    """Nonzero entries of the confusion table: true class, predicted class, count."""
    per_class: tuple[ClassScores, ...] = ()
    """Scores by class."""
    not_finite: int
    """Samples with a NaN or infinite output."""
    mean_squared_error: float | None = None
    """Mean squared error."""
    mean_absolute_error: float | None = None
    """Mean absolute error."""
    r2: float | None = None
    """Coefficient of determination."""
    task: TaskFigures | None = None
    """Figures of another task: boxes, masks, vectors, texts."""
    notes: tuple[str, ...] = ()
    """What the task's answers were taken for, where nobody says it."""
    against: Against | None = None
    """Comparison with the reference on the same samples."""
    latency_ms: Latency | None
    """Time of a run."""
    latency_note: str | None = None
    """What the time does not say."""
    samples_per_second: float | None = None
    """Samples a second over the whole evaluation, data reading included."""
    peak_memory_bytes: int | None = None
    """Peak resident memory of the process."""
    bytes: int | None
    """Size of the model file and its external data."""
    parameters: int | None = None
    """Elements of float and quantized constants."""
    macs: int | None = None
    """Multiply-accumulate operations of one sample."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"accuracy_interval": ("accuracy_interval", Interval.from_dict), "micro": ("micro", Scores.from_dict),
            "weighted": ("weighted", Scores.from_dict), "per_class": ("per_class", many(ClassScores.from_dict)),
            "task": ("task", TaskFigures.from_dict), "against": ("against", Against.from_dict),
            "latency_ms": ("latency_ms", Latency.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """Something that was found."""

    code: str
    """The check; stable."""
    severity: Literal["note", "warning", "error"]
    """How much it matters."""
    message: str
    """What is there, with the figures that show it."""
    place: FindingPlace
    """Where."""
    target: str | None = None
    """The runtime that it is about, where it is about one."""
    cure: str
    """What mends it."""
    fix: Fix | None
    """The step that `--fix` runs for it; `null` where no step mends it without loss."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"place": ("place", FindingPlace.from_dict), "fix": ("fix", Fix.from_dict)}


@dataclass(frozen=True, kw_only=True)
class FindingCounts(Record):
    """How many findings there are."""

    errors: int
    """Errors."""
    warnings: int
    """Warnings."""
    notes: int
    """Notes."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class FindingPlace(Record):
    """Where something was found."""

    graph: str | None = None
    """The graph, where it is not the main graph: `function domain.name`, or the body by its node and attribute, as in
    `loop/body`."""
    node: str | None = None
    """The node: its name, else that of its first output."""
    operator: str | None = None
    """The operator of the node."""
    value: str | None = None
    """The value: an initializer, an input, an output, or what a node computes."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Findings(Record):
    """What was found in a model."""

    file: str | None
    """The file; `null` for a model in memory."""
    targets: tuple[str, ...]
    """The runtimes that were asked for."""
    deny: Literal["note", "warning", "error"]
    """The severity from which on a finding is denied."""
    passed: bool
    """Whether nothing that was found is denied."""
    counts: FindingCounts
    """Findings of each severity."""
    findings: tuple[Finding, ...]
    """The findings, errors first, then by code."""
    fix: Mending | None = None
    """What `--fix` did; the findings are those of the result then."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"counts": ("counts", FindingCounts.from_dict), "findings": ("findings", many(Finding.from_dict)),
            "fix": ("fix", Mending.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Fix(Record):
    """A step of a pipeline that mends a finding."""

    step: str
    """The pass."""
    options: Mapping[str, Any]
    """Its options."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class GateReport(Record):
    """What a gate found."""

    name: str
    """Gate name."""
    passed: bool
    """Whether the result satisfies it."""
    decision: Literal["passed", "undecided", "broken"]
    """The same, with what the samples do not decide."""
    more_samples: int | None = None
    """About how many more samples would decide, where these do not."""
    value: float | None
    """The figure that decided; `null` if there is none."""
    bound: float | None
    """The bound."""
    message: str
    """In words."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class HeadTraining(Record):
    """How a linear head was trained."""

    samples: int
    """Samples that it was trained on."""
    features: int
    """Features of each."""
    cross_entropy: float | None = None
    """Mean cross-entropy on these samples, of a logistic regression."""
    steps: int | None = None
    """Steps of the search, of a logistic regression."""
    accuracy: float | None = None
    """Share of these samples whose largest score is that of their class."""
    classes: tuple[TrainedClass, ...] = ()
    """Classes; none for float targets."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"classes": ("classes", many(TrainedClass.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Interval(Record):
    """An interval at a stated confidence."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class KeptLayer(Record):
    """A layer that a search put back."""

    node: str
    """The node."""
    operator: str
    """Its operator."""
    kept_as: str
    """What it is in the result: `float`, or the type of its activations."""
    why: str
    """What it loses where it alone is quantized."""
    macs: int
    """Its multiply-accumulates."""
    share: float
    """Those as a share of the model's."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Latency(Record):
    """Time of single runs, in milliseconds."""

    p50: float
    """Half of the runs are faster."""
    p95: float
    """95 % of the runs are faster."""
    min: float
    """Fastest run: the figure that other work on the machine disturbs least."""
    runs: int
    """Timed runs."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class LayerFacts(Record):
    """What one operator of the main graph costs."""

    name: str
    """How messages call it."""
    op_type: str
    """Operator."""
    output: str
    """Type of its first output."""
    parameters: int
    """Elements of the constants that it reads, itself or as codes; a constant with several readers counts for each."""
    macs: int | None
    """Multiply-accumulates of one run; `null` where sizes are not known."""
    macs_share: float | None
    """Its share of the multiply-accumulates of the operators that are listed."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Measure(Record):
    """A figure that points are judged by."""

    name: str
    """Its name."""
    less_is_better: bool
    """Whether less of it is better."""
    timed: bool
    """Whether it is a time, which depends on the machine."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Mending(Record):
    """What became of the findings that a step mends."""

    steps: tuple[Fix, ...]
    """The steps that ran, in order."""
    failed: tuple[str, ...]
    """Steps that could not be done for this model, each with the reason."""
    mended: tuple[Finding, ...]
    """Findings that are gone."""
    remaining: int
    """Findings that a step was run for and that are still there."""
    report: RunReport | None
    """The run of the steps: what each did, and how the result compares with the model. `null` where no step could run."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"steps": ("steps", many(Fix.from_dict)), "mended": ("mended", many(Finding.from_dict)),
            "report": ("report", RunReport.from_dict)}


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Record):
    """What `inspect` shows."""

    nodes: int
    """Operators in every graph, bodies and functions included, without Constant nodes."""
    parameters: int
    """Elements of float and quantized constants; shared ones once."""
    bytes: int
    """Bytes of the file with its external data."""
    macs: int | None
    """Multiply-accumulates of one run; `null` where sizes are not known."""
    macs_sizes: Mapping[str, int] = field(default_factory=dict)
    """The sizes of free dimensions that `macs` is counted with: those given, and 1 for the others."""
    ir_version: int
    """IR version."""
    opsets: Mapping[str, int]
    """Version by domain; ONNX's own is `ai.onnx`."""
    ops: Mapping[str, int]
    """Number of operators by type, sorted."""
    inputs: tuple[ValueFacts, ...]
    """Graph inputs."""
    outputs: tuple[ValueFacts, ...]
    """Graph outputs."""
    producer: str | None
    """The program that wrote the file."""
    functions: int
    """Model-local functions."""
    external: Mapping[str, int]
    """External data files with their bytes."""
    conflicts: tuple[str, ...] = ()
    """Nodes whose inputs do not fit each other, with their shapes: no engine can run the model."""
    warnings: tuple[str, ...] = ()
    """What is unusual about the file."""
    values: tuple[ValueFacts, ...] | None = None
    """Inferred types of the values of the main graph, when asked for."""
    layers: tuple[LayerFacts, ...] | None = None
    """Operators of the main graph that have parameters or multiply, when asked for."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"inputs": ("inputs", many(ValueFacts.from_dict)), "outputs": ("outputs", many(ValueFacts.from_dict)),
            "values": ("values", many(ValueFacts.from_dict)), "layers": ("layers", many(LayerFacts.from_dict))}


@dataclass(frozen=True, kw_only=True)
class NodeAgreement(Record):
    """How far two engines are apart on one node."""

    node: str
    """The node."""
    operator: str
    """Its operator."""
    value: str
    """The result."""
    codes: float
    """Largest difference in codes; of a float result in 255ths of its range."""
    differing: float
    """Share of elements that differ: codes at all, floats by more than half of a 255th of the range."""
    elements: int
    """Elements compared."""
    reason: str | None = None
    """What differs beside numbers: a shape, an index, NaN in another place."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class NodeError(Record):
    """How far one node is off."""

    node: str
    """The node of the model."""
    operator: str
    """Its operator."""
    value: str
    """The reference's value that its result stands for."""
    sqnr_db: float | None
    """Power of the reference's value over power of the error, in decibels; `null` without an error or without a signal."""
    max_abs: float | None
    """Largest absolute error."""
    clipped: float | None
    """Share of the reference's elements beyond the range of the codes; `null` where the result is no code."""
    elements: int
    """Elements compared."""
    undefined: int
    """Elements that are NaN or infinite where the reference's are other ones."""
    reason: str | None = None
    """What is wrong beside the numbers: another shape, NaN in another place."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class NodeErrors(Record):
    """The errors of all nodes."""

    engine: str
    """The engine that ran both models."""
    samples: int
    """Samples that were compared."""
    nodes: int
    """Nodes that were compared."""
    exact: int
    """Those whose results have the reference's numbers exactly."""
    median_sqnr_db: float | None
    """Half of the nodes with an error have at most this SQNR, in decibels."""
    worst: tuple[NodeError, ...]
    """The worst nodes, the worst first."""
    not_checked: tuple[NotChecked, ...] = ()
    """What kept nodes from being compared, where the errors stand by themselves."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"worst": ("worst", many(NodeError.from_dict)), "not_checked": ("not_checked", many(NotChecked.from_dict))}


@dataclass(frozen=True, kw_only=True)
class NodeReport(Record):
    """What was found node by node."""

    verdict: Literal["equal", "within", "not-checked", "different"]
    """`within`: every node that was checked holds; `different`: one does not; `not-checked`: nothing could be compared."""
    reasons: tuple[str, ...]
    """What makes the verdict `different`, in words that name the node."""
    errors: NodeErrors
    """How far each node is off when it gets the reference's values."""
    agreement: Agreement
    """How far two engines are apart on each node of the model."""
    not_checked: tuple[NotChecked, ...]
    """What could not be checked, and operators in bodies, which are checked as part of the node that holds them."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"errors": ("errors", NodeErrors.from_dict), "agreement": ("agreement", Agreement.from_dict),
            "not_checked": ("not_checked", many(NotChecked.from_dict))}


@dataclass(frozen=True, kw_only=True)
class NotChecked(Record):
    """Something that could not be checked, and why."""

    what: str
    """The output, `reference` or `model`."""
    operator: str | None
    """The operator in the way, if it is one."""
    reason: str
    """Why."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class OutputFigures(Record):
    """Figures of one output over all samples. `None` is undefined, not comparable or infinite; it is `null` in JSON."""

    name: str
    """Output name."""
    verdict: Literal["equal", "within", "not-checked", "different"]
    """This output's verdict."""
    max_abs: float | None
    """Largest absolute error."""
    max_rel: float | None
    """Largest error relative to the reference's element."""
    mean_abs: float | None
    """Mean absolute error."""
    cosine: float | None
    """Cosine of the angle between both outputs, each taken as one vector over all samples."""
    sqnr_db: float | None
    """Power of the reference over power of the error, in decibels; undefined when there is no error."""
    top1_agreement: float | None
    """Share of rows with the same largest element: rows along the last axis, along axis 1 from rank 4 on."""
    elements: int
    """Elements compared."""
    differing: int
    """Elements whose bits differ."""
    undefined: int
    """Elements that are NaN or infinite where the reference's are other ones."""
    reason: str | None = None
    """What makes the output different beside its numbers: shape, element type, NaN in another place."""
    parts: tuple[Part, ...] = ()
    """Where a different output is off: ranges of indices along the axis that sets them apart best. Empty where it is off all
    over."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"parts": ("parts", many(Part.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Pace(Record):
    """The times of two models, run in turn on the same inputs with one thread."""

    reference: Latency
    """The reference."""
    model: Latency
    """The model."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"reference": ("reference", Latency.from_dict), "model": ("model", Latency.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Part(Record):
    """A range of indices along one axis where a model is off."""

    axis: int
    """The axis, counted from 0."""
    from_: int
    """The first index."""
    to: int
    """The last index."""
    max_abs: float | None
    """The largest absolute error there; `null` where a number is not finite."""
    largest: float
    """The largest magnitude of the reference there."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"from": ("from_", frozen)}


@dataclass(frozen=True, kw_only=True)
class PlannedNode(Record):
    """What becomes of one node, and why."""

    node: str
    """The node."""
    operator: str
    """Its operator."""
    runs: Literal["integer", "implied", "float"]
    """How it runs."""
    why: str
    """Why."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class PointResult(Record):
    """A point and what was found of it."""

    id: str
    """The digest of all that decides about the result."""
    name: str
    """How it is called: the model and the values."""
    model: str
    """The model's file."""
    vars: Mapping[str, Any]
    """The values by variable."""
    also: tuple[Mapping[str, Any], ...] = ()
    """Other values with which the pipeline is the same."""
    samples: int | None
    """Evaluation samples of the last rung that it reached; `null` for all there are."""
    finished: bool
    """Whether it reached the last rung; `true` in searches without."""
    status: Literal["done", "refused", "failed"] | None
    """What became of it; `null` while it is missing."""
    reasons: tuple[str, ...] = ()
    """Why it was refused or failed."""
    code: str | None = None
    """The code of the error with which it failed."""
    verdict: str | None = None
    """How outputs compare with those of the model."""
    figures: Mapping[str, float]
    """Figures by name."""
    best: bool
    """Whether no other beats it."""
    seconds: float
    """How long it took."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Reason(Record):
    """One reason for which things were left alone."""

    why: str
    """Why."""
    cure: str | None = None
    """What the user can do about it."""
    count: int
    """How many things were left alone for it; 0 where it is about the whole model."""
    examples: tuple[str, ...] = ()
    """The first of them by name."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class RunReport(Record):
    """The result of a run."""

    steps: tuple[StepReport, ...]
    """Each step."""
    verdict: Literal["equal", "within", "not-checked", "different"]
    """How the result compares with the input."""
    verify: VerifyReport | None
    """The comparison; `null` when none was made."""
    node_errors: NodeErrors | None = None
    """How far each node is off by itself, where a report as HTML asks for it."""
    gates: tuple[GateReport, ...]
    """Each gate."""
    evaluation: Figures | None = None
    """Figures on the evaluation data, where a gate asks for them."""
    output: str | None
    """The file that was written; `null` if none was."""
    files: tuple[str, ...]
    """Every file that was written: the model, its external data, and what steps leave beside it."""
    changed: bool
    """Whether the result differs from the input in any way."""
    approximate: bool
    """Whether a step may make outputs differ by more than rounding."""
    accepted: bool
    """Whether the result may be written."""
    unchanged: bool
    """Whether it may not because steps changed nothing that were asked to."""
    before: Weight
    """The input model."""
    after: Weight
    """The result."""
    culprit: Culprit | None = None
    """The step to blame for different outputs."""
    warnings: tuple[str, ...]
    """What the user should know."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"steps": ("steps", many(StepReport.from_dict)), "verify": ("verify", VerifyReport.from_dict),
            "node_errors": ("node_errors", NodeErrors.from_dict), "gates": ("gates", many(GateReport.from_dict)),
            "evaluation": ("evaluation", Figures.from_dict), "before": ("before", Weight.from_dict),
            "after": ("after", Weight.from_dict), "culprit": ("culprit", Culprit.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Scores(Record):
    """Precision, recall and F1."""

    precision: float
    """Share of the predictions that are right."""
    recall: float
    """Share of the true samples that are found."""
    f1: float
    """Harmonic mean of both, per class; averaged like them."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Searched(Record):
    """What a search for the cheapest result that keeps bounds found."""

    bounds: tuple[str, ...]
    """The bounds."""
    held: bool
    """Whether the result keeps them, on samples that the search did not see where a bound is on samples."""
    message: str
    """The result, in words."""
    samples: SearchedSamples
    """How the samples were used."""
    ranked_by: str | None = None
    """What layers were ranked by, where they were."""
    candidates: tuple[Candidate, ...]
    """Every candidate that was judged, in that order."""
    layers: tuple[KeptLayer, ...] = ()
    """Layers of the result that are not as narrow as the step alone would make them."""
    integer_macs: float | None = None
    """Share of the multiply-accumulates that run on integers in the result, where it is quantized and they are known."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"samples": ("samples", SearchedSamples.from_dict), "candidates": ("candidates", many(Candidate.from_dict)),
            "layers": ("layers", many(KeptLayer.from_dict))}


@dataclass(frozen=True, kw_only=True)
class SearchedSamples(Record):
    """How many samples served for what."""

    ranking: int
    """To rank layers."""
    search: int
    """To choose among candidates: of the evaluation data the first sample, the third and so on."""
    held_out: int
    """To confirm the choice: of the evaluation data the second sample, the fourth and so on."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class SourceWeight(Record):
    """A weight of the source."""

    name: str
    """Its name."""
    dims: tuple[int, ...]
    """Its shape."""
    used: bool
    """Whether the target has got it."""
    why: str | None = None
    """Why not."""
    spare: bool = False
    """Whether nothing is missing if it is not used: it is a buffer, or its numbers are used under another name."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class StepReport(Record):
    """What a step did."""

    name: str
    """The pass."""
    seconds: float
    """Wall time."""
    changed: bool
    """Whether the model differs from before in any way."""
    nodes_before: int
    """Nodes before."""
    nodes_after: int
    """Nodes after."""
    bytes_before: int
    """Bytes before."""
    bytes_after: int
    """Bytes after."""
    changes: tuple[Change, ...]
    """What was done."""
    notes: tuple[str, ...] = ()
    """What was left alone for a reason the user may want to know."""
    reasons: tuple[Reason, ...] = ()
    """Why things were left alone, and how many for each reason."""
    nodes: tuple[PlannedNode, ...] = ()
    """For steps that plan for an engine: each node, and how it runs there."""
    times: Times | None = None
    """For steps with a target for the time of one run: what was measured."""
    until: Searched | None = None
    """For steps with `until`: what was tried, and what was found."""
    transfer: Account | None = None
    """For steps that move weights between models: what became of each."""
    training: HeadTraining | None = None
    """For steps that train a head: on what, and how well it fits."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"changes": ("changes", many(Change.from_dict)), "reasons": ("reasons", many(Reason.from_dict)),
            "nodes": ("nodes", many(PlannedNode.from_dict)), "times": ("times", Times.from_dict),
            "until": ("until", Searched.from_dict), "transfer": ("transfer", Account.from_dict),
            "training": ("training", HeadTraining.from_dict)}


@dataclass(frozen=True, kw_only=True)
class SweepReport(Record):
    """Settings of a pipeline on models, and which of them no other beats."""

    name: str
    """The sweep."""
    version: str
    """The version of secateur."""
    engine: str
    """What ran models."""
    seed: int
    """The seed of everything random in the pipelines."""
    measures: tuple[Measure, ...]
    """What points are judged by, the main figure first."""
    missing: int
    """Points that are not computed yet."""
    computed: int
    """Points that were computed by the call that answers this."""
    points: tuple[PointResult, ...]
    """Every point: those of models in their order, settings in the order of the search."""
    front: tuple[str, ...]
    """The names of the points that no other beats, the smallest first."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"measures": ("measures", many(Measure.from_dict)), "points": ("points", many(PointResult.from_dict))}


@dataclass(frozen=True, kw_only=True)
class TargetWeight(Record):
    """A weight of the target."""

    name: str
    """Its name."""
    node: str
    """The operator that reads it."""
    dims: tuple[int, ...]
    """Its shape."""
    fate: Literal["loaded", "adapted", "initialised", "left"]
    """What became of it."""
    from_: tuple[str, ...] = ()
    """The source's weights that it was made from."""
    how: tuple[str, ...] = ()
    """How they were adapted."""
    by_order: bool = False
    """Whether the pair was found by order alone, as the graphs differ."""
    why: str | None = None
    """Why it was left."""
    spare: bool = False
    """Whether nothing is missing if it is left: it is protected, or changes nothing."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"from": ("from_", frozen)}


@dataclass(frozen=True, kw_only=True)
class TaskFigures(Record):
    """The figures of a task."""

    task: Literal[
        "classification", "regression", "detection", "keypoints", "segmentation", "embedding", "text", "tokens", "signals"
    ]
    """The task."""
    labels_from_reference: bool
    """Whether the answers of the reference model are the truth."""
    figures: Mapping[str, float | None]
    """The model's figures."""
    intervals: Mapping[str, Interval]
    """95 % intervals of those that have one, by resampling the samples."""
    reference: Mapping[str, float | None] | None = None
    """The reference's figures on the same samples."""
    drops: Mapping[str, float | None] = field(default_factory=dict)
    """What each figure lost against the reference: positive is worse, whichever direction is the better one."""
    drop_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """95 % intervals of the losses, by resampling the same samples of both."""
    by_class: tuple[ClassFigures, ...] = ()
    """By class: number, name, figures."""
    words: tuple[str, ...] = ()
    """What the model lost and what is new, in the task's words."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"intervals": ("intervals", by_name(Interval.from_dict)),
            "drop_intervals": ("drop_intervals", by_name(Interval.from_dict)),
            "by_class": ("by_class", many(ClassFigures.from_dict))}


@dataclass(frozen=True, kw_only=True)
class Times(Record):
    """The time of one run of the model before and after a pass, measured side by side."""

    before_ms: float
    """Milliseconds before."""
    after_ms: float
    """Milliseconds after."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class TrainedClass(Record):
    """A class of a trained head."""

    index: int
    """Its index among the scores."""
    name: str | None = None
    """What the data call it."""
    samples: int
    """Samples of it."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class ValueFacts(Record):
    """A value's name and type."""

    name: str
    """Name."""
    dtype: str | None
    """Element type in ONNX's words (`float`, `int64`), or the whole type of what is no tensor; `null` if unknown."""
    shape: tuple[Any, ...] | None
    """Sizes: a number, the name of a symbol or an expression of symbols, or `null`. `null` for an unknown rank."""
    operator: str | None = None
    """The operator that produces the value."""
    optional: bool = False
    """Whether the caller may leave an input out."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}


@dataclass(frozen=True, kw_only=True)
class Verification(Record):
    """The answer under `--json`: the report of the comparison, with what the options add."""

    verdict: Literal["equal", "within", "not-checked", "different"]
    """The verdict."""
    engine: str
    """The engine that ran both models."""
    samples: int
    """Samples on which outputs were compared."""
    inputs: str
    """What the samples are: `synthetic`, or the name of the data."""
    planned: int
    """Samples that would be compared without a bound on the time."""
    cut_short: bool
    """Whether samples were left out for the time."""
    not_checked: tuple[NotChecked, ...]
    """What could not be checked."""
    outputs: tuple[OutputFigures, ...]
    """Figures of each output of the reference."""
    sensitive: int
    """Outputs of samples that were left out: there the reference itself differs by more than the tolerance when its inputs or
    values on the way are moved by one unit in the last place, or it overflows."""
    sizes: tuple[Mapping[str, int], ...]
    """The sizes of free dimensions that were tried."""
    further_sizes: tuple[Mapping[str, int], ...] = ()
    """Further sizes, tried with few samples: larger ones, 0 and 1."""
    notes: tuple[str, ...] = ()
    """What else a caller should know: where the model cannot take the place of the reference."""
    does_not_run: bool
    """Whether the model fails on inputs on which the reference runs."""
    reason: str | None = None
    """What makes the models different beside the figures: an interface or a failure to run."""
    latency: Pace | None = None
    """How long one run of each takes, where that was asked for."""
    warnings: tuple[str, ...] = ()
    """What is unusual about the files."""
    divergence: Divergence | None = None
    """The first node that differs, where [`Options::localize`] asks for it."""
    per_node: NodeReport | None = None
    """Each node alone, where [`Options::per_node`] asks for it."""

    @property
    def holds(self) -> bool:
        """Whether the models compute the same, or within the tolerance; what was not checked does not."""
        return (self.per_node.verdict if self.per_node else self.verdict) in ("equal", "within")

    @classmethod
    def _readers(cls) -> Readers:
        return {"not_checked": ("not_checked", many(NotChecked.from_dict)), "outputs": ("outputs", many(OutputFigures.from_dict)),
            "latency": ("latency", Pace.from_dict), "divergence": ("divergence", Divergence.from_dict),
            "per_node": ("per_node", NodeReport.from_dict)}


@dataclass(frozen=True, kw_only=True)
class VerifyReport(Record):
    """The result of a verification."""

    verdict: Literal["equal", "within", "not-checked", "different"]
    """The verdict."""
    engine: str
    """The engine that ran both models."""
    samples: int
    """Samples on which outputs were compared."""
    inputs: str
    """What the samples are: `synthetic`, or the name of the data."""
    planned: int
    """Samples that would be compared without a bound on the time."""
    cut_short: bool
    """Whether samples were left out for the time."""
    not_checked: tuple[NotChecked, ...]
    """What could not be checked."""
    outputs: tuple[OutputFigures, ...]
    """Figures of each output of the reference."""
    sensitive: int
    """Outputs of samples that were left out: there the reference itself differs by more than the tolerance when its inputs or
    values on the way are moved by one unit in the last place, or it overflows."""
    sizes: tuple[Mapping[str, int], ...]
    """The sizes of free dimensions that were tried."""
    further_sizes: tuple[Mapping[str, int], ...] = ()
    """Further sizes, tried with few samples: larger ones, 0 and 1."""
    notes: tuple[str, ...] = ()
    """What else a caller should know: where the model cannot take the place of the reference."""
    does_not_run: bool
    """Whether the model fails on inputs on which the reference runs."""
    reason: str | None = None
    """What makes the models different beside the figures: an interface or a failure to run."""
    latency: Pace | None = None
    """How long one run of each takes, where that was asked for."""

    @classmethod
    def _readers(cls) -> Readers:
        return {"not_checked": ("not_checked", many(NotChecked.from_dict)), "outputs": ("outputs", many(OutputFigures.from_dict)),
            "latency": ("latency", Pace.from_dict)}


@dataclass(frozen=True, kw_only=True)
class Weight(Record):
    """What a model amounts to."""

    nodes: int
    """Operators, those in bodies and functions included, Constant nodes not."""
    bytes: int
    """Bytes of the file with its external data."""
    parameters: int
    """Elements of float and quantized constants."""
    macs: int | None
    """Multiply-accumulate operations of one run, where the sizes are known."""
    opset: int | None
    """Version of ONNX's own operators."""

    @classmethod
    def _readers(cls) -> Readers:
        return {}
