"""Jobs of several processes: on the cores of a machine, on Dask, on Ray, or on anything else that has an executor.

A job is cut into tasks in a folder that every worker sees; each worker reads models and data by their paths, and writes the result
of a task under a name that is a hash of everything it depends on. So a task may be done twice, a worker may be lost, and the driver
may die and be started again: what is done is not done again, and the result has the bytes of one process.

>>> import secateur.distributed, tempfile
>>> folder = tempfile.mkdtemp()
>>> made = secateur.distributed.run(
...     {
...         "job": "stats", "for": "gram", "model": "fixtures/digits_mlp.onnx", "parts": 4,
...         "data": {"calibration": {"npz": "fixtures/data/digits_calib.npz", "samples": 32}},
...         "output": f"{folder}/gram.safetensors",
...     },
...     folder=f"{folder}/plan", workers=1,
... )
>>> made.kind, made.tasks
('stats', 4)
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native
from ._data import counted
from ._errors import SecateurError, made, refusal, wrong
from ._outcome import LOG, Outcome, PathLike

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reports import EvaluationReport, SweepReport

__all__ = ["Made", "Plan", "Task", "Waiting", "WorkerLost", "ray_executor", "run", "sweep"]

#: Times that the tasks of a lost worker are given to another one.
RETRIES = 3
#: Times that a worker is asked for tasks in a stage, about: each time it reads the model anew.
TURNS = 2


class Task(NamedTuple):
    """A task of a plan.

    Attributes:
        id: its name.
        stage: the stage; tasks of one stage depend on nothing but those of stages before.
        work: what is cut into tasks, as ``"gram"`` or ``"evaluate"``.
        of: what it is of, in words.
        command: the program and its arguments that do it.
        output: the file that is there when it is done, in the folder of the plan.
    """

    id: str
    stage: int
    work: str
    of: str
    command: tuple[str, ...]
    output: str


class Made(NamedTuple):
    """What a job came to.

    Attributes:
        kind: ``"stats"``, ``"evaluate"`` or ``"run"``.
        accepted: whether it is good enough: gates hold, outputs agree.
        evaluation: the report of an evaluation.
        outcome: what became of a pipeline.
        tasks: how many tasks were planned, of all stages.
        done: how many of them this call had done.
    """

    kind: str
    accepted: bool
    evaluation: EvaluationReport | None
    outcome: Outcome | None
    tasks: int
    done: int


class Waiting(NamedTuple):
    """Tasks that have to be done before a plan can be merged."""

    stage: int
    missing: tuple[str, ...]


class Plan:
    """A job that is cut into tasks, in a folder that all processes see: see :func:`run`, which does all of this."""

    __slots__ = ("_native", "base", "folder")

    def __init__(self, native: _native.Plan, folder: str, base: str | None) -> None:
        self._native = native
        self.folder = folder
        self.base = base

    @classmethod
    def make(
        cls,
        job: Mapping[str, Any] | PathLike,
        folder: PathLike,
        *,
        jobs: int | None = None,
        progress: Callable[[str, int, int | None], object] | None = None,
    ) -> Plan:
        """Cuts a job into tasks; a folder with the plan of the same job is gone on with.

        Args:
            job: a file, or what such a file holds (``secateur schema job``). Paths start from the folder of the file, those of a
                mapping from the working directory.
            folder: the folder of the plan.
            jobs: threads.
            progress: called with what goes on, how much is done, and of how much.
        """
        where = os.path.abspath(os.fspath(folder))
        options = _options(jobs)
        if isinstance(job, Mapping):
            with _written(job) as path:
                base = os.getcwd()
                native = _native.Plan.make(path, where, options, base, progress, LOG.info)
            return cls(native, where, base)
        return cls(_native.Plan.make(os.fspath(job), where, options, None, progress, LOG.info), where, None)

    @classmethod
    def open(cls, folder: PathLike, base: PathLike | None = None) -> Plan:
        """Reads a plan from its folder; paths of the job start from ``base`` where the folder is mounted elsewhere."""
        where = os.path.abspath(os.fspath(folder))
        start = None if base is None else os.fspath(base)
        return cls(_native.Plan.open(where, start), where, start)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of all stages so far."""
        return tuple(
            Task(one["id"], one["stage"], one["work"], one["of"], tuple(one["command"]), one["output"])
            for one in json.loads(self._native.tasks())
        )

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of the tasks that are not done."""
        return tuple(self._native.pending())

    def work(
        self,
        tasks: Iterable[str],
        *,
        jobs: int | None = None,
        progress: Callable[[str, int, int | None], object] | None = None,
    ) -> tuple[str, ...]:
        """Does tasks that are not done, and answers the names of those."""
        return tuple(self._native.work(list(tasks), _options(jobs), progress, LOG.info)[0])

    def merge(
        self,
        *,
        jobs: int | None = None,
        force: bool = False,
        progress: Callable[[str, int, int | None], object] | None = None,
    ) -> Made | Waiting:
        """Joins what is done: to the result, which is written, or to the tasks of the next stage, which are planned then."""
        joined, stage, missing = self._native.merge(_options(jobs, force), progress, LOG.info)
        if joined is None:
            return Waiting(stage, tuple(missing))
        kind, answer, outcome, accepted = joined
        evaluation = None
        if answer is not None:
            from .reports import EvaluationReport

            document, text, html = answer
            evaluation = EvaluationReport.from_dict(json.loads(document), text, html)
        ran = None if outcome is None else Outcome(outcome, lambda model: model)
        return Made(kind, accepted, evaluation, ran, len(self.tasks), 0)


def run(
    job: Mapping[str, Any] | PathLike,
    executor: Any = None,
    *,
    folder: PathLike | None = None,
    workers: int | None = None,
    jobs: int = 1,
    retries: int = RETRIES,
    force: bool = False,
    progress: Callable[[str, int, int | None], object] | None = None,
    refused: str = "raise",
) -> Made:
    """Does a job by several processes, and writes its result: the bytes that one process would have written.

    Args:
        job: a file, or what such a file holds (``secateur schema job``).
        executor: a ``concurrent.futures.Executor``, a Dask client, or what :func:`ray_executor` answers; processes on this
            machine if nothing is said.
        folder: the folder of the plan, which every worker has to see; one that a driver left is gone on with. A temporary one if
            nothing is said, for workers on this machine.
        workers: how many workers there are; asked of the executor, or all cores, if nothing is said.
        jobs: threads of each worker.
        retries: how often tasks of a lost worker are given to another one.
        force: whether a result that exists is replaced.
        progress: called with ``"tasks"``, how many are done, and of how many in the stage.
        refused: ``"raise"``, or ``"return"`` for a result that is not good enough.

    Raises:
        GateError: the result is not good enough.
        SecateurError: what keeps the job from being done. What was done until then stays in the folder.
    """
    if refused not in ("raise", "return"):
        raise wrong("usage", f"refused is 'raise' or 'return', not {refused!r}", None, "refused")
    threads = counted("jobs", jobs, 1)
    again = counted("retries", retries, 0)
    with _folder(folder) as where, _pool(executor, workers) as pool:
        plan = Plan.make(job, where)
        done = 0
        while True:
            def work(tasks: tuple[str, ...], plan: Plan = plan) -> Future[Any]:
                return pool.executor.submit(_done, plan.folder, plan.base, tasks, threads)

            done += _stage(work, plan.pending, pool.workers, again, told("tasks", progress))
            merged = plan.merge(force=force)
            if isinstance(merged, Made):
                break
            plan = Plan.open(plan.folder, plan.base)
        found = merged._replace(tasks=len(plan.tasks), done=done)
    if not found.accepted and refused == "raise":
        error = refusal("the result is not accepted", "refused='return' raises nothing")
        error.outcome, error.evaluation = found.outcome, found.evaluation
        raise error
    return found


def sweep(
    sweep: Mapping[str, Any] | PathLike,
    executor: Any = None,
    *,
    folder: PathLike,
    workers: int | None = None,
    jobs: int = 1,
    retries: int = RETRIES,
    keep_models: bool = False,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> SweepReport:
    """Runs a sweep by several processes: see :func:`secateur.sweep`. Each point is computed by one worker, whole.

    Times are measured beside what else the workers do: sweep by one process where latency counts.

    Args:
        sweep: a file, or what such a file holds. Data are described in it; paths start from its folder, or the working directory.
        executor, workers, jobs, retries: as of :func:`run`.
        folder: the folder of the results, which every worker has to see. What is there is not computed again.
        keep_models: whether the models of all points are kept that were accepted, and not those of the front alone.
        progress: called with ``"points"``, how many are done, and of how many that are known.
    """
    threads = counted("jobs", jobs, 1)
    again = counted("retries", retries, 0)
    where = os.path.abspath(os.fspath(folder))
    is_text = isinstance(sweep, Mapping)
    source = _rooted(sweep) if isinstance(sweep, Mapping) else os.path.abspath(os.fspath(sweep))
    opened = _native.Sweep.parse(source) if is_text else _native.Sweep.open(source)
    computed = 0
    with _pool(executor, workers) as pool:
        while True:
            points = json.loads(opened.points(where, _options(None)))
            pending = [point["id"] for point in points if not point["done"]]
            if not pending:
                break

            def work(ids: tuple[str, ...]) -> Future[Any]:
                return pool.executor.submit(_points, source, is_text, where, ids, threads)

            # A point takes long beside what a worker does to begin: each is a turn of its own.
            computed += _stage(work, pending, pool.workers, again, told("points", progress), len(pending))
    from .reports import SweepReport

    document = json.loads(opened.gather(where, keep_models, _options(None)))
    return SweepReport.from_dict({**document, "computed": computed})


def _rooted(sweep: Mapping[str, Any]) -> str:
    """A sweep as text, as :func:`secateur.sweep` sends it."""
    from ._outcome import plain

    return json.dumps(plain(sweep))


def ray_executor(**options: Any) -> Executor:
    """Workers of Ray: ``options`` are those of a remote function, as ``num_cpus`` and ``resources``. Ray has to be started.

    A task is given a file name, a base and names; models and data are read by path on the worker.
    """
    return _Ray(options)


class _Ray(Executor):
    """A thin executor over remote functions."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        try:
            import ray
        except ImportError as error:
            raise wrong("usage", "Ray is not installed", "pip install 'secateur[ray]'") from error
        how = {"num_cpus": 1, "max_retries": RETRIES, **options}
        self._remotes = {call: ray.remote(call).options(**how) for call in CALLS}
        self._ray = ray
        self._refs: list[Any] = []

    @property
    def workers(self) -> int:
        """The processors of the cluster."""
        resources: dict[str, float] = self._ray.cluster_resources()  # type: ignore[no-untyped-call, unused-ignore]
        return max(1, int(resources.get("CPU", 1)))

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        if call not in CALLS or more:
            raise wrong("usage", "this executor does tasks of plans and points of sweeps alone")
        reference = self._remotes[call].remote(*arguments)
        self._refs.append(reference)
        future: Future[Any] = reference.future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for reference in self._refs:
                self._ray.cancel(reference)
        self._refs.clear()


