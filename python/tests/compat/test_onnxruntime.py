"""The drop-in for ONNX Runtime's quantizer: its arguments, scales beside those of the command line and of ONNX Runtime, and what
results compute."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import ClassVar

import pytest

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")

import secateur  # noqa: E402
from secateur.compat import onnxruntime as compat  # noqa: E402
from secateur.compat.onnxruntime import quantization  # noqa: E402
from secateur.compat.onnxruntime.quantization import (  # noqa: E402
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

TYPES = (QuantType, QuantFormat, CalibrationMethod)


class Reader(CalibrationDataReader):
    """Gives items one after the other."""

    def __init__(self, items):
        self.items = list(items)
        self.at = 0

    def get_next(self):
        self.at += 1
        return self.items[self.at - 1] if self.at <= len(self.items) else None


def peer():
    return pytest.importorskip("onnxruntime.quantization")


def graph(text):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')


def batches(images, size=1, name="input"):
    return Reader({name: images[at : at + size]} for at in range(0, len(images), size))


def refusal(function, *arguments, **options):
    with pytest.raises(secateur.InputError) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, ValueError)
    return caught.value


def initializers(path):
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def parameters(path):
    """Scales and zero points."""
    return {name: array for name, array in initializers(path).items() if name.endswith(("_scale", "_zero_point"))}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys() and found
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes(), name


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def float_weights(path):
    """Products whose weight is a float constant."""
    model = onnx.load(path)
    floats = {one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and one.dims}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    return {node.name for node in products if node.input[1] in floats}


@pytest.fixture(scope="module")
def images(fixtures):
    return numpy.load(fixtures / "data" / "digits_calib.npz")["x"][:64]


@pytest.fixture(scope="module")
def others(fixtures):
    return numpy.load(fixtures / "data" / "digits_test.npz")["x"][:200]


@pytest.fixture()
def target(tmp_path):
    return tmp_path / "int8.onnx"


def agreement(outputs, before, after, images, name="input"):
    """The share of images of which both models say the same."""
    found, expected = outputs(after, {name: images})[0], outputs(before, {name: images})[0]
    return (found.argmax(1) == expected.argmax(1)).mean()


# Types and signatures.


@pytest.mark.parametrize("kind", TYPES)
def test_members_have_the_names_and_numbers_of_onnx_runtime(kind):
    theirs = getattr(peer(), kind.__name__)
    assert {one.name: one.value for one in kind} == {one.name: one.value for one in theirs}
    assert [str(one) for one in kind] == [str(one) for one in theirs]


def test_members_have_element_types_and_are_found_by_name():
    theirs = peer()
    assert all(one.tensor_type == theirs.QuantType[one.name].tensor_type for one in QuantType)
    assert QuantType.from_string("QUInt8") is QuantType.QUInt8 and QuantFormat.from_string("QDQ") is QuantFormat.QDQ
    with pytest.raises(ValueError, match="QuantType has no 'QInt9'"):
        QuantType.from_string("QInt9")


@pytest.mark.parametrize("name", ["quantize_static", "quantize_dynamic", "quant_pre_process"])
def test_signatures_are_those_of_onnx_runtime(name):
    def plain(default):
        return default.name if isinstance(default, Enum) else default

    ours, theirs = (inspect.signature(getattr(module, name)).parameters.values() for module in (quantization, peer()))
    assert [(one.name, one.kind, plain(one.default)) for one in ours] == [
        (one.name, one.kind, plain(one.default)) for one in theirs
    ]


def test_names_are_in_both_modules():
    assert compat.__all__ == quantization.__all__
    assert all(getattr(compat, name) is getattr(quantization, name) for name in compat.__all__)


def test_readers_are_iterators_and_anything_with_get_next_is_one():
    class Other:
        def get_next(self):
            return None

    reader = Reader([{"x": 1}, {"x": 2}])
    assert list(reader) == [{"x": 1}, {"x": 2}]
    assert isinstance(Other(), CalibrationDataReader) and not isinstance(object(), CalibrationDataReader)
    with pytest.raises(NotImplementedError):
        reader.set_range(start_index=0, end_index=1)
    with pytest.raises(TypeError):
        CalibrationDataReader()


# Static quantization.


def test_an_example_runs_with_the_import_changed(fixtures, tmp_path, images, others, outputs):
    from secateur.compat.onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class DigitsReader(CalibrationDataReader):
        def __init__(self, images, input_name):
            self.images = images
            self.input_name = input_name
            self.enumerated = None

        def get_next(self):
            if self.enumerated is None:
                self.enumerated = iter([{self.input_name: image[None]} for image in self.images])
            return next(self.enumerated, None)

        def rewind(self):
            self.enumerated = None

    input_model_path = str(fixtures / "digits_cnn.onnx")
    output_model_path = str(tmp_path / "digits_cnn.quant.onnx")
    quantize_static(
        input_model_path,
        output_model_path,
        DigitsReader(images, "input"),
        quant_format=QuantFormat.QDQ,
        per_channel=False,
        weight_type=QuantType.QInt8,
    )

    onnx.checker.check_model(output_model_path, full_check=True)
    assert operators(output_model_path).count("QuantizeLinear") > 3 and float_weights(output_model_path) == set()
    expected = outputs(input_model_path, {"input": others})[0]
    found = outputs(output_model_path, {"input": others})[0]
    assert numpy.square(found - expected).mean() < 0.01 * numpy.square(expected).mean()
    assert agreement(outputs, input_model_path, output_model_path, others) >= 0.97


#: Arguments, and the options of the command line that say the same.
CHOICES = [
    ({}, []),
    ({"per_channel": True}, ["--per-channel"]),
    ({"activation_type": QuantType.QUInt8}, ["--activations", "uint8"]),
    (
        {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}},
        ["--activations", "uint8", "--weights", "uint8"],
    ),
    ({"reduce_range": True, "per_channel": True}, ["--reduce-range", "--per-channel"]),
    ({"activation_type": QuantType.QInt16}, ["--activations", "int16"]),
    ({"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt16}, ["--activations", "uint16", "--weights", "int16"]),
    ({"weight_type": QuantType.QInt4, "per_channel": True}, ["--weights", "int4", "--per-channel"]),
    ({"calibrate_method": CalibrationMethod.Entropy}, ["--calibrate", "entropy"]),
    ({"calibrate_method": CalibrationMethod.Percentile}, ["--calibrate", "{percentile: 99.999}"]),
    (
        {"calibrate_method": CalibrationMethod.Percentile, "extra_options": {"CalibPercentile": 99.0}},
        ["--calibrate", "{percentile: 99}"],
    ),
    ({"extra_options": {"CalibMovingAverage": True}}, ["--calibrate", "moving-average"]),
    ({"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8}, ["--activations", "uint8", "--weights", "uint8", "--symmetric-weights", "false"]),
    ({"extra_options": {"WeightSymmetric": False}}, ["--symmetric-weights", "false"]),
    ({"extra_options": {"WeightSymmetric": False}, "per_channel": True}, ["--per-channel"]),
    ({"extra_options": {"ActivationSymmetric": True}, "per_channel": True}, ["--symmetric-activations", "--per-channel"]),
    (
        {"extra_options": {"ActivationSymmetric": True}, "activation_type": QuantType.QUInt8, "calibrate_method": CalibrationMethod.Entropy},
        ["--symmetric-activations", "--activations", "uint8", "--calibrate", "entropy"],
    ),
    (
        {"extra_options": {"ActivationSymmetric": True, "QuantizeBias": False}, "per_channel": True},
        ["--profile", "tensorrt", "--per-channel"],
    ),
]
#: What the command line is told for all of them: the last word on an option counts.
PLAIN = {
    "--profile": "ort-x86",
    "--activations": "int8",
    "--weights": "int8",
    "--calibrate": "min-max",
    "--per-channel": "false",
    "--saturation": "ignore",
    "--correct-bias": "false",
    "--equalize": "false",
    "--heads": "codes",
}


def told(words):
    options = dict(PLAIN)
    words = iter(words)
    for name in words:
        alone = ("--per-channel", "--reduce-range", "--symmetric-activations")
        options[name] = "true" if name in alone else next(words)
    return [f"{name}={value}" for name, value in options.items()]


@pytest.mark.parametrize(("arguments", "words"), CHOICES, ids=[" ".join(row[1]) or "defaults" for row in CHOICES])
@pytest.mark.parametrize("name", ["digits_cnn", "digits_vit"])
def test_scales_are_those_of_the_command_line_bit_for_bit(fixtures, tmp_path, target, images, command, name, arguments, words):
    model = fixtures / f"{name}.onnx"
    numpy.savez(tmp_path / "calibration.npz", input=images)
    data = f"calibration={tmp_path / 'calibration.npz'}"
    command("quantize", model, "-o", tmp_path / "cli.onnx", "--data", data, "--no-verify", *told(words))
    quantize_static(model, target, batches(images), **arguments)
    assert_same_bits(parameters(target), parameters(tmp_path / "cli.onnx"))
    onnx.checker.check_model(target, full_check=True)


@pytest.mark.parametrize("kind", ["path", "proto"])
@pytest.mark.parametrize("size", [1, 10, 64])
def test_batches_of_any_size_give_the_same_scales(fixtures, tmp_path, target, images, kind, size):
    model = fixtures / "digits_cnn.onnx"
    quantize_static(model, target, batches(images))
    quantize_static(model if kind == "path" else onnx.load(model), tmp_path / "again.onnx", batches(images, size))
    assert_same_bits(parameters(tmp_path / "again.onnx"), parameters(target))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"per_channel": True, "activation_type": QuantType.QUInt8},
        {"per_channel": True, "reduce_range": True},
        {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}},
        {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
        {"activation_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": False}, "per_channel": True},
        {"extra_options": {"WeightSymmetric": False, "CalibTensorRangeSymmetric": False}, "reduce_range": True},
        {"extra_options": {"ActivationSymmetric": True}},
        {"extra_options": {"ActivationSymmetric": True}, "activation_type": QuantType.QUInt8, "per_channel": True},
        {"extra_options": {"ActivationSymmetric": True}, "activation_type": QuantType.QInt16},
        {"extra_options": {"ActivationSymmetric": True, "QuantizeBias": False}},
        {"extra_options": {"CalibMovingAverage": True}},
        {"activation_type": QuantType.QInt16},
    ],
    ids=lambda arguments: " ".join(arguments) or "defaults",
)
@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp", "digits_vit", "resnet8_cifar10_bn"])
def test_defaults_and_options_mean_what_they_mean_in_onnx_runtime(fixtures, tmp_path, target, images, name, arguments):
    theirs = peer()
    source, simple = fixtures / f"{name}.onnx", tmp_path / "simple.onnx"
    if name == "resnet8_cifar10_bn":
        images = numpy.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype("float32")
    inputs = secateur.Model(source).inputs[0].name
    quantize_static(source, target, batches(images, name=inputs), **arguments)
    quant_pre_process(source, simple)
    translated = {
        key: theirs.QuantType[value.name] if isinstance(value, QuantType) else value for key, value in arguments.items()
    }
    theirs.quantize_static(simple, tmp_path / "theirs.onnx", batches(images, name=inputs), **translated)
    found, expected = parameters(target), parameters(tmp_path / "theirs.onnx")
    if arguments.get("reduce_range"):
        # There it holds for operands of additions as well.
        for node in onnx.load(simple).graph.node:
            if node.op_type in ("Add", "Mul"):
                for value in node.input:
                    expected.pop(f"{value}_scale", None)
                    expected.pop(f"{value}_zero_point", None)
    shared = found.keys() & expected.keys()
    assert len(shared) >= len(found) / 3
    for value in shared:
        ours, other = found[value].astype("float64").ravel(), expected[value].astype("float64").ravel()
        # The two engines round activations in their own ways.
        numpy.testing.assert_allclose(ours, other, rtol=1e-6, err_msg=value)


@pytest.mark.parametrize(
    "name", ["digits_mlp", "digits_cnn", "digits_cnn_bn", "digits_vit", "digits_gru", "digits_cnn_dynamo", "digits_vit_dynamo"]
)
@pytest.mark.parametrize("types", [(QuantType.QInt8, QuantType.QInt8), (QuantType.QUInt8, QuantType.QInt8)], ids=["s8s8", "u8s8"])
def test_results_run_and_are_near_the_float_model(fixtures, target, images, others, outputs, name, types):
    model = fixtures / f"{name}.onnx"
    inputs = secateur.Model(model).inputs[0].name
    quantize_static(model, target, batches(images, name=inputs), activation_type=types[0], weight_type=types[1], per_channel=True)
    onnx.checker.check_model(target, full_check=True)
    assert agreement(outputs, model, target, others, inputs) >= 0.96


def test_members_and_readers_of_onnx_runtime_are_taken(fixtures, tmp_path, target, images):
    theirs = peer()

    class Theirs(theirs.CalibrationDataReader):
        def __init__(self):
            self.left = iter(images)

        def get_next(self):
            image = next(self.left, None)
            return {} if image is None else {"input": image[None]}

    model = fixtures / "digits_cnn.onnx"
    quantize_static(
        model,
        target,
        Theirs(),
        quant_format=theirs.QuantFormat.QDQ,
        activation_type=theirs.QuantType.QUInt8,
        weight_type=theirs.QuantType.QInt8,
        calibrate_method=theirs.CalibrationMethod.Entropy,
    )
    quantize_static(
        model,
        tmp_path / "ours.onnx",
        batches(images),
        activation_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod.Entropy,
    )
    assert target.read_bytes() == (tmp_path / "ours.onnx").read_bytes()


def test_a_reader_is_told_of_parts_where_data_come_in_parts(fixtures, tmp_path, target, images):
    class Parts(Reader):
        asked: ClassVar = []

        def __len__(self):
            return len(self.items)

        def set_range(self, start_index, end_index):
            self.asked.append((start_index, end_index))
            self.at, self.end = start_index, end_index

        def get_next(self):
            if not self.asked or self.at == self.end:
                return None
            return super().get_next()

    items = [{"input": image[None]} for image in images]
    model = fixtures / "digits_cnn.onnx"
    quantize_static(model, target, Parts(items), extra_options={"CalibStridedMinMax": 16, "CalibMaxIntermediateOutputs": 4})
    assert Parts.asked == [(0, 16), (16, 32), (32, 48), (48, 64)]
    quantize_static(model, tmp_path / "at_once.onnx", batches(images))
    assert_same_bits(parameters(target), parameters(tmp_path / "at_once.onnx"))
    error = refusal(quantize_static, model, target, Parts(items), extra_options={"CalibStridedMinMax": 7})
    assert error.code == "unknown-option" and "64 runs are no multiple" in str(error)


def test_runs_whose_inputs_have_other_first_axes_are_taken_as_they_are(tmp_path, target):
    model = graph(
        "(float[1, 4] x, float[2, 3] state, float scale) => (float[1, 3] y)"
        " <float[4, 3] w = {1, -2, 3, 4, 5, -6, 7, 8, 9, 1, 2, 3}>"
        " { a = Mul(x, scale) b = MatMul(a, w) s = ReduceSum(state) y = Add(b, s) }"
    )
    x = numpy.array([[1, 2, -3, 4]], dtype="float32")
    runs = [{"x": x * k, "state": numpy.full((2, 3), k, "float32"), "scale": numpy.float32(2)} for k in range(1, 9)]
    quantize_static(model, target, Reader(runs))
    scale = next(array for name, array in parameters(target).items() if name == "a_scale")
    assert scale == numpy.float32((64.0 + 48.0) / 255.0)


def test_nodes_are_quantized_and_left_float_by_name(fixtures, target, images, others, outputs):
    model = fixtures / "digits_cnn.onnx"
    convolutions = [node.name for node in onnx.load(model).graph.node if node.op_type == "Conv"]
    quantize_static(model, target, batches(images), nodes_to_exclude=convolutions[:1])
    assert float_weights(target) == set(convolutions[:1])
    assert agreement(outputs, model, target, others) >= 0.96
    quantize_static(model, target, batches(images), nodes_to_quantize=convolutions[1:3])
    assert float_weights(target) == {convolutions[0], convolutions[3], "/fc/Gemm"}
    quantize_static(model, target, batches(images), nodes_to_quantize=convolutions, nodes_to_exclude=convolutions[1:])
    assert float_weights(target) == {*convolutions[1:], "/fc/Gemm"}
    quantize_static(model, target, batches(images), op_types_to_quantize=["Gemm"])
    assert float_weights(target) == set(convolutions)
    quantize_static(model, target, batches(images), op_types_to_quantize=["Conv"], nodes_to_exclude=convolutions[:1])
    assert float_weights(target) == {convolutions[0], "/fc/Gemm"}
    for argument in ("nodes_to_exclude", "nodes_to_quantize"):
        error = refusal(quantize_static, model, target, batches(images), **{argument: ["/fc/Gem"]})
        assert error.code == "unknown-option" and error.value == argument and error.hint == "did you mean '/fc/Gemm'?"


def test_lists_of_nodes_are_about_the_model_as_it_is(fixtures, tmp_path, target, images):
    model = fixtures / "digits_cnn_bn.onnx"
    quantize_static(model, target, batches(images))
    assert "BatchNormalization" not in operators(target)
    quantize_static(model, target, batches(images), op_types_to_quantize=["Conv", "Gemm"])
    assert operators(target).count("BatchNormalization") == 4 and float_weights(target).isdisjoint({"/fc/Gemm"})


def test_old_opsets_are_raised_before_nodes_are_chosen(tmp_path, target):
    model = onnx.parser.parse_model(
        '<ir_version: 7, opset_import: ["" : 11]> g (float[N, 4] x) => (float[N, 3] y)'
        " <float[4, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7},"
        "  float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}>"
        " { [first] a = MatMul(x, v) b = Softmax<axis = 1>(a) [last] y = MatMul(b, w) }"
    )
    rows = numpy.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    for types, opset in ((QuantType.QInt8, 13), (QuantType.QInt16, 21)):
        quantize_static(model, target, batches(rows, name="x"), activation_type=types, nodes_to_exclude=["last"])
        assert float_weights(target) == {"last"} and onnx.load(target).opset_import[0].version == opset


def test_names_that_other_nodes_have_as_results_are_told_apart(target):
    model = graph(
        "(float[N, 2] x) => (float[N, 2] y) <float[2, 2] v = {1, 2, 3, 4}, float[2, 2] w = {1, 2, 3, 5}>"
        " { [p] q = MatMul(x, v) [q] r = Relu(q) [s] y = MatMul(r, w) }"
    )
    rows = numpy.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    quantize_static(model, target, batches(rows, name="x"), nodes_to_exclude=["q"])
    assert float_weights(target) == set() and "Relu" in operators(target)
    quantize_static(model, target, batches(rows, name="x"), nodes_to_exclude=["p"])
    assert float_weights(target) == {"p"}
    twisted = graph("(float[N] x) => (float[N] q) { [p] q = Relu(x) [q] p = Exp(x) }")
    error = refusal(quantize_static, twisted, target, batches(rows[:, 0], name="x"), nodes_to_exclude=["p"])
    assert error.code == "unknown-option" and "names of nodes that are quantized, too" in str(error)


def test_weights_that_a_caller_may_replace_become_constants(target):
    text = (
        "(float[N, 2] x, float[2, 2] w) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}>"
        " { [product] a = MatMul(x, w) y = Relu(a) }"
    )
    rows = numpy.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    for lists in ({}, {"op_types_to_quantize": ["MatMul"]}):
        quantize_static(graph(text), target, batches(rows, name="x"), **lists)
        assert float_weights(target) == set() and "w_quantized" in initializers(target)
        quantize_dynamic(graph(text), target, **lists)
        assert products(target) == 1
    assert [value.name for value in onnx.load(target).graph.input] == ["x"]


def test_operators_that_are_listed_and_stay_float_are_named(fixtures, target, images, caplog):
    operators = ["MatMul", "Gemm", "Add", "LayerNormalization"]
    quantize_static(fixtures / "digits_vit_dynamo.onnx", target, batches(images, name="x"), op_types_to_quantize=operators)
    messages = [record.getMessage() for record in caplog.records if record.name == "secateur"]
    assert [text for text in messages if text.startswith("op_types_to_quantize: every LayerNormalization stays float")]
    assert not [text for text in messages if "every MatMul" in text]


def test_many_nodes_are_chosen_from(target):
    """Patterns for thousands of nodes are found in the time of a test."""
    count = 1200
    names = [f"a.long/name(of)/a|node[{at}]+$^" for at in range(count)]
    nodes = [
        onnx.helper.make_node("Relu", ["x" if at == 0 else f"v{at - 1}"], [f"v{at}"], name=name) for at, name in enumerate(names)
    ]
    nodes.append(onnx.helper.make_node("MatMul", [f"v{count - 1}", "w"], ["y"], name="product"))
    value = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(numpy.ones((4, 4), "float32"), "w")
    made = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["N", 4])], [value("y", 1, ["N", 4])], [weight])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    rows = numpy.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    quantize_static(model, target, batches(rows, name="x"), op_types_to_quantize=["MatMul"])
    assert float_weights(target) == set() and operators(target).count("Relu") == count


def test_smoothing_comes_first(fixtures, tmp_path, target, images, others, outputs):
    model = fixtures / "digits_vit.onnx"
    quantize_static(model, target, batches(images), extra_options={"SmoothQuant": True, "SmoothQuantAlpha": 0.7})
    quantize_static(model, tmp_path / "plain.onnx", batches(images))
    assert agreement(outputs, model, target, others) >= 0.96
    smooth, plain = parameters(target), parameters(tmp_path / "plain.onnx")
    assert smooth["onnx::MatMul_227_scale"] != plain["onnx::MatMul_227_scale"]
    steps = secateur.Pipeline.of(("smooth-quant", {"alpha": 0.7})).run(model, data=batches(images), compare=False)
    quantize_static(steps.result, tmp_path / "apart.onnx", batches(images))
    assert_same_bits(smooth, parameters(tmp_path / "apart.onnx"))


#: On x86 ONNX Runtime turns signed codes into unsigned ones first, and where that fails at a sum the convolutions around stay float.
SYMMETRIC = [
    ("digits_cnn", QuantType.QInt8, 0),
    ("digits_cnn", QuantType.QUInt8, 128),
    ("digits_mlp", QuantType.QInt8, 0),
    ("resnet8_cifar10_bn", QuantType.QUInt8, 128),
]


@pytest.mark.parametrize(("name", "kind", "middle"), SYMMETRIC, ids=[f"{row[0]} {row[1]}" for row in SYMMETRIC])
def test_symmetric_activations_run_on_integer_kernels(fixtures, tmp_path, target, images, outputs, name, kind, middle):
    runtime = pytest.importorskip("onnxruntime")
    model = fixtures / f"{name}.onnx"
    if name == "resnet8_cifar10_bn":
        images = numpy.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype("float32")
    inputs = secateur.Model(model).inputs[0].name
    extra = {"ActivationSymmetric": True, "QDQKeepRemovableActivations": True, "CalibTensorRangeSymmetric": True}
    chosen = {"per_channel": True, "activation_type": kind}
    quantize_static(model, target, batches(images, name=inputs), extra_options=extra, **chosen)
    plain = tmp_path / "plain.onnx"
    quantize_static(model, plain, batches(images, name=inputs), extra_options={"ActivationSymmetric": True}, **chosen)
    assert target.read_bytes() == plain.read_bytes()
    onnx.checker.check_model(target, full_check=True)
    found = parameters(target)
    pairs = [node for node in onnx.load(target).graph.node if node.op_type == "QuantizeLinear"]
    assert pairs and all(found[node.input[2]] == middle for node in pairs)
    assert any(array.dtype == numpy.int32 for value, array in initializers(target).items() if value.endswith("_quantized"))

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = runtime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    left = [operator for operator in operators(tmp_path / "optimized.onnx") if operator in ("Conv", "FusedConv", "MatMul", "Gemm")]
    assert left == []
    expected, found = outputs(model, {inputs: images})[0], session.run(None, {inputs: images})[0]
    assert numpy.square(found - expected).mean() < 0.02 * numpy.square(expected).mean()


def test_symmetric_activations_with_float_biases_are_those_of_tensorrt(fixtures, target, images, others, outputs):
    model = fixtures / "digits_cnn.onnx"
    quantize_static(
        model,
        target,
        batches(images),
        per_channel=True,
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False, "QDQKeepRemovableActivations": True},
    )
    assert all(not array.any() for name, array in parameters(target).items() if name.endswith("_zero_point"))
    assert {"Relu", "Clip"} <= set(operators(target)) and not any("bias" in name for name in parameters(target))
    assert agreement(outputs, model, target, others) >= 0.96


def test_files_are_replaced_even_that_of_the_model(fixtures, tmp_path, target, images):
    quantize_static(fixtures / "digits_cnn.onnx", target, batches(images))
    model = tmp_path / "model.onnx"
    model.write_bytes((fixtures / "digits_cnn.onnx").read_bytes())
    quantize_static(model, model, batches(images))
    assert model.read_bytes() == target.read_bytes()
    quantize_static(fixtures / "digits_cnn.onnx", model, batches(images))
    assert model.read_bytes() == target.read_bytes()


@pytest.mark.parametrize("function", [quantize_static, quantize_dynamic, quant_pre_process])
def test_weights_get_a_file_of_their_own_where_that_is_asked_for(fixtures, tmp_path, images, others, outputs, function):
    model, target = fixtures / "digits_mlp.onnx", tmp_path / "model.onnx"
    arguments = [model, target, *([batches(images)] if function is quantize_static else [])]
    name = "save_as_external_data" if function is quant_pre_process else "use_external_data_format"
    options = {"all_tensors_to_one_file": True, "external_data_location": "weights.bin"} if function is quant_pre_process else {}
    function(*arguments, **{name: True}, **options)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["model.onnx", "weights.bin" if options else "model.onnx.data"]
    plain = tmp_path / "plain.onnx"
    function(model, plain, *([batches(images)] if function is quantize_static else []))
    assert numpy.array_equal(outputs(target, {"input": others})[0], outputs(plain, {"input": others})[0])


def test_a_model_with_nothing_to_quantize_is_written_as_it_is_with_a_warning(target, caplog):
    model = graph("(float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }")
    rows = numpy.zeros((8, 2), "float32")
    quantize_static(model, target, batches(rows, name="x"))
    assert onnx.load(target) == model and "nothing to quantize" in caplog.text
    caplog.clear()
    quantize_dynamic(model, target)
    assert onnx.load(target) == model and "nothing to quantize" in caplog.text


def test_data_that_do_not_fit_are_an_error_and_nothing_is_written(fixtures, tmp_path, target, images):
    model = fixtures / "digits_cnn.onnx"
    assert refusal(quantize_static, model, target, Reader([])).code.startswith("data-")
    assert refusal(quantize_static, model, target, batches(images[:, :, :7])).code.startswith("data-")
    assert refusal(quantize_static, model, target, batches(images.astype("float64").reshape(64, 64))).code.startswith("data-")

    class Broken(Reader):
        def get_next(self):
            raise RuntimeError("the disk is gone")

    with pytest.raises(Exception, match="the disk is gone"):
        quantize_static(model, target, Broken([]))
    assert list(tmp_path.iterdir()) == []


REFUSED = [
    ({"quant_format": QuantFormat.QOperator}, "Q/DQ pairs"),
    ({"quant_format": "QDQ"}, "no QuantFormat"),
    ({"activation_type": 0}, "no QuantType"),
    ({"activation_type": QuantFormat.QDQ}, "no QuantType"),
    ({"activation_type": QuantType.QInt4}, "no kernel for activations of 4 bits"),
    ({"activation_type": QuantType.QFLOAT8E4M3FN}, "8-bit floats"),
    ({"weight_type": QuantType.QUInt8}, "signed activations and unsigned weights"),
    ({"extra_options": {"WeightSymmetric": True}, "weight_type": QuantType.QUInt8}, "signed activations and unsigned weights"),
    ({"calibrate_method": CalibrationMethod.Distribution}, "8-bit floats"),
    ({"calibration_providers": ["CUDAExecutionProvider"]}, "secateur's engine"),
    ({"calibration_cache_path": "cache.json"}, "neither read nor written"),
    ({"calibration_data_reader": None}, "ranges come from data"),
    ({"calibration_data_reader": [{"input": 1}]}, "ranges come from data"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[f"{list(row[0])[-1]} {row[1]}" for row in REFUSED])
def test_what_would_be_ignored_is_refused_by_name(fixtures, tmp_path, target, images, options, words):
    options = {"calibration_data_reader": batches(images), **options}
    error = refusal(quantize_static, fixtures / "digits_cnn.onnx", target, **options)
    name = error.value
    assert error.code == "unknown-option" and (name in options or name == "activation_type")
    assert f"quantize_static: {name}=" in str(error) and words in str(error) and error.hint
    assert list(tmp_path.iterdir()) == []


EXTRA = [
    ({"ActivationSymetric": True}, "nothing by this name"),
    ({"ActivationRestrictedAsymmetric": True}, "zero points"),
    ({"EnableSubgraph": True}, "bodies of If"),
    ({"ForceQuantizeNoInputCheck": True}, "makes use of it"),
    ({"AddQDQPairToWeight": True}, "stored as codes"),
    ({"BlockSize": 32}, "blocks"),
    ({"DefaultTensorType": 1}, "types are inferred"),
    ({"OpTypesToExcludeOutputQuantization": ["Conv"]}, "pairs stand where"),
    ({"DedicatedQDQPair": True}, "share its pair"),
    ({"QDQOpTypePerChannelSupportToAxis": {"MatMul": 0}}, "channels of MatMul lie on axis 1"),
    ({"QDQOpTypePerChannelSupportToAxis": {"Add": 0}}, "Add has no channels"),
    ({"CalibTensorRangeSymmetric": True}, "as the data have them"),
    ({"CalibMovingAverage": True, "CalibStridedMinMax": 2}, "all runs alike"),
    ({"CalibPercentile": 99.0}, "goes with Percentile"),
    ({"SmoothQuant": True, "SmoothQuantFolding": False}, "normalizations before"),
    ({"UseQDQContribOps": True}, "ONNX's own"),
    ({"MinimumRealRange": 1e-4}, "least range"),
    ({"TensorQuantOverrides": {"input": [{"scale": 1.0}]}}, "by layer"),
    ({"QDQKeepRemovableActivations": True}, "left out"),
    ({"QDQDisableWeightAdjustForInt32Bias": True}, "codes of the bias"),
    ({"QuantizeBias": False}, "32-bit codes"),
    ({"ActivationSymmetric": True, "QuantizeBias": False, "WeightSymmetric": False}, "zero points of 0"),
    ({"extra.Sigmoid.nnapi": True}, "range of its values"),
]


@pytest.mark.parametrize(("extra", "words"), EXTRA, ids=[" ".join(row[0]) for row in EXTRA])
def test_extra_options_are_refused_by_name_and_never_ignored(fixtures, tmp_path, target, images, extra, words):
    error = refusal(quantize_static, fixtures / "digits_cnn.onnx", target, batches(images), extra_options=extra)
    assert error.code == "unknown-option" and words in str(error) and error.hint
    assert any(f"quantize_static: {name}=" in str(error) for name in extra) or f"extra_options={next(iter(extra))!r}" in str(
        error
    )
    assert list(tmp_path.iterdir()) == []


METHODS = [
    (CalibrationMethod.Entropy, {"CalibMovingAverage": True}, "goes with MinMax, not with Entropy"),
    (CalibrationMethod.Percentile, {"CalibStridedMinMax": 4}, "goes with MinMax, not with Percentile"),
    (CalibrationMethod.Entropy, {"CalibPercentile": 99.0}, "goes with Percentile, not with Entropy"),
]


@pytest.mark.parametrize(("method", "extra", "words"), METHODS, ids=[row[2] for row in METHODS])
def test_options_of_another_method_are_refused(fixtures, target, images, method, extra, words):
    model = fixtures / "digits_cnn.onnx"
    error = refusal(quantize_static, model, target, batches(images), calibrate_method=method, extra_options=extra)
    assert error.code == "unknown-option" and words in str(error)


@pytest.mark.parametrize("types", [(QuantType.QUInt8, QuantType.QInt8), (QuantType.QInt8, QuantType.QInt4)], ids=["u8", "4 bits"])
def test_float_biases_with_other_types_are_refused(fixtures, target, images, types):
    extra = {"ActivationSymmetric": True, "QuantizeBias": False}
    options = {"activation_type": types[0], "weight_type": types[1], "extra_options": extra}
    error = refusal(quantize_static, fixtures / "digits_cnn.onnx", target, batches(images), **options)
    assert error.value == "QuantizeBias" and "TensorRT" in str(error)


def test_extra_options_that_say_what_is_done_anyway_are_taken(fixtures, tmp_path, target, images):
    extra = {
        "ActivationRestrictedAsymmetric": False,
        "ActivationSymmetric": False,
        "AddQDQPairToWeight": False,
        "BlockSize": 0,
        "CalibMaxIntermediateOutputs": None,
        "CalibMovingAverage": False,
        "CalibMovingAverageConstant": 0.1,
        "CalibTensorRangeSymmetric": False,
        "DedicatedQDQPair": False,
        "EnableSubgraph": False,
        "ForceQuantizeNoInputCheck": False,
        "MatMulConstBOnly": True,
        "MinimumRealRange": None,
        "OpTypesToExcludeOutputQuantization": [],
        "QDQDisableWeightAdjustForInt32Bias": False,
        "QDQKeepRemovableActivations": False,
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1, "Conv": 0},
        "QuantizeBias": True,
        "SmoothQuant": False,
        "SmoothQuantAlpha": 0.5,
        "SmoothQuantFolding": True,
        "TensorQuantOverrides": {},
        "UseQDQContribOps": False,
        "WeightSymmetric": None,
        "extra.Sigmoid.nnapi": False,
    }
    before = dict(extra)
    quantize_static(
        fixtures / "digits_cnn.onnx",
        target,
        batches(images),
        calibration_providers=["CPUExecutionProvider"],
        nodes_to_exclude=[],
        op_types_to_quantize=[],
        extra_options=extra,
    )
    quantize_static(fixtures / "digits_cnn.onnx", tmp_path / "plain.onnx", batches(images))
    assert target.read_bytes() == (tmp_path / "plain.onnx").read_bytes() and extra == before


# Dynamic quantization.


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("name", ["digits_mlp", "digits_vit", "digits_gru", "digits_vit_dynamo"])
def test_dynamic_results_run_and_have_the_scales_of_the_command_line(
    fixtures, tmp_path, target, others, outputs, command, name, per_channel
):
    model = fixtures / f"{name}.onnx"
    quantize_dynamic(model, target, per_channel=per_channel)
    onnx.checker.check_model(target, full_check=True)
    inputs = secateur.Model(model).inputs[0].name
    assert agreement(outputs, model, target, others, inputs) >= 0.97
    options = ["--saturation=ignore", "--minimum-elements=0", "--weights-only=LSTM", "--weights-only=Gather"]
    command(
        "quantize-dynamic", model, "-o", tmp_path / "cli.onnx", "--no-verify", f"--per-channel={per_channel}".lower(), *options
    )
    assert target.read_bytes() == (tmp_path / "cli.onnx").read_bytes()


@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_dynamic_weights_have_the_scales_of_onnx_runtime(fixtures, tmp_path, target, per_channel):
    model = fixtures / "digits_vit.onnx"
    quantize_dynamic(model, target, per_channel=per_channel)
    peer().quantize_dynamic(model, tmp_path / "theirs.onnx", per_channel=per_channel)
    ours, theirs = parameters(target), parameters(tmp_path / "theirs.onnx")
    shared = [name for name in ours if name in theirs and name.endswith("_scale")]
    assert len(shared) >= 5
    assert all(ours[name].ravel().tobytes() == theirs[name].ravel().tobytes() for name in shared)


def products(path):
    return operators(path).count("MatMulInteger")


def test_dynamic_quantization_is_of_the_nodes_that_are_listed(fixtures, target):
    model = fixtures / "digits_mlp.onnx"
    quantize_dynamic(str(model), str(target))
    assert products(target) == 2
    quantize_dynamic(onnx.load(model), target, nodes_to_exclude=["/fc1/Gemm"])
    assert products(target) == 1 and float_weights(target) == {"/fc1/Gemm"}
    quantize_dynamic(model, target, nodes_to_quantize=["/fc1/Gemm"])
    assert products(target) == 1
    for types, count in ((["MatMul"], 2), (["Gemm"], 2), (["LSTM"], 0)):
        quantize_dynamic(model, target, op_types_to_quantize=types)
        assert products(target) == count, types
    error = refusal(quantize_dynamic, model, target, nodes_to_exclude=["/fc1/Gem"])
    assert error.code == "unknown-option" and error.hint == "did you mean '/fc1/Gemm'?"


def test_dynamic_quantization_stores_weights_of_listed_operators(fixtures, target):
    lstm = graph(
        "(float[s, 1, 2] x, int64[s] i) => (float[s, 1, 1, 2] y, float[s, 2] e)"
        " <float[1, 8, 2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},"
        "  float[1, 8, 2] r = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, float[3, 2] t = {1, 2, 3, 4, 5, 6}>"
        " { y = LSTM<hidden_size = 2>(x, w, r) e = Gather<axis = 0>(t, i) }"
    )
    quantize_dynamic(lstm, target)
    assert operators(target).count("DequantizeLinear") == 2 and initializers(target)["t_quantized"].dtype == numpy.int8
    quantize_dynamic(lstm, target, op_types_to_quantize=["LSTM"])
    assert operators(target).count("DequantizeLinear") == 2 and initializers(target)["t"].dtype == numpy.float32
    quantize_dynamic(fixtures / "digits_gru.onnx", target)
    assert operators(target).count("DequantizeLinear") == 0
    quantize_dynamic(fixtures / "digits_gru.onnx", target, op_types_to_quantize=["GRU", "MatMul"])
    assert operators(target).count("DequantizeLinear") > 0 and products(target) == 1


BODY = (
    "(float[N, 2] x, bool c) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}>"
    " { y = If(c) <then_branch = t () => (float[N, 2] a) { a = MatMul(x, w) },"
    "              else_branch = e () => (float[N, 2] b) { b = Relu(x) }> }"
)
DYNAMIC = [
    ({"weight_type": QuantType.QUInt8}, "digits_mlp", "signed codes of 8 bits"),
    ({"reduce_range": True}, "digits_mlp", "all their bits"),
    ({"op_types_to_quantize": ["MatMul", "Conv"]}, "digits_cnn", "slower"),
    ({"extra_options": {"EnableSubgraph": False}}, "body", "products in bodies"),
    ({"extra_options": {"MatMulConstBOnly": False}}, "digits_mlp", "two activations"),
    ({"extra_options": {"ActivationSymmetric": True}}, "digits_mlp", "zero point in every run"),
    ({"extra_options": {"WeightSymmetric": False}}, "digits_mlp", "weights are symmetric"),
    ({"extra_options": {"ForceQuantizeNoInputCheck": True}}, "digits_mlp", "makes use of it"),
    ({"extra_options": {"DefaultTensorType": 1}}, "digits_mlp", "types are inferred"),
    ({"extra_options": {"CalibPercentile": 99}}, "digits_mlp", "nothing by this name"),
]


@pytest.mark.parametrize(("options", "model", "words"), DYNAMIC, ids=[str(row[0]) for row in DYNAMIC])
def test_what_dynamic_quantization_would_ignore_is_refused_by_name(fixtures, tmp_path, target, options, model, words):
    source = graph(BODY) if model == "body" else fixtures / f"{model}.onnx"
    error = refusal(quantize_dynamic, source, target, **options)
    assert error.code == "unknown-option" and "quantize_dynamic: " in str(error) and words in str(error) and error.hint
    assert list(tmp_path.iterdir()) == []


def test_dynamic_options_that_say_what_is_done_anyway_are_taken(fixtures, tmp_path, target):
    model = fixtures / "digits_mlp.onnx"
    extra = {"EnableSubgraph": False, "MatMulConstBOnly": True, "WeightSymmetric": True, "ActivationSymmetric": False}
    quantize_dynamic(model, target, extra_options=extra)
    quantize_dynamic(model, tmp_path / "plain.onnx", weight_type=peer().QuantType.QInt8)
    assert target.read_bytes() == (tmp_path / "plain.onnx").read_bytes()
    quantize_dynamic(graph(BODY), target, extra_options={"EnableSubgraph": True})
    assert "MatMulInteger" in str(onnx.load(target))


# Preparation.


def test_preparation_simplifies(fixtures, tmp_path, target, command):
    model = fixtures / "digits_cnn_bn.onnx"
    quant_pre_process(model, target)
    command("simplify", model, "-o", tmp_path / "cli.onnx", "--no-verify")
    assert target.read_bytes() == (tmp_path / "cli.onnx").read_bytes()
    quant_pre_process(
        input_model_path=str(model), output_model_path=str(target), skip_symbolic_shape=True, skip_onnx_shape=True, verbose=3
    )
    assert target.read_bytes() == (tmp_path / "cli.onnx").read_bytes()
    quant_pre_process(onnx.load(model), target)
    assert "BatchNormalization" not in operators(target)


def test_preparation_makes_constants_of_inputs_with_a_default(target):
    model = graph(
        "(float[N, 2] x, float[2, 2] w) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { t = Transpose(w) y = MatMul(x, t) }"
    )
    quant_pre_process(model, target)
    assert operators(target) == ["MatMul"] and [value.name for value in onnx.load(target).graph.input] == ["x"]


PREPARATION = [
    ({"skip_optimization": True}, "what is done"),
    ({"auto_merge": True}, "contradict"),
    ({"int_max": 1000}, "exact"),
    ({"guess_output_rank": True}, "unknown"),
    ({"input": "m.onnx"}, "nothing by this name"),
]


@pytest.mark.parametrize(("options", "words"), PREPARATION, ids=[next(iter(row[0])) for row in PREPARATION])
def test_what_preparation_would_ignore_is_refused_by_name(fixtures, tmp_path, target, options, words):
    error = refusal(quant_pre_process, fixtures / "digits_cnn.onnx", target, **options)
    assert error.code == "unknown-option" and next(iter(options)) in str(error) and words in str(error) and error.hint
    assert refusal(quant_pre_process, fixtures / "digits_cnn.onnx").value == "output_model_path"
    assert refusal(quant_pre_process, output_model_path=target).value == "input_model"
    assert list(tmp_path.iterdir()) == []
