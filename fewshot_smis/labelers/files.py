"""Labelers as files: tensors in .safetensors, everything else as JSON in its header."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.data import Classes
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.linear import Heads, LinearLabeler
from fewshot_smis.labelers.prototypes import PixelPrototypes
from fewshot_smis.labelers.sparse import SparseLabeler
from stylegan.errors import CheckpointError
from stylegan.files import Container, container_of, read_tensors, write_tensors

KEY = "labeler"  # of the header's metadata


def save_labeler(labeler: Labeler, path: str | Path) -> None:
    """Write `labeler` to `path` (.safetensors), whole or not at all.

    Raises CheckpointError if the file cannot be written.
    """
    about = {"kind": labeler.kind, "classes": asdict(labeler.classes), **labeler.options()}
    write_tensors(Path(path), labeler.state_dict(), {KEY: json.dumps(about)})


def load_labeler(path: str | Path, device: torch.device | str = "cpu") -> Labeler:
    """Read a labeler that `save_labeler` wrote.

    Raises:
        CheckpointError: The file is missing, is no safetensors file, or holds no labeler.
    """
    path = Path(path)
    if container_of(path) is not Container.SAFETENSORS:
        raise CheckpointError(f"{path}: not a safetensors file; give a labeler of this program")
    tensors, metadata = read_tensors(path)
    if KEY not in metadata:
        raise CheckpointError(f"{path}: holds no labeler; give a file written by save_labeler")
    try:
        return _build(json.loads(metadata[KEY]), tensors).to(device)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the labeler in it is incomplete ({error!r})") from error


def _build(about: dict[str, Any], tensors: dict[str, Tensor]) -> Labeler:
    kind, given = about.pop("kind"), about.pop("classes")
    names, colors = tuple(given.pop("names")), tuple(tuple(c) for c in given.pop("colors"))
    classes = Classes(names=names, colors=colors, **given)
    if kind == DenseLabeler.kind:
        return DenseLabeler(classes, tensors["proto"], **about)
    if kind == LinearLabeler.kind:
        weight = {r: tensors[f"weight{r}"] for r in about.pop("resolutions")}
        return LinearLabeler(classes, Heads(weight, tensors["bias"]), **about)
    if kind == SparseLabeler.kind:
        return SparseLabeler(classes, PixelPrototypes(tensors["proto"], tensors["ids"]), **about)
    raise ValueError(f"unknown kind {kind}")
