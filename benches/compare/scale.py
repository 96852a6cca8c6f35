#!/usr/bin/env python3
"""Times jobs by one process and by several: processes, Dask, Ray; and what the driver takes of a job of many tasks.

usage: scale.py [--corpus DIR] [--workers N] [--parts N ...] [--calibration N] [--evaluation N] [--executors NAME ...]

Needs the secateur package, built with optimisations, and the corpus (EfficientNet-Lite0 and its images), which is found through
SECATEUR_CORPUS, too. Each process has one thread. The result of every run is compared with that of one process, byte by byte.
Dask and Ray are left out where they are not installed; start the program in a network namespace of its own for Ray, which
listens on the machine's address: `unshare -r -n sh -c 'ip link set lo up && exec python scale.py ...'`.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time

from secateur import distributed

MODEL = "models/pretrained/efficientnet_lite0.onnx"
IMAGES = "data/imagenet"


def jobs(corpus, calibration, evaluation):
    """The jobs, with the command line of one process and the file that has to be the same."""
    model = os.path.join(corpus, MODEL)

    def images(folder, samples):
        return {"images": {"folder": os.path.join(corpus, IMAGES, folder)}, "preprocess": "efficientnet-lite", "samples": samples}

    for purpose in ("quantize", "gram"):
        yield f"stats {purpose}, {calibration} images", {
            "job": "stats", "for": purpose, "model": model, "data": {"calibration": images("training", calibration)},
        }, "output"
    yield f"evaluate, {evaluation} images", {
        "job": "evaluate", "latency-runs": 0, "model": model, "data": {"evaluation": images("evaluation", evaluation)},
    }, "state"


@contextlib.contextmanager
def executor(name, workers):
    if name == "processes":
        yield None
    elif name == "dask":
        from dask.distributed import Client

        with Client(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as client:
            client.wait_for_workers(workers)
            yield client
    else:
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        try:
            yield distributed.ray_executor(num_cpus=1)
        finally:
            ray.shutdown()


def installed(name):
    try:
        __import__({"dask": "distributed"}.get(name, name))
    except ImportError:
        return name == "processes"
    return True


def timed(job, kept, parts, workers, chosen):
    """Seconds of the whole, of planning and of merging, and the bytes of what was made."""
    with tempfile.TemporaryDirectory() as folder:
        own = {**job, "parts": parts, "output": os.path.join(folder, "output")}
        if kept == "state":
            own["state"] = os.path.join(folder, "state")
        spent = {"make": 0.0, "merge": 0.0}
        plans = {"make": distributed.Plan.make.__func__, "merge": distributed.Plan.merge}

        def watched(name):
            def call(*arguments, **more):
                begin = time.perf_counter()
                try:
                    return plans[name](*arguments, **more)
                finally:
                    spent[name] += time.perf_counter() - begin

            return call

        distributed.Plan.make = classmethod(watched("make"))
        distributed.Plan.merge = watched("merge")
        try:
            begin = time.perf_counter()
            made = distributed.run(own, chosen, folder=os.path.join(folder, "plan"), workers=workers)
            seconds = time.perf_counter() - begin
        finally:
            distributed.Plan.make = classmethod(plans["make"])
            distributed.Plan.merge = plans["merge"]
        with open(os.path.join(folder, kept), "rb") as file:
            return seconds, spent, made.tasks, file.read()


def alone(job, kept):
    """Seconds and bytes of the command line, in one process with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "output")
        (data,) = job["data"].values()
        words = [sys.executable, "-m", "secateur", job["job"], job["model"], "--jobs", "1", "--quiet", "--data", str(data).replace("'", '"')]
        words += ["--for", job["for"], "-o", output] if kept == "output" else ["--state", output, "--latency-runs", "0"]
        begin = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        with open(output, "rb") as file:
            return seconds, file.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=os.environ.get("SECATEUR_CORPUS"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--calibration", type=int, default=512)
    parser.add_argument("--evaluation", type=int, default=350)
    parser.add_argument("--executors", nargs="+", default=["processes", "dask", "ray"])
    arguments = parser.parse_args()
    if not arguments.corpus:
        parser.error("--corpus or SECATEUR_CORPUS says where the models are")
    print("| job | by | tasks | seconds | times one process | plan and merge |")
    print("|---|---|---|---|---|---|")
    for words, job, kept in jobs(arguments.corpus, arguments.calibration, arguments.evaluation):
        one, expected = alone(job, kept)
        print(f"| {words} | one process | | {one:.1f} | 1.00 | |", flush=True)
        for name in arguments.executors:
            if not installed(name):
                print(f"| {words} | {name} | | not installed | | |", flush=True)
                continue
            with executor(name, arguments.workers) as chosen:
                for parts in arguments.parts:
                    seconds, spent, tasks, found = timed(job, kept, parts, arguments.workers, chosen)
                    if found != expected:
                        sys.exit(f"{words}: {name} with {parts} parts gives other bytes than one process")
                    driver = sum(spent.values())
                    share = 100 * driver / seconds
                    print(
                        f"| {words} | {arguments.workers} workers, {name} | {tasks} | {seconds:.1f} | {one / seconds:.2f} | "
                        f"{driver:.2f} s, {share:.1f} % |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