class _Processes(Executor):
    """Processes of their own, one for each call: nothing is pickled, and the caller's program is not read again."""

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count)
        self._running: set[subprocess.Popen[str]] = set()
        places = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), os.environ.get("PYTHONPATH", "")]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        if call not in CALLS or more:
            raise wrong("usage", "this executor does tasks of plans and points of sweeps alone")
        return self._threads.submit(self._work, call.__name__, arguments)

    def _work(self, call: str, arguments: Sequence[Any]) -> tuple[str, ...]:
        words = [sys.executable, "-m", "secateur.distributed"]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        ) as process:
            self._running.add(process)
            try:
                said, _ = process.communicate(json.dumps([call, arguments]))
            finally:
                self._running.discard(process)
        if process.returncode != 0 or not said:
            raise WorkerLost(f"it ended with status {process.returncode}")
        document = json.loads(said)
        if "error" in document:
            raise made(said, document["error"]["message"])
        return tuple(document["done"])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for process in list(self._running):
                process.kill()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


class WorkerLost(RuntimeError):
    """A process that ended before its tasks were done."""


class _Pool(NamedTuple):
    """An executor, and how many workers it has."""

    executor: Executor
    workers: int


@contextmanager
def _pool(executor: Any, workers: int | None) -> Iterator[_Pool]:
    count = None if workers is None else counted("workers", workers, 1)
    if executor is None:
        many = count or os.cpu_count() or 1
        own = _Processes(many)
        try:
            yield _Pool(own, many)
        finally:
            own.shutdown(cancel_futures=True)
        return
    if hasattr(executor, "get_executor"):
        # A Dask client: a call of a lost worker is done again by itself.
        many = count or sum(executor.nthreads().values()) or 1
        with executor.get_executor(retries=RETRIES) as client:
            yield _Pool(client, many)
        return
    if not hasattr(executor, "submit"):
        hint = "give a concurrent.futures.Executor, a Dask client, or secateur.distributed.ray_executor()"
        raise wrong("usage", f"{type(executor).__name__} is no executor", hint, "executor")
    known = getattr(executor, "workers", None) or getattr(executor, "_max_workers", None)
    yield _Pool(executor, count or known or os.cpu_count() or 1)


