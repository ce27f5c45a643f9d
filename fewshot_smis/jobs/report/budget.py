"""Trainings of equal time: how many steps fit, told by the first ones.

On a CPU time is the processor's, so that other programs beside the report do not matter.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from typing import TypeVar

import torch

TRIAL_STEPS = 6  # the first half only warms up
OVERRUN = 1.5  # how far a training may exceed its time before it is stopped

Report = TypeVar("Report")
Clock = Callable[[], float]


def clock_of(device: torch.device) -> Clock:
    """Return what tells the time of trainings on `device`, in seconds."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def steps_within(seconds: float, trial: Iterable[object], clock: Clock) -> int:
    """Return how many steps like those of `trial` fit into `seconds`, at least one."""
    times = [clock(), *(clock() for _ in islice(trial, TRIAL_STEPS))]
    durations = [after - before for before, after in pairwise(times)]
    usual = statistics.median(durations[len(durations) // 2 :])
    return max(1, int(seconds / max(usual, 1e-6)))


def timed(reports: Iterable[Report], seconds: float, clock: Clock) -> Iterator[Report]:
    """Pass on the reports of a training; stop it where it has long exceeded its time."""
    start = clock()
    for report in reports:
        yield report
        if clock() - start > OVERRUN * seconds:
            return
