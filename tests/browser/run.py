"""Makes reports with the program and has them judged in headless Chromium: no message, no request, nothing serious for axe-core, every figure
of a picture in the text, at two widths, light and dark.

    python3 tests/browser/run.py --secateur PROGRAM [--pictures FOLDER]

Pages of real models are made where SECATEUR_CORPUS says where the corpus is. Ends with `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FIXTURES = ROOT / "fixtures"
LARGEST = 5 << 20


def browser() -> str | None:
    """The browser, if there is one."""
    names = ["chromium", "chromium-browser", "google-chrome", "chrome"]
    return next((found for found in map(shutil.which, names) if found), None)


def packages(folder: Path) -> str:
    """Installs what the judge needs; answers why not, where that cannot be."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", folder)
    if (folder / "node_modules" / "axe-core").is_dir() and (folder / "node_modules" / "puppeteer-core").is_dir():
        return ""
    made = subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
    )
    return "" if made.returncode == 0 else f"npm could not install them: {made.stderr.strip()[-200:]}"


def long_pair(folder: Path) -> tuple[Path, Path]:
    """Two models of 2,000 nodes in ONNX's wire format that differ in one attribute, written without any package."""

    def varint(value: int) -> bytes:
        out = b""
        while True:
            byte, value = value & 0x7F, value >> 7
            if not value:
                return out + bytes([byte])
            out += bytes([byte | 0x80])

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def number(at: int, value: int) -> bytes:
        return varint(at << 3) + varint(value)

    def value(name: str) -> bytes:
        shape = field(1, number(1, 4))
        return field(1, name.encode()) + field(2, field(1, number(1, 1) + field(2, shape)))

    def node(at: int, axis: int) -> bytes:
        attribute = field(1, b"axis") + number(3, axis) + number(20, 2)
        names = field(1, f"v{at}".encode()) + field(2, f"v{at + 1}".encode()) + field(3, f"block{at // 50}/n{at}".encode())
        return names + field(4, b"Softmax") + field(5, attribute)

    paths = []
    for name, changed in [("first", -1), ("second", 1234)]:
        # -1 as an unsigned 64-bit number is the last axis.
        nodes = b"".join(field(1, node(at, 0 if at == changed else (1 << 64) - 1)) for at in range(2000))
        graph = nodes + field(2, b"long") + field(11, value("v0")) + field(12, value("v2000"))
        model = number(1, 8) + field(7, graph) + field(8, number(2, 17))
        path = folder / f"{name}.onnx"
        path.write_bytes(model)
        paths.append(path)
    return paths[0], paths[1]


def commands(folder: Path) -> list[tuple[str, list[str], int]]:
    """Pages by name, how each is made, and the exit status of that."""
    cnn, test = FIXTURES / "digits_cnn_bn.onnx", FIXTURES / "data" / "digits_test.yaml"
    calibration = f"calibration={FIXTURES / 'data' / 'digits_calib.npz'}"
    small = folder / "small.onnx"
    first, second = long_pair(folder)
    made = [
        ("run", ["run", "edge-int8", str(cnn), "--data", calibration, "--data", f"evaluation={test}", "-o", str(small)], 0),
        ("compared", ["verify", str(cnn), str(small)], 1),
        ("measured", ["evaluate", str(small), "--against", str(cnn), "--data", str(test)], 0),
        ("differing", ["diff", str(first), str(second)], 1),
    ]
    corpus = os.environ.get("SECATEUR_CORPUS")
    if corpus:
        models, data = Path(corpus) / "models", Path(corpus) / "data"
        efficient, nanodet = models / "pretrained" / "efficientnet_lite0.onnx", models / "real" / "github-nanodet" / "nanodet_m.onnx"
        pictures = folder / "pictures.yaml"
        pictures.write_text(f"images: {{ folder: {data / 'imagenet' / 'calibration'}, preprocess: efficientnet-lite }}\nsamples: 16\n")
        scenes = folder / "scenes.yaml"
        scenes.write_text(f"images: {{ folder: {data / 'coco' / 'calibration'}, preprocess: nanodet }}\nsamples: 8\n")
        both = folder / "both.yaml"
        both.write_text("version: 1\nsteps:\n  - prune-channels: { target-macs: 0.9 }\n  - quantize\n")
        made += [
            ("efficientnet", ["run", str(both), str(efficient), "--data", f"calibration={pictures}", "-o", str(folder / "e.onnx")], 0),
            (
                "detector",
                ["quantize", str(nanodet), "--constant-inputs", "--data", f"calibration={scenes}", "-o", str(folder / "n.onnx")],
                0,
            ),
        ]
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secateur", required=True, type=Path)
    parser.add_argument("--pictures", type=Path, help="the folder that screenshots go to")
    parser.add_argument("--packages", type=Path, default=ROOT / "target" / "browser", help="where the packages are installed")
    parser.add_argument("pages", nargs="*", type=Path, help="further pages that are judged")
    arguments = parser.parse_args()
    program = arguments.secateur.resolve()
    found = browser()
    missing = "there is no Chromium" if found is None else packages(arguments.packages)
    if missing or found is None:
        print(f"pages are not judged: {missing}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    passed, failed, skipped = 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = [path.resolve() for path in arguments.pages]
        for title, command, status in commands(folder):
            page = folder / f"{title}.html"
            made = subprocess.run([str(program), *command, "--report", str(page)], capture_output=True, text=True)
            if made.returncode != status or not page.is_file():
                failed += 1
                print(f"FAILED {title}: exit {made.returncode}, {status} was expected: {made.stderr.strip()[-500:]}")
                continue
            size = page.stat().st_size
            if size > LARGEST:
                failed += 1
                print(f"FAILED {title}: {size} bytes")
            else:
                passed += 1
            pages.append(page)
        if "SECATEUR_CORPUS" not in os.environ:
            skipped += 2
            print("without SECATEUR_CORPUS: the pages of a classifier and a detector are skipped")
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
        pictures = str(arguments.pictures.resolve()) if arguments.pictures else ""
        judged = subprocess.run(
            ["node", str(HERE / "judge.mjs"), found, pictures, *map(str, pages)],
            cwd=arguments.packages,
            capture_output=True,
            text=True,
        )
        for line in judged.stdout.splitlines():
            told = json.loads(line)
            if told["wrong"]:
                failed += 1
                print(f"FAILED {told['file']}: {told['what']}: {told['wrong']}")
            else:
                passed += 1
        if judged.returncode != 0:
            failed += 1
            print(f"FAILED the judge: {judged.stderr.strip()[-1000:]}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
