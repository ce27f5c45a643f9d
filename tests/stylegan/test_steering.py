"""Steering: attributes that z decides as the pictures have them, and a mapping that adds them."""

import copy

import pytest
import torch

from stylegan import Generator, GeneratorConfig, convert, load_generator, save_generator
from stylegan.errors import CheckpointError, ConfigError
from stylegan.seeding import randn, sample_z, stream
from stylegan.steering import (
    Steering,
    attribute_shift,
    fit_attributes,
    fit_copula,
    settle,
    share_beyond,
    tetrachoric,
    without_attributes,
)


def make_prior() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GeneratorConfig(
            img_resolution=16,
            z_dim=8,
            w_dim=64,
            mapping_layers=3,
            channels={4: 4, 8: 4, 16: 4},
        )
        return Generator(config).eval().requires_grad_(False)


def make_labels(correlation: float, num: int = 40_000) -> torch.Tensor:
    """Labels of two correlated normals, in shares of 31 % and 11 %, and one of neither, 69 %."""
    x = randn((num, 3), stream(0, "labels"))
    x[:, 1] = correlation * x[:, 0] + (1 - correlation**2) ** 0.5 * x[:, 1]
    return (x > torch.tensor([0.5, 1.25, -0.5])).float()


def joint(c: torch.Tensor) -> torch.Tensor:
    return c.t() @ c / len(c)


@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.0, 0.6, 0.95])
def test_joint_shares_are_those_of_a_double_integral(correlation):
    h, k = 0.4, 1.1
    x = torch.linspace(h, 8, 20_000, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / (2 * torch.pi) ** 0.5
    beyond = torch.special.ndtr((correlation * x - k) / (1 - correlation**2) ** 0.5)
    want = torch.trapezoid(density * beyond, x)  # of P(Y > k) given x
    found = share_beyond(*torch.tensor([h, k, correlation], dtype=torch.float64))
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.8])
def test_correlations_are_those_the_labels_were_made_with(correlation):
    want = torch.eye(3, dtype=torch.float64)
    want[0, 1] = want[1, 0] = correlation
    torch.testing.assert_close(tetrachoric(make_labels(correlation)), want, rtol=0, atol=0.04)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.8])
def test_z_decides_attributes_in_the_shares_and_pairs_of_the_labels(correlation):
    labels = make_labels(correlation)
    copula = fit_copula(labels, 64, stream(1, "axes"))
    torch.testing.assert_close(copula.axes.norm(dim=0), torch.ones(3))
    c = copula(sample_z(20_000, 64, stream(2, "z")))
    assert set(c.unique().tolist()) == {0, 1}
    torch.testing.assert_close(c.mean(dim=0), labels.mean(dim=0), rtol=0, atol=0.01)
    torch.testing.assert_close(joint(c), joint(labels), rtol=0, atol=0.015)


def test_attributes_that_exclude_each_other_hardly_ever_meet():
    labels = torch.zeros(1000, 3)
    labels[:60, 0] = labels[60:100, 1] = labels[100:250, 2] = 1
    c = fit_copula(labels, 64, stream(1, "axes"))(sample_z(20_000, 64, stream(2, "z")))
    torch.testing.assert_close(c.mean(dim=0), labels.mean(dim=0), rtol=0, atol=0.01)
    assert (c.sum(dim=1) > 1).float().mean() < 0.002


def test_an_attribute_twice_has_one_axis_and_one_that_implies_another_comes_with_it():
    labels = torch.zeros(1000, 3)
    labels[:200, :2] = labels[:100, 2] = 1
    c = fit_copula(labels, 64, stream(1, "axes"))(sample_z(20_000, 64, stream(2, "z")))
    assert (c[:, 0] != c[:, 1]).float().mean() < 0.01
    assert (c[:, 2] > c[:, 0]).float().mean() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.mul_(0.5), "0 or 1"),
        (lambda x: x[:, 1].fill_(0), "no picture has attribute 1"),
        (lambda x: x[:, 2].fill_(1), "every picture has attribute 2"),
    ],
)
def test_labels_that_cannot_be_decided_are_refused(change, message):
    labels = make_labels(0.0, 100)
    change(labels)
    with pytest.raises(ConfigError, match=message):
        settle(make_prior(), torch.zeros(3, 64), labels, gen=stream(0, "settle"))


def test_more_attributes_than_latents_have_dimensions_are_refused():
    with pytest.raises(ConfigError, match="3 attributes cannot be decided by z of width 2"):
        fit_copula(make_labels(0.0, 100), 2, stream(0, "axes"))


