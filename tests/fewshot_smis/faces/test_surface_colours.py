"""Skin, eyes and clothes: what the mesh is painted with."""

import dataclasses

import numpy as np
import pytest

from fewshot_smis.faces.camera import frame_portrait
from fewshot_smis.faces.clothing import cloth_albedo, dress, garment_field
from fewshot_smis.faces.eyes import catchlight, draw_lids, eyeball_albedo
from fewshot_smis.faces.geometry import EYE_LEFT, EYE_RIGHT, load_geometry, vertex_normals
from fewshot_smis.faces.identity import sample_identity
from fewshot_smis.faces.labels import FaceClass, hair_field, mesh_regions
from fewshot_smis.faces.raster import Canvas, draw_triangles
from fewshot_smis.faces.skin import face_lines, skin_albedo, skin_relief
from fewshot_smis.faces.surface import visible_surface
from fewshot_smis.faces.traits import Pose, linear, sample_traits

WIDTH = 96


@pytest.fixture(scope="module")
def person():
    rng = np.random.RandomState(1)
    identity = sample_identity(rng)
    return identity, sample_traits(rng, identity, Pose(0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def surface(person):
    identity, traits = person
    camera = frame_portrait(identity.verts, traits.view, WIDTH, jitter=False)
    depth = np.full((WIDTH, WIDTH), -1e9, np.float32)
    placed = camera.place(identity.verts)
    coverage = draw_triangles(camera.project(placed), load_geometry().tris, depth)
    return visible_surface(identity.verts, placed, camera.rotation, coverage)


def regions_of(surface, traits):
    return mesh_regions(surface, traits, hair_field(traits))


def test_surface_interpolates_the_mesh(surface):
    weights, corners = surface.weights[:50], surface.corners[:50]
    slow = (load_geometry().verts[corners] * weights[..., None]).sum(1)
    np.testing.assert_allclose(surface.rest[:50], slow, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(surface.normal, axis=1), 1, atol=1e-4)
    field = load_geometry().fields["sd_jaw"]
    np.testing.assert_allclose(surface.at(field)[:50], (field[corners] * weights).sum(1), atol=1e-5)


def test_skin_scatters_about_its_tone_and_lips_have_their_colour(surface, person):
    identity, traits = person
    regions = regions_of(surface, traits)
    lines = face_lines(surface, traits, identity)
    albedo = skin_albedo(surface, regions, traits, identity, lines)
    forehead = (np.abs(surface.rest[:, 0]) < 0.3) & (np.abs(surface.rest[:, 1] - 7.65) < 0.08)
    assert albedo.dtype == np.float32
    np.testing.assert_allclose(albedo[forehead].mean(0), linear(traits.skin.tone), rtol=0.15)
    assert 0.005 < albedo[forehead].std(0).mean() / albedo[forehead].mean() < 0.2
    lips = surface.lips > 0.95
    np.testing.assert_allclose(albedo[lips].mean(0), linear(traits.skin.lips), rtol=0.25)


def test_age_and_smiles_deepen_the_folds(surface, person):
    identity, traits = person
    regions = regions_of(surface, traits)
    x, y, z = surface.rest.T
    fold = (np.abs(np.abs(x) - 0.175 - 0.5 * (6.9 - y)) < 0.01) & (np.abs(y - 6.8) < 0.04) & (z > 1)
    assert fold.any()
    depth = []
    for age, units in ((0.0, {}), (0.0, {"mouthSmile": 0.9}), (1.0, {"mouthSmile": 0.9})):
        aged = identity._replace(age=age, expression=units)
        lines = face_lines(surface, traits, aged)
        depth.append(skin_relief(surface, regions, traits, aged, lines)[fold].mean())
    assert depth[0] > depth[1] > depth[2]


def test_brows_lie_over_the_eyes_and_thicker_ones_cover_more(surface, person):
    _, traits = person
    thick = dataclasses.replace(traits.brows, half_width=traits.brows.half_width * 1.5)
    count = []
    for brows in (traits.brows, thick):
        label = regions_of(surface, dataclasses.replace(traits, brows=brows)).label
        brow = (label == FaceClass.LEFT_BROW) | (label == FaceClass.RIGHT_BROW)
        assert 7.3 < surface.rest[brow, 1].min() < surface.rest[brow, 1].max() < 7.65
        count.append(brow.sum())
    assert count[1] > 1.2 * count[0] > 0


def test_a_necklace_is_a_thin_band_of_the_neck(surface, person):
    _, traits = person
    worn = dataclasses.replace(traits.jewels, necklace=True, necklace_line=5.95, pearls=False)
    bare = dataclasses.replace(traits.jewels, necklace=False)
    garment = dataclasses.replace(traits.garment, neckline=5.5, collar=0.0)
    labels = [
        regions_of(surface, dataclasses.replace(traits, jewels=j, garment=garment)).label
        for j in (bare, worn)
    ]
    chain = labels[1] == FaceClass.NECKLACE
    assert not (labels[0] == FaceClass.NECKLACE).any()
    assert 0 < chain.sum() < 0.2 * (labels[0] == FaceClass.NECK).sum()
    assert (labels[0][chain] == FaceClass.NECK).all()
    np.testing.assert_array_equal(labels[0][~chain], labels[1][~chain])


def test_clothes_begin_below_the_neckline_and_stand_off_the_body(person):
    identity, traits = person
    plain = dataclasses.replace(traits.garment, neckline=5.8, v_neck=0.0, collar=0.0)
    traits = dataclasses.replace(traits, garment=plain)
    rest = load_geometry().verts
    field = garment_field(rest, traits)
    assert (field[rest[:, 1] > 6.3] < 0).all()
    assert (field[rest[:, 1] < 5.6] > 0).all()
    deep = dataclasses.replace(traits, garment=dataclasses.replace(plain, v_neck=1.0))
    front = (np.abs(rest[:, 0]) < 0.05) & (rest[:, 2] > 0.6) & (rest[:, 1] < 6)
    assert (garment_field(rest, deep)[front] < field[front] - 0.3).all()
    normals = vertex_normals(identity.verts, load_geometry().body)
    moved = np.linalg.norm(dress(identity.verts, rest, normals, traits) - identity.verts, axis=1)
    assert moved[field < -0.04].max() < 1e-4
    assert 0.02 < np.median(moved[(field > 0.1) & (np.linalg.norm(normals, axis=1) > 0.5)]) < 0.05


@pytest.mark.parametrize("pattern", ["plain", "stripes", "checks", "heather"])
def test_patterns_mix_colour_and_accent(person, pattern):
    _, traits = person
    color, accent = np.array([0.2, 0.2, 0.8]), np.array([0.9, 0.9, 0.1])
    garment = dataclasses.replace(
        traits.garment, pattern=pattern, color=color, accent=accent, spacing=0.1
    )
    rest = np.random.RandomState(0).uniform(5, 6, (400, 3)).astype(np.float32)
    field = np.full(400, 0.5)
    shown = cloth_albedo(rest, field, dataclasses.replace(traits, garment=garment))
    blue = shown[:, 2] > shown[:, 0]
    assert blue.all() if pattern == "plain" else 0.1 < blue.mean() < 0.95


def test_iris_has_pupil_colour_ring_and_white_around(person):
    _, traits = person
    eyes = dataclasses.replace(traits.eyes, gaze=np.zeros(2), iris=np.array([0.3, 0.45, 0.62]))
    center = load_geometry().eye_centers[0]
    out = np.array([0.0, 0.04, 0.062, 0.1])
    rest = (center + out[:, None] * [1, 0, 0]).astype(np.float32)
    group = np.full(4, EYE_LEFT)
    pupil, iris, ring, white = eyeball_albedo(rest, group, eyes, traits.offset)
    assert pupil.max() < 0.01
    assert iris[2] > iris[0]
    assert ring.sum() < iris.sum() < white.sum()
    both = eyeball_albedo(rest - [2 * center[0], 0, 0], np.full(4, EYE_RIGHT), eyes, traits.offset)
    np.testing.assert_allclose(both[3], white, atol=1e-3)
    assert catchlight(rest, group, traits.light).argmax() <= 1


def test_lids_shade_the_eye_and_lashes_run_above_it(person):
    _, traits = person
    label = np.zeros((40, 60), np.int64)
    label[15:25, 20:40] = FaceClass.LEFT_EYE
    canvas = Canvas(np.ones((40, 60, 3)), label.copy(), np.zeros((40, 60)), np.zeros((40, 60)))
    draw_lids(canvas, 100.0, dataclasses.replace(traits.eyes, lashes=0.8))
    shade = canvas.img.mean(-1)
    assert shade[15, 30] < shade[20, 30] < 1
    assert shade[14, 30] < 0.35
    assert shade[5, 30] == shade[14, 5] == 1
    np.testing.assert_array_equal(canvas.label, label)
