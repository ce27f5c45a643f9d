"""Foreign label maps: each format reads into classes and shots, and most are written from them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fewshot_smis.data.formats import (
    ade20k,
    binary,
    celebamask,
    cityscapes,
    cocostuff,
    labelme,
    nvidia,
    palette,
    rgb_grey,
)
from fewshot_smis.data.formats.base import LabelSet, Request, Shot, write_pairs

__all__ = ["FORMATS", "Format", "LabelSet", "Request", "Shot", "write_pairs"]


class Format(NamedTuple):
    """How label maps of a kind are read and written, `write` into a new folder."""

    read: Callable[[Request], LabelSet]
    write: Callable[[Path, LabelSet], int] | None


FORMATS = {
    "ade20k": Format(ade20k.read_150, ade20k.write_150),
    "ade20k-full": Format(ade20k.read_full, None),
    "binary": Format(binary.read, binary.write),
    "celebamask": Format(celebamask.read, celebamask.write),
    "cityscapes": Format(cityscapes.read_ids, cityscapes.write),
    "cityscapes-color": Format(cityscapes.read_colors, None),
    "cocostuff": Format(cocostuff.read, cocostuff.write),
    "labelme": Format(labelme.read, labelme.write),
    "nvidia": Format(nvidia.read, nvidia.write),
    "palette": Format(palette.read, palette.write),
    "rgb-grey": Format(rgb_grey.read, rgb_grey.write),
}
"""The formats by the names that the command line knows them by."""
