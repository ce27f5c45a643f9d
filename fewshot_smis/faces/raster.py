"""Drawing kernels: z-buffered triangles and poly-lines, majority pooling, box blur.

Legend: W canvas width and height, pixel centres at +0.5; larger z is nearer.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array

NUM_CLASSES = 19


class Canvas(NamedTuple):
    """The picture while it is drawn; all arrays are changed in place."""

    img: Array  # [W,W,3] float64, linear light
    label: Array  # [W,W] int64, class ids
    depth: Array  # [W,W] float32
    strand: Array  # [W,W] uint8, 1 where a strand was drawn last


class Coverage(NamedTuple):
    """What triangle each pixel sees, and where in it."""

    tri: Array  # [W,W] int32, -1 where there is none
    weights: Array  # [W,W,3] float32, barycentric


def fill_triangles(
    points: Array, tris: Array, width: int, tid: Array, bary: Array, depth: Array
) -> None:
    """Write the nearest triangle of each pixel; `draw_triangles` says what the arrays hold."""
    for t in range(tris.shape[0]):
        a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
        x0, y0, z0 = points[a, 0], points[a, 1], points[a, 2]
        x1, y1, z1 = points[b, 0], points[b, 1], points[b, 2]
        x2, y2, z2 = points[c, 0], points[c, 1], points[c, 2]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(width - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        first = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        last = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        if abs(area) < 1e-9 or first > last:
            continue
        for y in range(top, bottom + 1):
            for x in range(first, last + 1):
                px = x + 0.5
                py = y + 0.5
                w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) / area
                w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                z = w0 * z0 + w1 * z1 + w2 * z2
                if min(w0, w1, w2) >= -1e-5 and z > depth[y, x]:
                    depth[y, x] = z
                    tid[y, x] = t
                    bary[y, x, 0] = w0
                    bary[y, x, 1] = w1
                    bary[y, x, 2] = w2


def draw_triangles(points: Array, tris: Array, depth: Array) -> Coverage:
    """Draw `tris` [T,3] over `points` [V,3] (pixels x, y and depth, float32).

    Only what lies in front of `depth` [W,W] shows; `depth` is changed in place.
    """
    width = len(depth)
    tid = -np.ones((width, width), np.int32)
    bary = np.zeros((width, width, 3), np.float32)
    compiled(fill_triangles)(points, tris, width, tid, bary, depth)
    return Coverage(tid, bary)


def fill_strands(
    lines: Array,
    color: Array,
    label: Array,
    radius: Array,
    bias: float,
    width: int,
    depth: Array,
    img: Array,
    out: Array,
    strand: Array,
) -> None:
    """Stamp squares along each poly-line; `draw_strands` says what the arrays hold."""
    for s in range(lines.shape[0]):
        for k in range(lines.shape[1] - 1):
            dx = lines[s, k + 1, 0] - lines[s, k, 0]
            dy = lines[s, k + 1, 1] - lines[s, k, 1]
            stamps = int(max(abs(dx), abs(dy)) * 1.0) + 1
            taper = 1.0 - 0.7 * (k / (lines.shape[1] - 1.0)) ** 3
            r = radius[s] * taper
            for j in range(stamps):
                t = j / stamps
                cx = lines[s, k, 0] + t * dx
                cy = lines[s, k, 1] + t * dy
                z = lines[s, k, 2] + t * (lines[s, k + 1, 2] - lines[s, k, 2])
                top = max(0, int(np.floor(cy - r + 0.5)))
                bottom = min(width - 1, int(np.floor(cy + r - 0.5)))
                first = max(0, int(np.floor(cx - r + 0.5)))
                last = min(width - 1, int(np.floor(cx + r - 0.5)))
                for y in range(top, bottom + 1):
                    for x in range(first, last + 1):
                        if z + bias > depth[y, x]:
                            depth[y, x] = z + bias
                            strand[y, x] = 1
                            if label[s] >= 0:
                                out[y, x] = label[s]
                            for c in range(3):
                                img[y, x, c] = color[s, k, c] * (1 - t) + color[s, k + 1, c] * t


def draw_strands(
    canvas: Canvas,
    lines: Array,
    color: Array,
    *,
    label: int,
    radius: float,
    bias: float = 0.0,
) -> None:
    """Draw poly-lines that thin towards their ends onto `canvas`, in place.

    Args:
        canvas: the picture to draw on.
        lines: [S,K,3] float32, pixels x, y and depth of the K points of each strand.
        color: [S,K,3] float32, linear light.
        label: class id of the strands; -1 leaves the label map as it is.
        radius: at the root, in pixels.
        bias: added to the strands' depth (dm), so that they win against what they lie on.
    """
    count = len(lines)
    compiled(fill_strands)(
        lines,
        color,
        np.full(count, label),
        np.full(count, radius),
        bias,
        len(canvas.depth),
        canvas.depth,
        canvas.img,
        canvas.label,
        canvas.strand,
    )


def fill_majority(label: Array, factor: int, out: Array) -> None:
    """Write the commonest id of each block; `majority` says what the arrays hold."""
    votes = np.empty(NUM_CLASSES, np.int64)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            votes[:] = 0
            for a in range(factor):
                for b in range(factor):
                    votes[label[y * factor + a, x * factor + b]] += 1
            out[y, x] = np.argmax(votes)


def majority(label: Array, factor: int) -> Array:
    """Shrink `label` [H,W] `factor` times by majority; ties go to the lower id. Return uint8."""
    out = np.zeros((label.shape[0] // factor, label.shape[1] // factor), np.uint8)
    compiled(fill_majority, fastmath=False)(label, factor, out)
    return out


def fill_pooled(img: Array, factor: int, out: Array) -> None:
    """Write the mean of each block, negative light as none; `pool` says what the arrays hold."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = 0.0
                for a in range(factor):
                    for b in range(factor):
                        total += max(img[y * factor + a, x * factor + b, c], 0.0)
                out[y, x, c] = total / factor**2


