"""Strands of hair: gathering them in locks, lighting them, drawing them softly.

The kernels are plain Python functions that `compiled` turns into machine code.
Legend: S strands, K points a strand, W canvas width; lengths in decimetres, model space.
"""

import numpy as np

from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.raster import Canvas
from fewshot_smis.faces.traits import Light, linear

_BLOCK = 8  # pixels, side of the blocks that are looked at as a whole


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
    seen: Array,
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
            if not (seen[s, max(k - 1, 0)] or seen[s, min(k, count - 2)]):
                continue
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
    seen: Array,
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
        seen: [S,K-1] bool, `seen_segments`.
        gloss: strength of the highlights.

    Returns:
        Linear colours [S,K,3] float32, of the ends of seen segments; others are undefined.
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
        seen,
        (toward @ camera.rotation).astype(np.float32),
        strength,
        gloss,
        color,
    )
    return color


def fill_seen(
    lines: Array, radius: Array, bias: float, width: int, floor: Array, seen: Array
) -> None:
    """Write which segments may show; `floor` holds the least depth of each block of the canvas."""
    for s in range(lines.shape[0]):
        reach = max(0.0, radius[s] - 0.5)
        for k in range(lines.shape[1] - 1):
            x0, y0, z0 = lines[s, k, 0], lines[s, k, 1], lines[s, k, 2]
            x1, y1, z1 = lines[s, k + 1, 0], lines[s, k + 1, 1], lines[s, k + 1, 2]
            left, right = min(x0, x1) - reach, max(x0, x1) + reach
            top, bottom = min(y0, y1) - reach, max(y0, y1) + reach
            shows = (left < width) & (top < width) & (right >= 0.0) & (bottom >= 0.0)
            if shows:
                a, b = int(max(left, 0.0)) // _BLOCK, int(min(right, width - 1.0)) // _BLOCK
                c, d = int(max(top, 0.0)) // _BLOCK, int(min(bottom, width - 1.0)) // _BLOCK
                least = min(min(floor[c, a], floor[c, b]), min(floor[d, a], floor[d, b]))
                if (b > a + 1) | (d > c + 1):  # long segments lie in more than four blocks
                    for y in range(c, d + 1):
                        for x in range(a, b + 1):
                            least = min(least, floor[y, x])
                shows = max(z0, z1) + bias >= least
            seen[s, k] = shows


def seen_segments(canvas: Canvas, lines: Array, radius: Array, bias: float = 0.0) -> Array:
    """Return which segments of poly-lines may show on `canvas`, [S,K-1] bool.

    Half of the hair is behind the head or out of the picture; that it is costs little to find out
    by large blocks, and need not be lit nor drawn. The arguments are those of `draw_soft`.
    """
    seen = np.empty((lines.shape[0], lines.shape[1] - 1), bool)
    starts = np.arange(0, len(canvas.depth), _BLOCK)
    floor = np.minimum.reduceat(np.minimum.reduceat(canvas.depth, starts, 0), starts, 1)
    compiled(fill_seen)(lines, radius, bias, len(canvas.depth), floor, seen)
    return seen


def fill_soft(
    lines: Array,
    color: Array,
    alpha: Array,
    radius: Array,
    bias: float,
    seen: Array,
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
            stamps = int(max(abs(dx), abs(dy)) / (0.8 + reach)) + 1 if seen[s, k] else 0
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
    seen: Array,
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
        seen: [S,K-1] bool, `seen_segments`.
        radius: [S] float32, pixels; below half a pixel strands become fainter instead.
        bias: added to the strands' depth, dm.

    Returns:
        [W,W] float32, 0..1.
    """
    cover = np.zeros(canvas.depth.shape, np.float32)
    compiled(fill_soft)(lines, color, alpha, radius, bias, seen, canvas.depth, canvas.img, cover)
    return cover
