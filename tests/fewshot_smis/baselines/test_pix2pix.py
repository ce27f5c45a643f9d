"""pix2pix as a method: the objectives the paper compares, both directions, noise at test time."""

import pytest
import torch

from fewshot_smis.baselines.batch import Batch
from fewshot_smis.baselines.pix2pix import Pix2Pix, Pix2PixConfig, Pix2PixLabels
from fewshot_smis.data import one_hot
from stylegan.errors import ConfigError
from stylegan.seeding import stream

SMALL = {
    "num_classes": 4,
    "levels": 3,
    "width": 8,
    "patch": 16,
    "discriminator_width": 4,
    "norm": "instance",
}
COLORS = torch.tensor([[-0.8, -0.8, 0.4], [0.7, 0.1, -0.5], [-0.2, 0.8, 0.0], [0.9, 0.9, 0.9]])


def method(kind=Pix2Pix, **options):
    return kind(Pix2PixConfig(**(SMALL | options)), stream(0, "weights"))


def batch(num=2, seed=0):
    """Return blocks of four pixels, each in the colour of its class."""
    gen = stream(seed, "batch")
    small = torch.randint(4, (num, 4, 6), generator=gen)
    label = small.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    return Batch(one_hot(label, 4), COLORS[label].permute(0, 3, 1, 2), gen)


@pytest.mark.parametrize(
    ("options", "terms", "seen"),
    [
        ({"gan_weight": 0}, {"l1"}, None),
        ({"l1_weight": 0, "conditional": False}, {"gan"}, 3),
        ({"l1_weight": 0}, {"gan"}, 7),
        ({"conditional": False}, {"gan", "l1"}, 3),
        ({}, {"gan", "l1"}, 7),
    ],
    ids=["L1", "GAN", "cGAN", "L1+GAN", "L1+cGAN"],
)
def test_objectives_of_the_paper(options, terms, seen):
    system = method(**options)
    assert set(system.generator_loss(batch())) == terms
    judged = system.discriminator_loss(batch())
    if seen is None:
        assert judged == {}
        assert set(system.networks) == {"generator"}
    else:
        assert set(judged) == {"fake", "real"}
        assert system.networks["discriminator"].config.in_channels == seen


@pytest.mark.parametrize(
    ("adversarial", "accept", "reject"),
    [
        ("logistic", lambda s: -s.sigmoid().log(), lambda s: -(1 - s.sigmoid()).log()),
        ("least_squares", lambda s: (s - 1) ** 2, lambda s: s**2),
        ("wasserstein", lambda s: -s, lambda s: s),
    ],
)
def test_losses_equal_their_formulas(adversarial, accept, reject):
    """With the weights of the terms, which the loop only sums up."""
    system = method(adversarial=adversarial, gan_weight=3, l1_weight=7)
    given = batch()
    generator, discriminator = system.networks["generator"], system.networks["discriminator"]
    fake = generator(given.onehot)  # three levels have no noise
    on_fake = discriminator(torch.cat([given.onehot, fake], dim=1))
    on_real = discriminator(torch.cat([given.onehot, given.img], dim=1))
    terms = system.generator_loss(given)
    torch.testing.assert_close(terms["gan"], 3 * accept(on_fake).mean())
    torch.testing.assert_close(terms["l1"], 7 * (fake - given.img).abs().mean())
    judged = system.discriminator_loss(given)
    torch.testing.assert_close(judged["fake"], reject(on_fake).mean() / 2)
    torch.testing.assert_close(judged["real"], accept(on_real).mean() / 2)


def test_each_loss_reaches_the_networks_it_trains():
    system = method(penalty_weight=10)
    sum(system.discriminator_loss(batch()).values()).backward()
    assert all(p.grad is None for p in system.networks["generator"].parameters())
    assert all(p.grad is not None for p in system.networks["discriminator"].parameters())
    sum(system.generator_loss(batch()).values()).backward()
    assert all(p.grad is not None for p in system.networks["generator"].parameters())


def test_penalty_is_measured_between_real_and_drawn_pictures():
    system = method(adversarial="wasserstein", penalty_weight=10)
    for parameter in system.networks["discriminator"].parameters():
        torch.nn.init.zeros_(parameter)  # a flat critic: |gradient| is 0 everywhere
    penalty = system.discriminator_loss(batch())["penalty"]
    torch.testing.assert_close(penalty, torch.tensor(10.0))


def fit(system, steps, given):
    nets = system.networks
    groups = [nets["generator"].parameters(), nets["discriminator"].parameters()]
    losses = [system.generator_loss, system.discriminator_loss]
    optimisers = [torch.optim.Adam(p, 0.01, betas=(0.5, 0.999)) for p in groups]
    for _ in range(steps):
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            sum(loss(given).values()).backward()
            optimiser.step()


def test_colours_are_learnt_from_labels_and_labels_from_colours():
    seen, new = batch(2), batch(2, seed=1)
    paint, segment = method(), method(Pix2PixLabels)
    fit(paint, 20, seen)
    fit(segment, 20, seen)
    assert (paint.draw(new.onehot, new.gen) - new.img).abs().mean() < 0.25
    label = new.onehot.argmax(dim=1)
    assert (segment.segment(new.img) == label).float().mean() > 0.4  # one of four by chance


def test_pictures_are_drawn_one_by_one_and_statistics_kept():
    system = method(norm="batch", levels=6, width=2)
    onehot = one_hot(torch.randint(4, (2, 64, 128), generator=stream(0, "maps")), 4)
    before = {key: value.clone() for key, value in system.networks.state_dict().items()}
    first = system.draw(onehot[:1], stream(0, "draw"))
    both = system.draw(onehot, stream(0, "draw"))
    assert torch.equal(both[:1], first)
    assert not torch.equal(system.draw(onehot[:1], stream(1, "draw")), first)
    after = system.networks.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(module.training for module in system.networks.modules())
    assert both.shape == (2, 3, 64, 128)
    assert not both.requires_grad


def test_weights_follow_the_seed():
    one, same = method(norm="batch"), method(norm="batch")
    other = Pix2Pix(one.config, stream(1, "weights"))
    states = [m.networks.state_dict() for m in (one, same, other)]
    key = "generator.model.model.0.weight"
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0][key], states[2][key])
    assert 0.01 < states[0][key].std() < 0.03


def test_errors_name_the_fix():
    with pytest.raises(ConfigError, match="both 0; give one of them a weight"):
        Pix2PixConfig(num_classes=4, gan_weight=0, l1_weight=0)
    with pytest.raises(ConfigError, match="l1_weight is -1; give 0 or more"):
        Pix2PixConfig(num_classes=4, l1_weight=-1)
    with pytest.raises(ConfigError, match="choose one of logistic, least_squares, wasserstein"):
        Pix2PixConfig(num_classes=4, adversarial="hinge")
    with pytest.raises(ConfigError, match="give the batch a generator"):
        method().generator_loss(batch()._replace(gen=None))


def test_config_round_trips():
    config = Pix2PixConfig(**SMALL, conditional=False)
    assert Pix2PixConfig.from_dict(config.to_dict()) == config
