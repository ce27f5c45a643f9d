import dataclasses

import numpy as np
import pytest

from fewshot_smis.faces.backdrop import paint_backdrop
from fewshot_smis.faces.geometry import load_geometry, smoothstep, unit, vertex_normals
from fewshot_smis.faces.identity import sample_identity
from fewshot_smis.faces.lighting import (
    ShadowMap,
    ambient_occlusion,
    cast_shadow,
    diffuse,
    emboss,
    fill_bound,
    irradiance,
    reach_of_light,
    skin_wrap,
)
from fewshot_smis.faces.traits import Backdrop, sample_traits

ROWS, COLUMNS = 8, 6


@pytest.fixture(scope="module")
def light():
    rng = np.random.RandomState(0)
    drawn = sample_traits(rng, sample_identity(rng)).light
    return dataclasses.replace(drawn, key=np.array([0.0, 0.8, 0.6]), softness=0.05)


def test_shadows_fall_under_the_chin_and_not_on_the_forehead(light):
    geo = load_geometry()
    shadow = cast_shadow(geo.verts.astype(np.float64), geo.tris, light)
    forehead, throat = np.array([[0.0, 7.7, 1.5]]), np.array([[0.0, 6.1, 0.95]])
    assert reach_of_light(shadow, forehead.astype(np.float32))[0] > 0.9
    assert reach_of_light(shadow, throat.astype(np.float32))[0] < 0.3


def test_shadow_map_is_read_between_its_texels():
    rng = np.random.default_rng(0)
    depth = rng.uniform(-1, 1, (112, 112)).astype(np.float32)
    shadow = ShadowMap(np.eye(3), np.zeros(3), np.stack([depth, depth**2 + 0.1]))
    place = rng.uniform(-1.3, 1.3, (40, 3)).astype(np.float32)
    spot = (place[:, :2].astype(float) / 2.8 + 0.5) * 112 - 0.5
    column, row = np.floor(spot).astype(int).T
    (u, v), total = (spot - np.floor(spot)).T, 0
    for down, right in np.ndindex(2, 2):
        share = np.where(right, u, 1 - u) * np.where(down, v, 1 - v)
        total = total + share * shadow.moments[:, row + down, column + right]
    behind = np.maximum(total[0] - place[:, 2] - 0.03, 0)
    variance = np.maximum(total[1] - total[0] ** 2, 1e-3)
    expected = smoothstep(0.25, 1, variance / (variance + behind**2))
    np.testing.assert_allclose(reach_of_light(shadow, place), expected, atol=1e-3)
    assert 0.2 < (behind > 0).mean() < 0.8
    bound, seen = np.empty(40, np.float32), place
    fill_bound(seen, shadow.moments, bound)
    np.testing.assert_allclose(smoothstep(0.25, 1, bound), expected, atol=1e-3)


def test_a_hollow_is_darker_than_the_rim_around_it():
    y, x = np.mgrid[:40, :40] - 20.0
    depth = (-0.3 * np.exp(-(x * x + y * y) / 20)).astype(np.float32)
    hit = np.ones((40, 40), bool)
    hit[0] = False
    opened = np.ones((40, 40), np.float32)
    opened[hit] = ambient_occlusion(np.where(hit, depth, -1e9).astype(np.float32), hit, 30.0)
    assert opened[20, 20] < 0.8 < 0.95 < opened[20, 33]
    flat = ambient_occlusion(np.zeros((40, 40), np.float32), hit, 30.0)
    np.testing.assert_allclose(flat, 1, atol=1e-2)


def test_emboss_tilts_normals_against_the_slope():
    hit = np.ones((ROWS, COLUMNS), bool)
    normal = np.tile(np.float32([0, 0, 1]), (ROWS * COLUMNS, 1))
    height = np.tile(np.arange(COLUMNS) * 0.02, (ROWS, 1)).ravel()  # rises to the right
    tilted = emboss(normal, height, hit, 10.0)
    expected = unit(np.array([-0.2, 0.0, 1.0]))
    np.testing.assert_allclose(tilted, np.tile(expected, (ROWS * COLUMNS, 1)), atol=1e-5)
    steep = emboss(normal, height * 100, hit, 10.0)
    np.testing.assert_allclose(steep[:, 0] / steep[:, 2], -0.5, atol=1e-5)


