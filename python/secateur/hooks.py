"""Hooks of pre-commit: ``python -m secateur.hooks check FILE...`` and ``python -m secateur.hooks verify FILE...``.

``verify`` compares each model with what the last commit has in its place, files beside it included, or with ``--reference MODEL``. Other
options go to the command. The exit status is the worst: 0, 1 where the answer is no, 2 where something could not be done.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

#: What the tests put in the place of the installed command.
COMMAND = os.environ.get("SECATEUR_BIN", "secateur")


def call(*arguments: str) -> int:
    """The exit status of the command; 2 where it is not there."""
    sys.stdout.flush()
    try:
        return subprocess.run([COMMAND, *arguments]).returncode
    except OSError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2


def committed(model: str, folder: str) -> str | None:
    """The model as the last commit has it, with the files beside it, in a folder; None where it is new."""
    path = Path(model)
    beside = path.parent
    known = subprocess.run(["git", "cat-file", "-e", f"HEAD:./{path.name}"], cwd=beside or ".", capture_output=True)
    if known.returncode:
        return None
    packed = subprocess.run(["git", "archive", "HEAD", "."], cwd=beside or ".", capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)  # type: ignore[arg-type]
    return str(Path(folder) / path.name)


def check(models: list[str], options: list[str]) -> int:
    """Findings of each model."""
    return max((call("check", *options, "--", model) for model in models), default=0)


def verify(models: list[str], options: list[str], reference: str | None) -> int:
    """Each model compared with its reference."""
    worst = 0
    for model in models:
        if reference is not None and os.path.exists(model) and os.path.samefile(reference, model):
            continue
        with tempfile.TemporaryDirectory(prefix="secateur-hook-") as folder:
            before = reference or committed(model, folder)
            if before is None:
                print(f"{model}: new, there is nothing to compare it with")
                continue
            print(f"{model}:")
            worst = max(worst, call("verify", *options, "--", before, model))
    return worst


def main(arguments: list[str] | None = None) -> int:
    """Runs the hook that the first argument names."""
    parser = argparse.ArgumentParser(prog="python -m secateur.hooks", description=__doc__, allow_abbrev=False)
    parser.add_argument("hook", choices=("check", "verify"))
    parser.add_argument("--reference", help="the model that is right, in the place of the last commit's")
    parser.add_argument("--option", action="append", default=[], help="an option of the command, as in --option=--deny=warning")
    parser.add_argument("models", nargs="*")
    asked = parser.parse_intermixed_args(arguments)
    if asked.hook == "check":
        return check(asked.models, asked.option)
    return verify(asked.models, asked.option, asked.reference)


if __name__ == "__main__":
    sys.exit(main())
