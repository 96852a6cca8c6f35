"""Every argument of the other packages' functions: it does here what it does there, is refused by name with what to do instead, or
is known to change nothing. What is installed says which arguments there are, so that a new one is noticed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")

import secateur  # noqa: E402
from secateur.compat import onnxconverter_common, onnxsim, onnxslim  # noqa: E402
from secateur.compat.onnxruntime import _extra_options, quantization  # noqa: E402

#: What an argument may be: it says what is worked on; it changes the result; other values are refused; it changes nothing.
SUBJECT, CHANGES, REFUSED, NOTHING = "subject", "changes", "refused", "nothing"
#: Arguments of each function with an example of each kind: one that is an example of two kinds takes some values and refuses others.
ARGUMENTS = {
    "onnxsim.simplify": {
        "model": [(SUBJECT, None)],
        "check_n": [(SUBJECT, 1), (REFUSED, -1)],
        "perform_optimization": [(CHANGES, False)],
        "skip_fuse_bn": [(CHANGES, True)],
        "overwrite_input_shapes": [(CHANGES, {"x": [2, 4]}), (REFUSED, {"z": [2, 4]}), (REFUSED, [2, 4])],
        "test_input_shapes": [(NOTHING, {"x": [2, 4]})],
        "skipped_optimizers": [(CHANGES, ["eliminate_identity"]), (REFUSED, ["eliminate_identities"])],
        "skip_constant_folding": [(CHANGES, True)],
        "skip_shape_inference": [(REFUSED, True)],
        "input_data": [(NOTHING, {})],
        "dynamic_input_shape": [(NOTHING, True)],
        "custom_lib": [(REFUSED, "operators.so")],
        "include_subgraph": [(NOTHING, True)],
        "unused_output": [(CHANGES, ["z"]), (REFUSED, ["zz"])],
        "tensor_size_threshold": [(REFUSED, "1MB")],
        "mutable_initializer": [(CHANGES, True)],
        "initializers_as_constants": [(REFUSED, False)],
        "inline_functions": [(CHANGES, True)],
        "import_custom_schemas": [(NOTHING, False)],
        "input_shapes": [(CHANGES, {"x": [2, 4]}), (REFUSED, {"z": [2, 4]})],
        "target_opset_version": [(CHANGES, 18), (CHANGES, "latest"), (REFUSED, "newest")],
        "extra_optimizers": [(REFUSED, ["adjust_add"])],
        "custom_rewriter": [(REFUSED, len)],
        "function_rewrite_rules": [(REFUSED, [(1, 2)])],
        "check_rtol": [(NOTHING, 1.0)],
        "check_atol": [(NOTHING, 1.0)],
        "input_fill": [(NOTHING, "ones")],
        "providers": [(NOTHING, ["CPUExecutionProvider"]), (REFUSED, ["CUDAExecutionProvider"])],
        "gemm_fusion_backend": [(NOTHING, "webgpu"), (REFUSED, "cuda")],
        "profile": [(REFUSED, "trace.json")],
        "ort_profile": [(REFUSED, "trace")],
        "merge_ort_profile": [(REFUSED, True)],
        "output_path": [(REFUSED, "out.onnx")],
        "external_data_threshold": [(NOTHING, "1MB")],
        "range_opt": [(REFUSED, True)],
        "certify": [(NOTHING, False), (REFUSED, True)],
        "check_hazards": [(REFUSED, True)],
        "check_gradients": [(REFUSED, True)],
        "gradient_precision": [(NOTHING, "fp16")],
    },
    "onnxslim.slim": {
        "model": [(SUBJECT, None)],
        "output_model": [(SUBJECT, "out.onnx")],
        "model_check": [(SUBJECT, True)],
        "input_shapes": [(CHANGES, ["x:2,4"]), (CHANGES, {"x": [2, 4]}), (REFUSED, ["z:2,4"]), (REFUSED, ["x"])],
        "inputs": [(CHANGES, ["b", "x"]), (REFUSED, ["b:fp16"])],
        "outputs": [(CHANGES, ["y"]), (REFUSED, ["y:fp16"])],
        "no_shape_infer": [(REFUSED, True)],
        "skip_optimizations": [(CHANGES, ["graph_fusion"]), (REFUSED, ["graph_fusions"])],
        "dtype": [(CHANGES, "fp16"), (REFUSED, "fp32")],
        "skip_fusion_patterns": [(CHANGES, ["FusionGemm"]), (REFUSED, ["FusionGemms"])],
        "size_threshold": [(NOTHING, 0), (REFUSED, 1024)],
        "inspect": [(NOTHING, True)],
        "dump_to_disk": [(NOTHING, True)],
        "save_as_external_data": [(NOTHING, True)],
        "model_check_inputs": [(NOTHING, ["x:2,4"])],
        "verbose": [(NOTHING, True)],
    },
    "quantize_static": {
        "model_input": [(SUBJECT, None)],
        "model_output": [(SUBJECT, None)],
        "calibration_data_reader": [(SUBJECT, None)],
        "quant_format": [(REFUSED, quantization.QuantFormat.QOperator)],
        "op_types_to_quantize": [(CHANGES, ["Add"])],
        "per_channel": [(CHANGES, True)],
        "reduce_range": [(CHANGES, True)],
        "activation_type": [(CHANGES, quantization.QuantType.QUInt8), (REFUSED, quantization.QuantType.QInt4)],
        "weight_type": [(CHANGES, quantization.QuantType.QInt4), (REFUSED, quantization.QuantType.QUInt8)],
        "nodes_to_quantize": [(CHANGES, ["first"]), (REFUSED, ["firsts"])],
        "nodes_to_exclude": [(CHANGES, ["first"]), (REFUSED, ["firsts"])],
        "use_external_data_format": [(SUBJECT, True)],
        "calibrate_method": [(CHANGES, quantization.CalibrationMethod.Entropy), (REFUSED, quantization.CalibrationMethod.Distribution)],
        "calibration_providers": [(NOTHING, ["CPUExecutionProvider"]), (REFUSED, ["CUDAExecutionProvider"])],
        "extra_options": [(CHANGES, {"ActivationSymmetric": True}), (REFUSED, {"ActivationSymetric": True})],
        "calibration_cache_path": [(REFUSED, "ranges.json")],
    },
    "quantize_dynamic": {
        "model_input": [(SUBJECT, None)],
        "model_output": [(SUBJECT, None)],
        "op_types_to_quantize": [(CHANGES, ["LSTM"])],
        "per_channel": [(CHANGES, True)],
        "reduce_range": [(REFUSED, True)],
        "weight_type": [(REFUSED, quantization.QuantType.QUInt8)],
        "nodes_to_quantize": [(CHANGES, ["first"]), (REFUSED, ["firsts"])],
        "nodes_to_exclude": [(CHANGES, ["first"]), (REFUSED, ["firsts"])],
        "use_external_data_format": [(SUBJECT, True)],
        "extra_options": [(NOTHING, {"MatMulConstBOnly": True}), (REFUSED, {"MatMulConstBOnly": False})],
    },
    "quant_pre_process": {
        "input_model": [(SUBJECT, None)],
        "output_model_path": [(SUBJECT, None)],
        "skip_optimization": [(REFUSED, True)],
        "skip_onnx_shape": [(NOTHING, True)],
        "skip_symbolic_shape": [(NOTHING, True)],
        "auto_merge": [(REFUSED, True)],
        "int_max": [(REFUSED, 1000)],
        "guess_output_rank": [(REFUSED, True)],
        "verbose": [(NOTHING, 3)],
        "save_as_external_data": [(SUBJECT, True)],
        "all_tensors_to_one_file": [(NOTHING, True)],
        "external_data_location": [(NOTHING, "weights.bin")],
        "external_data_size_threshold": [(NOTHING, 0)],
        "deprecated_kwargs": [(REFUSED, None)],
    },
    "convert_float_to_float16": {
        "model": [(SUBJECT, None)],
        "min_positive_val": [(REFUSED, 1e-6)],
        "max_finite_val": [(REFUSED, 6e4)],
        "keep_io_types": [(CHANGES, True)],
        "disable_shape_infer": [(NOTHING, True)],
        "op_block_list": [(CHANGES, ["MatMul", "Gemm"])],
        "node_block_list": [(CHANGES, ["first"]), (REFUSED, ["firsts"])],
        "check_fp16_ready": [(NOTHING, False)],
    },
}
EXAMPLES = [
    (function, argument, kind, value)
    for function, arguments in ARGUMENTS.items()
    for argument, examples in arguments.items()
    for kind, value in examples
    if kind != SUBJECT and argument != "deprecated_kwargs"
]
TEXT = """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
    g (float[N, 4] x, float[4, 4] v) => (float[N, 4] y, float[N, 4] z)
    <float[4, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7},
     float[4, 4] w = {1, -2, 3, 4, 5, -6, 7, 8, 9, 1, -2, 3, 4, 5, 6, 17}, float[4] c = {1, 2, 3, 4},
     float[4] s = {1, 1, 2, 1}, float[4] m = {0, 1, 0, 1}, float[4] q = {1, 2, 1, 1}>
    {
        [first] a = MatMul(x, w)
        [sum] b = Add(a, c)
        [same] d = Identity(b)
        [clamp] e = Relu(d)
        [second] f = MatMul(e, v)
        [scaled] n = BatchNormalization(f, s, c, m, q)
        [called] y = local.twice(n)
        k = Exp(c)
        z = Add(x, k)
    }
    <domain: "local", opset_import: ["" : 17]> twice (i) => (o) { o = Add(i, i) }
