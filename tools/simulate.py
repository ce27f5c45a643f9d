"""Sparse marks made from dense maps: strokes, centre lines, contours, crosses.

The ids are those of `Classes.as_sparse`: 0 is unknown, and what was class 0 comes last.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_smis.data.classes import IGNORE
from fewshot_smis.data.labels import Ids
from fewshot_smis.faces.marks import scribble_map
from stylegan.errors import BackendError, ConfigError
from tools.strokes import Stroke, draw_strokes

Mask = NDArray[np.bool_]

KINDS = ("strokes", "lines", "contours", "crosses")

_SMALLEST = 3.0  # regions of fewer pixels than this times the squared width get no mark


def simulate(
    label: Ids, num_classes: int, kind: str, rng: np.random.Generator, width: float
) -> Ids:
    """Mark the regions of a dense map.

    Args:
        label: [H,W] ids below `num_classes`, or IGNORE.
        num_classes: Classes of the dense map.
        kind: "strokes", a few inside each region, as a person draws; "lines", along its middle;
            "contours", its border inside; "crosses", its two axes.
        rng: Chooses where strokes go.
        width: of the marks, in pixels.

    Returns:
        int64 [H,W], 0 unknown, `num_classes` where class 0 was marked; no mark leaves its region.

    Raises:
        BackendError: scikit-image is not installed.
        ConfigError: There is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"no marks are called '{kind}'; choose from {', '.join(KINDS)}")
    if kind == "strokes":
        dense = np.where(label == IGNORE, 0, label)
        marks = scribble_map(dense, rng, radius=width / 2, background=num_classes)
        return np.where(label == IGNORE, 0, marks).astype(np.int64)
    mark = {"lines": _middle, "contours": _border, "crosses": _axes}[kind]
    sparse = np.zeros(label.shape, np.int64)
    for region, value in _regions(label, width):
        sparse[mark(region, width) & region] = value or num_classes
    return sparse


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise _missing() from error
    return ndimage


def _missing() -> BackendError:
    return BackendError(
        "scikit-image, which finds the middle of regions, is not installed: "
        "pip install 'fewshot-smis[scribbles]'"
    )


def _regions(label: Ids, width: float) -> list[tuple[Mask, int]]:
    """Return the connected regions of a map that are large enough for a mark, and their ids."""
    found = []
    for value in np.unique(label[label != IGNORE]).tolist():
        parts, count = _ndimage().label(label == value, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        large = [k for k in range(1, count + 1) if sizes[k] >= _SMALLEST * width**2]
        found += [(parts == k, value) for k in large or [int(sizes[1:].argmax()) + 1]]
    return found


def _middle(region: Mask, width: float) -> Mask:
    """Return the centre line of a region, `width` pixels wide; its outline is smoothed first."""
    try:
        from skimage import morphology
    except ImportError as error:
        raise _missing() from error
    thin: Any = morphology
    depth = _ndimage().distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    core = depth > min(0.5 * depth.max(), 2 * width)  # without the spurs to every bump
    line = thin.skeletonize(core)
    near: Mask = _ndimage().distance_transform_edt(~line) <= width / 2
    return near


def _border(region: Mask, width: float) -> Mask:
    """Return the rim of a region, `width` pixels wide, but not along the edge of the picture."""
    depth = _ndimage().distance_transform_edt(np.pad(region, 1, mode="edge"))[1:-1, 1:-1]
    rim: Mask = depth <= width
    return rim


def _axes(region: Mask, width: float) -> Mask:
    """Return a cross through the middle of a region, along its longest and its shortest way."""
    rows, columns = np.nonzero(region)
    places = np.stack([columns, rows], 1) + 0.5
    center = places.mean(0)
    ways = np.linalg.svd(places - center, full_matrices=False)[2] if len(places) > 1 else np.eye(2)
    strokes = []
    for way in ways:
        reach = (places - center) @ way
        ends = np.array([center + reach.min() * way, center + reach.max() * way])
        strokes.append(Stroke(ends, 1, width))
    cross: Mask = draw_strokes(strokes, (region.shape[0], region.shape[1])) > 0
    return cross
