"""Attributes of pictures: read from their folder or from rendered faces, and asked for by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_smis.data.attributes import as_conditions
from fewshot_smis.data.images import write_image
from fewshot_smis.data.sources import open_source
from fewshot_smis.faces import face_attributes
from stylegan.errors import ConfigError, DataError

KNOWN = {
    "10": {"hat": True, "headwear": "cap", "age": 0.3, "male": False},
    "9": {"hat": False, "headwear": "none", "age": 1.0, "male": False},
    "b": {"hat": True, "headwear": "beanie", "age": 0.5, "male": False},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in KNOWN:
        write_image(tmp_path / "images" / f"{name}.png", np.zeros((6, 8, 3), np.uint8))
    (tmp_path / "attributes.json").write_text(json.dumps(KNOWN))
    return tmp_path


def test_conditions_follow_the_pictures_and_their_mirrored_copies(folder: Path) -> None:
    data = open_source(folder, (6, 8), flips=True, attributes=("hat", "headwear=none"))
    assert data.c_dim == 2
    want = [[0, 1], [1, 0], [1, 0]]  # 9, 10, b
    assert data.labels(torch.arange(6)).tolist() == want * 2
    assert open_source(folder, (6, 8)).c_dim == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("glasses", "'glasses' holds of no picture; choose from hat, headwear=beanie, headwear=ca"),
        ("headwear=fez", "holds of no picture"),
        ("male", "holds of no picture"),
        ("age", "holds of no picture"),
    ],
)
def test_names_that_hold_of_no_picture_are_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(folder, 4, attributes=("hat", name))


def test_a_name_that_holds_of_every_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="here: 'hat' holds of every picture; leave it out"):
        as_conditions([{"hat": True}, {"hat": True}], ["hat"], "here")


def test_files_without_the_attributes_of_a_picture_are_refused(folder: Path) -> None:
    write_image(folder / "images" / "c.png", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"attributes\.json: has no 'c' for c\.png; add it"):
        open_source(folder, 4, attributes=("hat",))
    (folder / "attributes.json").write_text("[1]")
    with pytest.raises(DataError, match="not of the form"):
        open_source(folder, 4, attributes=("hat",))
    (folder / "attributes.json").unlink()
    with pytest.raises(DataError, match=r"holds no attributes\.json"):
        open_source(folder, 4, attributes=("hat",))


def test_an_archive_has_no_attributes(tmp_path: Path) -> None:
    (tmp_path / "faces.zip").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"attributes\.json of a folder of pictures; unpack"):
        open_source(tmp_path / "faces.zip", 4, attributes=("hat",))


def test_rendered_faces_are_conditioned_without_rendering() -> None:
    names = ("male", "garment=plain", "smiling")
    data = open_source("faces:seed=3,count=8", 16, flips=True, attributes=names)
    rows = [face_attributes(3, i) for i in range(8)]
    want = [[row["male"], row["garment"] == "plain", row["smiling"]] for row in rows]
    assert data.labels(torch.arange(16)).tolist() == want * 2
    with pytest.raises(ConfigError, match="faces:seed=3,count=8: 'fez' holds of no picture"):
        open_source("faces:seed=3,count=8", 16, attributes=("fez",))
