"""What each pixel sees of the mesh: interpolated fields, normals and textures.

Legend: P pixels that see the mesh, in reading order.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import (
    BODY,
    EYE_LEFT,
    EYE_RIGHT,
    Array,
    load_geometry,
    unit,
    vertex_normals,
)
from fewshot_smis.faces.raster import Coverage


class Surface(NamedTuple):
    """The visible mesh, one row a pixel."""

    hit: Array  # [W,W] bool, the P pixels
    corners: Array  # [P,3] vertex ids
    weights: Array  # [P,3] float32, barycentric
    group: Array  # [P] int64, geometry.BODY .. TONGUE
    place: Array  # [P,3] float32, the point on the posed head
    rest: Array  # [P,3] float32, the same point on the neutral mesh: sticks to the skin
    normal: Array  # [P,3] unit, towards the camera
    body: Array  # [P] bool
    eye: Array  # [P] bool
    left: Array  # [P] bool, the subject's left half
    lips: Array  # [P] 0..1, as the next three
    mouth: Array
    ears: Array
    lids: Array

    def at(self, field: Array) -> Array:
        """Interpolate a per-vertex `field` [V] or [V,k] at the P pixels."""
        return _interpolate(field, self.corners, self.weights)


def fill_mixed(field: Array, corners: Array, weights: Array, out: Array) -> None:
    """Write the barycentric mean of `field` [V,k] at each pixel; see `Surface.at`."""
    for p in range(out.shape[0]):
        a, b, c = corners[p, 0], corners[p, 1], corners[p, 2]
        for k in range(out.shape[1]):
            value = weights[p, 0] * field[a, k] + weights[p, 1] * field[b, k]
            out[p, k] = value + weights[p, 2] * field[c, k]


def _interpolate(field: Array, corners: Array, weights: Array) -> Array:
    columns = np.ascontiguousarray(field.reshape(len(field), -1), np.float32)
    out = np.empty((len(corners), columns.shape[1]), np.float32)
    compiled(fill_mixed)(columns, corners, weights, out)
    return out.reshape(len(corners), *field.shape[1:])


def _texels(uv: Array, side: int) -> Array:
    """Return which texel of a mask [side,side], counted in reading order, `uv` [P,2] lies in."""
    row = np.clip((1 - uv[:, 1]) * side, 0, side - 1).astype(int)
    column = np.clip(uv[:, 0] * side, 0, side - 1).astype(int)
    texels: Array = row * side + column
    return texels


def visible_surface(verts: Array, placed: Array, rotation: Array, coverage: Coverage) -> Surface:
    """Interpolate a mesh over what `coverage` says is visible.

    Args:
        verts: [V,3] float32, the head in model space.
        placed: [V,3], the same as `Camera.place` poses it.
        rotation: [3,3], of the head.
        coverage: of the placed mesh.
    """
    geo = load_geometry()
    hit = coverage.tri >= 0
    seen = np.flatnonzero(hit)
    tri, weights = coverage.tri.take(seen), coverage.weights.reshape(-1, 3).take(seen, 0)
    corners, group = geo.tris.take(tri, 0), geo.groups.take(tri)
    normals = vertex_normals(verts, geo.tris) @ rotation.T
    normal, place, rest = (
        _interpolate(part, corners, weights) for part in (normals, placed, geo.verts)
    )
    normal = unit(normal)
    normal[normal[:, 2] < 0] *= -1
    uv = _interpolate(geo.uv_table, geo.tri_uv.take(tri, 0), weights)
    texels = _texels(uv, len(geo.masks["lips"]))
    body = group == BODY
    lips, mouth, ears, lids = (
        geo.masks[name].take(texels) * np.float32(1 / 255) * body
        for name in ("lips", "inside_mouth", "ears", "eyelids")
    )
    return Surface(
        hit=hit,
        corners=corners,
        weights=weights,
        group=group,
        place=place,
        rest=rest,
        normal=normal,
        body=body,
        eye=(group == EYE_LEFT) | (group == EYE_RIGHT),
        left=rest[:, 0] > 0,
        lips=lips,
        mouth=mouth,
        ears=ears,
        lids=lids,
    )
