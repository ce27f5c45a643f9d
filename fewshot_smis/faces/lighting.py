"""Light on the mesh: soft cast shadows, ambient occlusion, wrapped diffuse light and highlights.

Legend: P pixels that see the mesh; W canvas width; light is linear.
"""

from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.compiled import compiled
from fewshot_smis.faces.geometry import Array, smoothstep, unit
from fewshot_smis.faces.raster import box_blur, draw_triangles
from fewshot_smis.faces.traits import Light

_MAP_WIDTH = 112
_MAP_SPAN = 2.8  # dm that the shadow map sees
_GROUND = np.array([0.72, 0.60, 0.53])
"""Colour of the light from below."""

_SCATTER = np.array([0.42, 0.22, 0.15], np.float32)
"""How far light wraps around skin in red, green and blue: red travels farthest under it."""


class ShadowMap(NamedTuple):
    """The head seen from the key light: blurred depth and squared depth."""

    axes: Array  # [3,3], rows: right, up, towards the light
    center: Array  # [3]
    moments: Array  # [2,M,M] float32


def cast_shadow(placed: Array, tris: Array, light: Light) -> ShadowMap:
    """Look at the posed head `placed` [V,3] from the key light (variance shadow map).

    The mean and variance of the depth around a place bound how much of it the light reaches
    (Chebyshev's inequality; Donnelly and Lauritzen, 2006), which makes soft shadows from one map.
    """
    right = unit(np.cross([0.0, 1.0, 0.0], light.key))
    axes = np.stack([right, np.cross(light.key, right), light.key])
    center = placed[placed[:, 1] > placed[:, 1].max() - 2.4].mean(0)
    seen = (placed - center) @ axes.T
    seen[:, :2] = (seen[:, :2] / _MAP_SPAN + 0.5) * _MAP_WIDTH
    depth = np.full((_MAP_WIDTH, _MAP_WIDTH), -1.5, np.float32)
    draw_triangles(seen.astype(np.float32), tris, depth)
    radius = max(1, round(light.softness / _MAP_SPAN * _MAP_WIDTH))
    moments = np.stack([box_blur(depth, radius), box_blur(depth * depth, radius)])
    return ShadowMap(axes, center, moments)


def fill_bound(seen: Array, moments: Array, bound: Array) -> None:
    """Write Chebyshev's bound of the light at points `seen` [P,3] from it: x, y and nearness."""
    one, half, most = np.float32(1), np.float32(0.5), np.float32(_MAP_WIDTH - 1.01)
    span, width = np.float32(_MAP_SPAN), np.float32(_MAP_WIDTH)
    blended = np.empty(2, np.float32)
    for p in range(seen.shape[0]):
        x = min(max((seen[p, 0] / span + half) * width - half, np.float32(0)), most)
        y = min(max((seen[p, 1] / span + half) * width - half, np.float32(0)), most)
        column, row = int(x), int(y)
        u, v = x - np.float32(column), y - np.float32(row)
        for m in range(2):
            a, b = moments[m, row, column], moments[m, row, column + 1]
            c, d = moments[m, row + 1, column], moments[m, row + 1, column + 1]
            blended[m] = (a * (one - u) + b * u) * (one - v) + (c * (one - u) + d * u) * v
        behind = max(blended[0] - seen[p, 2] - np.float32(0.03), np.float32(0))
        variance = max(blended[1] - blended[0] * blended[0], np.float32(1e-3))
        bound[p] = variance / (variance + behind * behind)


def reach_of_light(shadow: ShadowMap, place: Array) -> Array:
    """Return how much of the key light reaches the points `place` [P,3], [P] in 0..1."""
    seen = (place - shadow.center.astype(np.float32)) @ shadow.axes.T.astype(np.float32)
    bound = np.empty(len(seen), np.float32)
    compiled(fill_bound, fastmath=False)(seen, shadow.moments, bound)
    reach: Array = smoothstep(0.25, 1, bound)
    return reach


def _double(small: Array, width: int) -> Array:
    """Repeat each pixel of `small` to fill [W,W]."""
    large: Array = small.repeat(2, 0).repeat(2, 1)[:width, :width]
    return large


