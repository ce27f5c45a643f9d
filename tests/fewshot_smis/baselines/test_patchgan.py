"""PatchGAN: what one score sees, and which pictures it takes."""

import pytest
import torch

from fewshot_smis.baselines.patchgan import HALVINGS, PatchConfig, PatchDiscriminator
from stylegan.errors import ConfigError, ShapeError


def positive(config):
    """Build without norms, which see the whole picture, and without sums that could cancel."""
    net = PatchDiscriminator(config).double()
    for parameter in net.parameters():
        parameter.data.abs_()
    return net


def seen(net, img, at):
    """Return how many rows and columns of `img` the score at row and column `at` depends on."""
    img = img.double().requires_grad_()
    scores = net(img)
    (grad,) = torch.autograd.grad(scores[0, 0, at, at], img)
    pixels = grad[0].abs().sum(dim=0) > 0
    return tuple(int(pixels.any(dim=axis).sum()) for axis in (1, 0))


@pytest.mark.parametrize("patch", HALVINGS)
def test_patch_is_what_a_score_depends_on(patch):
    """The paper's names of its discriminators, by gradient (section 4.4)."""
    net = positive(PatchConfig(in_channels=1, patch=patch, width=1, norm="none"))
    img = torch.rand(1, 1, 384, 416)
    middle = (net(img.double()).shape[2] - 1) // 2
    assert seen(net, img, middle) == (patch, patch)


@pytest.mark.parametrize(
    ("patch", "size"), [(1, (24, 40)), (16, (10, 18)), (70, (1, 3)), (34, (4, 8))]
)
def test_scores_of_nonsquare_pictures(patch, size):
    net = PatchDiscriminator(PatchConfig(in_channels=2, patch=patch, width=4))
    assert net(torch.randn(3, 2, 24, 40)).shape == (3, 1, *size)


def test_pixels_are_judged_by_their_colour_alone():
    net = PatchDiscriminator(PatchConfig(in_channels=3, patch=1, width=4)).eval()
    img = torch.randn(1, 3, 5, 7)
    order = torch.randperm(35)
    shuffled = img.flatten(2)[:, :, order].unflatten(2, (5, 7))
    scores = net(img).flatten(2)[:, :, order].unflatten(2, (5, 7))
    torch.testing.assert_close(net(shuffled), scores)


def test_too_small_pictures_name_the_smallest():
    for patch, least in ((16, 6), (70, 24), (286, 96)):
        net = PatchDiscriminator(PatchConfig(in_channels=1, patch=patch, width=1))
        assert net(torch.rand(2, 1, least, least)).shape == (2, 1, 1, 1)
        with pytest.raises(ShapeError, match=f"PatchGAN of {patch} px.*{least} pixels at least"):
            net(torch.rand(2, 1, least - 1, least))


def test_wrong_channels_are_refused():
    net = PatchDiscriminator(PatchConfig(in_channels=5, patch=16, width=2))
    with pytest.raises(ShapeError, match=r"expected \[N,5,H,W\], got \[1, 4, 16, 16\]"):
        net(torch.rand(1, 4, 16, 16))


def test_config_round_trips_and_names_its_mistakes():
    config = PatchConfig(in_channels=5, patch=16)
    assert PatchConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="choose one of 1, 16, 34, 70, 142, 286"):
        PatchConfig(in_channels=1, patch=64)
    with pytest.raises(ConfigError, match="choose one of batch, instance, none"):
        PatchConfig(in_channels=1, norm="layer")
    with pytest.raises(ConfigError, match="width is 0; give 1 or more"):
        PatchConfig(in_channels=1, width=0)
    with pytest.raises(ConfigError, match=r"PatchConfig.*'ndf'"):
        PatchConfig.from_dict({"in_channels": 1, "ndf": 64})
