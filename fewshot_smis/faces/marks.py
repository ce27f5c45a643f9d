"""Sparse label maps of rendered faces: landmark discs, and scribbles as a person would draw them.

Id 0 is unknown in both. Legend: M boolean map [H,W] of one class.
"""

import numpy as np

from fewshot_smis.data import Classes
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.traits import hsv

BACKGROUND_SCRIBBLE = 19
"""The id of background strokes: 0 is unknown and 1 to 18 are the CelebAMask-HQ classes."""

_FACE_PARTS = (
    ("jaw", 17),
    ("right brow", 5),
    ("left brow", 5),
    ("nose bridge", 4),
    ("nose base", 5),
    ("right eye", 6),
    ("left eye", 6),
    ("outer lips", 12),
    ("inner lips", 8),
)
_HEADINGS = 16  # directions tried for a stroke, over half a turn
_TURNS = np.deg2rad([0, -20, 20, -40, 40])  # how a stroke may bend at each step


def landmark_classes() -> Classes:
    """Return the 69 classes of landmark maps: unknown, then the 68 iBUG points in order.

    Left and right are the subject's; the hue tells the part, the brightness the place in it.
    """
    names, colors = ["unknown"], [(0, 0, 0)]
    for part, (name, count) in enumerate(_FACE_PARTS):
        for k in range(count):
            color = hsv(part / len(_FACE_PARTS), 0.85, 1 - 0.6 * k / count) * 255
            red, green, blue = (round(float(value)) for value in color)
            names.append(f"{name} {k + 1}")
            colors.append((red, green, blue))
    return Classes(tuple(names), tuple(colors), sparse=True)


def scribble_classes() -> Classes:
    """Return the 20 classes of scribble maps: unknown, 18 of CelebAMask-HQ, background strokes."""
    return Classes.CELEBAMASK.as_sparse()


def _stamp(label: Array, x: float, y: float, radius: float, value: int, within: Array) -> None:
    """Write a disc around (x, y), in pixels, into `label` [H,W] where `within` [H,W] allows."""
    rows, columns = np.ogrid[: label.shape[0], : label.shape[1]]
    disc = (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= radius**2
    label[disc & within] = value


def landmark_map(landmarks: Array, size: int, *, radius: float = 1.5) -> Array:
    """Draw `landmarks` [68,2] (pixels) as discs with the ids 1..68; the later overwrites.

    Args:
        landmarks: x and y in pixels, iBUG order; points outside the picture are left out.
        size: height and width of the map.
        radius: of the discs, in pixels.

    Returns:
        uint8 [size,size], 0 where there is no landmark.
    """
    label = np.zeros((size, size), np.uint8)
    everywhere = np.ones((size, size), bool)
    for number, (x, y) in enumerate(landmarks, 1):
        _stamp(label, x, y, radius, number, everywhere)
    return label


def region_depth(region: Array) -> Array:
    """Return how many pixels each place of M lies inside its border, [H,W] int64, 0 outside.

    The border of the picture counts as a border of M, so that strokes keep off it.
    """
    depth = np.zeros(region.shape, np.int64)
    inside = np.asarray(region, bool)
    while inside.any():
        depth += inside
        frame = np.pad(inside, 1)
        inside = inside & frame[:-2, 1:-1] & frame[2:, 1:-1] & frame[1:-1, :-2] & frame[1:-1, 2:]
    return depth


def _depth_at(depth: Array, point: Array) -> int:
    x, y = np.floor(point).astype(int)
    if 0 <= y < depth.shape[0] and 0 <= x < depth.shape[1]:
        return int(depth[y, x])
    return 0


def _walk(depth: Array, start: Array, heading: float, *, reach: float, floor: float) -> list[Array]:
    """Follow the ridge of `depth` [H,W] from `start` (x, y) for at most `reach` pixels.

    Each step of one pixel bends towards the deepest place and stops below `floor`.
    """
    path, point = [start], start
    for _ in range(int(reach)):
        angles = heading + _TURNS
        ahead = point + np.stack([np.cos(angles), np.sin(angles)], 1)
        depths = [_depth_at(depth, place) for place in ahead]
        best = int(np.argmax(depths))
        if depths[best] < max(floor, 1):
            break
        heading += _TURNS[best] * 0.5
        point = ahead[best]
        path.append(point)
    return path


def _stroke(depth: Array, rng: np.random.Generator, reach: float) -> Array:
    """Return a stroke [n,2] (x, y) through the deepest place, along the longest way."""
    deepest = np.argwhere(depth == depth.max())
    row, column = deepest[rng.integers(len(deepest))]
    start = np.array([column + 0.5, row + 0.5])
    floor = 0.4 * depth.max()
    ways = []
    for heading in np.pi * np.arange(_HEADINGS) / _HEADINGS:
        back = _walk(depth, start, heading + np.pi, reach=reach / 2, floor=floor)
        forth = _walk(depth, start, heading, reach=reach / 2, floor=floor)
        ways.append([*back[:0:-1], *forth])
    spans = [float(np.hypot(*(way[-1] - way[0]))) for way in ways]
    return np.array(ways[int(np.argmax(spans))])


def _strokes(region: Array, rng: np.random.Generator, radius: float) -> list[Array]:
    """Return one to five strokes inside M, far from each other."""
    side = min(region.shape)
    share = region.mean()
    count = 1 + sum(bool(share > limit) for limit in (0.01, 0.05, 0.12, 0.25))
    free = region_depth(region)
    first = free.max()
    strokes = []
    for _ in range(count):
        if free.max() < max(1, 0.3 * first):
            break
        line = _stroke(free, rng, reach=0.35 * side)
        strokes.append(line)
        used = np.zeros(region.shape, bool)
        for x, y in line:
            _stamp(used, x, y, max(0.08 * side, 3 * radius), 1, np.ones_like(used))
        free = np.where(used, 0, free)
    return strokes


def scribble_map(
    label: Array,
    rng: np.random.Generator,
    *,
    radius: float = 1.2,
    background: int = BACKGROUND_SCRIBBLE,
) -> Array:
    """Draw a few strokes inside each region of a dense map, as a person would.

    Args:
        label: [H,W] ids, of CelebAMask-HQ by default.
        rng: chooses among equally good places.
        radius: of the brush, in pixels.
        background: the id of strokes in what has id 0.

    Returns:
        uint8 [H,W]: 0 unknown, `background` for background, else as in `label`.
    """
    scribbles = np.zeros(label.shape, np.uint8)
    for value in np.unique(label):
        region = label == value
        ink = int(value) or background
        for line in _strokes(region, rng, radius):
            for x, y in line:
                _stamp(scribbles, x, y, radius, ink, region)
    return scribbles
