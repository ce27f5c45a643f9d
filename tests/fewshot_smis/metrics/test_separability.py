"""Separability of classes that a plane parts, that nothing parts, and in between."""

import math

import pytest
import torch

from fewshot_smis.metrics.separability import (
    attribute_entropy,
    conditional_entropy,
    separability,
)
from stylegan.errors import ShapeError
from stylegan.seeding import stream


def test_entropy_equals_a_count_by_hand():
    x = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).bool()
    y = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0]).bool()
    quarter = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert conditional_entropy(x, y) == pytest.approx(quarter / 2 + math.log(2) / 2)
    assert conditional_entropy(x, x) == 0
    assert conditional_entropy(torch.ones(4).bool(), torch.ones(4).bool()) == 0
    assert conditional_entropy(torch.ones(4).bool(), y[4:]) == pytest.approx(math.log(2))


def test_score_is_the_exponential_of_the_sum():
    assert separability(torch.zeros(3)) == 1
    assert separability(torch.tensor([math.log(2), math.log(3)])) == pytest.approx(6)


def test_classes_that_a_plane_parts_leave_nothing_open():
    latents = torch.randn(600, 5, generator=stream(0, "separable"))
    logit = latents @ torch.tensor([1.0, -2, 0, 0.5, 3])
    assert attribute_entropy(latents, logit) < 0.02
    assert attribute_entropy(1000 * latents + 7, logit) < 0.02  # whatever the scale


def test_random_classes_leave_a_whole_bit_open_even_in_many_dimensions():
    gen = stream(1, "separable")
    latents, logit = torch.randn(300, 200, generator=gen), torch.randn(300, generator=gen)
    # 150 rows in 200 dimensions: any labelling is separable on the rows the machine has seen
    assert attribute_entropy(latents, logit) > 0.9 * math.log(2)


def test_only_the_confident_half_counts():
    gen = stream(2, "separable")
    latents = torch.randn(400, 3, generator=gen)
    sign = latents[:, 0].sign()
    sign[200:] = torch.randn(200, generator=gen).sign()  # unsure and wrong
    confidence = torch.cat([torch.full((200,), 5.0), torch.full((200,), 0.1)])
    assert attribute_entropy(latents, sign * confidence) < 0.1
    assert attribute_entropy(latents, sign / confidence) > 0.6


def test_a_class_that_nothing_contradicts_is_certain():
    assert attribute_entropy(torch.randn(40, 2, generator=stream(3, "one")), torch.ones(40)) == 0


def test_too_few_samples_are_refused():
    with pytest.raises(ShapeError, match="at least 20 samples"):
        attribute_entropy(torch.zeros(10, 2), torch.zeros(10))
