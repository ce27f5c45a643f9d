"""Look label maps over before they are trained on: what they hold, what is odd, what mends it."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.images import SUFFIXES, open_image
from fewshot_smis.data.labels import (
    LOOKED_AT,
    Ids,
    Stored,
    infer_classes,
    looks_sparse,
    read_label,
    read_stored,
)
from fewshot_smis.data.pairs import ASPECT_TOLERANCE, files_by_name, find_classes
from stylegan.errors import DataError, LabelError

STRAY = 10
"""A class of fewer pixels in a whole dense data set is likely a slip of the brush."""


class Split(NamedTuple):
    """Maps that belong together, and their pictures: the folder itself, or its train/ or test/."""

    name: str  # "" for the folder itself
    maps: dict[str, Path]
    images: dict[str, Path]

    def place(self, path: Path) -> str:
        """Return how a file of this split is called in a report."""
        return f"{self.name}/{path.name}" if self.name else path.name


class MapFacts(NamedTuple):
    """What a usable map holds."""

    place: str
    split: str
    size: tuple[int, int]  # (width, height)
    image_size: tuple[int, int] | None
    storage: str  # grey, RGB grey, palette, colours
    pixels: dict[int, int]  # class id -> how many; IGNORE, and 0 in sparse maps, are unknown


class Finding(NamedTuple):
    """Something odd: where, what, and the command that mends it, if one does."""

    grave: bool  # whether the file or folder cannot be used as it is
    where: str
    what: str
    mend: str | None


class Checkup(NamedTuple):
    """All that was found."""

    classes: Classes | None  # None where no map could be read
    named: bool  # whether a classes.json names them
    maps: list[MapFacts]
    findings: list[Finding]


def find_splits(root: Path) -> list[Split]:
    """Return the maps of a folder: of its labels/, of those of its subfolders, or its own files.

    Raises:
        DataError: There are none.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name one that holds labels/, or label maps")
    inner = sorted(p for p in root.iterdir() if (p / "labels").is_dir())
    places = [p for p in (root, *inner) if (p / "labels").is_dir()]
    splits = []
    for place in places:
        images = files_by_name(place / "images") if (place / "images").is_dir() else {}
        name = "" if place == root else place.name
        splits.append(Split(name, files_by_name(place / "labels"), images))
    if not places:
        splits.append(Split("", files_by_name(root), {}))
    if not any(split.maps for split in splits):
        endings = " ".join(sorted(SUFFIXES))
        raise DataError(f"{root}: holds no label maps; put files that end in {endings} in labels/")
    return splits


def _storage(stored: Stored) -> str:
    if stored.ids is None:
        return "colours"
    if stored.colors is None:
        return "16 bits or 1 bit"
    return "grey" if stored.is_grey else "palette"


def split_classes(root: Path, splits: Sequence[Split]) -> tuple[Classes | None, bool]:
    """Return the classes of all splits, and whether a classes.json names them.

    Without one they are generic, as many as all maps ask for; None where no map can be read.
    """
    for folder in (root, *(root / split.name for split in splits)):
        named = find_classes(folder)
        if named is not None:
            return named, True
    try:
        return infer_classes(_readable(splits)), False
    except LabelError:
        return None, False


def _readable(splits: Sequence[Split]) -> Iterator[Ids]:
    """Yield the ids of the maps that can be read without classes.

    Raises:
        LabelError: None can.
    """
    found = False
    for path in (path for split in splits for path in split.maps.values()):
        with suppress(DataError):
            yield read_label(path, None)
            found = True
    if not found:
        raise LabelError("no label map can be read")


class _Advisor(NamedTuple):
    """Words the commands that mend `root`."""

    root: Path

    def remap(self, *options: str) -> str:
        source, target = str(self.root), f"{str(self.root).rstrip('/')}-mended"
        return shlex.join(["fewshot-smis", "labels", "remap", source, target, *options])

    def convert(self) -> str:
        source, target = str(self.root), f"{str(self.root).rstrip('/')}-mended"
        words = ["fewshot-smis", "labels", "convert", "--format", "palette", source, target]
        return shlex.join(words)

    def unreadable(self, path: Path, classes: Classes | None) -> str | None:
        """Return what mends a map that `read_label` refuses."""
        try:
            stored = read_stored(path)
        except LabelError:  # JPEG, or a mode of its own
            return self.remap("--snap")
        except DataError:
            return None
        if stored.ids is None:
            return self.convert() if classes is None else self.remap("--snap")
        values = np.unique(stored.ids)
        if set(values) == {0, IGNORE}:
            return self.remap("--map", f"{IGNORE}=1")
        bad = [int(v) for v in values if classes is None or v >= classes.num_classes]
        bad = [value for value in bad if value != IGNORE]
        if len(bad) > 20:
            return self.remap("--snap")
        return self.remap("--map", ",".join(f"{v}=unknown" for v in bad)) if bad else None


