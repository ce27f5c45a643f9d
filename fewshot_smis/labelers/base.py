"""What every labeler is: feature maps of the prior in, a label map out."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot_smis.data import Classes
from stylegan.errors import ShapeError


class Labeler(nn.Module):
    """Label any picture of the prior from its features.

    Attributes:
        classes: Names and colours of the class ids it gives.
        resolution: Size of the prior's feature map that it reads, in pixels.
        reference: Whether it keeps the public reference's numerics and faults.
    """

    kind: str = ""

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

    def scores(self, feats: dict[int, Tensor]) -> Tensor:
        """Return how well each class fits each feature pixel, [N,K,h,w]; the largest wins."""
        raise TypeError("a labeler needs scores(): use DenseLabeler or SparseLabeler")

    def forward(self, feats: dict[int, Tensor]) -> Tensor:
        """Return the label maps [N,h,w] int64 on the feature grid; lowest id among equals.

        `feats` is what `prior.synthesis(ws, feature_resolutions=(self.resolution,))` gives.
        """
        return self.scores(feats).argmax(dim=1)

    def options(self) -> dict[str, Any]:
        """Return the arguments that rebuild this labeler, as JSON values."""
        return {"resolution": self.resolution, "reference": self.reference}

    def _read(self, feats: dict[int, Tensor], channels: int) -> Tensor:
        """Return the features this labeler reads, [N,C,h,w] float32."""
        if self.resolution not in feats:
            raise ShapeError(
                f"this labeler reads {self.resolution} px features, but was given {sorted(feats)}; "
                f"render with feature_resolutions=({self.resolution},)"
            )
        feat = feats[self.resolution].float()
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
