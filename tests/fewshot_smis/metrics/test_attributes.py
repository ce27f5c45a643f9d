"""Attributes are read as they are meant, and heads learn what features hold."""

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.data.attributes import Attributes
from fewshot_smis.metrics.attributes import (
    accuracy,
    as_binary,
    attribute_features,
    fit_heads,
)
from fewshot_smis.metrics.features import Lite0Space
from stylegan.errors import DataError, ShapeError
from stylegan.lite0 import load_lite0
from stylegan.seeding import stream


def test_truth_values_stay_numbers_are_halved_and_text_is_left_out():
    rows: list[Attributes] = [
        {
            "smiling": i < 6,
            "age": i / 10,
            "hat": float(i in (2, 3)),
            "hair": "bob",
            "rare": i == 4,
            "constant": 1.0,
        }
        for i in range(8)
    ]
    names, values = as_binary(rows, "here")
    assert names == ("smiling", "age", "hat")
    assert values[:, 0].tolist() == [True] * 6 + [False] * 2
    assert values[:, 1].tolist() == [False] * 4 + [True] * 4
    assert values[:, 2].nonzero().flatten().tolist() == [2, 3]


def test_pictures_that_do_not_differ_teach_nothing():
    with pytest.raises(DataError, match="here: no attribute that varies; give more pictures"):
        as_binary([{"a": 1.0}, {"a": 1.0}], "here")


def test_heads_reach_the_minimum_of_the_logistic_loss():
    gen = stream(0, "heads")
    x = 3 + 2 * torch.randn(200, 6, generator=gen)
    noise = torch.randn(200, 2, generator=gen)
    values = torch.stack([x[:, 0] > 3, x[:, 1] - x[:, 2] > 1], dim=1) ^ (noise > 1.5)
    heads = fit_heads(x, values, decay=0.1)
    assert (accuracy(heads(x), values) > 0.85).all()

    weight, bias = heads.weight.requires_grad_(), heads.bias.requires_grad_()
    miss = F.binary_cross_entropy_with_logits(heads(x), values.float(), reduction="none")
    loss = miss.mean(dim=0).sum() + 0.05 * weight.square().sum()
    slopes = torch.autograd.grad(loss, (weight, bias))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-3


def test_features_keep_where_things_are():
    space = Lite0Space(load_lite0())
    img = torch.rand(2, 3, 40, 32, generator=stream(1, "img")) * 2 - 1
    feat = attribute_features(img, space)
    assert feat.shape == (2, 112 * 16)
    assert not torch.allclose(feat, attribute_features(img.flip(3), space), atol=1e-2)


def test_rows_must_match():
    with pytest.raises(ShapeError, match=r"\[4, 2\] for attributes of \[3, 1\]"):
        fit_heads(torch.zeros(4, 2), torch.zeros(3, 1).bool())
