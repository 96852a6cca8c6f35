"""Jobs of several processes: the same bytes by every executor, after lost workers and lost drivers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from subjects import FIXTURES, children, environment

import secateur
from secateur import distributed

MODEL = FIXTURES / "digits_cnn_bn.onnx"
#: Statistics of kinds that are summed up in different ways, evaluations, and stages.
JOBS: dict[str, dict[str, Any]] = {
    "ranges": {"job": "stats", "for": "quantize"},
    "gram": {"job": "stats", "for": "gram"},
    "gradients": {"job": "stats", "for": "gradients"},
    "evaluate": {"job": "evaluate", "latency-runs": 0},
    "gptq": {
        "job": "run",
        "pipeline": {"steps": [{"quantize-weights": {"type": "int8", "rounding": "gptq", "minimum-elements": 0}}]},
    },
}


def job(kind: str, output: Path, parts: int = 6, samples: int = 60) -> dict[str, Any]:
    calibration = {"npz": FIXTURES / "data" / "digits_calib.npz", "samples": samples}
    labelled = {"npz": FIXTURES / "data" / "digits_test.npz", "labels": "y", "samples": samples}
    data = {
        "gradients": {"training": labelled},
        "evaluate": {"evaluation": labelled},
    }.get(kind, {"calibration": calibration})
    own: dict[str, Any] = {"model": MODEL, "parts": parts, "output": output, "data": data}
    if kind == "evaluate":
        own["state"] = output.with_suffix(".state")
    return {**JOBS[kind], **own}


def kept(kind: str, output: Path) -> bytes:
    """What has to be the same: figures have times of their own, counts do not."""
    return (output.with_suffix(".state") if kind == "evaluate" else output).read_bytes()


def alone(kind: str, folder: Path, samples: int = 60) -> bytes:
    """What one process gives in one part."""
    output = folder / "alone"
    made = distributed.run(job(kind, output, 1, samples), ThreadPoolExecutor(1), folder=folder / "alone-plan")
    assert made.tasks == made.done and made.accepted
    return kept(kind, output)


@pytest.mark.parametrize("kind", JOBS)
def test_a_pool_of_processes_gives_the_bytes_of_one(kind: str, tmp_path: Path) -> None:
    output = tmp_path / "several"
    seen: list[tuple[str, int, int | None]] = []
    made = distributed.run(
        job(kind, output), folder=tmp_path / "plan", workers=2, progress=lambda *told: seen.append(told)
    )
    assert kept(kind, output) == alone(kind, tmp_path)
    assert made.kind == JOBS[kind]["job"] and made.done == made.tasks >= 6
    assert seen[-1][0] == "tasks" and seen[-1][1] == seen[-1][2]
    if kind == "evaluate":
        assert made.evaluation is not None and made.evaluation.samples == 60
    if kind == "gptq":
        assert made.outcome is not None and made.outcome.accepted and output.exists()


def test_statistics_in_one_call_have_the_bytes_of_a_job(tmp_path: Path) -> None:
    data = secateur.Data(str(FIXTURES / "data" / "digits_calib.npz")).samples(60)
    secateur.stats(MODEL, data, "gram").save(tmp_path / "call")
    assert (tmp_path / "call").read_bytes() == alone("gram", tmp_path)


def is_worker(process: int) -> bool:
    """Whether this is a process that does tasks."""
    try:
        return b"secateur.distributed" in Path("/proc", str(process), "cmdline").read_bytes()
    except OSError:
        return False


def test_a_killed_worker_changes_no_byte(tmp_path: Path) -> None:
    samples, output = 600, tmp_path / "several"
    expected = alone("gradients", tmp_path, samples)
    killed: list[int] = []

    def kill_one() -> None:
        parts = tmp_path / "plan" / "parts"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if parts.is_dir() and any(len(name) == 64 for name in os.listdir(parts)):
                for worker in filter(is_worker, children(os.getpid())):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    made = distributed.run(job("gradients", output, 24, samples), folder=tmp_path / "plan", workers=2)
    killer.join()
    assert killed and made.tasks == 24
    assert kept("gradients", output) == expected


def test_a_pool_of_the_caller_that_broke_says_how_to_go_on(tmp_path: Path) -> None:
    output = tmp_path / "several"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        worker = pool.submit(os.getpid).result()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(secateur.InputError, match="broke") as caught:
            distributed.run(job("gram", output), pool, folder=tmp_path / "plan")
    assert caught.value.hint is not None and "same folder" in caught.value.hint
    assert not output.exists()
    distributed.run(job("gram", output), folder=tmp_path / "plan", workers=1)
    assert kept("gram", output) == alone("gram", tmp_path)


DRIVER = """
import json, sys
from secateur import distributed
if __name__ == "__main__":
    distributed.run(json.loads(sys.argv[1]), folder=sys.argv[2], workers=1)
