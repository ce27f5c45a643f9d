"""Sparse maps keep every mark when they shrink."""

from dataclasses import replace

import torch

from encoders import build_encoder
from fewshot_smis.data import one_hot
from fewshot_smis.encoding import encode, planes
from fewshot_smis.labelers.prototypes import marks
from tests.fewshot_smis.tiny import tiny_encoder, tiny_prior


def test_a_mark_smaller_than_a_cell_is_kept_and_the_larger_of_two_wins() -> None:
    label = torch.zeros(6, 8, dtype=torch.int64)
    label[1, 1] = 2  # nearest sampling to 3x4 would read (0, 0) and lose it
    label[2:4, 4] = 1
    label[3, 5] = 3
    small = marks(label, 4, (3, 4))
    assert small.tolist() == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_an_encoder_of_sparse_labels_sees_marks_as_the_labeler_draws_them() -> None:
    prior = tiny_prior(16)
    encoder = tiny_encoder(prior)
    gridded = build_encoder(replace(encoder.config, mark_grid=8), prior.mapping.w_avg, seed=0)
    drawn = torch.zeros(1, 64, 64, dtype=torch.int64)
    drawn[0, 13, 21], drawn[0, 40, 2] = 1, 2  # single pixels, lost by sampling at 16 px
    cells = torch.zeros(1, 8, 8, dtype=torch.int64)
    cells[0, 1, 2], cells[0, 5, 0] = 1, 2
    assert torch.equal(encode(drawn, gridded), encode(cells, encoder))
    assert not torch.equal(encode(drawn, encoder), encode(cells, encoder))


def test_marks_are_widened_for_the_encoder_and_may_overlap() -> None:
    encoder = tiny_encoder(tiny_prior(16))
    wide = build_encoder(replace(encoder.config, mark_radius=2), torch.zeros(8))
    label = torch.zeros(1, 16, 16, dtype=torch.int64)
    label[0, 5, 9], label[0, 0, 12] = 1, 2
    found = planes(label, wide)
    want = torch.zeros(3, 16, 16)
    want[1, 3:8, 7:12] = 1
    want[2, 0:3, 10:15] = 1
    want[0] = 1 - want[1:].amax(dim=0)
    assert torch.equal(found[0], want)
    assert torch.equal(planes(label, encoder), one_hot(label, 3))
