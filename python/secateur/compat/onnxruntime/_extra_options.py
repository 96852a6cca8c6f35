"""``extra_options``: which are taken, what they are to the steps of secateur, and why the others are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._arguments import Refusal, is_unset, refuse, refuse_unknown, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMON = {
    "ActivationRestrictedAsymmetric": Refusal(False, "zero points are where the range puts them", "leave it out"),
    "DefaultTensorType": Refusal(None, "types are inferred, and a value without one stays float", "leave it out"),
    "ForceQuantizeNoInputCheck": Refusal(
        False, "a pair stands where an engine makes use of it", "secateur.quantize(profile='qnn') has pairs around every operator"
    ),
    "extra.Sigmoid.nnapi": Refusal(False, "Sigmoid has the range of its values", "leave it out"),
}
_STATIC = {
    **_COMMON,
    "AddQDQPairToWeight": Refusal(
        False, "weights are stored as codes with a DequantizeLinear", "leave it out: engines read weights in this form, too"
    ),
    "BlockSize": Refusal(
        0, "blocks are an option of secateur's own", "secateur.quantize(block=...) or quantize_weights(block=...)"
    ),
    "DedicatedQDQPair": Refusal(False, "operators that read a value share its pair", "leave it out"),
    "EnableSubgraph": Refusal(False, "operators in bodies of If, Loop and Scan stay float", "leave it out"),
    "MinimumRealRange": Refusal(
        None, "a least range belongs to the engine that needs it", "secateur.quantize(profile='qnn') has 1e-4"
    ),
    "OpTypesToExcludeOutputQuantization": Refusal(
        None, "pairs stand where the profile of the engine has them", "secateur.quantize(profile='tensorrt') has none on outputs"
    ),
    "QDQDisableWeightAdjustForInt32Bias": Refusal(
        False, "a weight's scale grows where the codes of the bias need it", "leave it out"
    ),
    "SmoothQuantFolding": Refusal(True, "factors go into the normalizations before", "leave it out"),
    "TensorQuantOverrides": Refusal(
        None, "types are chosen by layer", "secateur.quantize(layers=[{'match': PATTERN, 'type': 'int8'}])"
    ),
    "UseQDQContribOps": Refusal(False, "pairs are ONNX's own operators", "leave it out: the opset is raised to what types need"),
}
#: What :func:`static` makes something of.
_STATIC_MAPPED = (
    "ActivationSymmetric",
    "CalibMaxIntermediateOutputs",
    "CalibMovingAverage",
    "CalibMovingAverageConstant",
    "CalibPercentile",
    "CalibStridedMinMax",
    "CalibTensorRangeSymmetric",
    "MatMulConstBOnly",
    "QDQKeepRemovableActivations",
    "QDQOpTypePerChannelSupportToAxis",
    "QuantizeBias",
    "SmoothQuant",
    "SmoothQuantAlpha",
    "WeightSymmetric",
)
_DYNAMIC = {
    **_COMMON,
    "ActivationSymmetric": Refusal(False, "DynamicQuantizeLinear finds a zero point in every run", "leave it out"),
    "MatMulConstBOnly": Refusal(True, "products of two activations stay float", "leave it out"),
    "WeightSymmetric": Refusal(
        True, "weights are symmetric", "secateur.quantize_weights(symmetric=False) stores them with zero points"
    ),
}
_DYNAMIC_MAPPED = ("EnableSubgraph",)
#: The axis of a weight that its channels lie on.
_AXES = {"Conv": (0,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (1, -1)}


def static(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of ``quantize_static`` that are taken; what is not is refused."""
    options = dict(given or {})
    refuse_unknown("quantize_static", "extra_options", options, sorted({*_STATIC, *_STATIC_MAPPED}))
    refuse("quantize_static", options, _STATIC)
    _refuse_without_symmetry(options)
    axes = options.get("QDQOpTypePerChannelSupportToAxis") or {}
    for operator, axis in axes.items():
        if axis not in _AXES.get(operator, ()):
            why = (
                f"channels of {operator} lie on axis {_AXES[operator][0]}"
                if operator in _AXES
                else f"{operator} has no channels here"
            )
            raise refused("quantize_static", "QDQOpTypePerChannelSupportToAxis", axes, why, "leave it out")
    if options.get("CalibStridedMinMax") and options.get("CalibMovingAverage"):
        why = "the average is over all runs alike"
        raise refused("quantize_static", "CalibStridedMinMax", options["CalibStridedMinMax"], why, "leave one of the two out")
    return options


def _refuse_without_symmetry(options: Mapping[str, Any]) -> None:
    """What goes with symmetric activations alone: float biases, which are TensorRT's, clamps that stay, and ranges around zero."""
    if options.get("ActivationSymmetric"):
        return
    hint = "ActivationSymmetric=True has it"
    if not options.get("QuantizeBias", True):
        why = "biases have 32-bit codes, without which ONNX Runtime has no integer kernel"
        raise refused("quantize_static", "QuantizeBias", False, why, f"{hint}, as TensorRT wants it")
    for name, why in (
        ("QDQKeepRemovableActivations", "a clamp that the range of the codes implies is left out"),
        ("CalibTensorRangeSymmetric", "ranges are as the data have them"),
    ):
        if options.get(name):
            raise refused("quantize_static", name, options[name], why, hint)


def dynamic(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of ``quantize_dynamic`` that are taken; what is not is refused."""
    options = dict(given or {})
    refuse_unknown("quantize_dynamic", "extra_options", options, sorted({*_DYNAMIC, *_DYNAMIC_MAPPED}))
    if is_unset(options.get("WeightSymmetric")):
        options.pop("WeightSymmetric", None)
    refuse("quantize_dynamic", options, _DYNAMIC)
    return options
