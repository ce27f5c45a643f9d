"""Steps of a training recorded as CUDA graphs and replayed without Python.

A step of a small network is thousands of short kernels, which a card runs faster than Python can
start them. A graph starts them all at once, on the memory they were recorded on.
"""

import collections
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Losses = dict[str, Tensor]

WARM_UP = 3
"""Calls of each kind that run as they are, while kernels are chosen and memory is claimed."""


class Recorder:
    """Calls a function of tensors; from the fourth call of a kind on by replaying a graph.

    The function may draw from the given streams, and must neither wait for the device nor take
    another path for another value: what decides its path is the `kind`.

    Args:
        device: A CUDA device.
        streams: Every random stream that the function draws from.
    """

    def __init__(self, device: torch.device, streams: Sequence[torch.Generator]) -> None:
        self._streams = streams
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._calls: collections.Counter[Hashable] = collections.Counter()
        self._replays: dict[Hashable, Callable[[Sequence[Tensor | None]], Losses]] = {}
        self._pool: Any = None  # of memory, which the graphs share

    def __call__(
        self,
        kind: Hashable,
        function: Callable[..., Losses],
        *inputs: Tensor | None,
    ) -> Losses:
        """Return `function(*inputs)`; the tensors are overwritten by the next call.

        Args:
            kind: What decides the path of `function`; each has a graph of its own.
            function: The work. Inputs of one kind keep their shapes.
            inputs: Its arguments.
        """
        current = torch.cuda.current_stream(self._side.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            self._calls[kind] += 1
            if self._calls[kind] <= WARM_UP:
                losses = function(*inputs)
            else:
                if kind not in self._replays:
                    self._replays[kind] = self._record(function, inputs)
                losses = self._replays[kind](inputs)
        current.wait_stream(self._side)
        return losses

    def _record(
        self, function: Callable[..., Losses], inputs: Sequence[Tensor | None]
    ) -> Callable[[Sequence[Tensor | None]], Losses]:
        """Record the work, which does not run yet; return what fills the inputs and replays."""
        fixed = [None if x is None else x.clone() for x in inputs]
        graph = torch.cuda.CUDAGraph()
        for stream in self._streams:
            graph.register_generator_state(stream)
        with torch.cuda.graph(graph, pool=self._pool, stream=self._side):
            losses = function(*fixed)
        self._pool = graph.pool()

        def replay(new: Sequence[Tensor | None]) -> Losses:
            for mine, given in zip(fixed, new, strict=True):
                if mine is not None and given is not None:
                    mine.copy_(given)
            graph.replay()
            return losses

        return replay
