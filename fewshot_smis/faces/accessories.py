"""Hair and glasses: what is drawn over the mesh.

Each function draws its own choices from the generator, because they depend on what was drawn
before; the order is part of what a seed means.
"""

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry
from fewshot_smis.faces.hair import grow_hair
from fewshot_smis.faces.hats import covered
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.raster import Canvas, draw_strands
from fewshot_smis.faces.scene import Scene
from fewshot_smis.faces.strands import draw_soft, light_strands, seen_segments
from fewshot_smis.faces.traits import hsv, linear

_RIM_POINTS = 33
_STRAND_RADIUS = 0.0058  # dm


def draw_hair(canvas: Canvas, rng: np.random.RandomState, scene: Scene, field: Array) -> None:
    """Grow and draw the hair where `field` [V] is positive and no cap covers it."""
    camera, traits, hair = scene.camera, scene.traits, scene.traits.hair
    if hair.hat != "none":
        field = np.where(covered(scene), -1, field)
    if not (field > 0).any():
        return
    strands = grow_hair(rng, scene.verts, scene.normals, hair, field, traits.offset)
    points, layer = strands.points, strands.layer[:, None]
    along = np.linspace(0, 1, points.shape[1])
    depth = (0.45 + 0.55 * layer) * (0.6 + 0.4 * np.minimum(along * 4, 1))
    tint = np.clip(hair.color * (1 + 0.45 * strands.tone[:, None]), 0, 1)
    gloss = 0.5 if hair.style == "afro" else 1.0
    radius = (_STRAND_RADIUS * camera.scale * strands.thickness).astype(np.float32)
    lines = camera.project(camera.place(points))
    seen, view = seen_segments(canvas, lines, radius, bias=0.02), (camera, traits.light)
    color = light_strands(points, strands.normals, tint, depth, view, seen, gloss=gloss)
    cover = draw_soft(canvas, lines, color, strands.alpha, seen, radius=radius, bias=0.02)
    canvas.strand[cover > 0.35] = 1
    canvas.label[cover > 0.35] = FaceClass.HAIR


def inside_polygon(polygon: Array, width: int) -> Array:
    """Return which pixel centres of a [W,W] picture lie inside `polygon` [K,2], bool [W,W]."""
    picture = np.zeros((width, width), bool)
    left, top = np.clip(np.floor(polygon.min(0)), 0, width).astype(int)
    right, bottom = np.clip(np.ceil(polygon.max(0)), 0, width).astype(int)
    inside = picture[top:bottom, left:right]
    y, x = (axis + 0.5 for axis in np.ogrid[top:bottom, left:right])
    before = polygon[-1]
    for corner in polygon:
        crosses = (corner[1] > y) != (before[1] > y)
        slope = (before[0] - corner[0]) * (y - corner[1]) / (before[1] - corner[1] + 1e-9)
        inside ^= crosses & (x < slope + corner[0])
        before = corner
    return picture


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
