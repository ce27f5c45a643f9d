"""The projected critic: frozen and repeatable features, the losses, training and resuming."""

import pytest
import torch
import torch.nn.functional as F

from stylegan.discriminator import Discriminator, DiscriminatorConfig
from stylegan.lite0 import Lite0
from stylegan.objective import discriminator_loss, generator_loss
from stylegan.projected import (
    CONDITION_GAIN,
    FeatureMixing,
    GroupNorm2d,
    ProjectedCritic,
    Projection,
)
from stylegan.stylegan2 import Generator, GeneratorConfig
from stylegan.training import PriorTrainer

CHANNELS = {4: 8, 8: 8, 16: 8}


def build_critic(**options) -> ProjectedCritic:
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(img_resolution=16, channels=CHANNELS))
    return ProjectedCritic(network, Lite0(), r1_gamma=1.0, **options)


class Pictures:
    c_dim = 0

    def __init__(self) -> None:
        gen = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (8, 3, 16, 16), generator=gen, dtype=torch.uint8)

    def __len__(self) -> int:
        return 8

    def batch(self, indices):
        return self.pixels[indices]

    def labels(self, indices):
        return torch.zeros(len(indices), 0)


def build_trainer() -> PriorTrainer:
    torch.manual_seed(0)
    config = GeneratorConfig(img_resolution=16, z_dim=8, w_dim=8, mapping_layers=2,
                             channels=CHANNELS)  # fmt: skip
    return PriorTrainer(Generator(config), build_critic(), Pictures(), batch=4)


def test_mixing_is_the_same_in_every_process_and_never_trained():
    torch.manual_seed(1)
    one = FeatureMixing((3, 5), width=4)
    torch.manual_seed(2)
    two = FeatureMixing((3, 5), width=4)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad


def test_coarse_scales_reach_fine_ones_and_not_the_other_way():
    mixing = FeatureMixing((3, 5), width=4)
    fine, coarse = torch.randn(1, 3, 8, 12), torch.randn(1, 5, 4, 6)
    mixed = mixing([fine, coarse])
    assert [tuple(m.shape) for m in mixed] == [(1, 4, 8, 12), (1, 4, 4, 6)]
    other = mixing([fine, coarse + 1])
    assert not torch.allclose(mixed[0], other[0])
    assert torch.equal(mixing([fine + 1, coarse])[1], mixed[1])


