"""Points become squares with ids and come back; pupils, odd faces, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan.errors import LabelError, ShapeError
from tests.tools.faces import face_points
from tools.landmark_maps import draw_points, read_points, remarks, scheme_classes, with_pupils


def test_squares_have_the_size_of_the_public_maps() -> None:
    points = np.array([[300.5, 500.5], [700.5, 200.5]])
    label = draw_points(points, 1024)
    assert (label == 1).sum() == (label == 2).sum() == 21 * 21
    assert (label[490:511, 290:311] == 1).all()
    assert draw_points(points / 4, 256).astype(bool).sum() == 2 * 5 * 5
    assert draw_points(points / 64, (16, 20)).astype(bool).sum() == 2  # a pixel at least


def test_later_points_hide_earlier_ones_and_those_outside_are_left_out() -> None:
    points = np.array([[5.5, 4.5], [6.5, 4.5], [0.5, 4.5], [-9, 4], [np.nan, 3], [11.5, 7.5]])
    label = draw_points(points, (8, 12), square=3 / 8)
    expected = np.zeros((8, 12), int)
    for number, (x, y) in enumerate(points[:3], 1):
        expected[int(y) - 1 : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2] = number
    expected[6:8, 10:12] = 6
    np.testing.assert_array_equal(label, expected)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), square=st.sampled_from([3 / 60, 5 / 60]))
def test_points_come_back_from_their_squares(seed: int, square: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(5, [75, 55], (10, 2)) + 0.5
    found = read_points(draw_points(points, (60, 80), square=square), 10)
    known = np.isfinite(found).all(1)
    assert known[-1]  # nothing hides the last
    np.testing.assert_allclose(found[known], points[known])


def test_a_map_without_whole_squares_is_refused() -> None:
    with pytest.raises(LabelError, match="no landmark"):
        read_points(np.zeros((8, 9), int))


def test_schemes_name_every_point() -> None:
    names = scheme_classes(70).names
    assert len(names) == 71
    assert names[1] == "jaw 1"
    assert names[37] == "right eye 1"  # of the person: at the left of the picture
    assert names[69:] == ("right pupil", "left pupil")
    assert scheme_classes(68).num_classes == 69
    with pytest.raises(ShapeError, match="no scheme of 5 landmarks; choose 68 or 70"):
        scheme_classes(5)


def test_pupils_are_in_the_middle_of_the_lids() -> None:
    points = face_points((60, 40), 30)
    np.testing.assert_allclose(with_pupils(points)[68:], [[60 - 10.2, 40], [60 + 10.2, 40]])
    with pytest.raises(ShapeError, match=r"\[68, 2\]"):
        with_pupils(points[:60])


def test_doubtful_faces_are_told() -> None:
    points = face_points((60, 45), 30)
    assert remarks(points, (90, 120)) == []
    turned = points.copy()
    turned[30, 0] -= 14
    assert remarks(turned, (90, 120)) == [
        "turned to the left by more than 40 degrees; its far side is guessed"
    ]
    (outside,) = remarks(points, (60, 120))
    assert outside == f"{(points[:, 1] > 60).sum()} of 68 landmarks lie outside the picture"
    assert "12 pixels apart" in remarks(face_points((60, 45), 12), (90, 120))[0]
