"""Label maps: grey, palette and colour pictures <-> class ids <-> one-hot planes."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fewshot_smis.data.classes import IGNORE, MAX_CLASSES, Classes
from fewshot_smis.data.images import UInt8, as_size, open_image
from stylegan.errors import LabelError, ShapeError

Ids = NDArray[np.int64]

UNKNOWN_COLOR = (128, 128, 128)
"""The colour of unknown pixels in coloured dense maps, where no class has it."""

SPARSE_SHARE = 0.15
"""Marks cover less of the picture than this."""

SPARSE_RADIUS = 0.025
"""Marks are thinner than twice this part of the picture's shorter side."""

LOOKED_AT = 16
"""So many maps tell whether a data set is sparse."""


class Stored(NamedTuple):
    """A map as its file stores it: ids, colours packed as 0xRRGGBB, pixels that are transparent."""

    ids: Ids | None  # [H,W]
    colors: Ids | None  # [H,W]
    clear: NDArray[np.bool_] | None  # [H,W]

    @property
    def is_grey(self) -> bool:
        """Whether its colours are greys, each the id itself."""
        if self.ids is None or self.colors is None:
            return self.ids is not None
        return bool((self.colors == self.ids * 0x010101).all())


def pack_colors(rgb: NDArray[np.integer]) -> Ids:
    """Return colours [...,3] in [0, 255] as numbers 0xRRGGBB [...], int64."""
    wide = rgb.astype(np.int64)
    packed: Ids = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _stored(image: Image.Image, path: Path) -> Stored:
    """Take ids and colours out of a decoded picture of any mode."""
    clear = None
    if image.mode in ("RGBA", "LA"):
        clear = np.asarray(image.getchannel("A")) == 0
        image = image.convert(image.mode[:-1])
    if image.mode == "1":
        return Stored(np.asarray(image).astype(np.int64), None, None)
    if image.mode == "P":
        index = np.asarray(image).astype(np.int64)
        return Stored(index, pack_colors(np.asarray(image.convert("RGB"))), clear)
    if image.mode == "L":
        grey = np.asarray(image).astype(np.int64)
        return Stored(grey, grey * 0x010101, clear)
    if image.mode == "RGB":
        rgb = np.asarray(image)
        is_grey = bool((rgb == rgb[..., :1]).all())
        return Stored(rgb[..., 0].astype(np.int64) if is_grey else None, pack_colors(rgb), clear)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        ids = values.astype(np.int64)
        if (ids == values).all():
            return Stored(ids, None, None)
        raise LabelError(f"{path}: holds fractions; a label map holds whole class ids")
    raise LabelError(
        f"{path}: stored as {image.mode}, which label maps are not; export it as an indexed, "
        "grey or RGB PNG"
    )


def _by_color(stored: Stored, classes: Classes) -> Ids | None:
    """Return the ids of the colours, or None where one belongs to no class."""
    if stored.colors is None:
        return None
    table = {int(pack_colors(np.array(color))): i for i, color in enumerate(classes.colors)}
    table.setdefault(int(pack_colors(np.array(UNKNOWN_COLOR))), IGNORE)
    values, inverse = np.unique(stored.colors, return_inverse=True)
    found = [table.get(int(value)) for value in values]
    if any(i is None for i in found):
        return None
    return np.array(found, dtype=np.int64)[inverse.reshape(stored.colors.shape)]


def _listing(items: Iterable[object], most: int = 8) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _hex_colors(packed: Ids, known: set[int]) -> str:
    values, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts)
    return _listing(
        f"#{values[i]:06x} ({counts[i]} px)" for i in order if int(values[i]) not in known
    )


def _unknown_colors(stored: Stored, classes: Classes, path: Path) -> LabelError:
    known = {int(pack_colors(np.array(color))) for color in classes.colors}
    packed = np.zeros((0,), np.int64) if stored.colors is None else stored.colors
    return LabelError(
        f"{path}: colours that none of the {classes.num_classes} classes has: "
        f"{_hex_colors(packed, known)}; give the classes these colours in classes.json, or "
        "re-export the map without smoothing, as an indexed PNG"
    )


def _is_mask(ids: Ids) -> bool:
    return set(np.unique(ids)) == {0, IGNORE}


