"""Steering: attributes that z decides as the pictures have them, and a mapping fitted to that."""

import copy

import pytest
import torch

from stylegan import Generator, GeneratorConfig
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import randn, sample_z, stream
from stylegan.steering import (
    Steering,
    fit_copula,
    fit_mapping,
    share_beyond,
    tetrachoric,
)


def make_prior(c_dim: int = 0) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GeneratorConfig(
            img_resolution=16,
            z_dim=8,
            w_dim=64,
            c_dim=c_dim,
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
        fit_mapping(make_prior(), torch.zeros(3, 64), labels, gen=stream(0, "fit"))


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


def test_the_fitted_mapping_adds_the_directions_by_itself():
    prior, labels = make_prior(), make_labels(0.3)
    given = copy.deepcopy(prior.state_dict())
    deviation = prior.mapping.map(sample_z(5000, 8, stream(3, "z")), None).std(dim=0)
    directions = 3 * deviation * randn((3, 64), stream(4, "directions"))
    errors: list[float] = []
    gen = stream(5, "fit")
    fitted = fit_mapping(prior, directions, labels, gen=gen, steps=400, on_report=errors.append)
    copula = fit_copula(labels, 8, stream(5, "fit"))
    z = sample_z(4000, 8, stream(6, "z"))
    want = prior.mapping.map(z, None) + copula(z) @ directions

    def error(network: Generator) -> float:
        return float(((network.mapping.map(z, None) - want) / deviation).square().mean())

    assert len(errors) == 400
    assert error(fitted) < 0.5 * error(prior)
    assert error(fitted) == pytest.approx(sum(errors[-10:]) / 10, rel=0.2)
    average = fitted.mapping.map(z, None).mean(dim=0)
    assert ((fitted.mapping.w_avg - average) / deviation).abs().max() < 0.15
    for name, value in prior.state_dict().items():
        assert torch.equal(value, given[name]), name
        if name.startswith("synthesis"):
            assert torch.equal(value, fitted.state_dict()[name]), name
    assert not any(p.requires_grad for p in fitted.parameters())


def test_a_conditional_generator_is_not_fitted():
    with pytest.raises(ShapeError, match="this network is conditional"):
        fit_mapping(make_prior(2), torch.zeros(3, 64), make_labels(0.0), gen=stream(0, "fit"))
