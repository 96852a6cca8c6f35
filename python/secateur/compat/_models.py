"""Models as other packages take and give them: shapes of inputs by name, parts, files that are written over."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Any

from .. import steps
from .._errors import wrong
from .._model import Model
from ._arguments import refuse_unknown, refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._model import ModelLike
    from .._outcome import Outcome, PathLike, RunOptions


def destination(path: PathLike, source: object) -> RunOptions:
    """How a run writes to a file whether or not it exists, and over the model itself where that is the file."""
    return {"in_place": True} if _is_file(path, source) else {"output": path, "force": True}


def _is_file(path: PathLike, source: object) -> bool:
    return isinstance(source, (str, os.PathLike)) and os.path.exists(path) and os.path.samefile(source, path)


def write(outcome: Outcome, path: PathLike, source: object) -> None:
    """Writes an accepted result, whether or not the file exists or is that of the model."""
    if not _is_file(path, source):
        outcome.save(path, force=True)
        return
    # A file that is read is never written to; another one takes its name.
    with tempfile.TemporaryDirectory(prefix=".secateur-", dir=os.path.dirname(os.path.abspath(path))) as folder:
        (written, *data), _ = outcome.save(os.path.join(folder, os.path.basename(path)))
        if data:
            raise wrong("output-is-input", f"{path} is the model itself, and has external data", "give another file")
        os.replace(written, path)


def save_with_external_data(outcome: Outcome, path: PathLike, **layout: Any) -> None:
    """Writes a result with its weights in a file of their own; ``layout`` is for ``onnx.save_model``."""
    import onnx

    path = os.fspath(path)
    layout.setdefault("location", f"{os.path.basename(path)}.data")
    data = os.path.join(os.path.dirname(path), layout["location"] or "")
    model = outcome.result.to_onnx()
    if os.path.isfile(data):
        # onnx appends to a file that exists.
        os.remove(data)
    onnx.save_model(model, path, save_as_external_data=True, **layout)


def has_defaults(model: Model) -> bool:
    """Whether some graph input has a default, which a caller may replace."""
    return any(value.optional for value in model.inputs)


def sizes(
    function: str, argument: str, model: Model, shapes: Mapping[Any, Sequence[int | None]], *, fixed: bool = False
) -> dict[str, int | str]:
    """Sizes of dimensions by symbol, or as ``input[axis]`` where there is none, that give inputs these shapes.

    A size below 1 or ``None`` leaves its dimension free. With ``fixed`` a dimension that has another size already is among them,
    else it is refused. The key ``None`` is the only input.
    """
    inputs = {value.name: value for value in model.inputs if not value.optional}
    found: dict[str, int | str] = {}
    if not hasattr(shapes, "items"):
        raise refused(function, argument, shapes, "it has no names", f"give a shape for each input: {', '.join(inputs)}")
    for name, shape in shapes.items():
        if isinstance(shape, str) or not hasattr(shape, "__len__"):
            raise refused(function, argument, shape, f"it is no shape for {name}", "give a list of sizes")
        if name is None and len(inputs) == 1:
            (name,) = inputs
        if name not in inputs:
            raise refused(function, argument, name, "the model has no such input", f"inputs are {', '.join(inputs)}")
        known = inputs[name].shape
        if known is None:
            known = (None,) * len(shape)
        if len(known) != len(shape):
            raise wrong(
                "option-value", f"{function}: {argument}: {name} has {len(known)} dimensions, not {len(shape)}", None, name
            )
        for axis, (has, size) in enumerate(zip(known, shape)):
            if size is None or size < 1 or has == size:
                continue
            if isinstance(has, int) and not fixed:
                raise refused(function, argument, shape, f"{name}[{axis}] is {has} in the model", "give the size that it has")
            key = has if isinstance(has, str) else f"{name}[{axis}]"
            if found.setdefault(key, size) != size:
                raise refused(function, argument, size, f"{key} is {found[key]} elsewhere", "a symbol has one size in a model")
    return found


def part(model: ModelLike, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """The part of a model that computes ``outputs``, starting at ``inputs`` or where the model does."""
    outputs = outputs or [value.name for value in Model(model).outputs]
    found = steps.extract(model, inputs=inputs or None, outputs=outputs, compare=False)
    return found.result


def one_run(function: str, argument: str, model: Model, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays that are the inputs of one run, by the names of the inputs."""
    names = {value.name: value.optional for value in model.inputs}
    refuse_unknown(function, argument, arrays, names)
    missing = [name for name, optional in names.items() if not optional and name not in arrays]
    if missing:
        raise refused(function, argument, list(arrays), f"there is no array for {', '.join(missing)}", "give one for each input")
    return whole_runs(arrays)


def whole_runs(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays that are the inputs of one run as they are, whatever their first axis stands for."""
    import numpy

    return {name: numpy.asarray(array)[None] for name, array in arrays.items()}
