"""The code of the pages for people who come from other packages runs as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("onnx")

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ["coming-from-onnxsim.md", "coming-from-onnxruntime.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks():
    """Each block of Python code, with its page and number."""
    for page in PAGES:
        for number, code in enumerate(BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))):
            yield pytest.param(code, id=f"{page.removesuffix('.md')}-{number}")


def test_pages_have_code():
    assert [len(BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))) >= 4 for page in PAGES] == [True, True]


@pytest.mark.parametrize("code", list(blocks()))
def test_a_block_runs_by_itself(fixtures, tmp_path, code):
    shutil.copy(fixtures / "digits_cnn_bn.onnx", tmp_path / "model.onnx")
    shutil.copy(fixtures / "data" / "digits_calib.npz", tmp_path / "calibration.npz")
    before = {path.name for path in tmp_path.iterdir()}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named = set(re.findall(r'"([a-z0-9]+\.onnx)"', code)) - {"model.onnx"}
    written = {path.name for path in tmp_path.iterdir()} - before
    # What is refused is not written.
    assert written == (set() if "except secateur.InputError" in code else named)


@pytest.mark.parametrize("page", PAGES)
def test_pages_that_are_linked_to_are_there(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert links and all((DOCS / link).is_file() for link in links)


def test_options_that_the_page_calls_refused_are_those_that_are():
    from secateur.compat.onnxruntime import _extra_options

    text = (DOCS / "coming-from-onnxruntime.md").read_text(encoding="utf-8")
    paragraph = text[text.index("Refused: QOperator") : text.index("Accuracy, size")]
    named = {name.split("=")[0] for name in re.findall(r"`([^`]+)`", paragraph)}
    assert set(_extra_options._STATIC) <= named


def test_arguments_that_the_page_calls_refused_are_those_that_are():
    from secateur.compat import onnxsim, onnxslim

    text = (DOCS / "coming-from-onnxsim.md").read_text(encoding="utf-8")
    paragraph = text[text.index("Refused by `simplify`") :]
    named = {name.split("=")[0] for name in re.findall(r"`([^`]+)`", paragraph)}
    grouped = {"profile", "ort_profile", "merge_ort_profile", "check_hazards", "check_gradients"}
    assert {*onnxsim._REFUSED, *onnxsim._CHECKING, *onnxslim._REFUSED} - grouped <= named
