"""Hats: a crown around the skull, with a folded rim, a visor or a brim.

Legend: A angles about the vertical axis, R rings from the rim up; lengths in dm, model space.
"""

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry, smoothstep, unit, vertex_normals
from fewshot_smis.faces.growth import Skull
from fewshot_smis.faces.hair import fit_skull
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.raster import Canvas, draw_triangles
from fewshot_smis.faces.scene import Scene
from fewshot_smis.faces.traits import Light, hsv, linear

_ANGLES, _RINGS = 49, 14
_IN_FRONT = 0.6  # dm added to the depth, so that no hair grows through
_FELT = 0.09  # how far a hat stands off the skull, multiple of its radius


def _rim_height(scene: Scene, angle: Array) -> Array:
    """Return the height of the rim at `angle`, 0 in front, pi behind."""
    brow = scene.verts[load_geometry().landmarks[[19, 24]], 1].mean()
    front = 0.5 + 0.5 * np.cos(angle)
    height: Array = brow - 0.22 + (scene.traits.hair.hat_line + 0.22) * front**0.8
    return height


def covered(scene: Scene) -> Array:
    """Return which vertices [V] bool lie under the hat."""
    verts, skull = scene.verts, fit_skull(scene.verts)
    x, z = (verts[:, 0] - skull.center[0]) / skull.radius[0], verts[:, 2] - skull.center[2]
    under: Array = verts[:, 1] > _rim_height(scene, np.arctan2(x, z / skull.radius[2])) - 0.02
    return under


def _grid(rows: int) -> Array:
    """Return the triangles [T,3] of a sheet of `rows` rings of `_ANGLES` points."""
    first = (np.arange(rows - 1)[:, None] * _ANGLES + np.arange(_ANGLES - 1)).ravel()
    upper, lower = [first, first + 1, first + _ANGLES], [first + 1, first + _ANGLES + 1]
    lower.append(first + _ANGLES)
    return np.concatenate([np.stack(upper, 1), np.stack(lower, 1)]).astype(np.int32)


def _around(skull: Skull, angle: Array, reach: Array) -> tuple[Array, Array]:
    """Return x and z at `angle` on the skull's outline, `reach` times as far out."""
    x = skull.center[0] + skull.radius[0] * reach * np.sin(angle)
    return x, skull.center[2] + skull.radius[2] * reach * np.cos(angle)


def _crown(scene: Scene, skull: Skull, angle: Array) -> Array:
    """Return the crown [R,A,3] from the rim to the top."""
    kind, rise = scene.traits.hair.hat, np.linspace(0, 1, _RINGS)[:, None]
    rim = _rim_height(scene, angle)
    top = skull.center[1] + skull.radius[1] * {"brimmed": 1.30, "cap": 1.14}.get(kind, 1.20)
    bluntness = {"brimmed": 7.0, "cap": 2.1}.get(kind, 2.4)
    reach = (1 + _FELT) * np.sqrt(np.clip(1 - rise**bluntness, 0, 1))
    if kind == "beanie":
        reach = reach * (1 + 0.05 * smoothstep(0.27, 0.22, rise))
    else:
        reach = reach * (1 - 0.06 * rise)
    x, z = _around(skull, angle, reach)
    return np.stack([x, rim + rise * (top - rim), z], -1)


def _brim(scene: Scene, skull: Skull, angle: Array) -> Array:
    """Return visor or brim [4,A,3], from the crown outwards."""
    out = np.linspace(0, 1, 4)[:, None]
    visor = scene.traits.hair.hat == "cap"
    wide = 0.50 * smoothstep(0.35, 0.85, np.cos(angle)) if visor else 0.42
    x, z = _around(skull, angle, (1 + _FELT) + out * wide / skull.radius[0] * 0.9)
    droop = 0.12 if visor else 0.03
    curl = 0.10 * (x / skull.radius[0]) ** 2 * out * visor
    return np.stack([x, _rim_height(scene, angle) - droop * out - curl, z], -1)


def _light(normal: Array, light: Light) -> Array:
    """Return the light [P,3] on cloth of unit `normal` [P,3]."""
    key = np.clip((normal @ light.key + 0.2) / 1.2, 0, None)[:, None] * light.key_color
    fill = np.clip((normal @ light.fill + 0.3) / 1.3, 0, None)[:, None] * light.fill_strength
    total: Array = key + fill + light.ambient * light.tint * (0.75 + 0.25 * normal[:, 1:2])
    return total


def _draw_sheet(canvas: Canvas, scene: Scene, sheet: Array, albedo: Array) -> None:
    """Draw a sheet [R,A,3] of linear `albedo` [R,A,3], seen from both sides."""
    camera = scene.camera
    flat, tris = sheet.reshape(-1, 3), _grid(len(sheet))
    normals = vertex_normals(flat, tris) @ camera.rotation.T
    points = camera.project(camera.place(flat))
    cover = draw_triangles(points, tris, canvas.depth)
    hit = cover.tri >= 0
    corners, weights = tris[cover.tri[hit]], cover.weights[hit][..., None]
    normal = unit((normals[corners] * weights).sum(1))
    normal[normal[:, 2] < 0] *= -1
    color = (albedo.reshape(-1, 3)[corners] * weights).sum(1)
    canvas.img[hit] = color * _light(normal, scene.traits.light)
    canvas.label[hit] = FaceClass.HAT
    canvas.depth[hit] += _IN_FRONT


def draw_hat(canvas: Canvas, rng: np.random.RandomState, scene: Scene) -> None:
    """Draw the hat of the portrait's traits onto picture, label map and depth."""
    kind, skull = scene.traits.hair.hat, fit_skull(scene.verts)
    angle = np.linspace(-np.pi, np.pi, _ANGLES)
    color = linear(hsv(rng.rand(), rng.rand() ** 1.5 * 0.6, rng.uniform(0.12, 0.7)))
    crown = _crown(scene, skull, angle)
    rise = np.linspace(0, 1, _RINGS)[:, None]
    if kind == "beanie":
        shade = 0.88 + 0.12 * np.cos(angle * 24) - 0.35 * np.exp(-(((rise - 0.25) / 0.03) ** 2))
    elif kind == "cap":
        shade = 1 - 0.22 * np.exp(-((np.sin(angle * 3) / 0.10) ** 2)) * np.ones_like(rise)
    else:
        shade = 1 - 0.5 * smoothstep(0.24, 0.20, rise) * np.ones_like(angle)
    shade = shade * (0.92 + 0.16 * value_noise(crown, 3, scene.traits.offset))
    _draw_sheet(canvas, scene, crown, shade[..., None] * color)
    if kind != "beanie":
        brim = _brim(scene, skull, angle)
        _draw_sheet(canvas, scene, brim, np.broadcast_to(color * 0.85, brim.shape))
