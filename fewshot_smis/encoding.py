"""Label maps of any size through an encoder, which takes one-hot planes of one size."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
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
        return torch.cat(
            [encoder(one_hot(part, encoder.in_channels)) for part in torch.split(maps, batch)]
        )


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
