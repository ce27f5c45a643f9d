"""A class of a conditional network alone: the same pictures and verdicts, without a condition."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylegan import StyleGAN3, StyleGAN3Config, convert, load_snapshot
from stylegan.errors import ConfigError, ShapeError
from stylegan.one_class import one_class_generator
from stylegan.prior import Prior
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from tests.parity.case import FOLDER
from tests.stylegan.snapshots import tiny_generator

CLASS = torch.eye(3)[[1]].expand(4, 3)


def check(G: Prior, one: Prior) -> Tensor:
    """Compare class 1 of `G` with `one`, and return its pictures."""
    assert (G.c_dim, one.c_dim) == (3, 0)
    z = torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(2))
    img = G(z, CLASS)
    torch.testing.assert_close(one(z), img, rtol=1e-4, atol=1e-5)
    assert (G(z, CLASS.roll(1, dims=1)) - img).abs().max() > 1e-3
    z = torch.randn(20_000, G.z_dim, generator=torch.Generator().manual_seed(1))
    w = one.mapping(z)[:, 0]
    assert ((one.mapping.w_avg - w.mean(dim=0)).abs() / w.std(dim=0)).max() < 0.06
    return img


def test_a_published_network_of_one_class_draws_and_judges_as_before(tmp_path: Path) -> None:
    source = FOLDER / "pickles" / "ada_32px_tiny.pkl"
    convert(source, tmp_path / "one.safetensors", label=1)
    given, found = load_snapshot(source), load_snapshot(tmp_path / "one.safetensors")
    img = check(given.G_ema, found.G_ema)
    assert given.D is not None
    assert found.D is not None
    torch.testing.assert_close(found.D(img), given.D(img, CLASS), rtol=1e-4, atol=1e-5)


def test_a_stylegan3_of_one_class_draws_as_before() -> None:
    torch.manual_seed(0)
    config = StyleGAN3Config(img_resolution=32, z_dim=5, w_dim=7, c_dim=3, channels=(8, 8, 6, 4))
    G = StyleGAN3(config).eval().requires_grad_(False)
    check(G, one_class_generator(G, 1))


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="class 3: the network has 3 classes, 0 to 2"):
        one_class_generator(tiny_generator(c_dim=3), 3)
    with pytest.raises(ConfigError, match="class 0: the network has no classes"):
        one_class_generator(tiny_generator(), 0)
    config = StyleGAN1Config(img_resolution=8, z_dim=4, w_dim=4, mapping_dim=4, c_dim=2)
    with pytest.raises(ConfigError, match="a stylegan1 generator cannot be reduced"):
        one_class_generator(StyleGAN1(config), 0)


def test_what_needs_no_condition_names_the_way_out() -> None:
    with pytest.raises(ShapeError, match="prior convert --label CLASS"):
        tiny_generator(c_dim=3).mapping(torch.zeros(1, 7))
