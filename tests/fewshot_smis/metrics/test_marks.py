import math

import pytest
import torch

from fewshot_smis.data import IGNORE
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import label_samples
from fewshot_smis.metrics.marks import mark_centers, mark_distance
from tests.fewshot_smis.tiny import tiny_encoder, tiny_labeler, tiny_prior


def test_a_mark_is_where_its_pixels_are_on_average():
    label = torch.zeros(2, 4, 10, dtype=torch.int64)
    label[0, 1, 2], label[0, 1, 4], label[0, 3, 9], label[0, 0, 0] = 1, 1, 2, IGNORE
    found = mark_centers(label, 3)
    assert found.shape == (2, 3, 2)
    assert found[0, 1].tolist() == pytest.approx([3.5 / 10, 1.5 / 4])
    assert found[0, 2].tolist() == pytest.approx([9.5 / 10, 3.5 / 4])
    assert found[1, 1:].isnan().all()


def test_the_distance_is_from_the_drawn_mark_to_the_seen_one():
    prior = tiny_prior(16)
    labeler, encoder = tiny_labeler(prior, sparse=True), tiny_encoder(prior)
    label = torch.zeros(20, 24, dtype=torch.int64)
    label[3, 5], label[12, 20] = 1, 2
    seen = label_samples(labeler, prior, encode(label[None], encoder))[0]
    distances = []
    for k, (x, y) in {1: (5.5 / 24, 3.5 / 20), 2: (20.5 / 24, 12.5 / 20)}.items():
        rows, columns = torch.nonzero(seen == k, as_tuple=True)
        if len(rows):
            at = (float(columns.float().mean()) + 0.5) / 16, (float(rows.float().mean()) + 0.5) / 16
            distances.append(math.dist(at, (x, y)))
    want = 100 * sum(distances) / len(distances)
    assert mark_distance([label], encoder, labeler, prior) == pytest.approx(want, rel=1e-4)
    assert math.isnan(mark_distance([torch.zeros_like(label)], encoder, labeler, prior))
