"""Options: the functions, the schemas and the command line have the same ones."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from subjects import CALIBRATION, CNN_BN, MLP, ROOT, pixels

import secateur
from secateur import _native, _outcome, steps

STEPS = _native.step_names()
#: Flags of every step that say what is shown or how flags are written, and those that `secateur.Data` and `secateur.Pipeline` have.
SHOWN = {"help", "check", "print-pipeline", "set", "var", "verify", "preprocess", "json", "format", "quiet", "verbose", "progress"}
#: What the flags are called that have another name here.
RENAMED = {"size": "sizes", "no-provenance": "provenance", "no-verify": "compare"}
#: What is configured for the whole process.
CONFIGURED = {"engine-time": "engine_time", "engine-memory": "engine_memory", "engine-inside": "engine_process"}
#: Gates stand in pipelines, and have no flag at steps; the others have no meaning there.
WITHOUT_FLAG = {"gates", "progress", "refused"}


def generator() -> ModuleType:
    """`generate.py` as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "python" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


def function(step: str) -> Any:
    return getattr(secateur, step.replace("-", "_"))


def options(step: str) -> dict[str, Any]:
    found: dict[str, Any] = secateur.schema(step).get("properties", {})
    return found


def flags(heading: str, verb: str) -> set[str]:
    """The flags under a heading of a verb's page in the reference of the command line."""
    folder = ROOT / "docs"
    text = (folder / "cli.md" if verb == "secateur" else folder / "cli" / f"{verb.split()[0]}.md").read_text()
    title = "Command line" if verb == "secateur" else f"(?:secateur )?{verb}"
    page = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert page is not None, verb
    parts = re.split(r"^(Options of the step|Options of every verb|Options):$", page[1], flags=re.MULTILINE)
    own = parts[parts.index(heading) + 1] if heading in parts else ""
    return set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", own, re.MULTILINE))


def verb(step: str) -> str:
    """How the command line calls a step."""
    family, _, rest = step.partition("-")
    return f"{family} {rest}" if family in ("prune", "transfer") else step


def test_there_is_a_function_for_each_step() -> None:
    assert sorted(steps.__all__) == sorted(name.replace("-", "_") for name in STEPS)
    assert set(steps.__all__) <= set(secateur.__all__)
    assert secateur.merge is secateur.transfer_merge


@pytest.mark.parametrize("step", STEPS)
def test_a_function_has_the_options_of_the_schema(step: str) -> None:
    parameters = dict(inspect.signature(function(step)).parameters)
    assert parameters.pop("model").kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters.pop("run").kind is inspect.Parameter.VAR_KEYWORD
    if step == "transfer-parameters":
        assert parameters.pop("state_dict").default is None
    assert set(parameters) == {GENERATOR.parameter(option) for option in options(step)}
    assert len(parameters) == len(options(step)), "no two options have the same name"
    for name, parameter in parameters.items():
        assert parameter.default is (inspect.Parameter.empty if name == "others" else None), "what is left out is not said"


@pytest.mark.parametrize("step", STEPS)
def test_a_function_has_the_flags_of_the_command_line(step: str) -> None:
    everywhere = flags("Options", "run") | flags("Options of every verb", "secateur")
    positional = {"with", "from"}
    renamed = {"version"}  # of convert-opset: a second name of `to`
    found = flags("Options of the step", verb(step))
    assert found - set(options(step)) == set()
    missing = set(options(step)) - found - everywhere - positional - renamed
    assert missing == set()


def test_runs_take_the_flags_of_every_step() -> None:
    wanted = flags("Options", "run") | flags("Options of every verb", "secateur")
    named = {RENAMED.get(flag, flag.replace("-", "_")) for flag in wanted - SHOWN - set(CONFIGURED)}
    assert named == set(secateur.RunOptions.__annotations__) - WITHOUT_FLAG
    assert set(CONFIGURED) <= wanted
    assert set(CONFIGURED.values()) == set(inspect.signature(secateur.configure).parameters)


def test_verifying_takes_the_flags_of_the_verb() -> None:
    wanted = flags("Options", "verify") - SHOWN - {"worst", "allow-not-checked"}
    named = {RENAMED.get(flag, flag.replace("-", "_")) for flag in wanted} | {"engine", "jobs", "seed", "strict", "force"}
    assert named == set(secateur.VerifyOptions.__annotations__) - {"progress"}


