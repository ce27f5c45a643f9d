"""What every labeler is: feature maps of the prior in, a label map out."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_smis.data import Classes, resize_label
from stylegan.errors import ShapeError


class Labeler(nn.Module):
    """Label any picture of the prior from its features.

    Attributes:
        classes: Names and colours of the class ids it gives.
        resolution: Size of the prior's largest feature map that it reads, in pixels.
        reference: Whether it keeps the public reference's numerics and faults.
        drop: Share of samples, those of most disputed labels, that training is to leave out.
    """

    kind: str = ""
    drop: float = 0.0

    def __init__(self, classes: Classes, resolution: int, *, reference: bool = False) -> None:
        super().__init__()
        self.classes, self.resolution, self.reference = classes, resolution, reference

    @property
    def num_classes(self) -> int:
        """Number of classes, the unknown class 0 of sparse maps included."""
        return self.classes.num_classes

    @property
    def sparse(self) -> bool:
        """Whether class 0 means unknown in the maps it gives."""
        return self.kind == "sparse"

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sizes of all feature maps that it reads, in pixels."""
        return (self.resolution,)

    def scores(self, feats: dict[int, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Return how well each class fits each pixel, [N,K,h,w]; the largest wins.

        On the grid of the largest feature map, or at `size`.
        """
        raise TypeError("a labeler needs scores(): use one of its kinds, such as DenseLabeler")

    def disputes(self, feats: dict[int, Tensor]) -> Tensor:
        """Return how uncertain the label of each pixel is, [N,h,w] in nats."""
        raise TypeError("disputes need an ensemble: fit a LinearLabeler of several members")

    def forward(self, feats: dict[int, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Return the label maps [N,h,w] int64 on the feature grid, or at `size`.

        `feats` is what `prior.synthesis.features(ws, self.resolutions)` gives. Scores
        are brought to `size`, not labels, except for sparse marks and the reference's numerics,
        which are sampled. The lowest id wins among equals.
        """
        if self.sparse or self.reference:
            label = self.scores(feats).argmax(dim=1)
            return label if size is None else resize_label(label, size)
        return self.scores(feats, size).argmax(dim=1)

    def options(self) -> dict[str, Any]:
        """Return the arguments that rebuild this labeler, as JSON values."""
        return {"resolution": self.resolution, "reference": self.reference}

    def likened(self, feats: dict[int, Tensor]) -> Tensor:
        """Return the features [N,C,h,w] that are likened to prototypes."""
        raise TypeError(f"a {self.kind} labeler has no prototypes")

    def _read(self, feats: dict[int, Tensor], resolution: int, channels: int) -> Tensor:
        """Return the features of one size that this labeler reads, [N,C,h,w] float32."""
        self._check_sizes(feats)
        return self._fitting(feats[resolution].float(), channels)

    def _check_sizes(self, feats: dict[int, Tensor]) -> None:
        missing = [r for r in self.resolutions if r not in feats]
        if missing:
            raise ShapeError(
                f"this labeler reads {missing[0]} px features, but was given {sorted(feats)}; "
                f"render with feature_resolutions={self.resolutions}"
            )

    @staticmethod
    def _fitting(feat: Tensor, channels: int) -> Tensor:
        """Return `feat` [N,C,h,w] if it has the channels that the labeler was fitted to."""
        if feat.shape[1] != channels:
            raise ShapeError(
                f"this labeler was fitted to features of {channels} channels, but these have "
                f"{feat.shape[1]}; fit it again on this prior"
            )
        return feat

    @torch.no_grad()
    def _store(self, name: str, value: Tensor) -> None:
        """Keep `value` with the module, so that it moves and is saved with it."""
        self.register_buffer(name, value.detach().clone().contiguous())
