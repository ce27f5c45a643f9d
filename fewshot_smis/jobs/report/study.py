"""What all cells of the report share: the pictures, their maps, and how drawn ones are judged."""

import math
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from fewshot_smis.baselines.fit import Examples
from fewshot_smis.data import Classes
from fewshot_smis.data.files import read_json, write_bytes
from fewshot_smis.data.images import list_images, read_image
from fewshot_smis.data.labels import read_label
from fewshot_smis.faces.marks import landmark_classes, landmark_map
from fewshot_smis.metrics.distribution import frechet_distance
from fewshot_smis.metrics.diversity import ms_ssim, pairwise, pairwise_squares
from fewshot_smis.metrics.features import load_space
from fewshot_smis.metrics.judge import load_judge
from fewshot_smis.metrics.segmentation import agreement, class_iou
from fewshot_smis.perceptual import Lite0Distance, Lite0Features
from stylegan.files import read_tensors
from stylegan.lite0 import load_lite0

SETS = ("renders", "held")  # the systems learn from the first, and are judged on the second
KINDS = {"dense": Classes.CELEBAMASK, "sparse": landmark_classes()}
POOL = 40  # pictures of which a repeat's shots are chosen
VISIBLE = 5e-4  # share of the pixels from which a class counts as shown
SHOWN = 4  # held-out maps whose pictures are kept for the figures

Painter = Callable[[Tensor, int], Tensor]
"""Maps [N,H,W] and a seed -> pictures [N,3,H,W] in [-1,1], each of another style."""


class Drawings(NamedTuple):
    """What a cell is judged by, and what is kept of it."""

    scores: dict[str, Any]
    shown: Tensor  # [SHOWN,S,3,H,W] uint8


def shots_first(label: Tensor, shots: int, pool: int = POOL) -> Tensor:
    """Return an order [N] of pictures in which those that are labelled come first.

    One labels pictures that show what one wants to draw. Of each `pool` pictures, as many as
    `shots` are taken: first one that shows most classes, then each time one that adds most to
    those before; of equals the one that shows more, then the first.

    Args:
        label: [N,H,W], ids.
        shots: Pictures of a repeat, at most `pool`.
        pool: Pictures of which they are taken; those after the last whole pool stay last.
    """
    ids = torch.unique(label)
    shown = torch.stack([(label == k).float().mean(dim=(1, 2)) >= VISIBLE for k in ids], dim=1)
    chosen: list[int] = []
    for start in range(0, len(label) - pool + 1, pool):
        known = torch.zeros(len(ids), dtype=torch.bool)
        rows = list(range(start, start + pool))
        for _ in range(shots):
            best = max(rows, key=lambda i: (int((shown[i] & ~known).sum()), int(shown[i].sum())))
            rows.remove(best)
            known |= shown[best]
            chosen.append(best)
    rest = sorted(set(range(len(label))) - set(chosen))
    return torch.tensor(chosen + rest)


def pack_folder(folder: Path, out: Path, count: int, *, shots: int = 0) -> None:
    """Write the first `count` pictures of a rendered folder and their maps to a file of tensors.

    With `shots`, those that are labelled come first: see `shots_first`.
    """
    exact = read_json(folder / "landmarks.json")
    img, dense, sparse = [], [], []
    for path in list_images(folder)[:count]:
        img.append(read_image(path).transpose(2, 0, 1))
        dense.append(read_label(folder / "labels" / path.name, KINDS["dense"]).astype(np.uint8))
        marks = landmark_map(np.array(exact[path.stem]), len(dense[-1]))
        sparse.append(marks.astype(np.uint8))
    stacks = {"img": img, "dense": dense, "sparse": sparse}
    tensors = {k: torch.from_numpy(np.stack(parts)).contiguous() for k, parts in stacks.items()}
    if shots:
        order = shots_first(tensors["dense"], shots)
        tensors = {k: stack[order].contiguous() for k, stack in tensors.items()}
    write_bytes(out, save(tensors))


class Study:
    """The pictures of one report and the judge of what is drawn, read when first needed."""

    def __init__(self, folder: Path, judge: Path, device: torch.device, styles: int) -> None:
        self.device, self.judge = device, load_judge(judge, device)
        self.sets = {name: read_tensors(folder / f"{name}.safetensors")[0] for name in SETS}
        self.styles = styles

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all pictures."""
        height, width = self.sets["held"]["dense"].shape[1:]
        return height, width

    def maps(self, which: str, kind: str) -> Tensor:
        """Return the label maps [M,H,W] of a set, "dense" or "sparse"."""
        return self.sets[which][kind].long()

    def examples(self, kind: str, rows: slice) -> Examples:
        """Return labelled pictures to learn from."""
        label = self.maps("renders", kind)[rows]
        return Examples(self.sets["renders"]["img"][rows], label, KINDS[kind].num_classes)

    def pictures(self, rows: slice) -> Tensor:
        """Return pictures to learn from, [N,3,H,W] in [-1,1]."""
        return self.sets["renders"]["img"][rows].to(self.device).float() / 127.5 - 1

    @cached_property
    def space(self) -> Callable[[Tensor], Tensor]:
        """Features of pictures [N,3,H,W] in [-1,1], of any number, in the lite0 space."""
        net = load_space("lite0", None, self.device)
        return lambda img: torch.cat([net(part.to(self.device)) for part in torch.split(img, 32)])

    @cached_property
    def lite0(self) -> Lite0Distance:
        """The distance of two pictures."""
        return Lite0Distance(Lite0Features(load_lite0(None))).to(self.device)

    @cached_property
    def real(self) -> Tensor:
        """Features of the held-out pictures."""
        return self.space(self.sets["held"]["img"].float() / 127.5 - 1)

    @torch.no_grad()
    def drawings(self, paint: Painter, kind: str) -> Drawings:
        """Judge the pictures of the held-out maps: what they show, how real and diverse they are.

        Whatever the maps that were drawn, it is the exact dense ones that should be found.
        """
        label, truth = self.maps("held", kind), self.maps("held", "dense")
        img = torch.cat([paint(part, i).cpu() for i, part in enumerate(torch.split(label, 8))])
        counts = self.judge.counts(img, truth)
        seen = agreement(counts)
        scores: dict[str, Any] = {key: round(value, 4) for key, value in seen._asdict().items()}
        each = class_iou(counts).tolist()
        scores["class_iou"] = [None if math.isnan(value) else round(value, 4) for value in each]
        scores["frechet_lite0"] = round(frechet_distance(self.real, self.space(img)), 4)
        several = [paint(label[:SHOWN], 1000 + k).cpu() for k in range(self.styles)]
        shown = torch.stack(several, dim=1).float().clamp(-1, 1)  # [SHOWN,S,3,H,W]
        values = {
            "ms_ssim": [pairwise(one.to(self.device), ms_ssim) for one in shown],
            "lite0": [pairwise_squares(self.lite0.embed(one.to(self.device))) for one in shown],
        }
        for name, found in values.items():
            scores[f"diversity_{name}"] = round(sum(found) / len(found), 4)
        return Drawings(scores, (shown * 127.5 + 127.5).round().byte().contiguous())


@lru_cache(maxsize=1)
def open_study(folder: Path, judge: Path, device: torch.device, styles: int) -> Study:
    """Return the study of a process, read once."""
    return Study(folder, judge, device, styles)
