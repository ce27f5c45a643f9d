"""A discriminator may stand beside its generator in a .safetensors file."""

from pathlib import Path

import pytest
import torch

from stylegan import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    convert,
    describe,
    load_generator,
    load_snapshot,
    save_generator,
)
from stylegan.errors import CheckpointError
from stylegan.files import read_tensors, write_tensors

CHANNELS = {4: 8, 8: 8, 16: 8}


@pytest.fixture
def networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    G = Generator(GeneratorConfig(img_resolution=16, z_dim=8, w_dim=8, channels=CHANNELS))
    config = DiscriminatorConfig(img_resolution=16, channels=CHANNELS, mbstd_group_size=2)
    return G, Discriminator(config)


@pytest.mark.parametrize("half", [False, True])
def test_both_come_back(tmp_path: Path, networks, half: bool) -> None:
    G, D = networks
    path = tmp_path / "both.safetensors"
    save_generator(G, path, discriminator=D, half=half, notes={"kimg": "3"})
    found = load_snapshot(path)
    assert found.D is not None
    assert found.D.config == D.config
    tolerance = {"rtol": 2e-3, "atol": 1e-3} if half else {"rtol": 0, "atol": 0}
    for net, want in ((found.G_ema, G), (found.D, D)):
        for name, tensor in want.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], tensor, **tolerance)
    assert describe(path)["has_d"]
    assert describe(path)["kimg"] == "3"
    assert "discriminator" not in describe(path)


def test_the_generator_opens_as_if_it_were_alone(tmp_path: Path, networks) -> None:
    G, D = networks
    save_generator(G, tmp_path / "both.safetensors", discriminator=D)
    save_generator(G, tmp_path / "alone.safetensors")
    both, alone = (load_generator(tmp_path / f"{n}.safetensors") for n in ("both", "alone"))
    assert both.state_dict().keys() == alone.state_dict().keys()
    assert load_snapshot(tmp_path / "alone.safetensors").D is None


def test_converting_keeps_it(tmp_path: Path, networks) -> None:
    G, D = networks
    save_generator(G, tmp_path / "a.safetensors", discriminator=D)
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", half=True)
    assert load_snapshot(tmp_path / "b.safetensors").D is not None
    convert(tmp_path / "a.safetensors", tmp_path / "c.pt", "nvidia-state")
    assert load_snapshot(tmp_path / "c.pt").D is None


def test_a_header_without_its_sizes_is_refused(tmp_path: Path, networks) -> None:
    G, D = networks
    path = tmp_path / "both.safetensors"
    save_generator(G, path, discriminator=D)
    tensors, header = read_tensors(path)
    write_tensors(path, tensors, {k: v for k, v in header.items() if k != "discriminator"})
    with pytest.raises(CheckpointError, match="does not describe it"):
        load_snapshot(path)
