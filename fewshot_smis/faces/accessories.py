"""Beard strands, knitted cap and glasses: what is drawn over the mesh.

Each function draws its own choices from the generator, because they depend on what was drawn
before; the order is part of what a seed means.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.appearance import diffuse, shade_strands
from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.geometry import Array, load_geometry, smoothstep, unit
from fewshot_smis.faces.hair import grow_hair, scatter_roots
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.raster import Canvas, draw_strands, draw_triangles
from fewshot_smis.faces.traits import Traits, hsv, linear

_RIM_POINTS = 33
_KEEP_LABEL = -1


class Scene(NamedTuple):
    """What accessories are fitted to."""

    verts: Array  # [V,3] float32, the head
    normals: Array  # [V,3] unit, of its skin
    traits: Traits
    camera: Camera


def _beard_field() -> Array:
    """Return the field [V] that is positive where a full beard grows."""
    geo = load_geometry()
    fields, y, side = geo.fields, geo.verts[:, 1], np.abs(geo.verts[:, 0])
    moustache = np.minimum(0.27 - side, 6.82 - y)
    chin = 6.56 + 0.75 * np.clip(side - 0.33, 0, 1) - y
    zone = np.minimum(np.clip(fields["sd_jaw"] + 0.1, -1, 1), np.maximum(chin, moustache))
    bare = (fields["w_lips"] > 0.15) | (fields["w_inside_mouth"] > 0.15)
    bare |= (geo.verts[:, 2] < 0.55) | (side > 0.72)
    return np.where(bare, -0.2, zone)


def draw_beard(canvas: Canvas, rng: np.random.RandomState, scene: Scene) -> None:
    """Draw a full beard; the label map is left alone, because beards are skin."""
    camera, traits = scene.camera, scene.traits
    roots = scatter_roots(rng, scene.verts, scene.normals, _beard_field(), 2600)
    count = len(roots.field)
    stray = rng.randn(count, 3) * 0.3
    direction = unit(roots.normal * 0.6 + np.array([0, -1, 0.1]) + stray)
    length = rng.uniform(0.04, 0.15) * np.clip(roots.field * 10, 0.25, 1)[:, None]
    points = np.stack(
        [
            roots.position + direction * length * s - [0, 0.5 * s * s, 0] * length
            for s in (0, 0.5, 1)
        ],
        1,
    )
    tint = traits.hair.color * 0.9 * rng.uniform(0.7, 1.3, (count, 1, 1))
    dark = np.full((count, 3), 0.8)
    color = shade_strands(points, tint, dark, camera, traits.light).astype(np.float32)
    lines = camera.project(camera.place(points))
    radius = max(0.5, 0.006 * camera.scale)
    draw_strands(canvas, lines, color, label=_KEEP_LABEL, radius=radius)


def cap_zone(cap_line: float) -> Array:
    """Return the vertices [V] bool that a cap with its rim at `cap_line` (dm) covers."""
    geo = load_geometry()
    y, z = geo.verts[:, 1], geo.verts[:, 2]
    height = y + 0.25 * np.clip(z - 0.4, -1, 1) * -0.6
    covered: Array = height > cap_line - 0.42 * smoothstep(0.6, -0.4, z)
    return covered & (geo.fields["w_ears"] < 0.3) & (geo.fields["w_inside_mouth"] < 0.5)


def draw_cap(canvas: Canvas, rng: np.random.RandomState, scene: Scene) -> None:
    """Draw a knitted cap: the scalp pushed outwards."""
    geo, camera, traits = load_geometry(), scene.camera, scene.traits
    tris = geo.body[cap_zone(traits.hair.cap_line)[geo.body].all(1)]
    thick = 0.10 + 0.05 * value_noise(geo.verts * 2 + traits.offset)
    verts = (scene.verts + scene.normals * thick[:, None]).astype(np.float32)
    verts[:, 1] += 0.10 * smoothstep(7.9, 8.5, geo.verts[:, 1])
    cover = draw_triangles(camera.project(camera.place(verts)), tris, canvas.depth)
    hit = cover.tri >= 0
    corners, weights = tris[cover.tri[hit]], cover.weights[hit][..., None]
    normal = unit((scene.normals[corners] * weights).sum(1) @ camera.rotation.T)
    rest = (geo.verts[corners] * weights).sum(1)
    knit = 0.8 + 0.2 * np.sin(np.arctan2(rest[:, 0], rest[:, 2] - 0.4) * 60)
    wool = linear(hsv(rng.rand(), rng.rand() * 0.8, rng.uniform(0.1, 0.8)))
    canvas.img[hit] = wool[None] * diffuse(normal, traits.light, 0.2) * knit[:, None]
    canvas.label[hit] = FaceClass.HAT
    canvas.depth[hit] += 0.6


def draw_hair(canvas: Canvas, rng: np.random.RandomState, scene: Scene, field: Array) -> None:
    """Grow and draw the hair where `field` [V] is positive and no cap covers it."""
    camera, traits = scene.camera, scene.traits
    style, color = traits.hair.style, traits.hair.color
    if traits.hair.hat:
        field = np.where(cap_zone(traits.hair.cap_line), -1, field)
    strands = grow_hair(rng, scene.verts, scene.normals, style, field, traits.offset)
    points, layer = strands.points, strands.layer[:, None]
    along = np.linspace(0, 1, points.shape[1])
    dark = (0.5 + 0.5 * layer**0.7) * (0.65 + 0.35 * np.minimum(along * 4, 1))
    vary = rng.uniform(0.75, 1.25, (len(points), 1, 1))
    tint = color * (vary * (1 + strands.clump[:, None, :1] * 0.7))
    shaded = shade_strands(points, np.clip(tint, 0, 1), dark, camera, traits.light)
    radius = max(0.75, (0.009 if style == "afro" else 0.0075) * camera.scale)
    lines = camera.project(camera.place(points))
    draw_strands(canvas, lines, shaded.astype(np.float32), label=FaceClass.HAIR, radius=radius)


def inside_polygon(polygon: Array, width: int) -> Array:
    """Return which pixel centres of a [W,W] picture lie inside `polygon` [K,2], bool [W,W]."""
    y, x = np.mgrid[0:width, 0:width] + 0.5
    inside = np.zeros((width, width), bool)
    before = polygon[-1]
    for corner in polygon:
        crosses = (corner[1] > y) != (before[1] > y)
        slope = (before[0] - corner[0]) * (y - corner[1]) / (before[1] - corner[1] + 1e-9)
        inside ^= crosses & (x < slope + corner[0])
        before = corner
    return inside


def _tint_lens(canvas: Canvas, rim: Array) -> None:
    """Give the area within `rim` [K,2] the class of glasses, but not over hair or a hat."""
    inside = inside_polygon(rim, len(canvas.label))
    for kept in (FaceClass.HAIR, FaceClass.BACKGROUND, FaceClass.HAT):
        inside &= canvas.label != kept
    canvas.img[inside] = canvas.img[inside] * 0.93 + 0.015
    canvas.label[inside] = FaceClass.GLASSES


def draw_glasses(canvas: Canvas, rng: np.random.RandomState, scene: Scene) -> None:
    """Draw two rounded rims, the temples and the bridge; the lens area takes the label too."""
    verts, camera = scene.verts, scene.camera
    marks = load_geometry().landmarks
    half_width, half_height = rng.uniform(0.20, 0.25), rng.uniform(0.13, 0.19)
    front = verts[marks[27], 2] + 0.07
    angle, squareness = np.linspace(0, 2 * np.pi, _RIM_POINTS), rng.uniform(0.6, 1.0)
    frame = linear(hsv(rng.rand(), rng.rand() * 0.5, rng.uniform(0.03, 0.3)))
    color = np.tile(frame.astype(np.float32), (1, _RIM_POINTS, 1))
    thick, thin = max(1.0, 0.02 * camera.scale), max(1.0, 0.016 * camera.scale)

    def draw(points: Array, radius: float, bias: float) -> Array:
        line = camera.project(camera.place(points))
        label = FaceClass.GLASSES
        draw_strands(canvas, line[None], color, label=label, radius=radius, bias=bias)
        return line

    def rounded(wave: Array) -> Array:
        return np.sign(wave) * np.abs(wave) ** squareness

    eyes = [verts[marks[42:48]].mean(0), verts[marks[36:42]].mean(0)]
    for eye, sign, ear in zip(eyes, (1, -1), (marks[16], marks[0]), strict=True):
        x = eye[0] + half_width * rounded(np.cos(angle)) + sign * 0.02
        y = eye[1] - 0.02 + half_height * rounded(np.sin(angle))
        rim = np.stack([x, y, front - 0.35 * np.abs(x) ** 2 - 0.02], 1)
        line = draw(rim, thick, 0.06)
        hinge_z = front - 0.35 * (abs(eye[0]) + half_width) ** 2
        hinge = [eye[0] + sign * (half_width + 0.02), eye[1], hinge_z]
        end = verts[ear] + np.array([sign * 0.08, 0.02, -0.05])
        draw(np.linspace(hinge, end, _RIM_POINTS), thin, 0.0)
        _tint_lens(canvas, line[:, :2])
    across = np.linspace(
        eyes[1][0] + half_width - 0.02, eyes[0][0] - half_width + 0.02, _RIM_POINTS
    )
    level, depth = np.full(_RIM_POINTS, eyes[0][1] + 0.03), np.full(_RIM_POINTS, front)
    draw(np.stack([across, level, depth], 1), thick, 0.06)
