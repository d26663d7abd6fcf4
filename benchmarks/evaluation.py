"""What measuring a data set costs beside its attacks alone, and that the cost grows linearly.

    python -m benchmarks.evaluation [--checkpoint_dir checkpoints] [--rounds 3] [--only costs]

PGD-40 in linf at ten budgets, all 10,000 test images, one process, everything compiled before the
clock starts. Writes evaluation.md (costs), evaluation_growth.md and evaluation.png (growth) into
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import mnist_adv
from mnist_adv.data import datasets
from mnist_adv.drawing.canvas import png, rasterise
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.chunk import Places
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Plan, Targets, list_cases, parse_epsilons
from mnist_adv.evaluation.report import files
from mnist_adv.geometry.norms import Norm
from mnist_adv.models import checkpoints
from mnist_adv.models.model_source import ModelSource
from mnist_adv.reporting import run_card

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
EPSILONS = "0.03,0.06,...,0.3"
STEPS = 40
AIM = 1.3


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model, the images and where they are."""

    model: Any
    digest: str
    places: Places
    test: datasets.Dataset

    def plan(self, targets: Targets, num_images: int) -> Plan:
        """Make the plan that is measured."""
        return Plan(
            checkpoint=self.digest,
            reading="",
            num_classes=10,
            dataset="mnist",
            split="test",
            num_images=num_images,
            attacks=("pgd",),
            norm=Norm.LINF,
            epsilons=parse_epsilons(EPSILONS),
            targets=targets,
            num_steps=STEPS,
            step_size=None,
            seed=0,
            chunk_size=2500,
            versions=run_card.versions(),
        )


@dataclasses.dataclass(frozen=True)
class Times:
    """One round, in seconds.

    Attributes:
        alone: ten calls of `mnist_adv.attack` on all images.
        inside: the calls that the evaluation made, which leaves out what smaller budgets settled.
        chunks: all chunks, the calls inside included.
        finish: reading them, checking, the certified optimum, pictures and page.
    """

    alone: float
    inside: float
    chunks: float
    finish: float


def timed(function: Callable[[], Any]) -> float:
    """Time a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(subject: Subject, targets: Targets, num_images: int) -> Times:
    """Measure one round."""
    plan = subject.plan(targets, num_images)
    alone = attacks_alone(subject, plan)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(pathlib.Path(folder) / "run", plan)
        chunks = timed(lambda: run.execute(store, subject.places, quiet=True))
        inside = sum(kept["pgd"]["attack"] for kept in store.timing())
        finish = timed(lambda: files.finish(store, subject.places, subject.model, "0123456789"))
    return Times(alone, inside, chunks, finish)


def attacks_alone(subject: Subject, plan: Plan) -> float:
    """Time one call of `mnist_adv.attack` on all images for each budget."""
    images, labels = subject.test.images[: plan.num_images], subject.test.labels[: plan.num_images]
    wanted: dict[str, Any] = {"labels": labels}
    if plan.targeted:
        whole = dataclasses.replace(plan, chunk_size=plan.num_images)
        logits = subject.model(images).numpy()
        wanted = {"targets": list_cases(whole, whole.chunks()[0], labels, logits)[1]}
    return sum(
        timed(
            lambda epsilon=epsilon: mnist_adv.attack(  # type: ignore[misc]
                subject.model, images, epsilon=epsilon, num_steps=STEPS, **wanted
            )
        )
        for epsilon in plan.epsilons
    )


@dataclasses.dataclass(frozen=True)
class Processes:
    """One round, in seconds.

    Attributes:
        one: `evaluate.py` on one image, which is start-up, compilation and a nearly empty report.
        alone: ten calls of `mnist_adv.attack` on all images, right after.
        all: `evaluate.py` on all images, right after.
    """

    one: float
    alone: float
    all: float


def whole_processes(checkpoint_dir: str, subject: Subject) -> Processes:
    """Time `evaluate.py` on one image and on all, and its attacks alone."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, str(ROOT / "evaluate.py"), f"--checkpoint_dir={checkpoint_dir}"),
            *(f"--epsilons={EPSILONS}", f"--num_steps={STEPS}"),
        ]

        def seconds(name: str, *flags: str) -> float:
            def call() -> None:
                subprocess.run(
                    [*command, f"--name={name}", *flags],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                )

            return timed(call)

        one = seconds("one", "--num_images=1")
        plan = subject.plan(Targets.UNTARGETED, len(subject.test.labels))
        return Processes(one, attacks_alone(subject, plan), seconds("all"))