@pytest.mark.parametrize(("size", "seen"), [((16, 24), (128, 192)), ((512, 512), (256, 256))])
def test_pictures_are_brought_to_the_backbone_s_range_of_sizes(size, seen):
    projection = Projection(Lite0())
    img = torch.zeros(1, 3, *size, requires_grad=True)
    maps = projection(img)
    assert [m.shape[2:] for m in maps] == [torch.Size(n // s for n in seen) for s in (4, 8, 16, 32)]
    (grad,) = torch.autograd.grad(maps[0].square().sum(), img)
    assert grad.abs().sum() > 0


def test_normalisation_of_one_group_is_batch_norm():
    x = torch.randn(4, 3, 5, 6)
    norm = GroupNorm2d(3, size=4)
    want = F.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(norm(x), want)


def test_groups_stay_together_when_processes_share_the_batch():
    x = torch.randn(8, 3, 5, 6)
    norm = GroupNorm2d(3, size=4)
    whole = norm(x)
    for rank in range(2):
        torch.testing.assert_close(norm(x[rank::2]), whole[rank::2])


def test_losses_are_those_of_both_parts():
    critic = build_critic(weight=0.3)
    critic.network.eval()  # spectral norms stand still
    real, fake = torch.rand(4, 3, 16, 16) * 2 - 1, torch.rand(4, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        verdicts = list(zip(critic.verdicts(real), critic.verdicts(fake), strict=True))
        hinge = sum(float((1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean())
                    for r, f in verdicts)  # fmt: skip
        plain = discriminator_loss(critic.discriminator(real), critic.discriminator(fake))
        found = critic.discriminator_loss(real, fake)
        torch.testing.assert_close(float(found), float(plain) + 0.3 * hinge / 4)
        heads = -0.3 / 4 * sum(float(f.mean()) for _, f in verdicts)
        want = float(generator_loss(critic.discriminator(fake))) + heads
        torch.testing.assert_close(float(critic.generator_loss(fake)), want)


def test_heads_judge_a_picture_by_its_condition():
    torch.manual_seed(0)
    config = DiscriminatorConfig(img_resolution=16, channels=CHANNELS, c_dim=3)
    critic = ProjectedCritic(Discriminator(config), Lite0(), r1_gamma=1.0)
    critic.network.eval()
    img = torch.rand(4, 3, 16, 16) * 2 - 1
    c = torch.eye(3)[[0, 1, 2, 0]]
    with torch.no_grad():
        plain, under = critic.verdicts(img), critic.verdicts(img, c)
        maps = critic.projection(img)
        for head, x, a, b in zip(critic.heads, maps, plain, under, strict=True):
            votes = head.condition(head.layers[:-1](x))  # [4,3,h,w]
            want = torch.stack([votes[i, k] for i, k in enumerate((0, 1, 2, 0))])
            torch.testing.assert_close(b - a, CONDITION_GAIN * want[:, None], rtol=1e-4, atol=1e-5)
            assert (a != b).any()
        loss, other = (critic.generator_loss(img, d) for d in (c, c.roll(1, dims=1)))
    assert loss != other
    assert build_critic().heads[0].condition is None


def test_heads_may_have_conditions_that_the_discriminator_has_not():
    critic = build_critic(c_dim=2)
    critic.network.eval()
    img = torch.rand(4, 3, 16, 16) * 2 - 1
    none, both = torch.zeros(4, 2), torch.ones(4, 2)
    with torch.no_grad():
        assert torch.equal(critic.judge(img, none), critic.judge(img, both))
        assert critic.generator_loss(img, none) != critic.generator_loss(img, both)
        assert critic.discriminator_loss(img, -img, none) != critic.discriminator_loss(
            img, -img, both
        )


def test_pictures_beyond_the_range_are_pulled_back():
    critic = build_critic(weight=0.0)
    critic.discriminator = torch.nn.Module()
    critic.discriminator.forward = lambda img, c: img.new_zeros(len(img), 1)  # judges nothing
    fake = torch.full((2, 3, 16, 16), 1.5, requires_grad=True)
    (grad,) = torch.autograd.grad(critic.generator_loss(fake), fake)
    assert (grad > 0).all()
    inside = torch.full((2, 3, 16, 16), 0.5, requires_grad=True)
    (grad,) = torch.autograd.grad(critic.generator_loss(inside), inside)
    assert not grad.any()


def test_training_moves_heads_and_discriminator_but_nothing_frozen():
    trainer = build_trainer()
    critic = trainer.critic
    before = [p.clone() for p in critic.projection.parameters()]
    heads = [p.clone() for p in critic.heads.parameters()]
    own = [p.clone() for p in critic.discriminator.parameters()]
    trainer.step()
    assert all(map(torch.equal, critic.projection.parameters(), before))
    assert not any(p.grad is not None for p in critic.projection.parameters())
    assert not all(map(torch.equal, critic.heads.parameters(), heads))
    assert not all(map(torch.equal, critic.discriminator.parameters(), own))
    rates = [group["lr"] for group in trainer.opt_D.param_groups]
    assert rates == [0.0025, 0.0005]


def test_resume_gives_the_losses_of_a_training_never_stopped():
    whole = build_trainer()
    losses = [whole.step().losses for _ in range(4)]
    first = build_trainer()
    for _ in range(2):
        first.step()
    again = build_trainer()
    again.load_state(first.state())
    assert [again.step().losses for _ in range(2)] == losses[2:]
