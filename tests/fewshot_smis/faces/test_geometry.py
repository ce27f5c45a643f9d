import numpy as np
import pytest

from fewshot_smis.faces.geometry import (
    BODY,
    HAIR_HELPER,
    TONGUE,
    add_shape,
    load_geometry,
    smoothstep,
    unit,
    vertex_normals,
)


def test_pack_has_the_arrays_the_rooms_rely_on():
    geo = load_geometry()
    count = len(geo.verts)
    assert geo.verts.shape == (count, 3)
    assert geo.verts.dtype == np.float32
    assert geo.tris.shape == geo.tri_uv.shape == (len(geo.groups), 3)
    assert geo.tris.max() < count
    assert geo.tri_uv.max() < len(geo.uv_table)
    assert set(np.unique(geo.groups)) == set(range(BODY, TONGUE + 1)) - {HAIR_HELPER}
    assert len(geo.body) == (geo.groups == BODY).sum()
    assert all(len(field) == count for field in geo.fields.values())
    assert geo.landmarks.shape == (68,)
    assert len(geo.shapes) == 442
    assert load_geometry() is geo


def test_left_is_the_subjects_left():
    geo = load_geometry()
    assert geo.eye_centers[0, 0] > 0 > geo.eye_centers[1, 0]
    assert geo.verts[geo.landmarks[45], 0] > 0 > geo.verts[geo.landmarks[36], 0]


def test_add_shape_moves_only_its_vertices_by_the_weight():
    geo = load_geometry()
    verts = geo.verts.copy()
    add_shape(verts, "faceunits/jawOpen", 0.5)
    shape = geo.shapes["faceunits/jawOpen"]
    others = np.setdiff1d(np.arange(verts.size), shape.place)
    np.testing.assert_array_equal(verts.ravel()[others], geo.verts.ravel()[others])
    moved = (verts - geo.verts).ravel()[shape.place]
    np.testing.assert_allclose(moved, 0.5 * shape.delta, atol=2e-6)
    assert verts[geo.landmarks[8], 1] < geo.verts[geo.landmarks[8], 1]  # the chin sinks


def test_add_shape_of_an_unknown_name_does_nothing():
    verts = load_geometry().verts.copy()
    add_shape(verts, "faceunits/noSuchUnit", 1.0)
    np.testing.assert_array_equal(verts, load_geometry().verts)


def test_vertex_normals_of_a_bent_sheet_are_weighted_by_area():
    verts = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3]], np.float32)
    tris = np.array([[0, 1, 2], [0, 3, 1]], np.int32)  # areas 1/2 facing z, 3/2 facing y
    normals = vertex_normals(verts, tris)
    np.testing.assert_allclose(normals[2], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(normals[3], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(normals[0], np.array([0, 3, 1]) / np.sqrt(10), atol=1e-6)


def test_skin_faces_outwards():
    geo = load_geometry()
    normals = vertex_normals(geo.verts, geo.body)
    assert normals[geo.landmarks[30], 2] > 0.5
    assert normals[geo.landmarks[16], 0] > 0.3
    assert normals[geo.landmarks[0], 0] < -0.3


def test_unit_keeps_zero_and_direction():
    vectors = unit(np.array([[[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]]))
    np.testing.assert_allclose(vectors, [[[0.6, 0.8, 0], [0, 0, 0]]], atol=1e-9)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 2.0), (2.0, 0.0)])
def test_smoothstep_is_level_at_its_ends(start, stop):
    assert smoothstep(start, stop, start) == 0
    assert smoothstep(start, stop, stop) == 1
    assert smoothstep(start, stop, 1.0) == pytest.approx(0.5)
    assert abs(smoothstep(start, stop, start + 1e-3 * (stop - start))) < 1e-5
    assert smoothstep(start, stop, 2 * stop - start) == 1
