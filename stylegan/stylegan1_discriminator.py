"""The StyleGAN1 discriminator: that of progressive growing (Karras et al. 2018), with blur.

Parameter names are genforce's; its constant `blur.kernel`s are not among them.
"""

import itertools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.discriminator import minibatch_stddev
from stylegan.errors import CheckpointError, ConfigError, ShapeError
from stylegan.layers import resolutions
from stylegan.ops import bias_act, filter2d, setup_filter


class EqualizedLayer(nn.Module):
    """Weight and bias of a linear layer or a convolution, scaled by gain / sqrt(fan_in)."""

    def __init__(self, *shape: int, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.gain = gain / math.sqrt(self.weight[0].numel())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` [N,C,H,W], or multiply `x` [N,C], and add the bias."""
        if x.ndim == 2:
            return F.linear(x, self.weight * self.gain, self.bias)
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.weight.shape[2] // 2)


class StyleGAN1Discriminator(nn.Module):
    """Picture [N,3,H,H] -> logit [N,1]; `channels` are the widths by resolution."""

    lod: Tensor
    blur: Tensor

    def __init__(self, channels: Mapping[int, int], *, img_channels: int = 3, c_dim: int = 0):
        super().__init__()
        self.resolutions = resolutions(max(channels))[::-1]
        self.c_dim = c_dim
        self.register_buffer("lod", torch.zeros([]))
        self.register_buffer("blur", setup_filter((1, 2, 1)), persistent=False)
        widths = [channels[res] for res in self.resolutions]
        for i, c in enumerate(widths):
            self.add_module(f"input{i}", EqualizedLayer(c, img_channels, 1, 1))
        for i, (c, narrower) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"layer{2 * i}", EqualizedLayer(c, c, 3, 3))
            self.add_module(f"layer{2 * i + 1}", EqualizedLayer(narrower, c, 3, 3))
        last, c = 2 * len(widths) - 2, widths[-1]
        self.add_module(f"layer{last}", EqualizedLayer(c, c + 1, 3, 3))
        self.add_module(f"layer{last + 1}", EqualizedLayer(c, c * 16))
        self.add_module(f"layer{last + 2}", EqualizedLayer(max(c_dim, 1), c, gain=1.0))

    def forward(self, img: Tensor, c: Tensor | None = None, lod: float | None = None) -> Tensor:
        """Return logits [N,1] of pictures [N,C,H,H].

        With classes the logit is that of the one-hot class `c` [N,c_dim]. `lod` is the level of
        detail as in the generator; None takes the network's own.

        Raises:
            ShapeError: The pictures are of another size, or `c` is missing.
            ConfigError: `lod` is outside the network's levels.
        """
        size, top = self.resolutions[0], len(self.resolutions) - 1
        if img.shape[2:] != (size, size):
            raise ShapeError(f"expected pictures of {size}x{size}, got {list(img.shape)}")
        if self.c_dim and (c is None or c.shape != (len(img), self.c_dim)):
            raise ShapeError(f"this network is conditional: c must be [N, {self.c_dim}]")
        level = float(self.lod) if lod is None else lod
        if not 0 <= level <= top:
            raise ConfigError(f"level of detail {level:g}; this network has 0 to {top}")
        first = int(level)
        blend = level - first
        x = self._read(img, first)
        for i in range(first, top):
            x = _lrelu(getattr(self, f"layer{2 * i}")(x))
            x = getattr(self, f"layer{2 * i + 1}")(filter2d(x, self.blur))
            x = _lrelu(F.avg_pool2d(x, 2))
            if i == first and blend:
                x = torch.lerp(x, self._read(img, i + 1), blend)
        x = _lrelu(getattr(self, f"layer{2 * top}")(minibatch_stddev(x, 4)))
        x = _lrelu(getattr(self, f"layer{2 * top + 1}")(x.flatten(1)))
        x = getattr(self, f"layer{2 * top + 2}")(x)
        return x if c is None or not self.c_dim else (x * c).sum(dim=1, keepdim=True)

    def _read(self, img: Tensor, level: int) -> Tensor:
        """Return features of the picture at 2^-level of its size."""
        return _lrelu(getattr(self, f"input{level}")(F.avg_pool2d(img, 2**level)))


def _lrelu(x: Tensor) -> Tensor:
    return bias_act(x, act="lrelu", gain=1.0)


def discriminator_from_genforce(state: Mapping[str, Tensor], source: str) -> StyleGAN1Discriminator:
    """Build the discriminator of a genforce state dict: eval mode, without gradients.

    Raises:
        CheckpointError: A tensor is missing or of another shape.
    """
    own = {k: t for k, t in state.items() if not k.endswith("blur.kernel")}
    count = sum(1 for k in own if k.startswith("input") and k.endswith(".bias"))
    try:
        channels = {4 << (count - 1 - i): len(own[f"input{i}.bias"]) for i in range(count)}
        outputs = len(own[f"layer{2 * count}.bias"])
        net = StyleGAN1Discriminator(
            channels,
            img_channels=own["input0.weight"].shape[1],
            c_dim=outputs if outputs > 1 else 0,
        )
        net.load_state_dict(own)
    except (KeyError, RuntimeError, ValueError) as err:
        raise CheckpointError(f"{source}: not a StyleGAN1 discriminator: {err}") from err
    return net.eval().requires_grad_(False)
