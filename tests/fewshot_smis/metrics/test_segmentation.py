import math

import pytest
import torch

from fewshot_smis.data import IGNORE, resize_label
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import label_samples
from fewshot_smis.labelers.prototypes import marks
from fewshot_smis.metrics.segmentation import class_iou, confusion, consistency, mean_iou
from stylegan.errors import ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_encoder, tiny_labeler, tiny_prior


def test_iou_equals_a_count_by_hand():
    pred = torch.tensor([[0, 0, 1, 1], [2, 0, 1, IGNORE]])
    target = torch.tensor([[0, 1, 1, 1], [2, 2, IGNORE, 0]])
    counts = confusion(pred, target, 4)
    assert counts.tolist() == [[1, 0, 0, 0], [1, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    iou = class_iou(counts)
    assert iou[:3].tolist() == [pytest.approx(x) for x in (1 / 3, 2 / 3, 1 / 2)]
    assert math.isnan(float(iou[3]))
    assert mean_iou(pred, target, 4) == pytest.approx(0.5)
    assert mean_iou(pred, target, 4, skip=(0,)) == pytest.approx(7 / 12)


def test_a_class_only_one_map_holds_counts_as_zero():
    pred, target = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0])
    assert mean_iou(pred, target, 3) == pytest.approx((2 / 3 + 0) / 2)
    assert math.isnan(mean_iou(pred, torch.full((3,), IGNORE), 3))


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(ShapeError, match=r"\[2, 3\] and \[3, 2\] cannot be compared"):
        mean_iou(torch.zeros(2, 3), torch.zeros(3, 2), 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_consistency_compares_maps_with_those_of_the_pictures(sparse):
    prior = tiny_prior(16)
    encoder, labeler = tiny_encoder(prior), tiny_labeler(prior, sparse=sparse)
    labels = torch.randint(0, 3, (3, 20, 24), generator=stream(0, "labels"))
    pred = label_samples(labeler, prior, encode(labels, encoder))
    skip = (0,) if sparse else ()
    target = resize_label(labels, 16)
    if sparse:
        target = torch.stack([marks(label, 3, (16, 16)) for label in labels])
    want = mean_iou(pred, target, 3, skip=skip)
    assert consistency(labels, encoder, labeler, prior) == pytest.approx(want)
    assert 0 < want < 1
