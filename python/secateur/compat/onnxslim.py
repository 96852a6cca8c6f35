"""``slim`` of onnxslim 0.1.

>>> from secateur.compat.onnxslim import slim
>>> model = slim("fixtures/digits_cnn_bn.onnx")
>>> [node.op_type for node in model.graph.node].count("BatchNormalization")
0
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from .. import _calls
from .._model import Model
from .._outcome import LOG, run_pipeline
from ._arguments import Refusal, is_unset, names_of, refuse, refuse_unknown, refused, replaced
from ._models import has_defaults, one_run, part, save_with_external_data, sizes, write
from .onnxconverter_common.float16 import options as float16_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto
    from typing_extensions import Unpack

    from .._model import ModelLike
    from .._outcome import Outcome, PathLike, RunOptions

__all__ = ["OnnxSlimKwargs", "slim"]


class OnnxSlimKwargs(TypedDict, total=False):
    """What :func:`slim` takes by name."""

    output_model: PathLike | None
    """Where the result is written; then nothing comes back."""
    model_check: bool
    """Whether the result is compared with the model."""
    input_shapes: Sequence[str] | Mapping[str, Sequence[int]]
    """Shapes that inputs get: ``["x:1,3,224,224"]``, or by name."""
    inputs: Sequence[str]
    """Values where the result starts."""
    outputs: Sequence[str]
    """Values that are the outputs of the result."""
    no_shape_infer: bool
    """Refused: rules need shapes."""
    skip_optimizations: Sequence[str]
    """Parts to leave out: see ``OPTIMIZATIONS``."""
    dtype: str
    """``fp16`` converts the result, its inputs and outputs included."""
    skip_fusion_patterns: Sequence[str]
    """Rewrites to leave out: see ``PATTERNS``."""
    size_threshold: int
    """Refused: the growth of the file bounds what is folded."""
    inspect: bool
    """Changes nothing, as in onnxslim."""
    dump_to_disk: bool
    """Changes nothing, as in onnxslim for one model."""
    save_as_external_data: bool
    """Whether ``output_model`` gets its weights in a file of their own."""
    model_check_inputs: Sequence[str]
    """For ``model_check``: a shape, ``"x:1,3,224,224"``, or a file, ``"x:input.npy"``, for each input."""
    verbose: bool
    """Whether what was done is printed."""


#: onnxslim's optimizations, and the parts of ``simplify`` that do the same.
OPTIMIZATIONS: dict[str, tuple[str, ...]] = {
    "constant_folding": ("fold-constants",),
    "dead_node_elimination": ("eliminate-dead-code",),
    "graph_fusion": (),
    "subexpression_elimination": ("eliminate-common-subexpressions",),
    "weight_tying": ("deduplicate-initializers",),
}
_TO_COMPUTED = ("expand-to-own-shape", "reshape-to-computed", "reshape-to-own-shape")
_VIEWS = ("view-of-view", "view-of-view-to-same")
#: onnxslim's patterns, and the rules that rewrite the same.
PATTERNS: dict[str, tuple[str, ...]] = {
    "EliminationConcat": ("concat-of-concat",),
    "EliminationReshape": ("reshape-of-view", "reshape-of-view-by-place", *_VIEWS),
    "EliminationReshapeAs": _TO_COMPUTED,
    "EliminationSlice": ("slice-of-slice",),
    "EliminationTranspose": ("transpose-identity", "transpose-of-transpose"),
    "EliminationTransposeAsReshape": ("transpose-of-ones",),
    "EliminationTransposeViewTranspose": ("transpose-of-ones",),
    "EliminationUnsqueeze": ("unsqueeze-of-unsqueeze", "view-of-view"),
    "FusionConcatReshape": _TO_COMPUTED,
    "FusionConvAdd": ("conv-add",),
    "FusionConvBN": ("conv-batch-norm",),
    "FusionConvMul": ("conv-mul", "conv-mul-without-bias"),
    "FusionConvTransposeAdd": ("conv-transpose-add",),
    "FusionConvTransposeBN": ("conv-transpose-batch-norm",),
    "FusionConvTransposeMul": (),
    "FusionGemm": ("matmul-add",),
    "FusionGemmAdd": ("gemm-add",),
    "FusionGemmMul": (),
    "FusionPadConv": ("pad-conv",),
    "FusionReduce": ("then-unsqueeze",),
}
#: The parts of ``simplify`` that are no rules.
_PARTS = ("deduplicate-initializers", "eliminate-common-subexpressions", "eliminate-dead-code", "fold-constants")

_REFUSED = {
    "no_shape_infer": Refusal(False, "rules need shapes, and inference is secateur's own", "leave it out"),
    "size_threshold": Refusal(
        None, "what bounds a folded constant is the growth of the file", "secateur.simplify(model, max_growth=...) sets the bound"
    ),
}


def slim(model: ModelLike, *args: Any, **kwargs: Unpack[OnnxSlimKwargs]) -> ModelProto | None:
    """Simplifies a model as ``secateur simplify`` does, with the arguments of ``onnxslim.slim``.

    What is different:

    - ``model_check`` compares on inputs of several kinds and sizes, by secateur's engine and its tolerance. Where the comparison
      does not hold nothing comes back and nothing is written, as in onnxslim; so it is where the engine cannot run the model. The
      comparison is of the model before ``dtype`` converts it, and after ``inputs`` and ``outputs`` have cut it.
    - The file does not grow: a constant that would be larger than what it is computed from stays computed.
    - A symbol that ``input_shapes`` gives a size has it wherever the symbol stands.
    - ``dtype="fp16"`` leaves operators float that compute with numbers which float16 does not hold.
    - The result records where it comes from in its metadata, and no table is printed unless ``verbose`` is set.
    - Names in ``inputs`` and ``outputs`` stand alone: a type behind them is refused. So are lists of models, other ``dtype``, and
      every argument that there is none of.

    Args:
        model: a path, ``onnx.ModelProto``, or whatever else stands for a model.
        args: ``output_model``.
        kwargs: see :class:`OnnxSlimKwargs`.

    Returns:
        The simplified model; ``None`` where it is written to ``output_model``, or where ``model_check`` does not hold.

    Raises:
        InputError: ``unknown-option`` for what is refused; what is wrong with the model or a shape.
    """
    given: dict[str, Any] = dict(kwargs)
    if args:
        given["output_model"] = args[0]
    for name in args[1:]:
        raise refused("slim", "args", name, "only output_model is given by position", "give it by name")
    known = OnnxSlimKwargs.__annotations__
    for name in given:
        if name not in known:
            refuse_unknown("slim", "kwargs", [name], known)
    if not given.get("size_threshold"):
        given.pop("size_threshold", None)
    refuse("slim", given, _REFUSED)
    if isinstance(model, (list, tuple)):
        raise refused(
            "slim", "model", f"{len(model)} models", "models are not compared", "secateur.Model(model).facts counts each"
        )
    dtype = given.get("dtype")
    if not is_unset(dtype) and dtype != "fp16":
        raise refused("slim", "dtype", dtype, "models are converted to fp16 alone", "secateur.convert_float knows bfloat16, too")
    taken = _cut(Model(model), names_of(given.get("inputs")), names_of(given.get("outputs")))
    pipeline = _calls.Pipeline.of(("simplify", _left_out(given)))
    outcome = run_pipeline(pipeline._native, taken, _run(taken, given), "slim", macs=bool(given.get("verbose")))
    if given.get("verbose"):
        print(outcome)
    if given.get("model_check") and not (outcome.accepted and outcome.verdict in ("equal", "within")):
        LOG.error("slim: the result is not the same as the model: %s", outcome.verdict)
        return None
    if dtype:
        pipeline = _calls.Pipeline.of(("convert-float", float16_options(keep_io_types=False)))
        outcome = pipeline.run(outcome.result, allow_unchanged=True, compare=False)
    return _given_back(outcome, model, given)


def _cut(model: Model, inputs: list[str], outputs: list[str]) -> Model:
    """The part of the model between values; a type behind a name is refused."""
    known = {value.name for value in (*model.inputs, *model.outputs)}
    known.update(name for node in model.nodes for name in node.outputs)
    for argument, names in (("inputs", inputs), ("outputs", outputs)):
        for name in names:
            stem, _, dtype = name.rpartition(":")
            if name not in known and stem in known:
                why = f"the type of {stem} is what the model says, not {dtype}"
                raise refused("slim", argument, name, why, f"give {stem!r} alone")
    return part(model, inputs, outputs) if inputs or outputs else model


def _left_out(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``simplify``."""
    skipped = names_of(given.get("skip_optimizations"))
    left_out = replaced("slim", "skip_optimizations", skipped, OPTIMIZATIONS)
    if "graph_fusion" in skipped:
        # Without rules what is left are parts; with none of those, a part that has nothing to do.
        parts = [part for part in _PARTS if part not in left_out]
        return {"only": parts} if parts else {"only": ["fold-constants"], "except": ["fold-constants"]}
    left_out += replaced("slim", "skip_fusion_patterns", given.get("skip_fusion_patterns"), PATTERNS)
    return {"except": sorted(set(left_out))} if left_out else {}


