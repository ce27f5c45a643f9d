"""Faces for tests without a detector: points of a drawn face, and a stub that states them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fewshot_smis.data.images import UInt8
from tools.detectors import Finder, Points


def face_points(center: tuple[float, float], wide: float) -> Points:
    """68 points of an upright face whose outer eye corners are `wide` pixels apart."""
    points = np.zeros((68, 2))
    turn = np.pi * np.arange(17) / 16
    points[:17] = np.stack([-np.cos(turn) * 0.75, np.sin(turn) * 1.1], 1)
    points[17:27, 0] = [-0.55, -0.45, -0.35, -0.25, -0.15, 0.15, 0.25, 0.35, 0.45, 0.55]
    points[17:27, 1] = -0.25
    points[27:31, 1] = [0, 0.15, 0.3, 0.42]
    points[31:36] = np.stack([np.linspace(-0.15, 0.15, 5), np.full(5, 0.5)], 1)
    lids = np.array([[-1, 0], [-0.4, -0.5], [0.4, -0.5], [1, 0], [0.4, 0.5], [-0.4, 0.5]])
    points[36:42] = lids * 0.16 + (-0.34, 0)
    points[42:48] = lids * 0.16 + (0.34, 0)
    for start, count, radius in ((48, 12, 1.0), (60, 8, 0.6)):
        turn = np.pi + 2 * np.pi * np.arange(count) / count
        points[start : start + count] = np.stack(
            [np.cos(turn) * 0.3 * radius, 0.75 + np.sin(turn) * 0.15 * radius], 1
        )
    placed: Points = points * wide + center
    return placed


def stub_detector(faces: Mapping[int, list[Points]]) -> Callable[..., Finder]:
    """Return an `open_detector` that finds in a picture the faces of its first pixel's red."""

    def finder(image: UInt8) -> list[Points]:
        return faces[int(image[0, 0, 0])]

    def open_detector(**options: Any) -> Finder:
        return finder

    return open_detector
