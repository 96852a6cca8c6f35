"""The drop-in for onnxsim: its example, its arguments, and the bytes of the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

numpy = pytest.importorskip("numpy")
onnx = pytest.importorskip("onnx")

import secateur  # noqa: E402
from secateur.compat import onnxsim  # noqa: E402

SIGNATURE = "<ir_version: 8, opset_import: ['' : 17]>".replace("'", '"')


def graph(text):
    return onnx.parser.parse_model(f"{SIGNATURE} g {text}")


def operators(model):
    return [node.op_type for node in model.graph.node]


def refusal(*arguments, **options):
    with pytest.raises(secateur.InputError) as caught:
        onnxsim.simplify(*arguments, **options)
    return caught.value


def bare(model):
    """A model without what onnx.load notes on tensors whose data were external, and without the digest of its input."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        tensor.ClearField("data_location")
    for entry in copy.metadata_props:
        if entry.key == "secateur.input":
            entry.value = ""
    return copy.SerializeToString()


@pytest.fixture()
def digits(fixtures):
    return fixtures / "digits_cnn_bn.onnx"


def test_the_signature_is_that_of_onnxsim():
    peer = pytest.importorskip("onnxsim")
    ours = inspect.signature(onnxsim.simplify).parameters.values()
    theirs = inspect.signature(peer.simplify).parameters.values()
    assert [(one.name, one.kind, one.default) for one in ours] == [(one.name, one.kind, one.default) for one in theirs]


def test_an_example_runs_with_the_import_changed(digits, tmp_path, outputs):
    from secateur.compat.onnxsim import simplify

    model = onnx.load(digits)
    simplified, check = simplify(model)
    assert check, "the simplified model could not be validated"
    onnx.save(simplified, tmp_path / "simplified.onnx")

    onnx.checker.check_model(simplified, full_check=True)
    assert "BatchNormalization" in operators(model) and "BatchNormalization" not in operators(simplified)
    feeds = {"input": numpy.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype("float32")}
    expected, found = outputs(digits, feeds)[0], outputs(tmp_path / "simplified.onnx", feeds)[0]
    numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_model_given_is_not_changed(digits):
    model = onnx.load(digits)
    before = model.SerializeToString()
    onnxsim.simplify(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("kind", ["path", "text", "proto"])
def test_a_model_that_is_simple_comes_back_as_it_is(digits, tmp_path, kind):
    simple, _ = onnxsim.simplify(digits)
    path = tmp_path / "simple.onnx"
    onnx.save(simple, path)
    again, ok = onnxsim.simplify({"path": path, "text": str(path), "proto": simple}[kind], check_n=1)
    assert ok and again.SerializeToString() == simple.SerializeToString()


def test_results_are_those_of_the_command_line_byte_for_byte(corpus_model, command, tmp_path):
    target = tmp_path / "model.onnx"
    # onnxsim makes constants of inputs that have a default; where there is none the option would only be on record.
    has_defaults = any(value.optional for value in secateur.Model(corpus_model).inputs)
    command("simplify", corpus_model, "-o", target, "--no-verify", *["--constant-inputs"] * has_defaults)
    found, ok = onnxsim.simplify(str(corpus_model))
    if len(list(tmp_path.iterdir())) == 1:
        assert ok and found.SerializeToString() == target.read_bytes()
    else:
        assert ok and bare(found) == bare(onnx.load(target))

    model = onnx.load(corpus_model)
    from_memory, _ = onnxsim.simplify(model)
    if model.SerializeToString() == corpus_model.read_bytes():
        assert from_memory.SerializeToString() == found.SerializeToString()
    else:
        assert bare(from_memory) == bare(found)


def test_the_comparison_says_whether_the_result_holds(digits):
    model, ok = onnxsim.simplify(digits, check_n=3)
    assert ok is True and "BatchNormalization" not in operators(model)
    images = numpy.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype("float32")
    assert onnxsim.simplify(digits, check_n=1, input_data={"input": images})[1] is True
    assert onnxsim.simplify(digits, check_n=1, test_input_shapes={"input": [7, 1, 8, 8]})[1] is True


def test_outputs_that_differ_are_not_taken_for_equal(tmp_path, digits, monkeypatch):
    from secateur import _outcome

    monkeypatch.setattr(_outcome.Outcome, "verdict", "different")
    model, ok = onnxsim.simplify(digits, check_n=1)
    assert ok is False and "BatchNormalization" not in operators(model)


def test_a_model_that_cannot_be_run_does_not_hold():
    unknown = graph("(float[2] x) => (float[2] y) { a = Identity(x) y = my.own.Mystery(a) }")
    unknown.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    model, ok = onnxsim.simplify(unknown, check_n=1)
    assert ok is False and operators(model) == ["Mystery"]
    assert onnxsim.simplify(unknown)[1] is True


@pytest.mark.parametrize("argument", ["overwrite_input_shapes", "input_shapes"])
@pytest.mark.parametrize("key", ["input", None])
def test_shapes_of_inputs_are_fixed(digits, argument, key):
    model, ok = onnxsim.simplify(digits, check_n=1, **{argument: {key: [4, 1, 8, 8]}})
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*model.graph.input, *model.graph.output)]
    assert ok and shapes == [[4, 1, 8, 8], [4, 10]]