def _outside(ids: Ids, bad: Ids, classes: Classes, path: Path) -> LabelError:
    num = classes.num_classes
    if _is_mask(ids):
        return LabelError(
            f"{path}: a mask of 0 and 255, but there are {num} classes; write 1, or the id that "
            "is meant, instead of 255"
        )
    fix = "re-export the map as an indexed PNG, or add the classes to classes.json"
    if len(bad) > 20:
        fix = "it looks resized or blurred; scale label maps by nearest neighbour, save them as PNG"
    return LabelError(
        f"{path}: class ids {_listing(bad)}, but there are {num} classes (ids 0 to {num - 1}); "
        f"{fix}"
    )


def _resolve(stored: Stored, classes: Classes, path: Path) -> Ids:
    """Return ids that are classes, IGNORE where unknown."""
    ids, by_color = stored.ids, _by_color(stored, classes)
    if ids is None:
        if by_color is None:
            raise _unknown_colors(stored, classes, path)
        return by_color
    if by_color is not None and not stored.is_grey:
        return by_color  # an editor may have sorted the palette anew; colours stay
    mask = _is_mask(ids)
    if mask and classes.num_classes == 2:
        return (ids == IGNORE).astype(np.int64)
    values = np.unique(ids)
    bad = values[((values < 0) | (values >= classes.num_classes)) & (values != IGNORE)]
    if not len(bad) and not mask:
        return ids
    if by_color is not None and (by_color != IGNORE).all():
        return by_color
    raise _outside(ids, bad, classes, path)


def _plain(stored: Stored, path: Path) -> Ids:
    """Return the ids of a map whose classes are not known yet."""
    if stored.ids is None:
        packed = np.zeros((0,), np.int64) if stored.colors is None else stored.colors
        raise LabelError(
            f"{path}: a map of colours, and no classes.json that says what they mean: "
            f"{_hex_colors(packed, set())}; put a classes.json beside labels/ with a name and a "
            "colour for each class"
        )
    ids = (stored.ids == IGNORE).astype(np.int64) if _is_mask(stored.ids) else stored.ids
    known = ids[ids != IGNORE]
    if known.size and (known.min() < 0 or known.max() >= MAX_CLASSES):
        raise LabelError(
            f"{path}: class ids up to {known.max()}, but there are at most {MAX_CLASSES} classes; "
            "number them from 0"
        )
    return ids


def read_stored(path: Path | str, content: bytes | None = None) -> Stored:
    """Read what the label map at `path` stores, before it is known what that means.

    If it is inside an archive, `content` are its bytes, and `path` only names it.

    Raises:
        DataError: The file is missing, truncated or not a picture.
        LabelError: It is stored as label maps are not, as JPEG say.
    """
    path = Path(path)
    image = open_image(path, content)
    if image.format == "JPEG":
        raise LabelError(f"{path}: JPEG blurs class ids; export the label map as PNG")
    return _stored(image, path)


def read_label(path: Path | str, classes: Classes | None, content: bytes | None = None) -> Ids:
    """Read the label map at `path` as int64 [H,W] of class ids.

    Grey and RGB-grey pixels (8 or 16 bits) are ids; colours, of pixels or of a palette, are ids
    where `classes` has them all, and else the palette's index counts. 255 and transparent pixels
    are unknown: IGNORE in dense maps, 0 in sparse ones. A mask of 0 and 255 alone is 0 and 1 if
    there are two classes. Without `classes` ids are returned as they are, IGNORE included. If
    the map is inside an archive, `content` are its bytes, and `path` only names it.

    Raises:
        DataError: The file is missing, truncated or not a picture.
        LabelError: It holds ids or colours outside `classes`, or nothing but unknown pixels.
    """
    path = Path(path)
    stored = read_stored(path, content)
    ids = _plain(stored, path) if classes is None else _resolve(stored, classes, path)
    if stored.clear is not None:
        ids = np.where(stored.clear, IGNORE, ids)
    if classes is not None and classes.sparse:
        ids = np.where(ids == IGNORE, 0, ids)
    blank = 0 if classes is not None and classes.sparse else IGNORE
    if (ids == blank).all():
        raise LabelError(
            f"{path}: every pixel is unknown (id {blank}); label some of it, or leave the file out"
        )
    return ids


