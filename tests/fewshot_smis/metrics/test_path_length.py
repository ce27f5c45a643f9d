"""Path lengths of linear generators, whose value is known in closed form."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from fewshot_smis.metrics.path_length import (
    PATHS,
    Ends,
    along_w,
    along_z,
    path_lengths,
    slerp,
    trimmed_mean,
)
from fewshot_smis.perceptual import load_perceptual
from stylegan.errors import DataError
from stylegan.seeding import sample_z, stream
from tests.fewshot_smis.tiny import tiny_prior

H, W = 4, 6


class Linear(nn.Module):
    """G(z) = A B z: mapping B, synthesis A, in float64."""

    def __init__(self, z_dim: int) -> None:
        super().__init__()
        gen = stream(0, "linear")
        self.b = torch.randn(5, z_dim, generator=gen).double()
        self.a = torch.randn(3 * H * W, 5, generator=gen).double()

    def mapping(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        w = z @ self.b.t() if c is None else z @ self.b.t() * c
        return w[:, None].repeat(1, 2, 1)

    def synthesis(self, ws: Tensor) -> SimpleNamespace:
        return SimpleNamespace(img=(ws[:, 1] @ self.a.t()).view(-1, 3, H, W))


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=(1, 2, 3))


def ends(num: int, dim: int) -> Ends:
    return Ends(*torch.randn(2, num, dim, generator=stream(1, "ends")).double())


def test_length_in_w_of_a_linear_generator_is_that_of_its_chord():
    prior, pair = Linear(4), ends(6, 4)
    want = ((pair.z1 - pair.z0) @ (prior.a @ prior.b).t()).square().sum(dim=1)
    for t in (torch.zeros(6), torch.rand(6, generator=stream(2, "t"))):
        got = path_lengths(prior, squared, along_w, pair, t.double())
        torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_length_in_z_is_the_speed_on_the_great_circle():
    prior = Linear(3)
    z0, z1 = torch.tensor([[2.0, 0, 0]]).double(), torch.tensor([[1.0, 3**0.5, 0]]).double()
    t = torch.tensor([0.3]).double()
    angle = torch.pi / 3
    there = torch.tensor([[-(angle * t).sin(), (angle * t).cos(), 0]]).double()
    want = (2 * angle * there @ (prior.a @ prior.b).t()).square().sum(dim=1)
    got = path_lengths(prior, squared, along_z, Ends(z0, z1), t)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=0)  # a difference, not a slope


def test_condition_is_the_same_along_the_path():
    prior, pair = Linear(4), ends(3, 4)
    c = torch.rand(3, 5, generator=stream(3, "c")).double()
    want = ((pair.z1 - pair.z0) @ prior.b.t() * c @ prior.a.t()).square().sum(dim=1)
    got = path_lengths(prior, squared, along_w, pair._replace(c=c), torch.zeros(3).double())
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_slerp_keeps_the_sphere_and_the_ends():
    a, b = ends(4, 7)[:2]
    a, b = (3 * nn.functional.normalize(x, dim=1) for x in (a, b))
    t = torch.full((4, 1), 0.25).double()
    torch.testing.assert_close(slerp(a, b, 0 * t), a)
    torch.testing.assert_close(slerp(a, b, 4 * t), b)
    middle = slerp(a, b, t)
    torch.testing.assert_close(middle.norm(dim=1), torch.full((4,), 3.0).double())
    whole, part = ((a * x).sum(dim=1).div(9).acos() for x in (b, middle))
    torch.testing.assert_close(part, whole / 4)
    torch.testing.assert_close(slerp(a, a, t), a)


def test_percentiles_cut_one_in_a_hundred_at_each_side():
    lengths = torch.arange(101.0)[torch.randperm(101, generator=stream(0, "shuffle"))]
    assert trimmed_mean(lengths) == 50
    lengths[lengths == 100] = 1e9
    lengths[lengths == 0] = -1e9
    assert trimmed_mean(lengths) == 50
    assert trimmed_mean(torch.tensor([1.0, 2.0])) == 1.5
    with pytest.raises(DataError, match="at least one path"):
        trimmed_mean(torch.zeros(0))


def test_a_finer_step_changes_the_length_of_a_real_generator_little():
    prior, distance = tiny_prior(32), load_perceptual("lite0")
    gen = stream(0, "paths")
    pair = Ends(*(sample_z(4, prior.z_dim, gen) for _ in range(2)))
    t = torch.rand(4, generator=gen)
    for along in PATHS.values():
        coarse, fine = (
            trimmed_mean(path_lengths(prior, distance, along, pair, t, epsilon=e))
            for e in (1e-3, 1e-4)
        )
        assert fine > 0
        assert coarse == pytest.approx(fine, rel=0.1)
