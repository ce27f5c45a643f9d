"""What hair, beard and hat a person has, by sex, age and ethnicity.

Colours are sRGB in 0..1.
"""

from dataclasses import dataclass

import numpy as np

from fewshot_smis.faces.geometry import Array, smoothstep
from fewshot_smis.faces.identity import Identity

HAIR_STYLES = (
    "bald",
    "buzz",
    "fade",
    "short",
    "parted",
    "quiff",
    "afro",
    "tied",
    "bob",
    "long",
    "wavy",
    "curly",
)
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
HATS = ("none", "beanie", "cap", "brimmed")
_STYLE_ODDS_MALE = (7, 10, 13, 26, 14, 13, 5, 2, 1, 3, 3, 3)
_STYLE_ODDS_FEMALE = (0, 1, 0, 6, 3, 2, 6, 15, 16, 22, 18, 11)
_BEARD_ODDS = (44, 27, 5, 8, 16)
_HAT_ODDS = (93, 3, 2, 2)
_COLORS = np.array(
    [
        [0.09, 0.075, 0.07],
        [0.17, 0.115, 0.085],
        [0.29, 0.195, 0.135],
        [0.43, 0.31, 0.21],
        [0.66, 0.53, 0.38],
        [0.79, 0.69, 0.54],
        [0.50, 0.27, 0.16],
    ]
)
_COLOR_ODDS_FAIR = (12, 22, 26, 17, 13, 5, 5)
_COLOR_ODDS_DARK = (62, 30, 8, 0, 0, 0, 0)
_GREY = np.array([0.62, 0.615, 0.61])
_WHITE = np.array([0.83, 0.825, 0.81])


@dataclass(frozen=True)
class HairTraits:
    """Style, hairline and colour of hair and beard, and the hat."""

    style: str  # one of HAIR_STYLES
    recede: float  # how far the hairline moves back, dm
    hat: str  # one of HATS
    hat_line: float  # height of the hat's rim above the brows, dm
    color: Array  # [3]
    beard: str  # one of BEARDS
    fringe: float  # 0 none, 1 down to the brows


def _choose(rng: np.random.RandomState, names: tuple[str, ...], odds: tuple[int, ...]) -> str:
    return str(rng.choice(names, p=np.array(odds) / sum(odds)))


def sample_hair_color(rng: np.random.RandomState, identity: Identity) -> Array:
    """Draw the colour [3]: dark or, on fair people, any; grey and white come with age."""
    odds = np.array(_COLOR_ODDS_FAIR if identity.ethnicity[2] > 0.5 else _COLOR_ODDS_DARK)
    color = _COLORS[rng.choice(len(odds), p=odds / odds.sum())] * (1 + rng.randn() * 0.08)
    age = identity.age + rng.randn() * 0.12
    grey = smoothstep(0.35, 0.9, age) * (rng.rand() < 0.75)
    aged = _GREY + (_WHITE - _GREY) * smoothstep(0.75, 1.1, age)
    blended: Array = color * (1 - grey) + aged * grey
    return blended


def sample_hair(rng: np.random.RandomState, identity: Identity) -> HairTraits:
    """Draw hair, beard and hat of `identity`."""
    man = identity.male > 0.5
    style = _choose(rng, HAIR_STYLES, _STYLE_ODDS_MALE if man else _STYLE_ODDS_FEMALE)
    thinning = max(0.0, identity.male - 0.4) * identity.age * rng.uniform(0, 0.5)
    recede = float(np.clip(rng.randn() * 0.03 - 0.10 + thinning, -0.17, 0.3))
    hat = _choose(rng, HATS, _HAT_ODDS)
    if style in ("afro", "curly", "quiff"):
        hat = "none"
    beard = _choose(rng, BEARDS, _BEARD_ODDS)
    fringe = rng.uniform(0.75, 1.0) * (rng.rand() < 0.28)
    return HairTraits(
        style=style,
        recede=recede,
        hat=hat,
        hat_line=rng.uniform(0.16, 0.34),
        color=sample_hair_color(rng, identity),
        beard=beard if identity.male > 0.6 else "none",
        fringe=fringe if style in ("bob", "long", "wavy", "tied") and hat == "none" else 0.0,
    )
