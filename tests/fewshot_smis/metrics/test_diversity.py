import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.metrics.diversity import (
    SCALE_WEIGHTS,
    ms_ssim,
    pairwise,
    pairwise_squares,
    scales,
)
from stylegan.errors import ShapeError
from stylegan.seeding import stream

pytest.importorskip("torchmetrics", reason="needs the extra 'metrics'")


def pictures(num=2, size=(24, 40), seed=0):
    rough = torch.rand(num, 3, 6, 8, generator=stream(seed, "pictures")) * 2 - 1
    return F.interpolate(rough, size, mode="bilinear")


def window():
    x = torch.arange(11.0) - 5
    taps = torch.exp(-(x**2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    return torch.outer(taps, taps).expand(3, 1, 11, 11)


def similarities(a, b):
    """Return luminance and contrast-structure terms [3,h,w] of one scale, by their definition."""
    a, b = ((x[None] + 1) / 2 for x in (a, b))

    def mean(x):
        return F.conv2d(x, window(), groups=3)[0]

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * cov + c2) / (va + vb + c2)
    return (2 * ma * mb + c1) / (ma**2 + mb**2 + c1) * contrast, contrast


def test_ms_ssim_equals_its_definition_at_two_scales():
    a, b = pictures(), pictures(seed=1).lerp(pictures(), 0.7)
    first, second = (w / sum(SCALE_WEIGHTS[:2]) for w in SCALE_WEIGHTS[:2])
    for one, other, value in zip(a, b, ms_ssim(a, b), strict=True):
        contrast = similarities(one, other)[1].mean().clamp(min=0)
        halves = (F.avg_pool2d(x[None], 2) for x in (one, other))
        halves = (F.pad(x, (5, 5, 5, 5), mode="reflect")[0] for x in halves)  # torchmetrics' border
        similarity = similarities(*halves)[0].mean().clamp(min=0)
        torch.testing.assert_close(value, contrast**first * similarity**second)


def test_ms_ssim_of_equal_pictures_is_one():
    img = pictures(size=(48, 64))
    torch.testing.assert_close(ms_ssim(img, img), torch.ones(2))


def test_small_pictures_have_fewer_scales():
    assert [scales((side, 500)) for side in (11, 20, 21, 41, 81, 161)] == [1, 1, 2, 3, 4, 5]
    with pytest.raises(ShapeError, match="pictures of 10 x 30: MS-SSIM needs 11 px"):
        scales((10, 30))
    with pytest.raises(ShapeError, match="differ"):
        ms_ssim(pictures(), pictures(size=(24, 24)))


def test_diversity_is_the_mean_over_all_pairs():
    img = torch.tensor([0.0, 1.0, 4.0]).view(3, 1, 1, 1).expand(3, 3, 4, 6)
    gaps = [1.0, 4.0, 3.0]
    for batch in (1, 2, 8):
        found = pairwise(img, lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), batch=batch)
        assert found == pytest.approx(sum(gaps) / 3)
    with pytest.raises(ShapeError, match="1 pictures of a map"):
        pairwise(img[:1], ms_ssim)


def test_squares_of_all_pairs_in_one_pass():
    x = torch.randn(5, 7, generator=stream(0, "vectors"))
    pairs = [(a - b).square().sum() for i, a in enumerate(x) for b in x[:i]]
    assert pairwise_squares(x) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-5)
    with pytest.raises(ShapeError, match="at least two"):
        pairwise_squares(x[:1])
