"""Colour of the mesh pixels: albedo, wrapped diffuse light, highlights, backdrop.

Legend: P pixels that see the mesh; albedo is sRGB, light is linear.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.geometry import (
    TEETH_LOWER,
    TEETH_UPPER,
    TONGUE,
    Array,
    load_geometry,
    smoothstep,
    unit,
)
from fewshot_smis.faces.labels import Regions
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.surface import Surface
from fewshot_smis.faces.traits import Backdrop, Light, Traits, linear

_IRIS_RADIUS = 0.064
_PUPIL_RADIUS = 0.027


class _EyePlane(NamedTuple):
    """Where each pixel lies relative to its iris centre, dm."""

    x: Array  # [P]
    y: Array  # [P]
    radius: Array  # [P]


def _bump(x: Array, center: float, width: float) -> Array:
    """Return the argument of a Gaussian: -((x - center) / width)^2."""
    return -(((x - center) / width) ** 2)


def _skin(surface: Surface, traits: Traits, age: float) -> Array:
    """Return the albedo [P,3] of bare skin with flush, freckles, make-up and eye shadows."""
    x, y, z = surface.rest.T
    side, offset, skin = np.abs(x), traits.offset, traits.skin
    color = np.repeat(skin.tone[None], len(x), 0)
    cheeks = np.exp(_bump(side, 0.45, 0.2) + _bump(y, 6.98, 0.18))
    nose = 0.8 * np.exp(-((x / 0.16) ** 2) + _bump(y, 6.95, 0.12))
    red = (cheeks + nose + 0.7 * surface.ears) * 0.13 * skin.flush
    color = color * (1 - red[:, None] * np.array([-0.15, 1, 0.9]))
    blotches = (
        (value_noise(surface.rest * 5 + offset) - 0.5) * 0.08
        + (value_noise(surface.rest * 17 + offset) - 0.5) * 0.06
        + (value_noise(surface.rest * 45 + offset) - 0.5) * 0.05
    )
    color *= 1 + blotches[:, None] * surface.body[:, None]
    if skin.freckles:
        spots = np.clip((value_noise(surface.rest * 30 + offset) - 0.7) * 6, 0, 1)
        color *= 1 - 0.3 * (spots * np.exp(_bump(y, 7.05, 0.22)) * (z > 0.9))[:, None]
    lids = surface.lids[:, None] * np.array([0.16, 0.26, 0.22])
    color *= 1 - lids * (0.5 + 0.9 * skin.makeup)
    hollow = np.exp(_bump(side, 0.29, 0.14) + _bump(y, 7.17, 0.05))[:, None]
    color *= 1 - (0.10 + 0.15 * age) * hollow * np.array([0.7, 1, 0.9])
    return color


def _beard_zone(surface: Surface, regions: Regions) -> Array:
    """Return where a beard shades the skin, [P] in 0..1: moustache band and jaw."""
    _, y, z = surface.rest.T
    side = np.abs(surface.rest[:, 0])
    jaw = smoothstep(6.62, 6.50, y - 0.75 * np.clip(side - 0.33, 0, 1)) * (side < 0.72)
    moustache = smoothstep(0.30, 0.24, side) * smoothstep(6.86, 6.78, y) * (y > 6.4)
    zone = np.minimum(smoothstep(-0.18, -0.02, regions.jaw), np.maximum(jaw, moustache))
    bare = surface.body * (surface.lips < 0.3) * (surface.mouth < 0.3) * (z > 0.55)
    shaded: Array = zone * bare
    return shaded


def _hair_paint(color: Array, surface: Surface, regions: Regions, traits: Traits) -> Array:
    """Paint brows, scalp and beard shadow on the skin `color` [P,3]; return the new colour."""
    hair, tone = traits.hair.color, traits.skin.tone
    brow = regions.brow[:, None]
    color = color * (1 - 0.92 * brow) + hair * 0.7 * 0.92 * brow
    cover = {"bald": 0.25, "buzz": 0.75}.get(traits.hair.style, 1.0)
    scalp = (regions.scalp * cover)[:, None]
    color = color * (1 - scalp) + hair * 0.65 * scalp
    beard = traits.hair.beard
    if beard:
        zone = _beard_zone(surface, regions)[:, None]
        color = color * (1 - zone * 0.30 * beard)
        color = color + (hair * 0.6 + tone * 0.15) * zone * 0.30 * beard
    return color


def _eye_plane(surface: Surface, traits: Traits) -> _EyePlane:
    centers = load_geometry().eye_centers
    center = np.where(surface.left[:, None], centers[0, :2], centers[1, :2])
    x, y = (surface.rest[:, :2] - center - traits.eyes.gaze).T
    return _EyePlane(x, y, np.hypot(x, y))


def _eyeball(plane: _EyePlane, surface: Surface, traits: Traits) -> Array:
    """Return the albedo [P,3] of white, iris and pupil."""
    shade = 1 - 0.12 * np.clip(np.abs(plane.x) / 0.13, 0, 1) ** 2
    white = np.array([0.86, 0.83, 0.81]) * shade[:, None]
    inside = np.clip((_IRIS_RADIUS - plane.radius) / 0.010, 0, 1)[:, None]
    rays = [np.arctan2(plane.y, plane.x) * 6, plane.radius * 20, surface.left * 5.0]
    grain = 0.65 + 0.5 * value_noise(np.stack(rays, 1) + traits.offset)
    iris = traits.eyes.iris * grain[:, None]
    iris = iris * np.where(plane.radius > _IRIS_RADIUS * 0.8, 0.45, 1)[:, None]
    pupil = np.clip((_PUPIL_RADIUS - plane.radius) / 0.008, 0, 1)[:, None]
    ball: Array = (white * (1 - inside) + iris * inside) * (1 - pupil) + 0.02 * pupil
    return ball


def mesh_albedo(surface: Surface, regions: Regions, traits: Traits, age: float) -> Array:
    """Return the albedo [P,3] of every mesh pixel; `age` 0..1 deepens the eye shadows."""
    color = _skin(surface, traits, age)
    cover = np.clip((surface.lips - 0.25) / 0.4, 0, 1)[:, None]
    lines = value_noise(surface.rest * np.array([60, 8, 8]) + traits.offset)
    lips = traits.skin.lips * cover * (0.92 + 0.16 * lines)[:, None]
    color = color * (1 - cover) + lips
    color = _hair_paint(color, surface, regions, traits)
    ball = _eyeball(_eye_plane(surface, traits), surface, traits)
    color = np.where(surface.eye[:, None], ball, color)
    teeth = (surface.group == TEETH_UPPER) | (surface.group == TEETH_LOWER)
    color[teeth] = [0.88, 0.85, 0.78]
    color[surface.group == TONGUE] = [0.62, 0.30, 0.30]
    color[surface.body & (surface.mouth > 0.5)] = [0.30, 0.10, 0.10]
    weave = value_noise(surface.rest[regions.cloth] * [5, 2, 5] + traits.offset)
    color[regions.cloth] = traits.garment.color * (1 + (weave - 0.5) * 0.25)[:, None]
    return color


def diffuse(normal: Array, light: Light, wrap: Array | float) -> Array:
    """Return the diffuse light [P,3] on `normal` [P,3]; `wrap` lets it reach past the edge."""
    key = np.clip((normal @ light.key)[:, None] + wrap, 0, None) / (1 + wrap) * light.key_color
    fill = np.clip((normal @ light.fill)[:, None] + 0.3, 0, None) / 1.3 * light.fill_strength
    up = 0.5 + 0.5 * normal[:, 1:2]
    around = up * [0.95, 1, 1.06] + (1 - up) * [0.75, 0.62, 0.55]
    total: Array = key + fill + light.ambient * around
    return total


def _catch_light(surface: Surface, traits: Traits) -> Array:
    """Return the reflection [P] of the key light on the eye balls."""
    plane, gaze, key = _eye_plane(surface, traits), traits.eyes.gaze, traits.light.key
    across = plane.x + gaze[0] + 0.5 * gaze[0] - key[0] * 0.03
    above = plane.y - 0.018 - key[1] * 0.015
    spot: Array = surface.eye * np.exp(-(across**2 + above**2) / 0.00022) * 0.9
    return spot


def shade_mesh(albedo: Array, surface: Surface, regions: Regions, traits: Traits) -> Array:
    """Light the mesh pixels and return linear colours [P,3].

    The wrap of the diffuse light is larger in red on skin, as light scatters under it.
    """
    light, normal, jaw = traits.light, surface.normal, regions.jaw
    skin = surface.body & ~regions.cloth
    wrap = np.where(skin[:, None], np.array([0.40, 0.22, 0.15]), 0.12)
    out = linear(albedo) * diffuse(normal, light, wrap)
    out *= np.where(jaw < 0, 0.72 + 0.28 * smoothstep(0, -0.5, jaw), 1)[:, None]
    out *= np.where(skin & (regions.garment > -0.05), 0.65, 1)[:, None]  # contact shadow
    out *= np.where(surface.mouth > 0.5, 0.35, 1)[:, None]
    inner = 0.35 + 0.65 * smoothstep(1.30, 1.50, surface.rest[:, 2])
    out *= np.where(surface.group >= TEETH_UPPER, inner, 1)[:, None]
    facing = np.clip(normal @ light.half, 0, 1)
    fresnel = 0.04 + 0.25 * (1 - normal[:, 2]) ** 4
    gloss = facing**22 * 0.09 + fresnel * facing**4 * 0.35
    gloss = skin * gloss * light.shine * (1 - 0.6 * regions.scalp)
    wet = (surface.lips > 0.5) * facing**40 * 0.16
    out += (gloss + wet)[:, None] * light.key_color
    out += _catch_light(surface, traits)[:, None]
    return out


def shade_strands(points: Array, tint: Array, dark: Array, camera: Camera, light: Light) -> Array:
    """Light strands along their tangents (Kajiya-Kay) and return linear colours [S,K,3].

    Args:
        points: [S,K,3] in model space.
        tint: [S,K,3] or [S,1,3] sRGB, colour of the hair.
        dark: [S,K] 0..1, light that reaches each point through the other hair.
        camera: poses the head.
        light: of the portrait.
    """
    placed = camera.place(points)
    tangent = unit(np.gradient(placed, axis=1))
    along, across = tangent @ light.key, tangent @ light.half
    lit = np.sqrt(np.clip(1 - along**2, 0, 1)) * 0.75
    shine = np.clip(1 - across**2, 0, 1) ** 30 * 0.22
    shine = shine + np.clip(1 - (across + 0.15) ** 2, 0, 1) ** 9 * 0.10
    outward = unit(placed - [0, 0.35, -0.2]) @ light.key
    shadow = 0.35 + 0.65 * smoothstep(-0.7, 0.6, outward)
    base = linear(tint)
    glow = (lit * shadow)[..., None] * light.key_color * 1.1
    glow = glow + light.ambient + light.fill_strength * 0.4
    gloss = (shine * shadow * dark)[..., None] * light.key_color * (base * 2.2 + 0.035)
    color: Array = base * glow * dark[..., None] + gloss
    return color


def paint_backdrop(backdrop: Backdrop, offset: Array, width: int) -> Array:
    """Return the background [W,W,3], linear."""
    y, x = np.mgrid[0:width, 0:width] / width

    def clouds(frequency: float) -> Array:
        flat = [x * frequency + offset[0], y * frequency + offset[1]]
        return value_noise(np.stack([*flat, x * 0 + offset[2] + frequency], -1))

    first, second, third = backdrop.colors
    swirl = (clouds(backdrop.cloud_frequency) - 0.5) * backdrop.cloud_strength
    ramp = backdrop.slope_y * y + backdrop.slope_x * x + swirl + 0.4
    blend = np.clip(ramp, 0, 1)[..., None]
    patches = smoothstep(0.5, 0.62, clouds(backdrop.patch_frequency))[..., None]
    patches = patches * backdrop.patches * 0.7
    mixed: Array = (first * (1 - blend) + second * blend) * (1 - patches) + third * patches
    return mixed
