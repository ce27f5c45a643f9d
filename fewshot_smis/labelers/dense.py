"""Dense labels: every pixel takes the class of the most similar class prototype."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data import Classes
from fewshot_smis.labelers.base import Labeler
from fewshot_smis.labelers.prototypes import cosines


class DenseLabeler(Labeler):
    """Nearest class prototype by cosine.

    Args:
        classes: The classes, K of them.
        proto: [K,C] unit vectors; a zero row is a class that no shot holds.
        resolution: Size of the feature map it reads.
        reference: Let absent classes score 0, as the public reference does, so that they win
            wherever all others are negative. By default they never win.
    """

    kind = "dense"
    proto: Tensor

    def __init__(
        self, classes: Classes, proto: Tensor, *, resolution: int, reference: bool = False
    ) -> None:
        super().__init__(classes, resolution, reference=reference)
        self._store("proto", proto)

    @property
    def present(self) -> Tensor:
        """Which classes a shot holds, [K] bool."""
        return self.proto.abs().sum(dim=1) > 0

    def scores(self, feats: dict[int, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Return the cosine with each class, [N,K,h,w]; -inf for absent classes."""
        score = cosines(self.likened(feats), self.proto)
        if size is not None:
            score = F.interpolate(score, size, mode="bilinear", align_corners=False)
        if self.reference:
            return score
        return score.masked_fill(~self.present.view(1, -1, 1, 1), -torch.inf)

    def likened(self, feats: dict[int, Tensor]) -> Tensor:
        """Return the features [N,C,h,w] that are likened to prototypes: those of its size."""
        return self._read(feats, self.resolution, self.proto.shape[1])
