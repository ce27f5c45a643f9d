"""Pose and camera: model space to pixels, framed like aligned portrait photographs."""

from typing import NamedTuple

import numpy as np

from fewshot_smis.data.alignment import face_frame
from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array, load_geometry
from fewshot_smis.faces.traits import Pose, View


class Camera(NamedTuple):
    """A posed head in front of a pin-hole camera."""

    rotation: Array  # [3,3], of the head
    pivot: Array  # [3], middle of the head, dm
    distance: float  # from the camera to the pivot plane, dm
    center: Array  # [2], middle of the crop on the picture plane
    basis: Array  # [2,2], picture plane to pixels
    shift: Array  # [2], pixels
    width: int  # of the canvas, pixels
    scale: float  # pixels per dm at the pivot

    def place(self, points: Array) -> Array:
        """Pose `points` [...,3] of the model: the head turns, the neck follows in part."""
        return _place(points, self.rotation, self.pivot)

    def project(self, placed: Array) -> Array:
        """Return pixels x, y and depth [...,3] float32 of `placed` points [...,3]."""
        flat, middle = placed.reshape(-1, 3), self.width / 2 + self.shift
        pixels = np.empty(flat.shape, np.float32)
        compiled(fill_pixels)(flat, self.distance, self.center, self.basis, middle, pixels)
        return pixels.reshape(placed.shape)


def fill_placed(points: Array, rotation: Array, pivot: Array, share: Array, out: Array) -> None:
    """Write `points` turned by their `share` of `rotation`; all but the matrices are [N,.]."""
    for n in range(points.shape[0]):
        x, y, z = points[n, 0] - pivot[0], points[n, 1] - pivot[1], points[n, 2] - pivot[2]
        rest = np.float32(1) - share[n]
        for k, still in enumerate((x, y, z)):
            turned = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z
            out[n, k] = turned * share[n] + still * rest


def fill_pixels(
    placed: Array, distance: float, center: Array, basis: Array, middle: Array, out: Array
) -> None:
    """Write pixels x, y and depth of `placed` [N,3]; `Camera.project` says what they are."""
    for n in range(placed.shape[0]):
        nearness = distance / (distance - placed[n, 2])
        x = placed[n, 0] * nearness - center[0]
        y = -placed[n, 1] * nearness - center[1]
        out[n, 0] = basis[0, 0] * x + basis[0, 1] * y + middle[0]
        out[n, 1] = basis[1, 0] * x + basis[1, 1] * y + middle[1]
        out[n, 2] = placed[n, 2]


def rotation_matrix(pose: Pose) -> Array:
    """Return the rotation [3,3] of a head: first yaw about y, then pitch about x, then roll."""
    a, b, c = np.deg2rad(pose)
    yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    roll = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: Array = roll @ pitch @ yaw
    return turned


def _place(points: Array, rotation: Array, pivot: Array) -> Array:
    share = np.clip((points[..., 1].ravel() - 5.0) / 1.1, 0.25, 1)
    placed = np.empty((len(share), 3))
    compiled(fill_placed)(points.reshape(-1, 3), rotation, pivot, share, placed)
    return placed.reshape(points.shape)


def _perspective(placed: Array, distance: float) -> Array:
    """Project `placed` [...,3] on the plane through the pivot; y points down from here on."""
    return placed[..., :2] * (distance / (distance - placed[..., 2:3])) * np.array([1, -1])


def frame_portrait(verts: Array, view: View, width: int, *, jitter: bool = True) -> Camera:
    """Aim the camera at the head `verts` [V,3] with the FFHQ / CelebA-HQ alignment rule.

    The crop follows from the projected eyes and mouth; `jitter` adds the small errors that real
    alignments have.
    """
    marks = load_geometry().landmarks
    rotation = rotation_matrix(view.pose)
    pivot = np.array([0, verts[marks[30], 1], 0.55])
    points = _perspective(_place(verts[marks], rotation, pivot), view.distance)
    frame = face_frame(points)
    basis = frame.axes * width / (2 * frame.half)
    return Camera(
        rotation=rotation,
        pivot=pivot,
        distance=view.distance,
        center=frame.center,
        basis=basis * (1 + view.zoom * 0.015 * jitter),
        shift=view.shift * width * 0.006 * jitter + np.array([0, 0.006 * width]),
        width=width,
        scale=width / (2 * frame.half),
    )
