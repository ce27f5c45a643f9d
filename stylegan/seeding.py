"""Named random streams: one seed gives every part of the program a stream of its own.

A new draw in one part leaves the others unchanged, and no code here touches the global
generators of torch, numpy or random.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


def stream_seed(seed: int, name: str) -> int:
    """Return the 63-bit seed of the stream `name` under the user's `seed`."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh torch generator for the stream `name` under `seed`, living on `device`."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, name))


def numpy_stream(seed: int, name: str) -> np.random.Generator:
    """Return a fresh numpy generator for the stream `name` under `seed`."""
    return np.random.default_rng(stream_seed(seed, name))


class Share(NamedTuple):
    """One process's share of a stream: each draws all the rows, and keeps every `world`-th."""

    gen: torch.Generator
    rank: int
    world: int

    @property
    def device(self) -> torch.device:
        """The device that draws are made on."""
        return self.gen.device


Source = torch.Generator | Share
"""Where a batch's draws come from; several processes together draw what one would."""


def randn(shape: Sequence[int], gen: Source) -> Tensor:
    """Draw `shape` [N, ...] from N(0, 1) on the source's device, float32."""
    return _draw(torch.randn, shape, gen)


def rand(shape: Sequence[int], gen: Source) -> Tensor:
    """Draw `shape` [N, ...] uniformly from [0, 1) on the source's device, float32."""
    return _draw(torch.rand, shape, gen)


def randint(high: int, shape: Sequence[int], gen: Source) -> Tensor:
    """Draw `shape` [N, ...] from 0 .. high - 1 on the source's device, int64."""
    return _draw(functools.partial(torch.randint, high), shape, gen)


def sample_z(num: int, dim: int, gen: Source) -> Tensor:
    """Draw `z` [num, dim] from N(0, I) on the source's device, float32."""
    return randn((num, dim), gen)


def _draw(draw: Callable[..., Any], shape: Sequence[int], gen: Source) -> Tensor:
    if isinstance(gen, torch.Generator):
        return draw(tuple(shape), generator=gen, device=gen.device)
    rows = (shape[0] * gen.world, *shape[1:])
    return draw(rows, generator=gen.gen, device=gen.device)[gen.rank :: gen.world]
