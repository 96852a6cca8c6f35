"""The drop-in for onnxconverter-common: its arguments, and results that ONNX Runtime runs."""

from __future__ import annotations

import inspect

import pytest

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")

import secateur  # noqa: E402
from secateur.compat.onnxconverter_common import (  # noqa: E402
    convert_float_to_float16,
    convert_float_to_float16_model_path,
    float16,
)

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def refusal(*arguments, **options):
    with pytest.raises(secateur.InputError) as caught:
        convert_float_to_float16(*arguments, **options)
    return caught.value


def interface(model):
    return {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}


def stored(model):
    """Types of constants by the name that they had."""
    return {tensor.name.removesuffix("_float16"): tensor.data_type for tensor in model.graph.initializer}


@pytest.fixture()
def digits(fixtures):
    return onnx.load(fixtures / "digits_cnn.onnx")


@pytest.fixture(scope="module")
def images(fixtures):
    return numpy.load(fixtures / "data" / "digits_test.npz")["x"][:50]


@pytest.mark.parametrize("name", ["convert_float_to_float16", "convert_float_to_float16_model_path"])
def test_the_signatures_are_those_of_onnxconverter_common(name):
    peer = pytest.importorskip("onnxconverter_common.float16")
    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (float16, peer))
    assert [(one.name, one.default) for one in ours] == [(one.name, one.default) for one in theirs]


def test_the_operators_that_stay_float_by_default_are_those_of_onnxconverter_common():
    peer = pytest.importorskip("onnxconverter_common.float16")
    assert sorted(float16.DEFAULT_OP_BLOCK_LIST) == sorted(peer.DEFAULT_OP_BLOCK_LIST)


def test_an_example_runs_with_the_import_changed(fixtures, tmp_path, images, outputs):
    from secateur.compat.onnxconverter_common import float16

    model = onnx.load(fixtures / "digits_cnn.onnx")
    before = model.SerializeToString()
    model_fp16 = float16.convert_float_to_float16(model)
    onnx.save(model_fp16, tmp_path / "fp16.onnx")

    assert model.SerializeToString() == before
    onnx.checker.check_model(model_fp16, full_check=True)
    assert interface(model_fp16) == {FLOAT16} and FLOAT16 in stored(model_fp16).values()
    expected = outputs(model, {"input": images})[0]
    found = outputs(tmp_path / "fp16.onnx", {"input": images.astype("float16")})[0]
    assert found.dtype == numpy.float16
    assert numpy.abs(found.astype("float32") - expected).max() < 0.01 * numpy.abs(expected).max()


def test_inputs_and_outputs_stay_float_where_that_is_asked_for(digits, images, outputs):
    model = convert_float_to_float16(digits, keep_io_types=True)
    onnx.checker.check_model(model, full_check=True)
    assert interface(model) == {FLOAT} and FLOAT16 in stored(model).values()
    expected = outputs(digits, {"input": images})[0]
    found = outputs(model, {"input": images})[0]
    assert numpy.abs(found - expected).max() < 0.01 * numpy.abs(expected).max()


@pytest.mark.parametrize("model", ["digits_mlp", "digits_cnn", "digits_vit", "digits_gru", "digits_cnn_bn", "digits_vit_dynamo"])
def test_small_models_keep_their_answers(fixtures, model, images, outputs):
    before = onnx.load(fixtures / f"{model}.onnx")
    name = before.graph.input[0].name
    after = convert_float_to_float16(before, keep_io_types=True)
    onnx.checker.check_model(after, full_check=True)
    expected, found = outputs(before, {name: images})[0], outputs(after, {name: images})[0]
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.98


def test_operators_in_the_list_stay_float(digits, images, outputs):
    assert stored(convert_float_to_float16(digits))["fc.weight"] == FLOAT16
    model = convert_float_to_float16(digits, op_block_list=["Gemm"])
    assert stored(model)["fc.weight"] == FLOAT and FLOAT16 in stored(model).values()
    onnx.checker.check_model(model, full_check=True)
    assert outputs(model, {"input": images.astype("float16")})[0].dtype == numpy.float16
    listed = convert_float_to_float16(digits, op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, "Gemm"])
    assert stored(listed)["fc.weight"] == FLOAT


def test_an_empty_list_keeps_no_operator_float():
    head = '<ir_version: 8, opset_import: ["" : 17]> g'
    text = f"{head} (float[N] x) => (float[N] y) <float[1] one = {{1}}> {{ a = Exp(x) y = Max(a, one) }}"
    model = onnx.parser.parse_model(text)
    assert stored(convert_float_to_float16(model)) == {"one": FLOAT}
    assert stored(convert_float_to_float16(model, op_block_list=[])) == {"one": FLOAT16}


def test_nodes_in_the_list_stay_float(digits):
    gemm = next(node for node in digits.graph.node if node.op_type == "Gemm")
    model = convert_float_to_float16(digits, node_block_list=[gemm.name])
    assert stored(model)["fc.weight"] == FLOAT and FLOAT16 in stored(model).values()
    onnx.checker.check_model(model, full_check=True)
    error = refusal(digits, node_block_list=["/fc/Gem"])
    assert error.code == "pass-option" and "no node or value of the model matches" in str(error)


def test_a_path_is_taken_as_well(fixtures, digits):
    path = fixtures / "digits_cnn.onnx"
    found = convert_float_to_float16_model_path(str(path), keep_io_types=True)
    assert found.SerializeToString() == convert_float_to_float16(digits, keep_io_types=True).SerializeToString()


def test_results_are_those_of_the_command_line_byte_for_byte(fixtures, command, tmp_path):
    path, target = fixtures / "digits_vit.onnx", tmp_path / "fp16.onnx"
    kept = [f"--keep-operators={name}" for name in float16.DEFAULT_OP_BLOCK_LIST]
    command("convert-float", path, "-o", target, "--no-verify", "--to", "float16", "--convert-io", *kept)
    assert convert_float_to_float16(path).SerializeToString() == target.read_bytes()


def test_a_model_that_is_float16_already_is_refused_unless_that_is_asked_for(digits):
    once = convert_float_to_float16(digits)
    error = refusal(once)
    assert error.code == "pass-model" and "float16 values already" in str(error) and isinstance(error, ValueError)
    again = convert_float_to_float16(once, check_fp16_ready=False)
    onnx.checker.check_model(again, full_check=True)
    assert interface(again) == {FLOAT16}


@pytest.mark.parametrize(("name", "value"), [("min_positive_val", 1e-6), ("max_finite_val", 6e4)])
def test_what_would_be_ignored_is_refused_by_name(digits, name, value):
    error = refusal(digits, **{name: value})
    assert error.code == "unknown-option" and error.value == name and error.hint == "leave it out"
    assert f"convert_float_to_float16: {name}={value!r} is not taken" in str(error)


def test_constants_keep_their_values_or_their_type():
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y)'
        " <float[1] mask = {-3e7}, float[1] big = {20000}> { a = Add(x, mask) y = Mul(a, big) }"
    )
    model = convert_float_to_float16(onnx.parser.parse_model(text), op_block_list=[])
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert constants["mask"].dtype == numpy.float32 and constants["mask"][0] == numpy.float32(-3e7)
    assert next(value[0] for name, value in constants.items() if name.startswith("big")) == 20000


def test_inference_cannot_be_left_out_and_so_changes_nothing(digits):
    found = convert_float_to_float16(digits, disable_shape_infer=True)
    assert found.SerializeToString() == convert_float_to_float16(digits).SerializeToString()
