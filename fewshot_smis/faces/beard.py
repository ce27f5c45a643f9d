"""Beards: where they grow, the shadow they paint on the skin, and their short strands.

Places are those of the neutral mesh, dm. Beards are skin in the label map.
"""

from typing import Any

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry, smoothstep, unit
from fewshot_smis.faces.hair import scatter_roots
from fewshot_smis.faces.labels import FaceClass, Regions
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.raster import Canvas
from fewshot_smis.faces.scene import Scene
from fewshot_smis.faces.strands import draw_soft, light_strands, seen_segments
from fewshot_smis.faces.surface import Surface
from fewshot_smis.faces.traits import Traits

_ROOTS = {"moustache": 1500, "goatee": 3000, "full": 6000}
GROWN_BEARDS = tuple(_ROOTS)
"""Beards that are drawn; stubble is only painted."""

_LENGTH = {"moustache": 0.07, "goatee": 0.09, "full": 0.10}


def _zone(kind: str, rest: Array, jaw: Array) -> Array:
    """Return how densely a beard of `kind` grows at `rest` [P,3], 0..1; `jaw` is sd_jaw [P]."""
    x, y, z = rest.T
    side = np.abs(x)
    lip = smoothstep(0.35, 0.26, side) * smoothstep(6.85, 6.79, y) * smoothstep(6.40, 6.50, y)
    if kind == "moustache":
        grown = lip * smoothstep(6.58, 6.66, y)
    elif kind == "goatee":
        chin = smoothstep(0.34, 0.22, side) * smoothstep(6.54, 6.44, y)
        grown = np.maximum(lip, chin)
    else:
        cheek = 6.60 + 0.9 * np.clip(side - 0.33, 0, 0.6) - y
        grown = np.maximum(lip, smoothstep(-0.08, 0.08, cheek))
    zone: Array = grown * smoothstep(-0.16, -0.01, jaw) * smoothstep(0.45, 0.75, z)
    return zone


def beard_shadow(surface: Surface, regions: Regions, traits: Traits) -> Array:
    """Return how much of the beard's colour the skin takes, [P] in 0..1, with a fine grain."""
    kind = traits.hair.beard
    if kind == "none":
        return np.zeros(len(surface.rest), np.float32)
    zone = _zone(kind, surface.rest, regions.jaw) * surface.body
    zone = zone * smoothstep(0.35, 0.10, surface.lips) * smoothstep(0.35, 0.10, surface.mouth)
    grain = value_noise(surface.rest, 60, traits.offset)
    patchy = value_noise(surface.rest, 7, traits.offset)
    strength: Any = 0.42 if kind == "stubble" else 0.72
    shadow: Array = zone * strength * (0.55 + 0.3 * patchy + 0.5 * grain)
    return np.clip(shadow, 0, 0.9)


def draw_beard(canvas: Canvas, rng: np.random.RandomState, scene: Scene) -> None:
    """Draw the grown beard of the portrait's traits; lips stay free of it."""
    geo, camera, traits = load_geometry(), scene.camera, scene.traits
    kind = traits.hair.beard
    fields = geo.fields
    zone = _zone(kind, geo.verts, fields["sd_jaw"])
    bare = (fields["w_lips"] > 0.2) | (fields["w_inside_mouth"] > 0.15)
    field = np.where(bare, -0.3, zone - 0.02)
    roots = scatter_roots(rng, scene.verts, scene.normals, field, _ROOTS[kind])
    x, y = roots.rest[:, :1], roots.rest[:, 1:2]
    count, chin = len(x), smoothstep(6.7, 6.3, y)
    parted = np.clip(x / 0.12, -1, 1) * (1 - chin) * [1, 0, 0]
    flow = parted + [0, -0.9, 0.1] + roots.normal * (0.15 + 0.35 * chin)
    place = roots.rest * 9 + traits.offset
    wild = np.stack([value_noise(place + 5 * k) - 0.5 for k in range(3)], 1)
    flow = unit(flow + wild * 0.6 + rng.randn(count, 3) * 0.12)
    length = _LENGTH[kind] * rng.uniform(0.6, 1.4) * (0.55 + 0.8 * chin)
    length = length * rng.uniform(0.7, 1.1, (count, 1)) * (0.35 + 0.65 * roots.field[:, None])
    along = np.linspace(0, 1, 4)
    path = flow[:, None] * along[:, None] - np.array([0, 0.35, 0.12]) * along[:, None] ** 2
    points = (roots.position[:, None] + path * length[:, None]).astype(np.float32)
    normals = np.repeat(roots.normal[:, None].astype(np.float32), 4, 1)
    tint = np.clip(traits.hair.color * rng.uniform(0.75, 1.15, (count, 1)), 0, 1)
    depth = np.broadcast_to(0.62 + 0.38 * along, (count, 4))
    alpha = np.clip(roots.field * 1.3, 0, 1)[:, None] * np.array([0.5, 0.9, 0.8, 0.2])
    lines, before = camera.project(camera.place(points)), canvas.img.copy()
    radius = np.full(count, 0.0050 * camera.scale, np.float32)
    seen, view = seen_segments(canvas, lines, radius, bias=0.02), (camera, traits.light)
    color = light_strands(points, normals, tint, depth, view, seen, gloss=0.6)
    draw_soft(canvas, lines, color, alpha.astype(np.float32), seen, radius=radius, bias=0.02)
    lips = (canvas.label >= FaceClass.MOUTH) & (canvas.label <= FaceClass.LOWER_LIP)
    canvas.img[lips] = 0.8 * before[lips] + 0.2 * canvas.img[lips]