def test_sizes_below_one_stay_free(digits):
    model, _ = onnxsim.simplify(digits, overwrite_input_shapes={"input": [-1, 1, 8, 8]})
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_shapes_that_contradict_are_refused(digits):
    error = refusal(digits, overwrite_input_shapes={"image": [1, 1, 8, 8]})
    assert (error.code, error.hint) == ("unknown-option", "inputs are input") and "no such input" in str(error)
    error = refusal(digits, overwrite_input_shapes={"input": [1, 8, 8]})
    assert error.code == "option-value" and "4 dimensions, not 3" in str(error)
    error = refusal(digits, overwrite_input_shapes={"input": [1, 1, 9, 8]})
    assert error.code == "pass-option" and "input[2] is 8 in the model" in str(error)
    error = refusal(digits, check_n=1, test_input_shapes={"input": [1, 3, 8, 8]})
    assert error.code == "unknown-option" and "input[1] is 1 in the model" in str(error)
    two = graph("(float[N] a, float[N] b) => (float[N] y) { y = Add(a, b) }")
    error = refusal(two, overwrite_input_shapes={"a": [2], "b": [3]})
    assert error.code == "unknown-option" and "N is 2 elsewhere" in str(error)


def test_outputs_that_nobody_uses_are_left_out():
    model = graph("(float[N] x) => (float[N] y, float[N] z) { a = Neg(x) y = Relu(a) b = Exp(x) z = Log(b) }")
    found, ok = onnxsim.simplify(model, check_n=1, unused_output=["z"])
    assert ok and operators(found) == ["Neg", "Relu"] and [value.name for value in found.graph.output] == ["y"]
    error = refusal(model, unused_output=["zz"])
    assert error.code == "unknown-option" and "unused_output='zz'" in str(error) and error.hint.startswith("did you mean")
    assert "no output would be left" in str(refusal(model, unused_output=["y", "z"]))


def test_inputs_with_a_default_become_constants_unless_they_may_change():
    model = graph(
        "(float[N, 2] x, float[2, 2] w) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { t = Transpose(w) y = MatMul(x, t) }"
    )
    found, _ = onnxsim.simplify(model)
    assert operators(found) == ["MatMul"] and [value.name for value in found.graph.input] == ["x"]
    found, _ = onnxsim.simplify(model, mutable_initializer=True)
    assert [value.name for value in found.graph.input] == ["x", "w"]


def test_functions_are_inlined_where_that_is_asked_for(fixtures):
    path = fixtures / "local_functions.onnx"
    model = onnx.load(path)
    assert len(model.functions) > 0
    found, ok = onnxsim.simplify(path, check_n=1, inline_functions=True)
    assert ok and len(found.functions) == 0


