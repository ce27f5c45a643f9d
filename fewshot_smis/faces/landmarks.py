"""Where the 68 landmarks lie on the mesh.

The marks of the data pack are anatomical, and the crop is framed by them. The points of the 300-W
scheme, in which photographs are annotated and detectors are trained, differ in places: they
follow the upper edge of the brows and the border of the upper lip, start the bridge of the nose
between the eyes, and stand at the inner corner of what shows of an eye or a mouth. For each of
them the nearest vertex was chosen by what a detector finds in 80 portraits of seed 5000.
"""

import functools

from fewshot_smis.faces.geometry import Array, load_geometry

_SCHEME = {
    **{18: 232, 19: 222, 20: 223, 23: 2859, 24: 2858, 25: 2867},  # upper edge of the brows
    **{27: 132, 28: 131},  # bridge of the nose
    **{31: 347, 35: 2970},  # wings of the nose
    **{37: 1055, 38: 1073, 43: 3627, 44: 3609},  # upper lids
    **{39: 2626, 42: 5135},  # inner corners of the eyes
    **{48: 444, 54: 3066, 60: 419, 64: 3041},  # corners of the mouth
    **{49: 2198, 50: 456, 51: 466, 52: 3077, 53: 4712},  # border of the upper lip
}


@functools.cache
def landmark_vertices() -> Array:
    """Return the vertices [68] int32 of the 68 points of the 300-W scheme, in its order."""
    vertices = load_geometry().landmarks.copy()
    vertices[list(_SCHEME)] = list(_SCHEME.values())
    vertices.setflags(write=False)
    return vertices
