"""Drawings from other programs: SVG files, and layers of coloured PNG."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np

from fewshot_smis.data import Classes
from fewshot_smis.data.images import open_image
from fewshot_smis.data.labels import Ids
from stylegan.errors import BackendError, DataError, LabelError
from tools.strokes import Floats, Stroke, class_id

_LOG = logging.getLogger(__name__)

_STEP = 1.0  # pixels between the points that stand for a curve
_NEAR = 60.0
"""A pixel has a class if its colour is nearer to the class's than this, in RGB; the blends along
smooth edges have none."""


def read_svg(path: Path, classes: Classes) -> tuple[list[Stroke], tuple[int, int]]:
    """Read the strokes of an SVG: its paths and shapes, as wide as drawn; also (height, width).

    The class of an element is the one that its id, class attribute or layer names, or that has
    the colour of its stroke. A fill is drawn if it has the colour of a class, or if the element is
    named and has no stroke.

    Raises:
        BackendError: svgelements is not installed.
        DataError: The file is missing, or no SVG.
        LabelError: An element has no class.
    """
    try:
        import svgelements
    except ImportError as error:
        raise BackendError(
            "svgelements, which reads SVG, is not installed: pip install 'fewshot-smis[scribbles]'"
        ) from error
    try:
        drawing = svgelements.SVG.parse(str(path))
        width, height = max(round(drawing.width), 1), max(round(drawing.height), 1)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an SVG drawing ({error})") from error
    strokes = []
    for shape, names in _shapes(drawing, ()):
        try:
            strokes += _strokes_of(svgelements.Path(shape), names, classes)
        except LabelError as error:
            raise LabelError(
                f"{path}: {type(shape).__name__} {'/'.join(names)}: {error}"
            ) from error
    return strokes, (height, width)


def _shapes(element: Any, names: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield the shapes in an element, and what they and their groups are called, inner first."""
    own = (element.values or {}).get("attributes", {}) if hasattr(element, "values") else {}
    called = [own.get("id"), *own.get("class", "").split()]
    called += [value for key, value in own.items() if key.endswith("}label")]
    names = (*(name for name in called if name), *names)
    if isinstance(element, list):
        for child in element:
            yield from _shapes(child, names)
    elif hasattr(element, "segments"):
        yield element, names


def _strokes_of(path: Any, names: Sequence[str], classes: Classes) -> list[Stroke]:
    """Return the strokes of one shape; none if it is neither stroked nor filled."""
    line, inside = (_color(paint) for paint in (path.stroke, path.fill))
    colors = {f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colors[1:]}
    known = {name.lower() for name in classes.names[1:]}
    named = next((name for name in names if name.lower() in known), None)
    filled = inside in colors or (named is not None and line is None and inside is not None)
    if line is None and not filled:
        if inside is None or inside == "#000000":  # the fill of every shape that names none
            return []
        raise LabelError(f"the fill {inside} is the colour of no class")
    number = class_id(named or (inside if line is None else line), classes)
    width = float(path.stroke_width or 0) if line is not None else 0.0
    lines = [_flatten(part) for part in path.as_subpaths()]
    return [Stroke(points, number, width, filled) for points in lines if len(points)]


def _color(paint: Any) -> str | None:
    """Return "#rrggbb", None where nothing is painted."""
    if paint is None or paint.value is None or paint.alpha == 0:
        return None
    return f"#{paint.red:02x}{paint.green:02x}{paint.blue:02x}"


def _flatten(part: Any) -> Floats:
    """Return points [n,2] along a subpath, no further apart than _STEP on its curves."""
    points: list[tuple[float, float]] = []
    for segment in part:
        if type(segment).__name__ == "Move":
            points.append((segment.end.x, segment.end.y))
            continue
        straight = type(segment).__name__ in ("Line", "Close")
        count = 1 if straight else max(int(np.ceil(segment.length(error=1e-2) / _STEP)), 1)
        places = [segment.point(k / count) for k in range(1, count + 1)]
        points += [(place.x, place.y) for place in places if place is not None]
    return np.array(points, np.float64).reshape(-1, 2)


def read_layers(paths: Sequence[Path], classes: Classes) -> Ids:
    """Read layers of one size, the later on top, as a label map int64 [H,W].

    A layer named as a class holds that class wherever it is painted. In others the colours tell:
    pixels near the colour of a class have it. Transparent, white and unknown-coloured is paper.

    Raises:
        DataError: A file cannot be read.
        LabelError: Sizes differ, or a layer holds no colour of a class.
    """
    label: Ids | None = None
    named = {name.lower(): number for number, name in enumerate(classes.names) if number}
    for path in paths:
        pixels = np.asarray(open_image(path).convert("RGBA")).astype(np.int64)
        if label is None:
            label = np.zeros(pixels.shape[:2], np.int64)
        if label.shape != pixels.shape[:2]:
            raise LabelError(
                f"{path}: {pixels.shape[1]} x {pixels.shape[0]}, unlike {paths[0].name}"
            )
        painted = (pixels[..., 3] >= 128) & ~_paper(pixels[..., :3], classes)
        if path.stem.lower() in named:
            label[painted] = named[path.stem.lower()]
        else:
            ids = _nearest(pixels[..., :3], classes)
            _check_colors(path, pixels, painted, ids)
            label[painted & (ids > 0)] = ids[painted & (ids > 0)]
    if label is None:
        raise DataError("no layers were given")
    return label


def _paper(rgb: Ids, classes: Classes) -> Any:
    white = (rgb == 255).all(-1)
    has_white = (255, 255, 255) in classes.colors[1:]
    return (rgb == classes.colors[0]).all(-1) | (white & (not has_white))


def _nearest(rgb: Ids, classes: Classes) -> Ids:
    """Return the ids [H,W] of the nearest colours, 0 where none is near."""
    colors, where = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    apart = np.linalg.norm(colors[:, None] - np.array(classes.colors)[None, 1:], axis=-1)
    ids = np.where(apart.min(1) <= _NEAR, apart.argmin(1) + 1, 0)
    nearest: Ids = ids[where.reshape(rgb.shape[:2])]
    return nearest


def _check_colors(path: Path, pixels: Ids, painted: Any, ids: Ids) -> None:
    """Refuse a layer whose painted pixels have no class; tell of one where many have none."""
    lost = painted & (ids == 0)
    if not painted.any() or not lost.any():
        return
    colors, counts = np.unique(pixels[lost][:, :3], axis=0, return_counts=True)
    red, green, blue = colors[counts.argmax()]
    told = (
        f"#{red:02x}{green:02x}{blue:02x} is the colour of no class ({lost.sum()} pixels left out)"
    )
    if lost.sum() == painted.sum():
        raise LabelError(f"{path}: {told}; name the layer as its class, or paint in class colours")
    if lost.sum() > 0.5 * painted.sum():
        _LOG.warning("%s: %s", path, told)
