"""Manners in a process: threads, children by fork and spawn, engines in processes of their own, progress, imports."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from subjects import CNN_BN, MLP, ROOT, environment, pixels, python, quantized

import secateur


def digest(_: int = 0) -> str:
    return hashlib.sha256(quantized({"input": pixels(6)})).hexdigest()


def digest_inside(_: int = 0) -> str:
    secateur.configure(engine_process=False)
    return digest()


def test_two_threads_work_at_the_same_time() -> None:
    together = threading.Barrier(2)
    met = []

    def meet(what: str, done: int, total: int | None) -> None:
        # Each waits within its call for the other to be within its own.
        if what == "calibrating" and threading.get_ident() not in met:
            met.append(threading.get_ident())
            together.wait(30)

    def work(_: int) -> bytes:
        return quantized({"input": pixels(6)}, progress=meet)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert len(met) == 2
    assert first == second


def test_other_threads_go_on_while_one_works() -> None:
    ended = threading.Event()
    gaps = []

    def tick() -> None:
        last = time.monotonic()
        while not ended.is_set():
            time.sleep(0.001)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.monotonic()
    for _ in range(4):
        digest()
    took = time.monotonic() - began
    ended.set()
    thread.join()
    assert max(gaps) < max(0.1, took / 4), "no call holds the interpreter from its beginning to its end"
    assert len(gaps) > 10


def test_results_do_not_depend_on_threads() -> None:
    wanted = quantized({"input": pixels(6)}, jobs=1)
    assert quantized({"input": pixels(6)}, jobs=3) == wanted == quantized({"input": pixels(6)})


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("work", [digest, digest_inside], ids=["processes", "inside"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_children_work_after_the_parent_has(method: str, work: Any) -> None:
    wanted = digest()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(work, range(3))) == [wanted] * 3
    assert digest() == wanted, "and the parent works on"


@pytest.mark.usefixtures("configured")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_children_work_after_a_parent_with_engines_inside() -> None:
    secateur.configure(engine_process=False)
    wanted = digest()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(digest, range(2))) == [wanted] * 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_in_the_midst_of_a_call() -> None:
    context = multiprocessing.get_context("fork")
    ended: list[int | None] = []

    def fork(what: str, done: int, total: int | None) -> None:
        if what == "calibrating" and not ended:
            child = context.Process(target=digest)
            child.start()
            child.join(30)
            ended.append(child.exitcode)
            child.kill()

    assert quantized({"input": pixels(6)}, progress=fork) == quantized({"input": pixels(6)})
    assert ended == [0]


ENGINES = """
import os, sys, time
import secateur
from subjects import MLP, children, pixels
most = 0
def look(*_):
    global most
    most = max(most, len(children(os.getpid())))
secateur.quantize(MLP, data={"input": pixels(6)}, progress=look)
print(most, flush=True)
if sys.argv[1:] == ["wait"]:
    print(*children(os.getpid()), flush=True)
    time.sleep(30)
"""

def test_engines_have_processes_of_their_own(tmp_path: Path) -> None:
    found = python(ENGINES, cwd=tmp_path, SECATEUR_ENGINE_PROCESS="1")
    assert int(found.stdout) >= 1, found.stderr


def test_engines_stay_inside_where_that_is_asked_for(tmp_path: Path) -> None:
    found = python(ENGINES, cwd=tmp_path, SECATEUR_ENGINE_PROCESS="0")
    assert found.stdout == "0\n", found.stderr
    configured = ENGINES.replace("most = 0\n", "most = 0\nsecateur.configure(engine_process=False)\n", 1)
    found = python(configured, cwd=tmp_path)
    assert found.stdout == "0\n", found.stderr


def test_engines_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    words = [sys.executable, "-c", ENGINES, "wait"]
    environ = environment()
    with subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= 1
        engines = [int(number) for number in process.stdout.readline().split()]
        process.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(Path(f"/proc/{engine}").exists() for engine in engines) and time.monotonic() < until:
        time.sleep(0.02)
    assert engines
    assert not any(Path(f"/proc/{engine}").exists() for engine in engines)


BOUNDED = """
import sys, secateur
from subjects import CNN_BN, MLP, pixels
data = secateur.Data({"input": pixels(4)}).labels("reference")
for _ in range(int(sys.argv[1])):
    secateur.configure(engine_time=0.0001)
    try:
        secateur.evaluate(MLP, data, against=CNN_BN, latency_runs=0)
    except secateur.EngineError as error:
        print(error.code)
    secateur.configure()
    print(secateur.verify(MLP, MLP).verdict)
