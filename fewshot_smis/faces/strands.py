"""Strands of hair: growing them over the skull, lighting them, drawing them softly.

The kernels are plain Python functions that `raster.compiled` turns into machine code.
Legend: S strands, K points a strand, W canvas width; lengths in decimetres, model space.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.raster import Canvas, compiled
from fewshot_smis.faces.traits import Light, linear

WINDOW_STEPS = 32
"""Entries of `Growth.window`."""


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
    phase: Array  # of the curls
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


def fill_growth(g: Growth, center: Array, radius: Array, points: Array, normals: Array) -> None:
    """Write the strands' points and outward normals [S,K,3]; `grow` says what they hold."""
    total, count = points.shape[:2]
    cx, cy, cz = center[0], center[1], center[2]
    rx, ry, rz = radius[0], radius[1], radius[2]
    steep = np.tan(g.window.max()) + 1e-6
    place, way, travelled = g.root.astype(np.float64), g.flow.astype(np.float64), np.zeros(total)
    ball = (place - center) / radius
    ball[:, 1] = np.maximum(ball[:, 1], 0.0)
    start = np.sqrt((ball * ball).sum(1)) + 1e-6
    for k in range(count):
        for s in range(total):  # side by side, because each point of a strand waits for the last
            x, y, z = place[s, 0], place[s, 1], place[s, 2]
            dx, dy, dz = way[s, 0], way[s, 1], way[s, 2]
            bx, by, bz = ball[s, 0], ball[s, 1], ball[s, 2]
            step, travel = g.length[s] / (count - 1), travelled[s]
            nx, ny, nz = bx / rx, by / ry, bz / rz
            size = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6
            nx, ny, nz = nx / size, ny / size, nz / size
            wide = g.curl * min(1.0, travel * 3.0)
            if wide > 0.0:
                angle = g.phase[s] + g.pitch * travel
                sine, cosine = np.sin(angle) * wide, np.cos(angle) * wide
                # two directions across the strand: b to the side, c = d x b
                if abs(dy) > 0.9:
                    b0, b1, b2 = 0.0, dz, -dy
                else:
                    b0, b1, b2 = -dz, 0.0, dx
                size = np.sqrt(b0 * b0 + b1 * b1 + b2 * b2) + 1e-6
                b0, b1, b2 = b0 / size, b1 / size, b2 / size
                points[s, k, 0] = x + sine * b0 + cosine * (dy * b2 - dz * b1)
                points[s, k, 1] = y + sine * b1 + cosine * (dz * b0 - dx * b2)
                points[s, k, 2] = z + sine * b2 + cosine * (dx * b1 - dy * b0)
            else:
                points[s, k, 0], points[s, k, 1], points[s, k, 2] = x, y, z
            normals[s, k, 0], normals[s, k, 1], normals[s, k, 2] = nx, ny, nz
            # bend: gravity, the knot of tied hair, what the whole lock does
            dx += g.clump[s, 0] * step
            dy += g.clump[s, 1] * step - g.gravity[s] * step
            dz += g.clump[s, 2] * step
            advance = step
            if g.knot[3] > 0.0 and g.free[s] < 0.5:
                tx, ty, tz = g.knot[0] - x, g.knot[1] - y, g.knot[2] - z
                gap = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-6
                advance = min(step, gap * 0.9)
                dx += g.knot[3] * tx / gap
                dy += g.knot[3] * ty / gap
                dz += g.knot[3] * tz / gap
            out = (dx * nx + dy * ny + dz * nz) * g.stick
            dx, dy, dz = dx - out * nx, dy - out * ny, dz - out * nz
            size = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6
            dx, dy, dz = dx / size, dy / size, dz / size
            px, pz = x, z
            x, y, z = x + dx * advance, y + dy * advance, z + dz * advance
            travel += advance
            # keep off the face: turn about the vertical axis, where the azimuth may be too small
            bx, bz = (x - cx) / rx, (z - cz) / rz
            aside = bx * g.side[s]
            if g.free[s] < 0.5 and y < g.window_top and aside < max(steep * bz, 0.0):
                height = (g.window_top - y) / (g.window_top - g.window_bottom)
                spot = min(height, 0.999) * (WINDOW_STEPS - 1)
                cell = int(spot)
                share = spot - cell
                least = g.window[cell] * (1 - share) + g.window[cell + 1] * share
                azimuth = np.arctan2(aside, bz)
                if -1.6 < azimuth < least:
                    azimuth += 0.8 * (least - azimuth)
                    far = np.sqrt(bx * bx + bz * bz)
                    x = cx + g.side[s] * np.sin(azimuth) * far * rx
                    z = cz + np.cos(azimuth) * far * rz
                    dx, dz = 0.6 * dx + 0.4 * (x - px) / step, 0.6 * dz + 0.4 * (z - pz) / step
            # settle on the shell
            bx, bz = (x - cx) / rx, (z - cz) / rz
            by = max((y - cy) / ry, 0.0)
            far = np.sqrt(bx * bx + by * by + bz * bz) + 1e-6
            rise = min(1.0, travel / g.settle[s])
            rise = rise * rise * (3 - 2 * rise)
            fit = 1 + g.stick * ((start[s] + (g.shell[s] - start[s]) * rise) / far - 1)
            bx, by, bz = bx * fit, by * fit, bz * fit
            x, z = cx + bx * rx, cz + bz * rz
            if by > 0.0:
                y = cy + by * ry
            place[s, 0], place[s, 1], place[s, 2] = x, y, z
            way[s, 0], way[s, 1], way[s, 2] = dx, dy, dz
            ball[s, 0], ball[s, 1], ball[s, 2], travelled[s] = bx, by, bz, travel


