#!/usr/bin/env python3
"""What CI shows of a result: a summary and a comment in Markdown, annotations of GitHub, test cases for GitLab and others.

`summary.py write` makes them out of what `secateur --json` printed. `summary.py comment` puts the comment on a pull request, by `gh`, and
over its own earlier one. A run may take minutes, and `--format` and `--report` give two of its forms; so the others are made here, of one
run. Python's standard library is all it needs. Every text that comes from a model or a file name is escaped for
where it goes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from xml.sax.saxutils import escape, quoteattr

WORDS = {0: "passed", 1: "the answer is no", 2: "could not be done", 130: "interrupted"}
MARKS = {0: ":white_check_mark:", 1: ":x:", 2: ":warning:"}
LEVELS = ("note", "warning", "error")
LONGEST = 60000  # a comment of GitHub holds 65,536 characters
NOT_FOR_TERMINALS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def plain(text):
    """A text on one line, without what steers terminals or breaks XML."""
    return " ".join(NOT_FOR_TERMINALS.sub("?", str(text)).split())


def cell(text):
    """A text as it stands in a cell of Markdown: no markup, no mention, no break of the table."""
    text = re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", plain(text))
    return text.replace("@", "@\u200b")


def command_value(text, is_property=False):
    """A text in a workflow command of GitHub."""
    text = plain(text).replace("%", "%25")
    return text.replace(":", "%3A").replace(",", "%2C") if is_property else text


def size(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"


def change(before, after):
    return "=" if before == after else f"{(after - before) / before:+.1%}" if before else ""


class Result:
    """A stored result and what it says."""

    def __init__(self, document, command, model, status, baseline=None):
        self.document = document if isinstance(document, dict) else {}
        self.command = command
        self.model = model
        self.status = status
        self.baseline = baseline if isinstance(baseline, dict) else None

    def compared(self):
        """Whether a baseline stands behind the findings."""
        return self.command == "ci" or self.baseline is not None

    def error(self):
        found = self.document.get("error")
        return found if isinstance(found, dict) else None

    def verdict(self):
        return self.document.get("verdict")

    def gates(self):
        """(name, whether it holds, what it says)."""
        return [(gate.get("name", ""), bool(gate.get("passed")), gate.get("message", "")) for gate in self.document.get("gates") or []]

    def findings(self):
        """(code, level, place, what it says): of `check` what it found, of `ci` every figure that is worse or gone. What is denied is an error."""
        denied = LEVELS.index(self.document["deny"]) if self.document.get("deny") in LEVELS else len(LEVELS) - 1
        for finding in self.document.get("findings") or []:
            place, level = finding.get("place") or {}, finding.get("severity", "error")
            where = " > ".join(place[part] for part in ("graph", "node", "value") if place.get(part))
            said = ". ".join(text.rstrip(".") for text in (finding.get("message"), finding.get("cure")) if text)
            yield finding.get("code", ""), "error" if level in LEVELS[denied:] else level, where, said
        compared = self.document if self.command == "ci" else self.baseline or {}
        for result in compared.get("results") or []:
            name = result.get("name", "")
            for figure in result.get("worse") or []:
                yield figure.get("figure", ""), "error", name, f"is {number(figure.get('found'))}, it was {number(figure.get('accepted'))}"
            for figure in result.get("missing") or []:
                yield figure, "error", name, "is no longer there"
            if not result.get("known", True):
                yield "baseline", "error", name, "the baseline does not know this result; --update takes it in"
            if not result.get("accepted", True):
                yield "accepted", "error", name, f"the result was not accepted itself: {result.get('verdict', '')}"
        for name in compared.get("absent") or []:
            yield "baseline", "warning", name, "the baseline has this result, and it was not given"

    def outputs(self):
        """(name, verdict, largest error, SQNR) of each output."""
        compared = self.document.get("verify") or self.document
        for output in compared.get("outputs") or []:
            yield output.get("name", ""), output.get("verdict", ""), output.get("max_abs"), output.get("sqnr_db")

    def costs(self):
        """(figure, before, after) as numbers."""
        before, after = self.document.get("before") or {}, self.document.get("after") or {}
        for name in ("nodes", "parameters", "bytes", "macs"):
            if isinstance(before.get(name), (int, float)) and isinstance(after.get(name), (int, float)):
                yield name, before[name], after[name]

    def figures(self):
        """(figure, model, reference) of an evaluation."""
        found = self.document if "samples" in self.document and "verdict" not in self.document else self.document.get("evaluation")
        if not isinstance(found, dict):
            return
        against = found.get("against") or {}
        for name in ("accuracy", "f1"):
            if isinstance(found.get(name), (int, float)):
                yield name, found[name], against.get(name)
        for name, value in ((found.get("task") or {}).get("figures") or {}).items():
            if isinstance(value, (int, float)):
                yield name, value, None

    def headline(self):
        """One sentence that says how it ended."""
        if self.error():
            return f"{self.command}: {plain(self.error().get('message', ''))}"
        broken = [name for name, holds, _ in self.gates() if not holds]
        if self.status == 1 and broken:
            return f"{self.command}: broken: {', '.join(map(plain, broken))}"
        worse = sum(level == "error" for _, level, _, _ in self.findings())
        if self.status == 1 and worse:
            return f"{self.command}: {worse} {'figures do' if worse > 1 else 'figure does'} not hold" if self.compared() else f"{self.command}: {worse} errors"
        if self.status == 1 and self.verdict():
            return f"{self.command}: outputs are {plain(self.verdict())}"
        said = f", outputs are {plain(self.verdict())}" if self.verdict() else ""
        return f"{self.command}: {WORDS.get(self.status, f'status {self.status}')}{said}"


def table(header, rows):
    rows = [row for row in rows]
    if not rows:
        return []
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def number(value):
    return "" if not isinstance(value, (int, float)) else f"{value:.4g}"


def markdown(result, name):
    lines = [f"### {MARKS.get(result.status, MARKS[2])} {cell(name)}: {cell(result.headline())}", "", f"`{plain(result.model).replace('`', '')}`", ""]
    lines += table(("gate", "", ""), [(cell(gate), "passed" if holds else "**broken**", cell(said)) for gate, holds, said in result.gates()])
    lines += table(("code", "level", "place", ""), [tuple(map(cell, finding)) for finding in result.findings()])
    shown = {"bytes": size}
    costs = [(cost, shown.get(cost, "{:,}".format)(before), shown.get(cost, "{:,}".format)(after), change(before, after)) for cost, before, after in result.costs()]
    lines += table(("", "before", "after", "change"), costs)
    figures = [(cell(figure), f"{value:.4f}", f"{reference:.4f}" if isinstance(reference, (int, float)) else "") for figure, value, reference in result.figures()]
    lines += table(("figure", "model", "reference"), figures)
    outputs = [(cell(output), cell(verdict), number(error), number(ratio)) for output, verdict, error, ratio in result.outputs()]
    lines += table(("output", "verdict", "max abs", "SQNR dB"), outputs)
    for warning in result.document.get("warnings") or []:
        lines.append(f"- {cell(warning)}")
    hint = (result.error() or {}).get("hint")
    if hint:
        lines.append(f"- {cell(hint)}")
    return "\n".join(lines).rstrip() + "\n"


def marker(name):
    """The line by which a comment is known again; a name cannot end it."""
    return f"<!-- secateur: {re.sub(r'[^A-Za-z0-9._ -]', '', name)} -->"


def comment(result, name):
    text = f"{marker(name)}\n{markdown(result, name)}"
    server, repository, run = (os.environ.get(f"GITHUB_{part}", "") for part in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    link = f"\n[report and log]({server}/{repository}/actions/runs/{run})\n" if server and repository and run else ""
    return text[: LONGEST - len(link)] + link


def annotations(result, name):
    """Workflow commands: one for what failed, one for each warning."""
    title = command_value(name, True)
    place = f"file={command_value(result.model, True)}," if os.path.isfile(result.model) else ""
    if result.status == 0:
        yield f"::notice {place}title={title}::{command_value(result.headline())}"
    elif not any(not holds for _, holds, _ in result.gates()) and not list(result.findings()):
        yield f"::error {place}title={title}::{command_value(result.headline())}"
    for gate, holds, said in result.gates():
        if not holds:
            yield f"::error {place}title={title}%3A {command_value(gate, True)}::{command_value(said)}"
    for code, level, where, said in result.findings():
        word = {"error": "error", "warning": "warning"}.get(level, "notice")
        yield f"::{word} {place}title={title}%3A {command_value(code, True)}::{command_value(f'{where}: {said}' if where else said)}"
    for warning in result.document.get("warnings") or []:
        yield f"::warning {place}title={title}::{command_value(warning)}"


def junit(result, name):
    """Test cases: one for each gate, output and finding, and one for the whole where there is none of these."""
    kind = f"secateur.{result.command}"
    cases = [(f"gate {gate}", None if holds else said) for gate, holds, said in result.gates()]
    judged = result.command == "verify" or result.status == 1 and not cases
    cases += [(f"output {output}", None if verdict in ("equal", "within") or not judged else verdict) for output, verdict, _, _ in result.outputs()]
    cases += [(f"{code} {where}".strip(), said if level == "error" else None) for code, level, where, said in result.findings()]
    broken = result.status not in (0, 1)
    if broken or not cases or (result.status == 1 and all(why is None for _, why in cases)):
        cases.append((result.command, None if result.status == 0 else result.headline()))
    word = "error" if broken else "failure"
    failed = sum(why is not None for _, why in cases)
    failures, errors = (0, failed) if broken else (failed, 0)
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}"'
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites name={quoteattr(plain(name))} {counts}>", f"  <testsuite name={quoteattr(plain(result.model) or kind)} {counts}>"]
    for case, why in cases:
        start = f"    <testcase classname={quoteattr(kind)} name={quoteattr(plain(case))}"
        lines.append(f"{start}/>" if why is None else f"{start}><{word} message={quoteattr(plain(why))}>{escape(plain(why))}</{word}></testcase>")
    return "\n".join([*lines, "  </testsuite>", "</testsuites>", ""])


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def write(args):
    held = lambda file: os.path.join(args.reports, file)  # noqa: E731
    document = read(held("result.json"))
    if document is None:
        document = {"error": {"message": f"secateur ended with status {args.status} and printed no result", "hint": "the log has what it said"}}
    result = Result(document, args.command, args.model, args.status, read(held("baseline.json")))
    for file, text in (("summary.md", markdown(result, args.name)), ("comment.md", comment(result, args.name)), ("junit.xml", junit(result, args.name))):
        with open(held(file), "w", encoding="utf-8") as out:
            out.write(text)
    if args.annotate:
        for line in annotations(result, args.name):
            print(line)
    return 0


def pull_request():
    """The number of the pull request that a workflow runs for, or None."""
    event = read(os.environ.get("GITHUB_EVENT_PATH", ""))
    found = event.get("pull_request") if isinstance(event, dict) else None
    number = found.get("number") if isinstance(found, dict) else None
    return number if isinstance(number, int) else None


def gh(*arguments):
    done = subprocess.run(["gh", "api", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(plain(done.stderr) or f"gh ended with status {done.returncode}")
    return done.stdout


def pages(text):
    """The items of the arrays that `gh api --paginate` prints one after the other."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        items, at = decoder.raw_decode(text, at)
        yield from items


