"""Models: what callers have, and what this package makes of it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Union

from . import _native
from ._arrays import view
from ._errors import SecateurError, wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._outcome import Outcome
    from .reports import ModelFacts

#: The largest message that Protobuf allows.
LARGEST = 2**31 - 1


class Proto(Protocol):
    """A message such as ``onnx.ModelProto``."""

    def SerializeToString(self) -> bytes:  # noqa: N802
        """The message as bytes."""


class Graphed(Protocol):
    """A model with a graph such as ``onnx_ir.Model``."""

    @property
    def graph(self) -> Any:
        """The graph."""


#: What stands for a model: a path, its bytes, ``onnx.ModelProto``, ``onnx_ir.Model``, :class:`Model`, or the outcome of a step.
ModelLike = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, "Model", "Outcome", Proto, Graphed]


class Value(NamedTuple):
    """An input or output of a model.

    ``shape`` has a number, the name of a free dimension, or ``None`` for each axis; it is ``None`` where the rank is not known.
    """

    name: str
    dtype: str | None
    shape: tuple[int | str | None, ...] | None
    optional: bool = False


class Node(NamedTuple):
    """A node of the main graph. Empty names are operands and results that are left out; attributes that are tensors or graphs are
    described and not given."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


class Saved(NamedTuple):
    """What a save left on the disk."""

    files: tuple[str, ...]
    notes: tuple[str, ...]


class Model:
    """An ONNX model that was read and checked. Its weights are parts of the mapped file.

    Args:
        model: a path, bytes, ``onnx.ModelProto``, ``onnx_ir.Model`` or another model.

    Raises:
        InputError: it is no valid model; the error names the node.
        FileError: the file cannot be read.

    >>> import secateur
    >>> model = secateur.Model("fixtures/digits_mlp.onnx")
    >>> model.inputs[0]
    Value(name='input', dtype='float', shape=('batch', 1, 8, 8), optional=False)
    >>> [node.op_type for node in model.nodes]
    ['Flatten', 'Gemm', 'Relu', 'Gemm']
    """

    __slots__ = ("_facts_text", "_native")

    def __init__(self, model: ModelLike) -> None:
        self._native: _native.Model = taken(model)[0]._native if not isinstance(model, Model) else model._native
        self._facts_text: str | None = None

    @classmethod
    def _of(cls, native: _native.Model) -> Model:
        made = object.__new__(cls)
        made._native = native
        made._facts_text = None
        return made

    def _facts(self) -> dict[str, Any]:
        if self._facts_text is None:
            self._facts_text = self._native.facts()
        found: dict[str, Any] = json.loads(self._facts_text)
        return found

    @property
    def facts(self) -> ModelFacts:
        """What ``secateur inspect`` shows: counts, size, operations, interface."""
        from .reports import ModelFacts

        return ModelFacts.from_dict(self._facts())

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Inputs of the graph."""
        return tuple(_value(value) for value in json.loads(self._native.inputs()))

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Outputs of the graph."""
        return tuple(_value(value) for value in json.loads(self._native.outputs()))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Nodes of the main graph, in an order in which they can run."""
        return tuple(
            Node(
                node["name"],
                node["op_type"],
                node["domain"],
                tuple(node["inputs"]),
                tuple(node["outputs"]),
                node["attributes"],
            )
            for node in json.loads(self._native.nodes())
        )

    @property
    def initializers(self) -> Mapping[str, Any]:
        """Constants of the main graph by name, as read-only NumPy arrays that look at the model's own memory.

        Element types that NumPy does not have are those of ``ml_dtypes`` where that is installed, else unsigned integers of their
        width. Types of less than 8 bits are their packed bytes, ``uint8`` in one dimension. Texts are left out.
        """
        return {name: view(array) for name, array in self._native.initializers()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is unusual about the file."""
        return tuple(self._native.warnings())

    def text(self) -> str:
        """The model in ONNX's textual syntax."""
        return self._native.text()

    def to_bytes(self) -> bytes:
        """The model as one message, external data inside.

        Raises:
            InputError: ``stream-needs-external`` above 2 GiB, which one message cannot hold.
        """
        try:
            return self._native.to_bytes()
        except SecateurError as error:
            if error.code == "stream-needs-external":
                error._advise("write it to a file with `save`, which gives its weights a file of their own")
            raise

    def to_onnx(self) -> Any:
        """The model as ``onnx.ModelProto``; needs the package ``onnx``."""
        import onnx

        return onnx.ModelProto.FromString(self.to_bytes())

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Saved:
        """Writes the model, all or nothing.

        Args:
            path: the file; it must not be one that the model was read from.
            force: whether a file that exists is replaced.

        Raises:
            FileError: ``output-exists``, ``output-is-input``, ``write-failed``.
        """
        options = _native.Options(json.dumps({"force": force}))
        files, notes = self._native.save(os.fspath(path), options)
        return Saved(tuple(files), tuple(notes))

    def __repr__(self) -> str:
        facts = self._facts()
        return f"<secateur.Model: {facts['nodes']} nodes, {facts['parameters']} parameters>"

    def _repr_html_(self) -> str:
        from html import escape

        facts = self._facts()
        rows = [("nodes", f"{facts['nodes']:,}"), ("parameters", f"{facts['parameters']:,}")]
        rows.append(("bytes", f"{facts['bytes']:,}"))
        if facts["macs"] is not None:
            rows.append(("MACs", f"{facts['macs']:,}"))
        for kind in ("inputs", "outputs"):
            for value in map(_value, facts[kind]):
                shape = "?" if value.shape is None else ", ".join("?" if dim is None else str(dim) for dim in value.shape)
                rows.append((kind[:-1], f"{value.name}: {value.dtype}[{shape}]"))
        rows.append(("operators", ", ".join(f"{count} {name}" for name, count in facts["ops"].items())))
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
        return f"<table>{cells}</table>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_from_bytes, (self.to_bytes(),))


