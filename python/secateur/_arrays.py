"""Arrays of the caller as bytes with a type and a shape, and back. NumPy is used where the caller uses it, and never needed."""

from __future__ import annotations

import sys
from array import array
from typing import Any

from . import _native
from ._errors import wrong

#: ONNX's name of a NumPy element type, those of ml_dtypes included.
ELEMENTS = {
    "float32": "float",
    "float64": "double",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
}
#: Element types of ml_dtypes by ONNX's name.
SMALL = {onnx: numpy for numpy, onnx in ELEMENTS.items() if "bfloat" in numpy or "float8" in numpy}
#: ONNX's name of what a memoryview holds, by its format.
FORMATS = {"f": "float", "d": "double", "e": "float16", "?": "bool"}
INTEGERS = frozenset("bBhHiIlLqQnN")


def is_array(value: object) -> bool:
    """Whether it is one array, and no collection of arrays."""
    if isinstance(value, (_native.Array, memoryview, array)):
        return True
    return hasattr(value, "shape") and hasattr(value, "dtype")


def packed(name: str, value: Any) -> _native.Array:
    """An array of the caller: of NumPy, PyTorch, JAX, TensorFlow, anything with the buffer protocol, or nested lists."""
    if isinstance(value, _native.Array):
        return value
    value = _on_host(value)
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and hasattr(value, "shape"):
        dtype = value.dtype
        if getattr(dtype, "byteorder", "=") == ">" or (sys.byteorder == "big" and dtype.byteorder == "="):
            value = value.astype(dtype.newbyteorder("<"))
        element = ELEMENTS.get(getattr(dtype, "name", str(dtype)))
        if element is None:
            raise wrong(
                "data-type",
                f"array {name!r} has elements of type {dtype}, which no model input takes",
                "give numbers or truth values: array.astype('float32')",
                name,
            )
        return _native.Array(element, list(value.shape), value.tobytes())
    try:
        view = memoryview(value)
    except TypeError:
        return packed(name, _from_lists(name, value))
    # Buffers of the standard library and of C say the byte order of this machine by a sign in front.
    kind = view.format.lstrip(f"@={'<' if sys.byteorder == 'little' else '>'}")
    element = FORMATS.get(kind)
    if element is None and kind in INTEGERS:
        element = f"{'u' if kind.isupper() else ''}int{view.itemsize * 8}"
    if element is None or sys.byteorder == "big":
        raise wrong("data-type", f"array {name!r} has elements of format {view.format!r}", None, name)
    return _native.Array(element, list(view.shape or ()), view.tobytes())


def _on_host(value: Any) -> Any:
    """A tensor of a framework as an array in main memory."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            value = value.float()
        return value.numpy()
    if not hasattr(value, "tobytes") and hasattr(value, "__array__"):
        import numpy

        return numpy.asarray(value)
    return value


def _from_lists(name: str, value: Any) -> Any:
    if not isinstance(value, (list, tuple, int, float, bool)):
        raise wrong(
            "data-array",
            f"array {name!r} is a {type(value).__name__}, and no array",
            "give NumPy arrays, tensors, nested lists or anything with the buffer protocol",
            name,
        )
    try:
        import numpy
    except ImportError:
        raise wrong(
            "data-array", f"array {name!r} is a list, and NumPy, which reads lists, is not installed", None, name
        ) from None
    try:
        found = numpy.asarray(value)
    except ValueError as error:
        raise wrong("data-array", f"array {name!r}: {error}", None, name) from None
    return found.astype(numpy.float32) if found.dtype == numpy.float64 else found


def view(held: _native.Array) -> Any:
    """A NumPy array that looks at the same memory, read-only.

    Types that NumPy does not have are those of ml_dtypes where it is installed, else unsigned integers of their width; elements
    of less than 8 bits are their packed bytes.
    """
    import numpy

    found = numpy.asarray(held)
    name = SMALL.get(held.element)
    if name is not None and found.dtype.name != name:
        try:
            import ml_dtypes
        except ImportError:
            return found
        return found.view(getattr(ml_dtypes, name))
    return found
