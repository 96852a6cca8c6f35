"""Tables under docs/ are those of their data: docs/probes.md of docs/data/probes.json, docs/simplify-table.md of docs/data/peers-simplify.json.

Both are written anew from the data and compared as a whole, and each table has a row for each entry and a column for each tool. Where a peer
leaves fewer nodes, the page has the reason.
"""

import copy
import json
import os
import re
import sys

import probe_models
import probes
import tool

sys.path.insert(0, os.path.join(tool.ROOT, "benches", "compare"))

import simplify_peers  # noqa: E402  (beside the benchmarks)


def rows(text):
    """Cells of each line of the last table of a page, the head first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text[text.rindex("\n\n|") :].splitlines() if line.startswith("|")]
    return [lines[0], *lines[2:]]


def check_page(report, name, page, made, entries, tools):
    """A page beside what its data give; `entries` are the first cells of its rows."""
    with open(page) as file:
        text = file.read()
    differ = [f"line {at + 1}" for at, (left, right) in enumerate(zip(text.splitlines(), made.splitlines())) if left != right]
    same = text == made
    report.passed(name) if same else report.failed(name, f"is not what its data give: {', '.join(differ[:5]) or 'another length'}")
    head, *body = rows(text)
    found = [row[0] for row in body]
    report.passed(f"{name} rows") if found == entries else report.failed(f"{name} rows", f"{sorted(set(found) ^ set(entries))[:5]}")
    missing = [tool_name for tool_name in tools if not any(re.fullmatch(rf"{tool_name}( nodes)?", cell) for cell in head)]
    report.failed(f"{name} columns", f"no column for {missing}") if missing else report.passed(f"{name} columns")
    empty = [row[0] for row in body if len(row) != len(head)]
    report.failed(f"{name} cells", f"rows of another width: {empty[:5]}") if empty else report.passed(f"{name} cells")


def check(report, secateur):
    with open(probes.DATA) as file:
        data = json.load(file)
    titles = [probe.title for probe in probe_models.all_probes()]
    check_page(report, "docs/probes.md", probes.PAGE, probes.page(data), titles, probes.ORDER)
    names = [probe.name for probe in probe_models.all_probes()]
    for tool_name in probes.ORDER:
        outcomes = data["tools"].get(tool_name, {})
        wrong = sorted(set(outcomes) ^ set(names))
        report.failed(f"probes of {tool_name}", f"{wrong[:5]}") if wrong else report.passed(f"probes of {tool_name}")
    with open(simplify_peers.DATA) as file:
        data = json.load(file)
    check_page(report, "docs/simplify-table.md", simplify_peers.TABLE, simplify_peers.table(data), list(data["models"]), simplify_peers.TOOLS)
    open_ends = [name for name, _, _ in simplify_peers.with_fewer_nodes(data["models"]) if not simplify_peers.reason(name)]
    report.failed("fewer nodes elsewhere", f"no reason for {open_ends}") if open_ends else report.passed("fewer nodes elsewhere")
    # A figure that changes has to change the page.
    other = copy.deepcopy(data)
    next(iter(other["models"].values()))["secateur"]["nodes"] += 1
    changed = simplify_peers.table(other) != simplify_peers.table(data)
    report.passed("a changed figure") if changed else report.failed("a changed figure", "the table stays the same")
