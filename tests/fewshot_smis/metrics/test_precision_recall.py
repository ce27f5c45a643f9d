"""Precision, recall, density and coverage on clouds whose overlap is known."""

import pytest
import torch

from fewshot_smis.metrics.precision_recall import density_coverage, precision_recall, radii
from stylegan.errors import ShapeError
from stylegan.seeding import stream


@pytest.fixture
def clouds() -> torch.Tensor:
    return torch.randn(2, 300, 4, generator=stream(0, "clouds"))


def test_a_set_lies_on_its_own_manifold(clouds):
    assert precision_recall(clouds[0], clouds[0]) == (1.0, 1.0)
    density, coverage = density_coverage(clouds[0], clouds[0])
    assert coverage == 1.0
    assert density == pytest.approx(6 / 5, abs=0.2)  # k others on average, and the row itself


def test_clouds_far_apart_share_nothing(clouds):
    assert precision_recall(clouds[0], clouds[1] + 100) == (0.0, 0.0)
    assert density_coverage(clouds[0], clouds[1] + 100) == (0.0, 0.0)


def test_samples_of_one_distribution_have_density_one(clouds):
    density, coverage = density_coverage(clouds[0], clouds[1])
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.03)  # exactly that for equal large sets


def test_samples_of_one_mode_are_precise_but_recall_half():
    gen = stream(1, "modes")
    left, right, fake = torch.randn(3, 400, 2, generator=gen).unbind()
    real = torch.cat([left, right + 50])
    precision, recall = precision_recall(real, fake)
    assert precision > 0.95
    assert recall == pytest.approx(0.5, abs=0.03)
    assert density_coverage(real, fake).coverage == pytest.approx(0.5, abs=0.05)


def test_balls_on_a_line_are_counted_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    fake = torch.tensor([[-1.0], [3.5], [20.0], [21.0], [5.5]])
    assert radii(real, 1).tolist() == [1, 1, 2, 7]
    # -1 is in the ball of 0; 3.5 in those of 3 and 10; 5.5 in that of 10; 20 and 21 in none
    assert precision_recall(real, fake, k=1).precision == pytest.approx(3 / 5)
    # balls of the samples reach [-5.5, 3.5], [1.5, 5.5], [19, 21], [20, 22], [3.5, 7.5]
    assert precision_recall(real, fake, k=1).recall == pytest.approx(3 / 4)
    assert density_coverage(real, fake, k=1) == pytest.approx((4 / 5, 3 / 4))


def test_a_set_smaller_than_its_neighbourhood_is_refused():
    with pytest.raises(ShapeError, match="3 rows have no 3-th neighbours"):
        precision_recall(torch.zeros(3, 2), torch.zeros(9, 2))
