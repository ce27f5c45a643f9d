"""Named random streams: one seed gives every part of the program a stream of its own.

A new draw in one part leaves the others unchanged, and no code here touches the global
generators of torch, numpy or random.
"""

import hashlib

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


def sample_z(num: int, dim: int, gen: torch.Generator) -> Tensor:
    """Draw `z` [num, dim] from N(0, I) on the generator's device, float32."""
    return torch.randn(num, dim, generator=gen, device=gen.device)
