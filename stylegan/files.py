"""Open and write files of weights: what is it, read it safely, write it whole."""

import argparse
import contextlib
import enum
import io
import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from stylegan.errors import CheckpointError

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's magic number, pickled
_AGAIN = "download or copy the file again"
_TORCH_ERRORS = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError)


class Container(enum.Enum):
    """How a file of weights packs its tensors."""

    TORCH = "PyTorch file"
    PICKLE = "pickle"
    SAFETENSORS = "safetensors"


class TensorFile(NamedTuple):
    """The content of a safetensors file: tensors by name, and the header's metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def container_of(path: Path) -> Container:
    """Tell from its first bytes how a file is packed.

    Raises:
        CheckpointError: the file is missing, empty, a web page, a Git LFS pointer, or nothing
            that holds weights.
    """
    head, size = _head(path)
    if head.startswith(_TORCH_LEGACY) or head.startswith(b"PK\x03\x04"):
        return Container.TORCH
    if head[4:9] == b"\0\0\0\0{":  # length of the JSON header, then the header
        if int.from_bytes(head[:8], "little") + 8 > size:
            raise CheckpointError(f"{path}: truncated ({size:,} bytes); {_AGAIN}")
        return Container.SAFETENSORS
    if head[:1] == b"\x80":
        return Container.PICKLE
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")):
        raise CheckpointError(
            f"{path}: a web page, not a checkpoint: the download needs a login or another "
            "address; open it in a browser and save the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a Git LFS pointer; run 'git lfs pull' to get the file")
    if path.suffix in (".pkl", ".pickle") and head[:1] in b"cd(]}i":
        return Container.PICKLE  # protocols 0 and 1 have no mark of their own
    raise CheckpointError(
        f"{path}: not a checkpoint (expected .pkl, .pt, .pth or .safetensors content)"
    )


def read_torch(path: Path) -> Any:
    """Read a .pt file with `weights_only=True`, onto the CPU.

    Besides tensors and plain values it may hold an `argparse.Namespace`, which is data only and
    occurs in public training checkpoints.

    Raises:
        CheckpointError: the file is truncated, or holds objects that only running code can
            rebuild; the first of them is named.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        found = re.search(r"GLOBAL ([\w.]+)", str(err))
        if found is None:
            raise CheckpointError(f"{path}: truncated or damaged PyTorch file; {_AGAIN}") from err
        raise CheckpointError(
            f"{path}: refused, because it holds {found[1]}, which takes running code to rebuild; "
            "nothing was run. Ask its authors for a file of tensors, or save its state dict alone"
        ) from err
    except _TORCH_ERRORS as err:
        raise CheckpointError(f"{path}: truncated or damaged PyTorch file; {_AGAIN}") from err


def read_tensors(path: Path) -> TensorFile:
    """Read a safetensors file onto the CPU.

    Raises:
        CheckpointError: the file is truncated or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return TensorFile(tensors, dict(file.metadata() or {}))
    except (safetensors.SafetensorError, OSError, RuntimeError, ValueError) as err:
        raise CheckpointError(f"{path}: truncated or damaged safetensors file; {_AGAIN}") from err


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole.

    Raises:
        CheckpointError: the file cannot be written; nothing half-written is left.
    """
    ready = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    write_whole(path, safetensors.torch.save(ready, dict(metadata)))


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Write a .pt file of tensors and plain values whole.

    Raises:
        CheckpointError: the file cannot be written; nothing half-written is left.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and move it there, so that `path` is never half a file.

    Raises:
        CheckpointError: the file cannot be written, for example as the disk is full; an older
            file of that name is left as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as err:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: could not be written ({err.strerror or err}); "
            f"{len(data):,} bytes are needed. Free some space or choose another folder"
        ) from err


def json_text(values: Mapping[str, Any]) -> str:
    """Return values as JSON for a safetensors header."""
    return json.dumps(values, sort_keys=True)


def _head(path: Path) -> tuple[bytes, int]:
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; name the checkpoint file inside it")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as err:
        raise CheckpointError(f"{path}: no such file; check the path") from err
    except OSError as err:
        raise CheckpointError(f"{path}: cannot be read ({err.strerror})") from err
    if size == 0:
        raise CheckpointError(f"{path}: empty (0 bytes); {_AGAIN}")
    return head, size
