"""Clothes: where they begin on the body, their thickness, and their colour.

Everything is a function of the place on the neutral mesh, so that it sticks to the body.
"""

import numpy as np

from fewshot_smis.faces.geometry import Array, smoothstep
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.traits import Garment, Traits, linear

_RIM = 0.05  # dm, width of the hem at the neckline
_THICKNESS = 0.035  # dm


def garment_field(rest: Array, traits: Traits) -> Array:
    """Return the signed distance [P] of the points `rest` [P,3] to the neckline, > 0 below it."""
    garment = traits.garment
    x, y, z = np.ascontiguousarray(rest.T)
    side = np.abs(x)
    rough = 0.02 * (value_noise(rest, 3, traits.offset) - 0.5)
    front = smoothstep(0.2, 0.5, z)
    cut = garment.v_neck * np.clip(0.4 - side, 0, 1) * front
    shoulder = 0.25 * np.clip(side - 0.5, 0, 0.6)
    collar = garment.collar * np.maximum(smoothstep(0.05, 0.3, side), 1 - front)
    field: Array = garment.neckline + rough - cut + shoulder + collar - y
    return field


def dress(verts: Array, rest: Array, normals: Array, traits: Traits) -> Array:
    """Return `verts` [V,3] with the clothed ones pushed outwards along `normals` [V,3]."""
    thick = _THICKNESS * smoothstep(-0.03, 0.08, garment_field(rest, traits))
    dressed: Array = (verts + normals * thick[:, None]).astype(np.float32)
    return dressed


def _pattern(rest: Array, garment: Garment, weave: Array) -> Array:
    """Return how much of the accent colour shows, [P] in 0..1."""
    x, y, _ = rest.T
    turn = np.float32(2 * np.pi / garment.spacing)
    if garment.pattern == "stripes":
        return smoothstep(-0.1, 0.1, np.sin(y * turn)) * 0.9
    if garment.pattern == "checks":
        bands = smoothstep(-0.1, 0.1, np.sin(x * turn)) + smoothstep(-0.1, 0.1, np.sin(y * turn))
        return bands * 0.45
    if garment.pattern == "heather":
        return np.clip(weave * 1.6 - 0.4, 0, 1)
    return np.zeros_like(x)


def cloth_albedo(rest: Array, field: Array, traits: Traits) -> Array:
    """Return the linear albedo [P,3] of cloth at `rest` [P,3]; `field` [P] is garment_field."""
    garment = traits.garment
    weave = value_noise(rest * [60, 60, 60] + traits.offset)
    folds = value_noise(rest * [4, 2, 4] + traits.offset)
    accent = _pattern(rest, garment, weave)
    plain, other = linear(garment.color), linear(garment.accent)
    color = plain + accent[:, None] * (other - plain)
    hem = smoothstep(0.012, 0.0, np.abs(field - _RIM))
    color *= (0.85 + 0.3 * weave * (1 + folds) * 0.5 - 0.35 * hem)[:, None]
    shaded: Array = color.astype(np.float32)
    return shaded
