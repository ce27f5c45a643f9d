"""Planted copies are found, and chunks do not change the result."""

import pytest
import torch

from fewshot_smis.metrics.neighbours import nearest
from stylegan.errors import ShapeError
from stylegan.seeding import stream


def test_neighbours_equal_a_full_sort_whatever_the_chunk():
    gen = stream(0, "neighbours")
    a, b = torch.randn(7, 3, generator=gen), torch.randn(9, 3, generator=gen)
    distance, index = torch.cdist(a.double(), b.double()).sort(dim=1)
    for chunk in (1, 3, 100):
        found = nearest(a, b, 4, chunk=chunk)
        assert torch.equal(found.rows, index[:, :4])
        torch.testing.assert_close(found.distance, distance[:, :4])


def test_planted_copies_are_found_at_distance_zero():
    gen = stream(1, "neighbours")
    bank = 100 + torch.randn(50, 320, generator=gen)  # far from 0, where quick formulas lose digits
    found = nearest(bank[[3, 41]], bank, 2)
    assert found.rows[:, 0].tolist() == [3, 41]
    assert found.distance[:, 0].tolist() == [0.0, 0.0]
    assert (found.distance[:, 1] > 10).all()


def test_more_neighbours_than_rows_or_other_widths_are_refused():
    with pytest.raises(ShapeError, match="5 neighbours among 4 rows"):
        nearest(torch.zeros(2, 3), torch.zeros(4, 3), 5)
    with pytest.raises(ShapeError, match=r"\[2, 3\] and \[4, 2\]"):
        nearest(torch.zeros(2, 3), torch.zeros(4, 2), 1)
