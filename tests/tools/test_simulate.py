"""Marks made from dense maps stay in their regions, and are where their kind says."""

import sys

import numpy as np
import pytest

from fewshot_smis.data import IGNORE, Classes
from stylegan.errors import BackendError, ConfigError
from tools.simulate import KINDS, simulate


def dense_map() -> np.ndarray:
    """A wide bar of class 2 and a square of class 1 on class 0, with a corner unknown."""
    label = np.zeros((60, 90), np.int64)
    label[10:21, 10:80] = 2
    label[30:55, 30:55] = 1
    label[50:, 80:] = IGNORE
    return label


def marks_of(kind: str, width: float = 3.0) -> np.ndarray:
    pytest.importorskip("skimage", reason="needs scikit-image (extra `scribbles`)")
    return simulate(dense_map(), 3, kind, np.random.default_rng(0), width)


@pytest.mark.parametrize("kind", KINDS)
def test_marks_stay_in_their_regions_and_each_has_some(kind: str) -> None:
    dense, marks = dense_map(), marks_of(kind)
    assert set(np.unique(marks)) == {0, 1, 2, 3}
    for id_, value in ((1, 1), (2, 2), (3, 0)):  # class 0 comes last
        assert (dense[marks == id_] == value).all()
    assert (marks > 0).mean() < 0.4
    again = simulate(dense, 3, kind, np.random.default_rng(0), 3.0)
    np.testing.assert_array_equal(marks, again)


def test_lines_run_along_the_middle() -> None:
    bar = marks_of("lines") == 2
    assert bar[15, 25:65].all()
    assert not bar[10:13].any()
    assert not bar[18:21].any()


def test_contours_are_the_rim_but_not_the_edge_of_the_picture() -> None:
    marks = marks_of("contours")
    square = np.zeros((25, 25), bool)
    square[3:-3, 3:-3] = True
    np.testing.assert_array_equal(marks[30:55, 30:55] == 1, ~square)
    assert not marks[:5, :70].any()
    assert (marks[7:10, 20:70] == 3).all()


def test_crosses_cross_in_the_middle() -> None:
    bar = marks_of("crosses") == 2
    assert bar[15, 10:80].all()
    assert bar[10:21, 44:46].all()
    assert bar.sum() < 70 * 3 + 11 * 3 + 1


def test_specks_get_no_mark_unless_they_are_all_there_is() -> None:
    pytest.importorskip("scipy", reason="needs scipy (extra `scribbles`)")
    label = dense_map()
    label[2:4, 2:4] = 2
    label[40:42, 70:72] = 4
    marks = simulate(label, 5, "contours", np.random.default_rng(0), 3.0)
    assert not marks[2:4, 2:4].any()
    assert (marks[40:42, 70:72] == 4).all()


def test_dense_classes_become_sparse() -> None:
    classes = Classes(("wall", "door"), ((0, 0, 0), (200, 200, 200))).as_sparse()
    assert classes.names == ("unknown", "door", "wall")
    assert classes.colors == ((0, 0, 0), (200, 200, 200), (199, 199, 199))
    assert classes.sparse
    assert classes.as_sparse() is classes


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="no marks are called 'dots'; choose from strokes, lines"):
        simulate(dense_map(), 3, "dots", rng, 3.0)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[scribbles\]'"):
        simulate(dense_map(), 3, "crosses", rng, 3.0)
