"""``quantize_dynamic``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import steps
from ..._model import Model
from .._arguments import refused
from .._models import destination, has_defaults, save_with_external_data
from . import _extra_options
from ._nodes import Chosen
from ._types import QuantType, member

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import Enum

    from ..._model import ModelLike, Node
    from ..._outcome import PathLike, RunOptions

_NAME = "quantize_dynamic"
#: Operators whose weights ONNX Runtime quantizes and secateur stores as codes.
_WEIGHTS_ONLY = ("LSTM", "Gather")
#: Further ones, for callers who list them.
_LISTED = ("LSTM", "GRU", "RNN", "Gather", "Einsum")
_CONVOLUTION = "engines run convolutions several times slower in this form"


def quantize_dynamic(
    model_input: ModelLike,
    model_output: PathLike,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    weight_type: QuantType | Enum = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    extra_options: Mapping[str, Any] | None = None,
) -> None:
    """Quantizes matrix products whose input ranges are found in every run, as ``secateur quantize-dynamic`` does, with the
    arguments of ONNX Runtime's function.

    Weights have the same scales as there. :func:`secateur.quantize_dynamic` has better defaults: one scale a column, weights that
    do not saturate, small weights left float.

    What is different:

    - Convolutions stay float, as engines run them several times slower in this form; ``Conv`` in ``op_types_to_quantize`` is
      refused for a model that has some. Operators of ONNX Runtime's own, such as Attention, stay as they are.
    - Weights of LSTM and Gather are stored as codes, and the operators compute in float.
    - A Gemm counts as a MatMul in ``op_types_to_quantize``, and keeps its name in the lists of nodes.
    - Products in bodies of If and Loop and in functions are quantized, too, as with ``EnableSubgraph``.
    - The model is simplified first, as after ``quant_pre_process``; with ``op_types_to_quantize``, ``nodes_to_quantize`` or
      ``nodes_to_exclude`` it is taken as it is, so that the names hold. The lists are about the main graph.
    - Graph inputs that have a default become constants.
    - The result records where it comes from in its metadata.

    Args:
        model_input: a path, ``onnx.ModelProto``, or whatever else stands for a model.
        model_output: the file to write; one that exists is replaced.
        op_types_to_quantize: operators that are quantized; MatMul, LSTM and Gather, if empty. GRU, RNN and Einsum may be in the
            list.
        per_channel: whether weights have a scale for each output column.
        reduce_range: refused.
        weight_type: QInt8.
        nodes_to_quantize: names of nodes that are quantized; all, if empty.
        nodes_to_exclude: names of nodes that stay float.
        use_external_data_format: whether weights are written to a file of their own.
        extra_options: those of ONNX Runtime with the value that says what is done anyway, and ``EnableSubgraph``.

    Raises:
        InputError: a ``ValueError``; ``unknown-option`` for what is refused; what is wrong with the model.
    """
    if member(_NAME, "weight_type", weight_type, QuantType) is not QuantType.QInt8:
        hint = "take QuantType.QInt8; secateur.quantize_weights(type=...) stores weights in other types"
        raise refused(_NAME, "weight_type", weight_type, "weights of integer products are signed codes of 8 bits", hint)
    if reduce_range:
        hint = "leave it out; secateur.quantize_dynamic keeps weights from saturating with all 8 bits"
        raise refused(_NAME, "reduce_range", reduce_range, "weights have all their bits", hint)
    extra = _extra_options.dynamic(extra_options)
    model = Model(model_input)
    if extra.get("EnableSubgraph") is False and any(_has_body(node) for node in model.nodes):
        why = "products in bodies are quantized, too"
        raise refused(
            _NAME, "EnableSubgraph", False, why, "secateur.quantize_dynamic(exclude=[...]) names products that stay float"
        )
    chosen = Chosen(_NAME, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude)
    listed = chosen.types
    if "Conv" in listed and any(node.op_type == "Conv" for node in model.nodes):
        raise refused(_NAME, "op_types_to_quantize", listed, _CONVOLUTION, "leave Conv out, or take quantize_static")
    exclude: list[str] = []
    if chosen:
        chosen.check(model)
        exclude = chosen.float_nodes(model, _is_type)
    run: RunOptions = {"allow_unchanged": True, "compare": False}
    if has_defaults(model):
        run["constant_inputs"] = True
    if not use_external_data_format:
        run.update(destination(model_output, model_input))
    outcome = steps.quantize_dynamic(
        model,
        per_channel=bool(per_channel),
        saturation="ignore",
        minimum_elements=0,
        weights_only=[name for name in _LISTED if name in listed] if listed else list(_WEIGHTS_ONLY),
        exclude=exclude or None,
        prepare=False if chosen else None,
        **run,
    )
    if use_external_data_format:
        save_with_external_data(outcome, model_output)


def _is_type(node: Node, types: list[str]) -> bool:
    return node.op_type in types or (node.op_type == "Gemm" and "MatMul" in types)


def _has_body(node: Node) -> bool:
    return node.op_type in ("If", "Loop", "Scan")