def _from_bytes(data: bytes) -> Model:
    return Model._of(_native.Model.from_bytes(data))


def _value(value: dict[str, Any]) -> Value:
    shape = value["shape"]
    return Value(
        value["name"],
        value["dtype"],
        None if shape is None else tuple(shape),
        bool(value.get("optional", False)),
    )


def taken(model: ModelLike) -> tuple[Model, Any]:
    """The model that something stands for, and what makes the same kind of thing of another model."""
    from ._outcome import Outcome

    if isinstance(model, Model):
        return model, _itself
    if isinstance(model, Outcome):
        return model.result, model._remake
    if isinstance(model, (str, os.PathLike)):
        return Model._of(_native.Model.open(os.fspath(model))), _itself
    if isinstance(model, (bytes, bytearray, memoryview)):
        _check_size(memoryview(model).nbytes)
        return _of_bytes(bytes(model)), Model.to_bytes
    if hasattr(model, "SerializeToString"):
        kind: Any = type(model)
        return _of_bytes(_serialized(model)), lambda made: kind.FromString(made.to_bytes())
    if "onnx_ir" in sys.modules and isinstance(model, sys.modules["onnx_ir"].Model):
        onnx_ir = sys.modules["onnx_ir"]
        return _of_bytes(_serialized(onnx_ir.to_proto(model))), lambda made: onnx_ir.from_proto(made.to_onnx())
    raise wrong(
        "usage",
        f"a {type(model).__name__} is no model",
        "give a path, bytes, onnx.ModelProto, onnx_ir.Model or secateur.Model",
    )


def _itself(model: Model) -> Model:
    return model


def _serialized(proto: Any) -> bytes:
    try:
        data: bytes = proto.SerializeToString()
    except Exception as error:
        raise _too_large(f"the model cannot be made one message: {error}") from error
    return data


def _of_bytes(data: bytes) -> Model:
    _check_size(len(data))
    try:
        return _from_bytes(data)
    except SecateurError as error:
        if error.code == "external-no-directory":
            error._advise("the weights are in other files: give the path of the model, or load it with its external data")
        raise


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise _too_large(f"the model has {size} bytes, and a message has at most {LARGEST}")


def _too_large(message: str) -> SecateurError:
    hint = "save it with onnx.save(model, path, save_as_external_data=True) and give the path"
    return wrong("model-too-large", message, hint)
