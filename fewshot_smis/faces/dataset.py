"""Many portraits: lazily by number, or as an image folder on disk."""

import multiprocessing
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fewshot_smis.data import Classes
from fewshot_smis.data.files import atomic_write, write_error, write_json
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.portrait import Portrait, render_face
from stylegan.errors import ConfigError, DataError
from stylegan.memory import keep_freed_memory

_JOBS_PER_TASK = 8


class FaceDataset:
    """The portraits 0 .. count-1 of a seed, rendered each time they are asked for."""

    def __init__(self, seed: int, count: int, size: int = 128) -> None:
        """Describe the data set; nothing is rendered yet. Raise ConfigError if `count` < 0."""
        if count < 0:
            raise ConfigError(f"a data set of {count} faces: use a count of 0 or more")
        self.seed = seed
        self.count = count
        self.size = size

    def __len__(self) -> int:
        """Return the number of portraits."""
        return self.count

    def __getitem__(self, index: int) -> Portrait:
        """Render portrait `index`; negative numbers count from the end."""
        if not -self.count <= index < self.count:
            raise IndexError(f"portrait {index} of {self.count}")
        return render_face(self.seed, index % self.count, self.size)

    def __iter__(self) -> Iterator[Portrait]:
        """Render one portrait after the other."""
        return (self[index] for index in range(self.count))


class _Record(NamedTuple):
    """What is kept of a portrait besides its pictures."""

    name: str
    landmarks: list[list[float]]
    attributes: dict[str, float | str | bool]


def _indexed(label: Array, classes: Classes) -> Image.Image:
    """Return `label` [H,W] ids as a picture with the colours of `classes`."""
    image = Image.fromarray(label.astype(np.uint8))
    image.putpalette([value for color in classes.colors for value in color])
    return image


def write_label(path: Path, label: Array, classes: Classes) -> None:
    """Write `label` [H,W] ids as an indexed PNG with the colours of `classes`.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_write(path) as file:
        _indexed(label, classes).save(file, format="PNG", optimize=True)


def write_portrait(folder: Path, name: str, portrait: Portrait) -> None:
    """Write picture and label map of `portrait` to `folder`/images and /labels as `name`.png.

    The files are not written one by one in one piece: `folder` is one of `fresh_folder`.

    Raises:
        OSError: a file cannot be written.
    """
    picture, file = Image.fromarray(portrait.img), f"{name}.png"
    # There are no repetitions in grain, for which zlib would search most of the time.
    picture.save(folder / "images" / file, compress_level=1, compress_type=zlib.Z_RLE)
    _indexed(portrait.label, Classes.CELEBAMASK).save(folder / "labels" / file)


def _render_to_disk(index: int, *, folder: Path, seed: int, size: int) -> _Record:
    portrait = render_face(seed, index, size)
    name = f"{index:06d}"
    write_portrait(folder, name, portrait)
    marks = np.round(portrait.landmarks.astype(np.float64), 2).tolist()
    numbers = {
        k: round(v, 4) if isinstance(v, float) else v for k, v in portrait.attributes.items()
    }
    return _Record(name, marks, numbers)


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill that becomes `out` when the body ends well, else vanishes.

    Raises:
        DataError: `out` exists or cannot be written.
    """
    if out.exists():
        raise DataError(f"{out}: exists already; remove it or choose another folder")
    part = out.with_name(out.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        part.replace(out)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _render_all(render: Callable[[int], _Record], count: int, workers: int) -> Iterator[_Record]:
    """Yield the records 0 .. count-1 in order."""
    if workers == 1:
        yield from map(render, range(count))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=keep_freed_memory) as pool:
        yield from pool.map(render, range(count), chunksize=_JOBS_PER_TASK)


def render_folder(
    out: Path | str,
    count: int,
    size: int = 128,
    seed: int = 0,
    *,
    workers: int = 1,
    on_progress: Callable[[int], object] | None = None,
) -> None:
    """Render `count` portraits into a new image folder.

    It holds images/000000.png ..., labels/000000.png ... (indexed, CelebAMask-HQ ids),
    classes.json, landmarks.json (68 points x, y in pixels a name) and attributes.json. The files
    depend on `seed`, `count` and `size` only, not on the number of workers. The folder appears
    under its name when it is complete.

    Args:
        out: the folder to make.
        count: number of portraits, 1 or more.
        size: height and width in pixels.
        seed: see `render_face`.
        workers: processes; more than one are spawned, so the calling script needs a main guard.
        on_progress: called with 1 after each portrait, for example `tqdm(total=count).update`.

    Raises:
        ConfigError: a number out of range.
        DataError: `out` exists or cannot be written.
        BackendError: numba is not installed.
    """
    if count < 1 or workers < 1:
        raise ConfigError(f"count {count}, workers {workers}: both must be 1 or more")
    with fresh_folder(Path(out)) as folder:
        (folder / "images").mkdir()
        (folder / "labels").mkdir()
        Classes.CELEBAMASK.save(folder / "classes.json")
        landmarks, attributes = {}, {}
        render = partial(_render_to_disk, folder=folder, seed=seed, size=size)
        for record in _render_all(render, count, workers):
            landmarks[record.name] = record.landmarks
            attributes[record.name] = record.attributes
            if on_progress is not None:
                on_progress(1)
        write_json(folder / "landmarks.json", landmarks)
        write_json(folder / "attributes.json", attributes)