def test_the_opset_is_converted(digits):
    model, ok = onnxsim.simplify(digits, check_n=1, target_opset_version=20)
    assert ok and model.opset_import[0].version == 20
    onnx.checker.check_model(model, full_check=True)
    assert onnxsim.simplify(digits, target_opset_version=17)[0].opset_import[0].version == 17
    newest = secateur.schema("convert-opset")["properties"]["to"]["maximum"]
    model, ok = onnxsim.simplify(digits, check_n=1, target_opset_version="latest")
    assert ok and model.opset_import[0].version == newest > 20
    onnx.checker.check_model(model, full_check=True)
    error = refusal(digits, target_opset_version="newest")
    assert (error.code, error.hint) == ("unknown-option", 'give a number or "latest"') and "no opset" in str(error)
    error = refusal(digits, target_opset_version=newest + 1)
    assert error.code == "pass-option" and str(newest) in str(error)


def test_parts_are_left_out(digits):
    with_folding = graph(
        "(float[N] x) => (float[N] y) <float[1] a = {1}, float[1] b = {2}>"
        " { c = Exp(a) d = Mul(c, b) e = Identity(x) y = Add(e, d) }"
    )
    assert operators(onnxsim.simplify(with_folding)[0]) == ["Add"]
    assert operators(onnxsim.simplify(with_folding, skip_constant_folding=True)[0]) == ["Exp", "Mul", "Add"]
    assert operators(onnxsim.simplify(with_folding, perform_optimization=False)[0]) == ["Identity", "Add"]
    neither, ok = onnxsim.simplify(with_folding, check_n=1, perform_optimization=False, skip_constant_folding=True)
    assert ok and operators(neither) == ["Exp", "Mul", "Identity", "Add"]
    assert operators(onnxsim.simplify(digits, skip_fuse_bn=True)[0]).count("BatchNormalization") == 4


