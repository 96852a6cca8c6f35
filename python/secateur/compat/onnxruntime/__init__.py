"""Quantization as in ``onnxruntime.quantization``; the same names are in ``secateur.compat.onnxruntime.quantization``."""

from .quantization import *  # noqa: F403
from .quantization import __all__ as __all__
