"""Unlabelled pictures to train a prior on: a folder, read lazily and kept in memory."""

from pathlib import Path

import torch
from torch import Tensor

from fewshot_smis.data.images import list_images, read_image, resize_image, to_tensor


class ImageCollection:
    """The pictures of a folder (or of its `images/`), cropped to the centre and resized.

    Raises DataError for a folder that is missing or holds no pictures, and for a file that is no
    picture when it is first read.
    """

    c_dim = 0  # a folder says nothing of conditions

    def __init__(self, folder: Path, size: int) -> None:
        self.files = list_images(folder)
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

    def labels(self, indices: Tensor) -> Tensor:
        """Return the conditions of `indices` [N], which are none: [N, 0]."""
        return torch.zeros(len(indices), 0)


def read_square(path: Path, size: int) -> Tensor:
    """Read a picture's central square at `size` px as uint8 [3, size, size]."""
    img = to_tensor(read_image(path))  # [3,H,W] in [-1,1]
    height, width = img.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = resize_image(img[None, :, top : top + side, left : left + side], size)[0]
    return ((square.clamp(-1, 1) + 1) * 127.5).round().byte()
