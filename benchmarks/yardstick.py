"""The yardstick: StyleGAN2 as it is commonly written in PyTorch, in float32 and NCHW.

It computes what our networks compute, from their own parameters, by the textbook route:

- a modulated convolution makes a kernel for each sample and runs them as one grouped convolution;
- `upfirdn2d` puts zeros between pixels, pads, and convolves each channel with the 4 x 4 filter;
- bias, noise, activation and gain are operators of their own;
- features come with a whole picture, and labels are found picture by picture and class by class.

`plain` swaps the forward passes of a generator and a discriminator for these.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders import MaskEncoder
from stylegan import Discriminator, Generator, Rendering
from stylegan.layers import SameConv
from stylegan.seeding import Source, randn

SQRT2 = math.sqrt(2)


def plain(generator: Generator, discriminator: Discriminator) -> tuple[Generator, nn.Module]:
    """Return the same networks (skip generator, residual discriminator), computed plainly."""
    judge = PlainDiscriminator(discriminator)
    for parameter in judge.parameters():
        parameter.data = parameter.data.contiguous()
    return plain_generator(generator), judge


def plain_generator(generator: Generator) -> Generator:
    """Return the same generator (of the skip architecture), computed plainly."""
    generator.synthesis = PlainSynthesis(generator.synthesis)  # type: ignore[assignment]
    for parameter in generator.parameters():
        parameter.data = parameter.data.contiguous()
    return generator


def plain_encoder(encoder: MaskEncoder) -> MaskEncoder:
    """Return the same encoder, its convolutions computed plainly."""
    for module in encoder.modules():
        if isinstance(module, SameConv):
            module.__class__ = nn.Conv2d
    return encoder


def upfirdn(
    x: Tensor, taps: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int], gain: float = 1.0
) -> Tensor:
    """Zeros between pixels, padding, convolutions of each channel, every `down`-th pixel."""
    n, c, h, w = x.shape
    if up > 1:
        x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1])
        x = x.reshape(n, c, h * up, w * up)
    x = F.pad(x, [pad[0], pad[1], pad[0], pad[1]])
    kernels = [taps] if taps.ndim == 2 else [taps[None], taps[:, None]]
    for kernel in kernels:
        weight = (kernel.flip([0, 1]) * gain ** (1 / len(kernels)))[None, None]
        x = F.conv2d(x, weight.repeat(c, 1, 1, 1), groups=c)
    return x[:, :, ::down, ::down]


def grouped_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, taps: Tensor | None = None
) -> Tensor:
    """Modulated convolution with a kernel a sample; with `taps` it doubles the size."""
    n, c_in, h, w = x.shape
    c_out, _, k, _ = weight.shape
    kernels = weight[None] * style[:, None, :, None, None]  # [N,O,I,k,k]
    if demodulate:
        kernels = kernels * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, n * c_in, h, w)
    if taps is None:
        x = F.conv2d(x, kernels.reshape(n * c_out, c_in, k, k), padding=k // 2, groups=n)
        return x.reshape(n, c_out, h, w)
    kernels = kernels.transpose(1, 2).reshape(n * c_in, c_out, k, k)
    x = F.conv_transpose2d(x, kernels, stride=2, groups=n)
    return upfirdn(x.reshape(n, c_out, *x.shape[2:]), taps, pad=(1, 1), gain=4)


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply an equalised linear layer and its activation."""
    x = F.linear(x, layer.weight * layer.weight_gain, layer.bias * layer.bias_gain)
    return F.leaky_relu(x, 0.2) * SQRT2 if layer.activation == "lrelu" else x