def test_bisecting_takes_the_flags_of_the_verb() -> None:
    wanted = flags("Options", "bisect") - SHOWN - {"pipeline"}
    named = {RENAMED.get(flag, flag.replace("-", "_")) for flag in wanted} | {"engine", "jobs", "seed"}
    assert named == set(secateur.ComparingOptions.__annotations__) - {"progress"}


def test_evaluating_takes_the_flags_of_the_verb() -> None:
    of_data = {"data", "labels", "task", "boxes", "input", "samples", "batch", "shard", "preprocess"}
    wanted = flags("Options", "evaluate") - SHOWN - of_data - {"show", "show-folder", "gate"}
    named = {flag.replace("-", "_") for flag in wanted} | {"engine", "jobs", "seed", "force", "gates"}
    assert named == set(secateur.EvaluateOptions.__annotations__) - {"progress", "refused"}
    for name in of_data - {"data"}:
        assert callable(getattr(secateur.Data, name))


@pytest.mark.parametrize(
    ("known", "declared", "more"),
    [
        (_outcome.RUNNING, secateur.RunOptions, {"data", "progress", "refused"}),
        (_outcome.VERIFYING, secateur.VerifyOptions, {"data", "progress"}),
        (_outcome.BISECTING, secateur.ComparingOptions, {"progress"}),
        (_outcome.EVALUATING, secateur.EvaluateOptions, {"against", "progress", "refused"}),
        (_outcome.STATISTICS, secateur.StatsOptions, {"progress"}),
        (_outcome.FEATURES, secateur.CallOptions, {"progress"}),
    ],
)
def test_what_is_declared_is_what_is_read(known: Any, declared: Any, more: set[str]) -> None:
    assert set(known) | more == set(declared.__annotations__)


class Built(Exception):
    """Raised in the place of a run, with the pipeline."""


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_pipeline(pipeline: Any, *_: Any) -> None:
        raise Built(pipeline)

    monkeypatch.setattr(_outcome, "run_pipeline", run_pipeline)


def values(about: dict[str, Any], root: dict[str, Any]) -> list[Any]:
    """Values of an option that are surely allowed, those that are not the default first."""
    default = about.get("default")
    if "$ref" in about:
        return values(root["$defs"][about["$ref"].rsplit("/", 1)[1]], root)
    for key in ("anyOf", "oneOf"):
        if key in about:
            return [value for one in about[key] for value in values(one, root)]
    if "const" in about:
        return [about["const"]]
    if "enum" in about:
        return list(about["enum"])
    if about.get("type") == "boolean":
        return [not default, default]
    return [default] if default not in (None, "", [], {}) else []


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("building")
def test_every_option_arrives(step: str) -> None:
    schema = secateur.schema(step)
    others = [MLP] if "with" in options(step) else []
    for option, about in options(step).items():
        if "x-file" in about:
            continue
        for value in values(about, schema):
            if value is None:
                continue
            given = {GENERATOR.parameter(option): value, **({"source": MLP} if step == "transfer-parameters" else {})}
            with pytest.raises(Built) as caught:
                function(step)(MLP, *others, **given)
            found = json.loads(caught.value.args[0].variables())
            assert found[f"{step}.{option}"] == value


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("building")
def test_every_option_that_names_files_arrives(step: str, tmp_path: Path) -> None:
    files = {option: about for option, about in options(step).items() if "x-file" in about}
    path = tmp_path / "file"
    for option, about in files.items():
        several = about.get("type") == "array"
        needed = [name for name in ("with", "from") if name in files and step != "transfer-structure"]
        given: dict[str, Any] = {GENERATOR.parameter(name): MLP for name in needed}
        given[GENERATOR.parameter(option)] = [path] if several else path
        with pytest.raises(Built) as caught:
            function(step)(MLP, **given)
        found = json.loads(caught.value.args[0].variables())[f"{step}.{option}"]
        assert found == ([str(path)] if several else str(path))


def test_what_the_generator_writes_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert GENERATOR.main() == 0
    for name in ("steps.py", "reports.py"):
        installed = Path(secateur.__file__).parent / name
        assert installed.read_text() == (ROOT / "python" / "secateur" / name).read_text()


