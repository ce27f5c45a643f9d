"""pix2pixHD as a method: sizes, terms, features of regions and their clusters."""

import pytest
import torch

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.hd_networks import (
    FeatureEncoder,
    HDConfig,
    HDGenerator,
    MultiscaleDiscriminator,
    ResidualBlock,
)
from fewshot_smis.baselines.layers import initialise
from fewshot_smis.baselines.pix2pixhd import Pix2PixHD, Pix2PixHDConfig
from fewshot_smis.data import one_hot
from fewshot_smis.perceptual import NoDistance
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream

SMALL = {
    "num_classes": 4,
    "width": 4,
    "halvings": 2,
    "blocks": 1,
    "encoder_width": 4,
    "scales": 2,
    "discriminator_width": 4,
}
COLORS = torch.tensor([[-0.8, -0.8, 0.4], [0.7, 0.1, -0.5], [-0.2, 0.8, 0.0], [0.9, 0.9, 0.9]])


def method(*, perceptual=None, **options):
    return Pix2PixHD(Pix2PixHDConfig(**(SMALL | options)), stream(0, "weights"), perceptual)


def batch(num=2, seed=0):
    """Return blocks of eight pixels, each in the colour of its class."""
    small = torch.randint(4, (num, 2, 3), generator=stream(seed, "batch"))
    label = small.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    return Batch(one_hot(label, 4), COLORS[label].permute(0, 3, 1, 2))


def judged(system, given, img):
    return system.networks["discriminator"](torch.cat([system.layout(given.onehot), img], dim=1))


@pytest.mark.parametrize("features", [0, 3])
def test_losses_equal_their_formulas(features):
    system, given = method(features=features), batch()
    layout = system.layout(given.onehot)
    assert layout.shape == (2, 5, 16, 24)
    planes = layout if not features else torch.cat([layout, system._features(given)], dim=1)
    fake = system.networks["generator"](planes)
    seen, wanted = judged(system, given, fake), judged(system, given, given.img)
    terms = system.generator_loss(given)
    assert set(terms) == {"gan", "matching"}
    deceived = sum(((maps[-1] - 1) ** 2).mean() for maps in seen)
    torch.testing.assert_close(terms["gan"], deceived)
    distance = sum(
        (a - b).abs().mean()
        for fakes, reals in zip(seen, wanted, strict=True)
        for a, b in zip(fakes[:4], reals[:4], strict=True)
    )
    torch.testing.assert_close(terms["matching"], 10 * distance / 2)
    judged_terms = system.discriminator_loss(given)
    on_fake = sum((maps[-1] ** 2).mean() for maps in seen)
    torch.testing.assert_close(judged_terms["fake"], on_fake / 2)
    on_real = sum(((maps[-1] - 1) ** 2).mean() for maps in wanted)
    torch.testing.assert_close(judged_terms["real"], on_real / 2)


def test_each_loss_reaches_the_networks_it_trains():
    system = method(features=2)
    nets = system.networks
    sum(system.discriminator_loss(batch()).values()).backward()
    assert all(p.grad is not None for p in nets["discriminator"].parameters())
    assert all(p.grad is None for p in nets["generator"].parameters())
    sum(system.generator_loss(batch()).values()).backward()
    for name in ("generator", "encoder"):
        assert all(p.grad is not None for p in nets[name].parameters()), name


def test_perceptual_distance_is_a_term_of_its_own():
    class Brightness(NoDistance):
        def forward(self, a, b):
            return (a.mean(dim=(1, 2, 3)) - b.mean(dim=(1, 2, 3))).abs()

    system, given = method(perceptual=Brightness(), matching_weight=0), batch()
    terms = system.generator_loss(given)
    assert set(terms) == {"gan", "perceptual"}
    fake = system.networks["generator"](system.layout(given.onehot))
    want = 10 * (fake.mean(dim=(1, 2, 3)) - given.img.mean(dim=(1, 2, 3))).abs().mean()
    torch.testing.assert_close(terms["perceptual"], want)


