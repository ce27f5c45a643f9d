"""Strands of hair while they grow."""

import numpy as np
import pytest

from fewshot_smis.faces.growth import WINDOW_STEPS, Growth, Skull, fill_growth, grow

SKULL = Skull(np.array([0.0, 7.5, 0.2]), np.array([0.8, 1.0, 0.9]))
TOTAL, STEPS = 7, 9


def growth(**changes):
    """Return strands that leave the upper skull; some may not hang over the face."""
    rng = np.random.default_rng(0)
    spots = rng.normal(size=(TOTAL, 3))
    spots[:, 1] = np.abs(spots[:, 1])
    spots /= np.linalg.norm(spots, axis=1, keepdims=True)
    flow = rng.normal(size=(TOTAL, 3))
    flow /= np.linalg.norm(flow, axis=1, keepdims=True)

    def drawn(low, high, shape=(TOTAL,)):
        return rng.uniform(low, high, shape).astype(np.float32)

    settings = {
        "root": (SKULL.center + spots * SKULL.radius).astype(np.float32),
        "flow": flow.astype(np.float32),
        "length": drawn(0.5, 2.0),
        "shell": drawn(1.05, 1.3),
        "settle": drawn(0.2, 0.4),
        "side": np.sign(spots[:, 0]).astype(np.float32),
        "phase": drawn(0, 6),
        "clump": drawn(-0.3, 0.3, (TOTAL, 3)),
        "free": np.ones(TOTAL, np.float32),
        "gravity": drawn(0.5, 2.5),
        "stick": 1.0,
        "knot": np.zeros(4),
        "curl": 0.0,
        "pitch": 0.0,
        "window": np.linspace(0.2, 1.0, WINDOW_STEPS),
        "window_top": 8.2,
        "window_bottom": 6.5,
    }
    return Growth(**{**settings, **changes})


def kinds():
    knot = np.array([0.0, 7.6, -0.8, 0.5])
    held = np.zeros(TOTAL, np.float32)
    return {
        "hanging": {},
        "curly": {"curl": 0.05, "pitch": 9.0},
        "upright": {"stick": 0.0, "curl": 0.05, "pitch": 30.0},
        "tied": {"knot": knot, "free": held},
        "parted": {"free": held},
    }


@pytest.mark.parametrize("kind", kinds())
def test_growth_equals_the_plain_kernel(kind):
    strands = growth(**kinds()[kind])
    points, normals = np.empty((2, TOTAL, STEPS, 3), np.float32)
    fill_growth(strands, SKULL, points, normals)
    fast = grow(strands, SKULL, STEPS)
    np.testing.assert_allclose(fast[0], points, atol=1e-5)
    np.testing.assert_allclose(fast[1], normals, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-4)
    if not strands.curl:
        np.testing.assert_array_equal(points[:, 0], strands.root)


def test_strands_settle_on_their_shells():
    strands = growth(length=np.full(TOTAL, 1.2, np.float32))
    points, _ = grow(strands, SKULL, STEPS)
    ball = (points - SKULL.center) / SKULL.radius
    ball[..., 1] = np.maximum(ball[..., 1], 0)
    reached = np.linalg.norm(ball, axis=-1)[:, -1]
    np.testing.assert_allclose(reached, strands.shell, rtol=1e-3)


def test_curls_wind_about_the_strand_they_belong_to():
    straight, _ = grow(growth(), SKULL, STEPS)
    curly, _ = grow(growth(curl=0.05, pitch=9.0), SKULL, STEPS)
    aside = np.linalg.norm(curly - straight, axis=-1)
    travelled = growth().length[:, None] * np.linspace(0, 1, STEPS)
    np.testing.assert_allclose(aside, 0.05 * np.minimum(1, travelled * 3), atol=1e-4)


def test_curls_turn_as_far_as_their_strand_has_grown():
    """Against the sine and cosine themselves, which the kernel reaches turn by turn."""
    strands = growth(curl=0.05, pitch=9.0, stick=0.0, gravity=np.zeros(TOTAL, np.float32))
    strands = strands._replace(clump=np.zeros((TOTAL, 3), np.float32))
    points, _ = grow(strands, SKULL, STEPS)
    travelled = strands.length[:, None] * np.linspace(0, 1, STEPS)
    way = strands.flow.astype(float)
    across = np.stack([-way[:, 2], np.zeros(TOTAL), way[:, 0]], 1)
    steep = np.abs(way[:, 1]) > 0.9
    across[steep] = np.stack([np.zeros(TOTAL), way[:, 2], -way[:, 1]], 1)[steep]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    third = np.cross(way, across)
    angle = (strands.phase[:, None] + 9.0 * travelled)[..., None]
    wide = 0.05 * np.minimum(1, travelled * 3)[..., None]
    around = np.sin(angle) * across[:, None] + np.cos(angle) * third[:, None]
    expected = strands.root[:, None] + way[:, None] * travelled[..., None] + wide * around
    np.testing.assert_allclose(points, expected, atol=2e-5)


def test_tied_strands_run_to_their_knot():
    long, level = np.full(TOTAL, 4.0, np.float32), np.zeros(TOTAL, np.float32)
    tied, _ = grow(growth(**kinds()["tied"], length=long, gravity=level), SKULL, 40)
    assert np.linalg.norm(tied[:, -1] - [0.0, 7.6, -0.8], axis=1).mean() < 0.5


def test_parted_strands_leave_the_face_free():
    turn = np.linspace(-0.5, 0.5, TOTAL + 1)[np.arange(TOTAL + 1) != TOTAL // 2]
    spots = np.stack([np.sin(turn) * 0.6, np.full(TOTAL, 0.8), np.cos(turn) * 0.6], 1)
    settings = {
        "root": (SKULL.center + spots * SKULL.radius).astype(np.float32),
        "side": np.sign(turn).astype(np.float32),
        "clump": np.zeros((TOTAL, 3), np.float32),
        "flow": np.tile(np.float32([0, -1, 0]), (TOTAL, 1)),
        "length": np.full(TOTAL, 1.5, np.float32),
    }

    def azimuth(points):
        ball = (points[:, -1] - SKULL.center) / SKULL.radius
        return np.abs(np.arctan2(ball[:, 0], ball[:, 2]))

    loose, _ = grow(growth(**settings), SKULL, STEPS)
    parted, _ = grow(growth(**settings, **kinds()["parted"]), SKULL, STEPS)
    assert (azimuth(loose) < 0.6).all()
    assert (azimuth(parted) > 0.6).all()
