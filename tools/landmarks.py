"""Landmark label maps of photographs, and how good detectors are.

    python -m tools.landmarks label PHOTOS --out pairs
    python -m tools.landmarks compare FOLDER --sheet overlays.png

`label` makes a folder of pairs out of photographs. `compare` detects in the pictures of a folder
with a landmarks.json (`fewshot-smis faces render FOLDER`) or with landmark maps in labels/.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from fewshot_smis.data import sheets
from fewshot_smis.data.files import write_json
from fewshot_smis.data.images import UInt8, read_image, write_image
from stylegan.errors import DataError
from tools.commands import FILE, ToolGroup, detector_options, keep_photo, list_photos
from tools.detectors import Finder, Points, open_detector
from tools.landmark_errors import describe, match_folder, overlay_points, summarize
from tools.landmark_maps import draw_points, remarks, scheme_classes, with_pupils


def largest_face(faces: list[Points]) -> Points:
    """Return the face [68,2] that spans the largest box."""
    return max(faces, key=lambda points: float(np.prod(np.ptp(points, axis=0))))


def label_photo(image: UInt8, finder: Finder, count: int) -> tuple[Points | None, list[str]]:
    """Return the `count` landmarks of the largest face of a photograph, and what is odd about it.

    The points are None where there is no face.
    """
    faces = finder(image)
    if not faces:
        return None, ["no face found; it may be in profile, hidden, or too small; left out"]
    points = largest_face(faces)
    notes = remarks(points, image.shape[:2])
    if len(faces) > 1:
        notes.insert(0, f"{len(faces)} faces; the largest is labelled (`align cut` parts them)")
    return (with_pupils(points) if count == 70 else points), notes


@click.group(cls=ToolGroup)
def main() -> None:
    """Find the landmarks of faces, draw them as label maps, and judge them."""


@main.command()
@click.argument("photos", nargs=-1, required=True, type=FILE)
@click.option("--out", required=True, type=FILE, help="Folder of pairs to write.")
@click.option(
    "--points",
    "count",
    type=click.Choice(["68", "70"]),
    default="68",
    show_default=True,
    help="The 68 points of the 300-W scheme, or with the pupils 70, as in CelebALandmark-HQ.",
)
@detector_options
def label(photos: tuple[Path, ...], out: Path, count: str, **detector: Any) -> None:
    """Label PHOTOS (files or folders) with their landmarks: OUT becomes a folder of pairs.

    Writes images/, labels/, classes.json, landmarks.json and overlays.png, and says of each
    photograph with no face, several, or one that is turned away what was done.
    """
    finder = open_detector(**detector)
    found: dict[str, Points] = {}
    cells = []
    paths = list_photos(photos)
    for name, path in tqdm(paths.items(), desc="photographs", leave=False):
        image = read_image(path)
        points, notes = label_photo(image, finder, int(count))
        for note in notes:
            click.echo(f"{path}: {note}")
        if points is None:
            continue
        found[name] = points
        keep_photo(path, out / "images")
        (out / "labels").mkdir(parents=True, exist_ok=True)
        ids = draw_points(points, image.shape[:2]).astype(np.uint8)
        write_image(out / "labels" / f"{name}.png", ids)
        cells.append(sheets.fit_cell(overlay_points(image, None, points), 256))
    if not found:
        raise DataError("no face in any of the photographs; nothing was written")
    scheme_classes(int(count)).save(out / "classes.json")
    write_json(out / "landmarks.json", {name: points.tolist() for name, points in found.items()})
    _write_sheet(out / "overlays.png", cells, list(found), columns=4)
    click.echo(f"{len(found)} of {len(paths)} photographs are labelled: {out}")


@main.command()
@click.argument("folder", type=FILE)
@detector_options
@click.option("--sheet", type=FILE, help="Picture of overlays to write.")
@click.option("--columns", default=5, show_default=True, help="Faces a row of the sheet.")
@click.option("--each", is_flag=True, help="Print a line for each picture.")
def compare(folder: Path, sheet: Path | None, columns: int, each: bool, **detector: Any) -> None:
    """Compare detected points with those that FOLDER states.

    Errors are in percent of the distance of the outer eye corners.
    """
    finder = open_detector(**detector)
    matches = list(tqdm(match_folder(folder, finder), desc="faces", leave=False))
    if sheet is not None:
        cells = [overlay_points(match.image, match.exact, match.found) for match in matches]
        _write_sheet(sheet, cells, [match.name for match in matches], columns)
    if each:
        for match in matches:
            click.echo(f"{match.name}: {describe(match)}")
    for name, value in summarize(matches).items():
        click.echo(f"{name}: {value}")


def _write_sheet(path: Path, cells: list[UInt8], names: list[str], columns: int) -> None:
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    write_image(path, sheets.grid(rows, row_titles=names[::columns], cell=256))


if __name__ == "__main__":
    main()
