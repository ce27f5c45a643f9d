"""What hair, hats and glasses are fitted to."""

from typing import NamedTuple

from fewshot_smis.faces.camera import Camera
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.traits import Traits


class Scene(NamedTuple):
    """A posed person."""

    verts: Array  # [V,3] float32, the head
    normals: Array  # [V,3] unit, of its skin
    traits: Traits
    camera: Camera
