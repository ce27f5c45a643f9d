import dataclasses

import numpy as np
import pytest

from fewshot_smis.faces import FaceClass, render_face
from fewshot_smis.faces.attributes import describe, hair_color_name
from fewshot_smis.faces.geometry import add_shape, load_geometry
from fewshot_smis.faces.identity import sample_identity
from fewshot_smis.faces.traits import sample_traits


def someone(seed):
    rng = np.random.RandomState(seed)
    identity = sample_identity(rng)
    return identity, sample_traits(rng, identity)


@pytest.mark.parametrize(
    ("color", "name"),
    [
        ([0.09, 0.08, 0.07], "black"),
        ([0.29, 0.19, 0.13], "brown"),
        ([0.79, 0.69, 0.54], "blond"),
        ([0.50, 0.27, 0.16], "red"),
        ([0.62, 0.61, 0.61], "gray"),
    ],
)
def test_hair_colours_have_their_common_names(color, name):
    assert hair_color_name(np.array(color)) == name


def test_answers_follow_the_parameters():
    identity, traits = someone(4)
    for field, key in (("hat", "hat"), ("beard", "stubble")):
        for value, answer in (("none", False), ("stubble" if key == "stubble" else "cap", True)):
            hair = dataclasses.replace(traits.hair, **{field: value})
            changed = dataclasses.replace(traits, hair=hair)
            assert describe(identity, changed)[key] is answer
    for glasses in (False, True):
        worn = dataclasses.replace(traits, glasses=glasses)
        assert describe(identity, worn)["glasses"] is glasses
    for male in (0.1, 0.9):
        assert describe(identity._replace(male=male), traits)["male"] is (male > 0.5)
    bald = dataclasses.replace(traits, hair=dataclasses.replace(traits.hair, style="bald"))
    said = describe(identity, bald)
    assert said["bald"]
    assert not any(said[f"{name}_hair"] for name in ("black", "brown", "blond", "gray"))


def test_an_open_jaw_opens_the_mouth():
    identity, traits = someone(4)
    verts = load_geometry().verts.copy()
    assert not describe(identity._replace(verts=verts), traits)["mouth_open"]
    add_shape(verts, "faceunits/jawOpen", 0.4)
    assert describe(identity._replace(verts=verts), traits)["mouth_open"]


def test_what_is_worn_is_seen_and_nothing_else():
    """Hair and clothes may hide what is worn, but what is not worn never has a pixel."""
    pairs = [("glasses", FaceClass.GLASSES), ("hat", FaceClass.HAT)]
    pairs += [("earrings", FaceClass.EARRING), ("necklace", FaceClass.NECKLACE)]
    seen = dict.fromkeys((key for key, _ in pairs), 0)
    for index in range(16):
        face = render_face(700, index, 64)
        for key, value in pairs:
            shown = bool((face.label == value).any())
            assert face.attributes[key] or not shown, (index, key)
            seen[key] += shown
    assert seen["earrings"] >= 2
