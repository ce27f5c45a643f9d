"""`prior dataset` and `prior augment` from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fewshot_smis.cli import main
from fewshot_smis.data.images import read_image
from fewshot_smis.data.sources import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path / f"{i}.png")
    return path


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["prior", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_folder_is_packed_at_a_size(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "set.zip"
    out = call("dataset", folder, target, "--size", 16, "--width", 24)
    assert "pictures  3" in out
    every = torch.arange(3)
    packed = open_source(target, (16, 24)).batch(every)
    assert torch.equal(packed, open_source(folder, (16, 24)).batch(every))
    assert "exists" in call("dataset", folder, target, code=2)


def test_the_sheet_shows_the_pictures_and_what_becomes_of_them(
    folder: Path, tmp_path: Path
) -> None:
    words = ("augment", folder, "--size", 64, "--count", 2, "--transforms", "color")
    call(*words, tmp_path / "a.png")
    call(*words, tmp_path / "b.png", "--seed", 1)
    a, b = read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png")
    first = open_source(folder, 64).batch(torch.tensor([1]))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(a[4:68, -68:-4], first)  # at strength 0
    np.testing.assert_array_equal(a[:68], b[:68])
    assert (a[-68:-4] != b[-68:-4]).mean() > 0.5
    assert "nowhere" in call("augment", tmp_path / "nowhere", tmp_path / "c.png", code=1)