def ambient_occlusion(depth: Array, hit: Array, scale: float) -> Array:
    """Return how open each mesh pixel is to the light from all around, [P] in 0..1.

    A pixel behind the mean depth of its neighbourhood lies in a hollow. Two neighbourhoods are
    looked at: of nostrils and lids, and of the eye sockets and the neck.

    Args:
        depth: [W,W] float32, dm; only read where `hit`.
        hit: [W,W] bool, the mesh pixels.
        scale: pixels a decimetre.
    """
    floor = depth[hit].min()
    filled = np.where(hit, depth, floor)[::2, ::2]
    cover = hit[::2, ::2].astype(np.float32)
    opened = np.ones_like(depth)
    for reach, gain in ((0.05, 4.0), (0.22, 1.6)):
        radius = max(1, round(reach * scale / 2))
        share = box_blur(cover, radius)
        mean = box_blur(filled * cover, radius) / (share + np.float32(1e-3))
        inner = np.clip(2 * share - 1, 0, 1)  # an outline has neighbours on one side only
        mean, inner = (box_blur(_double(small, len(depth)), 1) for small in (mean, inner))
        hidden = np.clip((mean - depth) * np.float32(gain), 0, np.float32(0.55))
        opened *= 1 - hidden * inner
    return opened[hit]


def emboss(normal: Array, height: Array, hit: Array, scale: float) -> Array:
    """Return `normal` [P,3] tilted by the slopes of a relief (bump mapping; Blinn, 1978).

    Args:
        normal: [P,3] unit.
        height: [P], dm above the smooth surface.
        hit: [W,W] bool, the P pixels.
        scale: pixels a decimetre.
    """
    relief = np.zeros(hit.shape, np.float32)
    relief[hit] = height * scale
    down, right = (np.clip(slope[hit], -0.5, 0.5) for slope in np.gradient(relief))
    return unit(normal + np.stack([-right, down, np.zeros_like(down)], 1))


def diffuse(normal: Array, light: Light, wrap: Array | float) -> Array:
    """Return the unshadowed light [P,3] on `normal` [P,3]; `wrap` lets it reach past the edge."""
    everywhere = np.ones(len(normal), np.float32)
    return irradiance(normal, light, wrap, reach=everywhere, opened=everywhere)


def fill_irradiance(
    angles: tuple[Array, Array, Array],
    reach: Array,
    edge: Array,
    surrounding: Array,
    wrap: Array,
    mean: float,
    tints: Array,
    total: Array,
) -> None:
    """Write the light of key, surroundings and rim, [P,3]; `irradiance` computes what it is of."""
    (facing, up, behind), one = angles, np.float32(1)
    for p in range(total.shape[0]):
        for c in range(3):
            ground, sky, key, rim = tints[0, c], tints[1, c], tints[2, c], tints[3, c]
            bent = wrap[p, c]
            lit = max((facing[p] + bent) / (one + bent), np.float32(0)) * reach[p]
            # the rim of a shadow glows red where light travels under the skin
            lit *= one + edge[p] * (bent - mean)
            total[p, c] = lit * key
            total[p, c] += (ground + up[p] * (sky - ground)) * surrounding[p]
            total[p, c] += behind[p] * rim


def irradiance(
    normal: Array, light: Light, wrap: Array | float, *, reach: Array, opened: Array
) -> Array:
    """Return the light [P,3] that arrives at a surface.

    Args:
        normal: [P,3] unit.
        light: of the portrait.
        wrap: 0..1, a number or one for each colour: how far the key light passes the edge.
        reach: [P] 0..1, share of the key light that is not shadowed.
        opened: [P] 0..1, share of the surrounding light.
    """
    normal = normal.astype(np.float32)
    wrap = np.asarray(wrap, np.float32)
    facing = normal @ light.key.astype(np.float32)
    fill = np.clip(normal @ light.fill.astype(np.float32) + 0.3, 0, None) / 1.3
    behind = np.clip(normal @ light.rim.astype(np.float32) + 0.1, 0, None) ** 2
    up, edge = 0.5 + 0.5 * normal[:, 1], (1 - reach) * reach
    surrounding = light.ambient * opened + light.fill_strength * fill * opened
    tints = np.stack([_GROUND, light.tint, light.key_color, light.rim_color]).astype(np.float32)
    total, wraps = np.empty_like(normal), np.ascontiguousarray(np.broadcast_to(wrap, normal.shape))
    compiled(fill_irradiance, fastmath=False)(
        (facing, up, behind * opened), reach, edge, surrounding, wraps, wrap.mean(), tints, total
    )
    return total


def skin_wrap() -> Array:
    """Return how far light wraps around skin, [3] for red, green and blue."""
    return _SCATTER


def highlights(normal: Array, light: Light) -> tuple[Array, Array]:
    """Return the broad and the narrow highlight [P] each of the key light."""
    facing = np.clip(normal @ light.half.astype(np.float32), 0, 1)
    fresnel = 0.04 + 0.25 * (1 - normal[:, 2]) ** 4
    facing2 = facing * facing
    facing4 = facing2 * facing2
    facing16 = facing4**4
    broad = fresnel * facing4 * 0.30 + facing16 * 0.06
    return broad, facing16 * facing16
