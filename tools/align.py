"""Faces cut out of photographs as FFHQ does, and put back.

    python -m tools.align cut PHOTOS --out faces --size 256
    python -m tools.align paste photo.jpg edited.png --frame faces/frames.json --out new.png

`cut` writes a picture a face, and in frames.json where each was; `paste` undoes it.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from fewshot_smis.data.alignment import align_face, paste_back, read_frame
from fewshot_smis.data.files import read_json, write_json
from fewshot_smis.data.images import read_image, write_image
from stylegan.errors import DataError
from tools.commands import FILE, ToolGroup, detector_options, list_photos
from tools.detectors import Points, open_detector
from tools.landmark_maps import remarks


def name_faces(name: str, faces: list[Points]) -> dict[str, Points]:
    """Name the faces of a photograph, left to right: NAME if there is one, else NAME-1, NAME-2."""
    if len(faces) < 2:
        return dict.fromkeys([name][: len(faces)], faces[0]) if faces else {}
    ordered = sorted(faces, key=lambda points: float(points[:, 0].mean()))
    return {f"{name}-{number}": points for number, points in enumerate(ordered, 1)}


@click.group(cls=ToolGroup)
def main() -> None:
    """Cut faces out of photographs, upright and of one size, and put them back."""


@main.command()
@click.argument("photos", nargs=-1, required=True, type=FILE)
@click.option("--out", required=True, type=FILE, help="Folder to write.")
@click.option(
    "--size", type=click.IntRange(16, 4096), default=256, show_default=True, help="Side in pixels."
)
@detector_options
def cut(photos: tuple[Path, ...], out: Path, size: int, **detector: Any) -> None:
    """Cut every face out of PHOTOS (files or folders) into OUT/images, with OUT/frames.json.

    Beyond its borders a photograph is mirrored and blurred.
    """
    finder = open_detector(**detector)
    frames = {}
    for name, path in tqdm(list_photos(photos).items(), desc="photographs", leave=False):
        photo = read_image(path)
        faces = name_faces(name, finder(photo))
        if not faces:
            click.echo(f"{path}: no face found; it may be in profile, hidden, or too small")
        for face, points in faces.items():
            for note in remarks(points, photo.shape[:2]):
                click.echo(f"{path}: {face}: {note}")
            aligned = align_face(photo, points, size)
            (out / "images").mkdir(parents=True, exist_ok=True)
            write_image(out / "images" / f"{face}.png", aligned.img)
            frames[face] = {"photo": str(path), **aligned.frame.to_json()}
    if not frames:
        raise DataError("no face in any of the photographs; nothing was written")
    write_json(out / "frames.json", frames)
    click.echo(f"{len(frames)} faces: {out}")


@main.command()
@click.argument("photo", type=FILE)
@click.argument("face", type=FILE)
@click.option("--frame", required=True, type=FILE, help="The frames.json of `cut`.")
@click.option("--name", help="The face in it; by default the name of FACE.")
@click.option("--mask", type=FILE, help="Grey picture of the face: white is pasted, black kept.")
@click.option(
    "--feather",
    type=click.FloatRange(0, 0.5),
    default=0.1,
    show_default=True,
    help="Share of the side over which the edges fade.",
)
@click.option("--out", required=True, type=FILE, help="Picture to write.")
def paste(
    photo: Path,
    face: Path,
    frame: Path,
    name: str | None,
    mask: Path | None,
    feather: float,
    out: Path,
) -> None:
    """Put an edited FACE, of any size, back into its PHOTO."""
    frames, key = read_json(frame), name or face.stem
    if not isinstance(frames, dict) or key not in frames:
        raise DataError(f"{frame}: names no face '{key}'; name one by --name")
    share = None if mask is None else read_image(mask).mean(-1, dtype=np.float64) / 255
    pasted = paste_back(
        read_image(photo), read_image(face), read_frame(frames[key]), mask=share, feather=feather
    )
    write_image(out, pasted)
    click.echo(f"done: {out}")


if __name__ == "__main__":
    main()
