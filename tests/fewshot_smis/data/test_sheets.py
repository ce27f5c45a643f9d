import numpy as np
import pytest
import torch

from fewshot_smis.data import Classes
from fewshot_smis.data.sheets import fit_cell, grid, magnify, overlay
from stylegan.errors import ShapeError


def flat(height, width, color=(10, 200, 30)):
    return np.full((height, width, 3), color, np.uint8)


def count(sheet, color):
    return int((sheet == np.array(color)).all(axis=-1).sum())


def test_small_pictures_are_magnified_by_whole_numbers():
    picture = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    big = magnify(picture, 128)
    assert big.shape == (160, 256, 3)
    np.testing.assert_array_equal(big[::4, ::4], picture)
    np.testing.assert_array_equal(big[3::4, 3::4], picture)
    assert magnify(big, 128) is big


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (128, 128)),
        ((100, 300), (200, 600)),
        ((256, 256), (256, 256)),
        ((1024, 512), (512, 256)),
        ((300, 600), (256, 512)),
    ],
)
def test_cells_are_between_one_and_two_times_the_cell(size, shown):
    assert fit_cell(flat(*size), 128).shape[:2] == shown


def test_grid_shows_every_picture_once():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    red, green, blue = (flat(8, 8, color) for color in colors)
    sheet = grid([[red, green], [None, blue]], cell=16)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 16 + 3 * 4, 2 * 16 + 3 * 4, 3)
    assert [count(sheet, color) for color in colors] == [256, 256, 256]
    rows, columns = np.nonzero((sheet == np.array(colors[2])).all(axis=-1))
    assert rows.min() == columns.min() == 24


def test_rows_may_differ_in_length_and_pictures_in_size():
    sheet = grid([[flat(8, 24)], [flat(16, 16), flat(8, 8), flat(8, 8)]], cell=8)
    assert count(sheet, (10, 200, 30)) == 8 * 24 + 16 * 16 + 2 * 64


def test_titles_take_room_and_are_drawn():
    rows = [[flat(8, 8)] * 2] * 3
    bare = grid(rows)
    titled = grid(rows, row_titles=["first", "second\nline", ""], col_titles=["left", "right"])
    assert titled.shape[0] > bare.shape[0] + 8
    assert titled.shape[1] > bare.shape[1] + 30
    dark = (titled < 100).all(axis=-1)
    top, left = titled.shape[0] - bare.shape[0], titled.shape[1] - bare.shape[1]
    assert dark[:top, left:].sum() > 20
    assert dark[top:, :left].sum() > 20
    assert not dark[:top, :left].any()
    assert count(titled, (10, 200, 30)) == 6 * 128 * 128


def test_a_wide_title_is_not_cut():
    sheet = grid([[flat(8, 8)]], col_titles=["a title much wider than its picture"], cell=16)
    dark = (sheet < 200).any(axis=-1)
    columns = np.nonzero(dark.any(axis=0))[0]
    assert columns[-1] < sheet.shape[1] - 1
    assert columns[-1] - columns[0] > 100


@pytest.mark.parametrize(
    ("rows", "titles", "message"),
    [
        ([], {}, "a sheet without pictures"),
        ([[]], {}, "a sheet without pictures"),
        ([[np.zeros((4, 4), np.uint8)]], {}, r"takes uint8 \[H,W,3\], not uint8 \[4, 4\]"),
        ([[np.zeros((4, 4, 3))]], {}, "not float64"),
        ([[flat(4, 4)]], {"row_titles": ["a", "b"]}, "2 titles for 1 rows"),
        ([[flat(4, 4)]], {"col_titles": []}, "0 titles for 1 columns"),
    ],
)
def test_what_cannot_be_shown(rows, titles, message):
    with pytest.raises(ShapeError, match=message):
        grid(rows, **titles)


@pytest.mark.parametrize("sparse", [False, True])
def test_overlay_mixes_colours_and_leaves_the_unknown_bare(sparse):
    classes = Classes(("a", "b"), ((100, 0, 0), (0, 0, 201)), sparse=sparse)
    picture = flat(4, 6, (50, 50, 50))
    painted = overlay(picture, torch.tensor([[0, 1, 255], [1, 1, 1]]), classes)
    assert painted.shape == (4, 6, 3)
    assert painted[0, 0].tolist() == ([50, 50, 50] if sparse else [75, 25, 25])
    assert painted[1, 2].tolist() == [25, 25, 126]
    assert painted[0, 4].tolist() == [50, 50, 50]
    assert (overlay(picture, np.array([[1]]), classes, alpha=1.0) == (0, 0, 201)).all()