def grow(growth: Growth, skull: Skull, count: int) -> tuple[Array, Array]:
    """Grow strands of `count` points; return points and outward normals, [S,K,3] float32."""
    shape = (len(growth.root), count, 3)
    points, normals = np.empty(shape, np.float32), np.empty(shape, np.float32)
    compiled(fill_growth)(growth, skull.center, skull.radius, points, normals)
    return points, normals


def fill_gathered(points: Array, lock: Array, share: Array, mean: Array, out: Array) -> None:
    """Write the drawn points; `mean` [L,K,3] begins as zeros, `gather_locks` explains the rest."""
    members = np.zeros(mean.shape[0], np.float32)
    for s in range(points.shape[0]):
        members[lock[s]] += 1
        for k in range(points.shape[1]):
            for c in range(3):
                mean[lock[s], k, c] += points[s, k, c]
    for n in range(mean.shape[0]):
        mean[n] /= max(members[n], 1)
    for s in range(points.shape[0]):
        for k in range(points.shape[1]):
            for c in range(3):
                away = mean[lock[s], k, c] - points[s, k, c]
                out[s, k, c] = points[s, k, c] + away * share[s, k]


def gather_locks(points: Array, lock: Array, strength: Array) -> Array:
    """Draw `points` [S,K,3] towards the mean of their `lock` [S] int, more so at the tips.

    `strength` [S] is 0..1, the share of the way that tips go.
    """
    mean = np.zeros((lock.max(initial=0) + 1, *points.shape[1:]), np.float32)
    pull = np.linspace(0, 1, points.shape[1], dtype=np.float32) ** 0.7
    share, gathered = strength[:, None].astype(np.float32) * pull, np.empty_like(points)
    compiled(fill_gathered, fastmath=False)(points, lock, share, mean, gathered)
    return gathered


def fill_light(
    points: Array,
    normals: Array,
    base: Array,
    depth: Array,
    lights: Array,
    strength: Array,
    gloss: float,
    color: Array,
) -> None:
    """Write the light [S,K,3] that strands send to the camera; `light_strands` explains it."""
    count = points.shape[1]
    key, fill, half, view = lights[0], lights[1], lights[2], lights[3]
    for s in range(points.shape[0]):
        for k in range(count):
            a, b = max(k - 1, 0), min(k + 1, count - 1)
            tx = points[s, b, 0] - points[s, a, 0]
            ty = points[s, b, 1] - points[s, a, 1]
            tz = points[s, b, 2] - points[s, a, 2]
            size = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-6
            tx, ty, tz = tx / size, ty / size, tz / size
            nx, ny, nz = normals[s, k, 0], normals[s, k, 1], normals[s, k, 2]
            facing = nx * key[0] + ny * key[1] + nz * key[2]
            along = tx * key[0] + ty * key[1] + tz * key[2]
            strand = np.sqrt(max(0.0, 1 - along * along))
            lit = max(0.0, (facing + 0.35) / 1.35) * (0.4 + 0.6 * strand)
            second = max(0.0, (nx * fill[0] + ny * fill[1] + nz * fill[2] + 0.4) / 1.4)
            # highlights of the cuticle: white one shifted to the root, coloured one to the tip
            across = tx * half[0] + ty * half[1] + tz * half[2]
            bump = nx * half[0] + ny * half[1] + nz * half[2]
            first = max(0.0, 1 - (across + 0.10 * bump) ** 2) ** 60
            wide = max(0.0, 1 - (across - 0.12 * bump) ** 2) ** 14
            shown = np.sqrt(max(0.0, facing))
            inner = nx * view[0] + ny * view[1] + nz * view[2]
            dark = depth[s, k] * (0.30 + 0.70 * min(1.0, max(0.0, inner * 2.5 + 0.75)))
            sky = 0.70 + 0.30 * ny
            for c in range(3):
                glow = lit * strength[0, c] + second * strength[1, c] + sky * strength[2, c]
                shine = first * 0.035 * gloss + wide * base[s, c] * 0.85 * gloss
                color[s, k, c] = dark * (base[s, c] * glow + shown * shine * strength[0, c])


