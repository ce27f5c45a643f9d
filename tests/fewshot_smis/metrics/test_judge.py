import pytest
import torch

from fewshot_smis.baselines.methods import build, fitting, save_method
from fewshot_smis.baselines.segmenter import Segmenter, SegmenterConfig
from fewshot_smis.data import IGNORE
from fewshot_smis.metrics.judge import Judge, load_judge
from stylegan.errors import CheckpointError, ShapeError
from stylegan.seeding import stream

SIZE = (16, 24)


def segmenter():
    return Segmenter(SegmenterConfig(num_classes=3, levels=3, width=2), stream(0, "judge"))


def pictures(num=5, size=(20, 30)):
    return torch.rand(num, 3, *size, generator=stream(0, "pictures")) * 3 - 1.5


def test_pictures_are_judged_at_the_size_it_learned_from():
    method = segmenter()
    method.networks.eval()
    judge = Judge(method, SIZE)
    seen = judge.labels(pictures(), batch=2)
    assert seen.shape == (5, *SIZE)
    small = torch.nn.functional.interpolate(
        pictures().clamp(-1, 1), SIZE, mode="bilinear", antialias=True
    )
    assert torch.equal(seen, method.segment(small))


def test_counts_are_those_of_the_resized_maps():
    method = segmenter()
    method.networks.eval()
    judge = Judge(method, SIZE)
    seen = judge.labels(pictures())
    wanted = seen.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # twice the size
    wanted[0] = IGNORE
    counts = judge.counts(pictures(), wanted)
    assert counts.sum() == 4 * 16 * 24
    assert torch.equal(counts, counts.diagonal().diag())
    with pytest.raises(ShapeError, match="5 pictures and 4 label maps"):
        judge.counts(pictures(), wanted[:4])


def test_a_judge_is_read_back_and_others_are_refused(tmp_path):
    method = segmenter()
    save_method(method, SIZE, tmp_path / "judge.safetensors")
    judge = load_judge(tmp_path / "judge.safetensors")
    method.networks.eval()
    assert (judge.size, judge.num_classes) == (SIZE, 3)
    assert torch.equal(judge.labels(pictures()), Judge(method, SIZE).labels(pictures()))
    other = build("pix2pix", {**fitting("pix2pix", 3, SIZE), "width": 2, "discriminator_width": 2})
    save_method(other, SIZE, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"holds a Pix2Pix, which cannot judge"):
        load_judge(tmp_path / "other.safetensors")
