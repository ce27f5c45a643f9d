import numpy as np
import pytest

from fewshot_smis.data import Classes
from fewshot_smis.faces.marks import (
    BACKGROUND_SCRIBBLE,
    landmark_classes,
    landmark_map,
    region_depth,
    scribble_classes,
    scribble_map,
)


def test_landmark_classes_name_every_point():
    classes = landmark_classes()
    assert classes.num_classes == 69
    assert classes.sparse
    assert classes.names[0] == "unknown"
    assert classes.names[31] == "nose bridge 4"
    assert classes.names[37] == "right eye 1"
    assert classes.names[68] == "inner lips 8"


def test_scribble_classes_keep_the_face_ids():
    classes = scribble_classes()
    assert classes.sparse
    assert classes.names[1:19] == Classes.CELEBAMASK.names[1:]
    assert classes.names[BACKGROUND_SCRIBBLE] == "background"
    assert classes.num_classes == 20


def test_landmark_map_draws_discs_and_the_later_wins():
    points = np.full((68, 2), -9.0)
    points[0] = [10.5, 4.5]
    points[4] = points[67] = [20.0, 20.0]
    label = landmark_map(points, 32, radius=1.5)
    assert label.shape == (32, 32)
    assert set(np.unique(label)) == {0, 1, 68}
    rows, columns = np.nonzero(label == 1)
    assert rows.mean() == 4
    assert columns.mean() == 10
    assert len(rows) == 9
    assert (label == 68).sum() == 4


def test_region_depth_equals_city_block_distance_to_the_border():
    region = np.random.default_rng(0).random((9, 14)) > 0.15
    depth = region_depth(region)
    outside = np.argwhere(~np.pad(region, 1))
    for (row, column), value in np.ndenumerate(depth):
        distance = np.abs(outside - [row + 1, column + 1]).sum(1).min()
        assert value == distance


@pytest.fixture
def face_map():
    label = np.zeros((60, 80), np.uint8)
    label[10:55, 20:60] = 1
    label[28:31, 28:34] = 4
    label[50:, 30:50] = 17
    return label


def test_scribbles_stay_inside_their_region_and_are_thin(face_map):
    scribbles = scribble_map(face_map, np.random.default_rng(0))
    assert scribbles.shape == face_map.shape
    assert set(np.unique(scribbles)) == {0, 1, 4, 17, BACKGROUND_SCRIBBLE}
    drawn = scribbles > 0
    under = np.where(face_map == 0, BACKGROUND_SCRIBBLE, face_map)
    np.testing.assert_array_equal(scribbles[drawn], under[drawn])
    assert 0.02 < drawn.mean() < 0.2
    assert region_depth(drawn).max() <= 3


def test_large_regions_get_strokes_apart(face_map):
    drawn = scribble_map(face_map, np.random.default_rng(0)) == 1
    rows, columns = np.nonzero(drawn)
    assert np.ptp(rows) > 20
    assert np.ptp(columns) > 20


def test_scribbles_follow_their_generator(face_map):
    first, again, other = (scribble_map(face_map, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
