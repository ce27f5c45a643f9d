"""Landmarks as sparse label maps, in the schemes of 68 and of 70 points, and back to points.

Id k is the k-th point of the 300-W scheme: 1-17 jaw, 18-27 brows, 28-36 nose, 37-48 eyes, 49-68
lips; left comes first as the picture shows it. 69 and 70 are the pupils, as in OpenPose and in
CelebALandmark-HQ. Each point is a square; where squares overlap the later id is seen.
"""

import numpy as np
from numpy.typing import NDArray

from fewshot_smis.data import Classes
from fewshot_smis.data.images import as_size
from fewshot_smis.data.labels import Ids
from fewshot_smis.faces.marks import landmark_classes
from stylegan.errors import LabelError, ShapeError
from tools.detectors import Points

SQUARE = 21 / 1024
"""Side of a point's square over the shorter side of the picture, 21 px in maps of 1024 px."""

EYES = (slice(36, 42), slice(42, 48))  # the lids of the eye at the left of the picture, and right
OUTER_EYES = (36, 45)  # the corners whose distance is the unit of landmark errors

TURNED_AWAY = 0.35
"""How far the tip of the nose lies from the middle of the outer eye corners, over their distance,
where a head is turned by 40 degrees."""

_PUPIL_COLORS = ((255, 255, 255), (160, 160, 160))


def scheme_classes(count: int) -> Classes:
    """Return the classes of maps of 68 or 70 points, unknown included.

    Raises:
        ShapeError: There is no scheme of `count` points.
    """
    face = landmark_classes()
    if count == 68:
        return face
    if count != 70:
        raise ShapeError(f"there is no scheme of {count} landmarks; choose 68 or 70")
    names = (*face.names, "right pupil", "left pupil")
    return Classes(names, (*face.colors, *_PUPIL_COLORS), sparse=True)


def with_pupils(points: Points) -> Points:
    """Return the 70 points of 68 `points` [68,2]: a pupil is put in the middle of its lids."""
    _check_points(points)
    return np.concatenate([points, [points[eye].mean(0) for eye in EYES]])


def draw_points(points: Points, size: int | tuple[int, int], *, square: float = SQUARE) -> Ids:
    """Draw `points` [n,2] as squares with the ids 1..n; the later overwrites.

    Args:
        points: x and y in pixels; what lies outside the picture is left out, as is not-a-number.
        size: (height, width) of the map, or the side of a square one.
        square: Side of a point over the shorter side of the picture; it is at least one pixel.

    Returns:
        int64 [H,W], 0 where there is no landmark.
    """
    height, width = as_size(size)
    side = max(round(square * min(height, width)), 1)
    label = np.zeros((height, width), np.int64)
    for number, point in enumerate(points, 1):
        if np.isfinite(point).all():
            left, top = np.rint(point - side / 2).astype(int).tolist()
            label[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = number
    return label


def read_points(label: Ids, count: int = 68) -> Points:
    """Return the centres [count,2] of the squares in `label` [H,W]; NaN where one is hidden.

    A square that others cover so far that its width or height is lost counts as hidden.

    Raises:
        LabelError: The map shows no whole square.
    """
    boxes: dict[int, NDArray[np.int64]] = {}
    for number in range(1, count + 1):
        places = np.argwhere(label == number)  # rows and columns
        if len(places):
            boxes[number] = np.stack([places.min(0), places.max(0) + 1])
    sides = [int(side) for box in boxes.values() for side in box[1] - box[0]]
    side = max(set(sides), key=sides.count) if sides else 0
    points = np.full((count, 2), np.nan)
    for number, box in boxes.items():
        if (box[1] - box[0] == side).all():
            points[number - 1] = box.mean(0)[::-1]
    if np.isnan(points).all():
        raise LabelError("shows no landmark whole; is it a map of landmarks?")
    return points


def remarks(points: Points, size: tuple[int, int]) -> list[str]:
    """Return what is doubtful about the `points` [68,2] of a face in a picture of (height, width).

    An empty list means that nothing is.
    """
    _check_points(points)
    found = []
    right, left = (points[i] for i in OUTER_EYES)
    along = left - right
    turn = float((points[30] - right) @ along / max(along @ along, 1e-9)) - 0.5
    if abs(turn) > TURNED_AWAY:
        side = "right" if turn > 0 else "left"
        found.append(f"turned to the {side} by more than 40 degrees; its far side is guessed")
    outside = ((points < 0) | (points > size[::-1])).any(1).sum()
    if outside:
        found.append(f"{outside} of 68 landmarks lie outside the picture")
    if np.hypot(*along) < 20:
        found.append(f"its eyes are {np.hypot(*along):.0f} pixels apart, which is little to go by")
    return found


def _check_points(points: Points) -> None:
    if points.shape != (68, 2):
        raise ShapeError(f"landmarks are [68, 2], not {list(points.shape)}")
