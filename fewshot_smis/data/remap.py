"""Change the ids of label maps: by a table of ids or names, by what is used, by what is nearest."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.images import open_image
from fewshot_smis.data.labels import Ids, read_label, read_stored
from stylegan.errors import LabelError

UNKNOWN = "unknown"
"""The word for unknown pixels in a table."""

RARE = 0.0005
"""Ids that cover less of a map than this are taken for artefacts where no class is known."""


class Remap(NamedTuple):
    """Which id becomes which (others stay), and the classes of the result if they are known."""

    table: dict[int, int]
    classes: Classes | None


def remap_ids(ids: Ids, table: Mapping[int, int]) -> Ids:
    """Return `ids` [H,W] with the values in `table` replaced, all at once.

    >>> remap_ids(np.array([[0, 255, 1]]), {255: 1, 1: 0}).tolist()
    [[0, 1, 0]]
    """
    values, inverse = np.unique(ids, return_inverse=True)
    changed = np.array([table.get(int(value), int(value)) for value in values], dtype=np.int64)
    return changed[inverse.reshape(ids.shape)]


def parse_table(text: str) -> dict[str, str]:
    """Read "255=1, 3=unknown" or "left_eye=eyes, right_eye=eyes".

    Raises:
        LabelError: A part is not of the form old=new, or an old one comes twice.
    """
    table: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        old, sign, new = (piece.strip() for piece in part.partition("="))
        if not (old and sign and new):
            raise LabelError(f"'{part}' is not of the form old=new, as in 255=1 or hat=hair")
        if old in table:
            raise LabelError(f"'{old}' is remapped twice, to {table[old]} and {new}; choose one")
        table[old] = new
    return table


def make_remap(table: Mapping[str, str], classes: Classes | None) -> Remap:
    """Turn a table of ids or of names into a Remap.

    Ids keep their numbers otherwise. Names that are merged or renamed close up: the classes are
    numbered anew in their old order. "unknown" is IGNORE, or 0 in sparse maps.

    Raises:
        LabelError: A name or id does not exist, or the classes are not known.
    """
    if all(old.isdecimal() for old in table):
        return _by_ids(table, classes)
    if classes is None:
        raise LabelError("there is no classes.json to look names up in; remap by ids, as in 255=1")
    return _by_names(table, classes)


def _unknown_id(classes: Classes | None) -> int:
    return 0 if classes is not None and classes.sparse else IGNORE


def _by_ids(table: Mapping[str, str], classes: Classes | None) -> Remap:
    ids: dict[int, int] = {}
    for old, new in table.items():
        if new != UNKNOWN and not new.isdecimal():
            known = () if classes is None else classes.names
            if new not in known:
                raise LabelError(f"{old}={new}: no class is named '{new}'; give its id")
            ids[int(old)] = known.index(new)
        else:
            ids[int(old)] = _unknown_id(classes) if new == UNKNOWN else int(new)
    largest = max((new for new in ids.values() if new != IGNORE), default=0)
    if classes is not None and largest >= classes.num_classes:
        raise LabelError(
            f"id {largest}, but classes.json names {classes.num_classes} classes; add it there"
        )
    return Remap(ids, classes)


def _by_names(table: Mapping[str, str], classes: Classes) -> Remap:
    for old in table:
        if old not in classes.names:
            raise LabelError(f"no class is named '{old}'; there are {', '.join(classes.names)}")
    renamed = [table.get(name, name) for name in classes.names]
    if classes.sparse and renamed[0] == UNKNOWN:
        kept = list(dict.fromkeys(renamed))
    else:
        kept = [name for name in dict.fromkeys(renamed) if name != UNKNOWN]
    colors = [
        classes.colors[(classes.names if name in classes.names else renamed).index(name)]
        for name in kept
    ]
    ids = {
        i: kept.index(name) if name in kept else _unknown_id(classes)
        for i, name in enumerate(renamed)
    }
    return Remap(ids, Classes(tuple(kept), tuple(colors), classes.sparse))


def compact(used: Iterable[int], classes: Classes) -> Remap:
    """Number the `used` ids from 0 on, in their order, and forget the other classes.

    Id 0 of sparse maps stays what it is.

    Raises:
        LabelError: Fewer than two classes are used.
    """
    known = set(used) - {IGNORE} | ({0} if classes.sparse else set())
    kept = sorted(known)
    names, colors = (tuple(values[i] for i in kept) for values in (classes.names, classes.colors))
    table = {old: new for new, old in enumerate(kept)}
    return Remap(table, Classes(names, colors, classes.sparse))  # type: ignore[arg-type]


def fill_holes(ids: Ids, bad: NDArray[np.bool_]) -> Ids:
    """Give each `bad` pixel [H,W] the id of the nearest sound one, in steps up, down and aside.

    Raises:
        LabelError: No pixel is sound.
    """
    if bad.all():
        raise LabelError("no pixel holds a class id; the map cannot be mended")
    ids, bad = ids.copy(), bad.copy()
    while bad.any():
        frame, open_ = np.pad(ids, 1), np.pad(bad, 1, constant_values=True)
        for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
            place = np.s_[rows : rows + ids.shape[0], columns : columns + ids.shape[1]]
            take = bad & ~open_[place]
            ids[take], bad[take] = frame[place][take], False
    return ids


def snap(path: Path, classes: Classes | None, content: bytes | None = None) -> Ids:
    """Read a map that was blurred, resized or saved as JPEG, each pixel as the likeliest class.

    Colours become the nearest class colour, and masks of 0 and 255 become 0 and 1. In grey
    maps ids that are no class (or, without `classes`, rare ones) take the id of the nearest pixel
    that is one. `content` as in `open_image`. Returns [H,W] int64.

    Raises:
        DataError: The file cannot be read.
        LabelError: It is of colours and there is no classes.json.
    """
    rgb = np.asarray(open_image(path, content).convert("RGB")).astype(np.int64)
    spread = int((rgb.max(axis=2) - rgb.min(axis=2)).max())
    if spread > 8:  # JPEG leaves a trace of colour in greys
        if classes is None:
            raise LabelError(
                f"{path}: colours, and no classes.json that says which there are; put one beside "
                "labels/ with a name and a colour for each class"
            )
        colors = np.array(classes.colors)  # [K,3]
        values, inverse = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
        nearest = ((values[:, None] - colors[None]) ** 2).sum(axis=2).argmin(axis=1)
        return nearest.astype(np.int64)[inverse.reshape(rgb.shape[:2])]
    ids = rgb[..., 0]
    if ids.max() > 223 and ((ids < 32) | (ids > 223)).mean() > 0.95:  # a blurred mask of 0 and 255
        return (ids > 127).astype(np.int64)
    values, counts = np.unique(ids, return_counts=True)
    if classes is None:
        sound = values[counts >= RARE * ids.size]
    else:
        sound = values[(values < classes.num_classes) | (values == IGNORE)]
    return fill_holes(ids, ~np.isin(ids, sound))


def read_or_snap(path: Path, classes: Classes, content: bytes | None = None) -> Ids:
    """Read a map as `read_label` does, and one that this refuses as `snap` does.

    Raises:
        DataError: The file cannot be read.
        LabelError: No pixel is, or is near, a class.
    """
    try:
        return read_label(path, classes, content)
    except LabelError:
        return snap(path, classes, content)


def renamed(classes: Classes, names: Sequence[str]) -> Classes:
    """Return the classes with new names, all of them in the order of the ids.

    Raises:
        LabelError: There are not as many names as classes.
    """
    if len(names) != classes.num_classes:
        raise LabelError(
            f"{len(names)} names for {classes.num_classes} classes; name all, by --names a,b,c"
        )
    return Classes(tuple(names), classes.colors, classes.sparse)


def as_stored(path: Path, classes: Classes | None) -> Ids:
    """Read the ids [H,W] of a map as its file numbers them, whether they are classes or not.

    Colours are ids by `classes`; transparent pixels are IGNORE.

    Raises:
        DataError: The file cannot be read.
        LabelError: It is of colours that no class has.
    """
    stored = read_stored(path)
    if stored.ids is None or not stored.is_grey:
        return read_label(path, classes)
    return stored.ids if stored.clear is None else np.where(stored.clear, IGNORE, stored.ids)
