"""``convert_float_to_float16`` of onnxconverter-common's module ``float16``.

>>> import onnx
>>> from secateur.compat.onnxconverter_common import float16
>>> model = float16.convert_float_to_float16(onnx.load("fixtures/digits_mlp.onnx"), keep_io_types=True)
>>> {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}
{'FLOAT16'}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import steps
from ..._errors import wrong
from ..._model import Model
from .._arguments import Refusal, names_of, refuse
from .._patterns import escape

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto

    from ..._model import ModelLike
    from ..._outcome import PathLike

__all__ = ["DEFAULT_OP_BLOCK_LIST", "convert_float_to_float16", "convert_float_to_float16_model_path"]

#: Operators that stay float unless ``op_block_list`` says otherwise.
DEFAULT_OP_BLOCK_LIST = [
    "ArrayFeatureExtractor",
    "Binarizer",
    "CastMap",
    "CategoryMapper",
    "CumSum",
    "DictVectorizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Max",
    "Min",
    "NonMaxSuppression",
    "Normalizer",
    "OneHotEncoder",
    "RandomUniformLike",
    "Range",
    "Resize",
    "RoiAlign",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TopK",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "Upsample",
    "ZipMap",
]

_STAYS = "an operator with a constant that float16 does not hold stays float"
_REFUSED = {
    "min_positive_val": Refusal(1e-7, f"constants are not raised to a least magnitude: {_STAYS}", "leave it out"),
    "max_finite_val": Refusal(1e4, f"constants are not cut to a largest magnitude: {_STAYS}", "leave it out"),
}


def convert_float_to_float16(
    model: ModelLike,
    min_positive_val: float = 1e-7,
    max_finite_val: float = 1e4,
    keep_io_types: bool = False,
    disable_shape_infer: bool = False,
    op_block_list: Collection[str] | None = None,
    node_block_list: Collection[str] | None = None,
    check_fp16_ready: bool = True,
) -> ModelProto:
    """Converts a model to float16 as ``secateur convert-float`` does, with the arguments of onnxconverter-common.

    What is different:

    - Constants keep their values: none is raised to ``min_positive_val`` or cut to ``max_finite_val``. An operator that computes
      with a number which float16 does not hold, such as a small epsilon or a large mask, stays float; so does one whose values
      come near the end of the range of float16 when the model is run on two random inputs.
    - With ``keep_io_types`` operators whose weights are smaller than the Casts around them stay float, too.
    - Types are always inferred, by secateur itself: ``disable_shape_infer`` changes nothing.
    - Calls of local functions are replaced by what the functions compute.
    - A name in ``node_block_list`` that no node has is an error, and the model may be a path.

    Args:
        model: ``onnx.ModelProto``, a path, or whatever else stands for a model. It is not changed.
        min_positive_val, max_finite_val: refused unless they have their defaults.
        keep_io_types: whether inputs and outputs stay float.
        disable_shape_infer: changes nothing.
        op_block_list: operators that stay float; :data:`DEFAULT_OP_BLOCK_LIST` by default.
        node_block_list: names of nodes that stay float.
        check_fp16_ready: whether a model that has float16 values already is refused.

    Returns:
        The converted model.

    Raises:
        InputError: a ``ValueError``; ``unknown-option`` for what is refused, ``pass-model`` for a model that is float16 already.
    """
    given = {"min_positive_val": min_positive_val, "max_finite_val": max_finite_val}
    refuse("convert_float_to_float16", given, _REFUSED)
    taken = Model(model)
    if check_fp16_ready and _has_float16(taken):
        hint = "check_fp16_ready=False converts what is float"
        raise wrong("pass-model", "convert_float_to_float16: the model has float16 values already", hint)
    outcome = steps.convert_float(
        taken,
        to="float16",
        convert_io=not keep_io_types,
        keep_operators=DEFAULT_OP_BLOCK_LIST if op_block_list is None else list(op_block_list),
        exclude=[f"^{escape(name)}$" for name in names_of(node_block_list)] or None,
        allow_unchanged=True,
        compare=False,
    )
    proto: ModelProto = outcome.result.to_onnx()
    return proto


def convert_float_to_float16_model_path(
    model_path: PathLike, min_positive_val: float = 1e-7, max_finite_val: float = 1e4, keep_io_types: bool = False
) -> ModelProto:
    """Converts the model of a file; see :func:`convert_float_to_float16`."""
    return convert_float_to_float16(model_path, min_positive_val, max_finite_val, keep_io_types)


def options(*, keep_io_types: bool) -> dict[str, Any]:
    """Options of the step ``convert-float`` that stand for onnxconverter-common's defaults."""
    return {"to": "float16", "convert-io": not keep_io_types, "keep-operators": DEFAULT_OP_BLOCK_LIST}


def _has_float16(model: Model) -> bool:
    """Whether an input, output or constant is float16, or a Cast makes one."""
    values = any(value.dtype == "float16" for value in (*model.inputs, *model.outputs))
    constants = any(array.element == "float16" for _, array in model._native.initializers())
    casts = any(node.op_type == "Cast" and node.attributes.get("to") == 10 for node in model.nodes)
    return values or constants or casts
