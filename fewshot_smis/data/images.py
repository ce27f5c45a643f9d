"""Read and write pictures, turn bytes into tensors and back, and resize: the one place for each."""

import io
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fewshot_smis.data.files import atomic_write
from stylegan.errors import DataError, ShapeError

UInt8 = NDArray[np.uint8]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Endings, in lower case, of the files that are taken for pictures in a folder."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def _what_it_is(path: Path, content: bytes | None) -> str:
    if content is None:
        with path.open("rb") as file:
            content = file.read(256)
    head = content[:256]
    if not head:
        return "the file is empty; copy or download it again"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not a picture; download the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not a picture; run `git lfs pull`"
    return "not a picture in a format that can be read; save it as PNG"


def open_image(path: Path | str, content: bytes | None = None) -> Image.Image:
    """Open and decode the picture at `path`, in the mode it is stored in.

    If it is inside an archive, `content` are its bytes, and `path` only names it.

    Raises:
        DataError: The file is missing, truncated or not a picture.
    """
    path = Path(path)
    if content is None and path.is_dir():
        raise DataError(f"{path}: a folder where a picture was expected; name a file in it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                image.load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read; change its permissions") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: {_what_it_is(path, content)}") from error
    except _BROKEN as error:
        raise DataError(
            f"{path}: truncated or damaged ({error}); copy or export the picture again"
        ) from error
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((grey >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def read_image(path: Path | str, content: bytes | None = None) -> UInt8:
    """Read the picture at `path` as uint8 [H,W,3], RGB in [0, 255]; `content` as in `open_image`.

    It is turned as its EXIF orientation says; grey becomes RGB, 16 bits become 8, transparent
    parts become white.

    Raises:
        DataError: The file is missing, truncated or not a picture.
    """
    return np.array(_to_rgb(ImageOps.exif_transpose(open_image(path, content))), dtype=np.uint8)


def write_image(path: Path | str, array: UInt8) -> None:
    """Write `array`, uint8 [H,W] or [H,W,3], to `path` whole, in the format its ending names.

    Raises:
        DataError: The ending names no known format, or the file cannot be written.
        ShapeError: The array is not a uint8 picture.
    """
    path = Path(path)
    if array.dtype != np.uint8 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    ):
        raise ShapeError(
            f"{path}: a picture is uint8 [H,W] or [H,W,3], not {array.dtype} {list(array.shape)}"
        )
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None:
        raise DataError(f"{path}: no picture format has the ending '{path.suffix}'; use .png")
    with atomic_write(path) as file:
        Image.fromarray(array).save(file, format=form)


def to_tensor(array: UInt8) -> Tensor:
    """Turn uint8 [H,W,3] in [0, 255] into float32 [3,H,W] in [-1, 1].

    >>> to_tensor(np.array([[[0, 51, 255]]], dtype=np.uint8)).flatten()
    tensor([-1.0000, -0.6000,  1.0000])
    """
    if array.ndim != 3 or array.shape[2] != 3:
        raise ShapeError(f"a picture is [H,W,3], not {list(array.shape)}")
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 127.5 - 1.0


def to_uint8(img: Tensor) -> UInt8:
    """Turn `img` [3,H,W] or [N,3,H,W] in [-1, 1] into uint8 [H,W,3] or [N,H,W,3], rounded.

    Values outside [-1, 1] are clamped.
    """
    if img.ndim not in (3, 4) or img.shape[-3] != 3:
        raise ShapeError(f"pictures are [3,H,W] or [N,3,H,W], not {list(img.shape)}")
    scaled = ((img.detach().float() + 1.0) * 127.5).round().clamp(0, 255)
    array: UInt8 = scaled.to(torch.uint8).movedim(-3, -1).cpu().numpy()
    return array


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (H, W); one number means a square.

    Raises:
        ShapeError: A side is not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ShapeError(f"a picture of {height} x {width} has no pixels; sizes start at 1")
    return height, width


def resize_image(img: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize `img` [N,C,H,W] to (height, width), or to a square of that side.

    The filter is a triangle widened by the scale (antialiased bilinear): it never leaves the
    range of its input, and gradients pass through it. The same size returns `img` itself.

    Raises:
        ShapeError: `img` is not a batch of pictures, or a side is not positive.
    """
    if img.ndim != 4:
        raise ShapeError(f"resize_image takes [N,C,H,W], not {list(img.shape)}")
    target = as_size(size)
    if tuple(img.shape[2:]) == target:
        return img
    return F.interpolate(img, size=target, mode="bilinear", align_corners=False, antialias=True)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names as people do: "2" before "10".

    >>> sorted(["10", "a2", "2", "a10"], key=natural_key)
    ['2', '10', 'a2', 'a10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def list_images(path: Path | str) -> list[Path]:
    """Return the pictures of a folder (or of its `images/`) in natural order, or the file itself.

    Raises:
        DataError: There is no such file or folder, or the folder holds no pictures.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; check the path")
    root = path / "images" if (path / "images").is_dir() else path
    files = [p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
    if not files:
        endings = " ".join(sorted(SUFFIXES))
        raise DataError(f"{root}: holds no pictures; put files there that end in {endings}")
    return sorted(files, key=lambda file: natural_key(file.name))
