"""How far an attack has come: the runs of the loop report, a bar or a user's function listens."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from mnist_adv.attacks.base import Attack, Outcome, Run
from mnist_adv.attacks.queries import Budget
from mnist_adv.attacks.task import Inputs, Task

Progress = Callable[[int], object]
_MOMENT = 2.0  # seconds


@dataclasses.dataclass(frozen=True)
class Runner:
    """A run of the loop, as `Attack.solve` is given it.

    Attributes:
        run: task, attack, inputs, progress -> outcome.
        progress: called with the number of images, or steps, just finished; if it has a method
            `begin(name, total)`, an ensemble calls that before each of its parts; if it has a
            method `expect(count, seconds)`, before the first, with how long so many images take
            at most.
        budget: of passes through the model; None: there is no limit.
    """

    run: Callable[[Task, Attack, Inputs, Progress | None], Outcome]
    progress: Progress | None = None
    budget: Budget | None = None

    def __call__(self, task: Task, attack: Attack, inputs: Inputs) -> Outcome:
        """Run the loop.

        Args:
            task: what all images share.
            attack: its settings.
            inputs: NumPy arrays `[n, ...]`.

        Returns:
            The best iterate of each image.
        """
        if self.budget is not None:
            return self.budget.hold(self._without_budget, task, attack, inputs)
        return self._without_budget(task, attack, inputs)

    def _without_budget(self, task: Task, attack: Attack, inputs: Inputs) -> Outcome:
        return self.run(task, attack, inputs, self.progress)

    def begin(self, name: str, total: int) -> None:
        """Tell that an ensemble's next part begins.

        Args:
            name: of the part.
            total: how many images its runs finish, at most, those of all runs together.
        """
        begin = getattr(self.progress, "begin", None)
        if begin is not None:
            begin(name, total)


def told(count: int, seconds: float) -> str:
    """Say how long something will take.

    Args:
        count: of the images.
        seconds: at most.

    Returns:
        A few words, in whole seconds, minutes or hours.
    """
    size, unit = next(
        (size, unit)
        for size, unit in ((3600, "hour"), (60, "minute"), (1, "second"))
        if seconds >= 1.5 * size or size == 1
    )
    number = max(1, round(seconds / size))
    images = f"{count} image{'s' * (count != 1)}"
    return f"{images}: at most about {number} {unit}{'s' * (number != 1)}, less as images leave"


def share_budget(
    run: Run, task: Task, attack: Attack, inputs: Inputs, num_runs: int = 1, starts: int = 1
) -> Inputs:
    """Choose numbers of steps with which as many runs as planned fit a budget, if there is one.

    Args:
        run: of the loop.
        task: what all images share.
        attack: that is run.
        inputs: NumPy arrays.
        num_runs: planned, each with these steps.
        starts: of one run, which may be cut into several.

    Returns:
        The inputs, with fewer steps where they would not fit.
    """
    if not isinstance(run, Runner) or run.budget is None:
        return inputs
    return run.budget.shared(task, attack, inputs, num_runs, starts)


class Bar:
    """A bar on standard error, which starts again for each part of an ensemble."""

    def __init__(
        self, bar: Any, *, of_images: bool, tell: Callable[[str], object] | None = None
    ) -> None:
        """Show progress on a tqdm bar.

        Args:
            bar: where.
            of_images: whether it counts images, and not steps.
            tell: called with a line on how long it will take; None: the line goes where the bar
                is, if that is shown.
        """
        self._bar, self._of_images, self._tell = bar, of_images, tell

    def __call__(self, count: int) -> None:
        """Move on.

        Args:
            count: how many have just finished.
        """
        self._bar.update(count)

    def expect(self, count: int, seconds: float) -> None:
        """Tell how long an ensemble will take, if that is more than a moment.

        Args:
            count: of the images.
            seconds: at most.
        """
        if seconds < _MOMENT:
            return
        if self._tell is not None:
            self._tell(told(count, seconds))
        elif not self._bar.disable:
            self._bar.write(told(count, seconds), file=sys.stderr)

    def begin(self, name: str, total: int) -> None:
        """Start again, named after a part.

        Args:
            name: of the part.
            total: how many images it finishes, at most.
        """
        self._bar.set_description(name, refresh=False)
        self._bar.reset(total if self._of_images else None)


@contextlib.contextmanager
def listening(
    progress: bool | Progress | None, count: int, trace: bool
) -> Iterator[Progress | None]:
    """Give what is called with the number just finished: a user's function, or a bar's.

    Args:
        progress: a function, or whether there is a bar; None: nothing listens.
        count: of the images.
        trace: whether steps are counted, and not images.

    Yields:
        The function.
    """
    if progress is None or callable(progress):
        yield progress
        return
    unit, total = ("step", None) if trace else ("image", count)
    with tqdm(desc="attacking", total=total, unit=unit, disable=not progress) as bar:
        yield Bar(bar, of_images=not trace)
