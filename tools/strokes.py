"""Strokes and their label maps: lines with a width and a class, drawn with hard edges.

The JSON form of a drawing, which `read_strokes` reads (x to the right, y down, in units of "size"):

    {"size": [256, 192],
     "strokes": [{"class": "hair", "width": 4, "points": [[10, 20], [40.5, 22], [60, 30]]},
                 {"class": 3, "filled": true, "points": [[5, 5], [9, 5], [9, 9]]}]}

"class" is a name, an id, or the colour "#rrggbb" of the classes; "width" may stand once beside
"strokes" for all of them; "filled" also gives the inside of the outline its class.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fewshot_smis.data import Classes
from fewshot_smis.data.files import read_json
from fewshot_smis.data.images import as_size
from fewshot_smis.data.labels import Ids
from stylegan.errors import DataError, LabelError

Floats = NDArray[np.float64]

_DRAWING = frozenset({"size", "strokes", "width"})
_STROKE = frozenset({"class", "points", "width", "filled"})


class Stroke(NamedTuple):
    """One line of a drawing."""

    points: Floats  # [n,2], x and y in pixels; the middle of the first pixel is (0.5, 0.5)
    id: int
    width: float  # pixels
    filled: bool = False

    def scaled(self, x: float, y: float) -> "Stroke":
        """Return the stroke in a picture that is `x` times as wide and `y` times as high."""
        width = self.width * float(np.sqrt(x * y))
        return self._replace(points=self.points * (x, y), width=width)


def class_id(value: Any, classes: Classes) -> int:
    """Return the id of a class named by its name, its id or its colour "#rrggbb".

    Raises:
        LabelError: There is no such class, or it is that of unknown pixels.
    """
    colors = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.colors]
    names = [name.lower() for name in classes.names]
    found = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str):
        table = names if value.lower() in names else colors
        found = table.index(value.lower()) if value.lower() in table else None
    if found is None or not 0 < found < classes.num_classes:
        known = ", ".join(
            f"{name} {color}" for name, color in zip(classes.names[1:9], colors[1:9], strict=True)
        )
        more = ", ..." if classes.num_classes > 9 else ""
        raise LabelError(f"no class is {value!r}; the classes are {known}{more}")
    return found


def draw_strokes(strokes: Iterable[Stroke], size: int | tuple[int, int]) -> Ids:
    """Draw strokes into a label map int64 [H,W] of (height, width); the later overwrites.

    A pixel is inked if its middle lies within half a width of the line, at least half a pixel.
    """
    height, width = as_size(size)
    label = np.zeros((height, width), np.int64)
    for stroke in strokes:
        if stroke.filled:
            shape = Image.new("1", (width, height))
            outline = [(x - 0.5, y - 0.5) for x, y in stroke.points.tolist()]
            if len(outline) > 2:
                ImageDraw.Draw(shape).polygon(outline, fill=1)
            label[np.asarray(shape)] = stroke.id
        ends = stroke.points[1:] if len(stroke.points) > 1 else stroke.points
        for start, end in zip(stroke.points, ends, strict=False):
            _ink(label, start, end, max(stroke.width / 2, 0.5), stroke.id)
    return label


def _ink(label: Ids, start: Floats, end: Floats, radius: float, number: int) -> None:
    """Give the pixels of `label` [H,W] within `radius` of a line the id `number`."""
    low = np.floor(np.minimum(start, end) - radius).astype(int).clip(0)
    high = np.ceil(np.maximum(start, end) + radius).astype(int).clip(0)
    part = label[low[1] : high[1], low[0] : high[0]]
    rows, columns = np.indices(part.shape)
    x, y = columns + low[0] + 0.5 - start[0], rows + low[1] + 0.5 - start[1]
    along = end - start
    share = ((x * along[0] + y * along[1]) / max(float(along @ along), 1e-12)).clip(0, 1)
    distance = np.hypot(x - share * along[0], y - share * along[1])
    part[distance <= radius] = number


def read_strokes(path: Path, classes: Classes) -> tuple[list[Stroke], tuple[int, int]]:
    """Read a drawing in the JSON form: its strokes, and (height, width) of its "size".

    Raises:
        DataError: The file cannot be read or is no drawing; says which stroke is wrong.
        LabelError: A stroke has no class of `classes`.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("strokes"), list):
        raise DataError(f'{path}: a drawing is {{"size": [width, height], "strokes": [...]}}')
    _known(path, "the drawing", value, _DRAWING)
    size = value.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_number(x) for x in size):
        raise DataError(f'{path}: "size" is {size!r}; it is [width, height]')
    width, height = (max(round(side), 1) for side in size)
    strokes = []
    for number, entry in enumerate(value["strokes"], 1):
        try:
            strokes.append(_stroke(entry, value.get("width"), classes))
        except LabelError as error:
            raise LabelError(f"{path}: stroke {number}: {error}") from error
        except DataError as error:
            raise DataError(f"{path}: stroke {number}: {error}") from error
    return strokes, (height, width)


def _stroke(entry: Any, width: Any, classes: Classes) -> Stroke:
    if not isinstance(entry, dict):
        raise DataError('is not {"class": ..., "width": ..., "points": [[x, y], ...]}')
    _known(None, "it", entry, _STROKE)
    filled, points = entry.get("filled", False), entry.get("points")
    width = entry.get("width", 1 if width is None and filled else width)
    if not _is_number(width) or width < 0:
        raise DataError(f'"width" is {width!r}; give a number of pixels, to each stroke or to all')
    try:
        places = np.array(points, np.float64)
    except (TypeError, ValueError):
        places = np.zeros(0)
    if places.ndim != 2 or places.shape[1] != 2 or not np.isfinite(places).all():
        raise DataError('"points" is not [[x, y], ...]')
    return Stroke(places, class_id(entry.get("class"), classes), float(width), bool(filled))


def _known(path: Path | None, what: str, value: dict[str, Any], keys: frozenset[str]) -> None:
    unknown = sorted(set(value) - keys)
    if unknown:
        where = f"{path}: " if path else ""
        raise DataError(f"{where}{what} has the key '{unknown[0]}'; known are {sorted(keys)}")


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
    )
