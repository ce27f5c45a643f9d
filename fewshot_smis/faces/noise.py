"""Smooth random texture in space: value noise on a repeating lattice."""

import functools

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array

PERIOD = 32
_BLOCK = 128  # points computed together; their values stay in the nearest cache
_ORIGIN = np.zeros(3)


@functools.cache
def _lattice() -> Array:
    """Return the lattice values in [0,1), z fastest: part of every portrait's look."""
    return np.random.RandomState(0).rand(PERIOD**3).astype(np.float32)


def fill_noise(points: Array, frequency: float, offset: Array, lattice: Array, out: Array) -> None:
    """Write the interpolated lattice values; `value_noise` says what the arrays hold.

    Points are taken in blocks and their axes one by one, so that the processor can compute
    several points at once; only the look-ups go one after the other.
    """
    place, rise = np.empty(_BLOCK, points.dtype), np.empty((3, _BLOCK))
    cell, corner = np.empty((2, 3, _BLOCK), np.uint32), np.empty((8, _BLOCK), np.float32)
    for first in range(0, points.shape[0], _BLOCK):
        count = min(_BLOCK, points.shape[0] - first)
        for axis in range(3):
            start, stride = offset[axis], PERIOD ** (2 - axis)
            before, after, share = cell[0, axis], cell[1, axis], rise[axis]
            for n in range(count):
                place[n] = points[first + n, axis]
            for n in range(count):
                x = np.float32(place[n] * frequency + start)
                whole = np.floor(x)
                before[n] = (np.int32(whole) & (PERIOD - 1)) * stride
                after[n] = ((np.int32(whole) + 1) & (PERIOD - 1)) * stride
                t = x - whole
                share[n] = t * t * (3 - 2 * t)
        for n in range(count):
            x0, y0, z0 = cell[0, 0, n], cell[0, 1, n], cell[0, 2, n]
            x1, y1, z1 = cell[1, 0, n], cell[1, 1, n], cell[1, 2, n]
            corner[0, n] = lattice[x0 + y0 + z0]
            corner[1, n] = lattice[x0 + y0 + z1]
            corner[2, n] = lattice[x0 + y1 + z0]
            corner[3, n] = lattice[x0 + y1 + z1]
            corner[4, n] = lattice[x1 + y0 + z0]
            corner[5, n] = lattice[x1 + y0 + z1]
            corner[6, n] = lattice[x1 + y1 + z0]
            corner[7, n] = lattice[x1 + y1 + z1]
        for n in range(count):
            u, v, w = rise[0, n], rise[1, n], rise[2, n]
            a = corner[0, n] * (1 - w) + corner[1, n] * w
            b = corner[2, n] * (1 - w) + corner[3, n] * w
            c = corner[4, n] * (1 - w) + corner[5, n] * w
            d = corner[6, n] * (1 - w) + corner[7, n] * w
            out[first + n] = (a * (1 - v) + b * v) * (1 - u) + (c * (1 - v) + d * v) * u


def value_noise(points: Array, frequency: float = 1, offset: Array = _ORIGIN) -> Array:
    """Return noise in [0,1) at `points` [...,3] * `frequency` + `offset` [3], float32 [...].

    One lattice cell is one unit.
    """
    flat = np.ascontiguousarray(points.reshape(-1, 3))
    out = np.empty(len(flat), np.float32)
    compiled(fill_noise)(flat, np.float32(frequency), offset, _lattice(), out)
    return out.reshape(points.shape[:-1])
