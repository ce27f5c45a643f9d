"""Several processes that train one network: what they average, and which rows are whose.

Process r of W holds the rows r, r + W, r + 2 W, ... of the global batch. The groups of
`minibatch_stddev` are strided likewise, so that the processes form the groups that one would.
Without `torch.distributed` every function here leaves its argument as it is.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from stylegan.seeding import Share, Source


def is_follower() -> bool:
    """Tell whether torchrun (or accelerate) started this process, and not as the first."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes of torchrun for a while; yield the device of this one.

    "cuda" becomes the card of the process's local rank. A process on its own joins nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) for one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def share(gen: torch.Generator) -> Source:
    """Return this process's share of a stream that all of them hold at the same place."""
    rank, world = rank_and_world()
    return gen if world == 1 else Share(gen, rank, world)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in one message."""
    _, world = rank_and_world()
    if world == 1 or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= world
    parts = torch.split(flat, [t.numel() for t in tensors])
    for tensor, mean in zip(tensors, parts, strict=True):
        tensor.copy_(mean.view_as(tensor))


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients of those parameters that have one."""
    average([p.grad for p in parameters if p.grad is not None])


def gather_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes, [N * world, ...]."""
    _, world = rank_and_world()
    if world == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world)]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)
