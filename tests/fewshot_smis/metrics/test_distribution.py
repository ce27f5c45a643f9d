"""The Frechet distance against closed forms."""

import math

import pytest
import torch

from fewshot_smis.metrics.distribution import frechet_distance, lite0_features
from stylegan.errors import ShapeError
from stylegan.lite0 import load_lite0


def test_equal_sets_are_at_distance_zero() -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert abs(frechet_distance(x, x)) < 1e-8


def test_shift_and_scale_give_the_closed_form() -> None:
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(x, x + 3) == pytest.approx(4 * 9)
    spread = float(torch.cov(x.t()).trace())
    moved = x.mean(dim=0).square().sum()
    assert frechet_distance(x, 2 * x) == pytest.approx(spread + float(moved))


def test_rotated_gaussians_give_the_closed_form() -> None:
    base = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    wide, tall = base * torch.tensor([3.0, 1.0]), base * torch.tensor([1.0, 3.0])
    # both commute: sum of (sqrt a - sqrt b)^2 over axes, with variances 4/3 * scale^2
    expected = 2 * (math.sqrt(4 / 3) * (3 - 1)) ** 2
    assert frechet_distance(wide, tall) == pytest.approx(expected)


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError, match="at least two rows"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))


def test_lite0_features_do_not_depend_on_the_batch() -> None:
    images = torch.rand(3, 3, 40, 32) * 2 - 1
    net = load_lite0()
    a, b = lite0_features(images, net, batch=2), lite0_features(images, net, batch=3)
    assert a.shape == (3, 320)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
