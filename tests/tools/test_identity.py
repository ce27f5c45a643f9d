"""dlib's descriptor tells rendered people apart, and says what it needs."""

import numpy as np
import pytest

from fewshot_smis.faces import render_face
from stylegan.errors import ShapeError
from tools.identity import SAME_PERSON, describe_person, identity_distance

pytest.importorskip("dlib", reason="needs dlib: pip install 'fewshot-smis[faces]'")


def test_a_person_is_nearer_to_a_darker_picture_than_to_another_person():
    one, other = (render_face(seed, 0, 128) for seed in (80, 120))
    darker = (one.img * 0.8).astype(np.uint8)
    near = identity_distance(one.img, darker, one.landmarks)
    people = [describe_person(face.img, face.landmarks) for face in (one, other)]
    assert people[0].shape == (128,)
    assert near < SAME_PERSON
    assert near < 0.7 * np.linalg.norm(people[0] - people[1])


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"not uint8 \[8, 9\] and \[5, 2\]"):
        describe_person(np.zeros((8, 9), np.uint8), np.zeros((5, 2)))