def test_directions_begin_with_the_deviation_of_w():
    prior = make_prior()
    steering = Steering(prior.mapping, 500, stream(0, "steering"))
    w = prior.mapping.map(sample_z(5000, 8, stream(3, "z")), None)
    found = steering.directions.detach()
    assert found.shape == (500, 64)
    torch.testing.assert_close(found.std(dim=0), w.std(dim=0), rtol=0.15, atol=0)
    assert found.mean(dim=0).abs().max() < 0.2 * w.std(dim=0).max()
    c = torch.zeros(2, 500)
    c[1, [3, 7]] = 1
    torch.testing.assert_close(steering(c), torch.stack([torch.zeros(64), found[3] + found[7]]))


def test_a_settled_generator_adds_the_directions_by_itself(tmp_path):
    prior, labels = make_prior(), make_labels(0.3)
    given = copy.deepcopy(prior.state_dict())
    directions = randn((3, 64), stream(4, "directions"))
    settled = settle(prior, directions, labels, gen=stream(5, "settle"))
    copula = fit_copula(labels, 8, stream(5, "settle"))
    z = sample_z(4000, 8, stream(6, "z"))
    c = copula(z)
    assert 0 < c.mean() < 1
    want = prior.mapping.map(z, None) + c @ directions
    torch.testing.assert_close(settled.mapping.map(z, None), want)
    deviation = want.std(dim=0)
    assert ((settled.mapping.w_avg - want.mean(dim=0)) / deviation).abs().max() < 0.15
    for name, value in prior.state_dict().items():
        assert torch.equal(value, given[name]), name
        if name != "mapping.w_avg":
            assert torch.equal(value, settled.state_dict()[name]), name
    assert not any(p.requires_grad for p in settled.parameters())
    save_generator(settled, tmp_path / "g.safetensors")
    found = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(found(z[:4]), settled(z[:4]))
    assert found.c_dim == 0


def test_a_settled_generator_is_not_steered_again_nor_put_into_formats_that_cannot_say_it(tmp_path):
    directions, labels = torch.zeros(3, 64), make_labels(0.0)
    settled = settle(make_prior(), directions, labels, gen=stream(5, "settle"))
    with pytest.raises(ConfigError, match="decides attributes of this generator already"):
        settle(settled, directions, labels, gen=stream(5, "settle"))
    save_generator(settled, tmp_path / "g.safetensors")
    for to in ("rosinality", "nvidia-state"):
        with pytest.raises(CheckpointError, match="which other formats cannot say"):
            convert(tmp_path / "g.safetensors", tmp_path / "g.pt", to=to)


def test_what_attributes_add_is_told_from_w():
    prior = make_prior()
    directions = Steering(prior.mapping, 3, stream(3, "directions")).directions.detach()
    steered = settle(prior, directions, make_labels(0.3), gen=stream(4, "settle"))
    z = sample_z(200, 8, stream(5, "z"))
    plain = prior.mapping(z)[:, 0]
    torch.testing.assert_close(without_attributes(steered.mapping, z), plain)
    torch.testing.assert_close(without_attributes(prior.mapping, z), plain)
    w, mean = steered.mapping(z)[:, 0], plain.mean(dim=0)
    found = attribute_shift(steered.mapping, w, mean)
    assert (found - (w - plain)).abs().amax(dim=1).lt(1e-4).float().mean() > 0.95
    assert not attribute_shift(prior.mapping, w, mean).any()


def test_attributes_are_given_and_taken_where_that_helps():
    prior = make_prior()
    directions = Steering(prior.mapping, 3, stream(3, "directions")).directions.detach()
    steered = settle(prior, directions, make_labels(0.3), gen=stream(4, "settle"))
    plain = prior.mapping(sample_z(200, 8, stream(5, "z")))[:, 0]
    mean = plain.mean(dim=0)
    plain = mean + 0.1 * (plain - mean)  # so that none is half the way along a direction
    has, wants = (torch.randint(2, (2, 200, 3), generator=stream(6, "c"))).float()
    goal = plain + wants @ directions
    asked = []

    def loss(w: torch.Tensor) -> torch.Tensor:
        asked.append(w)
        return (w - goal).square().sum(dim=1)

    found = fit_attributes(steered.mapping, plain + has @ directions, mean, loss)
    assert torch.equal(
        attribute_shift(steered.mapping, found, mean), attribute_shift(steered.mapping, goal, mean)
    )
    assert (loss(found) <= loss(plain + has @ directions)).all()
    asked.clear()
    assert fit_attributes(prior.mapping, plain, mean, loss) is plain
    assert not asked
