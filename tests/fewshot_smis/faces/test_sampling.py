"""Identity, traits, camera and hair: everything that is drawn by chance."""

import numpy as np
import pytest

from fewshot_smis.faces.camera import frame_portrait, rotation_matrix
from fewshot_smis.faces.geometry import load_geometry
from fewshot_smis.faces.grooming import HAIR_STYLES
from fewshot_smis.faces.identity import (
    detail_stems,
    opposite_shapes,
    sample_expression,
    sample_identity,
)
from fewshot_smis.faces.traits import Pose, hsv, linear, sample_traits


def someone(seed, pose=None):
    rng = np.random.RandomState(seed)
    identity = sample_identity(rng)
    return identity, sample_traits(rng, identity, pose)


def test_identity_follows_its_generator():
    first, again, other = (sample_identity(np.random.RandomState(s)) for s in (4, 4, 5))
    np.testing.assert_array_equal(first.verts, again.verts)
    assert np.abs(first.verts - other.verts).max() > 0.01
    assert first.verts.dtype == np.float32
    assert first.ethnicity.sum() == pytest.approx(1)


def test_details_come_in_opposite_pairs_and_twins_together():
    pairs = opposite_shapes()
    more, less = pairs["nose/nose-scale-vert-"]
    assert (more, less) == ("nose/nose-scale-vert-incr", "nose/nose-scale-vert-decr")
    assert not any("age" in stem or "trans" in stem for stem in pairs)
    twins = [stems for stems in detail_stems() if len(stems) == 2]
    assert twins
    assert all(b == a.replace("/l-", "/r-") and b in pairs for a, b in twins)
    assert len({stem for stems in detail_stems() for stem in stems}) == len(pairs)


def test_expressions_stay_in_range_and_brows_never_do_both():
    known = load_geometry().shapes
    for seed in range(60):
        units = sample_expression(np.random.RandomState(seed))
        for name, weight in units.items():
            assert f"faceunits/{name}" in known or f"faceunits/{name}Left" in known
            assert 0 <= weight < 1.6
        assert ("browDown" in units) != ("browInnerUp" in units)


def test_traits_are_reproducible_and_a_given_pose_replaces_the_drawn_one():
    _, traits = someone(7)
    assert someone(7)[1].view.pose == traits.view.pose
    turned = someone(7, Pose(20.0, 1.0, -2.0))[1]
    assert turned.view.pose == (20.0, 1.0, -2.0)
    assert traits.hair.style in HAIR_STYLES
    assert np.linalg.norm(traits.light.key) == pytest.approx(1)
    assert np.linalg.norm(traits.light.half) == pytest.approx(1)


def test_colours():
    np.testing.assert_allclose(hsv(1.0, 2.0, 0.5), [0.5, 0, 0])
    np.testing.assert_allclose(linear(np.array([-1.0, 0.5, 2.0])), [0, 0.5**2.2, 1])


def test_yaw_turns_the_face_to_the_image_right():
    turn = rotation_matrix(Pose(90.0, 0.0, 0.0))
    np.testing.assert_allclose(turn @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(
        rotation_matrix(Pose(0.0, 90.0, 0.0)) @ [0, 0, 1], [0, -1, 0], atol=1e-9
    )


def test_camera_frames_a_face_like_aligned_photographs():
    spots = []
    for seed in range(12):
        identity, traits = someone(seed, Pose(0.0, 0.0, 0.0))
        camera = frame_portrait(identity.verts, traits.view, 100, jitter=False)
        marks = load_geometry().landmarks
        points = camera.project(camera.place(identity.verts))[marks]
        spots.append([points[36:42].mean(0), points[42:48].mean(0), points[[48, 54]].mean(0)])
    right_eye, left_eye, mouth = np.mean(spots, 0)[:, :2]
    np.testing.assert_allclose(right_eye, [38, 48], atol=2)
    np.testing.assert_allclose(left_eye, [62, 48], atol=2)
    np.testing.assert_allclose(mouth, [50, 73], atol=2)  # the corners; smiles raise them


def test_camera_depth_is_towards_the_camera_and_scale_is_pixels_a_decimetre():
    identity, traits = someone(1, Pose(0.0, 0.0, 0.0))
    camera = frame_portrait(identity.verts, traits.view, 64, jitter=False)
    near = camera.pivot + np.array([0, 0, 0.1])
    assert camera.project(camera.place(near))[2] > camera.project(camera.place(camera.pivot))[2]
    flat = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    a, b = camera.project(flat)
    assert np.hypot(*(b - a)[:2]) == pytest.approx(camera.scale, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_camera_turns_the_head_and_drags_the_neck_along(dtype):
    identity, traits = someone(3, Pose(30.0, -8.0, 5.0))
    camera = frame_portrait(identity.verts, traits.view, 64)
    points = identity.verts[:20].reshape(4, 5, 3).astype(dtype)
    share = np.clip((points[..., 1:2] - 5.0) / 1.1, 0.25, 1)
    rest = points - camera.pivot
    placed = camera.place(points)
    np.testing.assert_allclose(
        placed, rest @ camera.rotation.T * share + rest * (1 - share), atol=1e-12
    )
    near = camera.distance / (camera.distance - placed[..., 2:])
    plane = (placed[..., :2] * near * [1, -1] - camera.center) @ camera.basis.T
    pixels = camera.project(placed)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[..., :2], plane + 32 + camera.shift, rtol=1e-6)
    np.testing.assert_allclose(pixels[..., 2], placed[..., 2], rtol=1e-6)
