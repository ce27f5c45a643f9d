"""What lies behind the head: out of focus, so it is painted small and enlarged.

Legend: G side of the small picture; W canvas width; colours are linear.
"""

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array, smoothstep
from fewshot_smis.faces.raster import box_blur
from fewshot_smis.faces.traits import Backdrop

_GRID = 64


def fill_enlarged(small: Array, place: Array, large: Array) -> None:
    """Write `large` [W,W,3], whose pixels lie at `place` [W] of `small` [G,G,3], bilinear."""
    last = small.shape[0] - 2
    row = np.empty((small.shape[1], 3))
    for y in range(large.shape[0]):
        j = min(int(place[y]), last)
        v = place[y] - j
        for i in range(row.shape[0]):
            for c in range(3):
                row[i, c] = small[j, i, c] * (1 - v) + small[j + 1, i, c] * v
        for x in range(large.shape[1]):
            i = min(int(place[x]), last)
            u = place[x] - i
            for c in range(3):
                large[y, x, c] = row[i, c] * (1 - u) + row[i + 1, c] * u


def _enlarge(small: Array, width: int) -> Array:
    """Return `small` [G,G,3] as [W,W,3], bilinear."""
    place = np.clip((np.arange(width) + 0.5) / width * _GRID - 0.5, 0, _GRID - 1)
    large = np.empty((width, width, 3))
    compiled(fill_enlarged)(small, place, large)
    return large


def paint_backdrop(backdrop: Backdrop, width: int) -> Array:
    """Return the background [W,W,3], linear."""
    y, x = (np.mgrid[:_GRID, :_GRID] + 0.5) / _GRID
    first, second = backdrop.colors
    ramp = smoothstep(0, 1, 0.4 + backdrop.slope[0] * (x - 0.5) + backdrop.slope[1] * y)
    img = first + (second - first) * ramp[..., None]
    for left, top, right, bottom, *color in backdrop.boxes:
        img[(x > left) & (x < right) & (y > top) & (y < bottom)] = color
    for cx, cy, radius, cover, *color in backdrop.discs:
        inside = smoothstep(radius * 1.15, radius * 0.85, np.hypot(x - cx, y - cy))
        img += (inside * cover)[..., None] * (np.array(color) - img)
    radius = max(0, round(backdrop.blur * _GRID))
    img = np.stack([box_blur(img[..., c], radius) for c in range(3)], -1)
    img *= 1 - backdrop.vignette * ((x - 0.5) ** 2 + (y - 0.5) ** 2)[..., None]
    return _enlarge(np.clip(img, 0, 1), width)
