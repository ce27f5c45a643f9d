"""Colour of the mesh under its light."""

import numpy as np

from fewshot_smis.faces.clothing import cloth_albedo
from fewshot_smis.faces.eyes import catchlight, eyeball_albedo
from fewshot_smis.faces.geometry import TEETH_LOWER, TEETH_UPPER, TONGUE, Array, smoothstep
from fewshot_smis.faces.identity import Identity
from fewshot_smis.faces.labels import Regions
from fewshot_smis.faces.lighting import diffuse, highlights, irradiance, skin_wrap
from fewshot_smis.faces.skin import skin_albedo
from fewshot_smis.faces.surface import Surface
from fewshot_smis.faces.traits import Traits, linear

__all__ = ["diffuse", "mesh_albedo", "shade_mesh"]

_TEETH = linear(np.array([0.93, 0.90, 0.84]))
_TONGUE = linear(np.array([0.62, 0.32, 0.31]))
_GUMS = linear(np.array([0.34, 0.12, 0.12]))


def mesh_albedo(
    surface: Surface, regions: Regions, traits: Traits, identity: Identity, lines: Array
) -> Array:
    """Return the linear albedo [P,3] of every mesh pixel; `lines` [P] is `face_lines`."""
    rest, group, cloth, eye = surface.rest, surface.group, regions.cloth, surface.eye
    color = skin_albedo(surface, regions, traits, identity, lines)
    color[eye] = eyeball_albedo(rest[eye], group[eye], traits.eyes, traits.offset)
    color[(group == TEETH_UPPER) | (group == TEETH_LOWER)] = _TEETH
    color[group == TONGUE] = _TONGUE
    color[surface.body & (surface.mouth > 0.5)] = _GUMS
    chain = regions.necklace > 0
    color[chain] = linear(traits.jewels.color) * (0.5 + 0.5 * regions.necklace[chain, None])
    color[cloth] = cloth_albedo(rest[cloth], regions.garment[cloth], traits)
    return color


def _darkness(surface: Surface, regions: Regions) -> Array:
    """Return how little light reaches folds that the shadows are too coarse for, [P] in 0..1."""
    open_to = np.where(surface.mouth > 0.5, 0.30, 1.0)
    inner = 0.35 + 0.65 * smoothstep(1.30, 1.50, surface.rest[:, 2])
    open_to *= np.where(surface.group >= TEETH_UPPER, inner, 1)
    contact = 1 - 0.45 * smoothstep(-0.07, 0.0, regions.garment)
    open_to *= np.where(surface.body & ~regions.cloth, contact, 1)
    return open_to.astype(np.float32)


def shade_mesh(
    albedo: Array,
    surface: Surface,
    regions: Regions,
    traits: Traits,
    *,
    reach: Array,
    opened: Array,
) -> Array:
    """Light the mesh pixels and return linear colours [P,3].

    Args:
        albedo: [P,3], linear.
        surface: what the pixels see.
        regions: their classes.
        traits: of the portrait.
        reach: [P] 0..1, share of the key light that is not shadowed.
        opened: [P] 0..1, share of the surrounding light.
    """
    light, normal = traits.light, surface.normal
    skin = surface.body & ~regions.cloth
    teeth = (surface.group == TEETH_UPPER) | (surface.group == TEETH_LOWER)
    reach = np.where(teeth, np.maximum(reach, 0.5), reach)  # light passes thin lips
    opened = np.where(teeth, np.maximum(opened, 0.7), opened) * _darkness(surface, regions)
    wrap = np.stack([np.full(3, 0.12, np.float32), skin_wrap()]).take(skin, 0)
    out = albedo * irradiance(normal, light, wrap, reach=reach * opened**0.5, opened=opened)
    broad, narrow = highlights(normal, light)
    gloss = broad * skin * light.shine * (1 - 0.6 * regions.scalp)
    gloss += narrow * (0.14 * (surface.lips > 0.5) + 0.8 * (regions.necklace > 0))
    out += (gloss * reach * opened)[:, None] * light.key_color.astype(np.float32)
    eye = surface.eye
    mirrored = catchlight(surface.rest[eye], surface.group[eye], light)
    out[eye] += 0.85 * mirrored[:, None]
    return out
