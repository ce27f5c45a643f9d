"""Find the faces of a photograph and their 68 landmarks: by dlib, or by face-alignment.

dlib: boxes by histograms of gradients, points by regression trees (Kazemi & Sullivan 2014).
face-alignment: boxes and heat maps of points by networks (Bulat & Tzimiropoulos 2017).
"""

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fewshot_smis.data.images import UInt8
from stylegan.errors import BackendError, ConfigError, DataError, ShapeError

Points = NDArray[np.float64]  # [68,2], x and y in pixels; the first pixel's centre is (0.5, 0.5)
Finder = Callable[[UInt8], list[Points]]  # picture [H,W,3] -> the points of each face

DETECTORS = ("dlib", "face-alignment")

SEARCHED = 1280
"""Longer side in pixels of what dlib searches; larger photographs are reduced for the search."""

_INSTALL = "pip install 'fewshot-smis[faces]'"
_PREDICTOR = "shape_predictor_68_face_landmarks.dat"
_NETWORKS = ("2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth")


def open_detector(
    name: str, *, predictor: Path | None = None, weights: Path | None = None
) -> Finder:
    """Return the detector of that name, one of DETECTORS.

    Args:
        name: "dlib" or "face-alignment".
        predictor: dlib's 68-point predictor; by default the packaged one.
        weights: The folder that holds the networks of face-alignment; by default it downloads
            them.

    Raises:
        BackendError: A package, or the weights, are missing.
        ConfigError: There is no such detector.
        DataError: `predictor` is not one, or `weights` lacks a network.
    """
    if name == "dlib":
        return lambda image: detect(image, predictor)
    if name == "face-alignment":
        network = _face_alignment(weights)
        return lambda image: _detect_by_networks(image, network)
    raise ConfigError(f"no detector is named '{name}'; choose from {', '.join(DETECTORS)}")


def packaged_predictor() -> Path:
    """Return dlib's 68-point predictor inside the package face_recognition_models.

    Raises:
        BackendError: The package is not installed.
    """
    return packaged_model(_PREDICTOR, "or give the file by --predictor")


def packaged_model(name: str, otherwise: str = "") -> Path:
    """Return a model of dlib inside the package face_recognition_models.

    Raises:
        BackendError: The package is not installed; `otherwise` is what else can be done.
    """
    spec = importlib.util.find_spec("face_recognition_models")  # importing it needs pkg_resources
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "models" / name
        if path.is_file():
            return path
    fix = f"install the package that holds it ({_INSTALL})"
    raise BackendError(f"{name} is missing: {fix}" + (f", {otherwise}" if otherwise else ""))


@cache
def _dlib(predictor: Path) -> tuple[Any, Any]:
    """Return dlib's detector of faces and its predictor of their points."""
    try:
        import dlib
    except ImportError as error:
        raise BackendError(f"dlib, which finds landmarks, is not installed: {_INSTALL}") from error
    try:
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor))
    except RuntimeError as error:
        raise DataError(
            f"{predictor}: not a predictor of dlib ({error}); {_PREDICTOR} is one"
        ) from error


def detect(image: UInt8, predictor: Path | str | None = None, *, upsample: int = 1) -> list[Points]:
    """Find the faces of a picture by dlib: 68 points each, the surest face first.

    Args:
        image: uint8 [H,W,3], RGB; faces are sought in it at no more than SEARCHED pixels.
        predictor: dlib's 68-point predictor; by default the packaged one.
        upsample: How often the picture is doubled for the search; without, faces below some
            80 px are missed.

    Returns:
        Points [68,2] of each face, in pixels of `image`; an empty list where there is no face.

    Raises:
        BackendError: dlib or the packaged predictor is not installed.
        DataError: `predictor` is not one.
        ShapeError: `image` is not uint8 [H,W,3].
    """
    _check_picture(image)
    path = packaged_predictor() if predictor is None else Path(predictor)
    find, predict = _dlib(path)
    image = np.ascontiguousarray(image)
    factor = max(-(-max(image.shape[:2]) // SEARCHED), 1)
    searched = np.array(Image.fromarray(image).reduce(factor)) if factor > 1 else image
    boxes, _, _ = find.run(searched, upsample)  # sorted by confidence
    shapes = [predict(image, _larger(box, factor)).parts() for box in boxes]
    return [np.array([(p.x + 0.5, p.y + 0.5) for p in shape]) for shape in shapes]


def _larger(box: Any, factor: int) -> Any:
    sides = (box.left(), box.top(), box.right(), box.bottom())
    return type(box)(*(side * factor for side in sides))


@cache
def _face_alignment(weights: Path | None) -> Any:
    """Return the networks of face-alignment, for the points that follow the visible contour."""
    try:
        import face_alignment
    except ImportError as error:
        raise BackendError(f"face-alignment is not installed: {_INSTALL}") from error
    missing = [name for name in _NETWORKS if weights and not (weights / name).is_file()]
    if missing:
        raise DataError(
            f"{weights}: holds no {' and no '.join(missing)}, which face-alignment uses"
        )
    kept = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as hub:
        if weights is not None:  # torch's hub looks into checkpoints/
            (Path(hub) / "checkpoints").symlink_to(weights.resolve())
            torch.hub.set_dir(hub)
        try:
            kind = face_alignment.LandmarksType.TWO_D
            return face_alignment.FaceAlignment(kind, device="cpu", compile=False)
        except OSError as error:
            raise BackendError(
                f"the networks of face-alignment cannot be downloaded ({error}); give a folder "
                f"that holds {' and '.join(_NETWORKS)} by --weights"
            ) from error
        finally:
            torch.hub.set_dir(kept)


def _detect_by_networks(image: UInt8, network: Any) -> list[Points]:
    _check_picture(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is no face
        found = network.get_landmarks_from_image(image)
    return [np.asarray(points, np.float64) for points in found or []]


def _check_picture(image: UInt8) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"faces are sought in uint8 [H,W,3], not {image.dtype} {image.shape}")
