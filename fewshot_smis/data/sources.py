"""Open what a prior is trained on by what it is given: a folder, an archive, or faces to draw."""

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from torch import Tensor

from fewshot_smis.data.archive import INDEX, LabelledPictures
from fewshot_smis.data.attributes import as_conditions
from fewshot_smis.data.collection import ImageCollection, PictureSource, fit_picture
from fewshot_smis.data.images import as_size
from stylegan.errors import ConfigError

FACES = "faces:"


class RenderedFaces(PictureSource):
    """Synthetic faces 0 .. count-1 of a seed, rendered when they are first asked for.

    Args:
        seed: See `fewshot_smis.faces.render_face`.
        count: Number of faces.
        size: (H, W) in pixels, or the side of a square; a face fills the longer side.
        workers: Processes that render; more than one are spawned, so that the calling script
            needs a main guard. The pictures do not depend on it.
        flips: See PictureSource.
        cache: Folder of a file that keeps the pictures; None keeps them in memory.
        attributes: What to condition on; see `as_conditions`.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        size: int | tuple[int, int],
        *,
        workers: int = 1,
        flips: bool = False,
        cache: Path | None = None,
        attributes: Sequence[str] = (),
    ) -> None:
        if count < 1 or workers < 1:
            raise ConfigError(f"count={count}, workers={workers}: both must be 1 or more")
        size = as_size(size)
        self.seed, self.workers = seed, workers
        self._pool: ProcessPoolExecutor | None = None
        name = f"faces-seed{seed}-count{count}-{size[0]}x{size[1]}.npy"
        super().__init__(
            count,
            size,
            conditions=face_conditions(seed, count, attributes) if attributes else None,
            flips=flips,
            cache=None if cache is None else cache / name,
        )

    def read(self, index: int) -> Tensor:
        """Render face `index`."""
        return render(index, seed=self.seed, size=self.size)

    def read_all(self, indices: Sequence[int]) -> Iterable[Tensor]:
        """Render those faces, by several processes if there are more than one."""
        if self.workers == 1 or len(indices) < 2:
            return super().read_all(indices)
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=spawn)
        return self._pool.map(partial(render, seed=self.seed, size=self.size), indices)


def render(index: int, *, seed: int, size: tuple[int, int]) -> Tensor:
    """Render face `index` of `seed` as uint8 [3, *size]."""
    from fewshot_smis.faces import render_face

    return fit_picture(render_face(seed, index, max(size)).img, size)


def face_conditions(seed: int, count: int, names: Sequence[str]) -> Tensor:
    """Return which of `names` hold of each face [count, K], from what it would be drawn from.

    Raises:
        ConfigError: A name holds of no face or of all.
    """
    from fewshot_smis.faces import face_attributes

    known = [face_attributes(seed, index) for index in range(count)]
    return as_conditions(known, names, f"{FACES}seed={seed},count={count}")


def open_source(
    what: Path | str,
    size: int | tuple[int, int],
    *,
    flips: bool = False,
    labels: bool = True,
    attributes: Sequence[str] = (),
) -> PictureSource:
    """Open pictures to train on.

    Args:
        what: A folder of pictures; NVIDIA's .zip, or a folder with a `dataset.json`; or
            "faces:seed=0,count=20000", with "workers=2" and "cache=FOLDER" if wished.
        size: (H, W) in pixels, or the side of a square.
        flips: Whether mirrored pictures are added.
        labels: Whether labels are used where there are some.
        attributes: What the pictures are conditioned on instead of labels; see `as_conditions`.

    Raises:
        DataError: The pictures are missing, or their labels or attributes are.
        ConfigError: The faces are not described as above, or attributes are asked of a .zip, or
            one holds of no picture or of all.
    """
    if str(what).startswith(FACES):
        return open_faces(str(what), size, flips=flips, attributes=attributes)
    path = Path(what)
    if attributes:
        if path.is_file():
            raise ConfigError(
                f"{path}: attributes stand in the attributes.json of a folder of pictures; unpack "
                "it and add one"
            )
        return ImageCollection(path, size, flips=flips, attributes=attributes)
    if path.suffix.lower() == ".zip" or (path / INDEX).is_file():
        return LabelledPictures(path, size, labels=labels, flips=flips)
    return ImageCollection(path, size, flips=flips)


def open_faces(
    spec: str,
    size: int | tuple[int, int],
    *,
    flips: bool = False,
    attributes: Sequence[str] = (),
) -> RenderedFaces:
    """Open the faces that "faces:seed=0,count=20000,workers=1,cache=FOLDER" describes."""
    fields = dict(part.partition("=")[::2] for part in spec.removeprefix(FACES).split(",") if part)
    unknown = fields.keys() - {"seed", "count", "workers", "cache"}
    if unknown:
        raise ConfigError(
            f"{spec}: unknown '{min(unknown)}'; faces take seed, count, workers and cache"
        )
    try:
        seed, count = int(fields.get("seed", "0")), int(fields.get("count", "20000"))
        workers = int(fields.get("workers", "1"))
    except ValueError as error:
        raise ConfigError(f"{spec}: seed, count and workers are whole numbers") from error
    cache = Path(fields["cache"]) if fields.get("cache") else None
    return RenderedFaces(
        seed, count, size, workers=workers, flips=flips, cache=cache, attributes=attributes
    )
