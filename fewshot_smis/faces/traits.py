"""How a portrait looks: every scalar choice of hair, skin, eyes, clothes, light and view.

All choices are drawn here before anything is painted, so that rendering itself is a plain
function of them. The order of the draws is part of what a seed means.
Colours are sRGB in 0..1 unless they are said to be linear.
"""

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fewshot_smis.faces.geometry import Array, unit
from fewshot_smis.faces.grooming import HairTraits, sample_hair
from fewshot_smis.faces.identity import Identity

EARRINGS = ("none", "stud", "hoop", "drop")
PATTERNS = ("plain", "stripes", "checks", "heather")
_SKIN_TONES = np.array(
    [
        [0.90, 0.725, 0.645],
        [0.85, 0.655, 0.555],
        [0.76, 0.56, 0.43],
        [0.62, 0.41, 0.29],
        [0.48, 0.30, 0.205],
        [0.37, 0.23, 0.16],
    ]
)
_IRIS_COLORS = np.array(
    [
        [0.25, 0.14, 0.07],
        [0.13, 0.08, 0.05],
        [0.30, 0.45, 0.62],
        [0.33, 0.44, 0.30],
        [0.45, 0.36, 0.22],
        [0.45, 0.50, 0.55],
    ]
)
_IRIS_ODDS_FAIR = (0.3, 0.1, 0.22, 0.14, 0.14, 0.1)
_IRIS_ODDS_DARK = (0.5, 0.45, 0.0, 0.0, 0.05, 0.0)