def light_strands(
    points: Array,
    normals: Array,
    tint: Array,
    depth: Array,
    view: tuple[Camera, Light],
    *,
    gloss: float = 1.0,
) -> Array:
    """Light strands by two highlights along the tangent and diffuse light on the hull.

    Args:
        points: [S,K,3] in model space.
        normals: [S,K,3] unit, of the hull the strands lie on.
        tint: [S,3] sRGB.
        depth: [S,K] 0..1, light that reaches each point through the other hair.
        view: camera and light of the portrait.
        gloss: strength of the highlights.

    Returns:
        Linear colours [S,K,3] float32.
    """
    camera, light = view
    toward = np.stack([light.key, light.fill, light.half, np.array([0.0, 0.0, 1.0])])
    around = light.ambient * light.tint
    second = np.full(3, light.fill_strength)
    strength = np.stack([light.key_color, second, around]).astype(np.float32)
    color = np.empty(points.shape, np.float32)
    compiled(fill_light)(
        points,
        normals,
        linear(tint).astype(np.float32),
        depth.astype(np.float32),
        (toward @ camera.rotation).astype(np.float32),
        strength,
        gloss,
        color,
    )
    return color


def fill_soft(
    lines: Array,
    color: Array,
    alpha: Array,
    radius: Array,
    bias: float,
    depth: Array,
    img: Array,
    cover: Array,
) -> None:
    """Blend poly-lines over the picture; `draw_soft` says what the arrays hold."""
    last = depth.shape[0] - 1
    count = lines.shape[1]
    for s in range(lines.shape[0]):
        r = radius[s]
        thin = min(1.0, 2 * r)
        reach = max(0.0, r - 0.5)
        for k in range(count - 1):
            x0, y0, z0 = lines[s, k, 0], lines[s, k, 1], lines[s, k, 2]
            dx, dy, dz = lines[s, k + 1, 0] - x0, lines[s, k + 1, 1] - y0, lines[s, k + 1, 2] - z0
            a0, a1 = alpha[s, k], alpha[s, k + 1]
            stamps = int(max(abs(dx), abs(dy)) / (0.8 + reach)) + 1
            for j in range(stamps):
                t = j / stamps
                column, row, z = x0 + t * dx, y0 + t * dy, z0 + t * dz + bias
                left, right = int(np.floor(column - reach)), int(np.floor(column + reach))
                top, bottom = int(np.floor(row - reach)), int(np.floor(row + reach))
                left, right = max(left, 0), min(right, last)
                top, bottom = max(top, 0), min(bottom, last)
                # most hair is hidden by other hair, and a small stamp is no more than its corners
                if (
                    left > right
                    or top > bottom
                    or (
                        reach < 0.5
                        and z < min(depth[top, left], depth[top, right])
                        and z < min(depth[bottom, left], depth[bottom, right])
                    )
                ):
                    continue
                a = (a0 * (1 - t) + a1 * t) * thin
                for y in range(top, bottom + 1):
                    for x in range(left, right + 1):
                        if z < depth[y, x]:
                            continue
                        if a > 0.55:
                            depth[y, x] = z
                        cover[y, x] += (1 - cover[y, x]) * a
                        for c in range(3):
                            shade = color[s, k, c] * (1 - t) + color[s, k + 1, c] * t
                            img[y, x, c] += (shade - img[y, x, c]) * a


def draw_soft(
    canvas: Canvas,
    lines: Array,
    color: Array,
    alpha: Array,
    *,
    radius: Array,
    bias: float = 0.0,
) -> Array:
    """Blend poly-lines onto picture and depth of `canvas`; return how far they cover it.

    Later strands lie over earlier ones where the depth allows it: pass the innermost first.

    Args:
        canvas: the picture to draw on; its label map is left alone.
        lines: [S,K,3] float32, pixels x, y and depth.
        color: [S,K,3] float32, linear light.
        alpha: [S,K] float32, 0..1.
        radius: [S] float32, pixels; below half a pixel strands become fainter instead.
        bias: added to the strands' depth, dm.

    Returns:
        [W,W] float32, 0..1.
    """
    cover = np.zeros(canvas.depth.shape, np.float32)
    compiled(fill_soft)(lines, color, alpha, radius, bias, canvas.depth, canvas.img, cover)
    return cover
