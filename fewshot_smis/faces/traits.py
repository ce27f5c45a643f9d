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
from fewshot_smis.faces.identity import Identity

HAIR_STYLES = ("bald", "buzz", "short", "afro", "tied", "bob", "long", "wavy", "curly")
BEARDS = ("none", "stubble", "full")
_STYLE_ODDS_MALE = (0.06, 0.2, 0.5, 0.08, 0.02, 0.02, 0.05, 0.05, 0.02)
_STYLE_ODDS_FEMALE = (0.0, 0.01, 0.06, 0.09, 0.14, 0.12, 0.26, 0.2, 0.12)
_SKIN_TONES = np.array(
    [
        [0.93, 0.76, 0.67],
        [0.87, 0.68, 0.56],
        [0.78, 0.57, 0.43],
        [0.60, 0.41, 0.29],
        [0.42, 0.27, 0.19],
        [0.29, 0.18, 0.13],
    ]
)
_HAIR_COLORS = np.array(
    [
        [0.07, 0.055, 0.05],
        [0.14, 0.085, 0.06],
        [0.27, 0.165, 0.10],
        [0.42, 0.27, 0.15],
        [0.68, 0.50, 0.30],
        [0.50, 0.22, 0.10],
        [0.60, 0.60, 0.60],
    ]
)
_HAIR_ODDS_FAIR = (0.14, 0.2, 0.26, 0.17, 0.14, 0.06, 0.03)
_HAIR_ODDS_DARK = (0.55, 0.32, 0.12, 0.0, 0.0, 0.0, 0.01)
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
class HairTraits:
    """Style, hairline and colour of hair and beard."""

    style: str  # one of HAIR_STYLES
    recede: float  # how far the hairline moves back, dm
    hat: bool
    cap_line: float  # height of the cap's rim, dm
    color: Array  # [3]
    beard: int  # index into BEARDS


@dataclass(frozen=True)
class Garment:
    """Cut and colour of the clothes."""

    neckline: float  # height, dm
    v_neck: float  # depth of the cut, 0 round
    color: Array  # [3]


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
    """Direction of the gaze and colour of the iris."""

    gaze: Array  # [2], shift of the iris, dm
    iris: Array  # [3]


@dataclass(frozen=True)
class Light:
    """One key light, one fill light and light from all around."""

    key: Array  # [3] unit, towards the light
    fill: Array  # [3] unit
    key_color: Array  # [3] linear
    fill_strength: float
    ambient: float
    shine: float  # strength of the skin's highlights

    @property
    def half(self) -> Array:
        """Return the direction [3] half-way between light and camera, where highlights lie."""
        return unit(self.key + np.array([0, 0, 1]))


@dataclass(frozen=True)
class Backdrop:
    """A gradient of two colours, perhaps with patches of a third; slopes per image size."""

    colors: tuple[Array, Array, Array]  # [3] each, linear
    slope_y: float
    slope_x: float
    cloud_frequency: float  # noise cells per image
    cloud_strength: float
    patch_frequency: float
    patches: bool


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
        pose = Pose(np.clip(rng.randn() * 15, -38, 38), rng.randn() * 6, rng.randn() * 4)
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
    flush = rng.uniform(0.4, 1.3)
    freckles = rng.rand() < 0.2
    makeup = (1 - identity.male) * rng.rand()
    if rng.rand() < 0.4 + 0.6 * identity.male:
        lips = tone * [0.86, 0.60, 0.58]
    else:
        stick = hsv(rng.uniform(-0.04, 0.02), rng.uniform(0.45, 0.75), rng.uniform(0.45, 0.8))
        lips = stick * 0.6 + tone * [0.36, 0.2, 0.2]
    return SkinTraits(tone, flush, freckles, makeup, lips)


