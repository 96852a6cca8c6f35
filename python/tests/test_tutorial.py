"""The code on pages runs: blocks of a page one after the other, in a folder with the files that it names."""

from __future__ import annotations

import ast
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from subjects import FIXTURES, ROOT, pixels

import secateur

#: A block, and a mark before it where it cannot run here.
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {
    "digits.onnx": "digits_cnn_bn.onnx",
    "model.onnx": "digits_cnn_bn.onnx",
    "calibration.npz": "data/digits_calib.npz",
    "test.npz": "data/digits_test.npz",
    "target.onnx": "state_dict/target.onnx",
    "weights.safetensors": "state_dict/weights.safetensors",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a page."""
    for name, fixture in FILES.items():
        shutil.copy(FIXTURES / fixture, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: Path, given: dict[str, Any]) -> tuple[int, int]:
    """Runs the blocks of a page in one namespace; answers how many ran, and how many are marked as not to be run."""
    text = page.read_text()
    ran = marked = 0
    assert text.count("```python") == len(BLOCK.findall(text))
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(2))
        code = compile("\n" * line + block[2], str(page), "exec")
        if block[1]:
            marked += 1
            continue
        exec(code, given)  # the page's own code
        ran += 1
    return ran, marked


@pytest.mark.usefixtures("numpy")
def test_the_tutorial_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    given: dict[str, Any] = {}
    ran, marked = run(ROOT / "docs" / "python.md", given)
    assert ran > 15
    assert marked == 1, "the recipe that needs PyTorch"
    assert {"simple.onnx", "int8.onnx"} <= {path.name for path in folder.iterdir()}
    assert given["compared"].holds is False
    assert given["found"].accepted
    said = capsys.readouterr().out
    for part in ("verdict: within", "above 0.1", "'emb.weight': 'loaded'", "0.5 False", "0.95 True", "did you mean `simplify`?"):
        assert part in said


def test_the_readme_of_the_package_runs(folder: Path) -> None:
    ran, marked = run(ROOT / "python" / "README.md", {"batches": [pixels(4), pixels(4, 1)]})
    assert (ran, marked) == (1, 0)
    assert (folder / "int8.onnx").is_file()


def test_the_readme_of_the_project_runs(folder: Path) -> None:
    ran, marked = run(ROOT / "README.md", {"batches": [pixels(4), pixels(4, 1)]})
    assert (ran, marked) == (1, 0)
    assert (folder / "int8.onnx").is_file()


def test_a_page_that_is_wrong_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: example -->\n```python\nraise ValueError\n```\n\n```python\nraise KeyError\n```\n")
    with pytest.raises(KeyError):
        run(page, {})
    page.write_text("<!-- not run: example -->\n```python\nno python\n```\n")
    with pytest.raises(SyntaxError):
        run(page, {})


def declared(name: str) -> dict[str, str]:
    """The keywords of a class of options in the source, those of its bases last, and their texts as a page has them."""
    tree = ast.parse((ROOT / "python" / "secateur" / "_outcome.py").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = {}
    for field, text in zip(classes[name].body, classes[name].body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            words = " ".join(str(ast.literal_eval(text.value)).split()).replace("``", "`")
            found[field.target.id] = re.sub(r":class:`(\w+)`", r"`\1`", words)
    for base in classes[name].bases:
        assert isinstance(base, ast.Name)
        found.update(declared(base.id) if base.id in classes else {})
    return found


def test_the_table_of_options_is_that_of_the_source() -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    section = re.search(r"^## Options of every run\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section[1], re.MULTILINE)
    assert rows == list(declared("RunOptions").items())
    assert {name for name, _ in rows} == set(secateur.RunOptions.__annotations__)


def test_links_of_the_tutorial_lead_somewhere() -> None:
    page = ROOT / "docs" / "python.md"
    text = page.read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        name, _, heading = link.partition("#")
        assert not name or (page.parent / name).is_file(), link
        assert name or heading in headings, link
