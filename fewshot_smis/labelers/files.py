"""Labelers as files: tensors in .safetensors, everything else as JSON in its header."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewshot_smis.data import Classes
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.prototypes import PixelPrototypes
from fewshot_smis.labelers.sparse import SparseLabeler
from stylegan.errors import CheckpointError

KEY = "labeler"  # of the header's metadata


def save_labeler(labeler: Labeler, path: str | Path) -> None:
    """Write `labeler` to `path` (.safetensors), whole or not at all."""
    path = Path(path)
    about = {"kind": labeler.kind, "classes": asdict(labeler.classes), **labeler.options()}
    part = path.with_suffix(path.suffix + ".part")
    try:
        tensors = {k: v.cpu() for k, v in labeler.state_dict().items()}
        save_file(tensors, str(part), metadata={KEY: json.dumps(about)})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_labeler(path: str | Path, device: str = "cpu") -> Labeler:
    """Read a labeler that `save_labeler` wrote.

    Raises:
        CheckpointError: The file is missing, is no safetensors file, or holds no labeler.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a labeler written by 'label' or 'train'")
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    if KEY not in metadata:
        raise CheckpointError(f"{path}: holds no labeler; give a file written by save_labeler")
    try:
        return _build(json.loads(metadata[KEY]), tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the labeler in it is incomplete ({error!r})") from error


def _build(about: dict[str, Any], tensors: dict[str, Tensor]) -> Labeler:
    kind, given = about.pop("kind"), about.pop("classes")
    names, colors = tuple(given.pop("names")), tuple(tuple(c) for c in given.pop("colors"))
    classes = Classes(names=names, colors=colors, **given)
    if kind == DenseLabeler.kind:
        return DenseLabeler(classes, tensors["proto"], **about)
    if kind == SparseLabeler.kind:
        return SparseLabeler(classes, PixelPrototypes(tensors["proto"], tensors["ids"]), **about)
    raise ValueError(f"unknown kind {kind}")
