"""The 68 landmarks of faces in photographs by dlib (Kazemi & Sullivan 2014), and their errors.

    python -m tools.landmarks compare FOLDER --sheet overlays.png

compares what dlib finds in a rendered folder (`fewshot-smis faces render FOLDER`) with the exact
points of its landmarks.json.
"""

import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from fewshot_smis.data import sheets
from fewshot_smis.data.files import read_json
from fewshot_smis.data.images import UInt8, list_images, read_image, write_image
from stylegan.errors import BackendError, DataError, FewshotError, ShapeError

Points = NDArray[np.float64]  # [68,2], x and y in pixels; the first pixel's centre is (0.5, 0.5)

REGIONS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
"""Where the parts of the face stand among the 68 points of the 300-W scheme."""

OUTER_EYES = (36, 45)  # the corners whose distance is the unit of landmark errors

_INSTALL = "pip install 'fewshot-smis[faces]'"
_PREDICTOR = "shape_predictor_68_face_landmarks.dat"
_FOUND, _EXACT = (255, 60, 60), (60, 255, 90)


def packaged_predictor() -> Path:
    """Return dlib's 68-point predictor inside the package face_recognition_models.

    Raises:
        BackendError: The package is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")  # importing it needs pkg_resources
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "models" / _PREDICTOR
        if path.is_file():
            return path
    raise BackendError(
        f"{_PREDICTOR} is missing: install the package that holds it ({_INSTALL}), "
        "or give the file by --predictor"
    )


@cache
def _dlib(predictor: Path) -> tuple[Any, Any]:
    """Return dlib's detector of faces and its predictor of their points."""
    try:
        import dlib
    except ImportError as error:
        raise BackendError(f"dlib, which finds landmarks, is not installed: {_INSTALL}") from error
    try:
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor))
    except RuntimeError as error:
        raise DataError(
            f"{predictor}: not a predictor of dlib ({error}); {_PREDICTOR} is one"
        ) from error


def detect(image: UInt8, predictor: Path | str | None = None, *, upsample: int = 1) -> list[Points]:
    """Find the faces of a picture: 68 points each, the surest face first.

    Args:
        image: uint8 [H,W,3], RGB.
        predictor: dlib's 68-point predictor; by default the packaged one.
        upsample: How often the picture is doubled for the search; without, faces below some
            80 px are missed.

    Returns:
        Points [68,2] of each face, in pixels of `image`; an empty list where there is no face.

    Raises:
        BackendError: dlib or the packaged predictor is not installed.
        DataError: `predictor` is not one.
        ShapeError: `image` is not uint8 [H,W,3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"faces are sought in uint8 [H,W,3], not {image.dtype} {image.shape}")
    path = packaged_predictor() if predictor is None else Path(predictor)
    find, predict = _dlib(path)
    image = np.ascontiguousarray(image)
    boxes, _, _ = find.run(image, upsample)  # sorted by confidence
    shapes = [predict(image, box).parts() for box in boxes]
    return [np.array([(p.x + 0.5, p.y + 0.5) for p in shape]) for shape in shapes]


def landmark_errors(found: Points, exact: Points) -> NDArray[np.float64]:
    """Return the distance of each point [68], as a share of the distance of the outer eye corners.

    Both are [68,2]; the unit is that of `exact`.

    >>> exact = np.zeros((68, 2))
    >>> exact[45] = 30, 40
    >>> landmark_errors(exact + (0, 5), exact)[:2]
    array([0.1, 0.1])

    Raises:
        ShapeError: One of them is not [68,2].
        DataError: The outer eye corners of `exact` coincide.
    """
    for points in (found, exact):
        if points.shape != (68, 2):
            raise ShapeError(f"landmarks are [68, 2], not {list(points.shape)}")
    right, left = (exact[i] for i in OUTER_EYES)
    unit = float(np.hypot(*(left - right)))
    if unit == 0:
        raise DataError("both outer eye corners stand at one place, so nothing can be measured")
    return np.hypot(*(found - exact).T) / unit


class Match(NamedTuple):
    """A picture, its exact points, and those found for it; None where no face was found."""

    name: str
    image: UInt8
    exact: Points
    found: Points | None


def match_folder(folder: Path, predictor: Path | None = None) -> Iterator[Match]:
    """Detect in each picture of a rendered folder; of several faces, the nearest to the exact one.

    Raises:
        DataError: The folder holds no pictures, or no landmarks.json that names them all.
    """
    exact = read_json(folder / "landmarks.json")
    for path in list_images(folder):
        if path.stem not in exact:
            raise DataError(f"{folder}/landmarks.json: names no '{path.stem}'; render it again")
        image, points = read_image(path), np.array(exact[path.stem])
        faces = detect(image, predictor)
        found = min(faces, key=lambda face: float(np.abs(face - points).sum()), default=None)
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
    offset = np.mean(shifts, axis=0)
    facts["mean_percent"] = round(float(errors.mean()), 2)
    facts["median_percent"] = round(float(np.median(errors.mean(axis=1))), 2)
    for name, part in REGIONS.items():
        facts[f"{name}_percent"] = round(float(errors[:, part].mean()), 2)
    facts["offset_percent"] = {
        name: offset[part].mean(axis=0).round(2).tolist() for name, part in REGIONS.items()
    }
    return facts


def overlay_points(match: Match, cell: int = 512) -> UInt8:
    """Return the picture, at least `cell` px, with exact points in green and found ones in red."""
    canvas = Image.fromarray(sheets.magnify(match.image, cell))
    draw = ImageDraw.Draw(canvas)
    scale = canvas.height / match.image.shape[0]
    for points, color in ((match.exact, _EXACT), (match.found, _FOUND)):
        for x, y in () if points is None else points * scale:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    return np.array(canvas)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Find the 68 landmarks of faces, and judge them."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--predictor", type=click.Path(path_type=Path), help="dlib's 68-point .dat file.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Picture of overlays to write.")
@click.option("--columns", default=5, show_default=True, help="Faces a row of the sheet.")
def compare(folder: Path, predictor: Path | None, sheet: Path | None, columns: int) -> None:
    """Compare detected points with the exact ones of a rendered FOLDER."""
    try:
        matches = list(tqdm(match_folder(folder, predictor), desc="faces"))
        if sheet is not None:
            cells = [overlay_points(match) for match in matches]
            rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
            first = [match.name for match in matches[::columns]]
            write_image(sheet, sheets.grid(rows, row_titles=first, cell=256))
        for name, value in summarize(matches).items():
            click.echo(f"{name}: {value}")
    except FewshotError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
