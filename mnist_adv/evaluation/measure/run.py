"""Compute chunks on an engine and store the results in the order in which they finish.

Workers return bytes; only this process writes. Engines are joblib's: this process, several local
ones (loky), or whatever machines a Dask scheduler knows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import joblib
from tqdm import tqdm

from mnist_adv.arguments import shown, whole
from mnist_adv.attacks.progress import told
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.errors import first_line
from mnist_adv.evaluation.measure.chunk import Places, compute
from mnist_adv.evaluation.measure.store import Store, Timing
from mnist_adv.evaluation.plan import Chunk, Plan, Targets
from mnist_adv.tensors import startup

# Others fail in Dask in ways of their own, and leave threads that wait for one another.
_ADDRESS = re.compile(r"(tcp|tls)://[\w.\-\[\]:]+:\d{1,5}", re.ASCII)
_MOST_JOBS = 4096  # local processes
_REDRAWN = 0.3  # seconds between two drawings of a bar


class Backend(enum.Enum):
    """Where chunks are computed."""

    LOCAL = "local"
    DASK = "dask"


@dataclasses.dataclass(frozen=True)
class Engine:
    """Where chunks are computed, and by how many at once; not part of the plan.

    Attributes:
        backend: this machine, or a Dask cluster.
        jobs: local processes; 1 is this one.
        scheduler: the address of Dask's scheduler, `tcp://host:port`.

    Raises:
        ValueError: jobs that are no integer in 1..4096; a scheduler without Dask or Dask
            without a scheduler; an address of another form.
    """

    backend: Backend = Backend.LOCAL
    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        whole(self.jobs, "jobs", 1, _MOST_JOBS)
        if (self.backend is Backend.DASK) != (self.scheduler is not None):
            raise ValueError(
                "backend dask and scheduler tcp://host:port go together. "
                f"Received: backend {self.backend.value}, scheduler {self.scheduler}"
            )
        if self.scheduler is not None and not _ADDRESS.fullmatch(self.scheduler):
            raise ValueError(
                f"scheduler must be tcp://host:port. Received: {shown(self.scheduler)}"
            )


@dataclasses.dataclass
class _Expectations:
    """Tell once of each ensemble how long all of it takes.

    It is measured in the first chunk, wherever that is computed.
    """

    plan: Plan
    write: Callable[[str], object] | None  # None: nobody is told
    jobs: int = 1
    name: str = ""
    told: set[str] = dataclasses.field(default_factory=set)

    @property
    def expect(self) -> Callable[[int, float], None] | None:
        # None: measuring it takes time, and once of each ensemble is enough.
        return None if self.write is None or self.name in self.told else self._expect

    def _expect(self, count: int, seconds: float) -> None:
        self.told.add(self.name)
        cases = self.plan.num_images
        if self.plan.targets is Targets.ALL:
            cases *= self.plan.num_classes - 1
        minimal = ATTACKS.find(self.name).attack.minimal
        budgets = 1 if minimal else len(self.plan.epsilons)
        # Chunks are cut evenly, and as many are computed at once as there are jobs.
        at_once = min(self.jobs, -(-self.plan.num_images // self.plan.chunk_size))
        if self.write is not None:
            self.write(f"{self.name}, {told(cases, seconds * cases * budgets / (count * at_once))}")

    def begin(self, name: str, total: int) -> None:
        self.name = name

    def __call__(self, count: int) -> None:
        pass


@dataclasses.dataclass
class _Inside(_Expectations):
    """Show behind a bar how far the attack, or the part of an ensemble, is that now runs."""

    bar: Any = None
    done: int = 0
    total: int = 0
    drawn: float = 0.0

    @classmethod
    def behind(cls, bar: Any, plan: Plan) -> _Inside:
        write = None if bar.disable else functools.partial(bar.write, file=sys.stderr)
        return cls(plan, write, bar=bar)

    def begin(self, name: str, total: int) -> None:
        self.name, self.done, self.total, self.drawn = name, 0, total, 0.0
        self(0)

    def __call__(self, count: int) -> None:
        # Of searches that run several times the number of runs is not told.
        self.done = min(self.done + count, self.total)
        if time.monotonic() - self.drawn > _REDRAWN:
            if self.done:  # what has attacked is compiled
                self.bar.set_description("attacking", refresh=False)
            self.bar.set_postfix_str(f"{self.name} {self.done}/{self.total}")
            self.drawn = time.monotonic()


def execute(store: Store, places: Places, engine: Engine = Engine(), *, quiet: bool = False) -> int:
    """Compute the chunks that a store lacks.

    Args:
        store: where results go, as they come.
        places: where model and data are.
        engine: where they are computed.
        quiet: whether to show no progress bar.

    Returns:
        How many chunks were computed.

    Raises:
        ValueError: as `compute`; Dask asked for and not installed.
        OSError: as `compute`; the scheduler cannot be reached.
    """
    waiting = store.missing()
    done = store.plan.num_images - sum(chunk.end - chunk.first for chunk in waiting)
    bar = tqdm(total=store.plan.num_images, initial=done, unit="image", disable=quiet)
    inside = _Inside.behind(bar, store.plan)
    with bar, contextlib.ExitStack() as stack:
        if waiting:
            bar.set_description("compiling")  # until the first images are there
            for chunk, (content, timing) in _results(stack, store, places, engine, waiting, inside):
                store.put(chunk, content, timing)
                bar.set_description("attacking", refresh=False)
                bar.update(chunk.end - chunk.first)
    store.sweep()
    return len(waiting)


def _results(
    stack: contextlib.ExitStack,
    store: Store,
    places: Places,
    engine: Engine,
    waiting: list[Chunk],
    inside: _Inside,
) -> Iterator[tuple[Chunk, tuple[bytes, Timing]]]:
    if engine.backend is Backend.LOCAL and engine.jobs == 1:
        return ((chunk, compute(store.plan, places, chunk.number, inside)) for chunk in waiting)
    if engine.backend is Backend.DASK:
        stack.enter_context(_client(engine.scheduler))
        stack.enter_context(joblib.parallel_config(backend="dask"))
        call = joblib.delayed(_in_worker)
        tasks = (call(store.plan, places, chunk, 0, None, 0) for chunk in waiting)
        return joblib.Parallel(return_as="generator_unordered")(tasks)
    threads = max(1, (os.cpu_count() or 1) // engine.jobs)
    call = joblib.delayed(_in_worker)
    telling = 0 if inside.write is None else engine.jobs
    tasks = (
        call(store.plan, places, chunk, threads, os.getcwd(), telling if chunk is waiting[0] else 0)
        for chunk in waiting
    )
    parallel = joblib.Parallel(
        n_jobs=engine.jobs,
        backend="loky",
        return_as="generator_unordered",
        # A chunk takes seconds: waiting for the next costs nothing, holding many costs memory.
        pre_dispatch="n_jobs",
        batch_size=1,
    )
    return parallel(tasks)


def _in_worker(
    plan: Any, places: Places, chunk: Chunk, threads: int, folder: str | None, telling: int
) -> tuple[Chunk, tuple[bytes, Timing]]:
    _prepare(threads)
    if folder is not None:
        os.chdir(folder)  # a model given as a function is imported from here
    expectations = _Expectations(plan, _write_over_bar, telling) if telling else None
    return chunk, compute(plan, places, chunk.number, expectations)


def _write_over_bar(line: str) -> None:
    # The bar is another process's, and on the same terminal; it draws itself again below.
    width = shutil.get_terminal_size().columns
    print(f"\r{line:<{width - 1}}", file=sys.stderr, flush=True)


def _prepare(threads: int) -> None:
    startup.import_tensorflow()
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # a worker that has computed already keeps its number
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


@contextlib.contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            "backend dask needs one more package: pip install 'mnist_adv[dask]'"
        ) from error
    try:
        client = Client(scheduler, timeout=10)
    except TypeError as error:  # tls:// without Dask's settings of it
        raise ConnectionError(f"{scheduler} cannot be reached ({first_line(error)})") from error
    with client:
        yield client