@dataclasses.dataclass(frozen=True)
class Growth:
    """How seconds grow with one quantity."""

    name: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def line(self) -> tuple[float, float]:
        """Slope and intercept of the least squares line."""
        slope, start = np.polyfit(self.sizes, self.seconds, 1)
        return float(slope), float(start)

    @property
    def explained(self) -> float:
        """The share of the variance that the line explains."""
        slope, start = self.line
        rest = np.array(self.seconds) - (slope * np.array(self.sizes) + start)
        return 1 - float((rest**2).sum() / np.var(self.seconds) / len(self.seconds))


def growths(subject: Subject, rounds: int) -> list[Growth]:
    """Measure images by evaluations, steps and restarts by attacks that hardly ever succeed."""
    images, targets = subject.test.images[:2000], (subject.test.labels[:2000] + 1) % 10

    def evaluated(count: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(pathlib.Path(folder) / "run", subject.plan(Targets.UNTARGETED, count))
            return timed(lambda: run.execute(store, subject.places, quiet=True))

    def attacked(**settings: Any) -> float:
        # Where nothing is found, nothing stops early: the cost is that of all steps and restarts.
        return timed(
            lambda: mnist_adv.attack(
                subject.model, images, targets=targets, epsilon=0.005, **settings
            )
        )

    def many(function: Callable[[int], float], sizes: Sequence[int]) -> tuple[float, ...]:
        function(sizes[0])
        return tuple(
            min(function(size) for _ in range(rounds)) for size in tqdm(sizes, disable=None)
        )

    def restarted(count: int) -> float:
        attacked(restarts=count, num_steps=1)  # each number of restarts is compiled once
        return attacked(restarts=count, num_steps=STEPS)

    kinds: tuple[tuple[str, Callable[[int], float], tuple[int, ...]], ...] = (
        ("images", evaluated, (1000, 2000, 4000, 6000, 8000, 10000)),
        ("steps", lambda count: attacked(num_steps=count), (20, 40, 80, 160, 240, 320)),
        ("restarts", restarted, (1, 2, 4, 6, 8)),
    )
    return [Growth(name, sizes, many(function, sizes)) for name, function, sizes in kinds]


def draw(found: Sequence[Growth]) -> np.ndarray:
    """Draw one panel per quantity: what was measured, and the fitted line."""
    figure = Figure(figsize=(11, 3.6))
    told = {
        "images": "evaluate.py, ten budgets, untargeted",
        "steps": "PGD, 2,000 images that do not give way",
        "restarts": f"PGD-{STEPS}, the same images",
    }
    for place, growth in enumerate(found):
        axis = figure.add_axes((0.06 + 0.325 * place, 0.16, 0.265, 0.7))
        slope, start = growth.line
        ends = np.array([0, growth.sizes[-1] * 1.04])
        axis.plot(ends, slope * ends + start, color="#7f7f7f", linewidth=1.2, label="fitted line")
        axis.plot(growth.sizes, growth.seconds, "o", color="#1f77b4", label="measured")
        axis.set(xlabel=growth.name, ylim=(0, 1.1 * max(growth.seconds)), xlim=(0, ends[1]))
        axis.set_title(told[growth.name], fontsize=9.5)
        axis.grid(alpha=0.3)
        axis.text(0.97, 0.06, f"R2 = {growth.explained:.4f}", transform=axis.transAxes, ha="right")
        if not place:
            axis.set_ylabel("seconds")
            axis.legend(frameon=False, fontsize=9)
    return rasterise(figure)


def table(rounds: dict[Targets, list[Times]], processes: Sequence[Processes]) -> str:
    """Write the figures as Markdown."""
    lines = [
        f"PGD-{STEPS}, linf, epsilons {EPSILONS}, 10,000 test images, one process, compiled before "
        "the clock starts; medians.",
        "",
        "| goal | ten attacks alone | attacks inside | all chunks | chunks / inside | report "
        "| (chunks + report) / ten attacks alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for targets, times in rounds.items():
        alone, inside, chunks, finish = (
            statistics.median(getattr(each, field.name) for each in times)
            for field in dataclasses.fields(Times)
        )
        beside = statistics.median(each.chunks / each.inside for each in times)
        whole = statistics.median((each.chunks + each.finish) / each.alone for each in times)
        lines.append(
            f"| {targets.value} | {alone:.2f} s | {inside:.2f} s | {chunks:.2f} s | {beside:.2f} "
            f"| {finish:.2f} s | {whole:.2f} |"
        )
    one, whole = (
        statistics.median(getattr(each, name) for each in processes) for name in ("one", "all")
    )
    ratio = statistics.median((each.all - each.one) / each.alone for each in processes)
    lines += [
        "",
        "*Ten attacks alone* are ten calls of `mnist_adv.attack` on all images; *attacks inside* "
        "are the calls that the evaluation makes, which leave out what a smaller budget has "
        "settled. *All chunks* adds rounding to 8 bits, repair, judging and writing; *report* is "
        "the checks, the certified optimum, pictures and page.",
        "",
        f"Whole process, untargeted: {whole:.2f} s; with one image, which is start-up, "
        f"compilation and an empty report: {one:.2f} s. The difference is "
        f"{ratio:.2f} times ten attacks alone, timed between the two (aim: {AIM}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint_dir", default="checkpoints")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("costs", "growth"), help="one of the two parts")
    arguments = parser.parse_args()
    folder = str(pathlib.Path(arguments.checkpoint_dir).absolute())
    restored = checkpoints.load(folder)
    subject = Subject(
        restored.model, restored.digest, Places(ModelSource(folder)), datasets.load("mnist", "test")
    )
    if arguments.only != "growth":
        (RESULTS / "evaluation.md").write_text(costs(subject, folder, arguments.rounds))
        print((RESULTS / "evaluation.md").read_text())
    if arguments.only != "costs":
        (RESULTS / "evaluation_growth.md").write_text(growth(subject, arguments.rounds))
        print((RESULTS / "evaluation_growth.md").read_text())


def costs(subject: Subject, folder: str, count: int) -> str:
    """Measure evaluations beside their attacks."""
    rounds: dict[Targets, list[Times]] = {}
    for targets in (Targets.UNTARGETED, Targets.RANDOM):
        measure(subject, targets, 100)
        rounds[targets] = [
            measure(subject, targets, 10000)
            for _ in tqdm(range(count), desc=targets.value, disable=None)
        ]
    processes = [
        whole_processes(folder, subject) for _ in tqdm(range(count), desc="all", disable=None)
    ]
    return table(rounds, processes)


def growth(subject: Subject, rounds: int) -> str:
    """Measure how costs grow, and draw it."""
    found = growths(subject, max(rounds, 5))
    (RESULTS / "evaluation.png").write_bytes(png(draw(found)))
    lines = [
        f"Cost by {each.name}: {each.line[0]:.3g} s each and {each.line[1]:.2g} s once; "
        f"the line explains {each.explained:.2%} of the variance.  \n"
        for each in found
    ]
    return "".join([*lines, "\n![cost](evaluation.png)\n"])


if __name__ == "__main__":
    main()