def test_colours_are_learnt():
    system, given = method(width=8), batch(4)
    nets = system.networks
    optimisers = [
        torch.optim.Adam(nets[name].parameters(), 0.01, betas=(0.5, 0.999))
        for name in ("generator", "discriminator")
    ]
    losses = (system.generator_loss, system.discriminator_loss)
    before = (system.draw(given.onehot, stream(0, "draw")) - given.img).abs().mean()
    for _ in range(30):
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            sum(loss(given).values()).backward()
            optimiser.step()
    after = (system.draw(given.onehot, stream(0, "draw")) - given.img).abs().mean()
    assert after < 0.7 * before


def test_draws_vary_once_features_are_clustered():
    system, given = method(features=2), batch()
    initialise(system.networks["encoder"], stream(3, "encoder"))
    one, other = (system.draw(given.onehot, stream(seed, "draw")) for seed in (0, 1))
    assert torch.equal(one, other)
    system.cluster([batch(seed=seed) for seed in range(4)], stream(0, "clusters"))
    assert system.networks["clusters"].counts.max() > 1
    one, again, other = (system.draw(given.onehot, stream(seed, "draw")) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.shape == (2, 3, 16, 24)


@pytest.mark.parametrize("enhancers", [0, 1, 2])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_enhancers_double_the_size_around_the_global_generator(enhancers, norm):
    config = HDConfig(in_channels=5, width=2, halvings=1, blocks=1, enhancers=enhancers, norm=norm)
    assert config.stride == 2 ** (1 + enhancers)
    net = HDGenerator(config)
    size = (2 * config.stride, 3 * config.stride)
    assert net(torch.randn(2, 5, *size)).shape == (2, 3, *size)
    assert net.model[1].out_channels == 2 << enhancers


def test_widths_are_the_papers():
    """c7s1-64, d128, d256, d512, d1024, R1024 x 9, u512, u256, u128, u64, c7s1-3 (appendix)."""
    with torch.device("meta"):
        net = HDGenerator(HDConfig(in_channels=36, width=64))
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    channels = [m.out_channels for m in net.model if isinstance(m, kinds)]
    assert channels == [64, 128, 256, 512, 1024, 512, 256, 128, 64, 3]
    assert sum(isinstance(m, ResidualBlock) for m in net.model) == 9


def test_scales_see_ever_larger_parts_of_the_picture():
    net = MultiscaleDiscriminator(2, scales=3, halvings=2, width=2)
    scales = net(torch.randn(1, 2, 32, 48))
    assert [maps[0].shape[2:] for maps in scales] == [(17, 25), (9, 13), (5, 7)]
    assert all(len(maps) == 4 and maps[-1].shape[1] == 1 for maps in scales)


def test_errors_name_the_fix():
    with pytest.raises(ShapeError, match="20 x 24 do not fit; resize to multiples of 8, 16 pixels"):
        HDGenerator(HDConfig(in_channels=1, width=1, halvings=3))(torch.zeros(1, 1, 20, 24))
    with pytest.raises(ShapeError, match="multiples of 4, 8 pixels at least"):
        FeatureEncoder(halvings=2, width=2)(torch.zeros(1, 3, 4, 8))
    with pytest.raises(ShapeError, match="8 pixels at least"):
        MultiscaleDiscriminator(1, scales=3, width=1)(torch.zeros(1, 1, 7, 9))
    with pytest.raises(ConfigError, match="build it with features"):
        method().cluster([batch()], stream(0, "clusters"))
    with pytest.raises(ConfigError, match="no pictures to cluster"):
        method(features=1).cluster([], stream(0, "clusters"))
    with pytest.raises(ConfigError, match="choose one of logistic"):
        Pix2PixHDConfig(num_classes=2, adversarial="hinge")
    with pytest.raises(ConfigError, match="halvings is 0; give 1 or more"):
        method(halvings=0)


def test_config_round_trips():
    config = Pix2PixHDConfig(**SMALL, features=3)
    assert Pix2PixHDConfig.from_dict(config.to_dict()) == config
    assert HDConfig.from_dict(config.generator().to_dict()) == config.generator()