def _widest(planes: Tensor, radius: int) -> Tensor:
    """Return the largest of `planes` [N,C,H,W] within `radius` pixels, by rows, then by columns."""
    rows = F.max_pool2d(planes, (1, 2 * radius + 1), stride=1, padding=(0, radius))
    return F.max_pool2d(rows, (2 * radius + 1, 1), stride=1, padding=(radius, 0))


def looks_sparse(maps: Iterable[Ids]) -> bool:
    """Tell whether maps of ids [H,W] hold marks on an unknown ground rather than filled regions.

    Marks cover little of the picture, and little of them is left once a thin rim is taken off.
    """
    shares, left = [], []
    for ids in maps:
        marked = torch.from_numpy((ids != 0) & (ids != IGNORE)).float()[None, None]
        radius = max(round(SPARSE_RADIUS * min(ids.shape)), 1)
        core = 1 - _widest(1 - marked, radius)
        shares.append(float(marked.mean()))
        left.append(float(core.sum() / marked.sum().clamp(min=1)))
    share, thick = np.mean(shares), np.mean(left)
    return bool(0 < share < SPARSE_SHARE and thick < 0.2)


def infer_classes(maps: Iterable[Ids], sparse: bool | None = None) -> Classes:
    """Return generic classes for maps of ids [H,W] that come without a classes.json.

    There are as many as the largest id asks for; where `sparse` is None, the first LOOKED_AT
    maps tell.
    """
    largest = 1
    looked: list[Ids] = []
    for ids in maps:
        largest = max(largest, int(ids[ids != IGNORE].max(initial=1)))
        if len(looked) < LOOKED_AT:
            looked.append(ids)
    kind = looks_sparse(looked) if sparse is None else sparse
    return Classes.generic(largest + 1, sparse=kind)


def _check_ids(label: Tensor, num_classes: int) -> None:
    bad = ((label < 0) | (label >= num_classes)) & (label != IGNORE)
    if bool(bad.any()):
        raise LabelError(
            f"class ids {_listing(sorted(set(label[bad].tolist())))}, but there are {num_classes} "
            "classes; is the map of other classes?"
        )


def one_hot(label: Tensor, num_classes: int) -> Tensor:
    """Turn `label` [N,H,W] of ids into planes [N,K,H,W], float32 0 or 1; IGNORE has none.

    Raises:
        LabelError: An id is neither a class nor IGNORE.
        ShapeError: `label` is not [N,H,W].

    >>> one_hot(torch.tensor([[[1, 255, 0]]]), 2).tolist()
    [[[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]]]
    """
    if label.ndim != 3:
        raise ShapeError(f"one_hot takes a label [N,H,W], not {list(label.shape)}")
    _check_ids(label, num_classes)
    ids = torch.arange(num_classes, device=label.device)
    return (label[:, None] == ids[None, :, None, None]).float()


def resize_label(label: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize `label` [N,H,W] to (height, width), or a square, taking pixel floor(i * scale).

    Raises:
        ShapeError: `label` is not [N,H,W], or a side is not positive.

    >>> resize_label(torch.arange(5)[None, None].expand(1, 2, 5), (1, 3)).tolist()
    [[[0, 1, 3]]]
    """
    if label.ndim != 3:
        raise ShapeError(f"resize_label takes [N,H,W], not {list(label.shape)}")
    height, width = as_size(size)
    rows = torch.arange(height, device=label.device) * label.shape[1] // height
    columns = torch.arange(width, device=label.device) * label.shape[2] // width
    return label[:, rows[:, None], columns]


def colorize(label: Tensor | Ids, classes: Classes) -> UInt8:
    """Paint `label` [H,W] or [N,H,W] in the colours of its classes: uint8 [H,W,3] or [N,H,W,3].

    Unknown pixels of dense maps become UNKNOWN_COLOR.

    Raises:
        LabelError: An id is neither a class nor IGNORE.
    """
    ids = torch.as_tensor(label).cpu()
    _check_ids(ids, classes.num_classes)
    table = np.full((IGNORE + 1, 3), UNKNOWN_COLOR, dtype=np.uint8)
    table[: classes.num_classes] = classes.colors
    painted: UInt8 = table[ids.numpy()]
    return painted