def post(args):
    number = pull_request()
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if number is None or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        print("::notice title=secateur::no comment: this is no run for a pull request")
        return 0
    body = f"body=@{os.path.join(args.reports, 'comment.md')}"
    try:
        listed = pages(gh("--paginate", f"repos/{repository}/issues/{number}/comments?per_page=100"))
        # Only a bot's comment is written over: anybody can write the marker.
        own = [item["id"] for item in listed if item.get("body", "").startswith(marker(args.name)) and (item.get("user") or {}).get("type") == "Bot"]
        if own:
            gh("-X", "PATCH", f"repos/{repository}/issues/comments/{own[0]}", "-F", body)
        else:
            gh("-X", "POST", f"repos/{repository}/issues/{number}/comments", "-F", body)
    except (OSError, ValueError) as error:
        print(f"::notice title=secateur::no comment: {command_value(error)}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for name, function in (("write", write), ("comment", post)):
        verb = verbs.add_parser(name)
        verb.set_defaults(function=function)
        verb.add_argument("--reports", required=True)
        verb.add_argument("--name", required=True)
        if function is write:
            verb.add_argument("--command", required=True)
            verb.add_argument("--model", default="")
            verb.add_argument("--status", type=int, required=True)
            verb.add_argument("--annotate", action="store_true")
    args = parser.parse_args()
    return args.function(args)


if __name__ == "__main__":
    sys.exit(main())
