"""Growing hair: poly-lines from scalp points by direction, gravity and collision.

Legend: S strands, K points a strand; positions in decimetres in model space.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry, smoothstep, unit
from fewshot_smis.faces.noise import value_noise

_X, _Y, _Z = np.eye(3)


class Roots(NamedTuple):
    """Points of the skin where strands begin."""

    position: Array  # [S,3]
    normal: Array  # [S,3] unit
    rest: Array  # [S,3], the same points on the neutral mesh
    field: Array  # [S], > 0


class Strands(NamedTuple):
    """Grown hair."""

    points: Array  # [S,K,3]
    layer: Array  # [S], 0 innermost .. 1 outermost
    clump: Array  # [S,3], -0.5..0.5, alike for neighbours


@dataclass
class _Growth:
    """How strands leave the scalp and bend; arrays are per strand, [S,1] or [S,3]."""

    length: float | Array
    thickness: float  # of the whole hair layer, in head radii
    direction: Array
    gravity: float | Array = 0.0
    lift: float = 0.35  # 0 lies on the skin, 1 stands upright
    jitter: float = 0.25
    curl: float = 0.0  # radius of the curls
    frequency: float = 0.0  # of the curls
    curtain: tuple[float, float] | None = None  # heights between which hair parts off the face


class _Skull(NamedTuple):
    """The ellipsoid strands cannot enter."""

    center: Array  # [3]
    radius: Array  # [3]


class _Scalp(NamedTuple):
    """What is known of each strand before it grows."""

    roots: Roots
    side: Array  # [S,1], sign of its side of the parting
    clump: Array  # [S,3]
    layer: Array  # [S]


def scatter_roots(
    rng: np.random.RandomState, verts: Array, normals: Array, field: Array, count: int
) -> Roots:
    """Scatter `count` points evenly over the skin and keep those where `field` [V] is positive."""
    geo = load_geometry()
    tris = geo.body[np.nonzero((field[geo.body] > 0).any(1))[0]]
    a, b, c = verts[tris[:, 0]], verts[tris[:, 1]], verts[tris[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    corners = tris[rng.choice(len(tris), count, p=area / area.sum())]
    share = rng.dirichlet([1, 1, 1], count).astype(np.float32)
    value = (field[corners] * share).sum(1)
    kept = value > 0
    corners, weight = corners[kept], share[kept][..., None]
    return Roots(
        (verts[corners] * weight).sum(1),
        unit((normals[corners] * weight).sum(1)),
        (geo.verts[corners] * weight).sum(1),
        value[kept],
    )


def _skull(verts: Array) -> _Skull:
    geo = load_geometry()
    rest, fields = geo.verts, geo.fields
    head = (rest[:, 1] > 7.35) & (fields["w_ears"] < 0.2) & (fields["sd_hair"] > -0.9)
    head &= fields["w_inside_mouth"] < 0.5
    low = verts[head & (fields["sd_hair"] > 0)].min(0)
    high = verts[head].max(0)
    middle = (high[1] + geo.eye_centers[0, 1]) / 2 - 0.05
    center = np.array([0, middle, (low[2] + high[2]) / 2])
    radius = np.array([high[0], high[1] - center[1], (high[2] - low[2]) / 2])
    return _Skull(center, radius)


def _short(rng: np.random.RandomState, side: Array, front: Array) -> _Growth:
    length, thickness = rng.uniform(0.16, 0.38), rng.uniform(0.03, 0.10)
    kind = rng.randint(3)
    if kind == 0:
        direction = side * _X * 0.5 - _Y * 0.3 + _Z * 0.9 * front - _Z * 0.3 * (1 - front)
    elif kind == 1:
        direction = side * _X * 0.9 - _Y * 0.3 - _Z * 0.2
    else:
        direction = -_Z + _Y * 0.4 * front
    lift = rng.uniform(0.2, 0.75)
    return _Growth(length, thickness, direction, gravity=0.06, lift=lift, jitter=0.28)


def _hanging(
    rng: np.random.RandomState, style: str, side: Array, front: Array, brow_height: float
) -> _Growth:
    growth = _Growth(
        length=rng.uniform(1.9, 2.9),
        thickness=rng.uniform(0.04, 0.14),
        direction=side * _X * 0.9 - _Z * 0.35 - _Y * 0.1,
        gravity=0.65,
        lift=0.12,
        curtain=(brow_height + rng.uniform(0.48, 0.62), brow_height - 0.05),
    )
    if style == "bob":
        growth.length = rng.uniform(1.25, 1.6)
    elif style == "wavy":
        growth.curl, growth.frequency = 0.05, 9
        growth.thickness += 0.05
    elif style == "curly":
        growth.curl, growth.frequency = 0.10, 16
        growth.thickness += 0.05
    elif style == "tied":
        back = -_Z + side * _X * 0.15 + _Y * 0.15 * front
        return _Growth(0.8, 0.03, back, gravity=0.03, lift=0.1)
    return growth


def _growth(rng: np.random.RandomState, style: str, scalp: _Scalp, brow_height: float) -> _Growth:
    """Return how hair of `style` grows; `brow_height` is where long hair must be off the face."""
    roots, side = scalp.roots, scalp.side
    front = smoothstep(0.75, 1.25, roots.rest[:, 2])[:, None]
    if style == "buzz":
        return _Growth(rng.uniform(0.04, 0.09), 0.0, roots.normal, lift=1.0)
    if style == "short":
        return _short(rng, side, front)
    if style == "afro":
        length = rng.uniform(0.2, 0.65)
        frequency = rng.uniform(14, 22)
        return _Growth(length, 0.25, roots.normal, lift=1.0, curl=0.07, frequency=frequency)
    return _hanging(rng, style, side, front, brow_height)


def _spread_lengths(rng: np.random.RandomState, style: str, growth: _Growth, field: Array) -> Array:
    """Return the length [S,1] of each strand, shorter at the hairline; tied hair is all alike."""
    if style == "tied":
        return np.full((len(field), 1), growth.length)
    near = np.where(field < 0.12, 0.45 + 4.5 * field, 1)[:, None]
    return growth.length * near * rng.uniform(0.75, 1.1, (len(field), 1))


def _cut_fringe(rng: np.random.RandomState, style: str, growth: _Growth, roots: Roots) -> Array:
    """Sometimes let the front hair fall over the forehead; return who does, [S] bool."""
    if not (style in ("bob", "long", "wavy") and rng.rand() < 0.3):
        return np.zeros(len(roots.field), bool)
    rest = roots.rest
    chosen = (rest[:, 1] > 7.85) & (rest[:, 2] > 1.0) & (np.abs(rest[:, 0]) < 0.5)
    fringe = (chosen & (roots.field < 0.30))[:, None]
    forward = _Z * 1.0 + _X * rest[:, :1] * 0.5 - _Y * 0.3
    growth.length = np.where(fringe, rng.uniform(0.5, 0.72), growth.length)
    growth.direction = np.where(fringe, forward, growth.direction)
    growth.gravity = np.where(fringe, 0.35, growth.gravity)
    flags: Array = fringe[:, 0]
    return flags


def _part_curtain(
    tips: Array, scalp: _Scalp, growth: _Growth, skull: _Skull, fringe: Array
) -> None:
    """Push `tips` [S,3] that fall in front of the face aside, in place; `fringe` [S] may stay."""
    if growth.curtain is None:
        return
    top, bottom = growth.curtain
    fall = np.sqrt(np.clip((top - tips[:, 1]) / (top - bottom), 0, 1))
    limit = skull.radius[0] * (0.93 + 0.1 * scalp.layer) * fall
    depth = skull.center[2]
    limit = limit * smoothstep(depth + 0.05, depth + 0.45, tips[:, 2]) * ~fringe
    tips[:, 0] += 0.45 * np.clip(limit - np.abs(tips[:, 0]), 0, None) * scalp.side[:, 0]


def _extend(scalp: _Scalp, growth: _Growth, skull: _Skull, fringe: Array, *, count: int) -> Array:
    """Grow all strands step by step and return their `count` points [S,K,3]."""
    roots = scalp.roots
    direction, tips = growth.direction, roots.position.copy()
    step = growth.length / (count - 1)
    reach = 1.0 + growth.thickness * (0.15 + scalp.layer[:, None])
    points = [roots.position - roots.normal * 0.02]
    for k in range(1, count):
        pull = np.array([0, 1, 0]) * growth.gravity * (k / 3.0 if k < 3 else 1) * 16 / count
        direction = unit(direction - pull + scalp.clump * 0.06)
        tips = tips + direction * step
        _part_curtain(tips, scalp, growth, skull, fringe)
        ball = (tips - skull.center) / skull.radius
        ball[:, 1] = np.maximum(ball[:, 1], 0)
        distance = np.linalg.norm(ball, axis=1, keepdims=True)
        push = np.clip(reach / (distance + 1e-9) - 1, 0, None)
        outward = unit(ball / skull.radius)
        tips = tips + ball * skull.radius * push
        inward = np.minimum((direction * outward).sum(1, keepdims=True), 0)
        direction = np.where(push > 0, unit(direction - inward * outward), direction)
        points.append(tips)
    return np.stack(points, 1)


def _curl(points: Array, growth: _Growth, phase: Array, wave: float) -> Array:
    """Wind `points` [S,K,3] into helices that start at `phase` [S,1]; `wave` is in dm."""
    t = np.linspace(0, 1, points.shape[1])
    angle = phase + t * growth.frequency * growth.length / wave
    wide = growth.curl * np.minimum(t * 4, 1)
    helix = [np.sin(angle) * wide, np.cos(angle * 1.3) * wide * 0.5, np.cos(angle) * wide]
    return points + np.stack(helix, -1)


def _plant(rng: np.random.RandomState, roots: Roots, offset: Array) -> _Scalp:
    """Choose parting, clumps and layer of the strands at `roots`."""
    rest = roots.rest
    parting = rng.choice([0, 0.22, -0.22, 0.3])
    side = np.where(rest[:, 0] + rng.randn(len(rest)) * 0.03 > parting, 1.0, -1.0)
    clump = np.stack([value_noise(rest * 5 + offset + 7 * k) - 0.5 for k in range(3)], 1)
    return _Scalp(roots, side[:, None], clump, rng.rand(len(rest)))


def _comb(rng: np.random.RandomState, scalp: _Scalp, growth: _Growth) -> Array:
    """Return the unit directions [S,3] in which the strands leave the skin."""
    along, normal = growth.direction, scalp.roots.normal
    flat = unit(along - (along * normal).sum(1, keepdims=True) * normal)
    start = flat * (1 - 0.5 * growth.lift) + normal * growth.lift
    stray = rng.randn(len(flat), 3) * growth.jitter * 0.12
    return unit(start + scalp.clump * growth.jitter * 2 + stray)


def grow_hair(
    rng: np.random.RandomState,
    verts: Array,
    normals: Array,
    style: str,
    field: Array,
    offset: Array,
) -> Strands:
    """Grow the hair of a head.

    Args:
        rng: draws roots and irregularities.
        verts: [V,3] float32, the head.
        normals: [V,3] unit, of its skin.
        style: one of traits.HAIR_STYLES but "bald".
        field: [V], > 0 where hair grows.
        offset: [3], where in the noise this portrait lies.
    """
    count = 8000 if style in ("buzz", "afro", "short") else 6000
    scalp = _plant(rng, scatter_roots(rng, verts, normals, field, count), offset)
    brow_height = verts[load_geometry().landmarks[19], 1]
    growth = _growth(rng, style, scalp, brow_height)
    growth.length = _spread_lengths(rng, style, growth, scalp.roots.field)
    fringe = _cut_fringe(rng, style, growth, scalp.roots)
    growth.direction = _comb(rng, scalp, growth)
    steps = 26 if style in ("wavy", "curly") else 16
    points = _extend(scalp, growth, _skull(verts), fringe, count=steps)
    if growth.curl:
        phase = value_noise(scalp.roots.rest * 4 + offset)[:, None] * 40
        phase = phase + rng.rand(len(phase), 1) * 1.2
        points = _curl(points, growth, phase, 0.6 if style == "afro" else 1.6)
    return Strands(points, scalp.layer, scalp.clump)
