"""`secateur inspect --json` against counts made with the onnx package."""

import onnx

import corpus
import models

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
SMALL = {getattr(onnx.TensorProto, name) for name in ("INT8", "UINT8", "INT4", "UINT4", "INT16", "UINT16", "INT32")}
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DynamicQuantizeMatMul")
# Attributes that a Constant node may carry float data in, beside a tensor.
FLOAT_ATTRIBUTES = ("value_float", "value_floats")


def check(report, secateur):
    for model in corpus.every_model():
        if not report.wants(model.name):
            continue
        result = secateur.run("inspect", model.path, "--json")
        document = result.json()
        if result.code != 0 or not isinstance(document, dict):
            report.failed(model.name, result.why())
            continue
        problems = list(disagreements(document, model.path, onnx.load(model.path, load_external_data=False)))
        if problems:
            report.failed(model.name, "; ".join(problems))
        else:
            report.passed(model.name)


def disagreements(found, path, model):
    opsets = {}
    for entry in model.opset_import:
        opsets[entry.domain or "ai.onnx"] = entry.version
    expected = {
        "nodes": models.count_nodes(model),
        "ops": models.operators(model),
        "bytes": models.total_bytes(path, model),
        "ir_version": model.ir_version,
        "opsets": opsets,
    }
    for key, value in expected.items():
        given = found.get(key)
        if key == "opsets" and isinstance(given, dict):
            given = {domain or "ai.onnx": version for domain, version in given.items()}
        if given != value:
            yield f"{key}: {given} instead of {value}"
    low, high = parameters(model)
    if not low <= found.get("parameters", -1) <= high:
        yield f"parameters: {found.get('parameters')} instead of {low}" + (f" to {high}" if high != low else "")
    for side in ("inputs", "outputs"):
        yield from interface(found.get(side), models.interface(model, side[:-1]), side)


def parameters(model):
    """Bounds on the parameters: float constants, and in a quantized model up to all small integer constants too."""
    floats = sum(models.element_count(tensor.dims) for tensor in models.tensors(model) if tensor.data_type in FLOATS)
    for node in models.nodes(model):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name in FLOAT_ATTRIBUTES and not attribute.ref_attr_name:
                    floats += max(1, len(attribute.floats))
    quantized = any(operator in QUANTIZED for operator in models.operators(model))
    small = sum(models.element_count(tensor.dims) for tensor in models.tensors(model) if tensor.data_type in SMALL)
    return floats, floats + (small if quantized else 0)


def interface(found, values, side):
    if not isinstance(found, list):
        yield f"{side}: {found!r}"
        return
    if [entry.get("name") for entry in found] != [value.name for value in values]:
        yield f"{side}: {[entry.get('name') for entry in found]} instead of {[value.name for value in values]}"
        return
    for entry, value in zip(found, values):
        described = models.value_shape(value)
        if described is None:
            continue
        element, shape = described
        dtype = onnx.TensorProto.DataType.Name(element).lower()
        aliases = {dtype, {"float": "float32", "double": "float64"}.get(dtype, dtype)}
        if entry.get("dtype") not in aliases:
            yield f"{value.name}: dtype {entry.get('dtype')} instead of {dtype}"
        # A negative size, an empty name and a name that only says so mean that the size is unknown.
        unknown = ("", "?")
        wanted = shape and [None if dim in unknown or (isinstance(dim, int) and dim < 0) else dim for dim in shape]
        given = entry.get("shape")
        if given != wanted and given != shape:
            yield f"{value.name}: shape {given} instead of {shape}"
