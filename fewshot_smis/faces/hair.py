"""Hair styles: where strands begin, which way they flow, how far and how high they grow.

Legend: S strands, K points a strand, V vertices; lengths in decimetres in model space.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry, smoothstep, unit
from fewshot_smis.faces.grooming import HairTraits
from fewshot_smis.faces.growth import WINDOW_STEPS, Growth, Skull, grow
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.strands import gather_locks

_X, _Y, _Z = np.eye(3)
_CROPPED = ("bald", "buzz", "fade", "short", "parted", "quiff")
_ROOTS = {"bald": 4000, "buzz": 6000, "afro": 7000}
_EDGE = 0.13  # width of the strip where the hairline thins out
_WINDOW = np.deg2rad([[0, 26, 44, 55, 60, 63, 65, 66, 67, 67, 66, 65]])[0]
"""How far round the head the face reaches, from the middle of the hairline down to the jaw."""


class Roots(NamedTuple):
    """Points of the skin where strands begin."""

    position: Array  # [S,3]
    normal: Array  # [S,3] unit
    rest: Array  # [S,3], the same points on the neutral mesh
    field: Array  # [S], > 0


class Strands(NamedTuple):
    """Grown hair, innermost strands first."""

    points: Array  # [S,K,3]
    normals: Array  # [S,K,3] unit, outward
    layer: Array  # [S], 0 innermost .. 1 outermost
    tone: Array  # [S], -0.5..0.5, alike within a lock
    alpha: Array  # [S,K], 0..1
    thickness: Array  # [S], multiple of the usual


class _Head(NamedTuple):
    """What hair is measured by."""

    skull: Skull
    brow: float  # height of the brows


class _Lay(NamedTuple):
    """How the strands of a head lie beside each other."""

    layer: Array  # [S], 0 innermost .. 1 outermost
    side: Array  # [S,1], -1 or 1, of the parting
    fringe: Array  # [S] bool
    mates: Array  # [S,4], 0..1, alike within a lock
    cropped: bool


@dataclass
class _Style:
    """How one head of hair grows; [S] and [S,3] arrays or one value for all strands."""

    flow: Array
    length: Array | float
    rise: Array | float  # of the outermost strands above the skin, multiple of the skull
    hull: float = 0.0  # shell of the innermost strands; 0 is the skin itself
    settle: Array | float = 0.25
    gravity: Array | float = 0.0
    stick: float = 1.0
    knot: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    curl: float = 0.0
    pitch: float = 0.0
    window: bool = False
    lock: float = 0.12  # size of the locks
    gather: float = 0.35  # how much strands of a lock join
    steps: int = 12


def scatter_roots(
    rng: np.random.RandomState, verts: Array, normals: Array, field: Array, count: int
) -> Roots:
    """Scatter `count` points evenly over the skin and keep those where `field` [V] is positive."""
    geo = load_geometry()
    first, second, third = (field > 0)[geo.body].T
    tris = geo.body[first | second | third]
    a, b, c = verts[tris[:, 0]], verts[tris[:, 1]], verts[tris[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    corners = tris[rng.choice(len(tris), count, p=area / area.sum())]
    share = rng.dirichlet([1, 1, 1], count).astype(np.float32)
    value = (field[corners] * share).sum(1)
    kept = value > 0
    corners, weight = corners[kept].T, share[kept].T[..., None]

    def blended(vectors: Array) -> Array:
        a, b, c = (vectors.take(corner, 0) for corner in corners)
        return a * weight[0] + b * weight[1] + c * weight[2]

    return Roots(blended(verts), unit(blended(normals)), blended(geo.verts), value[kept])


def fit_skull(verts: Array) -> Skull:
    """Return the ellipsoid about the head `verts` [V,3]."""
    geo = load_geometry()
    rest, fields = geo.verts, geo.fields
    head = (rest[:, 1] > 7.35) & (fields["w_ears"] < 0.2) & (fields["sd_hair"] > -0.9)
    head &= fields["w_inside_mouth"] < 0.5
    low = verts[head & (fields["sd_hair"] > 0)].min(0)
    high = verts[head].max(0)
    middle = (high[1] + verts[geo.landmarks[36:48], 1].mean()) / 2 - 0.05
    center = np.array([0, middle, (low[2] + high[2]) / 2])
    radius = np.array([high[0], high[1] - center[1], (high[2] - low[2]) / 2])
    return Skull(center, radius)


def _measure_head(verts: Array) -> _Head:
    return _Head(fit_skull(verts), float(verts[load_geometry().landmarks[[19, 24]], 1].mean()))


def _cropped(rng: np.random.RandomState, style: str, roots: Roots, side: Array) -> _Style:
    """Short hair: combed on top, lying down at the sides."""
    y, z = roots.rest[:, 1:2], roots.rest[:, 2:3]
    top, front = smoothstep(7.75, 8.15, y), smoothstep(0.5, 1.1, z)
    down = -_Y - 0.35 * _Z
    if style in ("bald", "buzz"):
        flow = (1 - top) * down + top * (_Z * front - _Z * (1 - front)) * 0.6 + roots.normal * 0.6
        return _Style(flow, rng.uniform(0.05, 0.09), 0.02, lock=0.05, gather=0.0, steps=4)
    flank = rng.uniform(0.05, 0.10) if style == "fade" else rng.uniform(0.12, 0.24)
    sway = rng.choice([-1, 1])
    crown = {
        "fade": _Z * rng.uniform(-0.2, 0.4) + sway * _X * rng.uniform(0.2, 0.6),
        "short": _Z * rng.uniform(-0.3, 0.3) + sway * _X * rng.uniform(0.3, 0.8),
        "parted": side * _X - _Z * rng.uniform(-0.1, 0.4),
        "quiff": -_Z + sway * _X * rng.uniform(0.0, 0.5),
    }[style]
    long = {"fade": 0.22, "short": 0.32, "parted": 0.55, "quiff": 0.60}[style]
    high = {"fade": 0.07, "short": 0.12, "parted": 0.13, "quiff": 0.16}[style]
    high *= rng.uniform(0.7, 1.3)
    crown = crown - _Z * 0.6 * front * smoothstep(0.25, 0.0, roots.field)[:, None]
    flow = top * crown + (1 - top) * down
    if style == "quiff":
        rise = 0.04 + top * high * (0.6 + 1.1 * front)
    else:
        rise = 0.03 + top * high + (1 - top) * flank * 0.25
    length = flank + top**1.5 * (long * rng.uniform(0.8, 1.2) - flank)
    settle = 0.14 + 0.2 * top
    gather = rng.uniform(0.3, 0.6)
    return _Style(flow, length[:, 0], rise[:, 0], settle=settle[:, 0], gravity=0.6, gather=gather)


def _hanging(rng: np.random.RandomState, style: str, side: Array) -> _Style:
    """Hair that falls from the parting past the face."""
    back = rng.uniform(0.2, 0.6)
    grown = _Style(
        flow=side * _X - _Z * back + _Y * 0.1,
        length=rng.uniform(2.1, 3.0),
        rise=rng.uniform(0.10, 0.18),
        hull=1.0,
        settle=0.35,
        gravity=2.6,
        window=True,
        steps=20,
    )
    if style == "bob":
        grown.length = rng.uniform(1.35, 1.75)
        grown.rise = rng.uniform(0.14, 0.24)
    elif style == "wavy":
        grown.curl, grown.pitch = rng.uniform(0.025, 0.05), rng.uniform(6, 10)
        grown.rise = rng.uniform(0.16, 0.28)
        grown.gather, grown.lock, grown.steps = 0.5, 0.16, 26
    elif style == "curly":
        grown.curl, grown.pitch = rng.uniform(0.045, 0.07), rng.uniform(16, 22)
        grown.rise = rng.uniform(0.25, 0.42)
        grown.length = rng.uniform(1.5, 2.4)
        grown.gather, grown.lock, grown.steps = 0.5, 0.13, 44
    return grown


def _tied(rng: np.random.RandomState, skull: Skull, side: Array) -> _Style:
    """Hair combed tightly to a knot at the back of the head."""
    height = rng.uniform(0.3, 1.0)
    behind = -1.02 * np.sqrt(max(0.05, 1 - max(height, 0) ** 2))
    spot = skull.center + skull.radius * [0, height, behind]
    flow = -_Z + side * _X * 0.5 + _Y * 0.2
    knot = (float(spot[0]), float(spot[1]), float(spot[2]), 0.5)
    return _Style(flow, 2.2, 0.045, hull=1.0, settle=0.25, knot=knot, steps=16, gather=0.1)


def _choose_style(
    rng: np.random.RandomState, style: str, roots: Roots, skull: Skull, side: Array
) -> _Style:
    if style in _CROPPED:
        return _cropped(rng, style, roots, side)
    if style == "tied":
        return _tied(rng, skull, side)
    if style == "afro":
        size = rng.uniform(0.25, 0.75)
        pitch = rng.uniform(35, 50)
        upright = roots.normal + (roots.position - skull.center) * 0.6
        return _Style(upright, size, 0.0, stick=0.0, curl=0.05, pitch=pitch, gather=0.0, steps=16)
    return _hanging(rng, style, side)


def _let_fringe_fall(
    rng: np.random.RandomState, hair: HairTraits, grown: _Style, roots: Roots, brow: float
) -> Array:
    """Comb the front hair over the forehead; return which strands, [S] bool."""
    x, z = roots.rest[:, 0], roots.rest[:, 2]
    depth = 0.42 - 0.25 * np.clip(np.abs(x) / 0.6, 0, 1) ** 2
    chosen: Array = (roots.field < depth) & (z > 0.85) & (np.abs(x) < 0.58) & (hair.fringe > 0)
    if not chosen.any():
        return chosen
    sweep = rng.uniform(-0.35, 0.35) * (rng.rand() < 0.5)
    drop = roots.position[:, 1] - brow - 0.12 * (1 - hair.fringe)
    span = drop * 1.0 + roots.field * 0.75 + 0.04
    forward = _Z + _X * (x[:, None] * 0.4 + sweep) - _Y * 0.5
    grown.flow = np.where(chosen[:, None], forward, grown.flow)
    grown.length = np.where(chosen, span * rng.uniform(0.94, 1.02, len(x)), grown.length)
    grown.gravity = np.where(chosen, 2.0, grown.gravity)
    return chosen


def _part(rng: np.random.RandomState, roots: Roots) -> Array:
    """Return on which side of the parting each strand lies, [S,1] of -1 and 1."""
    parting = rng.choice([0.0, 0.2, -0.2, 0.3, -0.3])
    x = roots.rest[:, 0] - parting * smoothstep(0.0, 0.8, roots.rest[:, 2])
    return np.where(x + rng.randn(len(x)) * 0.015 > 0, 1.0, -1.0)[:, None]


def _thin_hairline(rng: np.random.RandomState, roots: Roots) -> Roots:
    """Drop strands towards the hairline, so that it is no edge."""
    kept = rng.rand(len(roots.field)) < 0.15 + 0.85 * smoothstep(0, _EDGE, roots.field)
    return Roots(*(part[kept] for part in roots))


def _locks(roots: Roots, side: Array, offset: Array, size: float) -> Array:
    """Return the number [S] of the lock each strand belongs to: cells of a bent lattice."""
    bent = [value_noise(roots.rest * 4 + offset + 9 * k) for k in range(3)]
    cell = np.floor((roots.rest + np.stack(bent, 1) * 0.25 + offset) / size).astype(np.int64)
    _, lock = np.unique(cell @ [2, 2000, 2000000] + (side[:, 0] > 0), return_inverse=True)
    numbers: Array = lock
    return numbers


def _fade_ends(roots: Roots, style: str, steps: int) -> Array:
    """Return the opacity [S,K]: faint where the hairline begins and at the tips."""
    along = np.linspace(0, 1, steps)
    edge = smoothstep(-0.02, _EDGE, roots.field)[:, None]
    root = edge + (1 - edge) * (0.25 + 0.75 * np.minimum(along * 3, 1))
    tip = 1 - 0.75 * smoothstep(0.6 if style in _CROPPED else 0.88, 1.0, along)
    tip = tip * (0.6 if style == "bald" else 1.0)
    return (root * tip).astype(np.float32)


def _comb(
    rng: np.random.RandomState, grown: _Style, roots: Roots, near: Array, wild: Array
) -> Array:
    """Return the unit directions [S,3] in which strands leave the skin.

    `near` [S,3] is the drift of the neighbourhood, `wild` [S,1] how much strands differ.
    """
    flow = unit(grown.flow) + near * wild + rng.randn(len(near), 3) * wild * 0.4
    if grown.stick:
        flow = flow - (flow * roots.normal).sum(1, keepdims=True) * roots.normal
    return unit(flow)


def _shells(grown: _Style, roots: Roots, skull: Skull, layer: Array) -> Array:
    """Return the shell [S] each strand settles on, as a multiple of the skull."""
    ball = (roots.position - skull.center) / skull.radius
    ball[:, 1] = np.maximum(ball[:, 1], 0)
    skin = np.maximum(np.linalg.norm(ball, axis=1), grown.hull)
    shell: Array = skin + grown.rise * (0.1 + 0.9 * layer)
    return shell


def _is_held(roots: Roots) -> Array:
    """Return which strands [S] bool tied hair keeps: those before the ears would be loose."""
    loose = (roots.rest[:, 1] < 7.32) & (roots.rest[:, 2] > 0.3)
    return ~loose


def _with_bun(rng: np.random.RandomState, strands: Strands, knot: Array, skull: Skull) -> Strands:
    """Add a bun at `knot` [3]: arcs around a ball, all wound about like axes."""
    steps, count, radius = strands.points.shape[1], 900, rng.uniform(0.24, 0.34)
    center = knot + unit(knot - skull.center) * radius * 0.9
    layer = np.sort(rng.rand(count))
    axis = unit(np.array([0.3, 0.5, 1.0]) * rng.randn(3) + rng.randn(count, 3) * 0.35)
    first = unit(np.cross(axis, rng.randn(count, 3)))
    angle = np.linspace(0, rng.uniform(2.0, 3.5), steps)[:, None]
    around = first[:, None] * np.cos(angle) + np.cross(axis, first)[:, None] * np.sin(angle)
    level = rng.uniform(-0.6, 0.6, (count, 1, 1))
    normals = unit(around + axis[:, None] * level)
    points = center + normals * (radius * (0.85 + 0.15 * layer))[:, None, None]
    alpha = np.full((count, steps), 0.95, np.float32)
    tone = rng.uniform(-0.3, 0.3, count)
    bun = Strands(points, normals, layer, tone, alpha, np.ones(count))
    return Strands(
        *(
            np.concatenate([part, more]).astype(np.float32)
            for part, more in zip(strands, bun, strict=True)
        )
    )


def _plan_growth(
    rng: np.random.RandomState, grown: _Style, roots: Roots, head: _Head, lay: _Lay, drift: Array
) -> Growth:
    """Say how each strand grows; `drift` [S,3] is what its neighbourhood does."""
    total, cropped = len(roots.field), lay.cropped
    wild = (0.25 if cropped else 0.12) * (1 - 0.6 * lay.fringe[:, None])
    common = drift * 2.5 + (lay.mates[:, :3] - 0.5) * 2
    length = np.broadcast_to(grown.length, total) * rng.uniform(0.85, 1.05, total)
    if cropped or not grown.stick:
        length = length * (0.45 + 0.55 * smoothstep(0, 0.25, roots.field))
    return Growth(
        root=roots.position.astype(np.float32),
        flow=_comb(rng, grown, roots, common, wild).astype(np.float32),
        length=length.astype(np.float32),
        shell=_shells(grown, roots, head.skull, lay.layer).astype(np.float32),
        settle=np.broadcast_to(grown.settle, total).astype(np.float32),
        side=lay.side[:, 0].astype(np.float32),
        phase=(lay.mates[:, 3] * 6.3 + rng.randn(total) * 0.35).astype(np.float32),
        clump=(drift * wild * 4).astype(np.float32),
        free=(lay.fringe | (not grown.window and not grown.knot[3])).astype(np.float32),
        gravity=np.broadcast_to(grown.gravity, total).astype(np.float32),
        stick=grown.stick,
        knot=np.array(grown.knot),
        curl=float(grown.curl),
        pitch=float(grown.pitch),
        window=np.interp(np.linspace(0, 1, WINDOW_STEPS), np.linspace(0, 1, len(_WINDOW)), _WINDOW),
        window_top=head.brow + 0.60,
        window_bottom=head.brow - 0.75,
    )


def grow_hair(
    rng: np.random.RandomState,
    verts: Array,
    normals: Array,
    hair: HairTraits,
    field: Array,
    offset: Array,
) -> Strands:
    """Grow the hair of a head.

    Args:
        rng: draws roots and irregularities.
        verts: [V,3] float32, the head.
        normals: [V,3] unit, of its skin.
        hair: style and fringe.
        field: [V], > 0 where hair grows.
        offset: [3], where in the noise this portrait lies.
    """
    count, cropped = _ROOTS.get(hair.style, 7500), hair.style in _CROPPED
    roots = _thin_hairline(rng, scatter_roots(rng, verts, normals, field, count))
    head, total = _measure_head(verts), len(roots.field)
    layer, side = np.sort(rng.rand(total)), _part(rng, roots)
    grown = _choose_style(rng, hair.style, roots, head.skull, side)
    if hair.hat != "none":
        grown.rise = grown.rise * 0.35
    fringe = _let_fringe_fall(rng, hair, grown, roots, head.brow)
    lock = _locks(roots, side, offset, grown.lock)
    lay = _Lay(layer, side, fringe, rng.rand(lock.max(initial=0) + 1, 4)[lock], cropped)
    drift = np.stack([value_noise(roots.rest * 3 + offset + 7 * k) - 0.5 for k in range(3)], 1)
    growth = _plan_growth(rng, grown, roots, head, lay, drift)
    points, outward = grow(growth, head.skull, grown.steps)
    if grown.gather:
        loose = np.where(fringe, 0.1, smoothstep(0.0, 0.25, roots.field))
        points = gather_locks(points, lock, grown.gather * loose)
    tone = (lay.mates[:, 0] - 0.5) * 0.7 + rng.uniform(-0.15, 0.15, total)
    alpha = _fade_ends(roots, hair.style, grown.steps)
    if hair.style == "tied":
        alpha *= _is_held(roots)[:, None]
    thickness = 1.3 if hair.style == "afro" else 1 + 0.5 * fringe
    thickness = np.broadcast_to(thickness, total)
    strands = Strands(points, outward, layer, tone, alpha, thickness)
    if grown.knot[3] and rng.rand() < 0.7:
        return _with_bun(rng, strands, np.array(grown.knot[:3]), head.skull)
    return strands
