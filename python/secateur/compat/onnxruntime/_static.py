"""``quantize_static``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import _calls, steps
from ..._model import Model
from ..._outcome import LOG
from .._arguments import refused
from .._models import destination, has_defaults, save_with_external_data
from . import _extra_options
from ._nodes import Chosen, is_operator
from ._readers import runs
from ._types import CalibrationMethod, QuantFormat, QuantType, member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import Enum

    from ..._model import ModelLike
    from ..._outcome import Outcome, PathLike, RunOptions
    from ._types import CalibrationDataReader

_NAME = "quantize_static"
_ACTIVATIONS = {QuantType.QInt8: "int8", QuantType.QUInt8: "uint8", QuantType.QInt16: "int16", QuantType.QUInt16: "uint16"}
_WEIGHTS = {
    QuantType.QInt8: "int8",
    QuantType.QUInt8: "uint8",
    QuantType.QInt16: "int16",
    QuantType.QUInt16: "uint16",
    QuantType.QInt4: "int4",
    QuantType.QUInt4: "uint4",
}
_UNSIGNED = (QuantType.QUInt8, QuantType.QUInt16, QuantType.QUInt4)
#: First opset whose QuantizeLinear has the types: of 8 bits, and of others.
_OPSETS = (13, 21)


def quantize_static(
    model_input: ModelLike,
    model_output: PathLike,
    calibration_data_reader: CalibrationDataReader | Any = None,
    quant_format: QuantFormat | Enum = QuantFormat.QDQ,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: QuantType | Enum = QuantType.QInt8,
    weight_type: QuantType | Enum = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    calibrate_method: CalibrationMethod | Enum = CalibrationMethod.MinMax,
    calibration_providers: Sequence[Any] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    calibration_cache_path: PathLike | None = None,
) -> None:
    """Quantizes a model with calibration data as ``secateur quantize`` does, with the arguments of ONNX Runtime's function.

    Options mean what they mean there: scales and zero points are computed by the same formulas from the lowest and highest
    values, and nothing is done that they do not ask for. :func:`secateur.quantize` has better defaults: one scale a channel,
    ranges with the least squared error, corrected biases, evened-out channels, weights that do not saturate.

    What is different:

    - The model is simplified first, as after ``quant_pre_process``, so that batch normalizations are part of convolutions; with
      ``op_types_to_quantize``, ``nodes_to_quantize`` or ``nodes_to_exclude`` it is taken as it is, so that the names hold.
    - Graph inputs that have a default become constants.
    - A pair stands only where ONNX Runtime's integer kernels make use of it. Products of two activations, results of last matrix
      products, bodies of If and Loop, and operators without an integer kernel, such as LayerNormalization, stay float.
    - ``reduce_range`` takes a bit from the weights of products, not from other constants.
    - ``ActivationSymmetric`` with ``QuantizeBias=False`` gives pairs as TensorRT wants them: before operators alone, with biases
      in float.
    - Percentile does not make ranges symmetric, as if ``CalibTensorRangeSymmetric`` were ``False``. Entropy chooses among more,
      and finer, ranges.
    - ``CalibMovingAverage`` is the mean over the samples of each one's extremes. ``CalibMovingAverageConstant`` and
      ``CalibMaxIntermediateOutputs`` change nothing: data are read once, in memory that does not grow.
    - ``SmoothQuant`` is done between normalizations and the products that read them, and needs no other package.
    - What a reader gives has samples along its first axis; where its arrays have different lengths there, each run is taken as it
      is.
    - Calibration runs in secateur's own engine. No cache of ranges is read or written.
    - The result records where it comes from in its metadata.

    Args:
        model_input: a path, ``onnx.ModelProto``, or whatever else stands for a model.
        model_output: the file to write; one that exists is replaced.
        calibration_data_reader: an object with ``get_next``: a reader of ONNX Runtime's class or of this module's.
        quant_format: QDQ; QOperator is refused.
        op_types_to_quantize: operators that are quantized; all, if empty.
        per_channel: whether weights have a scale for each output channel.
        reduce_range: whether weights have one bit less.
        activation_type: QInt8, QUInt8, QInt16 or QUInt16. ONNX Runtime computes in float between pairs of 16 bits.
        weight_type: a type of integers. Without ``per_channel`` unsigned ones have zero points unless ``WeightSymmetric`` is set,
            and signed ones have none unless it is ``False``.
        nodes_to_quantize: names of nodes that are quantized; all, if empty.
        nodes_to_exclude: names of nodes that stay float.
        use_external_data_format: whether weights are written to a file of their own.
        calibrate_method: MinMax, Entropy or Percentile.
        calibration_providers: the CPU, if any.
        extra_options: those of ONNX Runtime that are named above, and ``CalibPercentile``, ``CalibStridedMinMax``,
            ``QDQKeepRemovableActivations``, ``QuantizeBias``, ``SmoothQuantAlpha``, and others with the value that says what is
            done anyway.
        calibration_cache_path: refused.

    Raises:
        InputError: a ``ValueError``; ``unknown-option`` for what is refused; what is wrong with the model or the data.
    """
    if member(_NAME, "quant_format", quant_format, QuantFormat) is not QuantFormat.QDQ:
        why = "what is written are Q/DQ pairs, which ONNX Runtime turns into the same kernels"
        raise refused(
            _NAME, "quant_format", quant_format, why, "take QuantFormat.QDQ; secateur.quantize(profile='tract') has QLinearMatMul"
        )
    if calibration_cache_path is not None:
        why = "ONNX Runtime's caches of ranges are neither read nor written"
        raise refused(
            _NAME,
            "calibration_cache_path",
            calibration_cache_path,
            why,
            "secateur.quantize(stats=...) takes a file of secateur.stats",
        )
    for provider in calibration_providers or ():
        if provider != "CPUExecutionProvider":
            why = "calibration runs in secateur's engine"
            raise refused(_NAME, "calibration_providers", calibration_providers, why, "leave it out")
    if not callable(getattr(calibration_data_reader, "get_next", None)):
        why = "ranges come from data"
        raise refused(_NAME, "calibration_data_reader", calibration_data_reader, why, "give an object with get_next()")
    extra = _extra_options.static(extra_options)
    method = member(_NAME, "calibrate_method", calibrate_method, CalibrationMethod)
    options = {
        **_types(activation_type, weight_type, per_channel, extra),
        **_calibration(method, extra),
        "per-channel": bool(per_channel),
        "reduce-range": bool(reduce_range),
        "saturation": "ignore",
        "correct-bias": False,
        "equalize": False,
        "heads": "codes",
    }
    model = Model(model_input)
    chosen = Chosen(_NAME, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude)
    if chosen:
        chosen.check(model)
        model = _with_opset(model, options)
        options.update(prepare=False, exclude=chosen.float_nodes(model, is_operator))
    smooth = _smoothing(extra, prepare=not chosen)
    data = runs(calibration_data_reader, extra.get("CalibStridedMinMax"))
    run: RunOptions = {"data": data, "compare": False, "allow_unchanged": True}
    if has_defaults(model):
        run["constant_inputs"] = True
    if not use_external_data_format:
        run.update(destination(model_output, model_input))
    outcome = _calls.Pipeline.of(*smooth, ("quantize", options)).run(model, **run)
    if use_external_data_format:
        save_with_external_data(outcome, model_output)
    _say_what_stays_float(chosen, outcome)


def _types(activation_type: object, weight_type: object, per_channel: bool, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Types of codes, and the engine whose kernels are symmetric or not."""
    activation = member(_NAME, "activation_type", activation_type, QuantType)
    weight = member(_NAME, "weight_type", weight_type, QuantType)
    if QuantType.QFLOAT8E4M3FN in (activation, weight):
        hint = "secateur.quantize(scheme='float8', profile='tensorrt')"
        raise refused(_NAME, "activation_type", activation, "scales of 8-bit floats are found in another way here", hint)
    if activation not in _ACTIVATIONS:
        why = "ONNX Runtime has no kernel for activations of 4 bits"
        raise refused(_NAME, "activation_type", activation, why, "take QuantType.QUInt8 or QInt8")
    if (activation, weight) == (QuantType.QInt8, QuantType.QUInt8):
        why = "ONNX Runtime has no kernel for signed activations and unsigned weights"
        raise refused(_NAME, "weight_type", weight, why, "take QuantType.QInt8")
    symmetric = bool(extra.get("ActivationSymmetric"))
    asked = extra.get("WeightSymmetric")
    # As there: kernels want the same zero point for each channel.
    centred = bool(per_channel) or (weight not in _UNSIGNED if asked is None else bool(asked))
    options: dict[str, Any] = {"profile": "ort-x86", "activations": _ACTIVATIONS[activation], "weights": _WEIGHTS[weight]}
    if symmetric:
        options["symmetric-activations"] = True
    if not centred:
        options["symmetric-weights"] = False
    if symmetric and not extra.get("QuantizeBias", True):
        if (activation, weight, centred) != (QuantType.QInt8, QuantType.QInt8, True):
            why = "float biases are those of TensorRT, which multiplies signed codes of 8 bits with zero points of 0"
            raise refused(_NAME, "QuantizeBias", False, why, "take QuantType.QInt8 for both types, and no WeightSymmetric")
        options["profile"] = "tensorrt"
    return options


