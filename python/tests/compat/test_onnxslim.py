"""The drop-in for onnxslim: its arguments, its files, and the result of ``simplify``."""

from __future__ import annotations

import inspect

import pytest

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")

import secateur  # noqa: E402
from secateur.compat import onnxslim  # noqa: E402


def graph(text):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')


def operators(model):
    return [node.op_type for node in model.graph.node]


def refusal(*arguments, **options):
    with pytest.raises(secateur.InputError) as caught:
        onnxslim.slim(*arguments, **options)
    return caught.value


@pytest.fixture()
def digits(fixtures):
    return fixtures / "digits_cnn_bn.onnx"


def test_the_arguments_are_those_of_onnxslim():
    pytest.importorskip("onnxslim")
    from onnxslim.argparser import OnnxSlimKwargs

    assert set(onnxslim.OnnxSlimKwargs.__annotations__) == {*OnnxSlimKwargs.__annotations__, "output_model"}
    parameters = inspect.signature(onnxslim.slim).parameters.values()
    assert [(one.name, one.kind.name) for one in parameters] == [
        ("model", "POSITIONAL_OR_KEYWORD"),
        ("args", "VAR_POSITIONAL"),
        ("kwargs", "VAR_KEYWORD"),
    ]


def test_an_example_runs_with_the_import_changed(digits, tmp_path, outputs):
    from secateur.compat.onnxslim import slim

    slimmed = slim(str(digits))
    assert slim(str(digits), str(tmp_path / "slim.onnx")) is None

    assert onnx.load(tmp_path / "slim.onnx").SerializeToString() == slimmed.SerializeToString()
    onnx.checker.check_model(slimmed, full_check=True)
    assert "BatchNormalization" not in operators(slimmed)
    feeds = {"input": numpy.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype("float32")}
    numpy.testing.assert_allclose(outputs(slimmed, feeds)[0], outputs(digits, feeds)[0], rtol=1e-4, atol=1e-4)


def test_results_are_those_of_the_command_line_byte_for_byte(corpus_model, command, tmp_path):
    target, ours = tmp_path / "model.onnx", tmp_path / "ours" / "model.onnx"
    ours.parent.mkdir()
    has_defaults = any(value.optional for value in secateur.Model(corpus_model).inputs)
    command("simplify", corpus_model, "-o", target, "--no-verify", *["--constant-inputs"] * has_defaults)
    assert onnxslim.slim(str(corpus_model), str(ours)) is None
    written = {path.name: path.read_bytes() for path in ours.parent.iterdir()}
    assert written == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_file_that_exists_is_replaced_even_that_of_the_model(digits, tmp_path):
    target = tmp_path / "over.onnx"
    target.write_bytes(digits.read_bytes())
    assert onnxslim.slim(target, output_model=target) is None
    assert onnx.load(target).SerializeToString() == onnxslim.slim(digits).SerializeToString()
    assert [path.name for path in tmp_path.iterdir()] == ["over.onnx"]


def test_a_model_with_external_data_is_not_written_over(fixtures, tmp_path):
    for name in ("digits_mlp_external.onnx", "digits_mlp_external.data"):
        (tmp_path / name).write_bytes((fixtures / name).read_bytes())
    model = tmp_path / "digits_mlp_external.onnx"
    error = refusal(model, str(model))
    assert error.code == "output-is-input" and "has external data" in str(error)
    assert model.read_bytes() == (fixtures / model.name).read_bytes()


def test_weights_get_a_file_of_their_own_where_that_is_asked_for(digits, tmp_path):
    target = tmp_path / "slim.onnx"
    (tmp_path / "slim.onnx.data").write_bytes(b"left over")
    onnxslim.slim(digits, str(target), save_as_external_data=True)
    outside = [one for one in onnx.load(target, load_external_data=False).graph.initializer if one.data_location]
    expected = {one.name: onnx.numpy_helper.to_array(one) for one in onnxslim.slim(digits).graph.initializer}
    found = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(target).graph.initializer}
    assert outside and found.keys() == expected.keys()
    assert all(numpy.array_equal(found[name], expected[name]) for name in found)
    assert (tmp_path / "slim.onnx.data").stat().st_size < target.stat().st_size + digits.stat().st_size


