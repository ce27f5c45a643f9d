"""NVIDIA's archives: images.zip, as its trainings take it, and labels.zip with maps of ids."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from fewshot_smis.data.archive import INDEX, open_zip, read_member
from fewshot_smis.data.classes import Classes, parse_classes
from fewshot_smis.data.files import atomic_write
from fewshot_smis.data.formats.base import LabelSet, Request, Shot, new_folder
from fewshot_smis.data.images import SUFFIXES, UInt8, natural_key, read_image
from fewshot_smis.data.labels import infer_classes, read_label
from stylegan.errors import DataError, LabelError

CLASSES = "classes.json"


def read(request: Request) -> LabelSet:
    """Read labels.zip and the pictures of the same member names in images.zip.

    The source is the folder of both, or the archive of maps, and `request.images` then the one of
    pictures. Classes are those of a classes.json in the archive of maps, or generic.

    Raises:
        DataError: An archive is missing, damaged or empty.
        LabelError: A map holds colours.
    """
    source, pictures = request.source, request.images
    if source.is_dir():
        pictures = pictures or source / "images.zip"
        source = source / "labels.zip"
        pictures = pictures if pictures.exists() or request.images else None
    maps = open_zip(source)
    photos = None if pictures is None else open_zip(pictures)
    members = [n for n in maps.namelist() if PurePosixPath(n).suffix.lower() in SUFFIXES]
    if not members:
        raise DataError(f"{source}: holds no label maps; make it of PNG files")
    members.sort(key=natural_key)
    classes = _classes(maps, source, members)

    def shots() -> Iterator[Shot]:
        for name in members:
            label = read_label(source / name, classes, read_member(maps, name, source))
            yield Shot(PurePosixPath(name).stem, label, _photo(photos, pictures, name))

    return LabelSet(classes, shots())


def _photo(photos: zipfile.ZipFile | None, path: Path | None, name: str) -> UInt8 | None:
    if photos is None or path is None:
        return None
    known = {str(PurePosixPath(n).with_suffix("")): n for n in photos.namelist()}
    member = known.get(str(PurePosixPath(name).with_suffix("")), name)
    return read_image(path / member, read_member(photos, member, path))


def _classes(maps: zipfile.ZipFile, path: Path, members: list[str]) -> Classes:
    if CLASSES in maps.namelist():
        try:
            return parse_classes(json.loads(read_member(maps, CLASSES, path)))
        except (ValueError, LabelError) as error:
            raise LabelError(f"{path / CLASSES}: {error}") from error
    contents = ((path / name, read_member(maps, name, path)) for name in members)
    return infer_classes(read_label(place, None, content) for place, content in contents)


def _png(array: UInt8) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="PNG")
    return content.getvalue()


def write(folder: Path, data: LabelSet) -> int:
    """Write labels.zip, with classes.json, and images.zip, with dataset.json; return how many.

    Raises:
        DataError: A map has no picture, or the archives cannot be written.
    """
    new_folder(folder)
    count = 0
    with (
        atomic_write(folder / "labels.zip") as labels,
        atomic_write(folder / "images.zip") as images,
        zipfile.ZipFile(labels, "w") as maps,
        zipfile.ZipFile(images, "w") as photos,
    ):
        for shot in data.shots:
            if shot.image is None:
                raise DataError(f"{shot.name}: a map without a picture; add it to images/")
            picture = read_image(shot.image) if isinstance(shot.image, Path) else shot.image
            maps.writestr(f"{shot.name}.png", _png(shot.label.astype(np.uint8)))
            photos.writestr(f"{shot.name}.png", _png(picture))
            count += 1
        maps.writestr(CLASSES, json.dumps(data.classes.to_json()))
        photos.writestr(INDEX, json.dumps({"labels": None}))
    return count