def pool(img: Array, factor: int) -> Array:
    """Shrink the light `img` [H,W,C] `factor` times by means; what is negative counts as 0."""
    height, width, channels = img.shape
    out = np.empty((height // factor, width // factor, channels))
    compiled(fill_pooled, fastmath=False)(img, factor, out)
    return out


def fill_means(values: Array, radius: int, out: Array) -> None:
    """Write the running mean of each row; `box_blur` says what the arrays hold.

    Two rows go side by side, because each sum of a row waits for the last.
    """
    height, width = values.shape
    span = 2 * radius + 1.0
    for a in range(0, height, 2):
        b, first, second = min(a + 1, height - 1), 0.0, 0.0
        for k in range(-radius, radius + 1):
            x = min(max(k, 0), width - 1)
            first, second = first + values[a, x], second + values[b, x]
        for x in range(width):
            enter, leave = min(x + radius + 1, width - 1), max(x - radius, 0)
            out[a, x], out[b, x] = first / span, second / span
            first += values[a, enter] - values[a, leave]
            second += values[b, enter] - values[b, leave]


def fill_means_down(values: Array, radius: int, total: Array, out: Array) -> None:
    """Write the running mean of each column, all of a row at once; `total` [W] begins as zeros."""
    height, width = values.shape
    span = 2 * radius + 1.0
    for k in range(-radius, radius + 1):
        row = min(max(k, 0), height - 1)
        for x in range(width):
            total[x] += values[row, x]
    for y in range(height):
        enter, leave = min(y + radius + 1, height - 1), max(y - radius, 0)
        for x in range(width):
            out[y, x] = total[x] / span
            total[x] += values[enter, x] - values[leave, x]


def box_blur(values: Array, radius: int) -> Array:
    """Average `values` [H,W] over a square of 2 * radius + 1 pixels, twice; edges repeat."""
    values, across = np.array(values, order="C"), np.empty(values.shape, values.dtype)
    for _ in range(2):
        compiled(fill_means)(values, radius, across)
        compiled(fill_means_down)(across, radius, np.zeros(values.shape[1]), values)
    return values
