"""Which class each pixel has: the 19 CelebAMask-HQ ids from the fields of the mesh.

Legend: P pixels that see the mesh; distances in decimetres.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.clothing import garment_field
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
    necklace: Array  # 0..1, height of the profile of the chain


def hair_field(traits: Traits) -> Array:
    """Return the signed distance [V] to this portrait's hairline, > 0 where hair grows."""
    geo = load_geometry()
    verts, hair = geo.verts, traits.hair
    side = np.abs(verts[:, 0])
    dome = smoothstep(0.2, 0.8, verts[:, 2]) * smoothstep(1.0, 0.4, side)
    temple = np.exp(-(((side - 0.42) / 0.16) ** 2)) * smoothstep(0.7, 1.0, verts[:, 2])
    rough = (value_noise(verts, 4, traits.offset) - 0.5) * 0.05
    back = hair.recede * (0.2 + dome) + max(hair.recede + 0.05, 0) * 0.7 * temple
    field: Array = geo.fields["sd_hair"] - back + rough
    if hair.style == "bald":
        rim = 7.62 + 0.25 * smoothstep(0.3, -0.3, verts[:, 2]) + 3 * rough - verts[:, 1]
        field = np.minimum(field, 0.6 * rim)
    return field


def _necklace_profile(rest: Array, traits: Traits) -> Array:
    """Return how high the necklace stands out of the points `rest` [P,3], 0..1; 0 beside it.

    It lies on the neck as a tilted ring, higher at the back; pearls and links alternate.
    """
    jewels = traits.jewels
    if not jewels.necklace:
        return np.zeros(len(rest), np.float32)
    x, y, z = rest.T
    turn = np.arctan2(x, z - 0.45)
    line = jewels.necklace_line + 0.22 * (1 - np.cos(turn))
    half = 0.030 if jewels.pearls else 0.016
    beads = np.abs(np.sin(turn * (22 if jewels.pearls else 45)))
    profile: Array = 1 - np.square((y - line) / (half * (0.55 + 0.45 * beads)))
    return np.clip(profile, 0, 1)


def _brow_cover(surface: Surface, traits: Traits, free: Array) -> tuple[Array, Array]:
    """Return the smooth outline [P] of the brows and their hairs [P]; both 0..1.

    The brow is soft and thin at its inner end, fullest at a third, and runs out to a point; its
    hairs rise at the inner end and lie along it further out. `free` [P] is where it may lie.
    """
    brows = traits.brows
    along, above = surface.at(load_geometry().fields["brow_uv"]).T
    arch = brows.arch * np.sin(np.clip(along, 0, 1) ** 1.5 * np.pi)
    arch += 0.014 * smoothstep(0.5, 0, along)
    width = 1.05 - 0.80 * smoothstep(0.35, 1.04, along)
    width *= brows.half_width * smoothstep(-0.10, 0.25, along)
    distance = np.abs(above - arch) / np.maximum(width, 0.004)
    fade = smoothstep(-0.08, 0.22, along) * smoothstep(1.06, 0.90, along)
    shape = smoothstep(1.35, 0.55, distance) * fade * surface.body * free
    cover, on = np.zeros_like(shape), shape > 0
    along, above = along[on], above[on]
    lean = above * (60 - 45 * np.clip(along, 0, 1))
    hairs = np.stack([along * 30 - lean, above * 40 + along * 8, surface.left[on] * 9.0], 1)
    grain = value_noise(hairs + traits.offset)
    cover[on] = shape[on] * np.clip(0.3 + 1.1 * grain, 0, 1.2) * brows.density
    return shape, cover


def mesh_regions(surface: Surface, traits: Traits, field: Array) -> Regions:
    """Classify the mesh pixels; later rows of the method win over earlier ones.

    `field` [V] is `hair_field(traits)`.
    """
    fields = load_geometry().fields
    body, left, hairline = surface.body, surface.left, surface.at(field)
    jaw, garment = surface.at(fields["sd_jaw"]), garment_field(surface.rest, traits)
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
    shape, brow = _brow_cover(surface, traits, label == FaceClass.SKIN)
    label[(shape > 0.12) & left] = FaceClass.LEFT_BROW
    label[(shape > 0.12) & ~left] = FaceClass.RIGHT_BROW
    on_scalp = body & (hairline > 0) & (surface.ears < 0.5) & (label != FaceClass.CLOTH)
    label[on_scalp & (hairline > 0.02)] = FaceClass.HAIR
    necklace = _necklace_profile(surface.rest, traits) * (label == FaceClass.NECK)
    label[necklace > 0] = FaceClass.NECKLACE
    scalp = smoothstep(-0.02, 0.10, hairline) * body * (surface.ears < 0.5)
    return Regions(label, brow, scalp, jaw, garment, label == FaceClass.CLOTH, necklace)


def tidy_hair(label: Array, beneath: Array, radius: int) -> Array:
    """Label hair as an annotator would: single strays and pin-holes vanish.

    Args:
        label: [W,W] ids with every strand drawn.
        beneath: [W,W] ids before the strands; taken where a stray is removed.
        radius: of the smoothing, pixels.
    """
    cover = box_blur((label == FaceClass.HAIR).astype(np.float32), radius) > 0.5
    stray = np.where(label == FaceClass.HAIR, beneath, label)
    kept = (beneath == FaceClass.HAT) | (label == FaceClass.EARRING)
    return np.where(cover & ~kept, FaceClass.HAIR, stray)
