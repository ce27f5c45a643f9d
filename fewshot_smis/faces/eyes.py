"""Eyes: white, iris and pupil, what the lids shade, lashes and the light they mirror.

Legend: P pixels that see an eye ball; W canvas width; distances in decimetres on the neutral mesh.
"""

import numpy as np

from fewshot_smis.faces.geometry import EYE_LEFT, Array, load_geometry, smoothstep
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.noise import value_noise
from fewshot_smis.faces.raster import Canvas, box_blur
from fewshot_smis.faces.traits import EyeTraits, Light, linear

_IRIS_RADIUS = 0.064
_PUPIL_RADIUS = 0.026
_WHITE = linear(np.array([0.83, 0.79, 0.77]))
_CORNER = linear(np.array([0.78, 0.60, 0.57]))


def _from_center(rest: Array, group: Array) -> Array:
    """Return the place [P,2] of each pixel relative to the middle of its eye ball."""
    left, right = load_geometry().eye_centers[:, :2]
    return rest[:, :2] - np.where((group == EYE_LEFT)[:, None], left, right)


def eyeball_albedo(rest: Array, group: Array, eyes: EyeTraits, offset: Array) -> Array:
    """Return the linear albedo [P,3] of white, iris and pupil.

    Args:
        rest: [P,3], points of the neutral mesh.
        group: [P], geometry.EYE_LEFT or EYE_RIGHT.
        eyes: gaze and colour.
        offset: [3], where in the noise this portrait lies.
    """
    place = _from_center(rest, group)
    pink = smoothstep(0.07, 0.15, np.abs(place[:, 0]))[:, None]
    white = _WHITE + (_CORNER - _WHITE) * pink
    x, y = (place - eyes.gaze).T
    radius = np.hypot(x, y)
    r = radius / _IRIS_RADIUS
    angle = np.arctan2(y, x)
    fibres = value_noise(np.stack([np.cos(angle) * 5, np.sin(angle) * 5, r * 1.5], 1) + offset)
    bright = 0.75 + 0.9 * fibres + 0.45 * np.exp(-(((r - 0.55) / 0.18) ** 2))
    bright *= 1 - 0.75 * smoothstep(0.78, 1.0, r)  # the dark ring at the limbus
    iris = linear(eyes.iris) * bright[:, None]
    inside = smoothstep(1.06, 0.94, r)[:, None]
    pupil = smoothstep(_PUPIL_RADIUS + 0.004, _PUPIL_RADIUS - 0.004, radius)[:, None]
    return (white * (1 - inside) + iris * inside) * (1 - pupil) + 0.004 * pupil


def catchlight(rest: Array, group: Array, light: Light) -> Array:
    """Return the reflection [P] of the key light on the cornea: a window high in the iris."""
    x, y = _from_center(rest, group).T
    spot = (x - light.key[0] * 0.03) ** 2 + (y - 0.012 - light.key[1] * 0.022) ** 2
    soft: Array = np.exp(-spot / 0.00016)
    return soft


def _window(eye: Array, margin: int) -> tuple[slice, slice]:
    """Return the part of the picture that holds the True pixels of `eye` and a margin."""
    rows, columns = np.nonzero(eye.any(1))[0], np.nonzero(eye.any(0))[0]
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return slice(top, rows[-1] + margin + 1), slice(left, columns[-1] + margin + 1)


def _distance_along(eye: Array) -> Array:
    """Count the True pixels of each column of `eye` from the top to each of them, [h,w] float."""
    count: Array = np.cumsum(eye, 0, dtype=np.float32)
    return count


def draw_lids(canvas: Canvas, scale: float, eyes: EyeTraits) -> None:
    """Shade the eye balls under the lids and draw lashes and tear lines, in place.

    Args:
        canvas: the painted mesh.
        scale: pixels a decimetre.
        eyes: how strong the lashes are.
    """
    for value in (FaceClass.LEFT_EYE, FaceClass.RIGHT_EYE):
        eye = canvas.label == value
        if not eye.any():
            continue
        thick = max(1.0, 0.020 * scale)
        window = _window(eye, int(thick * 3) + 2)
        eye = eye[window]
        img, cover = canvas.img[window], eye.astype(np.float32)
        from_top, from_bottom = _distance_along(eye), _distance_along(eye[::-1])[::-1]
        shade = (
            1
            - 0.62 * np.exp(-from_top / (0.035 * scale))
            - 0.22 * np.exp(-from_bottom / (0.018 * scale))
        )
        img[eye] *= shade[eye][:, None]
        tear = eye & (from_bottom <= max(1, 0.010 * scale))
        img[tear] = img[tear] * 0.75 + np.array([0.30, 0.17, 0.15]) * img[eye].mean()
        lash = np.zeros_like(cover)
        steps = int(np.ceil(thick * 1.5))
        for k in range(1, steps + 1):
            share = (1 - (k - 1) / (thick * 1.5)) * (0.45 + 0.5 * eyes.lashes)
            lash[:-k] = np.maximum(lash[:-k], cover[k:] * share)
            lash[k:] = np.maximum(lash[k:], cover[:-k] * share * 0.35 * (k <= thick * 0.6))
        lash = box_blur(lash, max(0, round(0.006 * scale))) * (1 - cover)
        lash = np.clip(lash, 0, 0.9)[..., None]
        img += lash * (np.array([0.012, 0.009, 0.008]) - img)