@contextmanager
def _folder(folder: PathLike | None) -> Iterator[str]:
    if folder is not None:
        yield os.fspath(folder)
        return
    with tempfile.TemporaryDirectory(prefix="secateur-plan-") as parent:
        yield os.path.join(parent, "plan")


@contextmanager
def _written(job: Mapping[str, Any]) -> Iterator[str]:
    """A job as a file."""
    with tempfile.TemporaryDirectory(prefix="secateur-job-") as folder:
        path = os.path.join(folder, "job.yaml")
        with open(path, "w", encoding="utf-8") as file:
            # JSON is YAML.
            json.dump(job, file, default=os.fspath)
        yield path


def _options(jobs: int | None, force: bool = False) -> _native.Options:
    threads = None if jobs is None else counted("jobs", jobs, 1)
    return _native.Options(json.dumps({"jobs": threads, "force": force}))


def _done(folder: str, base: str | None, tasks: Sequence[str], jobs: int) -> tuple[str, ...]:
    """What a worker does: tasks, by their names."""
    return Plan.open(folder, base).work(tasks, jobs=jobs)


def _points(sweep: str, is_text: bool, folder: str, points: Sequence[str], jobs: int) -> tuple[str, ...]:
    """What a worker does: points of a sweep, by their ids."""
    opened = _native.Sweep.parse(sweep) if is_text else _native.Sweep.open(sweep)
    for point in points:
        opened.run_point(point, folder, _options(jobs), None, LOG.info)
    return tuple(points)


