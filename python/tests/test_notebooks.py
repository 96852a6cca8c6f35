"""What notebooks show: well-formed HTML, in which names of a model are text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from subjects import CNN_BN, FIXTURES, MLP, TEST, chain_model, pixels

import secateur

NAME = '<script>alert("&")</script>'
#: Elements that have no end.
VOID = {"br", "hr", "img", "meta", "link", "col"}


class Checker(HTMLParser):
    """Notes elements that are not closed, or closed in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(html: str | None) -> Checker:
    """HTML that was read to its end."""
    assert html
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.wrong == []
    assert checker.open == []
    return checker


def test_the_check_finds_what_is_not_closed() -> None:
    for html in ("<table><tr></table>", "<b>", "</b>"):
        with pytest.raises(AssertionError):
            checked(html)


SHOWN: dict[str, Any] = {
    "Model": lambda: secateur.Model(MLP),
    "Outcome": lambda: secateur.simplify(CNN_BN),
    "Outcome of a plan": lambda: secateur.quantize(MLP, data={"input": pixels(8)}),
    "Outcome that is refused": lambda: secateur.simplify(CNN_BN, gates=["size.at-most=0.01"], refused="return"),
    "RunReport": lambda: secateur.simplify(CNN_BN).report,
    "Verification": lambda: secateur.verify(MLP, FIXTURES / "digits_cnn.onnx", localize=True),
    "EvaluationReport": lambda: secateur.evaluate(MLP, secateur.Data(TEST).samples(8), latency_runs=0),
}


@pytest.mark.parametrize("name", SHOWN)
def test_html_is_well_formed(name: str) -> None:
    found = checked(SHOWN[name]()._repr_html_())
    assert {"table", "tr", "td"} <= found.seen
    assert "script" not in found.seen


def test_html_says_what_text_says() -> None:
    outcome = secateur.simplify(CNN_BN)
    found = checked(outcome._repr_html_())
    assert "parameters" in found.text
    assert "within" in found.text
    assert outcome._repr_html_() == outcome.report._repr_html_()


def test_names_are_text() -> None:
    model = secateur.Model(chain_model(2, 64, input_name=NAME, node_name=NAME))
    assert model.inputs[0].name == NAME
    assert NAME in checked(model._repr_html_()).text
    outcome = secateur.quantize_weights(model, minimum_elements=1)
    verified = secateur.verify(model, outcome, localize=True, per_node=True)
    for shown in (outcome, outcome.report, verified):
        assert "script" not in checked(shown._repr_html_()).seen
    other = secateur.extract(model, outputs=["v0"], compare=False)
    assert "script" not in checked(secateur.verify(other, other)._repr_html_()).seen


def test_records_without_a_page_are_shown_as_text() -> None:
    step = secateur.simplify(CNN_BN).report.steps[0]
    assert step._repr_html_() is None, "so that a notebook takes the text"
    assert repr(step).startswith("StepReport(name='simplify'")
