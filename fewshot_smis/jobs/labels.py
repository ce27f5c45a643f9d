"""`labels`: check, mend, show and convert label maps."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from fewshot_smis.data import sheets
from fewshot_smis.data.checkup import (
    Checkup,
    MapFacts,
    Split,
    check_maps,
    find_splits,
    shots_of,
    split_classes,
)
from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.formats import FORMATS, LabelSet, Request, Shot, write_pairs
from fewshot_smis.data.formats.base import STROKE
from fewshot_smis.data.images import read_image, write_image
from fewshot_smis.data.labels import Ids, colorize, infer_classes, read_label
from fewshot_smis.data.remap import (
    as_stored,
    compact,
    make_remap,
    parse_table,
    remap_ids,
    renamed,
    snap,
)
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.runs import Run
from stylegan.errors import ConfigError, LabelError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckJob(Job):
    """Say what the label maps of a folder hold, what is odd, and what mends it.

    FOLDER holds images/ and labels/, or subfolders that do (train/, test/), or maps alone. Exits
    with 1 if a map cannot be used.
    """

    makes_run: ClassVar[bool] = False

    folder: Path = opt(None, "Folder of label maps.", argument=True, required=True)


def run_check(job: CheckJob, run: Run | None) -> dict[str, Any]:
    """Return the report; raise it as LabelError if a map cannot be used."""
    number = sum(len(split.maps) for split in find_splits(job.folder))
    with tqdm(total=number, desc="check", dynamic_ncols=True, leave=False) as bar:
        found = check_maps(job.folder, on_map=bar.update)
    report = check_report(job.folder, found)
    grave = sum(finding.grave for finding in found.findings)
    if grave:
        lines = [f"{key}  {value}" for key, value in report.items()]
        raise LabelError("\n".join([f"{job.folder}: {grave} files cannot be used", *lines]))
    return report


def check_report(folder: Path, found: Checkup) -> dict[str, Any]:
    """Lay out a checkup as lines: each map, each class that occurs, each oddity with its cure."""
    report: dict[str, Any] = {}
    for facts in found.maps:
        report[facts.place] = _map_line(facts, found.classes)
    if found.classes is not None:
        shots, pixels = shots_of(found.maps)
        total = max(sum(pixels.values()), 1)
        for i in sorted(set(shots) - {IGNORE}):
            share = f"{shots[i]} of {len(found.maps)} maps, {pixels[i] / total:.2%} of pixels"
            report[f"class {i} {found.classes.names[i]}"] = share
    for number, finding in enumerate(found.findings, 1):
        word = "unusable" if finding.grave else "look"
        report[f"{word} {number}"] = f"{finding.where}: {finding.what}"
        if finding.mend:
            report[f"{word} {number}, mend by"] = finding.mend
    usable = sum(finding.grave for finding in found.findings) == 0
    report[str(folder)] = "all maps can be used" if usable else "not all maps can be used"
    return report


def _map_line(facts: MapFacts, classes: Classes | None) -> str:
    """Describe one map: sizes, storage, ids, unknown pixels."""
    unknown = 0 if classes is not None and classes.sparse else IGNORE
    share = facts.pixels.get(unknown, 0) / sum(facts.pixels.values())
    ids = sorted(set(facts.pixels) - {IGNORE})
    size = "{} x {}".format(*facts.size)
    picture = (
        "no picture" if facts.image_size is None else "picture {} x {}".format(*facts.image_size)
    )
    return f"{size}, {picture}, {facts.storage}, ids {ranges(ids)}, unknown {share:.1%}"


def ranges(ids: list[int]) -> str:
    """Write sorted numbers shortly.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    parts: list[list[int]] = []
    for i in ids:
        if parts and parts[-1][-1] == i - 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemapJob(Job):
    """Write a mended copy of label maps and their pictures; the original stays as it is.

    The steps, in this order: --snap, --map, --kind, --compact, --names.
    """

    makes_run: ClassVar[bool] = False

    source: Path = opt(None, "Folder of label maps.", argument=True, required=True)
    target: Path = opt(None, "Folder to make.", argument=True, required=True)
    map: str | None = opt(None, "old=new,...: ids, or names of classes; new may be 'unknown'.")
    table: Path | None = opt(None, "Text file of such pairs, a line each, instead of --map.")
    snap: bool = opt(False, "Mend blurred maps: each pixel becomes the likeliest class.")
    kind: str | None = opt(None, "What the maps are.", choices=("dense", "sparse"))
    compact: bool = opt(False, "Forget classes that no map shows; number the others anew.")
    names: str | None = opt(None, "Names of all classes, by commas, in the order of the ids.")

    def __post_init__(self) -> None:
        """Check that there is one table at most."""
        super().__post_init__()
        if self.map is not None and self.table is not None:
            raise ConfigError("--map and --table both give a table; choose one")


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads a map as the job changes it."""

    before: Classes | None  # of a classes.json
    by_ids: bool  # whether the first table is of ids as the files store them
    snapped: bool
    tables: tuple[dict[int, int], ...]

    def __call__(self, path: Path) -> Ids:
        if self.snapped:
            ids = snap(path, self.before)
        else:
            ids = as_stored(path, self.before) if self.by_ids else read_label(path, self.before)
        for table in self.tables:
            ids = remap_ids(ids, table)
        return ids

    def then(self, table: dict[int, int]) -> "_Reader":
        """Return a reader that applies one table more."""
        return dataclasses.replace(self, tables=(*self.tables, table))


def _table(job: RemapJob) -> dict[str, str]:
    text = job.map or ""
    if job.table is not None:
        try:
            text = ",".join(job.table.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{job.table}: cannot be read as text ({error})") from error
    return parse_table(text)


def run_remap(job: RemapJob, run: Run | None) -> dict[str, Any]:
    """Write the copy."""
    splits = find_splits(job.source)
    files = [path for split in splits for path in split.maps.values()]
    known, named = split_classes(job.source, splits)
    before = known if named else None
    table = _table(job)
    remap = make_remap(table, before)
    by_ids = bool(table) and all(old.isdecimal() for old in table)
    read = _Reader(before, by_ids, job.snap, (remap.table,))
    after = remap.classes or infer_classes(map(read, files))
    if job.kind is not None:
        after = Classes(after.names, after.colors, job.kind == "sparse")
    if after.sparse:
        read = read.then({IGNORE: 0})
    if job.compact:
        smaller = compact({int(i) for path in files for i in np.unique(read(path))}, after)
        read, after = read.then(smaller.table), smaller.classes or after
    if job.names is not None:
        after = renamed(after, [name.strip() for name in job.names.split(",")])
    count = 0
    for split in splits:
        if split.maps:
            shots = LabelSet(after, _remapped(split, read, after))
            with tqdm(total=len(split.maps), desc="remap", dynamic_ncols=True) as bar:
                count += write_pairs(job.target / split.name, shots, on_shot=bar.update)
    return {"maps": count, "classes": after.num_classes, "written": str(job.target)}


def _remapped(split: Split, read: Callable[[Path], Ids], classes: Classes) -> Iterator[Shot]:
    for name, path in split.maps.items():
        ids = read(path)
        bad = ids[(ids >= classes.num_classes) & (ids != IGNORE)]
        if bad.size:
            raise LabelError(
                f"{path}: id {bad[0]} is none of the {classes.num_classes} classes; map it too, "
                f"as in --map {bad[0]}=unknown"
            )
        yield Shot(name, ids, split.images.get(name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewJob(Job):
    """Draw a sheet: each map, its picture, both together, and the names of the colours."""

    makes_run: ClassVar[bool] = False

    folder: Path = opt(None, "Folder of label maps.", argument=True, required=True)
    target: Path = opt(None, "Picture to write, .png.", argument=True, required=True)
    limit: int = opt(12, "Maps to show.", min=1)
    alpha: float = opt(0.5, "How much of the colours is mixed into dense maps.", min=0, max=1)
    cell: int = opt(192, "Pixels of a picture's shorter side, at least.", min=16)


def run_view(job: ViewJob, run: Run | None) -> dict[str, Any]:
    """Write the sheet."""
    if job.target.exists():
        raise ConfigError(f"{job.target} exists; remove it or name another file")
    splits = find_splits(job.folder)
    classes, _ = split_classes(job.folder, splits)
    if classes is None:
        raise LabelError(
            f"{job.folder}: no map can be read; `fewshot-smis labels check {job.folder}` says why"
        )
    rows: list[list[sheets.Picture]] = []
    titles, used = [], set[int]()
    shown = [(split, name) for split in splits for name in split.maps][: job.limit]
    for split, name in shown:
        ids = read_label(split.maps[name], classes)
        used |= set(np.unique(ids).tolist()) - {IGNORE}
        painted = colorize(ids, classes)
        if name in split.images:
            picture = read_image(split.images[name])
            alpha = 1.0 if classes.sparse else job.alpha
            rows.append([painted, picture, sheets.overlay(picture, ids, classes, alpha=alpha)])
        else:
            rows.append([painted])
        titles.append(split.place(Path(name)))
    sheet = sheets.grid(rows, row_titles=titles, cell=job.cell)
    write_image(job.target, sheets.with_legend(sheet, classes, sorted(used)))
    return {"written": str(job.target), "maps": len(rows), "classes": len(used)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertJob(Job):
    """Read label maps of another format into a folder of images/, labels/ and classes.json."""

    makes_run: ClassVar[bool] = False

    source: Path = opt(None, "Folder of the data set.", argument=True, required=True)
    target: Path = opt(None, "Folder to make.", argument=True, required=True)
    format: str = opt(None, "Format of the maps.", required=True, choices=tuple(FORMATS))
    images: Path | None = opt(None, "Folder of the pictures, if not the format's usual one.")
    limit: int | None = opt(None, "At most that many.", min=1)
    stroke: float = opt(
        STROKE, "Width of labelme's lines and points, as part of the shorter side.", min=0, max=1
    )


def run_convert(job: ConvertJob, run: Run | None) -> dict[str, Any]:
    """Write the folder."""
    found = FORMATS[job.format].read(Request(job.source, job.images, job.stroke))
    alone: list[str] = []

    def limited() -> Iterator[Shot]:
        for shot in islice(found.shots, job.limit):
            if shot.image is None:
                alone.append(shot.name)
            yield shot

    with tqdm(desc="convert", dynamic_ncols=True, unit="map") as bar:
        count = write_pairs(job.target, LabelSet(found.classes, limited()), on_shot=bar.update)
    result = {"maps": count, "classes": found.classes.num_classes, "written": str(job.target)}
    if alone:
        where = f"put them into {job.target / 'images'}, or name their folder by --images"
        result["without a picture"] = f"{len(alone)} ({alone[0]}, ...): {where}"
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportJob(Job):
    """Write a folder of images/ and labels/ in another format."""

    makes_run: ClassVar[bool] = False

    source: Path = opt(None, "Folder of label maps.", argument=True, required=True)
    target: Path = opt(None, "Folder to make.", argument=True, required=True)
    format: str = opt(
        None,
        "Format to write.",
        required=True,
        choices=tuple(name for name, form in FORMATS.items() if form.write),
    )


def run_export(job: ExportJob, run: Run | None) -> dict[str, Any]:
    """Write the maps."""
    splits = find_splits(job.source)
    classes, _ = split_classes(job.source, splits)
    write = FORMATS[job.format].write
    if classes is None or write is None:
        raise LabelError(
            f"{job.source}: no map can be read; `fewshot-smis labels check {job.source}` says why"
        )
    count = 0
    for split in splits:
        if split.maps:
            shots = _remapped(split, partial(read_label, classes=classes), classes)
            count += write(job.target / split.name, LabelSet(classes, shots))
    return {"maps": count, "format": job.format, "written": str(job.target)}