def test_the_generator_finds_what_is_stale(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GENERATOR, "HERE", tmp_path)
    monkeypatch.setattr(GENERATOR, "steps", lambda: "steps")
    monkeypatch.setattr(GENERATOR, "reports", lambda: "reports")
    (tmp_path / "steps.py").write_text("stale")
    (tmp_path / "reports.py").write_text("reports")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert GENERATOR.main() == 1
    assert capsys.readouterr().out == f"{tmp_path / 'steps.py'} is not what generate.py writes\n"
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert GENERATOR.main() == 0
    assert (tmp_path / "steps.py").read_text() == "steps"


def undocumented(path: Path) -> list[str]:
    """Public functions, classes, methods and fields of typed dicts and reports without a text."""
    found = []

    def look(body: list[ast.stmt], within: str, fields: bool) -> None:
        for index, node in enumerate(body):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                name = f"{within}{node.name}"
                hidden = node.name.startswith("_")
                overloaded = isinstance(node, ast.FunctionDef) and node.name.startswith("__")
                if not hidden and not overloaded and not ast.get_docstring(node):
                    found.append(name)
                if isinstance(node, ast.ClassDef) and not hidden:
                    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                    declares = bases & {"TypedDict", "Record"} or any(base.endswith("Options") for base in bases)
                    look(node.body, f"{name}.", bool(declares))
            elif fields and isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                after = body[index + 1] if index + 1 < len(body) else None
                text = after.value if isinstance(after, ast.Expr) else None
                if not node.target.id.startswith("_") and not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                    found.append(f"{within}{node.target.id}")

    look(ast.parse(path.read_text()).body, "", False)
    return found


@pytest.mark.parametrize(
    "name", ["__init__", "__main__", "_calls", "_data", "_errors", "_model", "_outcome", "_process", "steps", "reports"]
)
def test_everything_public_has_a_text(name: str) -> None:
    path = Path(secateur.__file__).parent / f"{name}.py"
    assert undocumented(path) == []


def test_the_search_for_texts_finds_what_has_none(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('def a(): ...\nclass B(TypedDict):\n    """Text."""\n    c: int\n    d: int\n    """Text."""\n')
    assert undocumented(path) == ["a", "B.c"]


@pytest.mark.parametrize("step", STEPS)
def test_every_option_has_a_text(step: str) -> None:
    text = inspect.getdoc(function(step)) or ""
    arguments = text.split("Args:")[1]
    for name in inspect.signature(function(step)).parameters:
        assert re.search(rf"^    {name}: \S", arguments, re.MULTILINE), name


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({"jobs": 0}, "option-value", "jobs: 0"),
        ({"jobs": 5000}, "option-value", "4096"),
        ({"jobs": 2.0}, "option-value", "jobs"),
        ({"seed": -1}, "option-value", "seed"),
        ({"seed": 2**64}, "option-value", "seed"),
        ({"compare": 1}, "option-value", "compare: 1 is not True or False"),
        ({"verify_time": float("nan")}, "option-value", "finite"),
        ({"verify_time": -1}, "option-value", "seconds"),
        ({"max_growth": "5"}, "option-value", "max_growth"),
        ({"bind": {"batch": 1.5}}, "option-value", "1.5"),
        ({"bind": ["batch"]}, "option-value", "mapping"),
        ({"sizes": {"batch": "x"}}, "option-value", "'x'"),
        ({"sizes": {1: 1}}, "option-value", "1 is not a str"),
        ({"tolerance": {"float": "x"}}, "option-value", "'x'"),
        ({"tolerance": {"flaot": 0.1}}, "usage", "flaot"),
        ({"keep": [1]}, "option-value", "1 is not a str"),
        ({"keep": ["("]}, "keep-pattern", "("),
        ({"only": {"exact": 1}}, "option-value", "sequence"),
        ({"gates": ["acuracy.at-least=1"]}, "usage", "acuracy"),
        ({"engine": "onnx"}, "option-value", "'tract' or 'ort'"),
        ({"refused": "ignore"}, "option-value", "raise, return"),
        ({"progress": "yes"}, "option-value", "progress"),
        ({"output": 5}, "option-value", "output: 5 is not a path"),
        ({"alow_unchanged": True}, "unknown-option", "did you mean `allow_unchanged`?"),
        ({"safty": "exact"}, "unknown-option", "did you mean `safety`?"),
        ({"against": "model.onnx"}, "unknown-option", "against"),
        ({"safety": "exactly"}, "option-value", "exact"),
        ({"step_fuel": float("inf")}, "option-value", "inf"),
        ({"step_fuel": object()}, "option-value", "object"),
    ],
)
def test_options_that_are_wrong(given: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.simplify(MLP, **given)
    assert caught.value.code == code
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: secateur.verify(MLP, MLP, refused="return"),  # type: ignore[call-arg]
        lambda: secateur.verify(MLP, MLP, against=MLP),  # type: ignore[call-arg]
        lambda: secateur.evaluate(MLP, CALIBRATION, compare=True),  # type: ignore[call-arg]
        lambda: secateur.stats(MLP, CALIBRATION, gates=[]),  # type: ignore[call-arg]
        lambda: secateur.features(MLP, "auto", "f.npz", CALIBRATION, force=True),  # type: ignore[call-arg]
        lambda: secateur.bisect(secateur.Pipeline.preset("simplify"), MLP, localize=True),  # type: ignore[call-arg]
        lambda: secateur.run("simplify", MLP, calibrate="mse"),  # type: ignore[call-arg]
    ],
)
def test_no_function_ignores_what_it_does_not_know(call: Any) -> None:
    with pytest.raises(secateur.InputError) as caught:
        call()
    assert caught.value.code == "unknown-option"