class PlainSynthesis(nn.Module):
    """ws -> picture, from the parameters of a SynthesisNetwork of the skip architecture."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        feature_resolutions: Iterable[int] = (),
        generator: Source | None = None,
    ) -> Rendering:
        """Draw pictures [N, 3, H, W] and keep the features of some sizes."""
        at, img = 0, None
        feats = {}
        x = self.source.b4.const[None].repeat(len(ws), 1, 1, 1)
        for res in self.source.block_resolutions:
            block = getattr(self.source, f"b{res}")
            if res > 4:
                x = self._layer(block.conv0, x, ws[:, at], noise_mode, generator)
                at += 1
                img = upfirdn(img, block.resample_filter, up=2, pad=(2, 1), gain=4)
            x = self._layer(block.conv1, x, ws[:, at], noise_mode, generator)
            at += 1
            rgb, style = block.torgb, linear(block.torgb.affine, ws[:, at])
            y = grouped_conv(x, rgb.weight, style * rgb.weight_gain, demodulate=False)
            y = y + rgb.bias[:, None, None]
            img = y if img is None else img + y
            if res in feature_resolutions:
                feats[res] = x
        return Rendering(img, feats)

    def features(
        self,
        ws: Tensor,
        resolutions: Iterable[int],
        noise_mode: str = "const",
        generator: Source | None = None,
    ) -> dict[int, Tensor]:
        """Return features, for which the whole picture is drawn."""
        return self(ws, noise_mode, resolutions, generator).feats

    def _layer(
        self, layer: nn.Module, x: Tensor, w: Tensor, noise_mode: str, gen: Source | None
    ) -> Tensor:
        taps = layer.resample_filter if layer.up == 2 else None
        x = grouped_conv(x, layer.weight, linear(layer.affine, w), demodulate=True, taps=taps)
        noise = layer.noise_const
        if noise_mode == "random" and gen is not None:
            noise = randn((x.shape[0], 1, *x.shape[2:]), gen)
        x = x + noise * layer.noise_strength
        return F.leaky_relu(x + layer.bias[:, None, None], 0.2) * SQRT2


class PlainDiscriminator(nn.Module):
    """Picture -> logit, from the parameters of a residual Discriminator."""

    def __init__(self, source: Discriminator) -> None:
        super().__init__()
        self.source = source

    def forward(self, img: Tensor, c: Tensor | None = None) -> Tensor:
        """Return logits [N, 1]."""
        net = self.source
        x = img
        for res in net.block_resolutions:
            block = getattr(net, f"b{res}")
            if res == net.img_resolution:
                x = self._layer(block.fromrgb, x)
            y = upfirdn(x, block.resample_filter, down=2, pad=(1, 1))
            y = F.conv2d(y, block.skip.weight * block.skip.weight_gain)
            x = self._layer(block.conv0, x)
            x = upfirdn(x, block.resample_filter, pad=(2, 2))
            x = self._layer(block.conv1, x, stride=2, padding=0)
            x = (x + y) * math.sqrt(0.5)
        n, c_in, h, w = x.shape
        group = min(net.b4.group_size, n)
        spread = x.reshape(group, n // group, c_in, h, w).var(dim=0, unbiased=False)
        spread = (spread + 1e-8).sqrt().mean(dim=(1, 2, 3))[:, None, None, None]
        x = torch.cat([x, spread.repeat(group, 1, h, w)], dim=1)
        x = self._layer(net.b4.conv, x)
        return linear(net.b4.out, linear(net.b4.fc, x.flatten(1)))

    def _layer(
        self, layer: nn.Module, x: Tensor, *, stride: int = 1, padding: int | None = None
    ) -> Tensor:
        around = layer.padding if padding is None else padding
        x = F.conv2d(x, layer.weight * layer.weight_gain, stride=stride, padding=around)
        return F.leaky_relu(x + layer.bias[:, None, None], 0.2) * SQRT2


def dense_labels(feat: Tensor, proto: Tensor) -> Tensor:
    """Label feature maps [N,C,h,w] by the nearest class prototype [K,C], one by one: [N,h,w]."""
    maps = []
    for picture in feat:
        scores = [F.cosine_similarity(picture, p[:, None, None], dim=0) for p in proto]
        maps.append(torch.stack(scores).argmax(dim=0).numpy(force=True))
    return torch.as_tensor(np.stack(maps), device=feat.device)


def sparse_labels(
    feat: Tensor, proto: Tensor, ids: Tensor, num_classes: int, *, topk: int, threshold: float
) -> Tensor:
    """Let each prototype [P,C] of class `ids` [P] claim pixels of [N,C,h,w], one by one: [N,h,w].

    For every picture and class the cosines with the class's pixels are taken over a repeated
    feature map, and the best are written into the class's plane.
    """
    height, width = feat.shape[2:]
    maps = []
    for picture in feat:
        flat = picture.flatten(1)  # [C, h*w]
        best = torch.zeros(num_classes, height * width, device=feat.device)
        for k in range(1, num_classes):
            mine = proto[ids == k]
            if not len(mine):
                continue
            repeated = flat[None].repeat(len(mine), 1, 1)
            cosine = F.cosine_similarity(repeated, mine[:, :, None], dim=1)
            for row in cosine:
                value, index = row.topk(topk)
                for v, i in zip(value.tolist(), index.tolist(), strict=True):
                    if v > threshold and v > best[k, i]:
                        best[k, i] = v
        maps.append(best.argmax(dim=0).view(height, width).numpy(force=True))
    return torch.as_tensor(np.stack(maps), device=feat.device)
