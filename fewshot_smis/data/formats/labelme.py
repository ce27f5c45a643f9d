"""labelme: a .json beside each picture, of polygons, boxes, circles, masks, lines and points."""

import base64
import binascii
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.files import read_json, write_bytes, write_json
from fewshot_smis.data.formats.base import LabelSet, Request, Shot, find_files, new_folder
from fewshot_smis.data.images import open_image, read_image, write_image
from fewshot_smis.data.labels import Ids
from stylegan.errors import DataError, LabelError

AREAS = ("polygon", "rectangle", "circle", "mask")
MARKS = ("line", "linestrip", "point", "points")

BACKGROUND = ("_background_", "background")
IGNORED = ("__ignore__", "_ignore_", "ignore")

Point = tuple[float, float]


def read(request: Request) -> LabelSet:
    """Read the .json files below the source.

    With areas the maps are dense, "background" where there is none, and later shapes lie over
    earlier ones. With lines and points alone they are sparse. Classes are the labels, sorted;
    the label __ignore__ is unknown ground. Lines and points are `request.stroke` of the shorter
    side wide. The picture is the file that the .json names, or the one inside it.

    Raises:
        DataError: There are no files, or one is no drawing of labelme.
        LabelError: A shape is of an unknown kind, or too few labels occur.
    """
    files = [
        path
        for path in find_files(request.source, "*.json", "labelme's .json files")
        if path.name != "classes.json"
    ]
    labels: set[str] = set()
    areas = False
    for path in files:
        shapes = _shapes(path, read_json(path))
        labels |= {shape["label"] for shape in shapes}
        areas |= any(_kind(shape) in AREAS for shape in shapes)
    named = sorted(labels - {*BACKGROUND, *IGNORED})
    if not named:
        raise LabelError(f"{request.source}: no shape has a label; name them in labelme")
    classes = Classes(("background" if areas else "unknown", *named), sparse=not areas)

    def shots() -> Iterator[Shot]:
        for path in files:
            drawing = read_json(path)
            label = draw_shapes(path, drawing, classes, stroke=request.stroke)
            yield Shot(path.stem, label, _picture(path, drawing, request.images))

    return LabelSet(classes, shots())


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")


def _shapes(path: Path, drawing: Any) -> list[dict[str, Any]]:
    """Return the shapes of a drawing, checked."""
    shapes = drawing.get("shapes") if isinstance(drawing, dict) else None
    if not isinstance(shapes, list):
        raise DataError(f'{path}: no drawing of labelme, it has no "shapes"; export it again')
    for number, shape in enumerate(shapes):
        try:
            good = isinstance(shape["label"], str) and bool(_points(shape))
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise DataError(f"{path}: shape {number} lacks a label or points; draw it again")
        if _kind(shape) not in (*AREAS, *MARKS):
            kinds = ", ".join((*AREAS, *MARKS))
            raise LabelError(f"{path}: shape {number} is a '{_kind(shape)}'; it may be {kinds}")
    return shapes


def _points(shape: dict[str, Any]) -> list[Point]:
    return [(float(x), float(y)) for x, y in shape["points"]]


def _size(path: Path, drawing: dict[str, Any]) -> tuple[int, int]:
    """Return (width, height)."""
    width, height = drawing.get("imageWidth"), drawing.get("imageHeight")
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        return width, height
    image = _picture(path, drawing, None)
    if image is None:
        raise DataError(
            f"{path}: has no imageWidth and imageHeight, and its picture is missing; "
            "put the picture beside it"
        )
    return open_image(image).size if isinstance(image, Path) else (image.shape[1], image.shape[0])


def draw_shapes(path: Path, drawing: dict[str, Any], classes: Classes, *, stroke: float) -> Ids:
    """Draw the shapes of a drawing as ids [H,W], hard-edged, the later over the earlier.

    Args:
        path: What to name in errors.
        drawing: What labelme stores.
        classes: Their names are the labels.
        stroke: Width of lines and points, as part of the picture's shorter side.

    Raises:
        DataError: The drawing is damaged.
        LabelError: A shape is of an unknown kind.
    """
    width, height = _size(path, drawing)
    canvas = Image.new("L", (width, height), 0)
    pen = max(stroke * min(width, height), 1.0)
    for shape in _shapes(path, drawing):
        label = shape["label"]
        ink = 0 if label in BACKGROUND else IGNORE
        if label in classes.names:
            ink = classes.names.index(label)
        _draw(canvas, path, shape, ink=ink, pen=pen)
    return np.asarray(canvas).astype(np.int64)


