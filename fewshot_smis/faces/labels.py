"""Which class each pixel has: the 19 CelebAMask-HQ ids from the fields of the mesh.

Legend: P pixels that see the mesh; distances in decimetres.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.geometry import (
    EYE_LEFT,
    EYE_RIGHT,
    Array,
    load_geometry,
    smoothstep,
)
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.raster import box_blur
from fewshot_smis.faces.surface import Surface
from fewshot_smis.faces.traits import Traits


class FaceClass(IntEnum):
    """The CelebAMask-HQ classes in their usual order; left and right are the subject's."""

    BACKGROUND = 0
    SKIN = 1
    NOSE = 2
    GLASSES = 3
    LEFT_EYE = 4
    RIGHT_EYE = 5
    LEFT_BROW = 6
    RIGHT_BROW = 7
    LEFT_EAR = 8
    RIGHT_EAR = 9
    MOUTH = 10
    UPPER_LIP = 11
    LOWER_LIP = 12
    HAIR = 13
    HAT = 14
    EARRING = 15
    NECKLACE = 16
    NECK = 17
    CLOTH = 18


class Regions(NamedTuple):
    """The classes of the mesh pixels and the fields they come from, [P] each."""

    label: Array  # int64
    brow: Array  # 0..1, cover of the brow hair
    scalp: Array  # 0..1, how much the scalp is painted as hair
    jaw: Array  # > 0 face, < 0 neck
    garment: Array  # > 0 cloth, < 0 skin
    cloth: Array  # bool


def hair_field(traits: Traits) -> Array:
    """Return the signed distance [V] to this portrait's hairline, > 0 where hair grows."""
    geo = load_geometry()
    verts, hair = geo.verts, traits.hair
    dome = smoothstep(0.2, 0.8, verts[:, 2]) * smoothstep(0.5, 0.2, np.abs(verts[:, 0]) * 0.6)
    rough = (value_noise(verts * 4 + traits.offset) - 0.5) * 0.05
    field: Array = geo.fields["sd_hair"] - hair.recede * (0.3 + dome) + rough
    if hair.style == "bald":
        field = np.where(verts[:, 1] > 7.55 + 0.2 * (verts[:, 2] < 0), -1, field)
    return field


def _garment_field(surface: Surface, traits: Traits) -> Array:
    """Return the signed distance [P] to the neckline, > 0 below it."""
    x, y, z = surface.rest.T
    side = np.abs(x)
    rough = 0.06 * (value_noise(surface.rest * 3 + traits.offset) - 0.5)
    cut = traits.garment.v_neck * np.clip(0.35 - side, 0, 1) * (z > 0.3)
    shoulder = 0.25 * np.clip(side - 0.5, 0, 0.6)
    field: Array = traits.garment.neckline + rough - cut + shoulder - y
    return field


def _brow_cover(surface: Surface, traits: Traits, male: float, free: Array) -> Array:
    """Return the cover [P] of the brows; `free` [P] bool is where they may lie."""
    brows = traits.brows
    along, above = surface.at(load_geometry().fields["brow_uv"]).T
    taper = smoothstep(-0.06, 0.08, along) * (1.1 - 0.85 * smoothstep(0.45, 1.05, along))
    width = brows.half_width * np.clip(taper, 0, 1) * (along < 1.03)
    hairs = np.stack([along * 26 - above * 90, above * 70, along * 0 + (surface.rest[:, 0] > 0)], 1)
    hairs_noise = value_noise(hairs + traits.offset)
    off_center = np.abs(above - brows.arch * np.sin(np.clip(along, 0, 1) * 3.14))
    cover = (width * (1.25 - 0.5 * hairs_noise) - off_center) / 0.012 + 0.3
    cover = np.clip(cover, 0, 1) * surface.body * free * (width > 0.004)
    strength = np.clip(0.55 + 0.5 * hairs_noise + 0.2 * male, 0, 1)
    shown: Array = cover * (strength * brows.density)
    return shown


def mesh_regions(surface: Surface, traits: Traits, field: Array, male: float) -> Regions:
    """Classify the mesh pixels; later rows of the method win over earlier ones.

    `field` [V] is `hair_field(traits)`, `male` 0..1 makes the brows denser.
    """
    fields = load_geometry().fields
    body, left, hairline = surface.body, surface.left, surface.at(field)
    jaw, garment = surface.at(fields["sd_jaw"]), _garment_field(surface, traits)
    label = np.full(len(body), FaceClass.SKIN, np.int64)
    label[surface.at(fields["sd_nose"]) > 0] = FaceClass.NOSE
    label[jaw < 0] = FaceClass.NECK
    label[body & (garment > 0)] = FaceClass.CLOTH
    ear = surface.ears > 0.5
    label[ear & left] = FaceClass.LEFT_EAR
    label[ear & ~left] = FaceClass.RIGHT_EAR
    lower = surface.at(fields["w_lower_jaw"]) > 0.5
    label[body & (surface.mouth > 0.5)] = FaceClass.MOUTH
    label[(surface.lips > 0.45) & ~lower] = FaceClass.UPPER_LIP
    label[(surface.lips > 0.45) & lower] = FaceClass.LOWER_LIP
    label[~body & ~surface.eye] = FaceClass.MOUTH
    label[surface.group == EYE_LEFT] = FaceClass.LEFT_EYE
    label[surface.group == EYE_RIGHT] = FaceClass.RIGHT_EYE
    brow = _brow_cover(surface, traits, male, label == FaceClass.SKIN)
    label[(brow > 0.35) & left] = FaceClass.LEFT_BROW
    label[(brow > 0.35) & ~left] = FaceClass.RIGHT_BROW
    on_scalp = body & (hairline > 0) & (surface.ears < 0.5) & (label != FaceClass.CLOTH)
    label[on_scalp & (hairline > 0.02)] = FaceClass.HAIR
    scalp = smoothstep(-0.02, 0.10, hairline) * body * (surface.ears < 0.5)
    return Regions(label, brow, scalp, jaw, garment, label == FaceClass.CLOTH)


def tidy_hair(label: Array, beneath: Array, radius: int) -> Array:
    """Label hair as an annotator would: single strays and pin-holes vanish.

    Args:
        label: [W,W] ids with every strand drawn.
        beneath: [W,W] ids before the strands; taken where a stray is removed.
        radius: of the smoothing, pixels.
    """
    cover = box_blur((label == FaceClass.HAIR).astype(np.float32), radius) > 0.5
    stray = np.where(label == FaceClass.HAIR, beneath, label)
    return np.where(cover & (beneath != FaceClass.HAT), FaceClass.HAIR, stray)
