"""Pictures moved by matrices: against plain flips, turns and shifts, and a slow lookup."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylegan.ops import downsample2d, setup_filter, upsample2d
from stylegan.warp import (
    SYM2,
    SYM6,
    bilinear,
    double,
    fold,
    halve,
    mirror,
    rotation,
    scale,
    shift,
    warp,
)

ONE = torch.ones(1)


def smooth(height: int, width: int) -> torch.Tensor:
    """Return a slow wave [1, 2, H, W] that no symmetry of the square leaves as it is."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([torch.sin(3 * x + y), torch.cos(2 * y - 4 * x * y)])[None]


@pytest.mark.parametrize("taps", [SYM2, SYM6], ids=["sym2", "sym6"])
def test_symlets_are_orthogonal_and_blind_to_polynomials(taps: tuple[float, ...]) -> None:
    h = np.array(taps)
    k = np.arange(len(h))
    assert h.sum() == pytest.approx(2**0.5)
    for lag in range(0, len(h), 2):
        assert h[lag:] @ h[: len(h) - lag] == pytest.approx(float(lag == 0), abs=1e-11)
    for power in range(len(h) // 2):
        assert (h * (-1.0) ** k * k**power).sum() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("margin", [2, 17])
def test_reflection_equals_numpy(margin: int) -> None:
    x = torch.randn(5, 3)
    wanted = np.pad(x.numpy(), ((0, 0), (margin, margin)), "reflect")
    np.testing.assert_array_equal((x @ mirror(3, margin, x).T).numpy(), wanted)


def test_enlarging_and_shrinking_equal_the_resamplers_and_undo_each_other() -> None:
    x = torch.randn(2, 3, 9, 14)
    taps = setup_filter(SYM6)
    padded = F.pad(x, [3] * 4, mode="reflect")
    large = double(x, taps)
    torch.testing.assert_close(large, upsample2d(padded, taps, padding=-6))
    torch.testing.assert_close(
        halve(large, taps), downsample2d(large, taps, padding=-5, flip_filter=True)
    )
    again = halve(double(padded, taps)[:, :, 1:-1, 1:-1], taps)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-5)


def test_fold_takes_fractions() -> None:
    got = fold(torch.tensor([-0.25, 3.0, 3.5, 6.75]), 4)
    torch.testing.assert_close(got, torch.tensor([0.25, 3.0, 2.5, 0.75]))


@pytest.mark.parametrize(
    ("moved", "oracle"),
    [
        (scale(-ONE, 1.0), lambda x: x.flip(3)),
        (scale(ONE, -1.0), lambda x: x.flip(2)),
        (scale(-ONE, -1.0), lambda x: x.rot90(2, (2, 3))),
        (shift(2 * ONE, -3 * ONE), lambda x: F.pad(x, [2, 0, 0, 3], "reflect")[:, :, 3:, :-2]),
    ],
    ids=["flip x", "flip y", "half turn", "shift"],
)
def test_moves_that_keep_pixels_are_exact(moved: torch.Tensor, oracle: object) -> None:
    x = torch.randn(1, 3, 7, 10)
    torch.testing.assert_close(warp(x, moved), oracle(x), rtol=0, atol=0)


def test_quarter_turns_are_exact_and_turn_the_same_way_as_small_ones() -> None:
    x = torch.randn(1, 3, 9, 9)
    quarter = rotation(0 * ONE, ONE)
    torch.testing.assert_close(warp(x, quarter), x.rot90(-1, (2, 3)), rtol=0, atol=0)
    x = smooth(16, 16)
    angle = math.pi / 6 * ONE
    third = rotation(angle.cos(), angle.sin())
    got = warp(warp(warp(x, third), third), third)[:, :, 5:-5, 5:-5]
    torch.testing.assert_close(got, x.rot90(-1, (2, 3))[:, :, 5:-5, 5:-5], rtol=0, atol=0.02)


def test_a_picture_that_is_not_square_turns_about_its_centre() -> None:
    x = torch.randn(1, 1, 5, 9)
    turned = warp(x, rotation(0 * ONE, ONE))
    torch.testing.assert_close(turned[:, :, :, 2:7], x[:, :, :, 2:7].rot90(-1, (2, 3)))
    parity = smooth(8, 11)  # the centre falls between pixels one way and on one the other
    turned = warp(parity, rotation(0 * ONE, ONE))
    back = warp(turned, rotation(0 * ONE, -ONE))[:, :, 3:-3, 4:-4]
    torch.testing.assert_close(back, parity[:, :, 3:-3, 4:-4], rtol=0, atol=0.02)


def test_a_picture_scaled_by_two_is_its_middle_enlarged() -> None:
    x = smooth(16, 20)
    got = warp(x, scale(2 * ONE, 2 * ONE))
    middle = x[:, :, 4:12, 5:15]
    wanted = F.interpolate(middle, scale_factor=2, mode="bicubic", align_corners=False)
    error = (got - wanted)[:, :, 2:-2, 2:-2]
    assert error.abs().max() < 0.02


def test_half_a_pixel_is_the_mean_of_two_neighbours() -> None:
    x = smooth(12, 18)
    got = warp(x, shift(0.5 * ONE, 0 * ONE))
    wanted = (x + x.roll(1, 3)) / 2
    inner = (..., slice(1, -1), slice(4, -4))
    torch.testing.assert_close(got[inner], wanted[inner], rtol=0, atol=0.012)


def test_the_filtered_path_leaves_no_trace_of_a_shift_and_then_back() -> None:
    x = torch.randn(1, 1, 24, 24)
    almost = torch.eye(3)[None] + 1e-7 * torch.ones(3, 3).triu(1)
    got = warp(x, almost)[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(got, x[:, :, 4:-4, 4:-4], rtol=0, atol=1e-4)


def test_each_picture_goes_its_own_way() -> None:
    x = torch.randn(4, 3, 8, 6)
    angle = torch.tensor(0.3)
    moves = torch.cat(
        [
            torch.eye(3)[None],
            scale(-ONE, 1.0),
            rotation(angle.cos()[None], angle.sin()[None]),
            shift(ONE, ONE),
        ]
    )
    together = warp(x, moves)
    alone = torch.cat([warp(x[i : i + 1], moves[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert torch.equal(together[0], x[0])


def test_bilinear_equals_a_slow_sum_and_its_gradients_hold() -> None:
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    grid = torch.rand(2, 3, 2, 2, dtype=torch.float64) * 1.2 - 0.6
    got = bilinear(x, grid)
    for n, i, j in np.ndindex(2, 3, 2):
        u, v = (grid[n, i, j, 0] + 1) * 2.5 - 0.5, (grid[n, i, j, 1] + 1) * 2 - 0.5
        near = (1 - (torch.arange(5) - u).abs()).clamp(min=0)
        down = (1 - (torch.arange(4) - v).abs()).clamp(min=0)
        torch.testing.assert_close(got[n, :, i, j], x[n] @ near @ down)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bilinear(x, grid), x)
    assert torch.autograd.gradgradcheck(lambda x: bilinear(x, grid).square(), x)
