#!/usr/bin/env python3
"""Writes what is made from the book for programs that read it: `llms.txt`, a list of its pages, and `docs/skill/SKILL.md`, how to use secateur.

usage: generate.py [--check]

The list has the pages of SUMMARY.md, each with the beginning of its text. The skill is `skill/template.md`, in which a line
`{{commands PAGE#HEADING}}` stands for the commands of secateur in that part of a page (all of a page without a heading), `{{files ...}}` for the
files that it writes, and `{{table ...}}` for its first table. So what the skill says has run in a test. With --check nothing is written,
and the status is 1 where a file is not what it would be.
"""

import argparse
import os
import re
import sys

DOCS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(DOCS)
LINE = 240
ABOUT = "Rewrites ONNX models before deployment (simplify, prune, quantize, transfer) and proves by running both models that the result still computes what it should."


def read(*parts):
    with open(os.path.join(DOCS, *parts), encoding="utf-8") as file:
        return file.read()


def summary():
    """(part, title, page) in the order of the book."""
    part, found = "The book", []
    for line in read("SUMMARY.md").splitlines()[1:]:
        heading = re.match(r"# (.+)", line)
        entry = re.match(r"(?:- )?\[(.+)\]\((.+)\)$", line.strip())
        if heading:
            part = heading[1]
        elif entry:
            found.append((part, entry[1], entry[2]))
    return found


def beginning(page):
    """The first sentences of a page's text, without markup: whole ones, and no more than a line can hold."""
    text = re.sub(r"^<!--.*?-->$", "", read(page), flags=re.M | re.S)
    for paragraph in re.split(r"\n\s*\n", text):
        if re.match(r"#|```|\||- |<| {4}", paragraph.strip("\n")):
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
        sentences = re.split(r"(?<=[^A-Z]\.)\s(?=[A-Z`])", plain)
        kept = sentences[0]
        for sentence in sentences[1:]:
            if len(kept) + len(sentence) >= LINE:
                break
            kept += " " + sentence
        return re.sub(r":$", ".", kept.removesuffix(" Begin in an empty folder:"))
    raise ValueError(f"{page} has no text")


def llms():
    lines = ["# secateur", "", f"> {ABOUT}", "", "How to use it, with commands that have run: [docs/skill/SKILL.md](docs/skill/SKILL.md)."]
    part = None
    for here, title, page in summary():
        if here != part:
            lines += ["", f"## {here}", ""]
            part = here
        lines.append(f"- [{title}](docs/{page}): {beginning(page)}")
    return "\n".join(lines) + "\n"


def part_of(place):
    """The lines of a page, or of its part under a heading."""
    page, _, heading = place.partition("#")
    lines, depth, inside, fenced = [], 0, not heading, False
    for line in read(page).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        title = None if fenced else re.match(r"(#+) (.+)", line)
        if title and heading:
            if title[2] == heading:
                inside, depth = True, len(title[1])
                continue
            if inside and len(title[1]) <= depth:
                break
        if inside:
            lines.append(line)
    if not lines:
        raise ValueError(f"there is no {place}")
    return lines


def blocks(place):
    """(kind, lines) of the blocks in a part of a page, but those that are not run."""
    kind, held, skip, found = None, [], False, []
    for line in part_of(place):
        if line.startswith("```") and kind is None:
            kind, held = line[3:], []
        elif line == "```":
            if not skip:
                found.append((kind, held))
            kind, skip = None, False
        elif kind is not None:
            held.append(line)
        else:
            skip = line.startswith("<!-- not run") or skip and not line.strip()
    return found


def commands(place):
    """Commands of secateur without what they print."""
    lines = []
    for kind, held in blocks(place):
        going_on = False
        for line in held if kind == "console" else []:
            if line.startswith("$ secateur ") or going_on:
                lines.append(line[2:] if line.startswith("$ ") else line)
                going_on = line.endswith("\\")
            else:
                going_on = False
    if not lines:
        raise ValueError(f"no commands at {place}")
    return ["```sh", *lines, "```"]


def files(place):
    found = [["```" + kind, *held, "```"] for kind, held in blocks(place) if kind != "console" and held and re.match(r"# [\w./-]+\.\w+$", held[0])]
    if not found:
        raise ValueError(f"no files at {place}")
    return [line for block in found for line in block]


def table(place):
    lines = part_of(place)
    start = next((at for at, line in enumerate(lines) if line.startswith("|")), None)
    if start is None:
        raise ValueError(f"no table at {place}")
    end = next((at for at in range(start, len(lines)) if not lines[at].startswith("|")), len(lines))
    return lines[start:end]


def skill():
    makers = {"commands": commands, "files": files, "table": table}
    lines = []
    for line in read("skill", "template.md").splitlines():
        asked = re.fullmatch(r"\{\{(\w+) (.+)\}\}", line)
        lines += makers[asked[1]](asked[2]) if asked else [line]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a file is stale")
    args = parser.parse_args()
    stale = []
    for path, text in ((os.path.join(ROOT, "llms.txt"), llms()), (os.path.join(DOCS, "skill", "SKILL.md"), skill())):
        try:
            with open(path, encoding="utf-8") as file:
                same = file.read() == text
        except FileNotFoundError:
            same = False
        if not same and not args.check:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        if not same:
            stale.append(os.path.relpath(path, ROOT))
    for path in stale:
        print(f"{path}: {'stale, python3 docs/generate.py renews it' if args.check else 'written'}")
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
