"""Landmark errors by arithmetic; the detector on renders, where it is installed; its absence."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fewshot_smis.data import write_image
from stylegan.errors import BackendError, DataError, ShapeError
from tools import landmarks
from tools.landmarks import Match, detect, landmark_errors, main, packaged_predictor, summarize


def exact_points() -> np.ndarray:
    """Any 68 points whose outer eye corners are 50 pixels apart."""
    points = np.random.default_rng(0).uniform(40, 60, (68, 2))
    points[36], points[45] = (20, 30), (60, 60)
    return points


def test_errors_are_distances_over_the_outer_eye_distance() -> None:
    exact = exact_points()
    shift = np.zeros((68, 2))
    shift[10], shift[20] = (3, 4), (0, -10)
    errors = landmark_errors(exact + shift, exact)
    assert errors[10] == pytest.approx(0.1)
    assert errors[20] == pytest.approx(0.2)
    assert np.count_nonzero(errors) == 2
    larger = landmark_errors(3 * (exact + shift), 3 * exact)  # the size does not matter
    np.testing.assert_allclose(larger, errors)


def test_points_that_cannot_be_measured_are_refused() -> None:
    exact = exact_points()
    with pytest.raises(ShapeError, match=r"landmarks are \[68, 2\], not \[70, 2\]"):
        landmark_errors(np.zeros((70, 2)), exact)
    with pytest.raises(DataError, match="eye corners"):
        landmark_errors(exact, np.zeros((68, 2)))


def test_regions_cover_each_point_once() -> None:
    covered = [i for part in landmarks.REGIONS.values() for i in range(68)[part]]
    assert covered == list(range(68))


def test_summary_tells_misses_regions_and_common_shifts() -> None:
    exact = exact_points()
    picture = np.zeros((8, 8, 3), np.uint8)
    shift = np.zeros((68, 2))
    shift[landmarks.REGIONS["brows"]] = (0, -5)
    matches = [
        Match("a", picture, exact, exact + shift),
        Match("b", picture, exact, exact - shift),
        Match("c", picture, exact, None),
        Match("d", picture, exact, exact + shift),
    ]
    facts = summarize(matches)
    assert facts["pictures"] == 4
    assert facts["hit_rate"] == 0.75
    assert facts["brows_percent"] == 10
    assert facts["jaw_percent"] == facts["mouth_percent"] == 0
    assert facts["mean_percent"] == facts["median_percent"] == pytest.approx(100 / 68, abs=0.01)
    assert facts["offset_percent"]["brows"] == pytest.approx([0, -10 / 3], abs=0.01)
    assert summarize(matches[2:3]) == {"pictures": 1, "hit_rate": 0.0}


def test_missing_packages_are_named_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(landmarks.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[faces\]'.*--predictor"):
            detect(picture)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(BackendError, match=r"dlib.*pip install 'fewshot-smis\[faces\]'"):
        detect(picture, tmp_path / "other.dat")


def test_only_pictures_are_searched() -> None:
    with pytest.raises(ShapeError, match=r"uint8 \[H,W,3\], not uint8 \(8, 8\)"):
        detect(np.zeros((8, 8), np.uint8))


def test_a_file_that_is_no_predictor_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="needs dlib-bin (extra `faces`)")
    with pytest.raises(DataError, match=r"none.dat: not a predictor of dlib"):
        detect(np.zeros((8, 8, 3), np.uint8), tmp_path / "none.dat")


def test_a_rendered_face_is_found_where_it_is(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="needs dlib-bin (extra `faces`)")
    pytest.importorskip("numba", reason="needs numba (extra `synth`)")
    try:
        packaged_predictor()
    except BackendError as error:
        pytest.skip(str(error))
    from fewshot_smis.faces import render_folder

    folder = tmp_path / "faces"
    render_folder(folder, 2, 160, seed=1)
    blank = folder / "images" / "blank.png"
    write_image(blank, np.full((96, 128, 3), 128, np.uint8))
    exact = json.loads((folder / "landmarks.json").read_text())
    exact["blank"] = exact["000000"]
    (folder / "landmarks.json").write_text(json.dumps(exact))

    found = {match.name: match.found for match in landmarks.match_folder(folder)}
    assert found["blank"] is None
    for name in ("000000", "000001"):
        assert found[name] is not None
        assert landmark_errors(found[name], np.array(exact[name])).mean() < 0.1

    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(main, ["compare", str(folder), "--sheet", str(sheet)])
    assert result.exit_code == 0, result.output
    assert "hit_rate: 0.667" in result.output
    assert sheet.stat().st_size > 0

    blank.rename(folder / "images" / "stranger.png")
    result = CliRunner().invoke(main, ["compare", str(folder)])
    assert result.exit_code == 1
    assert "landmarks.json: names no 'stranger'" in result.output
