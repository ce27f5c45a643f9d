"""The landmark commands: photographs become pairs, odd ones are told, errors are measured."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fewshot_smis.data import load_pairs, write_image
from tests.tools.faces import face_points, stub_detector
from tools import landmarks
from tools.detectors import DETECTORS
from tools.landmark_maps import read_points
from tools.landmarks import main


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A face, two faces, none, and a head turned away; brightness tells the stub which."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("one", "two", "none", "turned")):
        write_image(folder / f"{name}.png", np.full((90, 120, 3), number, np.uint8))
    return folder


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    turned = face_points((60, 45), 30)
    turned[30, 0] += 14
    small, large = face_points((20, 45), 20), face_points((70, 45), 30)
    faces = {0: [face_points((60, 45), 30)], 1: [small, large], 2: [], 3: [turned]}
    monkeypatch.setattr(landmarks, "open_detector", stub_detector(faces))
    return lambda: None


@pytest.mark.usefixtures("stubbed")
def test_photographs_become_pairs_and_odd_ones_are_named(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    result = call("label", photos, "--out", out, "--points", "70")
    assert "two.png: 2 faces; the largest is labelled" in result.output
    assert "none.png: no face found; it may be in profile" in result.output
    assert "turned.png: turned to the right by more than 40 degrees" in result.output
    assert "/one.png:" not in result.output
    assert f"3 of 4 photographs are labelled: {out}" in result.output

    pairs = load_pairs(out)
    assert pairs.names == ["one", "turned", "two"]
    assert pairs.classes.num_classes == 71
    assert pairs.classes.sparse
    stated = json.loads((out / "landmarks.json").read_text())
    assert set(stated) == set(pairs.names)
    assert np.array(stated["two"]).shape == (70, 2)
    np.testing.assert_allclose(stated["two"][:68], face_points((70, 45), 30))
    found = read_points(pairs.pairs[0].label.numpy(), 70)
    known = np.isfinite(found).all(1)
    assert known.sum() > 50
    assert np.abs(found - np.array(stated["one"]))[known].max() <= 0.5
    assert (out / "overlays.png").stat().st_size > 0


@pytest.mark.usefixtures("stubbed")
def test_pairs_can_be_made_where_the_photographs_are(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    call("label", photos / "one.png", "--out", out)
    before = (out / "images" / "one.png").read_bytes()
    call("label", out, "--out", out)
    assert (out / "images" / "one.png").read_bytes() == before
    assert load_pairs(out).classes.num_classes == 69


@pytest.mark.usefixtures("stubbed")
def test_photographs_that_give_nothing_are_an_error(photos: Path, tmp_path: Path) -> None:
    result = call("label", photos / "none.png", "--out", tmp_path / "out", code=1)
    assert "Error: no face in any of the photographs" in result.output
    assert not (tmp_path / "out").exists()
    (tmp_path / "more").mkdir()
    write_image(tmp_path / "more" / "one.jpg", np.zeros((9, 9, 3), np.uint8))
    result = call("label", photos, tmp_path / "more", "--out", tmp_path / "out", code=1)
    assert "are named 'one'; rename one" in result.output
    assert call("label", photos, code=2).output.count("--out") >= 1
    result = call("label", photos, "--out", tmp_path, "--detector", "eyes", code=2)
    assert all(name in result.output for name in DETECTORS)


@pytest.mark.usefixtures("stubbed")
def test_found_points_are_compared_with_landmark_maps(photos: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "pairs", tmp_path / "sheet.png"
    call("label", photos / "one.png", "--out", out)
    for name in ("landmarks.json", "maps"):  # from the points themselves, then from the maps
        result = call("compare", out, "--each", "--sheet", sheet)
        mean = float(result.output.split("one: mean ")[1].split(" %")[0])
        assert mean < 2, name  # maps state points to half a pixel
        assert "hit_rate: 1.0" in result.output
        (out / "landmarks.json").unlink(missing_ok=True)
    assert "over" not in result.output
    assert sheet.stat().st_size > 0
    write_image(out / "images" / "stranger.png", np.zeros((90, 120, 3), np.uint8))
    assert "states no landmarks for 'stranger.png'" in call("compare", out, code=1).output
    assert "no landmarks.json and no labels/" in call("compare", photos, code=1).output
