"""Smooth random texture in space: value noise on a repeating lattice."""

import functools

import numpy as np

from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.raster import compiled

PERIOD = 32
_ORIGIN = np.zeros(3)


@functools.cache
def _lattice() -> Array:
    """Return the lattice values [32,32,32] in [0,1): part of every portrait's look."""
    return np.random.RandomState(0).rand(PERIOD, PERIOD, PERIOD).astype(np.float32)


def fill_noise(points: Array, frequency: float, offset: Array, lattice: Array, out: Array) -> None:
    """Write the interpolated lattice values; `value_noise` says what the arrays hold."""
    for n in range(points.shape[0]):
        px = np.float32(points[n, 0] * frequency + offset[0])
        py = np.float32(points[n, 1] * frequency + offset[1])
        pz = np.float32(points[n, 2] * frequency + offset[2])
        x, y, z = np.floor(px), np.floor(py), np.floor(pz)
        fx, fy, fz = px - x, py - y, pz - z
        fx = fx * fx * (3 - 2 * fx)
        fy = fy * fy * (3 - 2 * fy)
        fz = fz * fz * (3 - 2 * fz)
        total = 0.0
        c0, c1 = int(z) & 31, (int(z) + 1) & 31
        for a in range(2):
            for b in range(2):
                row = lattice[(int(x) + a) & 31, (int(y) + b) & 31]
                along = row[c0] * (1 - fz) + row[c1] * fz
                total += along * (fx if a else 1 - fx) * (fy if b else 1 - fy)
        out[n] = total


def value_noise(points: Array, frequency: float = 1, offset: Array = _ORIGIN) -> Array:
    """Return noise in [0,1) at `points` [...,3] * `frequency` + `offset` [3], float32 [...].

    One lattice cell is one unit.
    """
    flat = np.ascontiguousarray(points.reshape(-1, 3))
    out = np.empty(len(flat), np.float32)
    compiled(fill_noise)(flat, np.float32(frequency), offset, _lattice(), out)
    return out.reshape(points.shape[:-1])
