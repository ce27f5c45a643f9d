"""Strokes drawn with hard edges, equal to a slow formula; the JSON form and what it refuses."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_smis.data import Classes
from stylegan.errors import DataError, LabelError
from tools.strokes import Stroke, class_id, draw_strokes, read_strokes

CLASSES = Classes(("unknown", "ear", "Tail"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)), sparse=True)


def slow_line(points: np.ndarray, width: float, size: tuple[int, int]) -> np.ndarray:
    """Whether each pixel's middle is within half a width of a point very close to the line."""
    inked = np.zeros(size, bool)
    share = np.linspace(0, 1, 2001)[:, None]
    for a, b in pairwise(points):
        for x, y in a * (1 - share) + b * share:
            rows, columns = np.ogrid[: size[0], : size[1]]
            inked |= np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= width / 2
    return inked


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), width=st.floats(1, 9))
def test_lines_equal_the_slow_formula(seed: int, width: float) -> None:
    points = np.random.default_rng(seed).uniform(-5, [35, 25], (3, 2))  # some outside
    drawn = draw_strokes([Stroke(points, 2, width)], (20, 30))
    slow = slow_line(points, width, (20, 30))
    assert not (slow & (drawn != 2)).any()
    assert ((drawn == 2) != slow).sum() <= 1  # the samples may miss a pixel just on the edge


def test_later_strokes_lie_above_dots_are_round_and_thin_lines_have_no_gaps() -> None:
    dot = Stroke(np.array([[10.0, 6.0]]), 1, 6.0)
    line = Stroke(np.array([[0.5, 0.5], [19.5, 9.5]]), 2, 0.1)
    label = draw_strokes([dot, line], (12, 20))
    rows, columns = np.indices(label.shape) + 0.5
    disc = np.hypot(columns - 10, rows - 6) <= 3
    np.testing.assert_array_equal(label == 1, disc & (label != 2))
    assert (label == 2).any(0).all()
    assert set(np.unique(label)) == {0, 1, 2}


def test_filled_strokes_have_an_inside_and_scale() -> None:
    square = Stroke(np.array([[2, 2], [8, 2], [8, 6], [2, 6]], float), 1, 0.0, filled=True)
    inside = draw_strokes([square.scaled(2, 3)], (20, 30)) == 1
    assert inside[7:17, 5:15].all()
    assert not inside[:5].any()
    assert not inside[:, 18:].any()
    assert Stroke(square.points, 1, 4.0).scaled(2, 8).width == pytest.approx(16)


def test_classes_are_named_by_name_id_or_colour() -> None:
    assert [class_id(v, CLASSES) for v in ("tail", 2, "#0000FF")] == [2, 2, 2]
    for wrong in ("nose", 0, 3, True, None, "#000000", "unknown"):
        with pytest.raises(LabelError, match="the classes are ear #ff0000, Tail #0000ff"):
            class_id(wrong, CLASSES)


def test_json_drawings_are_read(tmp_path: Path) -> None:
    drawing = {
        "size": [40, 20],
        "width": 3,
        "strokes": [
            {"class": "ear", "points": [[1, 2], [3, 4.5]]},
            {"class": 2, "width": 5, "points": [[1, 2]]},
            {"class": "#ff0000", "filled": True, "points": [[1, 2], [5, 5], [9, 0]]},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(drawing))
    strokes, size = read_strokes(path, CLASSES)
    assert size == (20, 40)
    assert [(s.id, s.width, s.filled) for s in strokes] == [
        (1, 3.0, False),
        (2, 5.0, False),
        (1, 3.0, True),
    ]
    np.testing.assert_array_equal(strokes[0].points, [[1, 2], [3, 4.5]])


STROKE = {"class": "ear", "width": 1, "points": [[1, 2]]}
WRONG: list[tuple[Any, str]] = [
    ([], "a drawing is"),
    ({"strokes": []}, '"size" is None'),
    ({"size": [4, 4], "strokes": [], "colour": 1}, "has the key 'colour'; known are"),
    ({"size": [4, 4], "strokes": [STROKE, 3]}, "stroke 2: is not"),
    ({"size": [4, 4], "strokes": [STROKE | {"class": "eye"}]}, "stroke 1: no class is 'eye'"),
    ({"size": [4, 4], "strokes": [STROKE | {"points": [[1], [2, 3]]}]}, r"stroke 1: \"points\""),
    ({"size": [4, 4], "strokes": [STROKE | {"width": "thin"}]}, "stroke 1: \"width\" is 'thin'"),
    ({"size": [4, 4], "strokes": [STROKE | {"pen": 1}]}, "stroke 1: it has the key 'pen'"),
]


@pytest.mark.parametrize(("drawing", "message"), WRONG)
def test_wrong_drawings_are_refused(drawing: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(drawing))
    with pytest.raises(DataError, match=rf"a\.json: .*{message}"):
        read_strokes(path, CLASSES)
