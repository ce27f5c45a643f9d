"""Sparse label maps from SVG, JSON, PNG layers, or dense maps.

    python -m tools.scribbles svg cat.svg --classes classes.json --out pairs
    python -m tools.scribbles json drawings --classes classes.json --images photos --out pairs
    python -m tools.scribbles layers cat/ dog/ --classes classes.json --out pairs
    python -m tools.scribbles simulate dense_pairs --kind lines --width 4 --out pairs

Edges are hard: every pixel has one class, or is unknown. `tools.strokes` describes the JSON.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from fewshot_smis.data import Classes, find_classes, load_label_maps, read_image
from fewshot_smis.data.formats import LabelSet, Shot, write_pairs
from fewshot_smis.data.formats.base import find_files, image_folder, pictures_by_name
from fewshot_smis.data.labels import Ids, infer_classes
from stylegan.errors import DataError, LabelError
from stylegan.seeding import numpy_stream
from tools.commands import FILE, ToolGroup
from tools.simulate import KINDS, simulate
from tools.stroke_files import read_layers, read_svg
from tools.strokes import Stroke, draw_strokes, read_strokes

Drawing = tuple[list[Stroke], tuple[int, int]]  # strokes, and the (height, width) they are in

_CLASSES = click.option(
    "--classes", type=FILE, help="classes.json; by default the one beside the drawings."
)
_IMAGES = click.option("--images", type=FILE, help="Photographs of the same names, to make pairs.")
_SIZE = click.option("--size", help="HEIGHTxWIDTH of the maps; by default the photograph's.")
_OUT = click.option("--out", required=True, type=FILE, help="New folder to write.")


def sparse_classes(given: Path | None, beside: Path) -> Classes:
    """Return the sparse form of the classes of a file, by default of the nearest to `beside`.

    Raises:
        LabelError: There are none.
    """
    folder = beside if beside.is_dir() else beside.parent
    classes = find_classes(folder) if given is None else Classes.load(given)
    if classes is None:
        raise LabelError(f"{folder}: no classes.json says what the strokes are; give --classes")
    return classes.as_sparse()


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of "HEIGHTxWIDTH", or of the side of a square.

    Raises:
        click.BadParameter: It is neither.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.BadParameter(f"'{text}' is not a size; write 256 or 192x256 (height x width)")
    return int(sides[0]), int(sides[-1])


def list_drawings(sources: Iterable[Path], ending: str) -> list[Path]:
    """Return the files of an ending, given or in given folders.

    Raises:
        DataError: A folder holds none.
    """
    found: list[Path] = []
    for source in sources:
        inside = find_files(source, f"*{ending}", f"{ending} drawings") if source.is_dir() else []
        found += [path for path in inside if path.name != "classes.json"] or [source]
    return found


def photograph(folder: Path | None, name: str) -> Path | None:
    """Return the photograph of that name in a folder or its images/, None without a folder.

    Raises:
        DataError: The folder, or the photograph, is missing.
    """
    if folder is None:
        return None
    root = folder / "images" if (folder / "images").is_dir() else folder
    photos = pictures_by_name(image_folder(root, root))
    if name not in photos:
        raise DataError(f"{root}: no photograph is named '{name}'")
    return photos[name]


def draw(drawing: Drawing, photo: Path | None, size: tuple[int, int] | None) -> Ids:
    """Draw the strokes into a map of `size`, by default of the photograph's, else the drawing's."""
    strokes, (height, width) = drawing
    if size is None and photo is not None:
        size = read_image(photo).shape[:2]
    rows, columns = size or (height, width)
    scaled = [stroke.scaled(columns / width, rows / height) for stroke in strokes]
    return draw_strokes(scaled, (rows, columns))


def write_shots(out: Path, classes: Classes, shots: Iterable[Shot]) -> None:
    """Write the maps as pairs, all or none.

    Raises:
        LabelError: A map holds no mark.
    """
    kept = list(shots)
    for shot in kept:
        if not shot.label.any():
            raise LabelError(f"{shot.name}: no stroke lies in the map; nothing was written")
    count = write_pairs(out, LabelSet(classes, kept))
    click.echo(f"{count} maps: {out}\nto look at them: fewshot-smis labels view {out} sheet.png")


@click.group(cls=ToolGroup)
def main() -> None:
    """Make sparse label maps out of drawings, or out of dense maps."""


@main.command()
@click.argument("drawings", nargs=-1, required=True, type=FILE)
@_CLASSES
@_IMAGES
@_SIZE
@_OUT
def svg(drawings: tuple[Path, ...], **options: Any) -> None:
    """Draw the paths and shapes of SVG DRAWINGS (files or folders) as wide as they are.

    The class of each is the one that its id, class attribute, layer or colour names.
    """
    _draw_files(list_drawings(drawings, ".svg"), read_svg, **options)


@main.command()
@click.argument("drawings", nargs=-1, required=True, type=FILE)
@_CLASSES
@_IMAGES
@_SIZE
@_OUT
def json(drawings: tuple[Path, ...], **options: Any) -> None:
    """Draw the polylines of JSON DRAWINGS (files or folders).

    {"size": [width, height], "strokes": [{"class": "hair", "width": 4, "points": [[x, y], ...]}]}
    """
    _draw_files(list_drawings(drawings, ".json"), read_strokes, **options)


def _draw_files(
    files: list[Path],
    read: Callable[[Path, Classes], Drawing],
    classes: Path | None,
    images: Path | None,
    size: str | None,
    out: Path,
) -> None:
    known, target = sparse_classes(classes, files[0]), parse_size(size)

    def shots() -> Iterator[Shot]:
        for path in files:
            photo = photograph(images, path.stem)
            yield Shot(path.stem, draw(read(path, known), photo, target), photo)

    write_shots(out, known, shots())


@main.command()
@click.argument("drawings", nargs=-1, required=True, type=FILE)
@_CLASSES
@_IMAGES
@_OUT
def layers(
    drawings: tuple[Path, ...], classes: Path | None, images: Path | None, out: Path
) -> None:
    """Lay coloured PNGs over each other: each of DRAWINGS is a folder of layers, or one file.

    A layer named as a class (hair.png) holds that class wherever it is painted; else the colours
    of the classes tell. What is transparent, white or coloured as unknown is paper.
    """
    known = sparse_classes(classes, drawings[0])

    def shots() -> Iterator[Shot]:
        for source in drawings:
            name = source.name if source.is_dir() else source.stem
            files = find_files(source, "*.png", "PNG layers") if source.is_dir() else [source]
            yield Shot(name, read_layers(files, known), photograph(images, name))

    write_shots(out, known, shots())


@main.command("simulate")
@click.argument("dense", type=FILE)
@click.option("--kind", type=click.Choice(KINDS), default="strokes", show_default=True)
@click.option(
    "--width",
    type=click.FloatRange(1, 200),
    help="Width of the marks in pixels; by default a sixtieth of the map's shorter side.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@_OUT
def simulate_maps(dense: Path, kind: str, width: float | None, seed: int, out: Path) -> None:
    """Mark the regions of DENSE maps (a file, a folder, or a folder of pairs) as a person would.

    strokes: a few in each region; lines: along its middle; contours: its border inside; crosses:
    its two axes. Id 0 becomes unknown, and what was class 0 comes last.
    """
    maps = load_label_maps(dense)
    folder = dense / "labels" if (dense / "labels").is_dir() else dense
    known = find_classes(folder if folder.is_dir() else folder.parent)
    classes = known or infer_classes(label.numpy() for _, label in maps)
    if classes.sparse:
        raise LabelError(f"{dense}: these maps are sparse already")
    images = dense if (dense / "images").is_dir() else None

    def shots() -> Iterator[Shot]:
        for number, (name, label) in enumerate(maps):
            stroke = width or max(min(label.shape) / 60, 1.0)
            rng = numpy_stream(seed, f"scribbles {number}")
            marks = simulate(label.numpy(), classes.num_classes, kind, rng, stroke)
            yield Shot(name, marks, photograph(images, name))

    write_shots(out, classes.as_sparse(), shots())


if __name__ == "__main__":
    main()