def test_irradiance_equals_the_sum_of_the_lights(light):
    normals = unit(np.random.RandomState(1).randn(20, 3))
    got = diffuse(normals, light, 0.2)
    for normal, value in zip(normals, got, strict=True):
        key = max((normal @ light.key + 0.2) / 1.2, 0) * light.key_color
        fill = light.fill_strength * max(normal @ light.fill + 0.3, 0) / 1.3
        rim = max(normal @ light.rim + 0.1, 0) ** 2 * light.rim_color
        up, ground = 0.5 + 0.5 * normal[1], np.array([0.72, 0.60, 0.53])
        around = ground + up * (light.tint - ground)
        np.testing.assert_allclose(value, key + around * (light.ambient + fill) + rim, rtol=1e-4)


def test_shadow_takes_the_key_light_and_its_edge_is_red_on_skin(light):
    normal = np.tile(light.key, (3, 1))
    reach, opened = np.float32([1, 0.5, 0]), np.ones(3, np.float32)
    lit = irradiance(normal, light, skin_wrap(), reach=reach, opened=opened)
    without = irradiance(normal, light, skin_wrap(), reach=reach * 0, opened=opened)
    share = (lit - without) / (lit[0] - without[0])
    np.testing.assert_allclose(share[2], 0, atol=1e-6)
    assert 0.6 > share[1, 0] > share[1, 1] > share[1, 2] > 0.4


def test_vertex_normals_light_the_head_from_the_side_of_the_key(light):
    geo = load_geometry()
    normals = vertex_normals(geo.verts, geo.body)
    side = dataclasses.replace(light, key=unit(np.array([1.0, 0.2, 0.5])))
    shade = diffuse(normals, side, 0.1).mean(1)
    assert shade[geo.landmarks[14]] > 1.3 * shade[geo.landmarks[2]]


def backdrop(**changes):
    plain = Backdrop(
        colors=(np.full(3, 0.2), np.full(3, 0.6)),
        slope=np.array([0.0, 0.0]),
        vignette=0.0,
        boxes=np.zeros((0, 7)),
        discs=np.zeros((0, 7)),
        blur=0.0,
    )
    return dataclasses.replace(plain, **changes)


def test_backdrop_runs_from_one_colour_to_the_other():
    img = paint_backdrop(backdrop(slope=np.array([0.0, 2.0])), 40)
    assert img.shape == (40, 40, 3)
    np.testing.assert_allclose(img[-1], 0.6, atol=1e-6)
    assert (np.diff(img[:, 5, 0]) >= -1e-12).all()


def test_backdrop_shows_boxes_and_discs_where_they_are():
    box = np.array([[0.5, 0.0, 1.0, 1.0, 0.9, 0.0, 0.0]])
    img = paint_backdrop(backdrop(boxes=box), 64)
    np.testing.assert_allclose(img[10, 50], [0.9, 0, 0])
    assert img[10, 10, 1] > 0.2
    disc = np.array([[0.25, 0.5, 0.1, 1.0, 0.0, 0.0, 0.8]])
    img = paint_backdrop(backdrop(discs=disc), 128)
    np.testing.assert_allclose(img[64, 32], [0, 0, 0.8], atol=1e-6)
    assert img[64, 96, 2] < 0.5


def test_backdrop_looks_the_same_at_every_size():
    lights = backdrop(discs=np.array([[0.4, 0.6, 0.2, 0.5, 0.9, 0.7, 0.3]]), vignette=0.3)
    large, small = paint_backdrop(lights, 128), paint_backdrop(lights, 64)
    np.testing.assert_allclose(large.reshape(64, 2, 64, 2, 3).mean((1, 3)), small, atol=0.03)