X = "(float[N, 3] x) => (float[N, 3] y)"
#: An optimizer, a model that it has work in, and the operators that stay without it.
SKIPPED = [
    ("eliminate_identity", f"{X} {{ a = Identity(x) y = Relu(a) }}", ["Identity", "Relu"]),
    ("eliminate_nop_cast", f"{X} {{ a = Cast<to = 1>(x) y = Relu(a) }}", ["Cast", "Relu"]),
    ("eliminate_nop_dropout", f"{X} {{ a = Dropout(x) y = Relu(a) }}", ["Dropout", "Relu"]),
    ("eliminate_nop_flatten", f"{X} {{ a = Flatten<axis = 1>(x) y = Relu(a) }}", ["Flatten", "Relu"]),
    ("eliminate_nop_transpose", f"{X} {{ a = Transpose<perm = [0, 1]>(x) y = Relu(a) }}", ["Transpose", "Relu"]),
    ("eliminate_nop_concat", f"{X} {{ a = Concat<axis = 1>(x) y = Relu(a) }}", ["Concat", "Relu"]),
    ("eliminate_nop_split", f"{X} {{ a = Split<axis = 1>(x) y = Relu(a) }}", ["Split", "Relu"]),
    ("eliminate_consecutive_idempotent_ops", f"{X} {{ a = Relu(x) y = Relu(a) }}", ["Relu", "Relu"]),
    ("eliminate_common_subexpression", f"{X} {{ a = Exp(x) b = Exp(x) y = Add(a, b) }}", ["Exp", "Exp", "Add"]),
    ("eliminate_deadend", f"{X} {{ a = Exp(x) y = Relu(x) }}", ["Exp", "Relu"]),
    ("fuse_consecutive_log_softmax", f"{X} {{ a = Softmax<axis = 1>(x) y = Log(a) }}", ["Softmax", "Log"]),
    ("eliminate_nop_with_unit", f"{X} <float one = {{1}}> {{ a = Mul(x, one) y = Relu(a) }}", ["Mul", "Relu"]),
    ("eliminate_nop_pad", f"{X} <int64[4] p = {{0, 0, 0, 0}}> {{ a = Pad(x, p) y = Relu(a) }}", ["Pad", "Relu"]),
    (
        "eliminate_nop_reshape",
        "(float[4, 3] x) => (float[4, 3] y) <int64[2] s = {4, 3}> { a = Reshape(x, s) y = Relu(a) }",
        ["Reshape", "Relu"],
    ),
    (
        "eliminate_nop_expand",
        "(float[4, 3] x) => (float[4, 3] y) <int64[2] s = {4, 3}> { a = Expand(x, s) y = Relu(a) }",
        ["Expand", "Relu"],
    ),
    (
        "fuse_matmul_add_bias_into_gemm",
        "(float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}>"
        " { a = MatMul(x, w) y = Add(a, b) }",
        ["MatMul", "Add"],
    ),
    (
        "fuse_consecutive_transposes",
        "(float[N, 3, 4] x) => (float[4, 3, M] y)"
        " { a = Transpose<perm = [1, 0, 2]>(x) b = Transpose<perm = [2, 0, 1]>(a) y = Relu(b) }",
        ["Transpose", "Transpose", "Relu"],
    ),
    (
        "fuse_consecutive_concats",
        "(float[N, 3] x) => (float[N, 9] y) { a = Concat<axis = 1>(x, x) y = Concat<axis = 1>(a, x) }",
        ["Concat", "Concat"],
    ),
    (
        "fuse_consecutive_unsqueezes",
        "(float[N, 3] x) => (float[1, 1, N, 3] y) <int64[1] s = {0}> { a = Unsqueeze(x, s) y = Unsqueeze(a, s) }",
        ["Unsqueeze", "Unsqueeze"],
    ),
    (
        "fuse_consecutive_squeezes",
        "(float[1, 1, N, 3] x) => (float[N, 3] y) <int64[1] s = {0}> { a = Squeeze(x, s) y = Squeeze(a, s) }",
        ["Squeeze", "Squeeze"],
    ),
    (
        "fuse_consecutive_slices",
        "(float[8, 8] x) => (float[4, 4] y) <int64[1] s = {0}, int64[1] e = {4}, int64[1] r = {0}, int64[1] c = {1}>"
        " { a = Slice(x, s, e, r) y = Slice(a, s, e, c) }",
        ["Slice", "Slice"],
    ),
    ("eliminate_shape_op", "(float[8, 8] x) => (int64[2] y) { a = Shape(x) y = Neg(a) }", ["Shape", "Neg"]),
    (
        "rewrite_where",
        "(float[N] x, float[N] z, bool[N] c) => (float[N] y) { a = Not(c) y = Where(a, x, z) }",
        ["Not", "Where"],
    ),
]


@pytest.mark.parametrize(("name", "text", "left"), SKIPPED, ids=[row[0] for row in SKIPPED])
def test_an_optimizer_that_is_skipped_leaves_its_operators(name, text, left):
    model = graph(text)
    assert operators(onnxsim.simplify(model)[0]) != left
    found, ok = onnxsim.simplify(model, check_n=1, skipped_optimizers=[name])
    assert ok and operators(found) == left


def test_every_default_optimizer_of_onnxsim_can_be_skipped(digits):
    pytest.importorskip("onnxsim")
    listed = subprocess.run(
        [sys.executable, "-m", "onnxsim", "--list-default-optimizers"], capture_output=True, text=True, check=True
    )
    names = listed.stdout.split()
    assert set(names) == set(onnxsim.OPTIMIZERS)
    left, _ = onnxsim.simplify(digits, skipped_optimizers=names)
    assert operators(left) == operators(onnx.load(digits))


def test_an_optimizer_that_is_unknown_is_refused(digits):
    error = refusal(digits, skipped_optimizers=["fuse_bn_into_convs"])
    assert error.code == "unknown-option" and error.hint == "did you mean 'fuse_bn_into_conv'?"
    assert "skipped_optimizers='fuse_bn_into_convs'" in str(error)


