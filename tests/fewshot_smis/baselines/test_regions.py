"""Regions against slow formulas, and the clusters of their features."""

import pytest
import torch

from fewshot_smis.baselines.regions import (
    UNKNOWN,
    FeatureClusters,
    Rows,
    class_ids,
    edges,
    instance_average,
    k_means,
    region_rows,
)
from fewshot_smis.data import one_hot
from stylegan.errors import ShapeError
from stylegan.seeding import stream


def random_ids(*shape, most=4):
    return torch.randint(most, shape, generator=stream(0, "ids"))


def test_edges_equal_a_comparison_pixel_by_pixel():
    ids = random_ids(2, 5, 7, most=2)
    planes = edges(ids)
    assert planes.shape == (2, 1, 5, 7)
    for n in range(2):
        for y in range(5):
            for x in range(7):
                near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [(v, u) for v, u in near if 0 <= v < 5 and 0 <= u < 7]
                differs = any(ids[n, v, u] != ids[n, y, x] for v, u in inside)
                assert bool(planes[n, 0, y, x]) is differs


def test_instance_average_equals_masked_means():
    ids, feat = random_ids(2, 5, 7), torch.randn(2, 3, 5, 7)
    average = instance_average(feat, ids)
    for n in range(2):
        for i in ids[n].unique():
            mask = ids[n] == i
            want = feat[n][:, mask].mean(dim=1, keepdim=True).expand(-1, int(mask.sum()))
            torch.testing.assert_close(average[n][:, mask], want)


def test_half_precision_averages_many_pixels():
    feat = torch.full((1, 1, 64, 96), 0.3).bfloat16()
    assert torch.equal(instance_average(feat, torch.zeros(1, 64, 96, dtype=torch.int64)), feat)


def test_gradients_pass_through_the_average():
    feat = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    ids = random_ids(1, 3, 4)
    assert torch.autograd.gradcheck(lambda f: instance_average(f, ids), feat)


def test_rows_of_a_batch_are_those_of_its_samples():
    ids, feat = random_ids(2, 8, 8) * 700, torch.randn(2, 3, 8, 8)  # 0, 700, 1400, 2100
    both = region_rows(feat, ids)
    assert set(both.classes.tolist()) == {0, 700, 1, 2}
    for n, rows in enumerate(both.classes.split(4)):
        one = region_rows(feat[n : n + 1], ids[n : n + 1])
        assert torch.equal(one.classes, rows)
        assert torch.equal(one.feats, both.feats[4 * n : 4 * n + 4])
    torch.testing.assert_close(both.weights.sum(), torch.tensor(2 * 64 / 2.0))


def test_unknown_pixels_are_of_no_class():
    onehot = one_hot(torch.tensor([[[0, 1, 255, 255]]]), 2)
    assert class_ids(onehot).tolist() == [[[0, 1, UNKNOWN, UNKNOWN]]]
    assert region_rows(
        torch.zeros(1, 1, 8, 4), class_ids(onehot).expand(1, 8, 4)
    ).classes.tolist() == [0, 1]


def test_features_of_other_pixels_are_refused():
    with pytest.raises(ShapeError, match="not of the same pixels"):
        instance_average(torch.zeros(1, 2, 4, 5), torch.zeros(1, 5, 4))


def test_k_means_finds_separate_groups():
    means = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    rows = torch.cat([mean + 0.1 * torch.randn(20, 2, generator=stream(0, "k")) for mean in means])
    centres = k_means(rows, 3, stream(1, "k"))
    assert torch.cdist(means, centres).amin(dim=1).max() < 0.2
    assert len(k_means(torch.ones(7, 2), 3, stream(0, "k"))) == 1


def test_clusters_are_drawn_class_by_class():
    classes = torch.tensor([0, 0, 0, 2, 2])
    feats = torch.tensor([[1.0], [2.0], [9.0], [5.0], [5.0]])
    weights = torch.tensor([1.0, 1.0, 0.2, 1.0, 1.0])  # the third is too small to count
    clusters = FeatureClusters(3, 1, k=4)
    onehot = one_hot(random_ids(8, 4, 6, most=3), 3)
    assert not clusters.draw(onehot, stream(0, "d")).any()
    clusters.fit(Rows(classes, feats, weights), stream(0, "c"))
    assert clusters.counts.tolist() == [2, 1, 1]
    drawn = clusters.draw(onehot, stream(0, "d"))[:, 0]
    assert set(drawn[onehot[:, 0] > 0].tolist()) == {1.0, 2.0}
    assert set(drawn[onehot[:, 1] > 0].tolist()) == {0.0}
    assert set(drawn[onehot[:, 2] > 0].tolist()) == {5.0}
    assert torch.equal(drawn, clusters.draw(onehot, stream(0, "d"))[:, 0])
