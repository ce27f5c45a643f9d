"""Sparse labels: each labelled pixel claims the pixels most similar to it; the rest is unknown."""

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data import Classes
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.prototypes import PixelPrototypes, claims, hypercolumns
from stylegan.errors import ConfigError


class SparseLabeler(Labeler):
    """Many-to-one top-k matching of labelled pixels.

    Args:
        classes: The classes, K of them; 0 is the unknown one, never claimed.
        prototypes: Unit vectors [P,C] and ids [P] of the labelled pixels.
        resolution: Size of the largest feature map it reads, on whose grid it labels.
        smaller: Sizes of further feature maps that it reads, see `hypercolumns`; none in the paper.
        topk: Number of pixels that each prototype claims.
        threshold: Cosine that a claim must exceed.
        reference: Whether the prototypes were taken by nearest sampling of the label maps.
    """

    kind = "sparse"
    proto: Tensor
    ids: Tensor

    def __init__(
        self,
        classes: Classes,
        prototypes: PixelPrototypes,
        *,
        resolution: int,
        smaller: Iterable[int] = (),
        topk: int = 3,
        threshold: float = 0.5,
        reference: bool = False,
    ) -> None:
        super().__init__(classes, resolution, reference=reference)
        if topk < 1:
            raise ConfigError(f"topk is {topk}, but a labelled pixel claims at least 1")
        if not -1 <= threshold <= 1:
            raise ConfigError(f"threshold is {threshold}, but cosines lie within -1 and 1")
        self.topk, self.threshold = topk, threshold
        self._resolutions = (*sorted(smaller), resolution)
        self._store("proto", prototypes.proto)
        self._store("ids", prototypes.ids)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sizes of all feature maps that it reads, in pixels."""
        return self._resolutions

    def scores(self, feats: dict[int, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Return the best cosine of each class's claims, [N,K,h,w]; 0 where it claims nothing.

        At `size` by nearest sampling, as a claim is of one pixel.

        Raises:
            ConfigError: `topk` exceeds the number of pixels of the feature map.
        """
        feat = self.likened(feats)
        pixels = feat.shape[2] * feat.shape[3]
        if self.topk > pixels:
            raise ConfigError(
                f"topk is {self.topk}, but the feature map has only {pixels} pixels "
                f"({feat.shape[2]}x{feat.shape[3]}); choose a topk of {pixels} or less"
            )
        prototypes = PixelPrototypes(self.proto, self.ids)
        score = claims(feat, prototypes, self.num_classes, topk=self.topk, threshold=self.threshold)
        return score if size is None else F.interpolate(score, size, mode="nearest")

    def likened(self, feats: dict[int, Tensor]) -> Tensor:
        """Return the columns [N,C,h,w] of all its sizes, which are likened to prototypes."""
        channels = self.proto.shape[1]
        if len(self.resolutions) == 1:
            return self._read(feats, self.resolution, channels)
        self._check_sizes(feats)
        return self._fitting(hypercolumns({r: feats[r] for r in self.resolutions}), channels)

    def options(self) -> dict[str, Any]:
        """Return the arguments that rebuild this labeler, as JSON values."""
        return {
            **super().options(),
            "smaller": list(self.resolutions[:-1]),
            "topk": self.topk,
            "threshold": self.threshold,
        }
