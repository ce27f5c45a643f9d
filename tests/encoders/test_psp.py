"""Encoders of any input size, trunk and kind; fresh weights, gradients, errors."""

import pytest
import torch
from torch import nn

from encoders import EncoderConfig, build_encoder
from encoders.psp import HalvingConv, halvings, level, upsample_add
from stylegan.errors import ConfigError, ShapeError

KINDS = ("gradual", "backbone_w", "backbone_wplus")


def small(**changes):
    values = {"in_channels": 5, "num_ws": 8, "w_dim": 12, "input_size": 32, "width": 8}
    return EncoderConfig(**(values | {"trunk": "light"} | changes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trunk", ["light", "ir_se50"])
@pytest.mark.parametrize("size", [16, 24, 50, 64])
def test_codes_have_their_shape_at_any_input_size(kind, trunk, size):
    config = small(kind=kind, trunk=trunk, input_size=size, width=4, style_width=6)
    encoder = build_encoder(config, torch.zeros(12)).eval()
    ws = encoder(torch.rand(3, 5, size, size))
    assert ws.shape == (3, 8, 12)
    assert torch.isfinite(ws).all()
    assert (ws[0] - ws[1]).abs().max() > 0


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 4), (5, 4)])
def test_small_maps_are_halved_as_by_the_convolution(size, last, monkeypatch):
    torch.manual_seed(0)
    conv, x = HalvingConv(48), torch.randn(2, 48, *size, requires_grad=True)
    if last:
        conv.to(memory_format=torch.channels_last)
    want = nn.functional.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", None)  # not called
        found = conv(x)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    leaves, dy = [x, conv.weight, conv.bias], torch.randn_like(want)
    for got, exact in zip(
        *(torch.autograd.grad(y, leaves, dy) for y in (found, want)), strict=True
    ):
        torch.testing.assert_close(got, exact, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: "convolved")
    assert conv(torch.randn(2, 48, 5, 5)) == "convolved"  # more pixels than channels


@pytest.mark.parametrize("kind", KINDS)
def test_latent_average_is_added_once(kind):
    average = torch.arange(12.0)
    x = torch.rand(2, 5, 32, 32)
    with_average = build_encoder(small(kind=kind), average).eval()
    without = build_encoder(small(kind=kind), torch.zeros(12)).eval()
    assert with_average.latent_avg.shape == (8, 12)
    torch.testing.assert_close(with_average(x) - without(x), average.expand(2, 8, 12))


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_codes_lie_near_the_latent_average(kind):
    encoder = build_encoder(small(kind=kind, width=32, num_ws=16), torch.zeros(12)).train()
    offsets = encoder(torch.rand(4, 5, 32, 32))
    assert 0.005 < offsets.std() < 0.5


def test_each_w_may_start_from_its_own_average():
    average = torch.randn(8, 12)
    torch.testing.assert_close(build_encoder(small(), average).latent_avg, average)


@pytest.mark.parametrize("shape", [(11,), (7, 12), (12, 8), ()])
def test_a_latent_average_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="does not fit an encoder of 8 x 12"):
        build_encoder(small(), torch.zeros(shape))


@pytest.mark.parametrize(
    "shape", [(2, 5, 32, 30), (2, 5, 30, 32), (2, 4, 32, 32), (5, 32, 32), (1, 5, 64, 64)]
)
def test_another_input_shape_is_refused(shape):
    encoder = build_encoder(small(), torch.zeros(12))
    with pytest.raises(ShapeError, match="resize to 32 x 32 pixels and use its 5 channels"):
        encoder(torch.zeros(shape))


def test_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = build_encoder(small(), torch.zeros(12), seed=3).state_dict()
    before = torch.get_rng_state()
    again = build_encoder(small(), torch.zeros(12), seed=3).state_dict()
    other = build_encoder(small(), torch.zeros(12), seed=4).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "net.body.0.conv0.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("trunk", ["light", "ir_se50"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_receives_a_gradient(kind, trunk):
    encoder = build_encoder(small(kind=kind, trunk=trunk), torch.zeros(12))
    encoder(torch.rand(2, 5, 32, 32)).square().sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_light_encoders_see_no_other_sample_of_the_batch():
    encoder = build_encoder(small(), torch.zeros(12)).train()
    x = torch.rand(3, 5, 32, 32)
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))


def test_light_encoder_for_64_px_is_small():
    config = EncoderConfig(trunk="light", in_channels=19, num_ws=10, input_size=64, width=32)
    encoder = build_encoder(config, torch.zeros(512))
    count = sum(p.numel() for p in encoder.parameters())
    assert 1_000_000 < count < 2_500_000


def test_public_encoder_has_its_parameter_count():
    with torch.device("meta"):
        from encoders.psp import GradualStyleEncoder

        net = GradualStyleEncoder(EncoderConfig(in_channels=19, num_ws=18))
    assert sum(p.numel() for p in net.styles[0].parameters()) == 4 * (512 * 512 * 9 + 512) + (
        512 * 512 + 512
    )
    assert [len(head.convs) // 2 for head in net.styles] == [4] * 3 + [5] * 4 + [6] * 11


def test_levels_and_halvings():
    assert [level(i) for i in range(9)] == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert [halvings(n) for n in (1, 2, 3, 4, 5, 16, 17)] == [0, 1, 2, 2, 3, 4, 5]
    for size in range(1, 40):
        x = torch.zeros(1, 1, size, size)
        for _ in range(halvings(size)):
            assert x.shape[2] > 1
            x = nn.functional.conv2d(x, torch.zeros(1, 1, 3, 3), stride=2, padding=1)
        assert x.shape[2:] == (1, 1)


def test_upsample_add_aligns_corners():
    coarse = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    up = upsample_add(coarse, torch.ones(1, 1, 3, 4))
    want = torch.tensor([[1.0, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]])
    torch.testing.assert_close(up[0, 0], want)


def test_config_round_trip():
    config = small(kind="backbone_wplus", style_width=20)
    assert EncoderConfig.from_dict(config.to_dict()) == config
    assert small().style_width == 16
    assert small(trunk="ir_se50").style_width == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "single"}, "encoder kind 'single' is unknown"),
        ({"trunk": "resnet"}, "trunk 'resnet' is unknown"),
        ({"num_ws": 0}, "num_ws is 0; it must be positive"),
        ({"input_size": 8}, "input_size is 8; the smallest"),
        ({"style_width": -1}, "style_width is -1"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_configuration_from_unknown_or_missing_names():
    with pytest.raises(ConfigError, match="unknown option 'depth'"):
        EncoderConfig.from_dict(small().to_dict() | {"depth": 50})
    with pytest.raises(ConfigError, match="num_ws"):
        EncoderConfig.from_dict({"in_channels": 3})
