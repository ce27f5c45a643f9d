"""What the generator and discriminator promise besides the reference's numbers."""

import pytest
import torch

from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.discriminator import minibatch_stddev
from stylegan.errors import ConfigError, ShapeError
from stylegan.layers import default_channels, resolutions


def tiny(**kwargs: object) -> Generator:
    channels = {4: 8, 8: 6, 16: 4}
    values = {"z_dim": 5, "w_dim": 7, "mapping_layers": 2, "channels": channels, **kwargs}
    return Generator(GeneratorConfig(img_resolution=16, **values)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_shapes_of_pictures_and_features(architecture: str) -> None:
    G = tiny(architecture=architecture, img_channels=4)
    ws = G.mapping(torch.randn(3, 5))
    assert ws.shape == (3, G.num_ws, 7) == (3, 6, 7)
    out = G.synthesis(ws, feature_resolutions=(8, 16))
    assert out.img.shape == (3, 4, 16, 16)
    assert {r: f.shape for r, f in out.feats.items()} == {8: (3, 6, 8, 8), 16: (3, 4, 16, 16)}


def test_styles_of_later_layers_do_not_reach_earlier_features() -> None:
    G = tiny()
    ws = G.mapping(torch.randn(2, 5))
    changed = ws.clone()
    changed[:, 4:] += 1
    a, b = (G.synthesis(x, feature_resolutions=(8, 16)) for x in (ws, changed))
    assert torch.equal(a.feats[8], b.feats[8])
    assert not torch.equal(a.feats[16], b.feats[16])


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_features_alone_draw_no_further_than_their_size(architecture: str) -> None:
    G = tiny(architecture=architecture)
    G.synthesis.b8.conv0.noise_strength.data.fill_(1.0)
    ws = G.mapping(torch.randn(2, 5))
    gens = [torch.Generator().manual_seed(1) for _ in range(2)]
    whole = G.synthesis(ws, "random", (4, 8), gens[0]).feats
    G.synthesis.b16.register_forward_pre_hook(lambda *_: pytest.fail("drawn too far"))
    alone = G.synthesis.features(ws, (4, 8), "random", gens[1])
    assert whole.keys() == alone.keys() == {4, 8}
    assert all(torch.equal(whole[r], alone[r]) for r in whole)
    assert G.synthesis.features(ws, ()) == {}
    with pytest.raises(ShapeError, match=r"no features of \[64\] px"):
        G.synthesis.features(ws, (64,))


def test_noise_modes() -> None:
    G = tiny()
    for layer in (G.synthesis.b8.conv0, G.synthesis.b16.conv1):
        layer.noise_strength.data.fill_(1.0)
    ws = G.mapping(torch.randn(2, 5))
    const, none = (G.synthesis(ws, noise_mode=m).img for m in ("const", "none"))
    draws = [
        G.synthesis(ws, "random", generator=torch.Generator().manual_seed(s)).img for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(const, none)
    with pytest.raises(ConfigError, match="unknown noise mode 'loud'"):
        G.synthesis(ws, noise_mode="loud")


def test_truncation_moves_the_first_layers_towards_the_average() -> None:
    G = tiny()
    G.mapping.w_avg.copy_(torch.randn(7))
    z = torch.randn(2, 5)
    full = G.mapping(z)
    half = G.mapping(z, truncation_psi=0.5, truncation_cutoff=2)
    torch.testing.assert_close(half[:, :2], (full[:, :2] + G.mapping.w_avg) / 2)
    assert torch.equal(half[:, 2:], full[:, 2:])


def test_wrong_shapes_are_named() -> None:
    G = tiny(c_dim=3)
    with pytest.raises(ShapeError, match=r"z must be \[N, 5\], got \[2, 4\]"):
        G.mapping(torch.randn(2, 4))
    with pytest.raises(ShapeError, match=r"conditional: c must be \[N, 3\], got nothing"):
        G.mapping(torch.randn(2, 5))
    with pytest.raises(ShapeError, match="made with another generator"):
        G.synthesis(torch.randn(2, 14, 7))
    with pytest.raises(ShapeError, match="no features of \\[64\\] px"):
        G.synthesis(torch.randn(2, 6, 7), feature_resolutions=(64,))
    with pytest.raises(ShapeError, match="not a power of two"):
        resolutions(48)
    with pytest.raises(ConfigError, match="channels are given for"):
        GeneratorConfig(img_resolution=16, channels={4: 8})
    with pytest.raises(ConfigError, match="unknown architecture 'fancy'"):
        GeneratorConfig(img_resolution=16, architecture="fancy")


def test_configurations_survive_json() -> None:
    config = GeneratorConfig(img_resolution=32, c_dim=2, conv_clamp=256.0)
    assert GeneratorConfig.from_dict(config.to_dict()) == config
    other = DiscriminatorConfig(img_resolution=32, architecture="skip")
    assert DiscriminatorConfig.from_dict(other.to_dict()) == other
    with pytest.raises(ConfigError, match="generator configuration"):
        GeneratorConfig.from_dict({"size": 32})
    assert default_channels(1024)[1024] == 32
    assert default_channels(1024)[4] == 512


def test_stddev_groups_take_every_nth_picture() -> None:
    x = torch.zeros(8, 2, 3, 5)
    x[::2] += torch.arange(4.0)[:, None, None, None]  # pictures 0, 2, 4, 6 differ
    y = minibatch_stddev(x, 4)
    assert y.shape == (8, 3, 3, 5)
    expected = torch.tensor(1.25).sqrt()
    torch.testing.assert_close(y[::2, 2], expected.expand(4, 3, 5), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y[1::2, 2], torch.full((4, 3, 5), 1e-4))
    with pytest.raises(ShapeError, match="batch of 6 cannot be split into groups of 4"):
        minibatch_stddev(x[:6], 4)


def test_discriminator_checks_size_and_condition() -> None:
    D = Discriminator(DiscriminatorConfig(img_resolution=16, c_dim=2, channels={4: 4, 8: 4, 16: 4}))
    assert D(torch.randn(4, 3, 16, 16), torch.eye(2).repeat(2, 1)).shape == (4, 1)
    with pytest.raises(ShapeError, match="expected pictures of 16x16"):
        D(torch.randn(4, 3, 16, 8))
    with pytest.raises(ShapeError, match="conditional"):
        D(torch.randn(4, 3, 16, 16))
