#!/usr/bin/env python3
"""Builds the wheel and tests it as a user gets it.

usage: check.py [--wheel FILE] [--out FOLDER] [--build-only] [--here]

1. maturin builds the wheel with cargo's release profile, so that what `cargo build --release` made serves it, too.
2. The sdist is made, and has every file that a build reads and none that is not in the repository.
3. The wheel alone goes into a new virtual environment, and the tests that need no other package run there.
4. A second one gets the packages of tests/requirements-peers.txt, and all tests, mypy and stubtest run there.

The wheel is linked against glibc 2.17 by the package ziglang, and is a manylinux_2_17 wheel; with --here, or where ziglang is not to be
had, it is for systems as new as this one. Where other packages cannot be installed, what needs them is skipped with the reason, and the status is 0. The last line is `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TOTALS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
ZIG = """#!{python}
import subprocess, sys
# Options that only GNU's linker knows, and a library of GCC that zig brings itself.
args = [a for a in sys.argv[1:] if a not in ("-lgcc_s", "-Wl,--as-needed", "-Wl,-Bstatic", "-Wl,-Bdynamic", "-Wl,--eh-frame-hdr")]
sys.exit(subprocess.call([{python!r}, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.17", *args, "-lunwind"]))
"""


#: What a build of the sdist reads, and what a licence asks for.
BUILT_FROM = (
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "build.rs",
    "layouts/",
    "passes/",
    "proto/",
    "pyproject.toml",
    "python/Cargo.toml",
    "python/LICENSE-APACHE",
    "python/LICENSE-MIT",
    "python/README.md",
    "python/secateur/",
    "python/src/",
    "src/",
)


class Skip(Exception):
    """What cannot be done here, and why."""


def run(*command: str, **more: object) -> None:
    print("+", " ".join(str(part) for part in command), flush=True)
    subprocess.run(command, check=True, **more)  # type: ignore[call-overload]


def environment(folder: Path, *packages: str) -> Path:
    """The interpreter of a new virtual environment with these packages."""
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    if packages:
        installed(python, *packages)
    return python


def installed(python: Path, *packages: str) -> None:
    """Installs packages into an environment."""
    made = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if made.returncode:
        raise Skip(f"pip install {' '.join(packages)}: {made.stderr.strip().splitlines()[-1:]}")


def build(python: Path, scratch: Path, out: Path, portable: bool) -> Path:
    """The wheel, made by an interpreter that has maturin."""
    if portable:
        try:
            installed(python, "ziglang==0.17.1")
        except Skip as reason:
            print(f"the wheel is for systems as new as this one: {reason}", flush=True)
            portable = False
    command = [str(python), "-m", "maturin", "build", "--release", "--manifest-path", str(HERE / "Cargo.toml")]
    command += ["--interpreter", sys.executable, "--out", str(scratch / "wheel")]
    if portable:
        linker = scratch / "zig-linker"
        linker.write_text(ZIG.format(python=str(python)))
        linker.chmod(0o755)
        # Only what is linked last is linked anew: the compiled dependencies are those of every other build.
        command += ["--compatibility", "manylinux2014", "--", "-C", f"linker={linker}"]
    run(*command, cwd=ROOT)
    (wheel,) = (scratch / "wheel").glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(wheel, out))


def sources(python: Path, scratch: Path) -> bool:
    """Whether the sdist has what it has to have, and nothing else."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        raise Skip("the sdist is compared with what git lists, and this is no repository")
    tracked = set(listed.stdout.split("\0")) - {""}
    run(str(python), "-m", "maturin", "sdist", "--out", str(scratch / "sdist"), cwd=ROOT)
    (archive,) = (scratch / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        inside = {member.name.partition("/")[2] for member in opened if member.isfile()}
    needed = {name for name in tracked if name.startswith(BUILT_FROM)}
    missing, foreign = sorted(needed - inside), sorted(inside - tracked - {"PKG-INFO"})
    print(f"sdist: {archive.name}, {archive.stat().st_size / 1e6:.1f} MB, {len(inside)} files", flush=True)
    for what, names in (("is not in the sdist", missing), ("is in the sdist and not in the repository", foreign)):
        for name in names:
            print(f"{name} {what}", flush=True)
    return not missing and not foreign


def tests(python: Path, counts: dict[str, int], folder: Path, *arguments: str) -> bool:
    """Runs the suite against the installed wheel: no sources of the package are on the way."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(HERE / "tests")]
    print("+", *command, flush=True)
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(found.stdout[-20000:], found.stderr[-4000:], sep="\n", flush=True)
    last = (found.stdout.strip().splitlines() or [""])[-1]
    for number, word in TOTALS.findall(last):
        counts["failed" if word.startswith("error") else word] += int(number)
    if found.returncode and "failed" not in last and "error" not in last:
        counts["failed"] += 1
    return found.returncode == 0


def checked(counts: dict[str, int], *command: str, **more: object) -> None:
    """A tool that says by its status whether all is well."""
    try:
        run(*command, **more)
        counts["passed"] += 1
    except subprocess.CalledProcessError:
        counts["failed"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "dist")
    parser.add_argument("--build-only", action="store_true")
    parser.add_argument("--here", action="store_true")
    asked = parser.parse_args()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory(prefix="secateur-python-") as name:
        scratch = Path(name)
        try:
            maker = environment(scratch / "build", "maturin==1.16.0")
            wheel = asked.wheel or build(maker, scratch, asked.out, not asked.here and platform.machine() == "x86_64")
            print(f"wheel: {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
            if asked.build_only:
                return 0
            counts["passed" if sources(maker, scratch) else "failed"] += 1
            alone = environment(scratch / "alone", str(wheel), "pytest==9.2.0")
            tests(alone, counts, scratch)
            peers = environment(
                scratch / "peers", str(wheel), "pytest==9.2.0", "-r", str(HERE / "tests" / "requirements-peers.txt")
            )
            tests(peers, counts, scratch)
            config = ["--config-file", str(HERE / "pyproject.toml")]
            typed = [str(HERE / folder) for folder in ("tests", "examples", "secateur")]
            checked(counts, str(peers), "-m", "mypy", *config, *typed, cwd=HERE)
            checked(counts, str(peers), "-m", "mypy.stubtest", "secateur._native", cwd=scratch)
        except Skip as reason:
            print(f"skipped: {reason}")
            counts["skipped"] += 1
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main())