"""


def test_an_engine_that_takes_too_long(tmp_path: Path) -> None:
    found = python(BOUNDED, "1", cwd=tmp_path)
    assert found.stdout.split()[0] == "engine-timed-out", found.stderr


def test_a_bound_holds_for_every_call_from_now_on(tmp_path: Path) -> None:
    # Engines that wait for work were started under the bound that held then.
    found = python(BOUNDED, "8", cwd=tmp_path)
    assert found.stdout.split() == ["engine-timed-out", "equal"] * 8, found.stderr


HOSTILE = """
import sys, secateur
print(secateur.verify(sys.argv[1], sys.argv[1]).verdict)
"""


def test_what_lies_in_the_working_directory_is_not_imported(tmp_path: Path) -> None:
    program, folder = tmp_path / "program" / "main.py", tmp_path / "hostile"
    program.parent.mkdir()
    program.write_text(HOSTILE)
    (folder / "secateur").mkdir(parents=True)
    for name in ("json.py", "importlib.py", "secateur/__init__.py", "secateur/_native.py", "_worker.py"):
        (folder / name).write_text("raise SystemExit('imported')")
    words = [sys.executable, str(program), str(MLP)]
    found = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert (found.stdout, found.returncode) == ("equal\n", 0), found.stderr


def test_nothing_else_is_imported(tmp_path: Path) -> None:
    code = """
import sys, secateur
secateur.simplify(sys.argv[1]).report
secateur.Model(sys.argv[1]).text()
print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:])))
"""
    found = python(code, str(CNN_BN), "numpy", "onnx", "onnx_ir", "onnxruntime", "ml_dtypes", "tqdm", "torch", cwd=tmp_path)
    assert found.stdout == "[]\n", found.stderr


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int | None]] = []
    secateur.quantize(MLP, data={"input": pixels(6)}, progress=lambda *call: told.append(call))
    assert [call for call in told if call[0] == "calibrating"][-1] == ("calibrating", 6, 6)
    assert told[0] == ("quantize", 0, 1)
    for what, done, total in told:
        assert what
        assert total is None or 0 <= done <= total
    for call in (
        lambda progress: secateur.verify(MLP, MLP, progress=progress),
        lambda progress: secateur.evaluate(MLP, [(pixels(4), memoryview(bytes(32)).cast("q"))], progress=progress),
        lambda progress: secateur.stats(MLP, {"input": pixels(4)}, progress=progress),
        lambda progress: secateur.bisect(secateur.Pipeline.preset("simplify"), CNN_BN, progress=progress),
    ):
        told.clear()
        call(lambda *heard: told.append(heard))
        assert told


class Enough(Exception):
    """Raised by a listener."""


def test_what_a_listener_raises_ends_the_call(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int | None) -> None:
        if what == "calibrating" and done == 2:
            raise Enough

    with pytest.raises(Enough):
        secateur.quantize(MLP, data={"input": pixels(64)}, progress=stop, output=tmp_path / "out.onnx")
    time.sleep(0.2)
    assert os.listdir(tmp_path) == []


def test_bars_are_those_of_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = pytest.importorskip("tqdm.auto")
    bars: list[Any] = []

    class Bar:
        def __init__(self, desc: str, total: int | None, leave: bool) -> None:
            self.desc, self.total, self.n, self.closed = desc, total, 0, False
            bars.append(self)

        def refresh(self) -> None:
            assert not self.closed

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(auto, "tqdm", Bar)
    secateur.quantize(MLP, data={"input": pixels(6)}, progress=True)
    calibrating = next(bar for bar in bars if bar.desc == "calibrating")
    assert (calibrating.n, calibrating.total) == (6, 6)
    assert all(bar.closed for bar in bars)


def test_progress_is_logged_where_there_is_no_tqdm(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with caplog.at_level(logging.INFO, "secateur"):
        secateur.quantize(MLP, data={"input": pixels(6)}, progress=True)
    assert "calibrating: 6 of 6" in [record.getMessage() for record in caplog.records]


def test_a_pipeline_goes_to_another_process() -> None:
    pipeline = secateur.Pipeline.of("simplify", ("quantize", {"per_channel": False})).set("quantize.correct-bias", False)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(variables, pipeline).result() == pipeline.variables
        preset = secateur.Pipeline.preset("edge-int8")
        assert pool.submit(variables, preset).result() == preset.variables


def variables(pipeline: secateur.Pipeline) -> dict[str, Any]:
    return pipeline.variables


CALLS = """
import os, secateur
def threads():
    return len(os.listdir("/proc/self/task"))
model = secateur.Model("fixtures/digits_cnn_bn.onnx")
secateur.simplify(model, compare=False)
before = threads()
for _ in range(20):
    secateur.simplify(secateur.Model("fixtures/digits_cnn_bn.onnx"), compare=False).result.to_bytes()
print(threads() - before)
child = os.fork()
if child == 0:
    alone = threads()
    same = secateur.simplify(model, compare=False).result.to_bytes() == secateur.simplify(model, compare=False).result.to_bytes()
    os._exit(0 if alone == 1 and same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_calls_take_over_the_threads_of_those_before_and_a_forked_child_has_its_own() -> None:
    found = python(CALLS, cwd=ROOT)
    assert found.stdout.split() == ["0", "0"], found.stderr
