"""The Frechet distance against closed forms, the kernel distance against a double sum."""

import math

import pytest
import torch

from fewshot_smis.metrics.distribution import frechet_distance, kernel_distance
from stylegan.errors import ShapeError
from stylegan.seeding import stream


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


def test_kernel_distance_equals_the_double_sum() -> None:
    gen = stream(0, "sets")
    a, b = torch.randn(7, 3, generator=gen), torch.randn(9, 3, generator=gen) + 1
    shuffle = stream(1, "blocks")
    x, y = (s[torch.randperm(len(s), generator=shuffle)[:6]].view(2, 3, 3).double() for s in (a, b))

    def kernel(p: torch.Tensor, q: torch.Tensor) -> float:
        return float((p @ q / 3 + 1) ** 3)

    values = []
    for i in range(2):
        pairs = [(j, k) for j in range(3) for k in range(3)]
        within = sum(kernel(s[i, j], s[i, k]) for s in (x, y) for j, k in pairs if j != k) / 6
        values.append(within - 2 * sum(kernel(x[i, j], y[i, k]) for j, k in pairs) / 9)
    got = kernel_distance(a, b, stream(1, "blocks"), block=3)
    assert got.value == pytest.approx(sum(values) / 2)
    assert got.error == pytest.approx(abs(values[0] - values[1]) / 2)


def test_kernel_distance_is_unbiased_at_zero_and_sees_a_shift() -> None:
    gen = stream(2, "sets")
    found = [
        kernel_distance(*torch.randn(2, 200, 8, generator=gen).unbind(), gen, block=20)
        for _ in range(30)
    ]
    values = torch.tensor([f.value for f in found])
    error = float(values.std()) / 30**0.5
    assert abs(float(values.mean())) < 3 * error
    assert values.min() < 0 < values.max()
    # the stated error is the spread over repeats
    assert sum(f.error for f in found) / 30 == pytest.approx(float(values.std()), rel=0.3)
    a, b = torch.randn(2, 200, 8, generator=gen).unbind()
    shifted = kernel_distance(a, b + 0.5, gen, block=20)
    assert shifted.value > 5 * shifted.error > 0


def test_kernel_distance_needs_two_blocks() -> None:
    with pytest.raises(ShapeError, match="at least two of them"):
        kernel_distance(torch.zeros(9, 2), torch.zeros(9, 2), stream(0, "x"), block=5)
