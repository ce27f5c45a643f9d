"""Is it the same person? dlib's face descriptor, a residual network of 128 outputs.

Descriptors of one person lie within about 0.6 of each other, as the network was trained.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewshot_smis.data.images import UInt8
from stylegan.errors import BackendError, ShapeError
from tools.detectors import Points, packaged_model

SAME_PERSON = 0.6

_RECOGNISER = "dlib_face_recognition_resnet_model_v1.dat"


@cache
def _dlib() -> tuple[Any, Any]:
    """Return dlib and its recogniser."""
    try:
        import dlib
    except ImportError as error:
        raise BackendError(
            "dlib, which tells people apart, is not installed: pip install 'fewshot-smis[faces]'"
        ) from error
    return dlib, dlib.face_recognition_model_v1(str(packaged_model(_RECOGNISER)))


def describe_person(image: UInt8, landmarks: Points) -> NDArray[np.float64]:
    """Return the descriptor [128] of the face with `landmarks` [68,2] in `image` uint8 [H,W,3].

    Raises:
        BackendError: dlib or the package of its models is not installed.
        ShapeError: The picture or the landmarks are of another shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or landmarks.shape != (68, 2):
        raise ShapeError(
            f"a person is described by uint8 [H,W,3] and landmarks [68,2], not {image.dtype} "
            f"{list(image.shape)} and {list(landmarks.shape)}"
        )
    dlib, recogniser = _dlib()
    places = [dlib.point(*(int(v) for v in np.floor(point))) for point in landmarks]
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
    box = dlib.rectangle(int(left), int(top), int(right), int(bottom))
    shape = dlib.full_object_detection(box, places)
    return np.array(recogniser.compute_face_descriptor(np.ascontiguousarray(image), shape))


def identity_distance(a: UInt8, b: UInt8, landmarks: Points) -> float:
    """Return how far apart the people are in pictures `a` and `b` with the same `landmarks`.

    The Euclidean distance of their descriptors; below SAME_PERSON they are taken for one. Errors
    are those of `describe_person`.
    """
    return float(np.linalg.norm(describe_person(a, landmarks) - describe_person(b, landmarks)))
