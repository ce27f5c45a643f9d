"""Sheets to look at: captioned grids of pictures, small ones enlarged, and label overlays."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.images import UInt8
from fewshot_smis.data.labels import Ids, colorize, resize_label
from stylegan.errors import ShapeError

_GAP = 4
_FONT_SIZE = 13
_PAPER = (255, 255, 255)
_INK = (32, 32, 32)

Picture = UInt8 | None


def magnify(picture: UInt8, cell: int) -> UInt8:
    """Repeat the pixels of `picture` [H,W,3] until its shorter side has at least `cell` pixels.

    The factor is a whole number, so pixels stay square; a large enough picture is returned as is.
    """
    factor = -(-cell // min(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else picture


def fit_cell(picture: UInt8, cell: int) -> UInt8:
    """Bring the shorter side of `picture` [H,W,3] to between `cell` and twice that many pixels.

    Small pictures are magnified by a whole number, large ones reduced to twice `cell`, smoothed.
    """
    height, width = picture.shape[:2]
    shorter = min(height, width)
    if shorter <= 2 * cell:
        return magnify(picture, cell)
    scale = 2 * cell / shorter
    size = (round(width * scale), round(height * scale))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _fit(picture: Picture, cell: int) -> UInt8:
    if picture is None:
        return np.zeros((0, 0, 3), np.uint8)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeError(f"a sheet takes uint8 [H,W,3], not {picture.dtype} {list(picture.shape)}")
    return fit_cell(picture, cell)


def _check_titles(titles: Sequence[str] | None, number: int, what: str) -> list[str]:
    """Return one title for each of the `number` rows or columns, empty where there are none."""
    if titles is not None and len(titles) != number:
        raise ShapeError(f"{len(titles)} titles for {number} {what}; give one each")
    return [""] * number if titles is None else [str(title) for title in titles]


def _text_size(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Return (width, height) of `text`; nothing takes no room."""
    if not text:
        return 0, 0
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return int(np.ceil(right)), int(np.ceil(bottom))


def _spans(sizes: list[int], start: int) -> tuple[list[int], int]:
    """Return where each cell of those sizes begins, gaps between them, and where all end."""
    ends = np.cumsum([size + _GAP for size in sizes]) + start
    return [int(end) - size - _GAP for end, size in zip(ends, sizes, strict=True)], int(ends[-1])


def grid(
    rows: Sequence[Sequence[Picture]],
    *,
    row_titles: Sequence[str] | None = None,
    col_titles: Sequence[str] | None = None,
    cell: int = 128,
) -> UInt8:
    """Lay pictures out in rows and columns on white, with titles to the left and on top.

    Pictures are uint8 [H,W,3] of any sizes, None leaves a cell empty, and rows may be of
    different lengths. The shorter side of each is shown with `cell` to twice `cell` pixels.
    Returns the sheet as uint8 [H,W,3].

    Raises:
        ShapeError: There is nothing to show, a picture is not uint8 [H,W,3], or the number of
            titles is not that of the rows or columns.
    """
    cells = [[_fit(picture, cell) for picture in row] for row in rows]
    number = max((len(row) for row in cells), default=0)
    if number == 0:
        raise ShapeError("a sheet without pictures; give at least one row of one")
    names = _check_titles(row_titles, len(cells), "rows")
    heads = _check_titles(col_titles, number, "columns")
    font = ImageFont.load_default(_FONT_SIZE)

    name_sizes = [_text_size(text, font) for text in names]
    head_sizes = [_text_size(text, font) for text in heads]
    heights = [
        max([h, *(c.shape[0] for c in row)]) for row, (_, h) in zip(cells, name_sizes, strict=True)
    ]
    widths = [
        max([w, *(row[i].shape[1] for row in cells if i < len(row))])
        for i, (w, _) in enumerate(head_sizes)
    ]
    left, top = max(w for w, _ in name_sizes), max(h for _, h in head_sizes)
    xs, right = _spans(widths, _GAP + (left + _GAP if left else 0))
    ys, bottom = _spans(heights, _GAP + (top + _GAP if top else 0))
    sheet = Image.new("RGB", (right, bottom), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(heads):
        centre = xs[i] + (widths[i] - head_sizes[i][0]) // 2
        draw.multiline_text((centre, _GAP), title, fill=_INK, font=font, align="center")
    for j, row in enumerate(cells):
        middle = ys[j] + (heights[j] - name_sizes[j][1]) // 2
        draw.multiline_text((_GAP, middle), names[j], fill=_INK, font=font)
        for i, picture in enumerate(row):
            if picture.size:
                height, width = picture.shape[:2]
                place = (xs[i] + (widths[i] - width) // 2, ys[j] + (heights[j] - height) // 2)
                sheet.paste(Image.fromarray(picture), place)
    return np.array(sheet)


def overlay(picture: UInt8, label: Tensor | Ids, classes: Classes, *, alpha: float = 0.5) -> UInt8:
    """Paint `label` [h,w] over `picture` uint8 [H,W,3], mixing in `alpha` of the class colours.

    The label is brought to the picture's size by nearest sampling; unknown pixels stay bare.
    """
    size = (picture.shape[0], picture.shape[1])
    ids = resize_label(torch.as_tensor(label).cpu()[None], size)[0]
    unknown = (ids == IGNORE) | (ids == 0 if classes.sparse else torch.zeros_like(ids).bool())
    mixed = (1 - alpha) * picture + alpha * colorize(ids, classes)
    mixed[unknown.numpy()] = picture[unknown.numpy()]
    painted: UInt8 = mixed.round().astype(np.uint8)
    return painted


def with_legend(sheet: UInt8, classes: Classes, ids: Sequence[int]) -> UInt8:
    """Write the names and colours of the classes `ids` below `sheet` uint8 [H,W,3], in columns."""
    font = ImageFont.load_default(_FONT_SIZE)
    texts = [f"{i} {classes.names[i]}" for i in ids]
    line = _FONT_SIZE + 2 * _GAP
    column = max((_text_size(text, font)[0] for text in texts), default=0) + line + 3 * _GAP
    width = max(sheet.shape[1], column)
    across = width // column
    board = Image.new("RGB", (width, line * -(-len(texts) // across) + _GAP), _PAPER)
    draw = ImageDraw.Draw(board)
    for number, (i, text) in enumerate(zip(ids, texts, strict=True)):
        x, y = number % across * column + _GAP, number // across * line
        patch = (x, y + 1, x + line - _GAP, y + line - _GAP)
        draw.rectangle(patch, fill=classes.colors[i], outline=_INK)
        draw.text((x + line, y), text, fill=_INK, font=font)
    full = np.full((sheet.shape[0], width, 3), _PAPER, np.uint8)
    full[:, : sheet.shape[1]] = sheet
    return np.concatenate([full, np.asarray(board)])
