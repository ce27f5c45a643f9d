"""The 68 points lie where the 300-W scheme has them, on both sides alike."""

import numpy as np

from fewshot_smis.faces.geometry import load_geometry
from fewshot_smis.faces.landmarks import landmark_vertices

# Which point is the mirror image of which, in the order of the scheme.
MIRROR = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30),
    *(35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
]


def test_points_are_distinct_vertices_of_the_skin() -> None:
    vertices = landmark_vertices()
    assert vertices.shape == (68,)
    assert len(set(vertices.tolist())) == 68
    assert np.isin(vertices, load_geometry().body).all()


def test_both_sides_are_mirror_images() -> None:
    points = load_geometry().verts[landmark_vertices()]
    np.testing.assert_allclose(points[MIRROR] * [-1, 1, 1], points, atol=0.002)


def test_points_follow_the_edges_of_the_scheme() -> None:
    geo = load_geometry()
    points, marks = geo.verts[landmark_vertices()], geo.verts[geo.landmarks]
    brows, lip = [19, 20, 23, 24], [50, 51, 52]
    assert (points[brows, 1] > marks[brows, 1] + 0.02).all()  # the upper edge, higher by 2 mm
    assert (points[lip, 1] > marks[lip, 1]).all()
    eyes = points[36:48, 1]
    assert eyes.min() < points[27, 1] < eyes.max() + 0.01  # the bridge starts between the eyes
    assert np.linalg.norm(points - marks, axis=1).max() < 0.06  # dm
