"""How far marks move: from where they were drawn to where they are seen in the drawn picture."""

from collections.abc import Sequence

import torch
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.data import one_hot
from fewshot_smis.encoding import encode
from fewshot_smis.labelers import Labeler, label_samples
from stylegan import Prior


def mark_centers(label: Tensor, num_classes: int) -> Tensor:
    """Return the centre (x, y) of each class's marks in maps [N,H,W] int64: [N,K,2].

    In shares of the width and of the height; NaN for a class that is not marked.
    """
    planes = one_hot(label, num_classes)  # [N,K,H,W]
    mass = planes.sum(dim=(2, 3))
    across, down = planes.sum(dim=2), planes.sum(dim=3)  # [N,K,W], [N,K,H]
    places = [
        (line @ (torch.arange(line.shape[2]).to(line) + 0.5)) / line.shape[2] / mass
        for line in (across, down)
    ]
    return torch.stack(places, dim=2)


def mark_distance(
    labels: Sequence[Tensor] | Tensor, encoder: MaskEncoder, labeler: Labeler, prior: Prior
) -> float:
    """Return how far marks are seen from where they were drawn, in percent of the picture's side.

    `labels` are sparse maps [H,W] int64 of any sizes. Each is drawn by `encoder` and `prior`, and
    its marks are looked for by `labeler`; the mean is over all that are found, NaN if none is.
    """
    device, num = prior.mapping.w_avg.device, labeler.num_classes
    drawn = torch.cat([mark_centers(label[None].to(device), num) for label in labels])
    ws = torch.cat([encode(label[None].to(device), encoder) for label in labels])
    seen = mark_centers(label_samples(labeler, prior, ws), num)
    return 100 * float((seen - drawn)[:, 1:].norm(dim=2).nanmean())
