"""The pages under docs/: every command on them runs and prints what the page shows, links lead somewhere, what is generated is up to date.

A page is one shell that starts in an empty folder; `~/secateur` is this checkout. In a block ```console a line `$ ...` is a command, what
follows is what it prints, `...` stands for any lines. A command ends with status 0 unless the next one is `echo $?`. Blocks of other
kinds whose first line is `# NAME` with an ending are files that the page asks for. Times may differ, and so may decimal figures
in their last places (`near`). Before a block may stand

    <!-- not run: REASON -->          what cannot run here
    <!-- needs: corpus -->            or `ort`, or `verb NAME`, or `option --NAME of VERB`: skipped, with the block, where that is not there
    <!-- starts with: fixtures -->    the page begins with a copy of fixtures/
    <!-- before: COMMAND -->          what a reader has done, and the page does not show

As a program it writes what commands print into the pages: `book.py --secateur BIN [PAGE ...]`. A command followed by a line `?` gets all
of it; where lines are left out by one `...`, as many stand before and after it as did.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tool

DOCS = os.path.join(tool.ROOT, "docs")
SECONDS = 1200
FENCE = re.compile(r"^```(\w*)$")
MARK = re.compile(r"^<!-- (not run|needs|starts with|before): (.+) -->$")
FILE = re.compile(r"^# ([\w.-]+(?:/[\w.-]+)*\.(?:yaml|yml|py|sh|tsv|txt))$")
TIME = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?\s?(?:ns|µs|ms|s|min)(?=[\s,);:]|$)")
TIMED = re.compile(r"latency|slower|faster|samples a second|peak memory")
SOMETIMES = re.compile(r"warning: the result is slower than the input")
NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
END = "\x1e"


class Command:
    def __init__(self, text, line):
        self.text = text
        self.line = line
        self.shown = []
        self.span = (line, line)
        self.failing = False
        self.status = None
        self.printed = None


class Block:
    def __init__(self, kind, line, marks):
        self.kind = kind
        self.line = line
        self.marks = marks
        self.lines = []

    def mark(self, word):
        return [text for name, text in self.marks if name == word]

    def file(self):
        """The name of the file that this block is, or None."""
        found = FILE.match(self.lines[0]) if self.lines and self.kind != "console" else None
        return found[1] if found else None

    def commands(self):
        """Commands with what is shown behind each; lines are counted from 0 in the page."""
        found = []
        for at, line in enumerate(self.lines, self.line + 1):
            if found and found[-1].text.endswith("\\\n") and not found[-1].shown:
                found[-1].text += line + "\n" if line.endswith("\\") else line
                found[-1].span = (at + 1, at + 1)
            elif line.startswith("$ "):
                found.append(Command(line[2:] + ("\n" if line.endswith("\\") else ""), at))
                found[-1].span = (at + 1, at + 1)
            elif found:
                found[-1].shown.append(line)
                found[-1].span = (found[-1].span[0], at + 1)
            else:
                raise ValueError(f"line {at + 1}: text before the first command of a block")
        for command, after in zip(found, found[1:]):
            command.failing = after.text.strip() == "echo $?"
        return found


def blocks_of(text):
    """Fenced blocks and the marks right before them."""
    found, marks, block = [], [], None
    for at, line in enumerate(text.splitlines()):
        fence = FENCE.match(line)
        if block is not None:
            if fence and not fence[1]:
                found.append(block)
                block = None
            else:
                block.lines.append(line)
        elif fence:
            block, marks = Block(fence[1], at, marks), []
        elif MARK.match(line):
            marks.append(MARK.match(line).groups())
        elif line.strip():
            marks = []
    if block is not None:
        raise ValueError(f"line {block.line + 1}: a block is not closed")
    return found


def pages():
    """Pages as paths below docs/, in the order of the book."""
    with open(os.path.join(DOCS, "SUMMARY.md")) as file:
        return [link for link in LINK.findall(file.read()) if link.endswith(".md")]


class Place:
    """What is there to run pages with."""

    def __init__(self, secateur):
        self.secateur = secateur
        self.known = {}

    def missing(self, need):
        """Why a need is not met, or None."""
        if need not in self.known:
            self.known[need] = self.look(need)
        return self.known[need]

    def look(self, need):
        words = need.split()
        if need == "corpus":
            return None if os.environ.get("SECATEUR_CORPUS") else "SECATEUR_CORPUS is not set"
        if need == "ort":
            try:
                return None if tool.onnxruntime_library() else "ONNX Runtime is not installed"
            except ImportError:
                return "ONNX Runtime is not installed"
        if words[0] == "verb":
            return None if self.secateur.run(*words[1:], "--help").code == 0 else f"this binary has no verb {' '.join(words[1:])}"
        if words[0] == "option" and words[2] == "of":
            text = self.secateur.run(*words[3:], "--help").stdout
            return None if re.search(rf"^ +(?:-\w, )?{re.escape(words[1])}\b", text, re.M) else f"this binary has no {words[1]} of {' '.join(words[3:])}"
        raise ValueError(f"no such need: {need}")

    def why_not(self, block):
        """Why a block does not run here, or None."""
        reasons = [reason for reason in map(self.missing, block.mark("needs")) if reason]
        return reasons[0] if reasons else None


def run_page(place, text):
    """Runs the commands of a page; gives them with status and output, and [(line, reason)] of blocks that were left out."""
    commands, skipped, script = [], [], ["exec 2>&1"]
    blocks = blocks_of(text)
    with tempfile.TemporaryDirectory(prefix="secateur-book-") as folder:
        work, home, binaries = (os.path.join(folder, name) for name in ("work", "home", "bin"))
        for path in (work, home, binaries):
            os.mkdir(path)
        if any(block.mark("starts with") for block in blocks):
            shutil.copytree(os.path.join(tool.ROOT, "fixtures"), work, dirs_exist_ok=True)
        os.symlink(tool.ROOT, os.path.join(home, "secateur"))
        os.symlink(place.secateur.binary, os.path.join(binaries, "secateur"))
        for number, block in enumerate(blocks):
            if block.mark("not run") or (block.kind != "console" and not block.file()):
                continue
            reason = place.why_not(block)
            if reason:
                skipped.append((block.line + 1, reason))
            elif block.file():
                held = os.path.join(folder, f"file-{number}")
                with open(held, "w") as file:
                    file.write("\n".join(block.lines) + "\n")
                name = block.file()
                script.append(f"mkdir -p \"$(dirname '{name}')\" && cp {held} '{name}'")
            else:
                unseen = [Command(text, block.line) for text in block.mark("before")]
                for command in [*unseen, *block.commands()]:
                    commands.append(command)
                    script.append("(exit ${status:-0})")
                    script.append(command.text.rstrip("\n"))
                    script.append(f"status=$?; printf '\\n{END}%s{END}' $status")
        if not commands:
            return commands, skipped
        environment = {**os.environ, "NO_COLOR": "1", "HOME": home, "LC_ALL": "C.UTF-8"}
        environment["PATH"] = os.pathsep.join([binaries, os.path.dirname(sys.executable), os.environ["PATH"]])
        for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "SECATEUR_SKIPPED"):
            environment.pop(name, None)
        if not place.missing("ort"):
            environment["ORT_DYLIB_PATH"] = tool.onnxruntime_library()
        done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=work, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=SECONDS)
    parts = done.stdout.decode(errors="replace").split(END)
    for command, printed, status in zip(commands, parts[::2], parts[1::2]):
        command.status = int(status)
        command.printed = [line.rstrip() for line in printed.splitlines() if line.strip()]
    return commands, skipped


def same_line(shown, printed):
    """Whether two lines agree but for times, for decimals within half a percent, and for space."""
    if TIMED.search(shown) and TIMED.search(printed):
        shown, printed = (NUMBER.sub("0", re.sub(r"[+-](?=\d)", "", line)) for line in (shown, printed))
    shown, printed = (TIME.sub("TIME", line).split() for line in (shown, printed))
    return len(shown) == len(printed) and all(same_word(*words) for words in zip(shown, printed))


def same_word(shown, printed):
    if shown == printed:
        return True
    shown, printed = NUMBER.split(shown), NUMBER.split(printed)
    if len(shown) != len(printed) or shown[::2] != printed[::2]:
        return False
    return all(left == right or near(left, right) for left, right in zip(shown[1::2], printed[1::2]))


def near(left, right):
    """Decimals within half a percent; errors, which have five places, within a twentieth, and those that are one element's or rounding's as they may."""
    if not ("." in left or "e" in left) or not ("." in right or "e" in right):
        return False
    error = re.search(r"\.\d{5}", left) is not None
    left, right = float(left.replace(",", "")), float(right.replace(",", ""))
    share = 0.005 if not error else 0.05 if abs(left) < 50 else 0.5
    return abs(left - right) <= max(share * abs(left), 2e-5)


def agrees(shown, printed):
    """The first shown line that is not printed, or None. Lines that only come on some machines count on neither side."""
    shown, printed = ([line for line in lines if not SOMETIMES.match(line)] for lines in (shown, printed))
    at, loose = 0, False
    for line in shown:
        if line.strip() == "...":
            loose = True
            continue
        end = len(printed) if loose else min(at + 1, len(printed))
        at = next((place + 1 for place in range(at, end) if same_line(line, printed[place])), None)
        if at is None:
            return line
        loose = False
    return None if loose or at == len(printed) else f"(end of output; also printed: {printed[at].strip()})"


def judge(command):
    """What is wrong with a command of a page, or None."""
    if command.status is None:
        return "did not run: an earlier command ended the shell"
    if command.status != 0 and not command.failing:
        return f"status {command.status}: {' | '.join(command.printed[-3:])}"
    shown = [line for line in command.shown if line.strip()]
    if not shown:
        return None
    missing = agrees(shown, command.printed)
    return f"not printed: {missing.strip()!r}, but {' | '.join(command.printed[:40])!r}" if missing else None


def prose(text):
    """A page without blocks, code in a line and targets of links."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            kept.append(LINK.sub("", re.sub(r"`[^`]*`", "", line)))
    return "\n".join(kept)


def unfounded(text, commands):
    """Decimal figures of a page's sentences that no command of the page printed."""
    said = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose(text))
    shown = "\n".join(line for command in commands for line in command.shown)
    printed = set(re.findall(r"\d+\.\d+", shown))
    return [figure for figure in said if figure not in printed]


def headings(path):
    with open(path) as file:
        text = re.sub(r"^```.*?^```$", "", file.read(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    found = set()
    for title in titles:
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()
        found.add(re.sub(r"[^\w -]", "", plain).strip().replace(" ", "-"))
    return found


def dead_links(path):
    with open(path) as file:
        text = re.sub(r"^```.*?^```$", "", file.read(), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    for link in LINK.findall(text):
        name, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
        if not os.path.exists(target):
            yield link
        elif heading and target.endswith(".md") and heading not in headings(target):
            yield link


def markdown():
    """Every page under docs/ and the pages at the top."""
    for name in sorted(os.listdir(tool.ROOT)):
        if name.endswith(".md"):
            yield os.path.join(tool.ROOT, name)
    for folder, _, names in sorted(os.walk(DOCS)):
        for name in sorted(names):
            if name.endswith(".md"):
                yield os.path.join(folder, name)


def check_pages(report, place):
    for page in pages():
        if not report.wants(page):
            continue
        with open(os.path.join(DOCS, page)) as file:
            text = file.read()
        try:
            commands, skipped = run_page(place, text)
        except (ValueError, subprocess.TimeoutExpired) as error:
            report.failed(page, str(error))
            continue
        for line, reason in skipped:
            report.skipped(f"{page}:{line}", reason)
        for command in commands:
            wrong = judge(command)
            name = f"{page}:{command.line + 1}"
            report.failed(name, f"{command.text.strip()}: {wrong}") if wrong else report.passed(name, command.text.strip().splitlines()[0])
        if page.startswith("tutorials/") and not skipped:
            every = [command for block in blocks_of(text) if block.kind == "console" for command in block.commands()]
            figures = unfounded(text, every)
            report.failed(page, f"figures that no command prints: {figures}") if figures else report.passed(f"{page} figures")


def check_links(report):
    for path in markdown():
        name = os.path.relpath(path, tool.ROOT)
        if report.wants(name):
            dead = list(dead_links(path))
            report.failed(f"links of {name}", ", ".join(dead)) if dead else report.passed(f"links of {name}")


def check_summary(report):
    listed = pages()
    there = [os.path.relpath(path, DOCS) for path in markdown() if path.startswith(DOCS + os.sep)]
    there = [page for page in there if page != "SUMMARY.md" and not page.startswith("skill/")]
    wrong = sorted(set(there) ^ set(listed)) + sorted({page for page in listed if listed.count(page) > 1})
    report.failed("SUMMARY.md", f"not listed once: {wrong}") if wrong else report.passed("SUMMARY.md")


def check_generated(report):
    done = subprocess.run([sys.executable, os.path.join(DOCS, "generate.py"), "--check"], capture_output=True, text=True)
    report.failed("docs/generate.py --check", done.stdout + done.stderr) if done.returncode else report.passed("docs/generate.py --check")


def check_build(report):
    """The book itself, where mdBook is installed: no warning, and a page of HTML for each page."""
    mdbook = os.environ.get("MDBOOK") or shutil.which("mdbook")
    if not mdbook:
        report.skipped("mdbook build", "mdbook is not installed")
        return
    with tempfile.TemporaryDirectory(prefix="secateur-mdbook-") as folder:
        done = subprocess.run([mdbook, "build", "-d", folder, tool.ROOT], capture_output=True, text=True)
        said = done.stdout + done.stderr
        absent = [page for page in pages() if not os.path.exists(os.path.join(folder, page[:-3] + ".html"))]
    wrong = done.returncode or re.search(r"\b(WARN|ERROR)\b", said) or absent
    report.failed("mdbook build", f"{said.strip()} {absent}") if wrong else report.passed("mdbook build")


# What the judges above must refuse: (what a page shows, what a command printed, whether that agrees).
CASES = (
    (["size 45.2 KiB in 0.047 s"], ["size  45.2 KiB in 3.1 s"], True),
    (["size 45.2 KiB"], ["size 44.1 KiB"], False),
    (["nodes 11"], ["nodes 12"], False),
    (["one"], ["one", "two"], False),
    (["one", "..."], ["one", "two"], True),
    (["...", "three"], ["one", "two", "three"], True),
    (["...", "three"], ["one", "two"], False),
    (["one", "...", "four"], ["one", "four", "five"], False),
    (["latency 0.1 ms 0.2 ms +99.2 %"], ["latency 7.5 ms 2.5 ms -66.7 %"], True),
    (["accuracy 0.9850"], ["accuracy 0.9650"], False),
    (["verdict: equal"], ["verdict: within"], False),
    (["logits within 1.144e-5 138.11608"], ["logits within 9.6e-6 133.97712"], True),
    (["logits different 1.30622"], ["logits different 1.50622"], False),
    (["warning: the result is slower than the input: 2 ms", "written: a"], ["written: a"], True),
)


def check_itself(report, place):
    for shown, printed, right in CASES:
        name = f"{shown} beside {printed}"
        report.passed(name) if (agrees(shown, printed) is None) == right else report.failed(name, f"should {'agree' if right else 'differ'}")
    page = "```console\n$ false\n$ true\n```\n\n```console\n$ false\n$ echo $?\n1\n$ echo a\nb\n```\n"
    commands, _ = run_page(place, page)
    found = [judge(command) is None for command in commands]
    expected = [False, True, True, True, False]
    report.passed("a wrong page") if found == expected else report.failed("a wrong page", f"{found}, not {expected}")


def check(report, secateur):
    place = Place(secateur)
    if report.wants("book.py"):
        check_itself(report, place)
    check_pages(report, place)
    check_links(report)
    if report.wants("SUMMARY.md"):
        check_summary(report)
        check_generated(report)
        check_build(report)


def renewed(command):
    """The lines to show for a command: as many before and after a `...` as there were."""
    shown = [line for line in command.shown if line.strip()]
    if shown == ["?"]:
        return command.printed
    gaps = [at for at, line in enumerate(shown) if line.strip() == "..."]
    if not gaps:
        return command.printed
    if len(gaps) > 1:
        return shown
    before, after = gaps[0], len(shown) - gaps[0] - 1
    return command.printed[:before] + ["..."] + command.printed[len(command.printed) - after:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", help="the binary (default: SECATEUR_BIN, or the newest under target/)")
    parser.add_argument("pages", nargs="*", help="pages below docs/ (default: all of the book)")
    args = parser.parse_args()
    place = Place(tool.Secateur(tool.find(args.secateur)))
    for page in args.pages or pages():
        path = os.path.join(DOCS, page)
        with open(path) as file:
            lines = file.read().splitlines()
        commands, skipped = run_page(place, "\n".join(lines))
        changed = 0
        for command in reversed(commands):
            wrong = judge(command)
            if wrong and command.shown and command.status is not None and (command.status == 0 or command.failing):
                lines[command.span[0]:command.span[1]] = renewed(command)
                changed += 1
            elif wrong:
                print(f"{page}:{command.line + 1}: {command.text.strip()}: {wrong}")
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        print(f"{page}: {len(commands)} commands, {changed} outputs renewed" + "".join(f"; line {line} skipped, {why}" for line, why in skipped))


if __name__ == "__main__":
    main()
