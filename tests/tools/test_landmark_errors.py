"""Landmark errors by arithmetic, and what is told of many."""

import numpy as np
import pytest

from stylegan.errors import DataError, ShapeError
from tools.landmark_errors import REGIONS, Match, describe, landmark_errors, summarize


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
    exact[36] = np.nan
    with pytest.raises(DataError, match="hidden"):
        landmark_errors(exact, exact)


def test_hidden_points_are_left_out() -> None:
    exact = exact_points()
    found = exact + np.array([0, 5])
    exact[3] = np.nan
    match = Match("a", np.zeros((8, 8, 3), np.uint8), exact, found)
    assert describe(match).startswith("mean 10.00 %, median 10.00 %")
    assert describe(match).endswith("67 points")
    assert summarize([match])["jaw_percent"] == 10
    assert describe(match._replace(found=None)) == "no face found"


def test_regions_cover_each_point_once() -> None:
    covered = [i for part in REGIONS.values() for i in range(68)[part]]
    assert covered == list(range(68))


def test_summary_tells_misses_regions_and_common_shifts() -> None:
    exact = exact_points()
    picture = np.zeros((8, 8, 3), np.uint8)
    shift = np.zeros((68, 2))
    shift[REGIONS["brows"]] = (0, -5)
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
