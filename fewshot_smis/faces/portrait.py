"""One portrait: sample a head and its looks, paint the mesh, draw hair and accessories over it.

Everything is drawn `supersample` times larger and averaged; label maps by majority.
Legend: W width of the larger canvas.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.accessories import draw_glasses, draw_hair
from fewshot_smis.faces.appearance import mesh_albedo, shade_mesh
from fewshot_smis.faces.attributes import describe
from fewshot_smis.faces.backdrop import paint_backdrop
from fewshot_smis.faces.beard import GROWN_BEARDS, draw_beard
from fewshot_smis.faces.camera import frame_portrait
from fewshot_smis.faces.clothing import dress
from fewshot_smis.faces.eyes import draw_lids
from fewshot_smis.faces.geometry import Array, load_geometry, vertex_normals
from fewshot_smis.faces.hats import draw_hat
from fewshot_smis.faces.identity import Identity, sample_identity
from fewshot_smis.faces.jewellery import draw_earrings
from fewshot_smis.faces.labels import FaceClass, hair_field, mesh_regions, tidy_hair
from fewshot_smis.faces.landmarks import landmark_vertices
from fewshot_smis.faces.lighting import (
    ambient_occlusion,
    cast_shadow,
    emboss,
    reach_of_light,
)
from fewshot_smis.faces.raster import Canvas, box_blur, draw_triangles, majority, pool
from fewshot_smis.faces.scene import Scene
from fewshot_smis.faces.skin import face_lines, skin_relief
from fewshot_smis.faces.surface import visible_surface
from fewshot_smis.faces.traits import Pose, Traits, sample_traits
from stylegan.errors import ConfigError

_GRAIN = 0.006
_KNEE = 0.68
_MAX_SEED = 2**32 - 1


class Portrait(NamedTuple):
    """A rendered face with its exact annotations."""

    img: Array  # [H,W,3] uint8
    label: Array  # [H,W] uint8, FaceClass ids
    landmarks: Array  # [68,2] float32, x and y in pixels, 300-W order; also of hidden points
    attributes: dict[str, float | str | bool]


def _draw_mesh(scene: Scene, identity: Identity, field: Array) -> tuple[Canvas, Array]:
    """Paint backdrop and mesh; return the canvas and the mesh pixels [W,W] bool."""
    traits, camera, geo = scene.traits, scene.camera, load_geometry()
    width = camera.width
    depth = np.full((width, width), -1e9, np.float32)
    verts = dress(scene.verts, geo.verts, scene.normals, traits)
    placed = camera.place(verts)
    coverage = draw_triangles(camera.project(placed), geo.tris, depth)
    surface = visible_surface(verts, placed, camera.rotation, coverage)
    regions = mesh_regions(surface, traits, field)
    lines = face_lines(surface, traits, identity)
    albedo = mesh_albedo(surface, regions, traits, identity, lines)
    relief = skin_relief(surface, regions, traits, identity, lines)
    normal = emboss(surface.normal, relief, surface.hit, camera.scale)
    surface = surface._replace(normal=normal)
    shadow = cast_shadow(placed, geo.tris, traits.light)
    reach = reach_of_light(shadow, surface.place)
    opened = ambient_occlusion(depth, surface.hit, camera.scale)
    img = paint_backdrop(traits.backdrop, width)
    shaded = shade_mesh(albedo, surface, regions, traits, reach=reach, opened=opened)
    img[surface.hit] = shaded
    label = np.zeros((width, width), np.int64)
    label[surface.hit] = regions.label
    strand = np.zeros((width, width), np.uint8)
    return Canvas(img, label, depth, strand), surface.hit


def _cast_hair_shadow(canvas: Canvas, mesh: Array, scene: Scene) -> None:
    """Throw a soft shadow of hair and hat on the mesh pixels beneath, in place."""
    scale, key = scene.camera.scale, scene.traits.light.key
    cover = ((canvas.strand > 0) | (canvas.label == FaceClass.HAT)).astype(np.float32)
    down, across = int(scale * 0.05 + key[1] * scale * 0.05), int(-key[0] * scale * 0.06)
    moved = np.roll(np.roll(cover, down, 0), across, 1)
    shadow = box_blur(moved, max(2, int(scale * 0.05)))
    face = mesh & (cover < 0.5) & (canvas.label != FaceClass.HAIR)
    img = canvas.img
    img *= np.where(face, 1 - 0.5 * shadow, 1)[..., None]


def _draw_over(
    canvas: Canvas, rng: np.random.RandomState, scene: Scene, mesh: Array, field: Array
) -> None:
    """Draw beard, hat, hair and glasses in place.

    Each has its own random stream, so that what is worn does not depend on how much hair a
    picture of this size shows.
    """
    hair, scale = scene.traits.hair, scene.camera.scale
    beard_seed, hat_seed, hair_seed, glasses_seed = rng.randint(2**31, size=4)
    if hair.beard in GROWN_BEARDS:
        draw_beard(canvas, np.random.RandomState(beard_seed), scene)
    canvas.strand[:] = 0  # a beard throws no shadow
    if hair.hat != "none":
        draw_hat(canvas, np.random.RandomState(hat_seed), scene)
    beneath = canvas.label.copy()
    draw_hair(canvas, np.random.RandomState(hair_seed), scene, field)
    canvas.label[:] = tidy_hair(canvas.label, beneath, max(1, round(scale * 0.012)))
    _cast_hair_shadow(canvas, mesh, scene)
    if scene.traits.glasses:
        draw_glasses(canvas, np.random.RandomState(glasses_seed), scene)


def _develop(img: Array, rng: np.random.RandomState, factor: int) -> Array:
    """Turn the linear canvas [W,W,3] into a uint8 picture: pooling, film curve, grain.

    The curve is straight up to `_KNEE` and bends towards 1 above it, so that nothing clips.
    """
    small, rest = pool(img, factor), 1 - _KNEE
    above = np.maximum(small - _KNEE, 0)
    small = np.minimum(small, _KNEE) + rest * above / (above + rest)
    shown = small ** (1 / 2.2) + rng.randn(*small.shape) * _GRAIN
    return (np.clip(shown, 0, 1) * 255).astype(np.uint8)


def _meet(
    seed: int, index: int, pose: Pose | None = None
) -> tuple[np.random.RandomState, Identity, Traits]:
    """Draw who portrait `index` of `seed` shows; the stream goes on with how it is drawn."""
    if min(seed, index) < 0 or seed + index > _MAX_SEED:
        raise ConfigError(
            f"seed {seed} and index {index}: use numbers from 0 whose sum is at most {_MAX_SEED}"
        )
    rng = np.random.RandomState(seed + index)
    identity = sample_identity(rng)
    return rng, identity, sample_traits(rng, identity, pose)


def face_attributes(seed: int, index: int) -> dict[str, float | str | bool]:
    """Return the attributes of the portrait that `render_face` would render.

    Raises:
        ConfigError: a number out of range.
    """
    _, identity, traits = _meet(seed, index)
    return describe(identity, traits)


def render_face(
    seed: int,
    index: int,
    size: int = 128,
    *,
    supersample: int = 2,
    pose: Pose | None = None,
    jitter: bool = True,
) -> Portrait:
    """Render portrait number `index` of `seed`; the same numbers give the same portrait.

    The portrait depends on `seed + index` alone, so that neighbouring seeds share portraits:
    leave as much room between the seeds of two data sets as the first has portraits.

    Args:
        seed: first number of the data set, 0 or more.
        index: number within the data set, 0 or more.
        size: height and width of the result, 8 or more pixels.
        supersample: how many times larger the portrait is drawn; 1 is faster and jagged.
        pose: replaces the sampled rotation of the head.
        jitter: add the small errors of crop that aligned photographs have.

    Raises:
        ConfigError: a number out of range.
        BackendError: numba is not installed.
    """
    if size < 8 or supersample < 1:
        raise ConfigError(
            f"size {size}, supersample {supersample}: use a size of 8 or more pixels "
            "and a supersample of 1 or more"
        )
    rng, identity, traits = _meet(seed, index, pose)
    verts = identity.verts
    normals = vertex_normals(verts, load_geometry().body)
    camera = frame_portrait(verts, traits.view, size * supersample, jitter=jitter)
    scene, field = Scene(verts, normals, traits, camera), hair_field(traits)
    canvas, mesh = _draw_mesh(scene, identity, field)
    draw_lids(canvas, camera.scale, traits.eyes)
    draw_earrings(canvas, verts, traits, camera)
    _draw_over(canvas, rng, scene, mesh, field)
    img = _develop(canvas.img, rng, supersample)
    marks = camera.project(camera.place(verts[landmark_vertices()]))[:, :2] / supersample
    return Portrait(img, majority(canvas.label, supersample), marks, describe(identity, traits))
