"""Functions with the names and arguments of other packages, for code that was written for those: only the import line changes.

=========================================  ==========================================================
``secateur.compat.onnxsim``                ``simplify``
``secateur.compat.onnxslim``               ``slim``
``secateur.compat.onnxruntime``            ``quantize_static``, ``quantize_dynamic``, ``quant_pre_process`` and their types
``secateur.compat.onnxconverter_common``   ``convert_float_to_float16``
=========================================  ==========================================================

What a function does in another way than its model is written in its docstring. An argument that would have to be ignored is
refused by name: :class:`secateur.InputError`, which is a ``ValueError``, with the code ``unknown-option`` and a hint. Neither the
other package nor ``onnx`` is imported before one of its objects is needed.
"""
