"""Pictures to train a prior on: read on demand, kept as bytes, doubled by mirroring if asked."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.data.attributes import as_conditions, read_attributes
from fewshot_smis.data.files import write_error
from fewshot_smis.data.images import (
    UInt8,
    as_size,
    list_images,
    read_image,
    resize_image,
    to_tensor,
)
from stylegan.errors import DataError


class PictureSource(ABC):
    """`count` pictures of one size, each made by `read` when it is first asked for.

    Args:
        count: Number of pictures.
        size: (H, W) in pixels, or the side of a square.
        conditions: [count, c_dim] float32, one row a picture; None: unconditional.
        flips: Whether the mirrored pictures follow as count .. 2 * count - 1, as in the papers.
        cache: A file that keeps the pictures for later runs; None keeps them in memory.

    Raises:
        DataError: The cache cannot be written.
    """

    def __init__(
        self,
        count: int,
        size: int | tuple[int, int],
        *,
        conditions: Tensor | None = None,
        flips: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.count, self.size, self.flips = count, as_size(size), flips
        self.conditions = torch.zeros(count, 0) if conditions is None else conditions
        self.c_dim = self.conditions.shape[1]
        shape = (count, 3, *self.size)
        if cache is None:
            self.pixels = torch.zeros(shape, dtype=torch.uint8)
            self.known = torch.zeros(count, dtype=torch.uint8)
            return
        self.pixels = map_bytes(cache, shape)
        self.known = map_bytes(cache.with_suffix(".known.npy"), (count,))
        if self.known.any():  # drawn by another version, it would look otherwise
            first = int(self.known.argmax())
            if not torch.equal(self.read(first), self.pixels[first]):
                self.known.zero_()

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Return picture `index` as uint8 [3, H, W]."""

    def read_all(self, indices: Sequence[int]) -> Iterable[Tensor]:
        """Yield the pictures of those indices in their order."""
        return map(self.read, indices)

    def __len__(self) -> int:
        """Return the number of pictures, mirrored ones included."""
        return self.count * (2 if self.flips else 1)

    def batch(self, indices: Tensor) -> Tensor:
        """Return the pictures of `indices` [N] as uint8 [N, 3, H, W]."""
        rows = indices % self.count
        missing = sorted(set(rows[self.known[rows] == 0].tolist()))
        for i, picture in zip(missing, self.read_all(missing), strict=True):
            self.pixels[i] = picture
            self.known[i] = 1
        found = self.pixels[rows]
        mirrored = (indices >= self.count)[:, None, None, None]
        return torch.where(mirrored, found.flip(3), found)

    def labels(self, indices: Tensor) -> Tensor:
        """Return the conditions of `indices` [N] as float32 [N, c_dim]."""
        return self.conditions[indices % self.count]


class ImageCollection(PictureSource):
    """The pictures of a folder (or of its `images/`), cropped to the centre and resized.

    Args:
        folder: The folder.
        size: (H, W) in pixels, or the side of a square.
        flips: See PictureSource.
        attributes: What to condition on, of the folder's attributes.json; see `as_conditions`.

    Raises:
        DataError: The folder is missing or holds no pictures, or not their attributes; when it is
            first read: a file is no picture.
        ConfigError: An attribute holds of no picture or of all.
    """

    def __init__(
        self,
        folder: Path,
        size: int | tuple[int, int],
        *,
        flips: bool = False,
        attributes: Sequence[str] = (),
    ) -> None:
        self.files = list_images(folder)
        conditions = None
        if attributes:
            known = read_attributes(Path(folder), self.files)
            conditions = as_conditions(known, attributes, str(folder))
        super().__init__(len(self.files), size, conditions=conditions, flips=flips)

    def read(self, index: int) -> Tensor:
        """Read file `index`."""
        return fit_picture(read_image(self.files[index]), self.size)


def fit_picture(array: UInt8, size: tuple[int, int]) -> Tensor:
    """Cut the largest centred part of the shape of `size` from [H,W,3]; resize to [3, *size]."""
    img = to_tensor(array)  # [3,H,W] in [-1,1]
    height, width = img.shape[1:]
    zoom = min(height / size[0], width / size[1])
    cut = (min(round(size[0] * zoom), height), min(round(size[1] * zoom), width))
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    part = resize_image(img[None, :, top : top + cut[0], left : left + cut[1]], size)[0]
    return ((part.clamp(-1, 1) + 1) * 127.5).round().byte()


def map_bytes(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Open the bytes of an .npy file as a tensor on the disk; make it, all zero, if need be.

    Raises:
        DataError: It cannot be made, the disk has no room for it, or it is of another shape.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            need, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
            if need > free:
                raise DataError(
                    f"{path}: {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
                    "choose a folder on another disk"
                )
            np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        stored = np.lib.format.open_memmap(path, "r+")
    except ValueError as error:
        raise DataError(f"{path}: not a cache of pictures; remove it") from error
    except OSError as error:
        raise write_error(path, error) from error
    if stored.shape != shape or stored.dtype != np.uint8:
        raise DataError(f"{path}: holds {list(stored.shape)}, not {list(shape)}; remove it")
    return torch.from_numpy(stored)
