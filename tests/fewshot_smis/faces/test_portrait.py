import ast
from pathlib import Path

import numpy as np
import pytest

import fewshot_smis.faces
from fewshot_smis.data import Classes
from fewshot_smis.faces import FaceClass, Pose, render_face
from fewshot_smis.faces.accessories import inside_polygon
from fewshot_smis.faces.labels import tidy_hair
from stylegan.errors import ConfigError


@pytest.fixture(scope="module")
def portrait():
    return render_face(3, 0, 48)


def test_portrait_has_picture_map_landmarks_and_attributes(portrait):
    assert portrait.img.shape == (48, 48, 3)
    assert portrait.label.shape == (48, 48)
    assert portrait.img.dtype == portrait.label.dtype == np.uint8
    assert portrait.landmarks.shape == (68, 2)
    assert portrait.landmarks.dtype == np.float32
    assert portrait.attributes["hair"] == "buzz"
    assert portrait.attributes["beard"] == "full"
    assert all(isinstance(value, float | str) for value in portrait.attributes.values())


def test_portrait_depends_on_the_sum_of_seed_and_index(portrait):
    again = render_face(1, 2, 48)
    np.testing.assert_array_equal(again.img, portrait.img)
    np.testing.assert_array_equal(again.label, portrait.label)
    assert (render_face(1, 3, 48).img != portrait.img).mean() > 0.5


def test_landmarks_lie_in_the_regions_they_name(portrait):
    label = portrait.label
    rows, columns = np.mgrid[:48, :48] + 0.5

    def middle(*ids):
        here = np.isin(label, ids)
        return np.array([columns[here].mean(), rows[here].mean()])

    marks = portrait.landmarks
    for part, ids in (
        (marks[22:27], (FaceClass.LEFT_BROW,)),
        (marks[17:22], (FaceClass.RIGHT_BROW,)),
        (marks[48:60], (FaceClass.UPPER_LIP, FaceClass.LOWER_LIP)),
    ):
        assert np.hypot(*(part.mean(0) - middle(*ids))) < 2.5
    assert label[tuple(np.floor(marks[30, ::-1]).astype(int))] == FaceClass.NOSE
    for part, name in ((marks[42:48], "LEFT_EYE"), (marks[36:42], "RIGHT_EYE")):
        column, row = np.floor(part.mean(0)).astype(int)
        assert FaceClass[name] in label[row - 1 : row + 2, column - 1 : column + 2]


def test_subjects_left_is_image_right(portrait):
    columns = np.arange(48)
    for left, right in (("LEFT_BROW", "RIGHT_BROW"), ("LEFT_EAR", "RIGHT_EAR")):
        at_left = (portrait.label == FaceClass[left]).any(0)
        at_right = (portrait.label == FaceClass[right]).any(0)
        assert columns[at_left].mean() > 24 > columns[at_right].mean()


# Class counts and mean colour at 32 px: a change of them changes every picture ever rendered.
GOLDEN = {
    3: ({0: 445, 1: 330, 2: 18, 13: 119, 17: 52, 18: 36}, [136.8, 118.1, 106.3]),
    100001: ({0: 289, 1: 236, 2: 17, 3: 56, 13: 355, 17: 56}, [121.7, 89.8, 83.0]),
    100123: ({0: 233, 1: 346, 13: 253, 14: 92, 17: 27, 18: 30}, [139.3, 104.8, 115.1]),
    11: ({0: 220, 1: 336, 2: 22, 13: 421}, [110.7, 90.0, 78.2]),
}


@pytest.mark.parametrize("seed", list(GOLDEN))
def test_a_seed_keeps_its_picture(seed):
    counts, color = GOLDEN[seed]
    face = render_face(seed, 0, 32)
    for value, count in counts.items():
        assert abs(int((face.label == value).sum()) - count) <= 4, FaceClass(value)
    np.testing.assert_allclose(face.img.mean((0, 1)), color, atol=0.7)


def test_pose_turns_the_face():
    left, right = (render_face(8, 0, 32, pose=Pose(yaw, 0.0, 0.0)) for yaw in (-30.0, 30.0))
    nose = [face.landmarks[30, 0] - face.landmarks[[36, 45], 0].mean() for face in (left, right)]
    assert nose[0] < -1
    assert nose[1] > 1
    assert right.attributes["yaw"] == 30.0


def test_supersample_changes_edges_not_the_face(portrait):
    coarse = render_face(3, 0, 48, supersample=1)
    assert (coarse.label == portrait.label).mean() > 0.93
    np.testing.assert_allclose(coarse.landmarks, portrait.landmarks, atol=1e-3)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (2**32 - 1, 1)])
def test_numbers_out_of_range_are_refused(seed, index):
    with pytest.raises(ConfigError, match="use numbers from 0"):
        render_face(seed, index, 32)


@pytest.mark.parametrize(("size", "supersample"), [(4, 2), (32, 0)])
def test_impossible_sizes_are_refused(size, supersample):
    with pytest.raises(ConfigError, match="size of 8 or more pixels"):
        render_face(0, 0, size, supersample=supersample)


def test_classes_are_those_of_celebamask():
    assert len(FaceClass) == Classes.CELEBAMASK.num_classes
    names = Classes.CELEBAMASK.names
    for value in ("SKIN", "NOSE", "HAIR", "HAT", "NECK", "CLOTH", "MOUTH"):
        assert names[FaceClass[value]] == value.lower()
    for side in ("LEFT", "RIGHT"):
        for part in ("EYE", "BROW", "EAR"):
            assert names[FaceClass[f"{side}_{part}"]] == f"{side}_{part}".lower()


def test_tidy_hair_drops_strays_fills_holes_and_spares_hats():
    beneath = np.full((20, 24), FaceClass.SKIN)
    beneath[:, 20:] = FaceClass.HAT
    label = beneath.copy()
    label[:, :8] = FaceClass.HAIR
    label[10, 3] = FaceClass.SKIN  # a pin-hole
    label[5, 15] = FaceClass.HAIR  # a stray
    tidy = tidy_hair(label, beneath, 1)
    assert tidy[10, 3] == FaceClass.HAIR
    assert tidy[5, 15] == FaceClass.SKIN
    assert (tidy[:, 20:] == FaceClass.HAT).all()
    assert (tidy[:, :7] == FaceClass.HAIR).all()


def test_inside_polygon_of_a_rectangle():
    corners = np.array([[1.0, 2.0], [6.0, 2.0], [6.0, 5.0], [1.0, 5.0]])
    inside = inside_polygon(corners, 8)
    expected = np.zeros((8, 8), bool)
    expected[2:5, 1:6] = True
    np.testing.assert_array_equal(inside, expected)


def test_numba_is_imported_by_no_file_but_when_drawing():
    for path in Path(fewshot_smis.faces.__file__).parent.glob("*.py"):
        imported = {
            name.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert "numba" not in imported, path
