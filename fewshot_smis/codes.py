"""Codes of a prior (ws) as files, and the check that codes and prior belong together."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stylegan import Generator
from stylegan.errors import CheckpointError, ShapeError

KEYS = ("ws", "codes", "latent")  # names of the codes in files of ours and of others


def check_codes(ws: Tensor, prior: Generator) -> None:
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

    `meta` is kept as JSON beside them. Raises ShapeError if names and codes differ in number.
    """
    if len(names) != len(ws):
        raise ShapeError(f"{len(ws)} codes, but {len(names)} names; give each code one name")
    path = Path(path)
    about = {"names": json.dumps(list(names)), "meta": json.dumps(meta or {})}
    part = path.with_suffix(path.suffix + ".part")
    try:
        save_file({"ws": ws.detach().float().cpu().contiguous()}, str(part), metadata=about)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_codes(path: str | Path, prior: Generator | None = None) -> tuple[list[str], Tensor]:
    """Read names and codes ws [N,L,D] from a file.

    Files of `save_codes`, and the reference's .pt of {"codes": [N,L,D]}, whose codes take the
    name of the file. With `prior`, the codes are also checked to be its own.

    Raises:
        CheckpointError: The file is missing, unreadable or holds no codes.
        ShapeError: The codes do not belong to `prior`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a codes file written by 'invert'")
    names, ws = _read_pt(path) if path.suffix in (".pt", ".pth") else _read_safetensors(path)
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


def _read_safetensors(path: Path) -> tuple[list[str], Tensor]:
    try:
        with safe_open(str(path), framework="pt") as file:
            keys = [key for key in KEYS if key in file.keys()]  # noqa: SIM118
            if not keys:
                raise CheckpointError(f"{path}: holds {sorted(file.keys())[:5]}, but no codes")
            about = file.metadata() or {}
            return list(json.loads(about.get("names", "[]"))), file.get_tensor(keys[0])
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable codes file ({error})") from error


def _read_pt(path: Path) -> tuple[list[str], Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable file of tensors ({error})") from error
    if isinstance(content, dict):
        found = [content[key] for key in KEYS if isinstance(content.get(key), Tensor)]
        content = found[0] if found else None
    if not isinstance(content, Tensor):
        raise CheckpointError(f"{path}: holds no codes; expected a tensor named {', '.join(KEYS)}")
    return [], content