def _calibration(method: CalibrationMethod, extra: Mapping[str, Any]) -> dict[str, Any]:
    """How ranges are found."""
    average = bool(extra.get("CalibMovingAverage"))
    if method is CalibrationMethod.Distribution:
        why = "it is for 8-bit floats"
        raise refused(_NAME, "calibrate_method", method, why, "secateur.quantize(scheme='float8', profile='tensorrt')")
    if method is not CalibrationMethod.MinMax:
        for name in ("CalibMovingAverage", "CalibStridedMinMax"):
            if extra.get(name):
                raise refused(_NAME, name, extra[name], f"it goes with MinMax, not with {method.name}", "leave it out")
    if method is not CalibrationMethod.Percentile and "CalibPercentile" in extra:
        why = f"it goes with Percentile, not with {method.name}"
        raise refused(_NAME, "CalibPercentile", extra["CalibPercentile"], why, "leave it out")
    if method is CalibrationMethod.Percentile:
        return {"calibrate": {"percentile": float(extra.get("CalibPercentile", 99.999))}}
    if method is CalibrationMethod.Entropy:
        return {"calibrate": "entropy"}
    return {"calibrate": "moving-average" if average else "min-max"}


def _smoothing(extra: Mapping[str, Any], *, prepare: bool) -> list[tuple[str, dict[str, Any]]]:
    """The step before, where activations are smoothed."""
    if not extra.get("SmoothQuant"):
        return []
    return [("smooth-quant", {"alpha": float(extra.get("SmoothQuantAlpha", 0.5)), "prepare": prepare})]


def _with_opset(model: Model, options: Mapping[str, Any]) -> Model:
    """The model in the opset that its codes need, so that the names of its nodes are those that are looked for."""
    of_8_bits = all(options[name] in ("int8", "uint8") for name in ("activations", "weights"))
    needed = _OPSETS[0] if of_8_bits else _OPSETS[1]
    opset = model.facts.opsets.get("ai.onnx", needed)
    return model if opset >= needed else steps.convert_opset(model, to=needed, compare=False).result


def _say_what_stays_float(chosen: Chosen, outcome: Outcome) -> None:
    """Warns of operators that the caller listed and that are nowhere on codes."""
    planned = [node for step in outcome.report.steps for node in step.nodes or ()]
    for name in chosen.types:
        nodes = [node for node in planned if node.operator == name]
        if nodes and all(node.runs == "float" for node in nodes):
            LOG.warning("op_types_to_quantize: every %s stays float: %s", name, nodes[0].why)
