"""Pictures that are not square: both networks, their files and their training."""

from pathlib import Path

import pytest
import torch

from stylegan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    load_generator,
    save_generator,
)
from stylegan.errors import ShapeError
from stylegan.layers import fit_base
from stylegan.seeding import sample_z, stream

CHANNELS = {4: 8, 8: 8, 16: 8}


def make_generator() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GeneratorConfig(
            img_resolution=16, base=(4, 6), z_dim=8, w_dim=8, mapping_layers=2, channels=CHANNELS
        )
        net = Generator(config).eval().requires_grad_(False)
    for block in net.synthesis.children():
        for name, value in block.named_parameters():
            if name.endswith("noise_strength"):
                value.fill_(1)
    return net


def test_a_generator_of_another_base_draws_other_shapes_and_keeps_its_names() -> None:
    net = make_generator()
    z = sample_z(2, 8, stream(0, "z"))
    out = net.synthesis(net.mapping(z), feature_resolutions=(4, 8))
    assert out.img.shape == (2, 3, 16, 24)
    assert out.feats[4].shape == (2, 8, 4, 6)
    assert out.feats[8].shape == (2, 8, 8, 12)
    assert net.synthesis.b8.conv1.noise_const.shape == (8, 12)
    random = net.synthesis(net.mapping(z), "random", generator=stream(0, "noise")).img
    assert random.shape == out.img.shape
    assert not torch.equal(random, out.img)
    square = Generator(GeneratorConfig(img_resolution=16, mapping_layers=2, channels=CHANNELS))
    assert square.state_dict().keys() == net.state_dict().keys()


def test_a_wide_generator_is_saved_and_read_off_its_weights(tmp_path: Path) -> None:
    net = make_generator()
    z = sample_z(2, 8, stream(0, "z"))
    save_generator(net, tmp_path / "wide.safetensors")
    torch.save(net.state_dict(), tmp_path / "wide.pt")
    for name in ("wide.safetensors", "wide.pt"):
        again = load_generator(tmp_path / name)
        assert again.config.img_size == (16, 24)
        assert torch.equal(again(z), net(z))


def test_a_discriminator_judges_pictures_of_its_shape_alone() -> None:
    net = Discriminator(DiscriminatorConfig(img_resolution=16, base=(4, 6), channels=CHANNELS))
    img = torch.randn(4, 3, 16, 24, generator=stream(0, "img"))
    assert net(img).shape == (4, 1)
    assert not torch.equal(net(img), net(img.flip(3)))
    with pytest.raises(ShapeError, match=r"expected pictures of 16x24, got \[4, 3, 24, 16\]"):
        net(img.transpose(2, 3))


@pytest.mark.parametrize(
    ("size", "resolution", "base"),
    [
        ((96, 64), 64, (6, 4)),
        ((48, 80), 32, (6, 10)),
        ((40, 56), 32, (5, 7)),
    ],
)
def test_the_base_is_the_size_halved_as_often_as_it_goes(
    size: tuple[int, int], resolution: int, base: tuple[int, int]
) -> None:
    assert fit_base(*size) == (resolution, base)


def test_sizes_that_no_network_draws_are_named() -> None:
    for height, width in ((4, 4), (100, 1024), (65, 65)):
        with pytest.raises(ShapeError, match=f"cannot draw {height}x{width}"):
            fit_base(height, width)
