"""``quant_pre_process``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import steps
from ..._model import Model
from .._arguments import Refusal, refuse, refuse_unknown, refused
from .._models import destination, has_defaults, save_with_external_data

if TYPE_CHECKING:
    from ..._model import ModelLike
    from ..._outcome import PathLike, RunOptions

_NAME = "quant_pre_process"
_REFUSED = {
    "skip_optimization": Refusal(False, "simplifying is what is done", "leave the call out"),
    "auto_merge": Refusal(False, "symbols that contradict each other are an error", "leave it out"),
    "int_max": Refusal(2**31 - 1, "sizes are exact", "leave it out"),
    "guess_output_rank": Refusal(False, "a rank that is not known stays unknown", "leave it out"),
}


def quant_pre_process(
    input_model: ModelLike | None = None,
    output_model_path: PathLike | None = None,
    skip_optimization: bool = False,
    skip_onnx_shape: bool = False,
    skip_symbolic_shape: bool = False,
    auto_merge: bool = False,
    int_max: int = 2**31 - 1,
    guess_output_rank: bool = False,
    verbose: int = 0,
    save_as_external_data: bool = False,
    all_tensors_to_one_file: bool = False,
    external_data_location: str | None = None,
    external_data_size_threshold: int = 1024,
    **deprecated_kwargs: Any,
) -> None:
    """Simplifies a model before it is quantized, as ``secateur simplify`` does, with the arguments of ONNX Runtime's function.

    What is different: shapes are inferred by secateur alone, so that ``skip_onnx_shape``, ``skip_symbolic_shape`` and ``verbose``
    change nothing; the file does not grow; graph inputs that have a default become constants. ``skip_optimization``,
    ``auto_merge``, ``int_max`` and ``guess_output_rank`` are refused unless they have their defaults.

    Args:
        input_model: a path, ``onnx.ModelProto``, or whatever else stands for a model; also as ``input_model_path``.
        output_model_path: the file to write; one that exists is replaced.
        save_as_external_data: whether weights are written to files of their own, as the next three arguments say.
        all_tensors_to_one_file: whether they share one file.
        external_data_location: the name of that file.
        external_data_size_threshold: the fewest bytes of a weight that goes there.

    Raises:
        InputError: a ``ValueError``; ``unknown-option`` for what is refused; what is wrong with the model.
    """
    refuse(_NAME, dict(locals()), _REFUSED)
    refuse_unknown(_NAME, "deprecated_kwargs", deprecated_kwargs, ["input_model_path"])
    model = deprecated_kwargs.get("input_model_path") if input_model is None else input_model
    if model is None or output_model_path is None:
        missing = "input_model" if model is None else "output_model_path"
        raise refused(_NAME, missing, None, "it is needed", f"give {missing}")
    taken = Model(model)
    run: RunOptions = {"compare": False, "allow_unchanged": True}
    if has_defaults(taken):
        run["constant_inputs"] = True
    if not save_as_external_data:
        run.update(destination(output_model_path, model))
    outcome = steps.simplify(taken, **run)
    if save_as_external_data:
        save_with_external_data(
            outcome,
            output_model_path,
            all_tensors_to_one_file=all_tensors_to_one_file,
            location=external_data_location,
            size_threshold=external_data_size_threshold,
            convert_attribute=False,
        )
