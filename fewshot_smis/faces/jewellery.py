"""Earrings and necklaces.

Earrings are poly-lines that hang from the ear lobes, so that hair may hide them; a necklace is a
band of the skin with the relief of a chain.
"""

import functools

import numpy as np

from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.geometry import Array, load_geometry, unit
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.raster import Canvas, draw_strands
from fewshot_smis.faces.traits import Light, Traits, linear

_WIRE = 0.011  # dm, half the thickness
_POINTS = 25


@functools.cache
def _lobes() -> tuple[int, int]:
    """Return the lowest vertex of the left and of the right ear."""
    geo = load_geometry()
    height = np.where(geo.fields["w_ears"] > 0.9, geo.verts[:, 1], np.inf)
    left, right = (np.where(geo.verts[:, 0] * sign > 0, height, np.inf) for sign in (1, -1))
    return int(left.argmin()), int(right.argmin())


def _hoop(radius: float) -> Array:
    """Return a ring [K,3] that hangs from the origin, seen half from the side."""
    angle = np.linspace(0, 2 * np.pi, _POINTS)
    ring = [np.sin(angle) * 0.5, np.cos(angle) - 1, np.sin(angle) * 0.85]
    return radius * np.stack(ring, 1)


def _drop(length: float) -> Array:
    """Return a straight line [K,3] down from the origin."""
    return np.linspace([0, 0, 0], [0, -length, 0], _POINTS)


def _metal(placed: Array, tint: Array, light: Light) -> Array:
    """Return linear colours [K,3] of a wire: it shines where it runs across the light."""
    along = unit(np.gradient(placed, axis=0)) @ light.half
    shine = 0.35 + 1.3 * np.clip(1 - along**2, 0, 1) ** 8
    lit: Array = linear(tint) * (light.ambient + shine[:, None] * light.key_color)
    return lit


def draw_earrings(canvas: Canvas, verts: Array, traits: Traits, camera: Camera) -> None:
    """Hang the earrings of `traits` on the head `verts` [V,3], in place."""
    jewels = traits.jewels
    if jewels.earring == "none":
        return
    size = jewels.earring_size
    shapes = {
        "stud": [(_drop(0.012), 2.4 * _WIRE)],
        "hoop": [(_hoop(size), _WIRE)],
        "drop": [(_drop(size), 0.8 * _WIRE), (_drop(0.03) - [0, size, 0], 2.8 * _WIRE)],
    }
    for lobe, sign in zip(_lobes(), (1, -1), strict=True):
        hook = verts[lobe] + [0.012 * sign, 0.025, 0.03]
        for shape, thick in shapes[jewels.earring]:
            placed = camera.place(hook + shape * [sign, 1, 1])
            color = _metal(placed, jewels.color, traits.light)
            draw_strands(
                canvas,
                camera.project(placed)[None],
                color[None].astype(np.float32),
                label=FaceClass.EARRING,
                radius=max(0.75, thick * camera.scale),
                bias=0.03,
            )
