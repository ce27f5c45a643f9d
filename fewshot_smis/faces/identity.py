"""Who is portrayed: head shape and facial expression, drawn from the blend shapes.

The order of the random draws is part of what a seed means; a change of it changes every portrait.
"""

import functools
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.geometry import Array, add_shape, load_geometry, smoothstep

_DETAIL_PREFIXES = (
    "head",
    "eyes",
    "nose",
    "mouth",
    "chin",
    "cheek",
    "forehead",
    "ears",
    "neck",
)
_OPPOSITES = (
    ("incr", "decr"),
    ("up", "down"),
    ("in", "out"),
    ("convex", "concave"),
    ("forward", "backward"),
)
_HEAD_SHAPES = (
    "diamond",
    "invertedtriangular",
    "oval",
    "rectangular",
    "round",
    "square",
)
ETHNICITIES = ("african", "asian", "caucasian")


class Identity(NamedTuple):
    """A head with an expression, and the traits it was made from."""

    verts: Array  # [V,3] float32, dm
    male: float  # 0 female .. 1 male
    age: float  # 0 young .. 1 old
    ethnicity: Array  # [3], shares of ETHNICITIES, sum 1
    fat: float  # 0 .. 1
    expression: dict[str, float]  # weights of the face units

    @property
    def smile(self) -> float:
        """Return how much the corners of the mouth are drawn up, 0 .. 1."""
        return self.expression.get("mouthSmile", 0.0)


@functools.cache
def opposite_shapes() -> dict[str, tuple[str, str]]:
    """Map the stem of each detail to its two blend shapes, for example more and less of it."""
    names = load_geometry().shapes
    pairs = {}
    for name in names:
        if name.split("/")[0] not in _DETAIL_PREFIXES:
            continue
        for more, less in _OPPOSITES:
            stem = name[: -len(more)]
            if name.endswith("-" + more) and stem + less in names:
                pairs[stem] = (name, stem + less)
    return {k: v for k, v in pairs.items() if "trans" not in k and "age" not in k}


@functools.cache
def detail_stems() -> tuple[tuple[str, ...], ...]:
    """Group the stems of `opposite_shapes` so that left and right twins change together."""
    stems = opposite_shapes()
    both = sorted({stem.replace("/l-", "/?-") for stem in stems if "/r-" not in stem})
    return tuple(
        (stem.replace("/?-", "/l-"), stem.replace("/?-", "/r-")) if "/?-" in stem else (stem,)
        for stem in both
    )


def _add_macro(verts: Array, *, male: float, age: float, ethnicity: Array, fat: float) -> None:
    """Blend sex, age, ethnicity and weight; the product weights of the macro shapes sum to 1."""
    for sex, sex_weight in (("female", 1 - male), ("male", male)):
        for years, years_weight in (("young", 1 - age), ("old", age)):
            for name, share in zip(ETHNICITIES, ethnicity, strict=True):
                shape = f"macrodetails/{name}-{sex}-{years}"
                add_shape(verts, shape, share * sex_weight * years_weight)
            extreme = "max" if fat > 0.5 else "min"
            add_shape(
                verts,
                f"macrodetails/universal-{sex}-{years}-averagemuscle-{extreme}weight",
                sex_weight * years_weight * abs(2 * fat - 1) * 0.5,
            )


def _add_details(verts: Array, rng: np.random.RandomState) -> None:
    """Vary each feature of the face by chance, left and right alike."""
    pairs = opposite_shapes()
    for stems in detail_stems():
        if rng.rand() < 0.6:
            weight = np.clip(rng.randn() * 0.2, -0.45, 0.45)
            for stem in stems:
                add_shape(verts, pairs[stem][int(weight < 0)], abs(weight))
    for name in _HEAD_SHAPES:
        add_shape(verts, f"head/head-{name}", rng.rand() * 0.3 * (rng.rand() < 0.2))