"""


class Reader:
    """Rows one after the other, few of which are far from the others."""

    def __init__(self):
        rows = numpy.random.default_rng(0).normal(size=(256, 1, 4)) ** 3
        self.left = iter(rows.astype("float32"))

    def get_next(self):
        row = next(self.left, None)
        return None if row is None else {"x": row}


def signature(function):
    """The arguments that the installed package's function has."""
    if function == "onnxsim.simplify":
        return [*inspect.signature(pytest.importorskip("onnxsim").simplify).parameters]
    if function == "onnxslim.slim":
        pytest.importorskip("onnxslim")
        from onnxslim.argparser import OnnxSlimKwargs

        return ["model", "output_model", *OnnxSlimKwargs.__annotations__]
    if function == "convert_float_to_float16":
        return [*inspect.signature(pytest.importorskip("onnxconverter_common.float16").convert_float_to_float16).parameters]
    return [*inspect.signature(getattr(pytest.importorskip("onnxruntime.quantization"), function)).parameters]


@pytest.fixture()
def called(tmp_path):
    """Calls a function with its subject and these arguments; answers what came of it, without its record."""
    model = onnx.parser.parse_model(TEXT)

    def content(result):
        if isinstance(result, tuple):
            result = result[0]
        if result is None:
            return sorted((path.name, path.stat().st_size, path.read_bytes()) for path in tmp_path.iterdir())
        del result.metadata_props[:]
        return result.SerializeToString()

    def call(function, **options):
        for path in tmp_path.iterdir():
            path.unlink()
        target = tmp_path / "out.onnx"
        if function == "onnxsim.simplify":
            return content(onnxsim.simplify(model, **options))
        if function == "onnxslim.slim":
            return content(onnxslim.slim(model, **options))
        if function == "convert_float_to_float16":
            return content(onnxconverter_common.convert_float_to_float16(model, **options))
        reader = [Reader()] if function == "quantize_static" else []
        getattr(quantization, function)(model, target, *reader, **options)
        if target.with_suffix(".onnx.data").exists() or len(list(tmp_path.iterdir())) > 1:
            return content(None)
        return content(onnx.load(target))

    return call


