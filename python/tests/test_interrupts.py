"""Ctrl-C: the answer comes soon, and no file is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from subjects import MLP, chain_model, children, environment, pixels

import secateur

#: Seconds from the signal to the exception, on a machine that has other things to do.
SOON = 0.2
PROGRAM = """
import os, signal, sys, threading, time
import secateur
from subjects import array, chain_model, random

phase, whole_group, caught, output = sys.argv[1], sys.argv[2] == "group", sys.argv[3] == "caught", sys.argv[4]
sent = []

def send():
    sent.append(time.monotonic())
    if whole_group:
        os.killpg(os.getpgid(0), signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGINT)

armed = []

def listen(what, done, total):
    if what == phase and not armed:
        armed.append(True)
        threading.Timer(0, send).start()

def samples():
    for index in range(1000):
        if phase == "reading" and index == 100:
            armed.append(True)
            send()
        yield {"x": memoryview(array("f", (random.random() for _ in range(64)))).cast("B").cast("f", (1, 64))}

def work():
    model = chain_model(60)
    if phase == "verify":
        return secateur.verify(model, model, data=samples(), progress=listen)
    secateur.quantize(
        model, data=samples(), progress=listen, output=f"{output}/out.onnx", report=f"{output}/report.md", refused="return"
    )

if caught:
    try:
        work()
    except KeyboardInterrupt:
        print(time.monotonic() - sent[0], flush=True)
    time.sleep(0.3)
    # What goes on behind an answer does not disturb what comes next.
    print(secateur.verify(chain_model(1), chain_model(1)).verdict)
else:
    work()
"""


def interrupted(phase: str, whose: str, how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A program that is interrupted in the midst of a phase of its work. It has a group of processes of its own."""
    output, scratch = folder / "output", folder / "scratch"
    output.mkdir()
    scratch.mkdir()
    words = [sys.executable, "-c", PROGRAM, phase, whose, how, str(output)]
    environ = environment(TMPDIR=str(scratch))
    found = subprocess.run(
        words, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert os.listdir(output) == []
    assert os.listdir(scratch) == []
    return found


@pytest.mark.parametrize("phase", ["reading", "quantize", "calibrating", "verify"])
def test_the_answer_comes_soon(phase: str, tmp_path: Path) -> None:
    found = interrupted(phase, "process", "caught", tmp_path)
    assert found.returncode == 0, found.stderr
    seconds, verdict = found.stdout.split()
    assert float(seconds) < SOON
    assert verdict == "equal"


def test_engines_that_get_the_signal_as_well_say_nothing(tmp_path: Path) -> None:
    found = interrupted("calibrating", "group", "caught", tmp_path)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout.split()[0]) < SOON
    assert "Traceback" not in found.stderr


def test_a_program_that_does_not_catch_it_ends(tmp_path: Path) -> None:
    found = interrupted("calibrating", "process", "not caught", tmp_path)
    assert found.returncode == -signal.SIGINT
    assert found.stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("whose", ["process", "group"])
def test_the_command_ends_with_130_and_leaves_nothing(whose: str, tmp_path: Path) -> None:
    model, output = tmp_path / "model.onnx", tmp_path / "output"
    model.write_bytes(chain_model(60))
    output.mkdir()
    words = [sys.executable, "-m", "secateur", "quantize", str(model), "--data", "{synthetic: {}, samples: 4000}"]
    words += ["-o", str(output / "out.onnx"), "--report", str(output / "report.md")]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # Once an engine runs, the command listens; a signal before that would end the interpreter.
    until = time.monotonic() + 30
    while not children(process.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert process.poll() is None
    sent = time.monotonic()
    (os.killpg if whose == "group" else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - sent < 5
    assert "Traceback" not in said
    assert os.listdir(output) == []


def test_a_signal_that_is_not_for_python_is_its_own(tmp_path: Path) -> None:
    received = []
    before = signal.signal(signal.SIGUSR1, lambda *_: received.append(True))
    try:
        secateur.quantize(
            MLP, data={"input": pixels(6)}, progress=lambda *_: os.kill(os.getpid(), signal.SIGUSR1), output=tmp_path / "out.onnx"
        )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received
    assert (tmp_path / "out.onnx").is_file()