def _draw(canvas: Image.Image, path: Path, shape: dict[str, Any], *, ink: int, pen: float) -> None:
    kind, points, draw = _kind(shape), _points(shape), ImageDraw.Draw(canvas)
    if kind == "mask":
        corner = (round(points[0][0]), round(points[0][1]))
        canvas.paste(ink, corner, _decode_mask(path, shape))
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=ink)
    elif kind == "circle" and len(points) == 2:
        radius = float(np.hypot(points[1][0] - points[0][0], points[1][1] - points[0][1]))
        _disc(draw, points[0], radius, ink)
    elif kind in ("polygon", "rectangle") and len(points) > 2:
        draw.polygon(points, fill=ink)
    elif kind in MARKS:
        if kind in ("line", "linestrip") and len(points) > 1:
            draw.line(points, fill=ink, width=round(pen), joint="curve")
        for point in points:
            _disc(draw, point, pen / 2, ink)
    else:
        raise LabelError(f"{path}: a {kind} of {len(points)} points; draw '{shape['label']}' again")


def _disc(draw: ImageDraw.ImageDraw, centre: Point, radius: float, ink: int) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _decode(path: Path, text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: its {what} is damaged ({error}); export the file again"
        ) from error


def _decode_mask(path: Path, shape: dict[str, Any]) -> Image.Image:
    """Return where a shape of kind mask lies, mode L of 0 and 255."""
    inside = np.asarray(open_image(path, _decode(path, shape.get("mask"), "mask")).convert("L")) > 0
    return Image.fromarray(inside.astype(np.uint8) * 255)


def _picture(path: Path, drawing: dict[str, Any], images: Path | None) -> Any:
    """Return the picture's file, or its pixels from inside the drawing, or None."""
    name = str(drawing.get("imagePath") or "").replace("\\", "/")
    folders = [path.parent] if images is None else [images, path.parent]
    for place in [folder / part for folder in folders for part in (Path(name).name, name) if part]:
        if place.is_file():
            return place
    if drawing.get("imageData"):
        return read_image(path, _decode(path, drawing["imageData"], "imageData"))
    return None


def write(folder: Path, data: LabelSet) -> int:
    """Write a .json with a mask for each class, and the pictures beside; return how many.

    Unknown pixels are masks of __ignore__ in dense maps; nothing is drawn for class 0 or, in
    sparse maps, unknown pixels.
    """
    new_folder(folder)
    count = 0
    for shot in data.shots:
        height, width = shot.label.shape
        names = {i: name for i, name in enumerate(data.classes.names) if i} | {IGNORE: IGNORED[0]}
        shapes = [
            _mask_shape(name, shot.label == i) for i, name in names.items() if i in shot.label
        ]
        drawing = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": _copy_picture(folder, shot),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_json(folder / f"{shot.name}.json", drawing)
        count += 1
    return count


def _mask_shape(name: str, region: Any) -> dict[str, Any]:
    rows, columns = np.nonzero(region)
    top, left, bottom, right = (
        int(v) for v in (rows.min(), columns.min(), rows.max(), columns.max())
    )
    content = io.BytesIO()
    Image.fromarray(region[top : bottom + 1, left : right + 1]).save(content, format="PNG")
    return {
        "label": name,
        "points": [[left, top], [right, bottom]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(content.getvalue()).decode(),
    }


def _copy_picture(folder: Path, shot: Shot) -> str:
    if shot.image is None:
        return f"{shot.name}.png"
    if isinstance(shot.image, Path):
        name = f"{shot.name}{shot.image.suffix.lower()}"
        write_bytes(folder / name, shot.image.read_bytes())
        return name
    write_image(folder / f"{shot.name}.png", shot.image)
    return f"{shot.name}.png"
