import ast
from pathlib import Path

import numpy as np
import pytest

import fewshot_smis.faces
from fewshot_smis.data import Classes
from fewshot_smis.faces import FaceClass, Pose, face_attributes, render_face
from fewshot_smis.faces.accessories import inside_polygon
from fewshot_smis.faces.grooming import BEARDS, HAIR_STYLES
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
    assert portrait.attributes["hair"] in HAIR_STYLES
    assert portrait.attributes["facial_hair"] in BEARDS
    assert all(isinstance(value, float | str | bool) for value in portrait.attributes.values())
    assert face_attributes(3, 0) == portrait.attributes


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


def test_subjects_left_is_image_right():
    labels = np.stack([render_face(20, k, 48, pose=Pose(0.0, 0.0, 0.0)).label for k in range(6)])
    for part in ("EYE", "BROW", "EAR"):
        left, right = (np.nonzero(labels == FaceClass[f"{s}_{part}"])[2] for s in ("LEFT", "RIGHT"))
        assert left.min() >= 24 > right.max()


def test_faces_are_framed_like_photographs():
    faces = [render_face(900, index, 32, supersample=1) for index in range(8)]
    marks = np.mean([face.landmarks for face in faces], 0) / 32
    np.testing.assert_allclose(marks[36:42].mean(0), [0.38, 0.48], atol=0.03)
    np.testing.assert_allclose(marks[42:48].mean(0), [0.62, 0.48], atol=0.03)
    np.testing.assert_allclose(marks[[48, 54]].mean(0), [0.50, 0.75], atol=0.04)
    area = np.mean([np.bincount(face.label.ravel(), minlength=19) for face in faces], 0) / 32**2
    for value, low, high in ((0, 0.1, 0.5), (1, 0.15, 0.45), (13, 0.05, 0.5), (17, 0.01, 0.12)):
        assert low < area[value] < high, FaceClass(value)


def test_skin_is_neither_clipped_nor_black():
    for index in range(6):
        face = render_face(950, index, 32)
        skin = face.img[face.label == FaceClass.SKIN]
        assert np.mean(skin.max(1) >= 254) < 0.02
        assert 45 < np.median(skin) < 225


def test_pose_turns_the_face():
    left, right = (render_face(8, 0, 32, pose=Pose(yaw, 0.0, 0.0)) for yaw in (-30.0, 30.0))
    nose = [face.landmarks[30, 0] - face.landmarks[[36, 45], 0].mean() for face in (left, right)]
    assert nose[0] < -1
    assert nose[1] > 1
    assert right.attributes["yaw"] == 30.0


def test_size_changes_neither_person_nor_clothes(portrait):
    large = render_face(3, 0, 96)
    assert large.attributes == portrait.attributes
    np.testing.assert_allclose(large.landmarks, portrait.landmarks * 2, atol=0.02)
    assert (large.label[::2, ::2] == portrait.label).mean() > 0.9


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


@pytest.mark.parametrize("shift", [(0, 0), (-5, 3), (6, -4), (20, 0), (0, -30)])
def test_inside_polygon_equals_the_rule_of_crossings(shift):
    angle = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    star = 5 + np.stack([np.cos(angle), np.sin(angle)], 1) * (4.3 - (np.arange(11) % 2)[:, None])
    star += shift
    expected = np.zeros((12, 12), bool)
    for row, column in np.ndindex(12, 12):
        x, y, crossed = column + 0.5, row + 0.5, 0
        for (x0, y0), (x1, y1) in zip(star, np.roll(star, 1, 0), strict=True):
            if (y0 > y) != (y1 > y):
                crossed += x < x0 + (x1 - x0) * (y - y0) / (y1 - y0)
        expected[row, column] = crossed % 2
    np.testing.assert_array_equal(inside_polygon(star, 12), expected)


def test_numba_is_imported_by_no_file_but_when_drawing():
    for path in Path(fewshot_smis.faces.__file__).parent.glob("*.py"):
        imported = {
            name.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert "numba" not in imported, path