"""


def test_a_driver_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    import json

    samples, output, plan = 600, tmp_path / "several", tmp_path / "plan"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    own = json.dumps(job("gradients", output, 40, samples), default=os.fspath)
    command = [sys.executable, str(script), own, str(plan)]
    driver = subprocess.Popen(command, env=environment(), start_new_session=True)

    def done() -> int:
        return sum(len(name) == 64 for name in os.listdir(plan / "parts")) if (plan / "parts").is_dir() else 0

    until = time.monotonic() + 60
    while done() < 3 and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = done()
    assert 0 < before < 40
    made = distributed.run(job("gradients", output, 40, samples), folder=plan, workers=1)
    assert made.tasks == 40 and made.done <= 40 - before
    assert kept("gradients", output) == alone("gradients", tmp_path, samples)


def test_a_gate_that_breaks_is_raised_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    own = {**job("evaluate", tmp_path / "figures.json", samples=600), "gates": ["accuracy.at-least=1.0"]}
    with pytest.raises(secateur.GateError) as caught:
        distributed.run(own, folder=tmp_path / "plan", workers=1)
    evaluation = caught.value.evaluation
    assert evaluation is not None and evaluation.accuracy is not None and evaluation.accuracy < 1
    made = distributed.run(own, folder=tmp_path / "plan", workers=1, force=True, refused="return")
    assert not made.accepted and made.done == 0
    with pytest.raises(secateur.InputError, match="no executor"):
        distributed.run(own, 3, folder=tmp_path / "other")
    with pytest.raises(secateur.InputError, match="job"):
        distributed.run({**own, "job": "nothing"}, folder=tmp_path / "other")
    with pytest.raises(secateur.FileError):
        distributed.run({**own, "model": "nowhere.onnx"}, folder=tmp_path / "other")
    with pytest.raises(secateur.InputError, match="another job"):
        distributed.run({**own, "parts": 2}, folder=tmp_path / "plan")


def test_workers_are_not_sent_models_or_images(tmp_path: Path) -> None:
    """What crosses to a worker does not grow with the model, the data or the parts of others."""
    import pickle

    sizes: list[int] = []

    class Measured(ThreadPoolExecutor):
        def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Any:
            sizes.append(len(pickle.dumps((call, arguments, more))))
            return super().submit(call, *arguments, **more)

    distributed.run(job("gradients", tmp_path / "out", 6), Measured(2), folder=tmp_path / "plan")
    assert sizes and max(sizes) < 1000, sizes


@pytest.fixture
def client() -> Iterator[Any]:
    dask = pytest.importorskip("distributed", reason="Dask is not installed")
    with dask.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, processes=True
    ) as cluster, dask.Client(cluster) as client:
        yield client


def test_dask_gives_the_same_bytes_after_a_killed_worker(client: Any, tmp_path: Path) -> None:
    samples, output = 600, tmp_path / "several"
    workers = list(client.run(os.getpid).values())
    parts = tmp_path / "plan" / "parts"

    def kill_one() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if parts.is_dir() and any(len(name) == 64 for name in os.listdir(parts)):
                os.kill(workers[0], signal.SIGKILL)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    made = distributed.run(job("gradients", output, 24, samples), client, folder=tmp_path / "plan")
    killer.join()
    assert made.tasks == 24
    assert kept("gradients", output) == alone("gradients", tmp_path, samples)


RAY = """
import json, os, signal, sys, threading, time
import ray
from secateur import distributed
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)

@ray.remote
def pid():
    time.sleep(0.5)
    return os.getpid()

plan, own = sys.argv[1], json.loads(sys.argv[2])
workers = ray.get([pid.remote(), pid.remote()])

def kill_one():
    parts = os.path.join(plan, "parts")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if os.path.isdir(parts) and any(len(name) == 64 for name in os.listdir(parts)):
            os.kill(workers[0], signal.SIGKILL)
            return
        time.sleep(0.005)

killer = threading.Thread(target=kill_one)
killer.start()
made = distributed.run(own, distributed.ray_executor(num_cpus=1), folder=plan)
killer.join()
print("tasks", made.tasks)
ray.shutdown()
"""


def test_ray_gives_the_same_bytes_after_a_killed_worker(tmp_path: Path) -> None:
    """In a network of its own: Ray listens on the machine's own address, whatever it is told."""
    import json

    pytest.importorskip("ray", reason="Ray is not installed")
    own_network = ["unshare", "-r", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    probe = subprocess.run([*own_network, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("there is no network namespace to be had: " + probe.stderr.decode()[-200:])
    samples, output = 600, tmp_path / "several"
    script = tmp_path / "driver.py"
    script.write_text(RAY, encoding="utf-8")
    own = json.dumps(job("gradients", output, 24, samples), default=os.fspath)
    command = [*own_network, sys.executable, str(script), str(tmp_path / "plan"), own]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=240)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    assert "tasks 24" in ran.stdout
    assert kept("gradients", output) == alone("gradients", tmp_path, samples)


SWEEP: dict[str, Any] = {
    "model": str(FIXTURES / "digits_mlp.onnx"),
    "pipeline": {"steps": [{"quantize-weights": {"type": "${type}", "minimum-elements": 0}, "when": "${type}"}]},
    "vars": {"type": [None, "int8", "int4"]},
    "data": {"evaluation": {"npz": str(FIXTURES / "data" / "digits_test.npz"), "labels": "y", "samples": 100}},
    "measure": ["accuracy", "bytes"],
}


def test_a_sweep_by_several_processes_finds_what_one_finds(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    found = distributed.sweep(
        SWEEP, folder=tmp_path / "several", workers=2, progress=lambda *told: seen.append(told)
    )
    one = secateur.sweep(SWEEP, tmp_path / "one")
    assert found.computed == 3 and seen[-1] == ("points", 3, 3)
    told = [[(point.id, point.status, point.figures["accuracy"], point.figures["bytes"]) for point in report.points] for report in (found, one)]
    assert told[0] == told[1]
    names = [sorted(path.name for path in (tmp_path / folder / "models").iterdir()) for folder in ("several", "one")]
    assert names[0] == names[1]
    for name in names[0]:
        assert (tmp_path / "several" / "models" / name).read_bytes() == (tmp_path / "one" / "models" / name).read_bytes()
    assert distributed.sweep(SWEEP, folder=tmp_path / "several", workers=1).computed == 0
