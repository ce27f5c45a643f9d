"""Edits with a known right answer: rendered faces, and the exact map each is to get."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.data import Classes, to_tensor
from fewshot_smis.faces import FaceDataset
from fewshot_smis.faces.portrait import Portrait
from fewshot_smis.walks import grow_class
from tools.detectors import Points

NAMES = Classes.CELEBAMASK.names
HAIR, HAT, GLASSES = (NAMES.index(name) for name in ("hair", "hat", "eye_glasses"))
MOUTH = tuple(NAMES.index(name) for name in ("mouth", "upper_lip", "lower_lip"))
OVER = tuple(NAMES.index(name) for name in ("background", "neck", "cloth", "necklace"))
GROWN = 0.06  # of the side: how far hair is grown
LEAST = 0.004  # of the picture: a smaller difference is no edit

ANCHORS = {"hair": slice(0, 27), "mouth": slice(48, 68), "glasses": slice(36, 48)}
PARTS = {"hair": (HAIR,), "mouth": MOUTH, "glasses": (GLASSES,)}
KINDS = ("hair", "grown hair", "mouth", "glasses")


class Case(NamedTuple):
    """A picture and an edit of its exact map."""

    name: str
    kind: str  # one of KINDS
    img: Tensor  # [3,H,W] in [-1,1]
    label: Tensor  # [H,W] int64, its map
    wanted: Tensor  # [H,W] int64, the map it is to get
    landmarks: Points | None  # [68,2]


def is_of(label: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Return where `label` [H,W] is one of `ids`, bool."""
    return torch.isin(label, torch.tensor(ids))


def moved(label: Tensor, down: int, right: int) -> Tensor:
    """Move `label` [H,W] by whole pixels; its borders are repeated."""
    rows = (torch.arange(label.shape[0]) - down).clamp(0, label.shape[0] - 1)
    columns = (torch.arange(label.shape[1]) - right).clamp(0, label.shape[1] - 1)
    return label[rows][:, columns]


def transplanted(kind: str, target: Portrait, donor: Portrait) -> Tensor:
    """Return the map of `target` with the part of `donor`, brought to where it belongs."""
    own, other = (torch.from_numpy(p.label.astype(np.int64)) for p in (target, donor))
    anchor = ANCHORS[kind]
    right, down = (target.landmarks[anchor] - donor.landmarks[anchor]).mean(axis=0).round()
    other = moved(other, int(down), int(right))
    part = is_of(own, PARTS[kind]) | is_of(other, PARTS[kind])
    return torch.where(part, other, own)


def shape_distance(a: Portrait, b: Portrait) -> float:
    """Return how differently two faces are turned and built, by their centred landmarks."""
    one, other = (p.landmarks - p.landmarks.mean(axis=0) for p in (a, b))
    return float(np.hypot(*(one - other).T).mean())


def find_edit(kind: str, target: Portrait, pool: list[Portrait]) -> Tensor | None:
    """Return the map that `target` is to get, from the most alike donor that changes enough."""
    own = torch.from_numpy(target.label.astype(np.int64))
    if kind == "grown hair":
        if not (own == HAIR).any():
            return None
        grown = grow_class(own, HAIR, round(GROWN * own.shape[0]), over=OVER)
        return grown if (grown != own).float().mean() > LEAST else None
    if kind == "glasses" and (own == GLASSES).any():
        return None
    for donor in sorted(pool, key=lambda other: shape_distance(target, other)):
        if kind == "hair" and (donor.label == HAT).any():
            continue
        wanted = transplanted(kind, target, donor)
        if (wanted != own).float().mean() > (LEAST if kind != "hair" else 10 * LEAST):
            return wanted
    return None


def make_cases(count: int, size: int, seed: int) -> list[Case]:
    """Render faces and choose `count` edits, the kinds in turn; each face is edited once.

    Donors are other faces of the same rendering, twice as many.
    """
    portraits = list(FaceDataset(seed, 3 * count, size))
    targets, pool = portraits[: 2 * count], portraits[count:]
    cases: list[Case] = []
    for number, target in enumerate(targets):
        if len(cases) == count:
            break
        for turn in range(len(KINDS)):
            kind = KINDS[(len(cases) + turn) % len(KINDS)]
            donors = [other for other in pool if other is not target]
            wanted = find_edit(kind, target, donors)
            if wanted is None:
                continue
            own = torch.from_numpy(target.label.astype(np.int64))
            img, marks = to_tensor(target.img), target.landmarks.astype(np.float64)
            cases.append(Case(f"{number:03d}", kind, img, own, wanted, marks))
            break
    return cases