def test_the_result_is_written_where_that_is_asked_for(digits, tmp_path):
    target = tmp_path / "simple.onnx"
    target.write_bytes(b"something else")
    model, _ = onnxsim.simplify(str(digits), output_path=str(target))
    assert onnx.load(target).SerializeToString() == model.SerializeToString()
    over = tmp_path / "over.onnx"
    over.write_bytes(digits.read_bytes())
    model, _ = onnxsim.simplify(over, output_path=over)
    assert onnx.load(over).SerializeToString() == model.SerializeToString()
    error = refusal(onnx.load(digits), output_path=str(target))
    assert error.code == "unknown-option" and "the model is no path" in str(error)


REFUSED = [
    ({"skip_shape_inference": True}, "rules need shapes"),
    ({"custom_lib": "ops.so"}, "operators of other domains"),
    ({"tensor_size_threshold": "1MB"}, "growth of the file"),
    ({"initializers_as_constants": False}, "weights are constants"),
    ({"extra_optimizers": ["adjust_add"]}, "onnxsim's own"),
    ({"custom_rewriter": len}, "functions are not called"),
    ({"function_rewrite_rules": [(1, 2)]}, "another form"),
    ({"profile": "p.json"}, "no trace"),
    ({"ort_profile": "p"}, "no trace"),
    ({"merge_ort_profile": True}, "no trace"),
    ({"range_opt": True}, "annotations of ranges"),
    ({"certify": True}, "not proven"),
    ({"check_hazards": True}, "hazards"),
    ({"check_gradients": True}, "gradients"),
    ({"providers": ["CUDAExecutionProvider"]}, "on the CPU"),
    ({"providers": [("CUDAExecutionProvider", {})]}, "on the CPU"),
    ({"gemm_fusion_backend": "cuda"}, "nothing by this name"),
    ({"output_path": "m.onnx", "external_data_threshold": "1MB"}, "weights are external where"),
    ({"check_n": 1, "check_rtol": 1e-2}, "largest magnitude"),
    ({"check_n": 1, "check_atol": 1e-2}, "largest magnitude"),
    ({"check_n": 1, "input_fill": "ones"}, "several kinds"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_what_would_be_ignored_is_refused_by_name(digits, options, words):
    error = refusal(digits, **options)
    name = list(options)[-1]
    assert error.code == "unknown-option" and error.value == name
    assert f"simplify: {name}=" in str(error) and words in str(error) and error.hint


def test_messages_show_the_start_of_a_long_value(digits):
    error = refusal(digits, extra_optimizers=[f"pass_{number}" for number in range(1000)])
    assert "extra_optimizers=['pass_0', 'pass_1'" in str(error) and len(str(error)) < 400


@pytest.mark.parametrize(
    "options",
    [
        {"include_subgraph": True},
        {"dynamic_input_shape": True},
        {"import_custom_schemas": False},
        {"gemm_fusion_backend": "unrestricted"},
        {"providers": ["CPUExecutionProvider"]},
        {"certify": False},
        {"check_rtol": 1e-2, "check_atol": 1e-2, "input_fill": "ones", "external_data_threshold": "1MB"},
        {"test_input_shapes": {"input": [1, 1, 8, 8]}, "input_data": {}},
        {"skipped_optimizers": [], "extra_optimizers": [], "unused_output": []},
    ],
    ids=" ".join,
)
def test_what_changes_nothing_is_taken(digits, options):
    assert onnxsim.simplify(digits, **options)[0].SerializeToString() == onnxsim.simplify(digits)[0].SerializeToString()


def test_nothing_is_imported_before_it_is_needed():
    code = (
        "import sys, secateur.compat.onnxsim, secateur.compat.onnxslim, secateur.compat.onnxruntime.quantization,"
        " secateur.compat.onnxconverter_common;"
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'onnxsim', 'onnxslim') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