def check_maps(
    root: Path, classes: Classes | None = None, *, on_map: Callable[[int], object] | None = None
) -> Checkup:
    """Look over every label map of `root` and of its subfolders (train/, test/).

    Args:
        root: A folder that holds labels/ and images/, or whose subfolders do, or of maps alone.
        classes: The classes; by default those of a classes.json, then generic ones.
        on_map: Called with 1 after each map.

    Raises:
        DataError: There are no maps at all.
    """
    splits = find_splits(root)
    named = classes is not None
    if classes is None:
        classes, named = split_classes(root, splits)
    advise = _Advisor(root)
    maps, findings = [], []
    for split in splits:
        findings += _partners(split)
        for name, path in split.maps.items():
            try:
                facts = _look(split, path, split.images.get(name), classes)
            except DataError as error:
                mend = advise.unreadable(path, classes)
                findings.append(Finding(True, split.place(path), str(error), mend))
            else:
                maps.append(facts)
                findings += _fitting(facts)
            if on_map is not None:
                on_map(1)
    if classes is not None:
        if not named:
            kind = "sparse" if classes.sparse else "dense"
            what = (
                f"no classes.json; taken for {classes.num_classes} {kind} classes without names; "
                "the copy holds a classes.json to write names into (or give them by --names)"
            )
            findings.append(Finding(False, str(root), what, advise.remap()))
        findings += _used(maps, classes, advise)
        findings += _kind(splits, maps, classes, advise)
    return Checkup(classes, named, maps, findings)


def _look(split: Split, path: Path, image: Path | None, classes: Classes | None) -> MapFacts:
    ids = read_label(path, classes)
    values, counts = np.unique(ids, return_counts=True)
    pixels = {int(v): int(c) for v, c in zip(values, counts, strict=True)}
    size = None if image is None else open_image(image).size
    storage = _storage(read_stored(path))
    place = split.place(path)
    return MapFacts(place, split.name, (ids.shape[1], ids.shape[0]), size, storage, pixels)


def _partners(split: Split) -> list[Finding]:
    """Return the pictures without maps and, where there are pictures, the maps without."""
    alone = [p for name, p in split.images.items() if name not in split.maps]
    if split.images:
        alone += [p for name, p in split.maps.items() if name not in split.images]
    what = "has no partner of the same name in images/ or labels/; add it or take the file away"
    return [Finding(True, split.place(path), what, None) for path in alone]


def _fitting(facts: MapFacts) -> list[Finding]:
    if facts.image_size is None:
        return []
    (columns, rows), (width, height) = facts.size, facts.image_size
    if abs(width * rows / (height * columns) - 1) <= ASPECT_TOLERANCE:
        return []
    what = (
        f"{columns} x {rows}, but its picture is {width} x {height}, of another shape; crop one "
        "as the other was cropped"
    )
    return [Finding(True, facts.place, what, None)]


def shots_of(maps: Sequence[MapFacts]) -> tuple[Counter[int], Counter[int]]:
    """Return in how many maps each id is, and in how many pixels."""
    shots, pixels = Counter[int](), Counter[int]()
    for facts in maps:
        shots.update(facts.pixels.keys())
        pixels.update(facts.pixels)
    return shots, pixels


def _used(maps: Sequence[MapFacts], classes: Classes, advise: _Advisor) -> list[Finding]:
    """Return what is odd about which classes the maps show."""
    shots, pixels = shots_of(maps)
    unknown = {IGNORE} | ({0} if classes.sparse else set())
    findings = []
    unused = [i for i in range(classes.num_classes) if i not in shots and i not in unknown]
    if unused and maps:
        what = f"no map shows {_listing(unused, classes)}: they cannot be learned"
        findings.append(Finding(False, str(advise.root), what, advise.remap("--compact")))
    taught = {i for facts in maps if facts.split == "train" for i in facts.pixels}
    late = sorted(set(shots) - taught - unknown) if taught else []
    if late:
        what = f"train/ never shows {_listing(late, classes)}, other folders do: cannot be learned"
        table = ",".join(f"{i}=unknown" for i in late)
        findings.append(Finding(False, str(advise.root), what, advise.remap("--map", table)))
    stray = sorted(i for i, n in pixels.items() if n < STRAY and i not in unknown)
    if stray and not classes.sparse:
        what = f"fewer than {STRAY} pixels in all of {_listing(stray, classes)}: a slip?"
        table = ",".join(f"{i}=unknown" for i in stray)
        findings.append(Finding(False, str(advise.root), what, advise.remap("--map", table)))
    return findings


def _listing(ids: Sequence[int], classes: Classes) -> str:
    names = [f"{i} ({classes.names[i]})" for i in ids[:6]]
    return ", ".join(names) + (f" and {len(ids) - 6} more classes" if len(ids) > 6 else "")


def _kind(
    splits: Sequence[Split], maps: Sequence[MapFacts], classes: Classes, advise: _Advisor
) -> list[Finding]:
    """Return whether maps of a dense data set look like marks, or the other way round."""
    usable = {facts.place for facts in maps}
    files = [p for split in splits for p in split.maps.values() if split.place(p) in usable]
    if not files:
        return []
    sparse = looks_sparse(read_label(path, classes) for path in files[:LOOKED_AT])
    root = str(advise.root)
    if sparse and not classes.sparse:
        what = "the maps look like marks on an unknown ground, but the classes are dense"
        return [Finding(False, root, what, advise.remap("--kind", "sparse"))]
    counts = [sum(f.pixels.values()) for f in maps]
    marked = [n - f.pixels.get(0, 0) for n, f in zip(counts, maps, strict=True)]
    if classes.sparse and sum(marked) > 0.5 * sum(counts):
        what = "the maps fill more than half of the picture, but the classes are sparse"
        return [Finding(False, root, what, advise.remap("--kind", "dense"))]
    lost = sum(facts.pixels.get(IGNORE, 0) for facts in maps)
    if lost > 0.5 * sum(counts):
        what = f"{lost / sum(counts):.0%} of all pixels are unknown (id {IGNORE})"
        return [Finding(False, root, f"{what}; is that meant?", advise.remap("--kind", "sparse"))]
    return []
