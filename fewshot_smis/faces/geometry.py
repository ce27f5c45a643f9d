"""The deformable head: mesh, blend shapes and per-vertex fields of the data pack.

Units are decimetres; x points to the subject's left (image right), y up, z to the camera.
Legend: V vertices, T triangles, B blend shapes.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

BODY, HAIR_HELPER, EYE_LEFT, EYE_RIGHT, TEETH_UPPER, TEETH_LOWER, TONGUE = range(7)
"""The mesh groups; left and right are the subject's."""

_PACK = Path(__file__).with_name("geometry.npz")
_FIELDS = (
    "sd_hair",
    "sd_jaw",
    "sd_nose",
    "brow_uv",
    "w_lips",
    "w_ears",
    "w_lower_jaw",
    "w_inside_mouth",
)


class BlendShape(NamedTuple):
    """A sparse displacement of the mesh."""

    place: Array | slice  # [3n] places in the flattened mesh, which index fastest; or all
    delta: Array  # [3n] float32, dm at weight 1


@dataclass(frozen=True)
class Geometry:
    """The data pack, without the coarse hair hull: grown strands replace it."""

    verts: Array  # [V,3] float32, neutral positions
    tris: Array  # [T,3] int32, counter-clockwise seen from outside
    groups: Array  # [T] int64, BODY .. TONGUE
    body: Array  # [.,3] int32, the triangles of the group BODY
    tri_uv: Array  # [T,3] int32, rows of uv_table
    uv_table: Array  # [U,2] float32
    masks: dict[str, Array]  # name -> [1024,1024] uint8, read by per-corner uv
    fields: dict[str, Array]  # name -> [V] or [V,2] float32
    landmarks: Array  # [68] int32, vertex ids in iBUG order
    eye_centers: Array  # [2,3] float32, subject's left and right
    shapes: dict[str, BlendShape]


def _blend_shape(vertex: Array, delta: Array, count: int) -> BlendShape:
    """Return the shape that moves the vertices `vertex` [n] of `count` by `delta` [n,3]."""
    place = (vertex.astype(np.intp)[:, None] * 3 + np.arange(3)).ravel()
    every = np.array_equal(vertex, np.arange(count))
    return BlendShape(slice(None) if every else place, delta.ravel())


@functools.cache
def load_geometry() -> Geometry:
    """Read the data pack that ships with the package, once per process."""
    with np.load(_PACK) as pack:
        data = {name: pack[name] for name in pack.files}
    groups = data["tri_group"].astype(np.int64)
    drawn = groups != HAIR_HELPER
    pointer, delta = data["bs_ptr"], data["bs_delta"].astype(np.float32)
    shapes = {
        str(name): _blend_shape(data["bs_idx"][start:stop], delta[start:stop], len(data["verts"]))
        for name, start, stop in zip(data["bs_names"], pointer[:-1], pointer[1:], strict=True)
    }
    return Geometry(
        verts=data["verts"],
        tris=data["tris"][drawn],
        groups=groups[drawn],
        body=data["tris"][groups == BODY],
        tri_uv=data["tri_uv"][drawn],
        uv_table=data["uv_table"],
        masks={str(n): m for n, m in zip(data["mask_names"], data["masks"], strict=True)},
        fields={name: data[name].astype(np.float32) for name in _FIELDS},
        landmarks=data["landmarks"],
        eye_centers=data["eye_centers"],
        shapes=shapes,
    )


def add_shape(verts: Array, name: str, weight: float) -> None:
    """Move the contiguous `verts` [V,3] in place by `weight` times the blend shape `name`.

    Shapes without effect on the head are not in the pack; their names do nothing.
    """
    shape = load_geometry().shapes.get(name)
    if shape is not None and weight:
        verts.reshape(-1)[shape.place] += weight * shape.delta


def unit(vectors: Array) -> Array:
    """Scale `vectors` [...,3] to length one; zero stays zero."""
    square = vectors * vectors
    length = np.sqrt(square[..., 0] + square[..., 1] + square[..., 2])
    return vectors / (length[..., None] + 1e-9)


def smoothstep(start: float, stop: float, x: Any) -> Any:
    """Rise from 0 at `start` to 1 at `stop` with level ends; `start` may be the larger."""
    t = np.asarray(x - start)
    t /= stop - start
    np.clip(t, 0, 1, out=t)
    rise = 3 - 2 * t
    rise *= t * t
    return rise


def vertex_normals(verts: Array, tris: Array) -> Array:
    """Return unit normals [V,3] of `verts` [V,3], each the area-weighted mean over `tris` [T,3]."""
    planes, corners = np.ascontiguousarray(verts.T), np.ascontiguousarray(tris.T)
    a, b, c = (planes.take(corner, 1) for corner in corners)
    (x, y, z), (u, v, w) = b - a, c - a
    facing = y * w - z * v, z * u - x * w, x * v - y * u
    total = np.zeros_like(planes)
    for corner in corners:
        for axis in range(3):
            total[axis] += np.bincount(corner, facing[axis], len(verts))
    return unit(np.ascontiguousarray(total.T))
