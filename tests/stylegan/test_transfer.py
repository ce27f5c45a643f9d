"""Transfer: what carries over, what a new block starts as, and what is refused."""

from dataclasses import replace

import pytest
import torch

from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.errors import CheckpointError
from stylegan.ops import upsample2d
from stylegan.seeding import sample_z, stream
from stylegan.transfer import resized, transfer_discriminator, transfer_generator

SMALL = GeneratorConfig(
    img_resolution=16, z_dim=8, w_dim=8, mapping_layers=2, channels={4: 8, 8: 6, 16: 6}
)
CRITIC = DiscriminatorConfig(img_resolution=16, channels={4: 8, 8: 6, 16: 4})


def make_generator(config: GeneratorConfig, seed: int = 0) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Generator(config).eval().requires_grad_(False)
        for block in net.synthesis.children():
            for name, value in block.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    value.normal_()
    return net


def test_a_larger_generator_at_first_draws_the_enlarged_pictures() -> None:
    small = make_generator(SMALL)
    config = resized(SMALL, 32, (4, 4))
    assert config.channels == {4: 8, 8: 6, 16: 6, 32: 3}
    large = make_generator(config, seed=1)
    transfer_generator(small, large, "small.pkl")
    z = sample_z(2, 8, stream(0, "z"))
    enlarged = upsample2d(small(z), small.synthesis.b16.resample_filter)
    torch.testing.assert_close(large(z), enlarged)
    with torch.no_grad():  # and the new block learns from there
        large.synthesis.b32.torgb.weight.fill_(1)
    assert not torch.allclose(large(z), enlarged)


def test_a_smaller_generator_draws_what_its_blocks_drew() -> None:
    large = make_generator(resized(SMALL, 32, (4, 4)))
    small = make_generator(SMALL, seed=1)
    transfer_generator(large, small, "large.pkl")
    z = sample_z(2, 8, stream(0, "z"))
    ws = large.mapping(z)
    first, rgb = ws[:, 0], ws[:, 1]
    drawn = []
    for block in (large.synthesis.b4, small.synthesis.b4):
        drawn.append(block.paint(None, block(None, [first], "const", None), rgb))
    assert torch.equal(*drawn)
    assert torch.equal(small.mapping(z), ws[:, : small.num_ws])


def test_a_discriminator_carries_over_all_blocks_but_the_ones_that_read_pictures() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small, large = Discriminator(CRITIC), Discriminator(resized(CRITIC, 32, (4, 4)))
    fresh = {k: v.clone() for k, v in large.state_dict().items()}
    transfer_discriminator(small, large, "small.pkl")
    given = small.state_dict()
    for name, value in large.state_dict().items():
        old = fresh if name.startswith("b32") else given
        assert torch.equal(value, old[name]), name
    assert "b16.fromrgb.weight" not in fresh


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_dim": 4}, "z_dim 8 \\(here 4\\)"),
        ({"channels": {4: 8, 8: 4, 16: 6}}, "channels at 8 px 6 \\(here 4\\)"),
        ({"mapping_layers": 3}, "mapping_layers 2 \\(here 3\\)"),
        ({"architecture": "orig"}, "architecture skip"),
        ({"base": (4, 6)}, "base \\(4, 4\\) \\(here \\(4, 6\\)\\)"),
        ({"c_dim": 2}, "c_dim 0 \\(here 2\\)"),
    ],
)
def test_networks_that_differ_in_more_than_size_are_refused(changes: dict, message: str) -> None:
    small = make_generator(SMALL)
    with pytest.raises(CheckpointError, match=f"small.pkl: its generator has {message}"):
        transfer_generator(small, make_generator(replace(SMALL, **changes)), "small.pkl")
