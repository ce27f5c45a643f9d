"""Unlabelled pictures to train a prior on: a folder, read lazily and kept in memory."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from stylegan.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class ImageCollection:
    """The pictures of a folder (or of its `images/`), cropped to the centre and resized.

    `batch` returns uint8 [N, 3, size, size]. Raises DataError for an empty folder, and for a
    file that is no picture when it is first read.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; --data takes a folder of pictures")
        inner = folder / "images"
        root = inner if inner.is_dir() else folder
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not self.files:
            raise DataError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
        self.size = size
        self.pixels = torch.zeros(len(self.files), 3, size, size, dtype=torch.uint8)
        self.known = torch.zeros(len(self.files), dtype=torch.bool)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures of `indices` [N] as uint8 [N, 3, size, size]."""
        for i in indices.tolist():
            if not self.known[i]:
                self.pixels[i] = read_square(self.files[i], self.size)
                self.known[i] = True
        return self.pixels[indices]


def read_square(path: Path, size: int) -> Tensor:
    """Read a picture's central square at `size` px as uint8 [3, size, size]."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(
            f"{path}: not a readable picture ({error}); remove or replace it"
        ) from error
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if side != size:
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