def _flatter(verts: Array, rng: np.random.RandomState, male: float) -> None:
    """Move the neutral head towards portrait photographs: oval, with wider eyes."""
    add_shape(verts, "head/head-oval", rng.uniform(0.2, 0.6))
    add_shape(verts, "head/head-fat-decr", rng.uniform(0.0, 0.4))
    add_shape(verts, "chin/chin-width-decr", rng.uniform(0.0, 0.4) * (1.2 - male))
    add_shape(verts, "nose/nose-scale-horiz-decr", rng.uniform(0.0, 0.3))
    for side in "lr":
        add_shape(verts, f"eyes/{side}-eye-scale-incr", rng.uniform(0.2, 0.35) + 0.2 * (1 - male))


def sample_expression(rng: np.random.RandomState) -> dict[str, float]:
    """Draw face-unit weights; a name without Left or Right stands for both sides."""
    units: dict[str, float] = {}
    mood = rng.rand()
    if mood < 0.7:
        units["mouthSmile"] = 0.3 + rng.rand() * 0.6
        units["cheekSquint"] = units["mouthSmile"] * 0.4
    elif mood < 0.73:
        units["mouthFrown"] = rng.rand() * 0.35
    if mood < 0.45:  # a laugh bares the upper teeth as far as the corners rise
        units["mouthSmile"] = 0.5 + rng.rand() * 0.45
        units["mouthUpperUp"] = units["mouthSmile"] * rng.uniform(0.6, 1.0)
        units["mouthLowerDown"] = units["mouthSmile"] * rng.uniform(0.4, 0.8)
        units["mouthStretch"] = rng.rand() * 0.25
        units["jawOpen"] = rng.rand() ** 2 * 0.3
    elif rng.rand() < 0.25:
        units["jawOpen"] = rng.rand() ** 2 * 0.4
    if rng.rand() < 0.06:
        units["mouthPucker"] = rng.rand() * 0.4
    units["eyeBlink"] = rng.rand() * 0.12 if rng.rand() < 0.99 else 1.0
    units["eyeWide"] = rng.uniform(0.2, 0.55) if units["eyeBlink"] < 0.12 else 0.0
    brow = rng.randn() * 0.25 + 0.12  # mostly relaxed, seldom a frown
    if brow > 0:
        units["browInnerUp"] = brow
        units["browOuterUp"] = brow * rng.rand()
    else:
        units["browDown"] = min(-brow, 0.6) * 0.6
    return units


def _add_expression(verts: Array, rng: np.random.RandomState, expression: dict[str, float]) -> None:
    """Apply an expression, slightly uneven between the sides."""
    known = load_geometry().shapes
    for name, weight in expression.items():
        if f"faceunits/{name}" in known:
            add_shape(verts, f"faceunits/{name}", weight)
        else:
            add_shape(verts, f"faceunits/{name}Left", weight * rng.uniform(0.85, 1.1))
            add_shape(verts, f"faceunits/{name}Right", weight * rng.uniform(0.85, 1.1))


def sample_identity(rng: np.random.RandomState) -> Identity:
    """Draw a head: sex, age, ethnicity, weight, details and expression."""
    neutral = load_geometry().verts
    verts = neutral.copy()
    add_shape(verts, "mouth/mouth-scale-horiz-incr", 0.35 * rng.rand())
    male = rng.beta(0.25, 0.25)
    age = rng.beta(1.1, 2.6)
    ethnicity = rng.dirichlet([0.35, 0.35, 0.6])
    fat = rng.beta(1.8, 2.8)
    _add_macro(verts, male=male, age=age, ethnicity=ethnicity, fat=fat)
    _add_details(verts, rng)
    _flatter(verts, rng, male)
    expression = sample_expression(rng)
    _add_expression(verts, rng, expression)
    # The base neck is too long for a portrait: sink the head so that shoulders reach the crop.
    verts[:, 1] -= rng.uniform(0.20, 0.50) * smoothstep(5.0, 6.35, neutral[:, 1])
    return Identity(verts, male, age, ethnicity, fat, expression)
