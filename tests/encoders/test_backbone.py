"""Trunks: sizes of the tapped maps, shortcuts and gates against slow formulas."""

import pytest
import torch

from encoders.backbone import (
    IRBlock,
    LightBlock,
    PointConv,
    SqueezeExcite,
    build_trunk,
    pyramid,
)
from stylegan.errors import ConfigError


@pytest.mark.parametrize(("name", "width"), [("ir_se50", 8), ("light", 8), ("light", 12)])
def test_maps_are_at_a_quarter_an_eighth_and_a_sixteenth(name, width):
    trunk = build_trunk(name, 3, width)
    trunk.body.eval()
    trunk.input_layer.eval()
    maps = pyramid(torch.rand(2, 3, 48, 40), trunk.input_layer, trunk.body, trunk.taps)
    assert [list(m.shape[2:]) for m in maps] == [[12, 10], [6, 5], [3, 3]]
    assert tuple(m.shape[1] for m in maps) == trunk.channels


def test_ir_se50_has_24_blocks():
    trunk = build_trunk("ir_se50", 3, 4)
    strides = [block.res_layer[3].stride[0] for block in trunk.body]
    assert [i for i, stride in enumerate(strides) if stride == 2] == [0, 3, 7, 21]
    assert len(strides) == 24


def test_unknown_trunk():
    with pytest.raises(ConfigError, match="trunk 'vgg' is unknown; choose one of ir_se50, light"):
        build_trunk("vgg", 3, 8)


@pytest.mark.parametrize("stride", [1, 2])
def test_shortcut_keeps_every_stride_th_pixel(stride):
    block = IRBlock(4, 4, stride).eval()
    x = torch.rand(2, 4, 7, 5)
    with torch.no_grad():
        torch.testing.assert_close(
            block(x) - block.res_layer(x), x[:, :, ::stride, ::stride], rtol=1e-5, atol=1e-6
        )


def test_shortcut_between_different_channels_is_a_convolution():
    block = IRBlock(4, 6, 2).eval()
    assert block.shortcut_layer[0].weight.shape == (6, 4, 1, 1)
    assert block(torch.rand(1, 4, 7, 5)).shape == (1, 6, 4, 3)


def test_squeeze_excite_equals_its_formula():
    gate = SqueezeExcite(96)
    assert gate.fc1.weight.shape == (6, 96, 1, 1)
    assert SqueezeExcite(8).fc1.weight.shape == (4, 8, 1, 1)
    x = torch.randn(3, 96, 5, 4)
    hidden = (x.mean((2, 3)) @ gate.fc1.weight[:, :, 0, 0].T).clamp(min=0)
    scale = 1 / (1 + torch.exp(-hidden @ gate.fc2.weight[:, :, 0, 0].T))
    torch.testing.assert_close(gate(x), x * scale[:, :, None, None])


def test_light_block_changes_size_only_by_its_stride():
    assert LightBlock(8, 16, 2)(torch.rand(1, 8, 9, 6)).shape == (1, 16, 5, 3)
    assert LightBlock(8, 8, 1)(torch.rand(1, 8, 9, 6)).shape == (1, 8, 9, 6)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_point_convolution_equals_the_strided_one_and_its_gradients(step):
    conv = PointConv(8, 16, step)
    x = torch.rand(2, 8, 7, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = conv.weight.detach().double().requires_grad_()
    slow = x.detach().double().requires_grad_()
    torch.nn.functional.conv2d(slow, weight, stride=step).square().sum().backward()
    y = conv(x)
    y.square().sum().backward()
    assert y.shape == (2, 16, -(-7 // step), -(-5 // step))
    torch.testing.assert_close(x.grad, slow.grad.float())
    torch.testing.assert_close(conv.weight.grad, weight.grad.float())