#: What workers are asked for.
CALLS: tuple[Callable[..., tuple[str, ...]], ...] = (_done, _points)


def told(
    what: str, progress: Callable[[str, int, int | None], object] | None
) -> Callable[[int, int], object] | None:
    """Tells how much of something is done."""
    return None if progress is None else lambda done, total: progress(what, done, total)


def _stage(
    work: Callable[[tuple[str, ...]], Future[Any]],
    pending: Sequence[str],
    workers: int,
    retries: int,
    progress: Callable[[int, int], object] | None,
    turns: int = TURNS,
) -> int:
    """Has things done by their names, each turn of a worker several, and answers how many."""
    size = max(1, math.ceil(len(pending) / (turns * workers)))
    queue = [tuple(pending[at : at + size]) for at in range(0, len(pending), size)][::-1]
    waiting: dict[Future[Any], tuple[str, ...]] = {}
    lost: dict[tuple[str, ...], int] = {}
    done = 0

    def lose(turn: tuple[str, ...], error: BaseException) -> None:
        lost[turn] = lost.get(turn, 0) + 1
        if lost[turn] > retries or not _is_loss(error):
            raise error
        LOG.warning("a worker was lost (%s); its tasks are done again", type(error).__name__)
        queue.append(turn)

    try:
        while queue or waiting:
            while queue:
                turn = queue.pop()
                waiting[work(turn)] = turn
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                turn = waiting.pop(future)
                try:
                    future.result()
                except (SecateurError, BrokenProcessPool):
                    raise
                except Exception as error:
                    lose(turn, error)
                else:
                    done += len(turn)
                    if progress is not None:
                        progress(done, len(pending))
    except BrokenProcessPool as error:
        raise wrong(
            "usage",
            "the pool of processes broke: one of its workers was ended",
            "make a new one and call again with the same folder: what is done stays done",
        ) from error
    except BaseException:
        for future in waiting:
            future.cancel()
        raise
    return done


def _is_loss(error: BaseException) -> bool:
    """Whether an error says that a worker is gone, and nothing of the task."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"WorkerLost", "KilledWorker", "WorkerCrashedError", "NodeDiedError", "CommClosedError"})


def _main() -> None:
    """What a process of its own does: one call, read from its input, answered on its output."""
    name, arguments = json.load(sys.stdin)
    call = next(call for call in CALLS if call.__name__ == name)
    try:
        answer: dict[str, Any] = {"done": call(*arguments)}
    except SecateurError as error:
        answer = error.to_dict()
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
