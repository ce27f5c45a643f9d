"""Hair, beards and hats: what is drawn by chance, how it grows, how it is painted."""

from dataclasses import replace

import numpy as np
import pytest

from fewshot_smis.faces import portrait as portraits
from fewshot_smis.faces import render_face
from fewshot_smis.faces.beard import _zone
from fewshot_smis.faces.camera import frame_portrait
from fewshot_smis.faces.geometry import load_geometry, vertex_normals
from fewshot_smis.faces.grooming import BEARDS, HAIR_STYLES, HATS, sample_hair, sample_hair_color
from fewshot_smis.faces.hair import fit_skull, grow_hair, scatter_roots
from fewshot_smis.faces.hats import covered
from fewshot_smis.faces.identity import sample_identity
from fewshot_smis.faces.labels import FaceClass, hair_field
from fewshot_smis.faces.raster import Canvas
from fewshot_smis.faces.scene import Scene
from fewshot_smis.faces.strands import draw_soft, gather_locks, light_strands, seen_segments
from fewshot_smis.faces.traits import Pose, sample_traits

FRONT = Pose(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def someone():
    """Return a head, its skin's normals and its traits."""
    rng = np.random.RandomState(2)
    identity = sample_identity(rng)
    traits = sample_traits(rng, identity, FRONT)
    return identity.verts, vertex_normals(identity.verts, load_geometry().body), traits


def grown(someone, style, **changes):
    verts, normals, traits = someone
    hair = replace(traits.hair, style=style, hat="none", **{"fringe": 0.0, **changes})
    field = hair_field(replace(traits, hair=hair))
    return grow_hair(np.random.RandomState(1), verts, normals, hair, field, traits.offset)


def styled(monkeypatch, size=48, **changes):
    """Render one man in front view with some of his hair traits changed."""

    def sample(rng, identity, pose):
        traits = sample_traits(rng, identity, pose)
        return replace(traits, hair=replace(traits.hair, **changes))

    monkeypatch.setattr(portraits, "sample_traits", sample)
    return render_face(3, 0, size, pose=FRONT)


def test_sampled_hair_suits_sex_and_hats():
    seen = set()
    for seed in range(120):
        rng = np.random.RandomState(seed)
        identity = sample_identity(rng)
        hair = sample_hair(rng, identity)
        seen |= {hair.style, hair.beard}
        assert hair.style in HAIR_STYLES
        assert hair.beard in BEARDS
        assert hair.hat in HATS
        assert identity.male > 0.5 or hair.style != "bald"
        assert identity.male > 0.6 or hair.beard == "none"
        assert hair.hat == "none" or hair.style not in ("afro", "curly", "quiff")
        assert hair.hat == "none" or not hair.fringe
    assert len(seen) > 12


def test_hair_turns_grey_with_age():
    identity = sample_identity(np.random.RandomState(0))
    chroma = {}
    for age in (0.0, 1.0):
        rng = np.random.RandomState(0)
        colors = [sample_hair_color(rng, identity._replace(age=age)) for _ in range(60)]
        chroma[age] = np.mean([np.ptp(color) / color.max() for color in colors])
        assert all((color > 0).all() and (color < 1).all() for color in colors)
    assert chroma[1.0] < 0.6 * chroma[0.0]


def test_roots_lie_where_the_field_is_positive(someone):
    verts, normals, traits = someone
    field = hair_field(traits)
    roots = scatter_roots(np.random.RandomState(0), verts, normals, field, 300)
    assert 100 < len(roots.field) <= 300
    assert (roots.field > 0).all()
    assert roots.rest[:, 1].min() > 6.5  # nothing grows below the nape
    np.testing.assert_allclose(np.linalg.norm(roots.normal, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("style", "shortest", "longest"),
    [
        ("bald", 0.01, 0.1),
        ("buzz", 0.01, 0.1),
        ("fade", 0.03, 0.3),
        ("parted", 0.05, 0.7),
        ("afro", 0.1, 1.0),
        ("tied", 0.3, 2.0),
        ("bob", 0.8, 1.8),
        ("long", 1.2, 3.2),
    ],
)
def test_hair_reaches_as_far_as_its_style(someone, style, shortest, longest):
    strands = grown(someone, style)
    count, steps = strands.alpha.shape
    assert strands.points.shape == strands.normals.shape == (count, steps, 3)
    assert len(strands.tone) == len(strands.thickness) == count
    assert np.isfinite(strands.points).all()
    assert (strands.alpha >= 0).all()
    assert (strands.alpha <= 1).all()
    span = np.linalg.norm(strands.points[:, -1] - strands.points[:, 0], axis=1)
    assert shortest < np.median(span) < longest


def test_long_hair_hangs_outside_the_skull_and_off_the_face(someone):
    verts, _, _ = someone
    strands = grown(someone, "long")
    points = strands.points
    assert (points[:, -1, 1] < points[:, 0, 1]).mean() > 0.95
    skull = fit_skull(verts)
    ball = (points[:, 8:] - skull.center) / skull.radius
    ball[..., 1] = np.maximum(ball[..., 1], 0)
    assert (np.linalg.norm(ball, axis=-1) > 0.9).mean() > 0.99
    marks = verts[load_geometry().landmarks]
    for spot in (marks[30], marks[36:42].mean(0), marks[42:48].mean(0), marks[51]):
        near = np.abs(points - spot)[..., :2].max(-1) < 0.12
        assert (near & (points[..., 2] > spot[2] - 0.2)).any(1).mean() < 0.005


def test_a_fringe_covers_the_forehead_and_ends_above_the_eyes(someone):
    marks = someone[0][load_geometry().landmarks]
    brow, eyes = marks[[19, 24], 1].mean(), marks[36:48, 1].mean()

    def lowest_in_front(fringe):
        points = grown(someone, "long", fringe=fringe).points
        front = (np.abs(points[..., 0]) < 0.2) & (points[..., 2] > 1.0)
        return np.percentile(points[front][:, 1], 2)

    assert eyes < lowest_in_front(1.0) < brow + 0.1
    assert lowest_in_front(0.0) > brow + 0.2


def test_tied_hair_ends_at_its_knot(someone):
    ends = grown(someone, "tied").points[:, -1]
    middle = np.median(ends, 0)
    assert middle[2] < someone[0][:, 2].mean()
    assert np.median(np.linalg.norm(ends - middle, axis=1)) < 0.5


def test_locks_gather_towards_their_mean():
    rng = np.random.RandomState(0)
    points = rng.randn(7, 4, 3).astype(np.float32)
    lock, strength = np.array([0, 2, 0, 1, 2, 2, 0]), rng.rand(7)
    gathered = gather_locks(points, lock, strength)
    for s in range(7):
        mean = points[lock == lock[s]].mean(0)
        for k in range(4):
            share = strength[s] * (k / 3) ** 0.7
            expected = points[s, k] * (1 - share) + mean[k] * share
            np.testing.assert_allclose(gathered[s, k], expected, atol=1e-5)


def blank_canvas(width):
    flat = (width, width)
    return Canvas(
        np.zeros((*flat, 3)),
        np.zeros(flat, np.int64),
        np.full(flat, -1.0, np.float32),
        np.zeros(flat, np.uint8),
    )


def all_seen(lines):
    return np.ones((len(lines), lines.shape[1] - 1), bool)


def test_soft_strands_blend_and_respect_depth():
    canvas = blank_canvas(8)
    canvas.depth[:, 5:] = 2.0  # something nearer
    line = np.array([[[1.5, 3.5, 1.0], [7.5, 3.5, 1.0]]], np.float32)
    color, alpha = np.full((1, 2, 3), 0.8, np.float32), np.full((1, 2), 0.5, np.float32)
    seen, radius = all_seen(line), np.array([0.5], np.float32)
    for _ in range(2):
        cover = draw_soft(canvas, line, color, alpha, seen, radius=radius)
    assert canvas.img[3, 5:].max() == 0
    assert canvas.img[[2, 4]].max() == 0
    share = canvas.img[3, 2:5, 0] / 0.8
    assert (share > 0.74).all()  # 1 - 0.5^2, or more where stamps meet
    assert (canvas.img <= 0.8).all()
    assert cover[3, 3] >= 0.5
    assert (canvas.depth[:, :5] == -1).all()  # half-transparent: hides nothing
    draw_soft(canvas, line, color, alpha * 2, ~seen, radius=radius)
    assert canvas.depth[3, 3] == -1
    draw_soft(canvas, line, color, alpha * 2, seen, radius=radius)
    assert canvas.depth[3, 3] == 1.0
    np.testing.assert_allclose(canvas.img[3, 3], 0.8, rtol=1e-6)


@pytest.mark.parametrize("radius", [0.4, 0.8, 1.6])
def test_soft_strands_show_in_each_pixel_that_nothing_hides(radius):
    rng, canvas = np.random.default_rng(0), blank_canvas(9)
    canvas.depth[:] = rng.uniform(0, 1, (9, 9))
    lines = rng.uniform(-2, 11, (12, 2, 3)).astype(np.float32)
    lines[..., 2] = rng.uniform(0, 1, (12, 2))
    faint = np.full((12, 2), 0.5, np.float32)
    white, widths = np.ones((12, 2, 3), np.float32), np.full(12, radius, np.float32)
    slow, reach = np.zeros((9, 9)), max(0, radius - 0.5)
    for start, stop in lines.astype(float):
        stamps = int(np.abs(stop - start)[:2].max() / (0.8 + reach)) + 1
        for x, y, z in start + (stop - start) * np.arange(stamps)[:, None] / stamps:
            first, last = np.floor([y - reach, x - reach]), np.floor([y + reach, x + reach])
            place = np.indices((9, 9)).transpose(1, 2, 0)
            shown = ((place >= first) & (place <= last)).all(-1) & (z >= canvas.depth)
            slow[shown] += (1 - slow[shown]) * 0.5 * min(1, 2 * radius)
    seen = seen_segments(canvas, lines, widths)
    cover = draw_soft(canvas, lines, white, faint, seen, radius=widths)
    assert 0 < (slow > 0).mean() < 1
    np.testing.assert_allclose(cover, slow, atol=1e-6)
    np.testing.assert_allclose(canvas.img[..., 1], slow, atol=1e-6)


def test_segments_are_seen_unless_hidden_or_outside():
    canvas = blank_canvas(40)
    canvas.depth[:, 20:] = 1.0
    canvas.depth[30, 25] = -1.0  # a hole, and with it all of its block
    ends = {
        (True,): [[2, 2, 0], [12, 30, 0]],
        (True, "crosses the edge"): [[-9, 5, 0], [2, 5, 0]],
        (True, "reaches the open half"): [[21, 3, 0], [30, 3, 0.5]],
        (True, "near enough"): [[30, 3, 0], [38, 3, 0.99]],
        (True, "by the hole"): [[26, 26, 0], [28, 26, 0]],
        (False, "behind"): [[30, 3, 0.9], [38, 20, 0.5]],
        (False, "left"): [[-9, 5, 2], [-3, 5, 2]],
        (False, "below"): [[9, 44, 2], [9, 60, 2]],
    }
    lines = np.array(list(ends.values()), np.float32)
    widths = np.full(len(lines), 3.0, np.float32)
    seen = seen_segments(canvas, lines, widths, bias=0.02)
    assert seen[:, 0].tolist() == [name[0] for name in ends]


def test_segments_that_are_not_seen_would_draw_nothing():
    rng, canvas = np.random.default_rng(1), blank_canvas(40)
    canvas.depth[:, 20:] = 1.0
    lines = rng.uniform(-10, 50, (400, 1, 3)) + rng.normal(0, 5, (400, 3, 3))
    lines[..., 2] = rng.uniform(0, 2, (400, 3))
    lines = lines.astype(np.float32)
    color, alpha = np.ones((400, 3, 3), np.float32), np.full((400, 3), 0.5, np.float32)
    radius = rng.uniform(0.3, 2, 400).astype(np.float32)
    seen = seen_segments(canvas, lines, radius)
    draw_soft(canvas, lines, color, alpha, ~seen, radius=radius)
    assert not canvas.img.any()
    assert 0.2 < seen.mean() < 0.8


def test_thin_strands_become_fainter_and_thick_ones_wider():
    line = np.array([[[1.5, 3.5, 1.0], [6.5, 3.5, 1.0]]], np.float32)
    color, alpha = np.ones((1, 2, 3), np.float32), np.ones((1, 2), np.float32)
    total = []
    for radius in (0.2, 0.5, 1.5):
        canvas = blank_canvas(8)
        draw_soft(canvas, line, color, alpha, all_seen(line), radius=np.float32([radius]))
        total.append(canvas.img[:, 3].sum())
    assert total[0] < total[1] < total[2]


def test_hair_facing_the_light_is_brighter_and_keeps_its_colour(someone):
    verts, _, traits = someone
    camera = frame_portrait(verts, traits.view, 64)
    light = replace(traits.light, key=np.array([0.0, 0.0, 1.0]))
    down = np.tile(np.array([0.0, 8.0, 1.0]), (2, 5, 1))
    down[..., 1] -= np.linspace(0, 1, 5)
    normals = np.zeros((2, 5, 3), np.float32)
    normals[0, :, 2], normals[1, :, 2] = 1, -1
    tint, open_ = np.array([[0.6, 0.4, 0.2]] * 2), np.ones((2, 5))
    points, view = down.astype(np.float32), (camera, light)
    seen = all_seen(points)
    color = light_strands(points, normals, tint, open_, view, seen)
    assert (color[0] > 2 * color[1]).all()
    assert (color[..., 0] > color[..., 1]).all()
    assert (color[..., 1] > color[..., 2]).all()
    buried = light_strands(points, normals, tint, open_ / 2, view, seen)
    np.testing.assert_allclose(buried, color / 2, rtol=1e-4)
    seen[1], seen[0, :2] = False, False  # what is left has the points 2 to 4
    part = light_strands(points, normals, tint, open_, view, seen)
    np.testing.assert_array_equal(part[0, 2:], color[0, 2:])


def test_beards_grow_where_their_names_say():
    geo = load_geometry()
    jaw = geo.fields["sd_jaw"]
    chin, lip, cheek, brow = geo.landmarks[[8, 51, 4, 19]]
    above_lip = geo.verts[lip] + [0, 0.06, 0]
    for kind, on_lip, on_chin, on_cheek in (
        ("moustache", True, False, False),
        ("goatee", True, True, False),
        ("full", True, True, True),
        ("stubble", True, True, True),
    ):
        zone = _zone(kind, geo.verts, jaw)
        assert (_zone(kind, above_lip[None], jaw[[lip]])[0] > 0.5) == on_lip
        inner_chin = np.array([[0.0, 6.32, 1.5]])
        assert (_zone(kind, inner_chin, np.array([0.1]))[0] > 0.5) == on_chin
        assert (zone[cheek] > 0.1) == on_cheek
        assert zone[brow] == 0
        assert zone.max() <= 1
    assert geo.verts[chin, 1] < 6.3


def test_a_beard_darkens_the_jaw_and_leaves_labels_and_lips(monkeypatch):
    dark = np.array([0.1, 0.09, 0.08])
    looks = {
        kind: styled(monkeypatch, beard=kind, color=dark, hat="none", style="fade")
        for kind in ("none", "stubble", "full")
    }
    bare = looks["none"]
    low = np.arange(48)[:, None] > bare.landmarks[33, 1]
    jaw = (bare.label == FaceClass.SKIN) & low
    lips = np.isin(bare.label, (FaceClass.UPPER_LIP, FaceClass.LOWER_LIP))

    def mean(kind, where):
        return looks[kind].img[where].mean()

    assert mean("none", jaw) > 1.1 * mean("stubble", jaw) > 1.2 * mean("full", jaw)
    for kind in ("stubble", "full"):
        assert (looks[kind].label == bare.label).mean() > 0.99
        assert mean(kind, lips) > 0.75 * mean("none", lips)


@pytest.mark.parametrize("hat", HATS[1:])
def test_hats_sit_above_the_brows_and_nothing_grows_through(monkeypatch, hat):
    face = styled(monkeypatch, hat=hat, style="short", hat_line=0.25)
    rows = np.nonzero((face.label == FaceClass.HAT).any(1))[0]
    brow = face.landmarks[[19, 24], 1].mean()
    middle = face.label[:, 24]
    assert rows.min() < brow - 10
    assert (np.nonzero(middle == FaceClass.HAT)[0] < brow + 1).all()
    assert not (face.label[: rows.min() + 4] == FaceClass.HAIR).any()
    assert face.attributes["hat"] == 1.0


def test_a_hat_covers_the_crown_but_not_the_face(someone):
    verts, normals, traits = someone
    camera = frame_portrait(verts, traits.view, 64)
    under = covered(Scene(verts, normals, traits, camera))
    assert under[verts[:, 1].argmax()]
    assert not under[load_geometry().landmarks].any()


def test_hair_covers_alike_at_every_size(monkeypatch):
    share = [
        (styled(monkeypatch, size, style="long", hat="none").label == FaceClass.HAIR).mean()
        for size in (48, 96)
    ]
    assert share[0] == pytest.approx(share[1], abs=0.02)
