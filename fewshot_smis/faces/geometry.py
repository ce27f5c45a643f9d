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

from fewshot_smis.faces.compiled import compiled

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

    place: Array  # [3n] int32, places in the flattened mesh
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


def _blend_shape(vertex: Array, delta: Array) -> BlendShape:
    """Return the shape that moves the vertices `vertex` [n] by `delta` [n,3]."""
    place = (vertex.astype(np.int32)[:, None] * 3 + np.arange(3, dtype=np.int32)).ravel()
    return BlendShape(place, delta.ravel())


@functools.cache
def load_geometry() -> Geometry:
    """Read the data pack that ships with the package, once per process."""
    with np.load(_PACK) as pack:
        data = {name: pack[name] for name in pack.files}
    groups = data["tri_group"].astype(np.int64)
    drawn = groups != HAIR_HELPER
    pointer, delta = data["bs_ptr"], data["bs_delta"].astype(np.float32)
    shapes = {
        str(name): _blend_shape(data["bs_idx"][start:stop], delta[start:stop])
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


def fill_moved(flat: Array, place: Array, delta: Array, weight: float) -> None:
    """Move `flat` at each `place` [n] by `weight` times `delta` [n]."""
    for n in range(place.shape[0]):
        flat[place[n]] += weight * delta[n]


def add_shape(verts: Array, name: str, weight: float) -> None:
    """Move the contiguous `verts` [V,3] in place by `weight` times the blend shape `name`.

    Shapes without effect on the head are not in the pack; their names do nothing.
    """
    shape = load_geometry().shapes.get(name)
    if shape is not None and weight:
        precise = np.result_type(weight, shape.delta).type(weight)  # as NumPy would multiply
        compiled(fill_moved, fastmath=False)(verts.reshape(-1), shape.place, shape.delta, precise)


def fill_units(vectors: Array, out: Array) -> None:
    """Write `vectors` [N,3] at length one; `unit` says how."""
    least = vectors.dtype.type(1e-9)
    for n in range(vectors.shape[0]):
        x, y, z = vectors[n, 0], vectors[n, 1], vectors[n, 2]
        length = np.sqrt(x * x + y * y + z * z) + least
        out[n, 0], out[n, 1], out[n, 2] = x / length, y / length, z / length


def unit(vectors: Array) -> Array:
    """Scale `vectors` [...,3] to length one; zero stays zero."""
    flat = np.ascontiguousarray(vectors, np.result_type(vectors, 1.0)).reshape(-1, 3)
    scaled = np.empty_like(flat)
    compiled(fill_units, fastmath=False)(flat, scaled)
    return scaled.reshape(vectors.shape)


def fill_rise(x: Array, start: float, span: float, out: Array) -> None:
    """Write the height of a smooth step at each `x` [N]; `smoothstep` says what it is."""
    kind = x.dtype.type
    for n in range(x.shape[0]):
        t = min(max((x[n] - start) / span, kind(0)), kind(1))
        out[n] = t * t * (kind(3) - kind(2) * t)


def smoothstep(start: float, stop: float, x: Any) -> Any:
    """Rise from 0 at `start` to 1 at `stop` with level ends; `start` may be the larger."""
    flat = np.ravel(np.asarray(x, np.result_type(x, 1.0)))
    kind, rise = flat.dtype.type, np.empty_like(flat)
    compiled(fill_rise, fastmath=False)(flat, kind(start), kind(stop - start), rise)
    return rise.reshape(np.shape(x))[()]


def fill_facing(verts: Array, tris: Array, total: Array) -> None:
    """Add the normal of each triangle, as long as twice its area, to `total` [3,V,3] float64.

    The first index is the place of the vertex in its triangles.
    """
    for t in range(tris.shape[0]):
        a, b, c = tris[t, 0], tris[t, 1], tris[t, 2]
        x, y, z = verts[b, 0] - verts[a, 0], verts[b, 1] - verts[a, 1], verts[b, 2] - verts[a, 2]
        u, v, w = verts[c, 0] - verts[a, 0], verts[c, 1] - verts[a, 1], verts[c, 2] - verts[a, 2]
        facing = (y * w - z * v, z * u - x * w, x * v - y * u)
        for corner in range(3):
            for axis in range(3):
                total[corner, tris[t, corner], axis] += facing[axis]


def vertex_normals(verts: Array, tris: Array) -> Array:
    """Return unit normals [V,3] of `verts` [V,3], each the area-weighted mean over `tris` [T,3]."""
    total, facing = np.zeros_like(verts), np.zeros((3, *verts.shape))
    compiled(fill_facing, fastmath=False)(verts, tris, facing)
    for part in facing:
        total += part
    return unit(total)
