"""The generators of pix2pix: what the skips carry, the noise, sizes and errors."""

import pytest
import torch

from fewshot_smis.baselines.layers import initialise
from fewshot_smis.baselines.unet import UNet, UNetConfig
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream


def unet(seed=0, **sizes):
    net = UNet(UNetConfig(**sizes))
    initialise(net, stream(seed, "test"))
    return net


def linear_part(net):
    """Return d output / d input at one point, [pixels, pixels]."""
    img = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    grads = torch.autograd.functional.jacobian(net, img, vectorize=True)
    return grads.reshape(256, 256)


@pytest.mark.parametrize("skips", [False, True])
def test_skips_lead_around_the_bottleneck(skips):
    """The encoder-decoder passes no more numbers than the eight of its one innermost pixel."""
    net = unet(in_channels=1, out_channels=1, levels=4, width=1, norm="none", skips=skips)
    rank = int(torch.linalg.matrix_rank(linear_part(net.double())))
    assert rank > 0
    assert (rank > 8) is skips


@pytest.mark.parametrize("skips", [False, True])
def test_fine_patterns_reach_the_output_through_skips(skips):
    """With the way through the bottleneck cut, the U-Net sees a checkerboard, its rival nothing."""
    net = unet(in_channels=1, levels=4, width=4, skips=skips, norm="none")
    torch.nn.init.zeros_(net.get_parameter("model.model.1.model.5.weight"))
    board = (torch.arange(16)[:, None] + torch.arange(32)) % 2
    plain = torch.full((1, 1, 16, 32), 0.5)
    difference = (net(board[None, None].float()) - net(plain)).abs().max()
    assert bool(difference > 0) is skips


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_sizes_that_are_multiples_of_the_stride(skips, norm):
    net = unet(in_channels=5, levels=3, width=2, skips=skips, norm=norm)
    img = net(torch.randn(2, 5, 16, 24))
    assert img.shape == (2, 3, 16, 24)
    assert img.abs().max() <= 1


def test_widths_are_the_papers():
    """C64-C128-C256-C512-C512-C512-C512-C512 at 256 px (appendix 6.1.1)."""
    config = UNetConfig(in_channels=3)
    assert config.stride == 256
    assert [config.channels(i) for i in range(8)] == [64, 128, 256, 512, 512, 512, 512, 512]
    with torch.device("meta"):
        numbers = sum(p.numel() for p in UNet(config).parameters())
    assert round(numbers / 1e6, 3) == 54.414  # the size the public code prints


def test_noise_is_drawn_from_the_generator_given():
    net = unet(in_channels=2, levels=6, width=2)
    planes = torch.randn(2, 2, 64, 64)
    one, again, other = (net(planes, stream(seed, "noise")) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(net(planes), net(planes))


def test_levels_of_growing_width_have_no_noise():
    net = unet(in_channels=2, levels=5, width=2)
    planes = torch.randn(2, 2, 32, 32)
    assert torch.equal(net(planes, stream(0, "noise")), net(planes))


def test_without_tanh_the_output_is_what_tanh_would_bound():
    sizes = {"in_channels": 3, "levels": 2, "width": 2}
    img = torch.randn(2, 3, 8, 4)
    logits = unet(**sizes, tanh=False)(img)
    torch.testing.assert_close(unet(**sizes)(img), logits.tanh())


def test_errors_name_the_fix():
    net = unet(in_channels=3, levels=3, width=2)
    with pytest.raises(ShapeError, match="12 x 16 do not fit; resize to multiples of 8"):
        net(torch.randn(1, 3, 12, 16))
    with pytest.raises(ShapeError, match=r"expected \[N,3,H,W\].*built for"):
        net(torch.randn(1, 4, 16, 16))
    with pytest.raises(ConfigError, match="levels is 1; give 2 or more"):
        UNetConfig(in_channels=3, levels=1)


def test_config_round_trips():
    config = UNetConfig(in_channels=5, levels=6, skips=False, norm="instance", tanh=False)
    assert UNetConfig.from_dict(config.to_dict()) == config