class Pose(NamedTuple):
    """Rotation of the head in degrees; yaw > 0 turns the face to the image right."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class View:
    """Pose and camera."""

    pose: Pose
    distance: float  # camera to pivot, dm
    shift: Array  # [2], standard normal: how far off the ideal crop
    zoom: float  # standard normal


@dataclass(frozen=True)
class Garment:
    """Cut, colour and pattern of the clothes."""

    neckline: float  # height, dm
    v_neck: float  # depth of the cut, 0 round
    collar: float  # how far a collar climbs the neck, dm; 0 none
    color: Array  # [3]
    accent: Array  # [3], of pattern and rim
    pattern: str  # one of PATTERNS
    spacing: float  # of the pattern, dm


@dataclass(frozen=True)
class BrowTraits:
    """Shape of the brows."""

    half_width: float  # dm
    arch: float  # dm
    density: float  # 0..1


@dataclass(frozen=True)
class SkinTraits:
    """Skin, make-up and lips."""

    tone: Array  # [3]
    flush: float  # strength of the red of cheeks, nose and ears
    freckles: bool
    makeup: float  # 0..1, on the lids
    lips: Array  # [3]


@dataclass(frozen=True)
class EyeTraits:
    """Direction of the gaze, colour of the iris and strength of the lashes."""

    gaze: Array  # [2], shift of the iris, dm
    iris: Array  # [3]
    lashes: float  # 0..1
    crease: float  # 0..1, depth of the fold above the lid


@dataclass(frozen=True)
class Jewels:
    """Earrings and necklace."""

    earring: str  # one of EARRINGS
    earring_size: float  # dm
    necklace: bool
    necklace_line: float  # height in front, dm
    pearls: bool
    color: Array  # [3]


@dataclass(frozen=True)
class Light:
    """A key light that throws shadows, a fill light, a rim light and light from all around."""

    key: Array  # [3] unit, towards the light
    fill: Array  # [3] unit
    rim: Array  # [3] unit, from behind
    key_color: Array  # [3] linear
    rim_color: Array  # [3] linear
    fill_strength: float
    ambient: float
    tint: Array  # [3], colour of the surrounding light
    shine: float  # strength of the skin's highlights
    softness: float  # of shadows, dm

    @property
    def half(self) -> Array:
        """Return the direction [3] half-way between light and camera, where highlights lie."""
        return unit(self.key + np.array([0, 0, 1]))


@dataclass(frozen=True)
class Backdrop:
    """A gradient with blurred boxes, as in a room, or discs, as of far lights and leaves.

    Places and sizes are fractions of the picture.
    """

    colors: tuple[Array, Array]  # [3] each, linear
    slope: Array  # [2], of the gradient to the right and down
    vignette: float  # how much darker the corners are
    boxes: Array  # [.,7]: left, top, right, bottom, linear colour
    discs: Array  # [.,7]: x, y, radius, cover, linear colour
    blur: float


@dataclass(frozen=True)
class Traits:
    """All of the above for one portrait."""

    offset: Array  # [3], where in the noise this portrait lies
    view: View
    hair: HairTraits
    garment: Garment
    brows: BrowTraits
    skin: SkinTraits
    eyes: EyeTraits
    jewels: Jewels
    glasses: bool
    light: Light
    backdrop: Backdrop


def hsv(hue: float, saturation: float, value: float) -> Array:
    """Return the sRGB colour [3] of a hue (in turns), saturation and value (both clipped)."""
    rgb = colorsys.hsv_to_rgb(hue % 1, np.clip(saturation, 0, 1), np.clip(value, 0, 1))
    return np.array(rgb)


def linear(color: Array) -> Array:
    """Turn display values into linear light with exponent 2.2; clips to 0..1."""
    return np.clip(color, 0, 1) ** 2.2


def _is_fair(identity: Identity) -> bool:
    """Tell whether hair and eyes are drawn from the wide range of colours."""
    return bool(identity.ethnicity[2] > 0.5)


def _sample_view(rng: np.random.RandomState, pose: Pose | None) -> View:
    if pose is None:
        pose = Pose(np.clip(rng.randn() * 14, -36, 36), rng.randn() * 5, rng.randn() * 4)
    distance = rng.uniform(9, 16)
    return View(pose, distance, rng.randn(2), rng.randn())


def _sample_tone(rng: np.random.RandomState, identity: Identity) -> Array:
    darkness = identity.ethnicity @ [0.78, 0.26, 0.10] + rng.randn() * 0.09
    place = np.clip(darkness, 0, 0.999) * 5
    lower, share = int(place), place % 1
    tone = _SKIN_TONES[lower] * (1 - share) + _SKIN_TONES[lower + 1] * share
    blended: Array = tone * (1 + rng.randn(3) * 0.02)
    return blended


def _sample_skin(rng: np.random.RandomState, identity: Identity) -> SkinTraits:
    tone = _sample_tone(rng, identity)
    flush = rng.uniform(0.3, 1.0)
    freckles = rng.rand() < 0.12
    makeup = (1 - identity.male) * rng.rand()
    lips = tone * [0.84, 0.60, 0.58]
    if rng.rand() < 0.6 * (1 - identity.male):
        stick = hsv(rng.uniform(-0.04, 0.02), rng.uniform(0.4, 0.65), rng.uniform(0.45, 0.8))
        lips = stick * 0.5 + lips * 0.5
    return SkinTraits(tone, flush, freckles, makeup, lips)


def _sample_eyes(rng: np.random.RandomState, identity: Identity, pose: Pose) -> EyeTraits:
    """Mostly look at the camera: the eyes turn against the head."""
    counter = np.sin(np.deg2rad([-pose.yaw, pose.pitch])) * 0.13
    share = rng.uniform(0.4, 0.9) * (rng.rand() < 0.85)
    gaze = np.clip(counter * share, -0.055, 0.055) + rng.randn(2) * [0.007, 0.004]
    odds = _IRIS_ODDS_FAIR if _is_fair(identity) else _IRIS_ODDS_DARK
    iris = _IRIS_COLORS[rng.choice(6, p=odds)] * rng.uniform(0.85, 1.15)
    lashes = np.clip(0.75 - 0.45 * identity.male + rng.randn() * 0.12, 0.2, 1)
    crease = np.clip(rng.uniform(0.4, 1.0) - 0.5 * identity.ethnicity[1], 0.05, 1)
    return EyeTraits(gaze, iris, lashes, crease)


def _sample_light(rng: np.random.RandomState, tone: Array) -> Light:
    """Draw the lights and scale them so that a face of skin `tone` is well exposed."""
    key = unit(np.array([rng.randn() * 0.65, rng.uniform(0.25, 0.95), rng.uniform(0.7, 1.3)]))
    warmth = rng.uniform(-0.4, 1.5)
    key_color = np.array([1, 0.96, 0.90]) ** warmth
    fill_strength, ambient = rng.uniform(0.05, 0.28), rng.uniform(0.16, 0.36)
    exposure = rng.uniform(0.92, 1.14) * (0.45 / tone.mean()) ** 0.35
    exposure /= 0.85 * key[2] + 0.7 * fill_strength + ambient
    side = np.sign(rng.randn())
    return Light(
        key=key,
        fill=unit(np.array([-key[0] * 1.2, 0.1, 0.8])),
        rim=unit(np.array([side, rng.uniform(0.1, 0.8), rng.uniform(-0.9, -0.3)])),
        key_color=key_color * exposure,
        rim_color=np.array([1, 0.96, 0.90]) ** rng.uniform(-1, 2) * max(0, rng.uniform(-0.4, 0.8)),
        fill_strength=fill_strength * exposure,
        ambient=ambient * exposure,
        tint=np.array([0.95, 0.98, 1.04]) ** (rng.uniform(0, 1.5) * np.sign(warmth)),
        shine=rng.uniform(0.4, 1.2),
        softness=rng.uniform(0.03, 0.12),
    )


def _backdrop_color(rng: np.random.RandomState) -> Array:
    """Return a muted linear colour [3], seldom a strong one."""
    warm = rng.rand() < 0.6
    hue = rng.normal(0.08, 0.05) if warm else rng.normal(0.55, 0.12)
    return linear(hsv(hue, rng.rand() ** 1.5 * 0.55, rng.uniform(0.12, 0.92)))


def _sample_discs(
    rng: np.random.RandomState, count: int, color: Array, *, size: float, spread: float
) -> Array:
    """Return `count` discs [.,7] around a linear `color`; see `Backdrop`."""
    place, cover = rng.uniform(-0.1, 1.1, (count, 2)), rng.uniform(0.15, 0.6, (count, 1))
    radius = size * rng.uniform(0.6, 1.4, (count, 1))
    paint = color * rng.uniform(1 - spread, 1 + spread, (count, 1))
    paint = paint * (1 + rng.randn(count, 3) * 0.08)
    return np.concatenate([place, radius, cover, paint], 1)


def _sample_backdrop(rng: np.random.RandomState) -> Backdrop:
    first, second = _backdrop_color(rng), _backdrop_color(rng)
    kind = rng.choice(["studio", "room", "leaves", "lights"], p=[0.45, 0.3, 0.15, 0.1])
    boxes, discs, blur = np.zeros((0, 7)), np.zeros((0, 7)), rng.uniform(0.02, 0.05)
    if kind == "room":
        count = rng.randint(3, 8)
        corner = rng.uniform(-0.3, 1.0, (count, 2))
        extent = rng.uniform(0.08, 0.7, (count, 2))
        paint = [first * rng.uniform(0.4, 1.4) + 0.3 * _backdrop_color(rng) for _ in range(count)]
        boxes = np.concatenate([corner, corner + extent, np.stack(paint)], 1)
    elif kind == "leaves":
        first = linear(hsv(rng.normal(0.25, 0.05), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.7)))
        discs = _sample_discs(rng, 40, first, size=0.12, spread=0.5)
    elif kind == "lights":
        first, second = first * 0.3, second * 0.3
        glow = linear(hsv(rng.normal(0.09, 0.03), rng.uniform(0.1, 0.6), 0.9))
        discs, blur = _sample_discs(rng, 14, glow, size=0.06, spread=0.3), 0.005
    return Backdrop(
        colors=(first, second * 0.6 + first * 0.4),
        slope=rng.uniform([-0.5, -0.4], [0.5, 1.0]),
        vignette=rng.uniform(0, 0.5),
        boxes=boxes,
        discs=discs,
        blur=blur,
    )


def _sample_jewels(rng: np.random.RandomState, identity: Identity, garment: Garment) -> Jewels:
    female = identity.male < 0.5
    odds = (0.5, 0.2, 0.16, 0.14) if female else (0.96, 0.03, 0.01, 0.0)
    gold, silver = np.array([0.83, 0.62, 0.28]), np.array([0.75, 0.75, 0.77])
    pearls = rng.rand() < 0.3
    metal = gold if rng.rand() < 0.55 else silver
    return Jewels(
        earring=str(rng.choice(EARRINGS, p=odds)),
        earring_size=rng.uniform(0.06, 0.15),
        necklace=bool(rng.rand() < (0.22 if female else 0.03)) and not garment.collar,
        necklace_line=garment.neckline - 0.4 * garment.v_neck + rng.uniform(0.06, 0.16),
        pearls=pearls,
        color=np.array([0.90, 0.86, 0.80]) if pearls else metal,
    )


def _sample_garment(rng: np.random.RandomState) -> Garment:
    color = hsv(rng.rand(), rng.rand() ** 1.5 * 0.7, rng.uniform(0.08, 0.92))
    accent = np.clip(color * rng.uniform(0.5, 0.85) + 0.25 * (rng.rand() < 0.5), 0, 1)
    neckline, collar = rng.uniform(5.76, 6.06), 0.0
    v_neck = rng.uniform(0.3, 1.2) * (rng.rand() < 0.35)
    if rng.rand() < 0.3:
        neckline, collar, v_neck = rng.uniform(5.90, 6.04), rng.uniform(0.12, 0.26), 1.5
    return Garment(
        neckline=neckline,
        v_neck=v_neck,
        collar=collar,
        color=color,
        accent=accent,
        pattern=str(rng.choice(PATTERNS, p=[0.6, 0.14, 0.1, 0.16])),
        spacing=rng.uniform(0.08, 0.2),
    )


def sample_traits(
    rng: np.random.RandomState, identity: Identity, pose: Pose | None = None
) -> Traits:
    """Draw the looks of `identity`; `pose`, if given, replaces the drawn one."""
    male = identity.male
    offset = rng.rand(3) * 32
    view = _sample_view(rng, pose)
    hair = sample_hair(rng, identity)
    garment = _sample_garment(rng)
    brows = BrowTraits(
        half_width=rng.uniform(0.019, 0.028) * (0.75 + 0.55 * male),
        arch=rng.uniform(-0.004, 0.014) - 0.006 * male,
        density=rng.uniform(0.5, 0.9),
    )
    skin = _sample_skin(rng, identity)
    eyes = _sample_eyes(rng, identity, view.pose)
    return Traits(
        offset=offset,
        view=view,
        hair=hair,
        garment=garment,
        brows=brows,
        skin=skin,
        eyes=eyes,
        jewels=_sample_jewels(rng, identity, garment),
        glasses=bool(rng.rand() < 0.07 + 0.12 * identity.age),
        light=_sample_light(rng, skin.tone),
        backdrop=_sample_backdrop(rng),
    )