@pytest.mark.parametrize("inputs", [None, ["input:7,1,8,8"], "file"], ids=["made", "shape", "file"])
def test_the_comparison_holds(digits, tmp_path, inputs):
    options = {}
    if inputs == "file":
        path = tmp_path / "input.npy"
        numpy.save(path, numpy.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype("float32"))
        inputs = [f"input:{path}"]
    if inputs:
        options["model_check_inputs"] = inputs
    found = onnxslim.slim(digits, model_check=True, **options)
    assert found is not None and "BatchNormalization" not in operators(found)


def test_nothing_comes_back_where_the_comparison_does_not_hold(digits, tmp_path, monkeypatch, caplog):
    from secateur import _outcome

    monkeypatch.setattr(_outcome.Outcome, "verdict", "different")
    assert onnxslim.slim(digits, str(tmp_path / "slim.onnx"), model_check=True) is None
    assert list(tmp_path.iterdir()) == [] and "not the same as the model: different" in caplog.text
    assert onnxslim.slim(digits, model_check=True) is None


@pytest.mark.parametrize("shapes", [["input:2,1,8,8"], {"input": [2, 1, 8, 8]}], ids=["texts", "mapping"])
def test_shapes_of_inputs_are_fixed(digits, shapes):
    model = onnxslim.slim(digits, input_shapes=shapes, model_check=True)
    values = (*model.graph.input, *model.graph.output)
    assert [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values] == [[2, 1, 8, 8], [2, 10]]


def test_a_model_is_cut_between_values(digits, outputs):
    start, end = "/f/f.2/Clip_output_0", "/f/f.9/MaxPool_output_0"
    part = onnxslim.slim(digits, inputs=[start], outputs=[end], model_check=True)
    assert [value.name for value in (*part.graph.input, *part.graph.output)] == [start, end]
    assert operators(part)[-1] == "MaxPool" and "BatchNormalization" not in operators(part)
    head = onnxslim.slim(digits, outputs=[start])
    assert [name for name in operators(head) if name != "Constant"] == ["Conv", "Clip"]


PARTS = [
    ({"skip_optimizations": ["constant_folding"]}, ["Exp", "LogSoftmax", "Add"]),
    ({"skip_optimizations": ["graph_fusion"]}, ["Identity", "Softmax", "Log", "Add"]),
    ({"skip_optimizations": ["subexpression_elimination"]}, ["LogSoftmax", "Add"]),
    (
        {
            "skip_optimizations": [
                "constant_folding",
                "graph_fusion",
                "dead_node_elimination",
                "subexpression_elimination",
                "weight_tying",
            ]
        },
        ["Exp", "Identity", "Softmax", "Log", "Add"],
    ),
    ({}, ["LogSoftmax", "Add"]),
]


@pytest.mark.parametrize(("options", "left"), PARTS, ids=[" ".join(row[0].get("skip_optimizations", ["all"])) for row in PARTS])
def test_optimizations_are_left_out(options, left):
    model = graph(
        "(float[N, 3] x) => (float[N, 3] y) <float[1] one = {1}>"
        " { c = Exp(one) a = Identity(x) b = Softmax<axis = 1>(a) d = Log(b) y = Add(d, c) }"
    )
    assert operators(onnxslim.slim(model, **options)) == left


PATTERNS = [
    ("FusionConvBN", "BatchNormalization"),
    ("FusionGemm", "Add"),
    ("EliminationConcat", "Concat"),
    ("EliminationTranspose", "Transpose"),
]


@pytest.mark.parametrize(("pattern", "operator"), PATTERNS)
def test_a_pattern_that_is_skipped_leaves_its_operators(digits, pattern, operator):
    model = {
        "FusionConvBN": onnx.load(digits),
        "FusionGemm": graph(
            "(float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}>"
            " { a = MatMul(x, w) y = Add(a, b) }"
        ),
        "EliminationConcat": graph(
            "(float[N, 3] x) => (float[N, 9] y) { a = Concat<axis = 1>(x, x) y = Concat<axis = 1>(a, x) }"
        ),
        "EliminationTranspose": graph(
            "(float[N, 3, 4] x) => (float[4, 3, M] y)"
            " { a = Transpose<perm = [1, 0, 2]>(x) b = Transpose<perm = [2, 0, 1]>(a) y = Relu(b) }"
        ),
    }[pattern]
    count = operators(model).count(operator)
    assert operators(onnxslim.slim(model)).count(operator) < count
    assert operators(onnxslim.slim(model, skip_fusion_patterns=[pattern], model_check=True)).count(operator) == count


