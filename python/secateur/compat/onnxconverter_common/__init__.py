"""``convert_float_to_float16`` of onnxconverter-common."""

from . import float16
from .float16 import convert_float_to_float16, convert_float_to_float16_model_path

__all__ = ["convert_float_to_float16", "convert_float_to_float16_model_path", "float16"]