def test_scalars_and_paths_of_other_packages(numpy: ModuleType, tmp_path: Path) -> None:
    outcome = secateur.simplify(
        CNN_BN,
        seed=numpy.int64(3),
        verify_time=numpy.float32(1.5),
        sizes={"batch": numpy.int32(2)},
        output=tmp_path / "out.onnx",
        only="exact",
        rules=(),
        strict=numpy.bool_(False),
        max_growth=numpy.array(0.5),
    )
    assert outcome.accepted
    merged = secateur.Pipeline.of(("transfer-merge", {"with": [MLP], "weights": numpy.array([0.25, 0.75]), "align": numpy.True_}))
    assert merged.variables["transfer-merge.weights"] == [0.25, 0.75]
    assert merged.variables["transfer-merge.align"] is True
    for wrong in ({"max_growth": numpy.array([0.5, 0.5])}, {"seed": numpy.array([1])}, {"seed": numpy.float64(1)}):
        with pytest.raises(secateur.InputError):
            secateur.simplify(CNN_BN, **wrong)
    assert (tmp_path / "out.onnx").is_file()


def test_runs_take_the_options_of_the_command_line(tmp_path: Path) -> None:
    outcome = secateur.simplify(CNN_BN, output=tmp_path / "out.onnx", report=tmp_path / "report.md", bind={"batch": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "report.md"]
    assert outcome.report.output == str(tmp_path / "out.onnx")
    assert outcome.result.inputs[0].shape == (1, 1, 8, 8)
    dry = secateur.simplify(CNN_BN, dry_run=True, output=tmp_path / "dry.onnx")
    assert not (tmp_path / "dry.onnx").exists()
    assert dry.report.steps
    copied = Path(shutil.copy(CNN_BN, tmp_path / "place.onnx"))
    before = copied.read_bytes()
    secateur.simplify(copied, in_place=True)
    assert copied.read_bytes() != before
    assert b"secateur" not in secateur.simplify(CNN_BN, provenance=False).result.to_bytes()


def test_what_steps_leave_beside_the_model(tmp_path: Path) -> None:
    history = tmp_path / "history.json"
    outcome = secateur.prune_channels(MLP, ratio=0.5, history=history)
    assert list(outcome.files) == [str(history)]
    assert not history.exists()
    saved = outcome.save(tmp_path / "out.onnx")
    assert set(saved.files) == {str(history), str(tmp_path / "out.onnx")}
    assert json.loads(history.read_text()) == json.loads(outcome.files[str(history)])
    again = secateur.prune_channels(MLP, replay=history, provenance=False).result
    assert secateur.difference(again, outcome).constants == ()


def test_statistics_have_the_defaults_of_the_command_line() -> None:
    text = (ROOT / "docs" / "cli" / "stats.md").read_text()
    page = re.search(r"^# secateur stats\n(.*?)(?:^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert page is not None
    parameters = inspect.signature(secateur.stats).parameters
    rows = re.search(r"--rows-per-sample.*?\[default: (\d+)\]", page[1], re.DOTALL)
    loss = re.search(r"--loss <LOSS>.*?\[default: ([a-z-]+)\]", page[1], re.DOTALL)
    assert rows is not None
    assert loss is not None
    assert parameters["rows_per_sample"].default == int(rows[1])
    assert parameters["loss"].default == loss[1]
    words = re.search(r"--loss <LOSS>.*?Possible values:\n(.*?)\n\n", page[1], re.DOTALL)
    assert words is not None
    found = re.findall(r"- ([a-z-]+):", words[1])
    assert all(repr(word) in str(parameters["loss"].annotation) for word in found)
    assert len(found) == 3


def test_bind_takes_sizes_by_position() -> None:
    assert secateur.bind(MLP, {"batch": 4}).result.inputs[0].shape == (4, 1, 8, 8)
    assert secateur.bind(MLP, step_sizes={"input[0]": 2}).result.inputs[0].shape == (2, 1, 8, 8)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "given",
    [{"engine_time": 0}, {"engine_time": -1}, {"engine_time": float("nan")}, {"engine_memory": 0}, {"engine_memory": 1.5}],
)
def test_what_cannot_be_configured(given: dict[str, Any]) -> None:
    with pytest.raises(secateur.InputError) as caught:
        secateur.configure(**given)
    assert caught.value.value == next(iter(given))


def test_pipelines_are_made_of_steps_with_options() -> None:
    pipeline = secateur.Pipeline.of("simplify", ("quantize", {"per_channel": False, "step_data": "training"}))
    assert pipeline.steps == ("simplify", "quantize")
    assert pipeline.variables["quantize.per-channel"] is False
    assert pipeline.variables["quantize.data"] == "training"
    further = pipeline.then("bind", sizes={"batch": 1}).set("quantize.per-channel", True)
    assert further.variables["quantize.per-channel"] is True
    assert pipeline.steps == ("simplify", "quantize"), "the one before stays as it is"
    assert secateur.Pipeline.parse(further.to_yaml()).variables == further.variables
    assert set(secateur.Pipeline.presets()) == {"edge-int8", "prune-recover", "simplify"}
    with pytest.raises(secateur.InputError):
        secateur.Pipeline.of()
    with pytest.raises(secateur.InputError):
        pipeline.then("simplfy")
    with pytest.raises(secateur.InputError):
        pipeline.set("quantize.calibrat", "mse")


def test_pipelines_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pipeline.yaml"
    shutil.copy(CALIBRATION, tmp_path / "calibration.npz")
    file.write_text("data: { calibration: { npz: calibration.npz, samples: 8 } }\nsteps: [quantize]\n")
    monkeypatch.chdir(tmp_path)
    wanted = secateur.run("pipeline.yaml", MLP, provenance=False).result.to_bytes()
    assert secateur.Pipeline.open(file).run(MLP, provenance=False).result.to_bytes() == wanted
    pickled = pickle.dumps(secateur.Pipeline.open("pipeline.yaml"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).run(MLP, provenance=False).result.to_bytes() == wanted
    assert secateur.run(file, MLP, provenance=False).result.to_bytes() == wanted
    other = secateur.run(file, MLP, provenance=False, data={"input": pixels(8)})
    assert other.result.to_bytes() != wanted, "data of the call go before those of the file"


def test_explanations() -> None:
    found = secateur.explain("quantize")
    assert "--calibrate" in found or "calibrate" in found
    assert found.document["name"] == "quantize"
    why = secateur.explain("conv-batch-norm", model=CNN_BN, node=secateur.Model(CNN_BN).nodes[0].name)
    assert why.document
    with pytest.raises(secateur.InputError) as caught:
        secateur.explain("quantise")
    assert caught.value.hint == "did you mean `quantize`?"
    with pytest.raises(secateur.InputError):
        secateur.explain("quantize", node="n")
