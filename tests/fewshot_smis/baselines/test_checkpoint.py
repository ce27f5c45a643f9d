"""Public checkpoints in files: what older ones carry or lack, and what other files are told."""

import pytest
import torch

from fewshot_smis.baselines.checkpoint import (
    feature_encoder,
    hd_config,
    hd_discriminator,
    load_weights,
    patch_config,
    read_state,
    unet_config,
)
from fewshot_smis.baselines.hd_networks import (
    FeatureEncoder,
    HDConfig,
    HDGenerator,
    MultiscaleDiscriminator,
)
from fewshot_smis.baselines.patchgan import PatchConfig, PatchDiscriminator
from fewshot_smis.baselines.unet import UNet, UNetConfig
from stylegan.errors import CheckpointError


def same(net, state):
    back = net.state_dict()
    return set(back) == set(state) and all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("skips", [True, False])
def test_sizes_of_a_unet_are_read_off_its_weights(norm, skips):
    config = UNetConfig(in_channels=5, out_channels=2, levels=4, width=3, norm=norm, skips=skips)
    assert unet_config(UNet(config).state_dict(), "x") == config


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("patch", [1, 16, 34, 70, 142, 286])
def test_sizes_of_a_patchgan_are_read_off_its_weights(norm, patch):
    config = PatchConfig(in_channels=4, patch=patch, width=2, norm=norm)
    assert patch_config(PatchDiscriminator(config).state_dict(), "x") == config


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("enhancers", [0, 1, 2])
def test_sizes_of_pix2pixhd_are_read_off_its_weights(norm, enhancers):
    sizes = {"halvings": 3, "blocks": 2, "enhancers": enhancers, "norm": norm}
    if enhancers:
        sizes["local_blocks"] = 1
    config = HDConfig(in_channels=5, width=2, **sizes)
    assert hd_config(HDGenerator(config).state_dict(), "x") == config


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_other_networks_of_pix2pixhd_are_built_from_their_weights(norm):
    discriminator = MultiscaleDiscriminator(5, scales=3, halvings=2, width=2, norm=norm)
    encoder = FeatureEncoder(features=2, width=3, halvings=3, norm=norm)
    assert same(discriminator, hd_discriminator(discriminator.state_dict(), "x").state_dict())
    assert same(encoder, feature_encoder(encoder.state_dict(), "x").state_dict())


def test_old_files_load(tmp_path):
    """Statistics of instance norms are dropped, counters of batch norms and `module.` made up."""
    net = PatchDiscriminator(PatchConfig(in_channels=3, patch=16, width=2, norm="instance"))
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    state |= {
        "module.model.3.running_mean": torch.ones(4),
        "module.model.3.running_var": torch.ones(4),
    }
    torch.save(state, tmp_path / "latest_net_D.pth")
    found = read_state(tmp_path / "latest_net_D.pth")
    assert same(
        load_weights(PatchDiscriminator(patch_config(found, "x")), found, "x"), net.state_dict()
    )
    net = PatchDiscriminator(PatchConfig(in_channels=3, patch=16, width=2))
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert same(
        load_weights(PatchDiscriminator(patch_config(state, "x")), state, "x"), net.state_dict()
    )


def test_other_networks_are_refused():
    state = UNet(UNetConfig(in_channels=3, levels=3, width=2)).state_dict()
    for config_of in (patch_config, hd_config, hd_discriminator, feature_encoder):
        with pytest.raises(CheckpointError, match=r"G\.pth: lacks the convolution"):
            config_of(state, "G.pth")
    with pytest.raises(CheckpointError, match=r"D\.pth: lacks the convolution 'model.model.0"):
        unet_config({}, "D.pth")
    other = UNet(UNetConfig(in_channels=3, levels=4, width=2))
    with pytest.raises(CheckpointError, match=r"G\.pth.*than UNet \(lacks model\.model"):
        load_weights(other, state, "G.pth")
    with pytest.raises(CheckpointError, match=r"than UNet \(resizes model\.model\.0\.weight"):
        load_weights(UNet(UNetConfig(in_channels=4, levels=3, width=2)), state, "G.pth")
    wider = state | {"spare": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="has no place for spare"):
        load_weights(UNet(UNetConfig(in_channels=3, levels=3, width=2)), wider, "G.pth")


def test_a_file_of_something_else_is_named(tmp_path):
    torch.save({"epoch": 3, "nets": [1, 2]}, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match=r"run\.pth: not a table of tensors"):
        read_state(tmp_path / "run.pth")
    deep = {f"model.{i}.weight": torch.zeros(1, 1, 4, 4) for i in range(9)}
    with pytest.raises(CheckpointError, match=r"D\.pth: 9 convolutions make no PatchGAN"):
        patch_config(deep, "D.pth")
