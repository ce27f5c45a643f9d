"""The sliced Wasserstein distance of patches: its zero, and which level a change meets."""

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.metrics.pyramid import sliced_wasserstein
from stylegan.errors import ShapeError
from stylegan.seeding import stream


def pictures(seed: int, count: int = 64) -> torch.Tensor:
    """Soft random pictures [N, 3, 32, 48] with a fine grain."""
    gen = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 6, generator=gen)
    grain = torch.randn(count, 3, 32, 48, generator=gen)
    return F.interpolate(coarse, (32, 48), mode="bilinear") + 0.3 * grain


def distance(a: torch.Tensor, b: torch.Tensor) -> dict[int, float]:
    return sliced_wasserstein(a, b, stream(0, "test"))


def test_a_set_is_at_no_distance_from_itself():
    x = pictures(0)
    assert distance(x, x) == {32: 0.0, 16: 0.0}
    assert distance(x, x.flip(0)) == {32: 0.0, 16: 0.0}  # a set has no order


def test_levels_are_halved_down_to_16_px():
    assert list(distance(pictures(0), pictures(1))) == [32, 16]


def test_shapes_change_the_coarse_level_most():
    x, y = pictures(0), pictures(1)
    same = distance(x, y)
    turned = distance(x, torch.where(torch.arange(48) < 24, y, -y.abs()))
    assert turned[16] > 3 * same[16]


def test_stripes_of_a_pixel_change_the_fine_level_only():
    gen = torch.Generator().manual_seed(2)
    x, y = torch.randn(2, 64, 3, 32, 48, generator=gen)
    stripes = torch.where(torch.arange(48) % 2 == 0, 3.0, -3.0)  # nothing is left of them at 16 px
    same, striped = distance(x, y), distance(x, y + stripes)
    assert striped[32] > 2 * same[32]
    assert striped[16] < 1.1 * same[16]


def test_sets_of_other_sizes_are_refused():
    with pytest.raises(ShapeError, match="as many of one size"):
        distance(pictures(0), pictures(0, 32))
    with pytest.raises(ShapeError, match="at least 16 px"):
        distance(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8))
