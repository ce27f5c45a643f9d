"""Faces cut out and put back: the frame by the formula, the way back exact, borders, refusals."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_smis.data.alignment import (
    Frame,
    align_face,
    crop_frame,
    face_frame,
    paste_back,
    read_frame,
)
from stylegan.errors import DataError, ShapeError


def landmarks_of(eyes: tuple[float, float], mouth: tuple[float, float], wide: float) -> np.ndarray:
    """68 points that matter only in their eyes, `wide` apart, and the corners of their mouth."""
    points = np.zeros((68, 2))
    points[36:42] = eyes[0] - wide / 2, eyes[1]
    points[42:48] = eyes[0] + wide / 2, eyes[1]
    points[48] = mouth[0] - 5, mouth[1]
    points[54] = mouth[0] + 5, mouth[1]
    return points


def waves(height: int, width: int) -> np.ndarray:
    """A smooth picture [H,W,3], so that resampling loses little."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 9 + k) * np.cos(y / 11 - k) for k in range(3)]
    return (127.5 + 100 * np.stack(planes, -1)).round().astype(np.uint8)


def turned(degrees: float, center: tuple[float, float], half: float) -> Frame:
    angle = np.deg2rad(degrees)
    return Frame(np.array(center), np.array([np.cos(angle), np.sin(angle)]), half)


def test_upright_face_gets_the_ffhq_square() -> None:
    frame = face_frame(landmarks_of((50, 40), (50, 60), wide=20))
    np.testing.assert_allclose(frame.center, [50, 42])  # a tenth of the way to the mouth
    np.testing.assert_allclose(frame.across, [1, 0])
    assert frame.half == pytest.approx(max(2 * 20, 1.8 * 20))
    assert face_frame(landmarks_of((50, 40), (50, 80), wide=20)).half == pytest.approx(72)
    np.testing.assert_allclose(frame.corners, [[10, 2], [90, 2], [90, 82], [10, 82]])


@settings(deadline=None, max_examples=30)
@given(
    degrees=st.floats(-180, 180),
    scale=st.floats(0.1, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_frame_moves_turns_and_grows_with_the_face(
    degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    points = landmarks_of((50, 40), (52, 63), wide=20)
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = scale * points @ turn + shift
    before, after = face_frame(points), face_frame(moved)
    np.testing.assert_allclose(after.corners, scale * before.corners @ turn + shift, atol=1e-6)
    np.testing.assert_allclose(after.to_crop(moved, 64), before.to_crop(points, 64), atol=1e-6)
    np.testing.assert_allclose(after.to_photo(after.to_crop(moved, 64), 64), moved, atol=1e-6)


def test_crop_of_whole_pixels_is_the_slice() -> None:
    photo = waves(70, 90)
    crop = crop_frame(photo, turned(0, (50, 40), 16), 32)
    np.testing.assert_array_equal(crop, photo[24:56, 34:66])


def test_quarter_turn_is_the_turned_slice() -> None:
    photo = waves(70, 90)
    crop = crop_frame(photo, turned(90, (50, 40), 16), 32)
    np.testing.assert_allclose(crop.astype(int), np.rot90(photo[24:56, 34:66]), atol=1)


def test_small_crop_averages_all_pixels() -> None:
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[::2] = 200  # stripes that sampling single pixels would keep
    crop = crop_frame(photo, turned(0, (32, 32), 24), 12)
    assert np.abs(crop.astype(int) - 100).max() <= 12


def test_beyond_the_border_the_photo_is_mirrored_then_blurred() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    crop = crop_frame(photo, turned(0, (10, 30), 30), 60)  # 20 columns overhang
    np.testing.assert_array_equal(crop[:, 20:], photo[:, :40])
    assert (crop[:, :20].std((0, 1)) < photo.std((0, 1)) / 2).all()
    near = np.abs(crop[:, 19].astype(int) - photo[:, 1]).mean()  # mirrored, hardly blurred yet
    far = np.abs(crop[:, 10].astype(int) - photo[:, 10]).mean()
    assert near < far / 2
    assert crop_frame(photo, turned(30, (40, 30), 500), 16).shape == (16, 16, 3)


@pytest.mark.parametrize("degrees", [0, 17, -140])
def test_unchanged_face_goes_back_where_it_was(degrees: float) -> None:
    photo = waves(120, 160)
    frame = turned(degrees, (95, 50), 40.3)
    back = paste_back(photo, crop_frame(photo, frame, 128), frame)
    assert np.abs(back.astype(int) - photo).max() <= 3


def test_changed_face_replaces_the_inside_alone_and_fades() -> None:
    photo = np.full((100, 140, 3), 50, np.uint8)
    frame = turned(20, (70, 50), 30)
    white = np.full((32, 32, 3), 250, np.uint8)  # of another size than any crop
    back = paste_back(photo, white, frame, feather=0.2)
    y, x = np.mgrid[:100, :140] + 0.5
    place = frame.to_crop(np.stack([x, y], -1), 1)
    edge = np.minimum(place, 1 - place).min(-1)  # share of the side inside the frame
    assert (back[edge > 0.24] == 250).all()
    np.testing.assert_array_equal(back[edge < -0.05], photo[edge < -0.05])
    middle = back[np.abs(edge - 0.1) < 0.02].mean()
    assert middle == pytest.approx(150, abs=12)
    assert photo.max() == 50  # not written to


def test_mask_chooses_what_is_pasted() -> None:
    photo = np.zeros((60, 60, 3), np.uint8)
    frame = turned(0, (30, 30), 20)
    mask = np.zeros((8, 8))
    mask[:, 4:] = 1
    back = paste_back(photo, np.full((40, 40, 3), 200, np.uint8), frame, mask=mask)
    assert (back[25:35, 34:44] == 200).all()
    assert back[:, :26].max() <= 8


def test_frames_survive_json() -> None:
    frame = turned(20, (70.5, 50), 30)
    again = read_frame(json.loads(json.dumps(frame.to_json())))
    np.testing.assert_allclose(again.corners, frame.corners)
    with pytest.raises(DataError, match="align the photograph anew"):
        read_frame({"center": [1, 2]})
    with pytest.raises(DataError, match='"half" > 0'):
        read_frame({"center": [1, 2], "across": [1, 0], "half": 0})


def test_what_cannot_be_aligned_is_refused() -> None:
    photo = waves(40, 50)
    with pytest.raises(ShapeError, match=r"landmarks \[68, 2\], not \[5, 2\]"):
        align_face(photo, np.zeros((5, 2)), 16)
    with pytest.raises(DataError, match="no landmarks"):
        align_face(photo, np.zeros((68, 2)), 16)
    with pytest.raises(DataError, match="outside its photograph of 50 x 40"):
        align_face(photo, landmarks_of((500, 40), (500, 60), wide=20), 16)
    with pytest.raises(ShapeError, match=r"uint8 \[H,W,3\]"):
        align_face(photo[..., 0], landmarks_of((20, 20), (20, 30), wide=10), 16)
    with pytest.raises(ShapeError, match=r"the face in a frame is square, not \[40, 50, 3\]"):
        paste_back(photo, photo, turned(0, (20, 20), 10))
    with pytest.raises(ShapeError, match=r"the mask in a frame is square, not \[3, 4\]"):
        paste_back(photo, photo[:30, :30], turned(0, (20, 20), 10), mask=np.ones((3, 4)))
