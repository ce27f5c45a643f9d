"""Growing strands of hair over the skull, step by step.

The kernels are plain Python functions that `compiled` turns into machine code.
Legend: S strands, K points a strand; s and k count them; lengths in decimetres, model space.
"""

from typing import NamedTuple, TypeAlias

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array

WINDOW_STEPS = 32
"""Entries of `Growth.window`."""

Vector: TypeAlias = tuple[float, float, float]


class Skull(NamedTuple):
    """The ellipsoid that hair lies on; below its centre it goes on as a cylinder."""

    center: Array  # [3]
    radius: Array  # [3]


class Growth(NamedTuple):
    """How strands leave the skin and bend; [S] and [S,3] float32 unless said otherwise.

    A strand's shell is the ellipsoid it settles on, as a multiple of the skull.
    """

    root: Array  # [S,3]
    flow: Array  # [S,3] unit, first direction
    length: Array
    shell: Array  # multiple of the skull's radius
    settle: Array  # length after which the shell is reached
    side: Array  # -1 or 1, side of the parting
    phase: Array  # of the curls, radians
    clump: Array  # [S,3], -0.5..0.5, pulls neighbours the same way
    free: Array  # 1 where a strand may hang over the face and is not tied
    gravity: Array
    stick: float  # 0 grows freely, 1 stays on the shell
    knot: Array  # [4], where tied hair runs to and how strongly
    curl: float  # radius of the curls
    pitch: float  # turns a decimetre, times 2 pi
    window: Array  # [WINDOW_STEPS], least azimuth of hair by height, radians
    window_top: float
    window_bottom: float


def unit_vector(x: float, y: float, z: float) -> Vector:
    """Scale a vector to length one; zero stays zero."""
    size = np.sqrt(x * x + y * y + z * z) + 1e-6
    return x / size, y / size, z / size


def coil(way: Vector, wave: complex) -> Vector:
    """Return how far a curl lies beside its strand, which grows along `way`.

    `wave` is the place in the plane across the strand.
    """
    (dx, dy, dz), sine, cosine = way, wave.imag, wave.real
    # two directions across the strand: b to the side, c = d x b
    if abs(dy) > 0.9:
        bx, by, bz = unit_vector(0.0, dz, -dy)
    else:
        bx, by, bz = unit_vector(-dz, 0.0, dx)
    x = sine * bx + cosine * (dy * bz - dz * by)
    y = sine * by + cosine * (dz * bx - dx * bz)
    return x, y, sine * bz + cosine * (dx * by - dy * bx)


def bend(g: Growth, s: int, at: Vector, way: Vector, step: float) -> tuple[Vector, float]:
    """Turn `way` by gravity, the whole lock and the knot; return it and how far to go."""
    dx = way[0] + g.clump[s, 0] * step
    dy = way[1] + g.clump[s, 1] * step - g.gravity[s] * step
    dz = way[2] + g.clump[s, 2] * step
    if g.knot[3] <= 0.0 or g.free[s] >= 0.5:
        return (dx, dy, dz), step
    tx, ty, tz = g.knot[0] - at[0], g.knot[1] - at[1], g.knot[2] - at[2]
    gap, pull = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-6, g.knot[3]
    way = (dx + pull * tx / gap, dy + pull * ty / gap, dz + pull * tz / gap)
    return way, min(step, gap * 0.9)


def along_skull(way: Vector, normal: Vector, stick: float) -> Vector:
    """Take from `way` the share `stick` of what leads along `normal`; return it as a unit."""
    (dx, dy, dz), (nx, ny, nz) = way, normal
    out = (dx * nx + dy * ny + dz * nz) * stick
    return unit_vector(dx - out * nx, dy - out * ny, dz - out * nz)


def off_face(g: Growth, y: float, azimuth: float) -> float:
    """Return the azimuth of a tip at height `y`, turned away from the face where it hides it."""
    height = (g.window_top - y) / (g.window_top - g.window_bottom)
    spot = min(height, 0.999) * (WINDOW_STEPS - 1)
    cell = int(spot)
    share = spot - cell
    least = g.window[cell] * (1 - share) + g.window[cell + 1] * share
    return azimuth + 0.8 * (least - azimuth) if -1.6 < azimuth < least else azimuth


