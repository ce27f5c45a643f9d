"""The judge: a segmenter trained on real pictures says what drawn ones show.

As in the evaluations of pix2pix (FCN score), SPADE and OASIS, a drawn picture is good where a
network that never saw it finds the classes that were asked for. The judge trains no method.
"""

from pathlib import Path

import torch
from torch import Tensor

from fewshot_smis.baselines.methods import load_method
from fewshot_smis.baselines.segmenter import Segmenter
from fewshot_smis.data import resize_image, resize_label
from fewshot_smis.metrics.segmentation import confusion
from stylegan.errors import CheckpointError, ShapeError


class Judge:
    """A trained segmenter and the size (H, W) of the pictures it was trained on."""

    def __init__(self, segmenter: Segmenter, size: tuple[int, int]) -> None:
        self.segmenter, self.size = segmenter, size

    @property
    def num_classes(self) -> int:
        """How many classes it tells apart."""
        return self.segmenter.config.num_classes

    def labels(self, img: Tensor, *, batch: int = 32) -> Tensor:
        """Return the label maps [N,h,w] int64 that it sees in `img` [N,3,H,W] in [-1,1].

        Pictures are brought to the size it was trained on, (h, w).
        """
        device = next(self.segmenter.networks.parameters()).device
        parts = torch.split(img, batch)
        return torch.cat([self.segmenter.segment(self._seen(p.to(device))) for p in parts])

    def counts(self, img: Tensor, label: Tensor) -> Tensor:
        """Return the `confusion` [K,K] of what `img` [N,3,H,W] shows with maps `label` [N,h,w].

        Raises:
            ShapeError: The numbers of pictures and maps differ.
        """
        if len(img) != len(label):
            raise ShapeError(f"{len(img)} pictures and {len(label)} label maps; give one map each")
        seen = self.labels(img)
        return confusion(seen, resize_label(label, self.size).to(seen.device), self.num_classes)

    def _seen(self, img: Tensor) -> Tensor:
        """Return pictures as files would hold them: at the judge's size, within [-1,1]."""
        return resize_image(img.float().clamp(-1, 1), self.size)


def load_judge(path: Path, device: torch.device | str = "cpu") -> Judge:
    """Return the judge in the file `path` of a run of `baseline train segmenter`.

    Raises:
        CheckpointError: The file is missing, or holds another baseline.
    """
    method, size = load_method(path, device)
    if not isinstance(method, Segmenter):
        raise CheckpointError(
            f"{path}: holds a {type(method).__name__}, which cannot judge; give the "
            "model.safetensors of `baseline train segmenter`"
        )
    return Judge(method, size)
