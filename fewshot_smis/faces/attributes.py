"""What is known of a portrait: the numbers it was made from, and yes-or-no answers from them."""

import numpy as np

from fewshot_smis.faces.geometry import Array, load_geometry
from fewshot_smis.faces.identity import ETHNICITIES, Identity
from fewshot_smis.faces.traits import Traits

_LONG_STYLES = ("long", "wavy", "curly")
_SMILE = 0.5
_MIDDLE_AGE = 0.35
_OPEN_MOUTH = 0.10  # upright gap between the lips over the width of the mouth
_BIG_NOSE = 1.20  # width of the nose over the distance of the inner corners of the eyes


def hair_color_name(color: Array) -> str:
    """Name the sRGB colour [3] of hair: black, brown, blond, red or gray."""
    red, green, blue = (float(value) for value in color)
    if max(red, green, blue) < 0.2:
        return "black"
    if max(red, green, blue) - min(red, green, blue) < 0.15 * max(red, green, blue):
        return "gray"
    if green < 0.55 * red and red > 0.35:
        return "red"
    return "blond" if red > 0.5 else "brown"


def _distance(marks: Array, first: int, second: int) -> float:
    return float(np.linalg.norm(marks[first] - marks[second]))


def describe(identity: Identity, traits: Traits) -> dict[str, float | str | bool]:
    """Return the attributes of a portrait; truth values are exact, as its parameters decide them.

    Lengths on the face are measured on the mesh, expression included.
    """
    pose, hair, jewels = traits.view.pose, traits.hair, traits.jewels
    marks = identity.verts[load_geometry().landmarks]
    gap = float(marks[62, 1] - marks[66, 1]) / _distance(marks, 48, 54)
    nose = _distance(marks, 31, 35) / _distance(marks, 39, 42)
    color = hair_color_name(hair.color)
    haired = hair.style != "bald"
    return {
        "male": bool(identity.male > 0.5),
        "young": bool(identity.age < _MIDDLE_AGE),
        "smiling": bool(identity.smile > _SMILE),
        "mouth_open": gap > _OPEN_MOUTH,
        "glasses": traits.glasses,
        "hat": hair.hat != "none",
        "earrings": jewels.earring != "none",
        "necklace": jewels.necklace,
        "beard": hair.beard in ("goatee", "full"),
        "moustache": hair.beard in ("moustache", "goatee", "full"),
        "stubble": hair.beard == "stubble",
        "bald": not haired,
        "long_hair": hair.style in _LONG_STYLES,
        **{
            f"{name}_hair": haired and color == name for name in ("black", "brown", "blond", "gray")
        },
        "pale_skin": bool(traits.skin.tone.mean() > 0.68),
        "dark_skin": bool(traits.skin.tone.mean() < 0.42),
        "big_nose": nose > _BIG_NOSE,
        "freckles": bool(traits.skin.freckles),
        "masculinity": float(identity.male),
        "age": float(identity.age),
        "fat": float(identity.fat),
        **{name: float(w) for name, w in zip(ETHNICITIES, identity.ethnicity, strict=True)},
        "smile": float(identity.smile),
        "yaw": float(pose.yaw),
        "pitch": float(pose.pitch),
        "roll": float(pose.roll),
        "hair": hair.style,
        "hair_color": color,
        "facial_hair": hair.beard,
        "headwear": hair.hat,
        "garment": traits.garment.pattern,
    }
