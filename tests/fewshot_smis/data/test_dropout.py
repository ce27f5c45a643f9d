"""Incomplete maps: classes are left out."""

import torch

from fewshot_smis.data import IGNORE
from fewshot_smis.data.dropout import drop_classes
from stylegan.seeding import stream


def stripes(num: int, height: int, width: int) -> torch.Tensor:
    """Return maps of upright stripes of 4 pixels."""
    return (torch.arange(width) // 4).expand(num, height, width)


def test_dropped_classes_are_gone_whole_and_others_stay() -> None:
    label = stripes(200, 4, 40)  # ten classes
    rest = drop_classes(label, 0.3, 10, stream(0, "drop"))
    gone = rest == IGNORE
    assert torch.equal(rest[~gone], label[~gone])
    share = gone.view(200, 4, 10, 4).float().mean(dim=(1, 3))  # of each class
    assert set(share.unique().tolist()) == {0.0, 1.0}
    assert 0.25 < float(share.mean()) < 0.35
    unknown = torch.full((1, 2, 2), IGNORE)
    assert torch.equal(drop_classes(unknown, 1.0, 10, stream(0, "drop"), nothing=0), unknown)
