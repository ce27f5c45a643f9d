"""Compare landmarks that a detector finds with those that a folder states."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fewshot_smis.data import read_label, sheets
from fewshot_smis.data.files import read_json
from fewshot_smis.data.images import UInt8, list_images, read_image
from fewshot_smis.data.pairs import files_by_name
from stylegan.errors import DataError, LabelError, ShapeError
from tools.detectors import Finder, Points
from tools.landmark_maps import OUTER_EYES, read_points

REGIONS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
"""Where the parts of the face stand among the 68 points of the 300-W scheme."""

_FOUND, _STATED = (255, 60, 60), (60, 255, 90)


class Match(NamedTuple):
    """A picture, its stated points, and those found for it; None where no face was found."""

    name: str
    image: UInt8
    exact: Points  # [68,2], NaN where a point is not stated
    found: Points | None


def landmark_errors(found: Points, exact: Points) -> NDArray[np.float64]:
    """Return the distance of each point [68], as a share of the distance of the outer eye corners.

    Both are [68,2]; the unit is that of `exact`. Where `exact` is NaN, so is the error.

    >>> exact = np.zeros((68, 2))
    >>> exact[45] = 30, 40
    >>> landmark_errors(exact + (0, 5), exact)[:2]
    array([0.1, 0.1])

    Raises:
        ShapeError: One of them is not [68,2].
        DataError: The outer eye corners of `exact` coincide, or one is not known.
    """
    for points in (found, exact):
        if points.shape != (68, 2):
            raise ShapeError(f"landmarks are [68, 2], not {list(points.shape)}")
    right, left = (exact[i] for i in OUTER_EYES)
    unit = float(np.hypot(*(left - right)))
    if not unit > 0:
        raise DataError("the outer eye corners are hidden or at one place: nothing to measure by")
    return np.hypot(*(found - exact).T) / unit


def stated_points(folder: Path) -> dict[str, Points]:
    """Return the points [68,2] of each picture of `folder`: its landmarks.json, or its label maps.

    Raises:
        DataError: The folder has neither, or one cannot be read.
        LabelError: A map shows no landmarks.
    """
    if (folder / "landmarks.json").is_file():
        return {
            name: np.array(points) for name, points in read_json(folder / "landmarks.json").items()
        }
    if not (folder / "labels").is_dir():
        raise DataError(f"{folder}: holds no landmarks.json and no labels/ of landmark maps")
    stated = {}
    for name, path in files_by_name(folder / "labels").items():
        try:
            stated[name] = read_points(read_label(path, None))
        except LabelError as error:
            raise LabelError(f"{path}: {error}") from error
    return stated


def match_folder(folder: Path, finder: Finder) -> Iterator[Match]:
    """Detect in each picture of a folder; of several faces, the nearest to the stated one.

    Raises:
        DataError: The folder holds no pictures, or states no points for one of them.
    """
    exact = stated_points(folder)
    for path in list_images(folder):
        if path.stem not in exact:
            raise DataError(f"{folder}: states no landmarks for '{path.name}'; take it away")
        image, points = read_image(path), exact[path.stem]
        faces = finder(image)
        found = min(faces, key=lambda face: float(np.nansum(np.abs(face - points))), default=None)
        yield Match(path.stem, image, points, found)


def summarize(matches: Iterable[Match]) -> dict[str, Any]:
    """Return hit rate, and errors in percent of the outer-eye distance: mean, median, by region.

    `offset_percent` is the mean of (found - exact), x then y: what is wrong in all faces alike.
    """
    matches = list(matches)
    hits = [(match.found, match.exact) for match in matches if match.found is not None]
    facts: dict[str, Any] = {
        "pictures": len(matches),
        "hit_rate": round(len(hits) / len(matches), 3),
    }
    if not hits:
        return facts
    errors = 100 * np.array([landmark_errors(found, exact) for found, exact in hits])  # [N,68]
    units = [np.hypot(*(exact[OUTER_EYES[1]] - exact[OUTER_EYES[0]])) for _, exact in hits]
    shifts = [100 * (f - e) / unit for (f, e), unit in zip(hits, units, strict=True)]  # [N][68,2]
    facts["mean_percent"] = round(float(np.nanmean(errors)), 2)
    facts["median_percent"] = round(float(np.median(np.nanmean(errors, axis=1))), 2)
    for name, part in REGIONS.items():
        facts[f"{name}_percent"] = round(float(np.nanmean(errors[:, part])), 2)
    facts["offset_percent"] = {
        name: np.nanmean(np.array(shifts)[:, part], axis=(0, 1)).round(2).tolist()
        for name, part in REGIONS.items()
    }
    return facts


def describe(match: Match) -> str:
    """Return a line on one picture: its mean and largest error, over how many points."""
    if match.found is None:
        return "no face found"
    errors = 100 * landmark_errors(match.found, match.exact)
    known = int(np.isfinite(errors).sum())
    return (
        f"mean {np.nanmean(errors):.2f} %, median {np.nanmedian(errors):.2f} %, "
        f"largest {np.nanmax(errors):.1f} % (point {np.nanargmax(errors) + 1}), {known} points"
    )


def overlay_points(
    image: UInt8, exact: Points | None, found: Points | None, cell: int = 512
) -> UInt8:
    """Return the picture, at least `cell` px, with stated points in green and found ones in red."""
    canvas = Image.fromarray(sheets.magnify(image, cell))
    draw = ImageDraw.Draw(canvas)
    scale = canvas.height / image.shape[0]
    radius = max(2, min(canvas.size) / 256)
    for points, color in ((exact, _STATED), (found, _FOUND)):
        for x, y in () if points is None else points[np.isfinite(points).all(1)] * scale:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return np.array(canvas)
