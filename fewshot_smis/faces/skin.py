"""Skin: layers of pigment over a base tone, each thinning the light as coloured glass does.

The albedo is tone * exp(-sum of amount * absorption) (Beer-Lambert), so that layers may be listed
in any order: one amount [P] and one absorption [3] each.
Legend: P pixels that see the mesh; places in decimetres on the neutral mesh.
"""

from typing import TypeAlias

import numpy as np

from fewshot_smis.faces.beard import beard_shadow
from fewshot_smis.faces.geometry import Array, smoothstep
from fewshot_smis.faces.identity import Identity
from fewshot_smis.faces.labels import Regions
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.surface import Surface
from fewshot_smis.faces.traits import Traits, linear

Layer: TypeAlias = tuple[Array, Array]
"""Amount [P] and absorption [3]."""

_BLOOD = np.array([0.12, 1.0, 0.85])
_MELANIN = np.array([0.55, 0.9, 1.15])
_SHADE = np.array([0.75, 1.0, 1.0])
_EYE_SHADOW = np.array([0.45, 0.8, 0.7])


def _spot(x: Array, center: float, width: float) -> Array:
    """Return the exponent of a Gaussian: -((x - center) / width)^2."""
    return -(((x - center) / width) ** 2)


def _towards(tone: Array, color: Array) -> Array:
    """Return the absorption [3] that turns the linear `tone` into the linear `color`."""
    return np.log(np.maximum(tone, 1e-3) / np.maximum(color, 1e-3))


def _complexion(surface: Surface, traits: Traits) -> list[Layer]:
    """Return flush, mottling, pores and freckles."""
    x, y, z = np.ascontiguousarray(surface.rest.T)
    side, skin, rest = np.abs(x), traits.skin, surface.rest
    coarse = value_noise(rest, 5, traits.offset) - 0.5
    medium = value_noise(rest, 16, traits.offset) - 0.5
    fine = value_noise(rest, 48, traits.offset) - 0.5
    cheeks = np.exp(_spot(side, 0.42, 0.24) + _spot(y, 6.95, 0.22))
    nose = np.exp(_spot(x, 0, 0.13) + _spot(y, 6.93, 0.12))
    chin = np.exp(_spot(x, 0, 0.2) + _spot(y, 6.30, 0.12))
    blood = (0.8 * cheeks + 0.8 * nose + 0.4 * chin + 0.7 * surface.ears) * (1 + 1.2 * coarse)
    blood = 0.22 * skin.flush * blood + 0.12 * medium
    melanin = 0.22 * coarse + 0.08 * medium + 0.10 * fine
    layers = [(blood, _BLOOD), (melanin, _MELANIN)]
    if skin.freckles:
        spots = np.clip((value_noise(rest, 52, traits.offset) - 0.70) * 5, 0, 1)
        layers.append((0.6 * spots * np.exp(_spot(y, 7.02, 0.2)) * (z > 0.9), _MELANIN))
    return layers


def face_lines(surface: Surface, traits: Traits, identity: Identity) -> Array:
    """Return the amount [P] of the lines of the face: folds beside the mouth, wrinkles, crease."""
    x, y, z = np.ascontiguousarray(surface.rest.T)
    side, age = np.abs(x), identity.age
    old = float(smoothstep(0.3, 0.9, age))
    warp = value_noise(surface.rest, 3, traits.offset)
    along = smoothstep(6.62, 6.74, y) * smoothstep(6.95, 6.86, y)
    fold = np.exp(_spot(side - 0.175 - 0.50 * (6.90 - y), 0, 0.030)) * along
    lines = fold * (0.10 + 0.22 * old + 0.18 * identity.smile)
    above = np.exp(_spot(y, 7.72, 0.11) + _spot(x, 0, 0.42)) * (z > 0.8)
    waves = np.sin((y + 0.05 * warp) * np.float32(2 * np.pi / 0.085)) ** 2
    waves *= waves
    lines += above * waves * 0.30 * old
    outer = np.exp(_spot(side, 0.53, 0.06) + _spot(y, 7.27, 0.09))
    rays = np.sin(np.arctan2(y - 7.27, side - 0.36) * 14 + 3 * warp) ** 2
    lines += outer * rays * (0.35 * old + 0.10 * identity.smile)
    bag = np.exp(_spot(y - 7.155 + 0.25 * (side - 0.30) ** 2, 0, 0.014) + _spot(side, 0.30, 0.1))
    lines += bag * (0.05 + 0.28 * old)
    arc = 7.385 - 1.1 * (side - 0.31) ** 2 - 0.10 * (side - 0.31)
    crease = np.exp(_spot(y - arc, 0, 0.013) + _spot(side, 0.31, 0.13))
    return (lines + 0.55 * traits.eyes.crease * crease) * surface.body


def _grooves(surface: Surface, traits: Traits) -> Array:
    """Return the grooves of the lips, [P] in 0..1; 0 elsewhere."""
    grooves, lips = np.zeros(len(surface.lips), np.float32), surface.lips > 0
    grooves[lips] = value_noise(surface.rest[lips] * np.array([70, 10, 10]) + traits.offset)
    return grooves


def skin_relief(
    surface: Surface, regions: Regions, traits: Traits, identity: Identity, lines: Array
) -> Array:
    """Return how far pores, lines, brows and lip grooves stand out of the skin, [P] in dm.

    `lines` [P] is `face_lines`.
    """
    rest, offset = surface.rest, traits.offset
    pores = value_noise(rest, 55, offset) + 0.6 * value_noise(rest, 24, offset)
    height = (0.0011 + 0.0009 * identity.age) * pores - 0.010 * lines
    height = height + 0.002 * surface.lips * _grooves(surface, traits) + 0.004 * regions.brow
    height = height + 0.015 * np.sqrt(regions.necklace)
    bare: Array = height * (surface.body & ~regions.cloth)
    return bare


def skin_albedo(
    surface: Surface, regions: Regions, traits: Traits, identity: Identity, lines: Array
) -> Array:
    """Return the linear albedo [P,3] of skin, lips, brows, shaved beard and painted scalp.

    `lines` [P] is `face_lines`.
    """
    x, y, _ = np.ascontiguousarray(surface.rest.T)
    side, skin, hair = np.abs(x), traits.skin, traits.hair
    tone = linear(skin.tone)
    lips = smoothstep(0.2, 0.75, surface.lips)
    grooves = _grooves(surface, traits) - 0.5
    hollow = np.exp(_spot(side, 0.28, 0.13) + _spot(y, 7.19, 0.055))
    scalp = regions.scalp * {"bald": 0.6, "buzz": 0.75}.get(hair.style, 1.0)
    beard = linear(hair.color * 0.7 + skin.tone * 0.1)
    layers = [
        *_complexion(surface, traits),
        (lines, _SHADE),
        (surface.lids * (0.12 + 0.75 * skin.makeup**2), _EYE_SHADOW),
        (hollow * (0.10 + 0.20 * identity.age), _EYE_SHADOW),
        (lips, _towards(tone, linear(skin.lips))),
        (lips * grooves * 0.35, _SHADE),
        (regions.brow, _towards(tone, linear(hair.color * 0.75))),
        (beard_shadow(surface, regions, traits), _towards(tone, beard)),
        (scalp, _towards(tone, linear(hair.color * 0.65))),
    ]
    amount = np.empty((len(y), len(layers)), np.float32)
    for number, layer in enumerate(layers):
        amount[:, number] = layer[0]
    absorption = np.stack([layer[1] for layer in layers]).astype(np.float32)
    albedo: Array = tone.astype(np.float32) * np.exp(amount @ -absorption)
    return albedo
