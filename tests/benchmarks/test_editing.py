"""The edits that are measured are the edits meant, and the figures are what they say."""

import argparse

import numpy as np
import pytest
import torch

from benchmarks.edit_cases import GLASSES, HAIR, Case, find_edit, moved, transplanted
from benchmarks.editing import Result, measure, summary
from benchmarks.sparse import centers, landmark_percent, scribble_facts, spread
from fewshot_smis.data import Classes
from fewshot_smis.faces.portrait import Portrait
from fewshot_smis.jobs.edit import Kit
from fewshot_smis.labelers import fit_labeler
from tests.fewshot_smis.tiny import tiny_codes, tiny_labels, tiny_prior


def portrait(label, shift=(0, 0)):
    marks = np.stack([np.linspace(2, 18, 68), np.linspace(5, 25, 68)], axis=1) + shift
    return Portrait(np.zeros((*label.shape, 3), np.uint8), label, marks.astype(np.float32), {})


def test_a_part_is_taken_from_the_donor_to_where_it_belongs():
    own, other = np.ones((30, 20), np.uint8), np.ones((30, 20), np.uint8)
    own[2:4] = HAIR
    other[10:12, 5:9] = GLASSES
    target, donor = portrait(own, shift=(3, 4)), portrait(other)
    wanted = transplanted("glasses", target, donor)
    expected = torch.from_numpy(own.astype(np.int64))
    expected[14:16, 8:12] = GLASSES
    assert torch.equal(wanted, expected)
    assert torch.equal(find_edit("glasses", target, [portrait(own), donor]), expected)
    assert find_edit("glasses", portrait(other), [donor]) is None  # it wears some
    bald = transplanted("hair", target, donor)
    assert not (bald == HAIR).any()


def test_moving_a_map_repeats_its_borders():
    label = torch.arange(6).view(2, 3)
    assert moved(label, 1, -1).tolist() == [[1, 2, 2], [1, 2, 2]]


def mean_distance(a, b):
    return (a - b).abs().mean(dim=(1, 2, 3))


class FixedJudge:
    """Sees class 1 everywhere."""

    def labels(self, img):
        return torch.ones(len(img), 8, 8, dtype=torch.int64)


def test_the_benchmark_measures_an_edit():
    prior = tiny_prior(16)
    labeler = fit_labeler(prior, tiny_codes(prior), tiny_labels(2, 3), Classes.generic(3))
    img = prior.synthesis(tiny_codes(prior, 1, seed=7)).img[0].clamp(-1, 1)
    label = tiny_labels(1, 3, (16, 16))[0]
    wanted = label.clone()
    wanted[3:9, 2:8] = (wanted[3:9, 2:8] + 1) % 3
    args = argparse.Namespace(inversion_steps=4, steps=4, tune=1)
    kit = Kit(
        prior, labeler, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), lambda a, b: b[:, 0, 0, 0]
    )
    result = Result([Case("a", "hair", img, label, wanted, None)], kit, prior, args)
    (facts,) = measure(result, kit, FixedJudge())
    assert set(result.seconds) == {"inversion", "tuning", "edit"}
    assert 0 <= facts["miou_labeler_after"] <= 1
    assert facts["outside_lite0_edited"] > 0
    changed = wanted[wanted != label]
    assert facts["accuracy_judge_after"] == pytest.approx(float((changed == 1).float().mean()))
    table = summary([facts, {**facts, "miou_labeler_after": np.nan}])
    assert table["miou_labeler_after"] == [round(facts["miou_labeler_after"], 4), 0]


def test_marks_are_compared_by_their_centres():
    label = torch.zeros(20, 40, dtype=torch.int64)
    label[4:6, 10:12] = 1
    label[9, 7] = 37
    label[9, 27] = 46
    found = centers(label)
    assert found[0].tolist() == [11 / 40, 5 / 20]
    assert np.isnan(found[1]).all()
    other = found.copy()
    other[0] += (0.05, 0)  # a tenth of the eyes' distance of 0.5
    assert landmark_percent(other, found) == pytest.approx(10 / 3)


def test_scribbles_are_compared_where_they_are():
    drawn = torch.zeros(8, 8, dtype=torch.int64)
    drawn[0, :4], drawn[7, :4] = 3, 19  # 19 is background, 0 in dense maps
    seen = torch.zeros(1, 4, 4, dtype=torch.int64)
    seen[0, 0, 0] = 3
    assert scribble_facts(seen, [drawn]) == {"agreement": [0.75]}
    assert spread([1.0, float("nan"), 3.0]) == [2.0, 1.0, 2]
