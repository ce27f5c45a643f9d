"""Directions in W+ that edit: kept by name, added to other codes at any strength."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewshot_smis.codes import check_codes
from stylegan import Prior
from stylegan.errors import CheckpointError, ShapeError
from stylegan.files import Container, container_of, read_tensors, write_tensors

KEY = "direction"  # of the header's metadata


class Direction(NamedTuple):
    """An edit as a difference of codes."""

    name: str
    delta: Tensor  # [L,D]
    meta: dict[str, Any]  # where it was found

    def apply(self, ws: Tensor, strength: float = 1.0) -> Tensor:
        """Edit codes [N,L,D]; `strength` 1 is the edit as found, -1 its opposite.

        Raises:
            ShapeError: The codes are of another prior.
        """
        if ws.shape[1:] != self.delta.shape:
            raise ShapeError(
                f"the edit '{self.name}' is for codes [N, {', '.join(map(str, self.delta.shape))}]"
                f", not {list(ws.shape)}; it was found with another prior"
            )
        return ws + strength * self.delta.to(ws)


def learn_direction(
    name: str, before: Tensor, after: Tensor, meta: dict[str, Any] | None = None
) -> Direction:
    """Return the mean difference of codes `after` an edit and `before` it, both [N,L,D].

    Raises:
        ShapeError: They do not belong together, or there are none.
    """
    if before.shape != after.shape or before.ndim != 3 or len(before) == 0:
        raise ShapeError(f"codes {list(before.shape)} were edited to {list(after.shape)}")
    return Direction(name, (after - before).mean(dim=0), meta or {})


def save_direction(direction: Direction, path: Path | str) -> None:
    """Write a direction to `path` (.safetensors), whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    about = {"name": direction.name, **direction.meta}
    write_tensors(Path(path), {"delta": direction.delta.float()}, {KEY: json.dumps(about)})


def load_direction(path: Path | str, prior: Prior | None = None) -> Direction:
    """Read a direction that `save_direction` wrote, and check that it is one of `prior`.

    Raises:
        CheckpointError: The file is missing, or holds no direction.
        ShapeError: It is for another prior.
    """
    path = Path(path)
    tensors: dict[str, Tensor] = {}
    about: dict[str, str] = {}
    if container_of(path) is Container.SAFETENSORS:
        tensors, about = read_tensors(path)
    if KEY not in about or "delta" not in tensors or tensors["delta"].ndim != 2:
        raise CheckpointError(f"{path}: holds no edit; give a file written by 'learn-edit'")
    delta, meta = tensors["delta"], json.loads(about[KEY])
    if not torch.isfinite(delta).all():
        raise CheckpointError(f"{path}: holds numbers that are not finite; learn the edit again")
    if prior is not None:
        check_codes(delta[None], prior)
    return Direction(str(meta.pop("name", path.stem)), delta, meta)
