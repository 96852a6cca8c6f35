"""Models: what stands for one, what comes out, and what is in it."""

from __future__ import annotations

import copy
import ctypes
import mmap
import os
import pickle
import resource
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from subjects import CNN_BN, EXTERNAL, FIXTURES, MLP, VIT, pixels

import secateur


def address(of: bytes) -> int:
    """Where the content of bytes lies."""
    return ctypes.cast(ctypes.c_char_p(of), ctypes.c_void_p).value or 0


def mapped(at: int) -> str:
    """The file that is mapped at an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        first, end = (int(number, 16) for number in fields[0].split("-"))
        if first <= at < end:
            return fields[-1]
    return ""


@pytest.mark.parametrize("kind", [str, Path, Path.read_bytes, secateur.Model], ids=["str", "Path", "bytes", "Model"])
def test_the_same_kind_comes_out(kind: Any) -> None:
    given = kind(CNN_BN)
    outcome = secateur.simplify(given)
    wanted = bytes if isinstance(given, bytes) else secateur.Model
    assert type(outcome.model) is wanted
    assert outcome.model is outcome.model, "it is made once"
    assert secateur.Model(outcome.model).to_bytes() == outcome.result.to_bytes()


def test_other_buffers_come_out_as_bytes() -> None:
    content = CNN_BN.read_bytes()
    wanted = secateur.simplify(content).model
    for given in (bytearray(content), memoryview(content)):
        assert secateur.simplify(given).model == wanted


def test_an_outcome_goes_on_as_the_kind_that_went_in() -> None:
    first = secateur.simplify(CNN_BN.read_bytes())
    second = secateur.bind(first, {"batch": 1})
    assert isinstance(second.model, bytes)
    assert second.report.before.nodes == first.report.after.nodes


def test_a_proto_comes_out(onnx: ModuleType) -> None:
    outcome = secateur.simplify(onnx.load(CNN_BN))
    assert type(outcome.model) is onnx.ModelProto
    onnx.checker.check_model(outcome.model)
    # Constants are values here, and nodes there.
    operators = [node.op_type for node in outcome.model.graph.node if node.op_type != "Constant"]
    assert operators == [node.op_type for node in outcome.result.nodes]
    assert outcome.result.to_onnx() == outcome.model


def test_a_model_of_onnx_ir_comes_out() -> None:
    onnx_ir = pytest.importorskip("onnx_ir")
    outcome = secateur.simplify(onnx_ir.load(CNN_BN))
    assert type(outcome.model) is onnx_ir.Model
    operators = [node.op_type for node in outcome.model.graph if node.op_type != "Constant"]
    assert operators == [node.op_type for node in outcome.result.nodes]


def test_what_is_in_a_model() -> None:
    model = secateur.Model(MLP)
    assert model.inputs == (secateur.Value("input", "float", ("batch", 1, 8, 8)),)
    assert model.outputs == (secateur.Value("logits", "float", ("batch", 10)),)
    assert [node.op_type for node in model.nodes] == ["Flatten", "Gemm", "Relu", "Gemm"]
    gemm = model.nodes[1]
    assert gemm.inputs[1:] == ("fc1.weight", "fc1.bias")
    assert gemm.attributes["transB"] == 1
    assert model.facts.parameters == 2410
    assert model.warnings == ()
    assert repr(model) == "<secateur.Model: 4 nodes, 2410 parameters>"


def test_inputs_with_a_default_are_optional(onnx: ModuleType) -> None:
    proto = onnx.load(MLP)
    weight = proto.graph.initializer[0]
    proto.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    assert [(value.name, value.optional) for value in secateur.Model(proto).inputs] == [("input", False), (weight.name, True)]


def test_text_is_in_the_syntax_of_onnx(onnx: ModuleType) -> None:
    text = secateur.Model(MLP).text()
    assert onnx.parser.parse_model(text).graph.node[1].op_type == "Gemm"


def test_text_without_onnx() -> None:
    text = secateur.Model(MLP).text()
    assert 'logits = Gemm' in text
    assert "ir_version: 8" in text


def test_initializers_of_a_large_file_are_the_mapped_file() -> None:
    held = secateur.Model(VIT)._native.initializers()
    assert held
    for _, array in held:
        assert mapped(array.__array_interface__["data"][0]) == str(VIT)


def test_initializers_are_views(numpy: ModuleType) -> None:
    content = MLP.read_bytes()
    model = secateur.Model(content)
    first, second = model.initializers, model.initializers
    assert {name: (array.shape, array.dtype.name) for name, array in first.items()} == {
        "fc1.weight": ((32, 64), "float32"),
        "fc1.bias": ((32,), "float32"),
        "fc2.weight": ((10, 32), "float32"),
        "fc2.bias": ((10,), "float32"),
    }
    start = address(content)
    for name, array in first.items():
        at = array.__array_interface__["data"][0]
        assert start <= at <= start + len(content) - array.nbytes, "elements lie in the bytes that were given"
        assert numpy.shares_memory(array, second[name])
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_view_outlives_its_model(numpy: ModuleType) -> None:
    content = MLP.read_bytes()
    start = content.index(secateur.Model(content).initializers["fc1.weight"].tobytes())
    weight = secateur.Model(bytes(bytearray(content))).initializers["fc1.weight"]
    assert weight.tobytes() == content[start : start + weight.nbytes]


@pytest.mark.parametrize(
    ("rewrite", "name", "element", "shape", "plain"),
    [
        (lambda: secateur.convert_float(MLP, to="bfloat16"), "fc1.weight_bfloat16", "bfloat16", (32, 64), "uint16"),
        (lambda: secateur.convert_float(MLP, to="float16"), "fc1.weight_float16", "float16", (32, 64), "float16"),
        (
            lambda: secateur.quantize_weights(MLP, type="float8e4m3fn"),
            "fc1.weight_quantized",
            "float8e4m3fn",
            (64, 32),
            "uint8",
        ),
        (lambda: secateur.quantize_weights(MLP, type="int4"), "fc1.weight_quantized", "int4", (64, 32), "uint8"),
    ],
    ids=["bfloat16", "float16", "float8", "int4"],
)
def test_element_types_that_numpy_does_not_have(
    rewrite: Any, name: str, element: str, shape: tuple[int, ...], plain: str, numpy: ModuleType
) -> None:
    model = rewrite().result
    held = dict(model._native.initializers())[name]
    assert (held.element, held.shape) == (element, shape)
    plainly = numpy.asarray(held)
    assert plainly.dtype.name == plain
    assert plainly.nbytes == held.nbytes
    found = model.initializers[name]
    assert numpy.shares_memory(plainly, found)
    if element in ("bfloat16", "float8e4m3fn"):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        assert found.dtype == getattr(ml_dtypes, "bfloat16" if element == "bfloat16" else "float8_e4m3fn")
        assert numpy.isfinite(found.astype("float32")).all()
    if element == "int4":
        assert found.shape == (held.nbytes,), "two elements a byte"


def test_a_model_is_pickled_and_copied() -> None:
    model = secateur.Model(MLP)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert again.to_bytes() == model.to_bytes()


def test_a_model_with_external_data_comes_by_path(tmp_path: Path) -> None:
    outcome = secateur.bind(EXTERNAL, {"batch": 1})
    assert "external" not in secateur.Model(outcome.result.to_bytes()).text()
    saved = outcome.save(tmp_path / "bound.onnx")
    assert {Path(file).parent for file in saved.files} == {tmp_path}
    assert secateur.Model(saved.files[0]).to_bytes() == outcome.result.to_bytes()


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    model = secateur.Model(MLP)
    path = tmp_path / "model.onnx"
    assert model.save(path).files == (str(path),)
    with pytest.raises(secateur.FileError) as caught:
        model.save(path)
    assert caught.value.code == "output-exists"
    model.save(path, force=True)
    with pytest.raises(secateur.FileError) as caught:
        secateur.Model(path).save(path, force=True)
    assert caught.value.code == "output-is-input"
    assert os.listdir(tmp_path) == ["model.onnx"]
    assert path.read_bytes() == model.to_bytes()


@pytest.mark.parametrize("given", [None, 5, 2.5, object(), [MLP], {"model": MLP}, secateur.Model], ids=repr)
def test_what_is_no_model(given: Any) -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.simplify(given)
    assert caught.value.code == "usage"
    assert "onnx.ModelProto" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ("no-such-file.onnx", secateur.FileError, "read-failed"),
        (FIXTURES, secateur.FileError, "not-a-file"),
        (b"", secateur.InputError, "missing-graph"),
        (b"no model", secateur.InputError, "malformed-protobuf"),
        (FIXTURES / "malice" / "cycle-two.onnx", secateur.InputError, "cycle"),
    ],
    ids=["no file", "folder", "empty", "text", "cycle"],
)
def test_what_is_no_valid_model(given: Any, kind: type[secateur.SecateurError], code: str) -> None:
    with pytest.raises(kind) as caught:
        secateur.Model(given)
    assert caught.value.code == code


def test_bytes_whose_weights_are_in_another_file() -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.Model(EXTERNAL.read_bytes())
    assert caught.value.code == "external-no-directory"
    assert "give the path of the model" in (caught.value.hint or "")
    assert caught.value.to_dict()["error"]["hint"] == caught.value.hint


def test_bytes_beyond_the_size_of_a_message_are_not_even_copied(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(tmp_path / "large", "wb+") as file:
        file.truncate(2**31)
        with mmap.mmap(file.fileno(), 0) as content, memoryview(content) as view:
            with pytest.raises(secateur.InputError) as caught:
                secateur.simplify(view)
    assert caught.value.code == "model-too-large"
    assert "save_as_external_data" in (caught.value.hint or "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "KiB"


def test_a_message_that_cannot_be_serialized() -> None:
    class Message:
        def SerializeToString(self) -> bytes:  # noqa: N802
            raise ValueError("too large")

    with pytest.raises(secateur.InputError) as caught:
        secateur.simplify(Message())
    assert caught.value.code == "model-too-large"
    assert isinstance(caught.value.__cause__, ValueError)


def test_other_models_of_a_step_may_be_in_memory(tmp_path: Path) -> None:
    pre, net = FIXTURES / "chain" / "pre.onnx", FIXTURES / "chain" / "net.onnx"
    # Where names clash, those of the other model get the name of its file in front.
    named = Path(shutil.copy(net, tmp_path / "model1.onnx"))
    wanted = secateur.chain(pre, named, provenance=False).result.to_bytes()
    for others in (net.read_bytes(), secateur.Model(net), [named], (net.read_bytes(),)):
        assert secateur.chain(pre, others, provenance=False).result.to_bytes() == wanted


def test_the_reference_of_a_step_may_be_in_memory() -> None:
    quantized = secateur.quantize(MLP, data={"input": pixels(8)}, correct_bias=False).result
    found = [
        secateur.correct_bias(quantized, reference, data={"input": pixels(8)}, provenance=False).result.to_bytes()
        for reference in (MLP, MLP.read_bytes(), secateur.Model(MLP))
    ]
    assert found[0] == found[1] == found[2] != quantized.to_bytes()


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.onnx")), ids=lambda path: path.stem)
def test_inputs_and_outputs_are_those_that_the_facts_have(path: Path) -> None:
    model = secateur.Model(path)
    for values, facts in ((model.inputs, model.facts.inputs), (model.outputs, model.facts.outputs)):
        assert values
        for value, fact in zip(values, facts, strict=True):
            shape = None if fact.shape is None else tuple(fact.shape)
            assert (value.name, value.dtype, value.shape, value.optional) == (fact.name, fact.dtype, shape, fact.optional)
