"""Trainings of equal time: how many steps fit, told by the first ones."""

import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol, TypeVar

TRIAL_STEPS = 6  # the first half only warms up
OVERRUN = 1.5  # how far a training may exceed its time before it is stopped


class Timed(Protocol):
    """A report of a training's step."""

    @property
    def seconds(self) -> float:
        """Time of the step."""


Report = TypeVar("Report", bound=Timed)


def steps_within(seconds: float, trial: Iterable[Timed]) -> int:
    """Return how many steps like those of `trial` fit into `seconds`, at least one."""
    durations = [report.seconds for report in islice(trial, TRIAL_STEPS)]
    return max(1, int(seconds / statistics.median(durations[len(durations) // 2 :])))


def timed(reports: Iterable[Report], seconds: float) -> Iterator[Report]:
    """Pass on the reports of a training; stop it where it has long exceeded its time."""
    start = time.perf_counter()
    for report in reports:
        yield report
        if time.perf_counter() - start > OVERRUN * seconds:
            return