def shell_at(g: Growth, s: int, start: float, travelled: float) -> float:
    """Return the shell a strand has reached, on its way from the skin to that it settles on."""
    rise = min(1.0, travelled / g.settle[s])
    rise = rise * rise * (3 - 2 * rise)
    return start + (g.shell[s] - start) * rise


def fill_growth(g: Growth, skull: Skull, points: Array, normals: Array) -> None:
    """Write the strands' points and outward normals [S,K,3]; `grow` says what they hold."""
    (cx, cy, cz), (rx, ry, rz) = skull.center, skull.radius
    total, count = points.shape[:2]
    steep = np.tan(g.window.max()) + 1e-6
    place, ways, travelled = g.root.astype(np.float64), g.flow.astype(np.float64), np.zeros(total)
    ball = (place - skull.center) / skull.radius
    ball[:, 1] = np.maximum(ball[:, 1], 0.0)  # below its centre the skull is a cylinder
    start = np.sqrt((ball * ball).sum(1)) + 1e-6
    curly = total if g.curl > 0.0 else 0
    wave = g.curl * np.exp(1j * g.phase[:curly].astype(np.float64))
    turn = np.exp(1j * g.pitch * (g.length[:curly].astype(np.float64) / (count - 1)))
    for k in range(count):
        for s in range(total):  # side by side, because each point of a strand waits for the last
            x, y, z = at = (place[s, 0], place[s, 1], place[s, 2])
            way, step = (ways[s, 0], ways[s, 1], ways[s, 2]), g.length[s] / (count - 1)
            nx, ny, nz = normal = unit_vector(ball[s, 0] / rx, ball[s, 1] / ry, ball[s, 2] / rz)
            u, v, w = 0.0, 0.0, 0.0
            if curly:
                u, v, w = coil(way, wave[s] * min(1.0, travelled[s] * 3.0))
                wave[s] *= turn[s]
            points[s, k, 0], points[s, k, 1], points[s, k, 2] = x + u, y + v, z + w
            normals[s, k, 0], normals[s, k, 1], normals[s, k, 2] = nx, ny, nz
            way, advance = bend(g, s, at, way, step)
            dx, dy, dz = along_skull(way, normal, g.stick)
            x, y, z = x + dx * advance, y + dy * advance, z + dz * advance
            travelled[s] += advance
            bx, bz = (x - cx) / rx, (z - cz) / rz
            side = bx * g.side[s]
            if g.free[s] < 0.5 and y < g.window_top and side < max(steep * bz, 0.0):
                before = np.arctan2(side, bz)
                azimuth = off_face(g, y, before)
                if azimuth != before:
                    far = np.sqrt(bx * bx + bz * bz)
                    bx, bz = g.side[s] * np.sin(azimuth) * far, np.cos(azimuth) * far
                    dx = 0.6 * dx + 0.4 * (cx + bx * rx - at[0]) / step
                    dz = 0.6 * dz + 0.4 * (cz + bz * rz - at[2]) / step
            by = max((y - cy) / ry, 0.0)
            far = np.sqrt(bx * bx + by * by + bz * bz) + 1e-6
            fit = 1 + g.stick * (shell_at(g, s, start[s], travelled[s]) / far - 1)
            bx, by, bz = bx * fit, by * fit, bz * fit
            y = cy + by * ry if by > 0.0 else y
            place[s, 0], place[s, 1], place[s, 2] = cx + bx * rx, y, cz + bz * rz
            ways[s, 0], ways[s, 1], ways[s, 2] = dx, dy, dz
            ball[s, 0], ball[s, 1], ball[s, 2] = bx, by, bz


_PARTS = (unit_vector, coil, bend, along_skull, off_face, shell_at)


def grow(growth: Growth, skull: Skull, count: int) -> tuple[Array, Array]:
    """Grow strands of `count` points; return points and outward normals, [S,K,3] float32."""
    shape = (len(growth.root), count, 3)
    points, normals = np.empty(shape, np.float32), np.empty(shape, np.float32)
    compiled(fill_growth, parts=_PARTS)(growth, skull, points, normals)
    return points, normals
