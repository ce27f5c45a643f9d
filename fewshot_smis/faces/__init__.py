"""Synthetic faces: portraits of random heads with exact label maps and landmarks.

    render_face(seed, index)          one portrait
    face_attributes(seed, index)      what is known of it, without rendering
    FaceDataset(seed, count, size)    portraits by number, rendered when asked for
    render_folder(out, count)         an image folder on disk, rendered by several processes

The heads come from one deformable mesh (see LICENSE-STATEMENTS.txt, CC0). Rooms, in the order
of the work: geometry, identity, grooming and traits decide who is portrayed; camera and surface
find what each pixel sees and labels its class; clothing, skin, eyes, lighting and appearance
colour it; backdrop, jewellery, beard, hats, hair and accessories are drawn around it; portrait,
attributes and dataset put it together. raster, noise, growth and strands hold most of the
kernels, which `compiled` turns into machine code.
"""

from fewshot_smis.faces.dataset import FaceDataset, render_folder
from fewshot_smis.faces.labels import FaceClass
from fewshot_smis.faces.portrait import Portrait, face_attributes, render_face
from fewshot_smis.faces.traits import Pose

__all__ = [
    "FaceClass",
    "FaceDataset",
    "Portrait",
    "Pose",
    "face_attributes",
    "render_face",
    "render_folder",
]
