"""Codes of a prior (ws) as files, and the check that codes and prior belong together."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan import Prior
from stylegan.errors import CheckpointError, ShapeError
from stylegan.files import Container, container_of, read_tensors, read_torch, write_tensors

KEYS = ("ws", "codes", "latent")  # names of the codes in files of ours and of others


def check_codes(ws: Tensor, prior: Prior) -> None:
    """Raise ShapeError unless `ws` are codes [N,L,D] of this prior, N at least 1."""
    if ws.ndim != 3 or len(ws) == 0:
        raise ShapeError(
            f"codes have the shape {list(ws.shape)}, but [N, {prior.num_ws}, {prior.w_dim}] "
            "with at least one code is needed"
        )
    if ws.shape[1] != prior.num_ws or ws.shape[2] != prior.w_dim:
        raise ShapeError(
            f"the codes have num_ws {ws.shape[1]} and w_dim {ws.shape[2]}, but the prior has "
            f"num_ws {prior.num_ws} and w_dim {prior.w_dim}; they were made with another prior: "
            "invert the pictures again with this one"
        )


def save_codes(
    path: str | Path,
    ws: Tensor,
    names: Sequence[str],
    meta: dict[str, Any] | None = None,
) -> None:
    """Write the codes `ws` [N,L,D] and one name each to `path` (.safetensors).

    `meta` is kept as JSON beside them.

    Raises:
        ShapeError: Names and codes differ in number.
        CheckpointError: The file cannot be written.
    """
    if len(names) != len(ws):
        raise ShapeError(f"{len(ws)} codes, but {len(names)} names; give each code one name")
    about = {"names": json.dumps(list(names)), "meta": json.dumps(meta or {})}
    write_tensors(Path(path), {"ws": ws.detach().float()}, about)


def load_codes(path: str | Path, prior: Prior | None = None) -> tuple[list[str], Tensor]:
    """Read names and codes ws [N,L,D] from a file.

    Opens files of `save_codes`, and .pt files as the public reference writes them,
    {"codes": [N,L,D]}; the codes of these take the name of the file. With `prior`, the codes
    are also checked to be its own.

    Raises:
        CheckpointError: The file is missing, unreadable or holds no codes.
        ShapeError: The codes do not belong to `prior`.
    """
    path = Path(path)
    names, ws = _read(path)
    if ws.ndim == 2:
        ws = ws[None]
    if ws.ndim != 3 or not ws.is_floating_point():
        raise CheckpointError(f"{path}: holds {list(ws.shape)}, but codes are [N, num_ws, w_dim]")
    if not torch.isfinite(ws).all():
        raise CheckpointError(f"{path}: holds codes that are not finite; invert again")
    names = names or ([path.stem] if len(ws) == 1 else [f"{path.stem}-{i}" for i in range(len(ws))])
    if len(names) != len(ws):
        raise CheckpointError(f"{path}: holds {len(ws)} codes, but {len(names)} names")
    if prior is not None:
        try:
            check_codes(ws, prior)
        except ShapeError as error:
            raise ShapeError(f"{path}: {error}") from error
    return names, ws.float()


def _read(path: Path) -> tuple[list[str], Tensor]:
    """Return the names, where the file has some, and the codes as they are stored."""
    names: list[str] = []
    content: Any
    if container_of(path) is Container.SAFETENSORS:
        content, about = read_tensors(path)
        names = list(json.loads(about.get("names", "[]")))
    else:
        content = read_torch(path)
    if isinstance(content, Tensor):
        return names, content
    values = content if isinstance(content, dict) else {}
    for key in KEYS:
        if isinstance(values.get(key), Tensor):
            return names, values[key]
    found = ", ".join(map(str, list(values)[:5])) or type(content).__name__
    raise CheckpointError(f"{path}: holds no codes but {found}; give a file written by 'invert'")
