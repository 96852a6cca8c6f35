"""``simplify`` of onnxsim 0.8.

>>> from secateur.compat.onnxsim import simplify
>>> model, ok = simplify("fixtures/digits_cnn_bn.onnx", check_n=1)
>>> [node.op_type for node in model.graph.node].count("BatchNormalization"), ok
(0, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _calls
from .._errors import SecateurError
from .._model import Model
from .._outcome import run_pipeline
from ._arguments import Refusal, is_unset, names_of, refuse, refuse_unknown, refused, replaced
from ._models import destination, has_defaults, one_run, part, sizes

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from onnx import FunctionProto, ModelProto

    from .._model import ModelLike
    from .._outcome import Outcome, RunOptions

    Shapes = Mapping[str | None, Sequence[int]]

__all__ = ["simplify"]

_BATCH_NORM = ("batch-norm-conv", "conv-batch-norm", "conv-transpose-batch-norm", "gemm-batch-norm", "matmul-batch-norm")
_FOLD = ("fold-constants",)
_TO_COMPUTED = ("expand-to-own-shape", "reshape-to-computed", "reshape-to-own-shape")
#: onnxsim's optimizers, and the rules and parts of ``simplify`` that do the same. Constants made of shapes are folding.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "nop": (),
    "eliminate_common_subexpression": ("eliminate-common-subexpressions",),
    "eliminate_consecutive_idempotent_ops": ("idempotent-twice", "relu-of-nonnegative"),
    "eliminate_deadend": ("eliminate-dead-code",),
    "eliminate_duplicate_initializer": ("deduplicate-initializers",),
    "eliminate_identity": ("identity",),
    "eliminate_if_with_const_cond": _FOLD,
    "eliminate_nop_cast": ("cast-like-same", "cast-round-trip", "cast-to-same"),
    "eliminate_nop_concat": ("concat-of-one",),
    "eliminate_nop_dropout": ("dropout",),
    "eliminate_nop_expand": ("expand-to-own-shape", "expand-to-same"),
    "eliminate_nop_flatten": ("view-to-same",),
    "eliminate_nop_monotone_argmax": ("argmax-of-monotone", "argmax-of-sigmoid"),
    "eliminate_nop_pad": ("pad-zero",),
    "eliminate_nop_reshape": ("reshape-to-own-shape", "reshape-to-same"),
    "eliminate_nop_split": ("split-of-one",),
    "eliminate_nop_transpose": ("transpose-identity", "transpose-of-ones"),
    "eliminate_nop_with_unit": (
        "add-negative-zero",
        "add-zero",
        "and-true",
        "div-one",
        "mul-one",
        "mul-one-of-shape",
        "or-false",
        "pow-one",
        "sub-zero",
    ),
    "eliminate_shape_gather": (*_FOLD, "content-known"),
    "eliminate_shape_op": (*_FOLD, "content-known"),
    "eliminate_slice_after_shape": (*_FOLD, "content-known"),
    "eliminate_unused_initializer": ("eliminate-dead-code",),
    "extract_constant_to_initializer": (),
    "fuse_add_bias_into_conv": ("conv-add", "conv-transpose-add"),
    "fuse_bn_into_conv": _BATCH_NORM,
    "fuse_concat_into_reshape": _TO_COMPUTED,
    "fuse_consecutive_concats": ("concat-of-concat",),
    "fuse_consecutive_log_softmax": ("log-of-softmax",),
    "fuse_consecutive_reduce_unsqueeze": ("then-unsqueeze",),
    "fuse_consecutive_slices": ("slice-of-slice",),
    "fuse_consecutive_squeeze_unsqueeze": ("view-of-view", "view-of-view-to-same"),
    "fuse_consecutive_squeezes": ("squeeze-of-squeeze", "view-of-view"),
    "fuse_consecutive_transposes": ("transpose-of-transpose",),
    "fuse_consecutive_unsqueezes": ("unsqueeze-of-unsqueeze", "view-of-view"),
    "fuse_matmul_add_bias_into_gemm": ("gemm-add", "matmul-add"),
    "fuse_pad_into_conv": ("pad-conv",),
    "fuse_pad_into_pool": ("pad-average-pool",),
    "fuse_qkv": (),
    "fuse_transpose_into_gemm": ("transpose-gemm-left", "transpose-gemm-right"),
    "rewrite_where": ("where-of-not",),
}

_REWRITERS = "write it as a rule of secateur and give secateur.simplify(model, rules=[folder])"
_REFUSED = {
    "skip_shape_inference": Refusal(False, "rules need shapes, and inference is secateur's own", "leave it out"),
    "custom_lib": Refusal(None, "operators of other domains are left as they are and not run", "leave it out"),
    "tensor_size_threshold": Refusal(
        "1.5GB",
        "what bounds a folded constant is the growth of the file",
        "secateur.simplify(model, max_growth=...) sets the bound",
    ),
    "initializers_as_constants": Refusal(
        True, "weights are constants to every rule", "secateur.simplify(model, keep=[...]) protects nodes and values by name"
    ),
    "extra_optimizers": Refusal(None, "these passes are onnxsim's own", "secateur.explain() lists the steps that there are"),
    "custom_rewriter": Refusal(None, "functions are not called between rules", _REWRITERS),
    "function_rewrite_rules": Refusal(None, "rules have another form", _REWRITERS),
    "profile": Refusal(None, "no trace is written", "secateur.simplify(model).report has the seconds of each step"),
    "ort_profile": Refusal(None, "no trace is written", "secateur.simplify(model).report has the seconds of each step"),
    "merge_ort_profile": Refusal(False, "no trace is written", "secateur.simplify(model).report has the seconds of each step"),
    "range_opt": Refusal(False, "onnxsim's annotations of ranges are not read", "leave it out"),
    "certify": Refusal(None, "results are compared by running them, and not proven", "check_n=1 compares the result"),
    "check_hazards": Refusal(False, "hazards are not looked for", "secateur.verify(reference, model) reports NaN and infinities"),
    "check_gradients": Refusal(False, "gradients are not checked", "the command `secateur gradients` writes a model of them"),
}
_CHECKING = {
    "check_rtol": Refusal(
        1e-4,
        "an error is judged as a share of the output's largest magnitude",
        "secateur.simplify(model, tolerance={'float': ...})",
    ),
    "check_atol": Refusal(
        1e-5,
        "an error is judged as a share of the output's largest magnitude",
        "secateur.simplify(model, tolerance={'float': ...})",
    ),
    "input_fill": Refusal("random", "inputs are of several kinds, made from the model", "input_data gives inputs of one's own"),
}
_EXTERNAL = Refusal(
    "100MB", "weights are external where they were or have to be", "onnx.save(model, path, save_as_external_data=True)"
)


def simplify(
    model: ModelLike,
    check_n: int = 0,
    perform_optimization: bool = True,
    skip_fuse_bn: bool = False,
    overwrite_input_shapes: Shapes | None = None,
    test_input_shapes: Shapes | None = None,
    skipped_optimizers: Sequence[str] | None = None,
    skip_constant_folding: bool = False,
    skip_shape_inference: bool = False,
    input_data: Mapping[str, Any] | None = None,
    dynamic_input_shape: bool = False,
    custom_lib: str | None = None,
    include_subgraph: bool = False,
    unused_output: Sequence[str] | None = None,
    tensor_size_threshold: str = "1.5GB",
    mutable_initializer: bool = False,
    *,
    initializers_as_constants: bool = True,
    inline_functions: bool = False,
    import_custom_schemas: bool = True,
    input_shapes: Shapes | None = None,
    target_opset_version: int | Literal["latest"] | None = None,
    extra_optimizers: Sequence[str] | None = None,
    custom_rewriter: Callable[[Any], Any] | None = None,
    function_rewrite_rules: Sequence[tuple[FunctionProto, FunctionProto]] | None = None,
    check_rtol: float = 1e-4,
    check_atol: float = 1e-5,
    input_fill: str = "random",
    providers: Sequence[Any] | None = None,
    gemm_fusion_backend: Literal["ort_cpu", "unrestricted", "webgpu", "webnn"] = "ort_cpu",
    profile: str | None = None,
    ort_profile: str | None = None,
    merge_ort_profile: bool = False,
    output_path: str | os.PathLike[str] | None = None,
    external_data_threshold: str = "100MB",
    range_opt: bool = False,
    certify: bool | None = None,
    check_hazards: bool = False,
    check_gradients: bool = False,
    gradient_precision: str = "fp32",
) -> tuple[ModelProto, bool]:
    """Simplifies a model as ``secateur simplify`` does, with the arguments of ``onnxsim.simplify``.

    What is different:

    - With ``check_n`` the result is compared on that many rounds of inputs of several kinds and sizes, or on ``input_data``, by
      secateur's engine and its tolerance; the second value is whether outputs are equal or within it. It is ``False`` as well
      where the engine cannot run the model. A result whose outputs differ is not written to ``output_path``.
    - The file does not grow: a constant that would be larger than what it is computed from stays computed.
    - Bodies of If, Loop and Scan are always simplified, as with ``include_subgraph``.
    - MatMul and Add become a Gemm in any float type, as with ``gemm_fusion_backend="unrestricted"``.
    - A symbol that ``overwrite_input_shapes`` gives a size has it wherever the symbol stands.
    - Inputs that nothing but an ``unused_output`` needs go with it.
    - The result records where it comes from in its metadata.
    - ``output_path`` gets external data where the model had some or is too large for one file. What comes back of one that is too
      large refers to these data.

    Args:
        model: a path, ``onnx.ModelProto``, or whatever else stands for a model.
        check_n: how many rounds of inputs the result is compared on; 0 compares nothing.
        perform_optimization: whether more is done than folding constants.
        skip_fuse_bn: whether BatchNormalization is left alone.
        overwrite_input_shapes: shapes that inputs get; a size below 1 stays free.
        test_input_shapes: shapes for the comparison.
        skipped_optimizers: onnxsim's names of what is left out: see ``OPTIMIZERS``.
        skip_constant_folding: whether constants are left as they are.
        input_data: inputs for the comparison, of one run.
        unused_output: outputs to leave out.
        mutable_initializer: whether graph inputs that have a default stay inputs; else they become constants.
        inline_functions: whether calls of local functions are replaced by what the functions compute.
        input_shapes: both ``overwrite_input_shapes`` and ``test_input_shapes``.
        target_opset_version: the opset to convert to first; ``"latest"`` is the newest one that secateur knows.
        output_path: where the result is written, too; for a model that is a path.

    ``dynamic_input_shape``, ``include_subgraph``, ``import_custom_schemas``, ``gradient_precision``, CPU ``providers`` and every
    ``gemm_fusion_backend`` are taken and change nothing. Other arguments are refused unless they have their defaults.

    Returns:
        The simplified model, and whether the comparison holds.

    Raises:
        InputError: ``unknown-option`` for what is refused; what is wrong with the model or a shape.
    """
    given = dict(locals())
    if isinstance(check_n, bool) or not hasattr(check_n, "__index__") or check_n < 0:
        raise refused("simplify", "check_n", check_n, "it is no number of rounds", "give a whole number; 0 compares nothing")
    refuse("simplify", given, {name: refusal for name, refusal in _REFUSED.items() if name != "certify" or certify})
    if check_n:
        refuse("simplify", given, {name: one for name, one in _CHECKING.items() if name != "input_fill" or not input_data})
    _refuse_devices(providers)
    refuse_unknown("simplify", "gemm_fusion_backend", [gemm_fusion_backend], ["ort_cpu", "unrestricted", "webgpu", "webnn"])
    if output_path is not None and not _is_path(model):
        raise refused("simplify", "output_path", output_path, "the model is no path", "save the model that comes back")
    if output_path is not None:
        refuse("simplify", given, {"external_data_threshold": _EXTERNAL})
    taken = Model(model)
    if unused_output:
        taken = _without(taken, names_of(unused_output))
    left_out = replaced("simplify", "skipped_optimizers", skipped_optimizers, OPTIMIZERS)
    if skip_fuse_bn:
        left_out = sorted({*left_out, *_BATCH_NORM})
    steps = _before(taken, inline_functions, target_opset_version)
    steps += _simplification(perform_optimization, skip_constant_folding, left_out)
    run: RunOptions = {"allow_unchanged": True, "compare": check_n > 0, "refused": "return"}
    if not mutable_initializer and has_defaults(taken):
        run["constant_inputs"] = True
    overwritten = overwrite_input_shapes if input_shapes is None else input_shapes
    if overwritten:
        run["bind"] = sizes("simplify", "overwrite_input_shapes", taken, overwritten, fixed=True)
    if check_n:
        run["rounds"] = check_n
        if test_input_shapes and input_shapes is None:
            found = sizes("simplify", "test_input_shapes", taken, test_input_shapes)
            run["sizes"] = {name: int(size) for name, size in found.items() if name not in (run.get("bind") or {})}
        if input_data:
            run["data"] = {"evaluation": [one_run("simplify", "input_data", taken, input_data)]}
    if output_path is not None:
        run.update(destination(output_path, model))
    outcome = run_pipeline(_calls.Pipeline.of(*steps)._native, taken, run, "simplify", macs=False)
    return _proto(outcome, output_path), not check_n or (outcome.accepted and outcome.verdict in ("equal", "within"))


def _proto(outcome: Outcome, path: str | os.PathLike[str] | None) -> ModelProto:
    """The result as a message; one that is too large refers to the data of the file that was written."""
    try:
        found: ModelProto = outcome.result.to_onnx()
    except SecateurError as error:
        if error.code != "stream-needs-external":
            raise
        if path is None or not outcome.accepted:
            error._advise("output_path=... writes it with its weights in a file of their own")
            raise
        import onnx

        found = onnx.load(path, load_external_data=False)
    return found


def _is_path(model: object) -> bool:
    return isinstance(model, str) or hasattr(model, "__fspath__")


def _refuse_devices(providers: Sequence[Any] | None) -> None:
    for provider in providers or ():
        name = provider if isinstance(provider, str) else provider[0]
        if name != "CPUExecutionProvider":
            raise refused("simplify", "providers", providers, "constants are folded on the CPU", "leave it out")


def _without(model: Model, unused: list[str]) -> Model:
    """The model without some of its outputs."""
    names = [value.name for value in model.outputs]
    refuse_unknown("simplify", "unused_output", unused, names)
    rest = [name for name in names if name not in unused]
    if not rest:
        raise refused("simplify", "unused_output", unused, "no output would be left", "leave one of them")
    return part(model, [], rest)


def _before(model: Model, inline: bool, opset: int | str | None) -> list[tuple[str, dict[str, Any]]]:
    """What is done before the model is simplified."""
    steps: list[tuple[str, dict[str, Any]]] = []
    if inline and model.facts.functions:
        steps.append(("inline-functions", {}))
    if opset == "latest":
        opset = _calls.schema("convert-opset")["properties"]["to"]["maximum"]
    elif isinstance(opset, str):
        raise refused("simplify", "target_opset_version", opset, "it is no opset", 'give a number or "latest"')
    if not is_unset(opset) and model.facts.opsets.get("ai.onnx") != opset:
        steps.append(("convert-opset", {"to": opset}))
    return steps


def _simplification(optimize: bool, skip_folding: bool, left_out: list[str]) -> list[tuple[str, dict[str, Any]]]:
    options: dict[str, Any] = {}
    if not optimize:
        options["only"] = list(_FOLD)
    if skip_folding:
        left_out = sorted({*left_out, *_FOLD})
    if left_out:
        options["except"] = left_out
    return [("simplify", options)]
