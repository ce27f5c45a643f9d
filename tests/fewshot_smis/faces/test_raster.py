import sys

import numpy as np
import pytest

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.noise import _lattice, fill_noise, value_noise
from fewshot_smis.faces.raster import (
    Canvas,
    box_blur,
    draw_strands,
    draw_triangles,
    fill_majority,
    fill_pooled,
    fill_strands,
    fill_triangles,
    majority,
    pool,
)
from stylegan.errors import BackendError

RNG = np.random.default_rng(0)


def blank(width):
    return Canvas(
        np.zeros((width, width, 3)),
        np.zeros((width, width), np.int64),
        np.full((width, width), -1e9, np.float32),
        np.zeros((width, width), np.uint8),
    )


def random_mesh(count, width):
    points = RNG.uniform(-2, width + 2, (count, 3)).astype(np.float32)
    return points, RNG.integers(0, count, (count, 3)).astype(np.int32)


def test_missing_numba_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(BackendError, match=r"pip install fewshot-smis\[synth\]"):
        compiled(lambda x: x)


def test_triangles_equal_the_plain_kernel():
    width = 13
    points, tris = random_mesh(12, width)
    depth = np.full((width, width), -1e9, np.float32)
    cover = draw_triangles(points, tris, depth)
    tid = -np.ones((width, width), np.int32)
    bary = np.zeros((width, width, 3), np.float32)
    slow = np.full((width, width), -1e9, np.float32)
    fill_triangles(points, tris, width, tid, bary, slow)
    np.testing.assert_array_equal(cover.tri, tid)
    np.testing.assert_allclose(cover.weights, bary, atol=1e-4)
    np.testing.assert_allclose(depth, slow, atol=1e-3)


def test_triangle_covers_pixel_centres_and_interpolates():
    points = np.array([[0, 0, 0], [4, 0, 4], [0, 4, 8]], np.float32)
    depth = np.full((5, 5), -1e9, np.float32)
    cover = draw_triangles(points, np.array([[0, 1, 2]], np.int32), depth)
    rows, columns = np.mgrid[:5, :5]
    np.testing.assert_array_equal(cover.tri >= 0, rows + columns + 1 <= 4)
    hit = cover.tri >= 0
    np.testing.assert_allclose(cover.weights[hit].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(depth[hit], (columns + 0.5 + 2 * (rows + 0.5))[hit], atol=1e-5)


def test_nearer_triangle_wins_whatever_the_order():
    points = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1], [0, 0, 2], [9, 0, 2], [0, 9, 2]])
    tris = np.array([[3, 4, 5], [0, 1, 2]], np.int32)
    depth = np.full((4, 4), -1e9, np.float32)
    assert (draw_triangles(points.astype(np.float32), tris, depth).tri == 0).all()
    assert (depth == 2).all()


def test_strands_equal_the_plain_kernel():
    width, count = 11, 5
    lines = RNG.uniform(-1, width + 1, (count, 4, 3)).astype(np.float32)
    color = RNG.uniform(0, 1, (count, 4, 3)).astype(np.float32)
    fast, slow = blank(width), blank(width)
    draw_strands(fast, lines, color, label=13, radius=1.2, bias=0.1)
    label, radius = np.full(count, 13), np.full(count, 1.2)
    fill_strands(
        lines, color, label, radius, 0.1, width, slow.depth, slow.img, slow.label, slow.strand
    )
    assert (fast.label == 13).any()
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_strands_keep_the_label_map_when_asked_and_hide_behind_what_is_near():
    canvas = blank(8)
    canvas.depth[:, :4] = 5
    lines = np.array([[[0, 4, 1], [8, 4, 1]]], np.float32)
    draw_strands(canvas, lines, np.ones((1, 2, 3), np.float32), label=-1, radius=0.8)
    assert (canvas.label == 0).all()
    assert canvas.strand[:, 4:].any()
    assert not canvas.strand[:, :4].any()


def test_majority_equals_counting_and_prefers_the_lower_id():
    label = RNG.integers(0, 4, (8, 12))
    label[:2, :2] = [[3, 2], [2, 3]]
    small = majority(label, 2)
    blocks = label.reshape(4, 2, 6, 2).transpose(0, 2, 1, 3).reshape(4, 6, 4)
    slow = np.array([[np.bincount(block).argmax() for block in row] for row in blocks])
    assert small.dtype == np.uint8
    assert small[0, 0] == 2
    np.testing.assert_array_equal(small, slow)
    plain = np.zeros((4, 6), np.uint8)
    fill_majority(label, 2, plain)
    np.testing.assert_array_equal(plain, slow)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pooled_light_is_the_mean_of_each_block(factor):
    img = RNG.uniform(-0.5, 1, (6, 12, 3))
    blocks = np.maximum(img, 0).reshape(6 // factor, factor, 12 // factor, factor, 3)
    small = pool(img, factor)
    np.testing.assert_allclose(small, blocks.mean((1, 3)), atol=1e-12)
    plain = np.empty_like(small)
    fill_pooled(img, factor, plain)
    np.testing.assert_array_equal(plain, small)


def test_box_blur_equals_two_direct_means():
    values = RNG.uniform(0, 1, (7, 5))
    slow = values
    for _ in range(2):
        frame = np.pad(slow, 1, mode="edge")
        slow = np.mean([frame[y : y + 7, x : x + 5] for y in range(3) for x in range(3)], 0)
    np.testing.assert_allclose(box_blur(values, 1), slow, atol=1e-12)


def test_noise_equals_the_plain_kernel_and_repeats():
    points = RNG.uniform(-40, 40, (3, 5, 3)).astype(np.float32)
    out = np.empty(15, np.float32)
    offset = np.array([0.5, 7.25, 31.0])
    fill_noise(points.reshape(-1, 3), 3.0, offset, _lattice(), out)
    noise = value_noise(points, 3, offset)
    assert noise.shape == (3, 5)
    np.testing.assert_allclose(noise.ravel(), out, atol=1e-5)
    np.testing.assert_allclose(value_noise(points, 3, offset + 32), noise, atol=1e-4)
    np.testing.assert_allclose(value_noise(points * 3 + offset), noise, atol=1e-4)


def test_noise_equals_trilinear_interpolation_beyond_a_block():
    points = RNG.uniform(-5, 5, (300, 3))
    lattice, whole = _lattice().reshape(32, 32, 32), np.floor(points).astype(int)
    t = points - whole
    t = t * t * (3 - 2 * t)
    slow = np.zeros(300)
    for corner in np.ndindex(2, 2, 2):
        share = np.where(corner, t, 1 - t).prod(1)
        slow += share * lattice[tuple(((whole + corner) % 32).T)]
    np.testing.assert_allclose(value_noise(points), slow, atol=1e-5)


def test_noise_at_lattice_points_is_the_lattice():
    points = np.array([[0.0, 0.0, 0.0], [3.0, 31.0, 7.0], [-1.0, 32.0, 5.0]])
    lattice = _lattice().reshape(32, 32, 32)
    expected = [lattice[0, 0, 0], lattice[3, 31, 7], lattice[31, 0, 5]]
    np.testing.assert_allclose(value_noise(points), expected, atol=1e-6)
