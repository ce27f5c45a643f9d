"""Faces are cut out and pasted back by command."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fewshot_smis.data import read_image, write_image
from tests.tools.faces import face_points, stub_detector
from tools import align
from tools.align import main, name_faces


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs of two faces and of none; red tells the stub which."""
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[:90, :140]
    smooth = np.stack([0 * x, x + y, 200 - x], -1).astype(np.uint8)
    write_image(folder / "pair.png", smooth)
    write_image(folder / "empty.png", np.full((40, 50, 3), 1, np.uint8))
    faces = {0: [face_points((100, 45), 24), face_points((40, 45), 24)], 1: []}
    monkeypatch.setattr(align, "open_detector", stub_detector(faces))
    return folder


def test_faces_are_named_from_the_left() -> None:
    right, left = face_points((90, 9), 9), face_points((10, 9), 9)
    assert name_faces("a", []) == {}
    assert list(name_faces("a", [right])) == ["a"]
    named = name_faces("a", [right, left])
    assert list(named) == ["a-1", "a-2"]
    assert named["a-1"] is left


def test_faces_are_cut_and_an_edited_one_goes_back(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces"
    result = call("cut", photos, "--out", out, "--size", 48)
    assert "empty.png: no face found" in result.output
    assert f"2 faces: {out}" in result.output
    frames = json.loads((out / "frames.json").read_text())
    assert list(frames) == ["pair-1", "pair-2"]
    face = read_image(out / "images" / "pair-2.png")
    assert face.shape == (48, 48, 3)

    edited, pasted = tmp_path / "pair-2.png", tmp_path / "new.png"
    face[..., 0] = 200
    write_image(edited, face)
    frame = ("--frame", out / "frames.json", "--out", pasted)
    call("paste", photos / "pair.png", edited, *frame)
    before, after = read_image(photos / "pair.png"), read_image(pasted)
    assert after[45, 100, 0] == 200
    assert np.abs(after[40:60, 90:110, 1:].astype(int) - before[40:60, 90:110, 1:]).max() <= 4
    np.testing.assert_array_equal(after[:, :40], before[:, :40])  # the other face

    mask = tmp_path / "mask.png"
    write_image(mask, np.zeros((10, 10), np.uint8))
    call("paste", photos / "pair.png", edited, *frame, "--mask", mask)
    np.testing.assert_array_equal(read_image(pasted), before)

    result = call("paste", photos / "pair.png", edited, *frame, "--name", "pair-3", code=1)
    assert "names no face 'pair-3'" in result.output


def test_photographs_without_faces_are_an_error(photos: Path, tmp_path: Path) -> None:
    result = call("cut", photos / "empty.png", "--out", tmp_path / "out", code=1)
    assert "no face in any of the photographs" in result.output
    assert not (tmp_path / "out").exists()