def test_every_pattern_and_optimization_of_onnxslim_can_be_skipped(digits):
    pytest.importorskip("onnxslim")
    from onnxslim.core.optimization import OptimizationSettings
    from onnxslim.core.pattern.registry import DEFAULT_FUSION_PATTERNS

    assert set(onnxslim.PATTERNS) == set(DEFAULT_FUSION_PATTERNS)
    assert set(onnxslim.OPTIMIZATIONS) == set(OptimizationSettings.keys())
    left = onnxslim.slim(digits, skip_fusion_patterns=list(DEFAULT_FUSION_PATTERNS))
    assert operators(left).count("BatchNormalization") == 4


def test_float16_is_made_with_inputs_and_outputs(digits, outputs):
    model = onnxslim.slim(digits, dtype="fp16", model_check=True)
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert types == {onnx.TensorProto.FLOAT16}
    onnx.checker.check_model(model, full_check=True)
    images = numpy.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype("float32")
    expected = outputs(digits, {"input": images})[0]
    found = outputs(model, {"input": images.astype("float16")})[0]
    assert numpy.abs(found.astype("float32") - expected).max() < 0.01 * numpy.abs(expected).max()


def test_what_was_done_is_printed_where_that_is_asked_for(digits, capsys):
    onnxslim.slim(digits)
    assert capsys.readouterr().out == ""
    onnxslim.slim(digits, verbose=True)
    assert "nodes             15        11" in capsys.readouterr().out


REFUSED = [
    ({"no_shape_infer": True}, "rules need shapes"),
    ({"size_threshold": 1024}, "growth of the file"),
    ({"dtype": "fp32"}, "converted to fp16 alone"),
    ({"dtype": "float16"}, "converted to fp16 alone"),
    ({"skip_optimizations": ["folding"]}, "nothing by this name"),
    ({"skip_fusion_patterns": ["FusionConvBn"]}, "nothing by this name"),
    ({"inputs": ["input:fp16"]}, "the type of input is what the model says"),
    ({"outputs": ["logits:fp16"]}, "the type of logits is what the model says"),
    ({"input_shapes": ["input"]}, "no shape"),
    ({"input_shapes": ["image:1,1,8,8"]}, "no such input"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[f"{name}" for row in REFUSED for name in row[0]])
def test_what_would_be_ignored_is_refused_by_name(digits, options, words):
    error = refusal(digits, **options)
    (name,) = options
    assert error.code == "unknown-option" and error.value == name
    assert f"slim: {name}=" in str(error) and words in str(error) and error.hint


def test_names_of_arguments_that_there_are_none_of_are_refused(digits, tmp_path):
    error = refusal(digits, model_chek=True)
    assert error.code == "unknown-option" and error.hint == "did you mean 'model_check'?"
    error = refusal(digits, str(tmp_path / "slim.onnx"), True)
    assert error.code == "unknown-option" and "only output_model is given by position" in str(error)
    error = refusal([digits, digits])
    assert error.code == "unknown-option" and "models are not compared" in str(error)
    array = tmp_path / "input.npy"
    numpy.save(array, numpy.zeros(1))
    two = graph("(float[N] a, float[N] b) => (float[N] y) { y = Add(a, b) }")
    error = refusal(two, model_check=True, model_check_inputs=[f"a:{array}", "b:1"])
    assert error.code == "unknown-option" and "for all inputs or for none" in str(error)


@pytest.mark.parametrize(
    "options",
    [{"inspect": True}, {"dump_to_disk": True}, {"save_as_external_data": True}, {"skip_fusion_patterns": []}],
    ids=" ".join,
)
def test_what_changes_nothing_is_taken(digits, options):
    assert onnxslim.slim(digits, **options).SerializeToString() == onnxslim.slim(digits).SerializeToString()
