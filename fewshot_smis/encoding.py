"""Label maps of any size through an encoder, which takes one-hot planes of one size."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders import MaskEncoder
from fewshot_smis.data import IGNORE, one_hot, resize_label
from fewshot_smis.labelers.prototypes import marks
from stylegan.errors import LabelError, ShapeError


@torch.no_grad()
def encode(labels: Tensor, encoder: MaskEncoder, *, batch: int = 8) -> Tensor:
    """Return the codes [N,L,D] of label maps [N,H,W] of any size, int64 ids.

    Maps for an encoder of sparse labels go through the grid of its pseudo labels, so that a
    drawn mark looks as marks did in training, and none is lost.

    Raises:
        LabelError: A class id that the encoder does not know.
        ShapeError: `labels` is not [N,H,W].
    """
    if labels.ndim != 3:
        raise ShapeError(f"label maps have the shape {list(labels.shape)}, but [N,H,W] is needed")
    check_ids(labels, encoder)
    grid = encoder.config.mark_grid
    if grid:
        labels = torch.stack([marks(x, encoder.in_channels, (grid, grid)) for x in labels])
    maps = resize_label(labels, encoder.input_size)
    with evaluating(encoder):
        return torch.cat([encoder(planes(part, encoder)) for part in torch.split(maps, batch)])


def planes(label: Tensor, encoder: MaskEncoder) -> Tensor:
    """Return what `encoder` takes of maps [N,S,S] of its input size: one-hot planes [N,K,S,S].

    Marks of sparse maps are widened by `mark_radius`: a point that the first layers hardly see
    becomes a square that even the last ones do, and marks of different classes may overlap.
    """
    onehot = one_hot(label, encoder.in_channels).to(memory_format=torch.channels_last)
    radius = encoder.config.mark_radius
    if not radius:
        return onehot
    wide = F.max_pool2d(onehot[:, 1:], 2 * radius + 1, stride=1, padding=radius)
    return torch.cat([1 - wide.amax(dim=1, keepdim=True), wide], dim=1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode for the time of a `with` block."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def check_ids(label: Tensor, encoder: MaskEncoder) -> None:
    """Raise LabelError if `label` [N,H,W] holds an id that the encoder does not know."""
    known = label[label != IGNORE]
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < encoder.in_channels:
        bad = int(known.max()) if int(known.max()) >= encoder.in_channels else int(known.min())
        raise LabelError(
            f"a label map holds class id {bad}, but the encoder knows {encoder.in_channels} "
            f"classes (0 to {encoder.in_channels - 1}); correct the map or train with the class"
        )
