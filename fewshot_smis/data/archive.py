"""NVIDIA's data sets: a .zip or folder of pictures with a `dataset.json` of their labels.

`dataset.json` holds {"labels": [[name, label], ...]}, names relative to it; a label is a class
number or a vector. `labels` may be null, or the file may be missing: then there are none.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fewshot_smis.data.collection import PictureSource, fit_picture
from fewshot_smis.data.files import atomic_write, read_json
from fewshot_smis.data.images import SUFFIXES, natural_key, read_image
from stylegan.errors import DataError

INDEX = "dataset.json"


class LabelledPictures(PictureSource):
    """The pictures of NVIDIA's .zip or folder, cropped to the centre and resized, with labels.

    Args:
        path: The archive, or the folder that holds `dataset.json`.
        size: (H, W) in pixels, or the side of a square.
        labels: Whether to use the labels where there are some.
        flips: See PictureSource.

    Raises:
        DataError: The archive is missing, damaged or holds no pictures, or a picture has no
            label; names the file.
    """

    def __init__(
        self,
        path: Path,
        size: int | tuple[int, int],
        *,
        labels: bool = True,
        flips: bool = False,
    ) -> None:
        self.path = path
        self.zip = None if path.is_dir() else open_zip(path)
        members = self._members()
        self.names = sorted(
            (name for name in members if Path(name).suffix.lower() in SUFFIXES), key=natural_key
        )
        if not self.names:
            endings = " ".join(sorted(SUFFIXES))
            raise DataError(f"{path}: holds no pictures; put files in it that end in {endings}")
        table = self._index() if labels and INDEX in members else None
        conditions = None if table is None else read_labels(table, self.names, str(path))
        super().__init__(len(self.names), size, conditions=conditions, flips=flips)

    def read(self, index: int) -> Tensor:
        """Read picture `index`, in the natural order of their names."""
        name = self.names[index]
        content = None if self.zip is None else read_member(self.zip, name, self.path)
        return fit_picture(read_image(self.path / name, content), self.size)

    def _members(self) -> list[str]:
        if self.zip is not None:
            return [name for name in self.zip.namelist() if not name.endswith("/")]
        files = (p for p in self.path.rglob("*") if p.is_file())
        return [p.relative_to(self.path).as_posix() for p in files]

    def _index(self) -> Any:
        if self.zip is None:
            value = read_json(self.path / INDEX)
        else:
            try:
                value = json.loads(read_member(self.zip, INDEX, self.path))
            except ValueError as error:
                raise DataError(f"{self.path / INDEX}: not valid JSON ({error})") from error
        if not isinstance(value, dict):
            raise DataError(f'{self.path / INDEX}: expected {{"labels": [[name, label], ...]}}')
        return value.get("labels")


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive for reading.

    Raises:
        DataError: It is missing or no archive.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder; check the path") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a zip archive ({error}); make or copy it again") from error


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Return the bytes of the member `name` of the archive at `path`.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        return archive.read(name)
    except KeyError as error:
        raise DataError(f"{path}: holds no {name}; make or download the archive again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"{path / name}: damaged ({error}); make or download the archive again"
        ) from error


def read_labels(table: Any, names: list[str], where: str) -> Tensor:
    """Return the conditions [N, c_dim] of pictures: classes as one-hot rows, vectors as they are.

    Args:
        table: [[name, label], ...] as in `dataset.json`.
        names: The pictures.
        where: What to name in errors.

    Raises:
        DataError: A picture is not in the table, or the labels are of several kinds.
    """
    try:
        known = {str(name).replace("\\", "/"): label for name, label in table}
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}/{INDEX}: labels are pairs [name, label]") from error
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(
            f"{where}/{INDEX}: no label for {missing[0]} ({len(missing)} in all); add it, or "
            "leave the labels out"
        )
    labels = [known[name] for name in names]
    if all(type(label) is int and label >= 0 for label in labels):
        return F.one_hot(torch.tensor(labels)).float()
    try:
        rows = torch.tensor(labels, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}/{INDEX}: labels of different kinds or lengths") from error
    if rows.ndim != 2:
        raise DataError(f"{where}/{INDEX}: a label is a class number from 0 on, or a vector")
    return rows


def write_dataset(
    path: Path, source: PictureSource, *, on_progress: Callable[[int], object] | None = None
) -> None:
    """Write the pictures of `source`, without mirrored ones, as NVIDIA's .zip, whole.

    Args:
        path: The archive to make.
        source: Conditions that are all one-hot are written as class numbers.
        on_progress: Called with 1 after each picture.

    Raises:
        DataError: A picture cannot be read, or the archive cannot be written.
    """
    conditions = source.labels(torch.arange(source.count))
    classes = source.c_dim > 0 and bool(
        ((conditions == 0) | (conditions == 1)).all() and (conditions.sum(dim=1) == 1).all()
    )
    values = conditions.argmax(dim=1).tolist() if classes else conditions.tolist()
    table = []
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for i in range(source.count):
            name = f"{i // 1000:05d}/img{i:08d}.png"
            picture = source.batch(torch.tensor([i]))[0].permute(1, 2, 0).numpy()
            content = io.BytesIO()
            Image.fromarray(picture).save(content, format="PNG")
            archive.writestr(name, content.getvalue())
            table.append([name, values[i]] if source.c_dim else None)
            if on_progress is not None:
                on_progress(1)
        labels = {"labels": table if source.c_dim else None}
        archive.writestr(INDEX, json.dumps(labels))
