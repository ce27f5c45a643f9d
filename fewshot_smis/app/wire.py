"""What goes over the wire: queries and bodies into values, pictures and maps into answers."""

import base64
import io
import json
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from fewshot_smis.app.desk import Desk, Errand
from fewshot_smis.app.studio import Look, Sight, Studio
from fewshot_smis.app.trainings import Plan, Shot
from fewshot_smis.data import Classes, read_image
from fewshot_smis.data.classes import parse_classes
from fewshot_smis.data.images import UInt8
from stylegan.errors import ConfigError, DataError, FewshotError

MOST_BYTES = 16 << 20  # of an upload
MOST_PIXELS = 40_000_000  # of an upload
MOST_SEED = 2**31
UPLOAD = Path("upload")  # what errors call a file that came over the wire

_CODE = re.compile(r"[0-9a-f]{16}")


class TooLargeError(FewshotError):
    """An upload of more bytes or pixels than are taken."""


async def body_of(request: Request, most: int = MOST_BYTES) -> bytes:
    """Read the body of a request.

    Raises:
        TooLargeError: It has more than `most` bytes; no more than that is read.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLargeError(f"more than {most:,} bytes; send a smaller file")
        parts.append(part)
    return b"".join(parts)


def checked_picture(content: bytes) -> bytes:
    """Return the bytes of a picture whose header names a size that is taken.

    Raises:
        DataError: They are no picture.
        TooLargeError: It has more than MOST_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        width = height = MOST_PIXELS
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError("not a picture in a format that can be read; save it as PNG") from error
    if width * height > MOST_PIXELS:
        raise TooLargeError(
            f"a picture of {width} x {height}; send one of at most {MOST_PIXELS:,} pixels"
        )
    return content


def look_of(query: QueryParams) -> Look:
    """Read the styles a map is drawn in: styles=own,17,code..., layers, alpha, psi, layout.

    Raises:
        ConfigError: One of them cannot be read.
    """
    styles = tuple(_style(word) for word in query.get("styles", "own").split(","))
    return Look(
        styles=styles,
        layers=query.get("layers") or None,
        alpha=_number(query, "alpha"),
        psi=_number(query, "psi"),
        layout=query.get("layout") or None,
    )


def _style(word: str) -> int | str | None:
    if word == "own":
        return None
    if _CODE.fullmatch(word):
        return word
    return _whole(word, "style")


def whole(query: QueryParams, name: str) -> int:
    """Return the seed that a query holds under `name`.

    Raises:
        ConfigError: It is missing, or no whole number from 0 to MOST_SEED.
    """
    return _whole(query.get(name, ""), name)


def _whole(word: str, name: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) < 12 and int(word) <= MOST_SEED):
        raise ConfigError(f"{name} '{word[:16]}' is no whole number from 0 to {MOST_SEED}")
    return int(word)


def _number(query: QueryParams, name: str) -> float:
    try:
        return float(query.get(name, "1"))
    except ValueError as error:
        raise ConfigError(f"{name} '{query[name][:16]}' is not a number") from error


def training_of(content: bytes, studio: Studio) -> tuple[Plan, list[Shot]]:
    """Read a training: title, classes, steps, recipe, pictures with their ids and codes.

    Raises:
        ConfigError: It is no such object, or a code is no longer kept.
        DataError: A picture or map cannot be read.
    """
    try:
        value = json.loads(content)
        plan = Plan(
            title=str(value["title"]),
            classes=parse_classes(value["classes"]),
            steps=int(value["steps"]),
            recipe=str(value["recipe"]),
        )
        shots = [_shot(shot, plan.classes, studio) for shot in value["pictures"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"this is no training ({error!r:.80}); reload the page") from error
    return plan, shots


def _shot(value: dict[str, str | None], classes: Classes, studio: Studio) -> Shot:
    content = checked_picture(base64.b64decode(value["picture"] or ""))
    picture = studio.fit_picture(read_image(UPLOAD, content))
    label = studio.check(base64.b64decode(value["ids"] or ""), classes)
    name = value["code"]
    return Shot(picture, label, None if name is None else studio.code(name))


def ids_bytes(label: Tensor) -> bytes:
    """Return maps [...] of ids as a byte a pixel."""
    return label.to(torch.uint8).numpy().tobytes()


def png_bytes(picture: UInt8) -> bytes:
    """Return `picture` [H,W,3] as PNG, packed quickly rather than tightly."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def written(name: str, write: Callable[[Path], None]) -> Response:
    """Answer with the file `name` that `write` makes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        content = path.read_bytes()
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


def sight_json(sight: Sight) -> dict[str, Any]:
    """Return a sight as JSON values: picture and map in base64."""
    label = None if sight.label is None else base64.b64encode(ids_bytes(sight.label)).decode()
    picture = base64.b64encode(png_bytes(sight.picture)).decode()
    return {"code": sight.code, "picture": f"data:image/png;base64,{picture}", "label": label}


def errand_json(desk: Desk, errand: Errand) -> dict[str, Any]:
    """Return how far an errand is, and its result once it is done."""
    return {
        "id": errand.id,
        "state": errand.state,
        "step": errand.step,
        "steps": errand.steps,
        "ahead": desk.ahead(errand),
        "error": errand.error,
        "result": None if errand.result is None else sight_json(errand.result),
    }


def strip(pictures: UInt8) -> bytes:
    """Return pictures [S,H,W,3] side by side as one PNG."""
    return png_bytes(np.concatenate(list(pictures), axis=1))