@pytest.mark.parametrize("function", ARGUMENTS)
def test_every_argument_of_the_installed_package_is_spoken_of(function):
    assert sorted(signature(function)) == sorted(ARGUMENTS[function])


@pytest.mark.parametrize(
    ("function", "argument", "kind", "value"), EXAMPLES, ids=[f"{row[0]} {row[1]} {row[2]}" for row in EXAMPLES]
)
def test_an_argument_does_what_is_said_of_it(called, function, argument, kind, value):
    if kind == REFUSED:
        with pytest.raises(secateur.InputError) as caught:
            called(function, **{argument: value})
        error = caught.value
        of_node = argument == "node_block_list"
        assert error.code == ("pass-option" if of_node else "unknown-option")
        assert of_node or error.hint and (argument in str(error) or argument == "extra_options")
        return
    plain, found = called(function), called(function, **{argument: value})
    assert (found != plain) == (kind == CHANGES)


def keys():
    """Names of extra options that ONNX Runtime's quantizers ask for, and those that its help knows."""
    quantization_of = pytest.importorskip("onnxruntime.quantization")
    folder = Path(quantization_of.__file__).parent
    found = set()
    for name in ("quantize.py", "base_quantizer.py", "onnx_quantizer.py", "qdq_quantizer.py", "operators/activation.py"):
        text = (folder / name).read_text()
        found |= set(re.findall(r'extra_options(?: or \{\})?\)?(?:\.get\(|\[)\s*"([A-Za-z0-9.]+)"', text))
        found |= set(re.findall(r'"([A-Za-z0-9.]+)" in (?:self\.)?extra_options', text))
        found |= set(re.findall(r'\("(Calib[A-Za-z]+)", "', text))
    static = quantization_of.quantize_static.__doc__
    dynamic = quantization_of.quantize_dynamic.__doc__
    in_help = r"^\s+([A-Za-z0-9.]+) = (?:True|dictionary|list|float|Optional|Float)"
    return found, set(re.findall(in_help, static, re.M)), set(re.findall(in_help, dynamic, re.M))


def test_every_extra_option_of_the_installed_onnx_runtime_is_spoken_of():
    asked, static, dynamic = keys()
    assert {"ActivationSymmetric", "CalibPercentile", "QuantizeBias"} <= asked and len(static) > 15 and len(dynamic) > 2
    known = {*_extra_options._STATIC, *_extra_options._STATIC_MAPPED}
    assert asked | static == known | {"extra.Sigmoid.nnapi"}
    assert dynamic <= {*_extra_options._DYNAMIC, *_extra_options._DYNAMIC_MAPPED}


def test_other_arguments_of_quant_pre_process_are_refused_by_name(called):
    with pytest.raises(secateur.InputError, match="deprecated_kwargs='inputs'"):
        called("quant_pre_process", inputs="model.onnx")
