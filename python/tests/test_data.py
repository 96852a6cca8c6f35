"""Samples: everything that stands for them gives the same result, and what is wrong with them is said."""

from __future__ import annotations

import ctypes
import gc
import math
import os
from array import array
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from subjects import CALIBRATION, FIXTURES, MLP, TEST, chain_model, classes, pixels, python, quantized

import secateur

COUNT = 12


def batches(size: int = 4) -> list[Any]:
    """The same samples in pieces."""
    whole = pixels(COUNT)
    flat = whole.cast("B")
    step = len(flat) // COUNT * size
    return [
        flat[start : start + step].cast("f", (min(size, COUNT - index * size), 1, 8, 8))
        for index, start in enumerate(range(0, len(flat), step))
    ]


class Loader:
    """Gives its items anew to everybody who asks, as a loader of batches does."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Reader:
    """A reader with one method, as ONNX Runtime has them."""

    def __init__(self, end: dict[str, Any] | None) -> None:
        self.left = [{"input": batch} for batch in batches()]
        self.end = end

    def get_next(self) -> dict[str, Any] | None:
        return self.left.pop(0) if self.left else self.end


@pytest.fixture(scope="module")
def wanted() -> bytes:
    """The result for the samples as one array."""
    return quantized({"input": pixels(COUNT)})


FORMS: dict[str, Any] = {
    "one array": lambda: pixels(COUNT),
    "another name": lambda: {"x": pixels(COUNT)},
    "list of dicts": lambda: [{"input": batch} for batch in batches()],
    "generator of dicts": lambda: ({"input": batch} for batch in batches()),
    "generator of arrays": lambda: (batch for batch in batches(5)),
    "mappings that are no dicts": lambda: [UserDict(input=batch) for batch in batches()],
    "tuples": lambda: ((batch,) for batch in batches()),
    "tuples with labels": lambda: ((batch, classes(batch.shape[0])) for batch in batches()),
    "loader of lists": lambda: Loader([[batch, classes(batch.shape[0])] for batch in batches()]),
    "reader that ends with None": lambda: Reader(None),
    "reader that ends with a dict": lambda: Reader({}),
    "role": lambda: {"calibration": {"input": pixels(COUNT)}},
    "role of a generator": lambda: {"calibration": ({"input": batch} for batch in batches())},
    "Data of arrays": lambda: secateur.Data({"input": pixels(COUNT)}),
    "Data of tuples": lambda: secateur.Data(((batch,) for batch in batches()), names=["input"]),
    "Data of more": lambda: secateur.Data({"input": pixels(COUNT + 3)}).samples(COUNT),
    "Data with labels": lambda: secateur.Data({"input": pixels(COUNT), "y": classes(COUNT)}).labels("y"),
    "Data with names": lambda: secateur.Data({"a": pixels(COUNT), "b": pixels(COUNT, 1)}).input("input", "a"),
    "Data of Data": lambda: secateur.Data(secateur.Data({"input": pixels(COUNT)})),
    "array of C": lambda: {"input": (ctypes.c_float * 8 * 8 * 1 * COUNT).from_buffer_copy(pixels(COUNT))},
    "bytes": lambda: {"input": memoryview(bytes(pixels(COUNT).cast("B"))).cast("f", (COUNT, 1, 8, 8))},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_model(form: str, wanted: bytes) -> None:
    assert quantized(FORMS[form]()) == wanted


def test_other_samples_give_another_model(wanted: bytes) -> None:
    assert quantized({"input": pixels(COUNT, seed=7)}) != wanted


def test_arrays_of_numpy_give_the_same_model(numpy: ModuleType, wanted: bytes) -> None:
    found = numpy.asarray(pixels(COUNT))
    wide = numpy.zeros((COUNT, 1, 8, 16), numpy.float32)
    wide[..., ::2] = found
    forms = [
        found,
        {"input": found},
        {"input": found.astype(">f4")},
        {"input": wide[..., ::2]},
        {"input": numpy.asfortranarray(found)},
        {"input": found.tolist()},
        iter(numpy.split(found, 3)),
    ]
    for form in forms:
        assert quantized(form) == wanted
    assert quantized({"input": found.astype("float64")}) == wanted, "doubles become what the input takes"


def test_files_and_descriptions_give_the_same_model(numpy: ModuleType, tmp_path: Path) -> None:
    with numpy.load(CALIBRATION) as held:
        samples, labels = held["x"][:COUNT], held["y"][:COUNT]
        whole = {name: held[name] for name in held}
    assert set(whole) == {"x", "y"}
    wanted = quantized({"input": samples})
    description = tmp_path / "calibration.yaml"
    description.write_text(f"npz: {CALIBRATION}\nsamples: {COUNT}\n")
    numpy.savez(tmp_path / "samples.npz", x=samples, y=labels)
    forms: list[Any] = [
        tmp_path / "samples.npz",
        str(tmp_path / "samples.npz"),
        description,
        f"{{npz: {CALIBRATION}, samples: {COUNT}}}",
        {"npz": CALIBRATION, "samples": COUNT},
        secateur.Data(CALIBRATION).samples(COUNT),
        secateur.Data({"npz": str(CALIBRATION)}).samples(COUNT).labels("y"),
    ]
    for form in forms:
        assert quantized(form) == wanted
    with numpy.load(tmp_path / "samples.npz") as opened:
        assert quantized(opened) == wanted


def test_tensors_are_brought_to_main_memory(numpy: ModuleType, wanted: bytes) -> None:
    class Tensor:
        """What a tensor of PyTorch on an accelerator can do."""

        def __init__(self, held: Any, where: str) -> None:
            self.held, self.where = held, where
            self.shape, self.dtype = held.shape, f"torch.{held.dtype}"

        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return Tensor(self.held, "cpu")

        def numpy(self) -> Any:
            assert self.where == "cpu"
            return self.held

    items = [[Tensor(numpy.asarray(batch), "cuda"), Tensor(numpy.arange(batch.shape[0]), "cuda")] for batch in batches()]
    assert quantized(Loader(items)) == wanted


def test_pixels_are_preprocessed() -> None:
    halves = array("f", (value / 2 for value in pixels(COUNT).cast("B").cast("f")))
    half = memoryview(halves).cast("B").cast("f", (COUNT, 1, 8, 8))
    data = secateur.Data({"input": pixels(COUNT)}).preprocess({"scale": 0.5})
    assert quantized(data) == quantized({"input": half})


def test_data_are_not_changed_by_their_methods(wanted: bytes) -> None:
    data = secateur.Data({"input": pixels(COUNT)})
    assert quantized(data.samples(2)) != wanted
    assert quantized(data) == wanted
    assert quantized(data.shard(0, 2)) != quantized(data.shard(1, 2))
    # How an engine rounds may depend on the size of a batch, and on the processor.
    assert len(quantized(data.batch(3).seed(1))) == len(wanted)
    assert quantized(data) == wanted


def test_data_for_two_roles() -> None:
    pipeline = secateur.Pipeline.parse("{ steps: [quantize], gates: [{ accuracy: { at-least: 0 } }] }")
    data = {"calibration": {"input": pixels(8)}, "evaluation": secateur.Data({"input": pixels(4), "y": classes(4)}).labels("y")}
    (gate,) = pipeline.run(MLP, data=data).report.gates
    assert gate.passed


def test_names_of_roles_that_are_inputs_are_arrays() -> None:
    model = chain_model(1, 16, input_name="training")
    values = memoryview(array("f", range(64))).cast("B").cast("f", (4, 16))
    # As a role it would be data for nobody, and calibration data would be missing.
    assert secateur.quantize(model, data={"training": values}, refused="return").report.steps[0].changed
    with pytest.raises(secateur.InputError) as caught:
        secateur.quantize(MLP, data={"training": pixels(4)})
    assert caught.value.code == "data-missing"


def test_labels_of_tuples_are_taken_by_evaluations() -> None:
    items = [(batch, classes(batch.shape[0])) for batch in batches()]
    by_position = secateur.evaluate(MLP, items, latency_runs=0)
    labelled = secateur.Data({"input": pixels(COUNT), "y": memoryview(array("q", [0, 1, 2, 3] * 3))}).labels("y")
    assert by_position.confusion == secateur.evaluate(MLP, labelled, latency_runs=0).confusion
    assert by_position.samples == COUNT


class Stopped(Exception):
    """Raised by a source of samples."""


def failing() -> Iterator[dict[str, Any]]:
    yield {"input": pixels(2)}
    raise Stopped("the camera is off")


def test_what_a_generator_raises_arrives_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="the camera is off"):
        secateur.quantize(MLP, data=failing(), output=tmp_path / "out.onnx", report=tmp_path / "report.md")
    assert os.listdir(tmp_path) == []


def test_what_a_reader_raises_arrives() -> None:
    class Broken:
        def get_next(self) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        secateur.quantize(MLP, data=Broken())


def test_a_generator_is_closed_once_it_failed() -> None:
    closed = []

    def source() -> Iterator[Any]:
        try:
            yield {"input": pixels(2)}
            yield {"input": "no array"}
        finally:
            closed.append(True)

    with pytest.raises(secateur.InputError):
        secateur.quantize(MLP, data=source())
    gc.collect()
    assert closed == [True]


def shaped(*shape: int, format_: str = "f") -> Any:
    """Zeros."""
    zeros: Any = memoryview(bytes(4 * math.prod(shape)))
    return zeros.cast(format_, shape)


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ({"input": shaped(4, 1, 7, 8)}, "data-shape", "[batch, 1, 8, 8]"),
        ({"input": shaped(4, 64)}, "data-shape", "hint: the first axis of an array is that of its samples"),
        ([{"input": shaped(4, 1, 7, 8)}], "data-shape", "[batch, 1, 8, 8]"),
        ({"input": shaped(4, 1, 8, 8, format_="i")}, "data-type", "float"),
        ({"first": shaped(4, 1, 8, 8), "second": shaped(4, 1, 8, 8)}, "data-no-array", "first, second"),
        ({"first": shaped(4, 1, 8, 8), "second": shaped(4, 1, 8, 8)}, "data-no-array", "hint: `inputs: {INPUT: ARRAY}`"),
        ([{"input": shaped(2, 1, 8, 8)}, {"input": shaped(2, 1, 8, 7)}], "data-read", "piece 1"),
        ([{"input": shaped(2, 1, 8, 8)}, {"other": shaped(2, 1, 8, 8)}], "data-read", "piece 1"),
        ([(shaped(2, 1, 8, 8), shaped(2), shaped(2))], "data-array", "one array for each input, with labels last"),
        ({"input": "no-such-file.npz"}, "data-spec", "input"),
        ({}, "data-empty", "no samples"),
        ([], "data-empty", "no samples"),
        (5, "data-spec", "an iterable of dicts of arrays"),
        (b"samples", "data-spec", "an iterable of dicts of arrays"),
        ([None], "data-array", "buffer protocol"),
        ([{"input": object()}], "data-array", "buffer protocol"),
        ({"npz": str(CALIBRATION), "input": shaped(1, 1, 8, 8)}, "data-spec", "not both"),
        ("no-such-file.npz", "data-read", "no such file"),
        ("{npz: 5", "yaml-syntax", "bracket"),
        ("{npz: 5}", "data-spec", "npz"),
        ({"calibration": {"input": shaped(1, 1, 8, 8)}, "evaluatoin": {}}, "unknown-role", "did you mean `evaluation`?"),
    ],
)
def test_what_is_wrong_with_data(data: Any, code: str, said: str) -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.quantize(MLP, data=data)
    assert caught.value.code == code
    assert said in str(caught.value)


def test_elements_that_are_no_numbers(numpy: ModuleType) -> None:
    for values in (numpy.array(["a"]), numpy.array([object()]), numpy.zeros(1, "datetime64[s]"), numpy.zeros(1, "complex64")):
        with pytest.raises(secateur.InputError) as caught:
            secateur.quantize(MLP, data={"input": values})
        assert caught.value.code == "data-type"
        assert "astype" in (caught.value.hint or "")
    with pytest.raises(secateur.InputError) as caught:
        secateur.quantize(MLP, data={"input": [[1.0, 2.0], [3.0]]})
    assert caught.value.code == "data-array"


@pytest.mark.parametrize(
    "call",
    [
        lambda data: data.samples(-1),
        lambda data: data.samples(2.5),
        lambda data: data.samples(True),
        lambda data: data.batch(0),
        lambda data: data.seed("x"),
        lambda data: data.shard(2, 2),
        lambda data: data.preprocess("torchvison"),
        lambda data: data.task("clasification"),
        lambda data: data.boxes("no such layout"),
    ],
)
def test_what_methods_of_data_refuse(call: Any) -> None:
    with pytest.raises(secateur.InputError) as caught:
        call(secateur.Data(CALIBRATION))
    assert caught.value.code in ("option-value", "usage", "data-spec")


def test_tuples_without_a_model_need_names() -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.Data([(pixels(2),)])
    assert "names=" in (caught.value.hint or "")
    with pytest.raises(secateur.InputError):
        secateur.Data([(pixels(2),)], names=["input", "mask"])


def test_optional_inputs_have_no_place_in_tuples(onnx: ModuleType) -> None:
    proto = onnx.load(MLP)
    weight = proto.graph.initializer[0]
    proto.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    for item in ((pixels(3),), (pixels(3), classes(3))):
        assert secateur.stats(proto, [item]).ranges == ((0, 3),)


GROWTH = """
import resource, sys, secateur
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def pieces():
    for _ in range(96):
        yield {"x": memoryview(bytes(1 << 20)).cast("f", (4, 65536))}
