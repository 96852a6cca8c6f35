"""``quantize_static``, ``quantize_dynamic`` and ``quant_pre_process`` of ONNX Runtime 1.32, with the types that they take.

>>> import numpy
>>> from secateur.compat.onnxruntime.quantization import CalibrationDataReader, quantize_static
>>> class Digits(CalibrationDataReader):
...     def __init__(self):
...         self.left = iter(numpy.load("fixtures/data/digits_calib.npz")["x"][:32])
...
...     def get_next(self):
...         image = next(self.left, None)
...         return None if image is None else {"input": image[None]}
>>> import os, tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     quantize_static("fixtures/digits_cnn.onnx", os.path.join(folder, "int8.onnx"), Digits())
...     os.listdir(folder)
['int8.onnx']
"""

from ._dynamic import quantize_dynamic
from ._preparation import quant_pre_process
from ._static import quantize_static
from ._types import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType

__all__ = [
    "CalibrationDataReader",
    "CalibrationMethod",
    "QuantFormat",
    "QuantType",
    "quant_pre_process",
    "quantize_dynamic",
    "quantize_static",
]
