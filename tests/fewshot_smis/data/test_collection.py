"""Folders of unlabelled pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_smis.data.collection import ImageCollection
from stylegan.errors import DataError


def picture(path: Path, height: int, width: int) -> np.ndarray:
    """Save noise between two black margins; return what the central square holds."""
    pixels = np.random.default_rng(height).integers(1, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def test_pictures_are_cropped_to_the_centre_and_kept_exactly_at_their_size(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    wide = picture(tmp_path / "images" / "2.png", 8, 12)
    tall = picture(tmp_path / "images" / "10.png", 15, 8)
    data = ImageCollection(tmp_path, 8)
    assert len(data) == 2
    got = data.batch(torch.tensor([1, 0, 1]))
    assert got.dtype == torch.uint8
    for i, wanted in enumerate((tall, wide, tall)):
        np.testing.assert_array_equal(got[i].permute(1, 2, 0).numpy(), wanted)


def test_other_sizes_are_resized(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (10, 200, 30)).save(tmp_path / "a.jpg", quality=100)
    got = ImageCollection(tmp_path, 16).batch(torch.tensor([0]))
    assert got.shape == (1, 3, 16, 16)
    assert (got[0].float().mean(dim=(1, 2)) - torch.tensor([10.0, 200, 30])).abs().max() < 3


def test_bad_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        ImageCollection(tmp_path / "nowhere", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        ImageCollection(tmp_path / "empty", 8)
    picture(tmp_path / "whole.png", 40, 40)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    data = ImageCollection(tmp_path, 8)
    with pytest.raises(DataError, match=r"cut\.png"):
        data.batch(torch.tensor([0]))
