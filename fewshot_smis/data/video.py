"""Write films: .gif and .webp by pillow, .mp4 by ffmpeg."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from fewshot_smis.data.files import atomic_write, write_bytes
from fewshot_smis.data.images import UInt8
from stylegan.errors import BackendError, DataError

FILM_SUFFIXES = (".mp4", ".webp", ".gif")

_PILLOW: dict[str, dict[str, Any]] = {
    ".gif": {"format": "GIF"},
    ".webp": {"format": "WEBP", "quality": 90},
}


def check_film(path: Path | str) -> None:
    """Raise unless films can be written in the format that the ending of `path` names.

    Raises:
        DataError: The ending names no known format.
        BackendError: It is .mp4, and imageio-ffmpeg is not installed.
    """
    path = Path(path)
    if path.suffix not in FILM_SUFFIXES:
        raise DataError(f"{path}: no film has the ending '{path.suffix}'; use .mp4, .webp or .gif")
    if path.suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise BackendError(
            f"{path}: .mp4 needs ffmpeg: pip install 'fewshot-smis[video]', or choose .webp or .gif"
        )


def write_film(path: Path | str, frames: Iterable[UInt8], *, fps: float = 30.0) -> None:
    """Write `frames`, each uint8 [H,W,3], to `path` whole, in the format its ending names.

    .gif and .webp play in a loop; .mp4 needs even sides. Frames are taken one by one.

    Raises:
        DataError: There are no frames, the ending names no known format, or the file cannot be
            written.
        BackendError: The ending is .mp4, and imageio-ffmpeg is not installed.
    """
    path = Path(path)
    check_film(path)
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise DataError(f"{path}: a film without frames; give at least one")
    if path.suffix == ".mp4":
        _write_mp4(path, first, rest, fps)
        return
    with atomic_write(path) as file:
        Image.fromarray(first).save(
            file,
            save_all=True,
            append_images=(Image.fromarray(frame) for frame in rest),
            duration=round(1000 / fps),  # milliseconds a frame
            loop=0,
            **_PILLOW[path.suffix],
        )


def _write_mp4(path: Path, first: UInt8, rest: Iterator[UInt8], fps: float) -> None:
    from imageio.v2 import get_writer

    with TemporaryDirectory() as folder:
        part = Path(folder) / "film.mp4"
        writer: Any = get_writer(part, fps=fps, codec="libx264", quality=8, macro_block_size=2)
        with writer:
            writer.append_data(first)
            for frame in rest:
                writer.append_data(frame)
        write_bytes(path, part.read_bytes())