def _run(model: Model, given: Mapping[str, Any]) -> RunOptions:
    check = bool(given.get("model_check"))
    run: RunOptions = {"allow_unchanged": True, "compare": check, "refused": "return"}
    if has_defaults(model):
        run["constant_inputs"] = True
    shapes = given.get("input_shapes")
    if shapes:
        run["bind"] = sizes("slim", "input_shapes", model, _shapes("input_shapes", shapes), fixed=True)
    if check:
        _inputs_of_check(model, names_of(given.get("model_check_inputs")), run)
    return run


def _inputs_of_check(model: Model, texts: list[str], run: RunOptions) -> None:
    """Sizes and arrays for the comparison."""
    arrays: dict[str, Any] = {}
    shapes: list[str] = []
    for text in texts:
        name, _, what = text.rpartition(":")
        if os.path.isfile(what):
            import numpy

            arrays[name] = numpy.load(what)
        else:
            shapes.append(text)
    if arrays and shapes:
        raise refused(
            "slim", "model_check_inputs", texts, "arrays are given for all inputs or for none", "give files alone, or shapes"
        )
    if arrays:
        run["data"] = {"evaluation": [one_run("slim", "model_check_inputs", model, arrays)]}
    if shapes:
        found = sizes("slim", "model_check_inputs", model, _shapes("model_check_inputs", shapes))
        run["sizes"] = {name: int(size) for name, size in found.items() if name not in (run.get("bind") or {})}


def _shapes(argument: str, given: Sequence[str] | Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Shapes by the name of the input."""
    if isinstance(given, Mapping):
        return {name: list(shape) for name, shape in given.items()}
    found = {}
    for text in names_of(given):
        name, _, numbers = text.rpartition(":")
        try:
            found[name] = [int(number) for number in numbers.split(",")]
        except ValueError:
            raise refused("slim", argument, text, "it is no shape", 'write "x:1,3,224,224"') from None
    return found


def _given_back(outcome: Outcome, model: ModelLike, given: Mapping[str, Any]) -> ModelProto | None:
    path = given.get("output_model")
    if not path:
        proto: ModelProto = outcome.result.to_onnx()
        return proto
    if given.get("save_as_external_data"):
        save_with_external_data(outcome, path)
        return None
    write(outcome, path, model)
    return None