secateur.Data([{"x": memoryview(bytes(4)).cast("f", (1, 1))}])
before = used()
data = secateur.Data(pieces())
print(used() - before)
"""


def test_memory_does_not_grow_with_samples(tmp_path: Path) -> None:
    found = python(GROWTH, cwd=tmp_path, TMPDIR=str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 16 << 20, "96 MiB of samples"
    assert os.listdir(tmp_path) == [], "samples are kept in files without a name"


def test_statistics_are_taken_in_the_place_of_data(tmp_path: Path) -> None:
    data = secateur.Data(CALIBRATION).samples(COUNT)
    stats = secateur.stats(MLP, data)
    assert (stats.ranges, stats.values > 0, stats.notes) == (((0, COUNT),), True, ())
    stats.save(tmp_path / "ranges.safetensors")
    again = secateur.Stats.open(tmp_path / "ranges.safetensors")
    assert again.ranges == stats.ranges
    wanted = quantized(None, stats=tmp_path / "ranges.safetensors")
    assert quantized(None, stats=stats) == wanted == quantized(None, stats=again)


def test_statistics_of_shards_are_those_of_the_whole(tmp_path: Path) -> None:
    data = secateur.Data(CALIBRATION).samples(COUNT)
    for index in range(2):
        secateur.stats(MLP, data.shard(index, 2)).save(tmp_path / f"{index}.safetensors")
    merged = secateur.Stats.merge(tmp_path / f"{index}.safetensors" for index in range(2))
    assert merged.ranges == ((0, COUNT),)
    assert quantized(None, stats=merged) == quantized(None, stats=secateur.stats(MLP, data))


def test_gradients_by_a_loss() -> None:
    data = secateur.Data(CALIBRATION).labels("y").samples(4)
    assert secateur.stats(MLP, data, "gradients", loss="cross-entropy").ranges == ((0, 4),)
    assert secateur.stats(MLP, data, "gram", rows_per_sample=8).ranges == ((0, 4),)
    for wrong in ({"purpose": "grams"}, {"purpose": "gradients", "loss": "mse"}, {"rows_per_sample": 0}, {"shards": 2}):
        with pytest.raises(secateur.InputError):
            secateur.stats(MLP, data, **wrong)


def test_an_evaluation_goes_on_from_its_state(tmp_path: Path) -> None:
    data, state = secateur.Data(TEST).samples(12), tmp_path / "state.json"
    first = secateur.evaluate(MLP, data, latency_runs=0, state=state)
    assert state.is_file()
    read = []
    again = secateur.evaluate(MLP, data, latency_runs=0, state=state, progress=lambda *told: read.append(told))
    assert again.confusion == first.confusion
    assert [told for told in read if told[0] == "evaluate" and 0 < told[1] < 12] == [], "no sample is read again"


def test_features_are_written(numpy: ModuleType, tmp_path: Path) -> None:
    found = secateur.features(MLP, "auto", tmp_path / "features.npz", secateur.Data(TEST).samples(6))
    assert found == secateur.Features(found.value, 6, 32, True)
    with numpy.load(tmp_path / "features.npz") as held:
        assert held["features"].shape == (6, 32)
        assert held["labels"].shape == (6,)
    with pytest.raises(secateur.InputError):
        secateur.features(MLP, "no such value", tmp_path / "others.npz", FIXTURES / "data" / "digits_test.npz")
