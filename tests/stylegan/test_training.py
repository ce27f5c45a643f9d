"""Prior training: resumes exactly, moves what it should, and stops on NaN."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.augment import AdaptiveStrength, Augment
from stylegan.critic import Augmentation, Critic
from stylegan.errors import CheckpointError, ConfigError, DivergenceError
from stylegan.objective import path_lengths, r1_penalty
from stylegan.precision import cpu_has_bfloat16, resolve_precision
from stylegan.seeding import sample_z, stream
from stylegan.steering import Steering
from stylegan.training import PriorTrainer, epoch_order, train_prior

CHANNELS = {4: 8, 8: 8, 16: 8}
GOLDEN_D = [1.39713, 1.35683, 1.35679, 1.35596, 1.34421, 1.36511]
GOLDEN_G = [0.70645, 0.74944, 0.7342, 0.73685, 0.75344, 0.73215]
GOLDEN_PATH = [1.00953, 2.6485, 1.18324]


class Pictures:
    """Twelve pictures of one colour each, which record what was asked for."""

    def __init__(self, c_dim: int = 0) -> None:
        self.c_dim = c_dim
        gen = torch.Generator().manual_seed(0)
        colors = torch.randint(0, 256, (12, 3, 1, 1), generator=gen, dtype=torch.uint8)
        self.pixels = colors.expand(-1, -1, 16, 16)
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Tensor) -> Tensor:
        self.asked += indices.tolist()
        return self.pixels[indices]

    def labels(self, indices: Tensor) -> Tensor:
        assert indices.tolist() == self.asked[-len(indices) :]
        return torch.nn.functional.one_hot(indices % self.c_dim, self.c_dim).float()


def make_augmentation(target: float = -1.0, kimg: float = 0.04) -> Augmentation:
    augment = Augment("bgc")
    augment.p = 0.5
    strength = AdaptiveStrength(target, kimg, interval=2)
    return Augmentation(augment, stream(0, "augment"), strength)


def make_trainer(
    augmentation: Augmentation | None = None,
    c_dim: int = 0,
    device: str = "cpu",
    attributes: int = 0,
    **kwargs: Any,
) -> PriorTrainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GeneratorConfig(
            img_resolution=16, z_dim=8, w_dim=8, c_dim=c_dim, mapping_layers=2, channels=CHANNELS
        )
        generator = Generator(config)
        critic = DiscriminatorConfig(img_resolution=16, c_dim=c_dim, channels=CHANNELS)
        network = Discriminator(critic)
    judge = Critic(network.to(device), r1_gamma=1.0, interval=2, augmentation=augmentation)
    options = {"batch": 4, "path_weight": 2.0, "path_interval": 2, "ema_kimg": 0.02, **kwargs}
    if attributes:
        steering = Steering(generator.mapping, attributes, stream(0, "steering"))
        options["steering"] = steering.to(device)
    return PriorTrainer(generator.to(device), judge, Pictures(c_dim or attributes), **options)


@pytest.mark.parametrize(("augmented", "attributes"), [(False, 0), (True, 0), (False, 2)])
def test_stopped_and_resumed_training_gives_the_same_losses_and_weights(
    augmented: bool, attributes: int
) -> None:
    def make() -> PriorTrainer:
        return make_trainer(make_augmentation() if augmented else None, attributes=attributes)

    whole = make()
    losses = [report.losses for report in train_prior(whole, kimg=0.028)]
    assert len(losses) == 7

    first = make()
    before = [first.step().losses for _ in range(3)]
    state = copy.deepcopy(first.state())
    second = make()
    second.load_state(state)
    after = [second.step().losses for _ in range(4)]
    assert before + after == losses
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, second.averaged.state_dict()[name]), name


def test_losses_are_those_of_record() -> None:
    found = [report.losses for report in train_prior(make_trainer(precision="float32"), kimg=0.024)]
    assert [report["D"] for report in found] == pytest.approx(GOLDEN_D, rel=1e-3)
    assert [report["G"] for report in found] == pytest.approx(GOLDEN_G, rel=1e-3)
    assert [report["path"] for report in found[::2]] == pytest.approx(GOLDEN_PATH, rel=1e-3)


def test_augmentation_follows_the_target_and_is_what_the_discriminator_sees() -> None:
    for target, moves in ((-1.5, 0.2), (1.5, -0.2)):  # r_t is always above, always below
        trainer = make_trainer(make_augmentation(target))
        reports = [trainer.step().losses for _ in range(3)]
        found = [report["augment_p"] for report in reports]
        assert found == pytest.approx([0.5, 0.5 + moves, 0.5 + moves])
        assert -1 <= reports[-1]["augment_r_t"] <= 1
    plain, changed = make_trainer(), make_trainer(make_augmentation())
    assert plain.step().losses["D"] != changed.step().losses["D"]
    picture = changed._real()[0]
    seen = changed.critic.judge(picture, None)
    assert not torch.equal(seen, plain.critic.judge(picture, None))


def test_training_moves_both_networks_and_the_average_lags() -> None:
    trainer = make_trainer(ema_rampup=None)
    start = copy.deepcopy(trainer.G.state_dict())
    critic = copy.deepcopy(trainer.D.state_dict())
    for _ in range(3):
        trainer.step()
    moved = (trainer.G.synthesis.b8.conv0.weight - start["synthesis.b8.conv0.weight"]).norm()
    lagged = (trainer.G_ema.synthesis.b8.conv0.weight - start["synthesis.b8.conv0.weight"]).norm()
    assert 0 < lagged < moved
    assert not torch.equal(trainer.D.state_dict()["b16.conv0.weight"], critic["b16.conv0.weight"])
    assert trainer.G_ema.mapping.w_avg.abs().sum() > 0


def test_conditions_of_the_pictures_reach_both_networks() -> None:
    trainer = make_trainer(c_dim=3)
    start = copy.deepcopy(trainer.G.mapping.embed.weight)
    for _ in range(2):
        trainer.step()
    assert (trainer.G.mapping.embed.weight != start).any(dim=0).all()  # each class was drawn
    real, c = trainer._real()
    assert c is not None
    with torch.no_grad():
        right, wrong = (trainer.critic.judge(real, each) for each in (c, c.roll(1, dims=1)))
        fakes = [trainer.G(torch.ones(1, 8), row[None]) for row in torch.eye(3)]
    assert (right != wrong).all()
    assert not torch.equal(fakes[0], fakes[1])


def test_steering_moves_w_and_learns_with_the_generator() -> None:
    trainer = make_trainer(attributes=3, ema_rampup=None)
    assert trainer.steering is not None
    assert trainer.steering_ema is not None
    begun = trainer.steering.directions.detach().clone()
    rates = [group["lr"] for group in trainer.opt_G.param_groups]
    assert rates == pytest.approx([0.0025 * 2 / 3] * 2)
    for _ in range(3):
        trainer.step()
    moved, lagged = (
        (net.directions - begun).norm(dim=1) for net in (trainer.steering, trainer.steering_ema)
    )
    assert (lagged > 0).all()
    assert (lagged < moved).all()
    assert trainer.G.c_dim == 0

    z, c = sample_z(2, 8, stream(0, "z")), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    d = trainer.steering_ema.directions
    w = trainer.G_ema.mapping.map(z, None) + torch.stack([d[1], d[0] + d[2]])
    ws = w[:, None].expand(-1, trainer.G.num_ws, -1)
    torch.testing.assert_close(trainer.draw(z, c), trainer.G_ema.synthesis(ws).img)


def test_both_styles_of_a_mixed_picture_are_steered_alike() -> None:
    trainer = make_trainer(attributes=2, mixing=1.0)
    assert trainer.steering is not None
    c = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    found = []
    with torch.no_grad():
        for scale in (1.0, 0.0):
            trainer.steering.directions *= scale
            trainer.gen.manual_seed(0)
            found.append(trainer._mixed_styles(4, c))
            if scale:
                want = trainer.steering(c)
                average = trainer.G.mapping.w_avg.clone()
    torch.testing.assert_close(found[0] - found[1], want[:, None].expand_as(found[0]))
    assert not torch.equal(trainer.G.mapping.w_avg, average)


def test_only_a_steered_training_keeps_directions() -> None:
    plain, steered = make_trainer(), make_trainer(attributes=2)
    assert steered.state().keys() - plain.state().keys() == {"steering", "steering_ema"}
    for mine, other in ((plain, steered), (steered, plain)):
        with pytest.raises(CheckpointError, match="another network"):
            mine.load_state(other.state())


def test_path_length_has_the_passes_and_rates_of_the_paper() -> None:
    trainer = make_trainer(path_interval=4, path_weight=2.0)
    group = trainer.opt_G.param_groups[0]
    assert group["lr"] == pytest.approx(0.0025 * 4 / 5)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (4 / 5)))
    for others in (trainer.opt_D, make_trainer(path_weight=0.0).opt_G):
        assert others.param_groups[0]["lr"] == 0.0025
    reports = [trainer.step().losses for _ in range(5)]
    assert ["path" in report for report in reports] == [True, False, False, False, True]
    assert trainer.path_mean > 0


def test_each_picture_is_shown_once_an_epoch() -> None:
    trainer = make_trainer()
    for _ in range(6):
        trainer.step()
    asked = trainer.images.asked  # type: ignore[attr-defined]
    assert sorted(asked[:12]) == sorted(asked[12:]) == list(range(12))
    assert asked[:12] != asked[12:]
    assert torch.equal(epoch_order(3, 1, 12), epoch_order(3, 1, 12))


def test_nan_stops_with_the_step_named() -> None:
    trainer = make_trainer()
    trainer.step()
    with torch.no_grad():
        trainer.G.synthesis.b16.torgb.bias.fill_(torch.nan)
    with pytest.raises(DivergenceError, match="not finite at step 2"):
        trainer.step()


def test_states_of_another_training_are_refused() -> None:
    state = make_trainer().state()
    with pytest.raises(CheckpointError, match="batch 4, not 8"):
        make_trainer(batch=8).load_state(state)
    state["G"] = {}
    with pytest.raises(CheckpointError, match="another network"):
        make_trainer().load_state(state)


def test_r1_of_a_network_that_sums_pixels_is_the_number_of_pixels() -> None:
    class Sum(torch.nn.Module):
        def forward(self, img: Tensor, c: Tensor | None) -> Tensor:
            return 2 * img.sum(dim=(1, 2, 3))[:, None]

    penalty = r1_penalty(Sum(), torch.randn(3, 3, 4, 5))  # type: ignore[arg-type]
    torch.testing.assert_close(penalty, torch.full((3,), 4.0 * 60))


def test_path_lengths_are_those_of_the_whole_jacobian() -> None:
    generator = make_trainer().G.eval()
    ws = generator.mapping(torch.randn(1, 8, generator=stream(0, "z"))).detach()
    found = path_lengths(generator, ws.clone().requires_grad_(), stream(0, "y"))

    def draw(ws: Tensor) -> Tensor:
        return generator.synthesis(ws, "random", (), stream(0, "y")).img

    gen = stream(0, "y")
    img = generator.synthesis(ws, "random", (), gen).img
    y = torch.randn(img.shape, generator=gen) / 16  # drawn after the layers' noise
    slopes = torch.zeros_like(ws)
    for layer, k in itertools.product(range(ws.shape[1]), range(ws.shape[2])):
        unit = torch.zeros_like(ws)
        unit[:, layer, k] = 1
        column = torch.autograd.functional.jvp(draw, ws, unit)[1]  # one column of the Jacobian
        slopes[:, layer, k] = (y * column).sum()
    torch.testing.assert_close(found, slopes.square().sum(dim=2).mean(dim=1).sqrt())


def test_precision_names_are_checked_and_auto_is_float32_without_hardware(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stylegan.precision.cpu_has_bfloat16", lambda: False)
    assert resolve_precision("auto", "cpu") == torch.float32
    monkeypatch.setattr("stylegan.precision.cpu_has_bfloat16", lambda: True)
    assert resolve_precision("auto", "cpu") == torch.bfloat16
    with pytest.raises(ConfigError, match="unknown precision 'half'"):
        resolve_precision("half", "cpu")


@pytest.mark.parametrize(
    ("facts", "fast"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512_bf16 amx_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512_bf16", False),
        ("vendor_id : AuthenticAMD\nflags : avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
    ],
)
def test_bfloat16_is_for_processors_that_gain_by_it(facts, fast, tmp_path):
    (tmp_path / "cpuinfo").write_text(facts)
    assert cpu_has_bfloat16(tmp_path / "cpuinfo") == fast
    assert not cpu_has_bfloat16(tmp_path / "none")