def _sample_hair_color(rng: np.random.RandomState, identity: Identity) -> Array:
    odds = _HAIR_ODDS_FAIR if _is_fair(identity) else _HAIR_ODDS_DARK
    color: Array = _HAIR_COLORS[rng.choice(7, p=odds)] * (1 + rng.randn() * 0.1)
    if identity.age > 0.5 and rng.rand() < 0.55:
        color = color * 0.3 + np.array([0.62, 0.61, 0.60]) * 0.7
    return color


def _sample_eyes(rng: np.random.RandomState, identity: Identity) -> EyeTraits:
    gaze = rng.randn(2) * [0.016, 0.008]
    odds = _IRIS_ODDS_FAIR if _is_fair(identity) else _IRIS_ODDS_DARK
    return EyeTraits(gaze, _IRIS_COLORS[rng.choice(6, p=odds)])


def _sample_light(rng: np.random.RandomState) -> Light:
    key = unit(np.array([rng.randn() * 0.7, rng.uniform(0.15, 0.9), rng.uniform(0.7, 1.4)]))
    warm = np.array([1, 0.96, 0.91]) ** rng.uniform(-0.6, 1.6)
    return Light(
        key=key,
        fill=unit(np.array([-key[0] * 1.2, 0.1, 0.8])),
        key_color=warm * rng.uniform(0.75, 1.05),
        fill_strength=rng.uniform(0.12, 0.42),
        ambient=rng.uniform(0.20, 0.38),
        shine=rng.uniform(0.5, 1.4),
    )


def _sample_backdrop(rng: np.random.RandomState) -> Backdrop:
    first, second, third = (
        linear(hsv(rng.rand(), rng.rand() ** 2 * 0.8, rng.uniform(0.08, 0.95))) for _ in range(3)
    )
    return Backdrop(
        colors=(first, second, third),
        slope_y=rng.uniform(-0.5, 1),
        slope_x=rng.uniform(-0.5, 0.5),
        cloud_frequency=rng.uniform(1, 3),
        cloud_strength=rng.uniform(0, 2.5),
        patch_frequency=rng.uniform(2, 6),
        patches=rng.rand() < 0.35,
    )


def sample_traits(
    rng: np.random.RandomState, identity: Identity, pose: Pose | None = None
) -> Traits:
    """Draw the looks of `identity`; `pose`, if given, replaces the drawn one."""
    male = identity.male
    offset = rng.rand(3) * 32
    view = _sample_view(rng, pose)
    style = str(rng.choice(HAIR_STYLES, p=_STYLE_ODDS_MALE if male > 0.5 else _STYLE_ODDS_FEMALE))
    thinning = max(0, male - 0.4) * identity.age * 0.22
    recede = np.clip(rng.randn() * 0.04 - 0.04 + thinning, -0.12, 0.3)
    hat = rng.rand() < 0.06 and style not in ("afro", "curly")
    cap_line = rng.uniform(7.60, 7.78)
    neckline = rng.uniform(5.5, 6.0) + 0.15 * (rng.rand() < 0.2)
    v_neck = rng.uniform(0, 0.5) * (rng.rand() < 0.5)
    brows = BrowTraits(
        half_width=rng.uniform(0.020, 0.036) * (0.75 + 0.5 * male),
        arch=rng.randn() * 0.008,
        density=1.0 if rng.rand() < 0.85 else 0.6,
    )
    skin = _sample_skin(rng, identity)
    hair_color = _sample_hair_color(rng, identity)
    beard = int(rng.choice([0, 1, 2], p=[0.45, 0.3, 0.25])) if male > 0.6 else 0
    eyes = _sample_eyes(rng, identity)
    cloth_color = hsv(rng.rand(), rng.rand() ** 1.5 * 0.8, rng.uniform(0.1, 0.95))
    return Traits(
        offset=offset,
        view=view,
        hair=HairTraits(style, recede, hat, cap_line, hair_color, beard),
        garment=Garment(neckline, v_neck, cloth_color),
        brows=brows,
        skin=skin,
        eyes=eyes,
        light=_sample_light(rng),
        backdrop=_sample_backdrop(rng),
    )
