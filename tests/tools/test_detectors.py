"""The detectors: found faces where they are, large photographs too, and what is missing told."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_smis.data.images import UInt8
from stylegan.errors import BackendError, ConfigError, DataError, ShapeError
from tools import detectors
from tools.detectors import detect, open_detector, packaged_predictor
from tools.landmark_errors import landmark_errors


def test_missing_packages_are_named_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(detectors.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[faces\]'.*--predictor"):
            detect(picture)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(BackendError, match=r"dlib.*pip install 'fewshot-smis\[faces\]'"):
        detect(picture, tmp_path / "other.dat")


def test_only_pictures_are_searched() -> None:
    with pytest.raises(ShapeError, match=r"uint8 \[H,W,3\], not uint8 \(8, 8\)"):
        detect(np.zeros((8, 8), np.uint8))


def test_a_file_that_is_no_predictor_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("dlib", reason="needs dlib-bin (extra `faces`)")
    with pytest.raises(DataError, match=r"none.dat: not a predictor of dlib"):
        detect(np.zeros((8, 8, 3), np.uint8), tmp_path / "none.dat")


def test_a_rendered_face_is_found_where_it_is_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dlib", reason="needs dlib-bin (extra `faces`)")
    pytest.importorskip("numba", reason="needs numba (extra `synth`)")
    try:
        packaged_predictor()
    except BackendError as error:
        pytest.skip(str(error))
    from fewshot_smis.faces.portrait import render_face

    portrait = render_face(1, 0, 160)
    assert detect(np.full((96, 128, 3), 128, np.uint8)) == []
    (found,) = open_detector("dlib")(portrait.img)
    assert landmark_errors(found, portrait.landmarks).mean() < 0.1

    monkeypatch.setattr(detectors, "SEARCHED", 200)
    large = portrait.img.repeat(4, 0).repeat(4, 1)
    (found,) = detect(large)
    assert landmark_errors(found, portrait.landmarks * 4).mean() < 0.1


class Networks:
    """Stands for face-alignment: notes where its networks would be loaded from."""

    def __init__(self, kind: str, *, device: str, compile: bool) -> None:
        hub = Path(torch.hub.get_dir())
        self.files = sorted(path.name for path in (hub / "checkpoints").glob("*"))
        if not self.files:
            raise OSError("no route to host")

    def get_landmarks_from_image(self, image: UInt8) -> list[Any] | None:
        return None if not image.any() else [np.full((68, 2), 3, np.float32)]


@pytest.fixture
def face_alignment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("face_alignment")
    module.FaceAlignment = Networks  # type: ignore[attr-defined]
    module.LandmarksType = types.SimpleNamespace(TWO_D="2d")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "face_alignment", module)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    detectors._face_alignment.cache_clear()


@pytest.mark.usefixtures("face_alignment")
def test_face_alignment_takes_its_networks_from_a_folder(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / detectors._NETWORKS[0]).write_bytes(b"1")
    with pytest.raises(DataError, match="weights: holds no s3fd-619a316812"):
        open_detector("face-alignment", weights=weights)
    (weights / detectors._NETWORKS[1]).write_bytes(b"2")
    before = torch.hub.get_dir()
    finder = open_detector("face-alignment", weights=weights)
    assert torch.hub.get_dir() == before
    assert detectors._face_alignment(weights).files == sorted(detectors._NETWORKS)
    assert finder(np.zeros((8, 9, 3), np.uint8)) == []
    (points,) = finder(np.ones((8, 9, 3), np.uint8))
    assert points.dtype == np.float64
    with pytest.raises(BackendError, match=r"cannot be downloaded \(no route to host.*--weights"):
        open_detector("face-alignment")


def test_unknown_detectors_and_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no detector is named 'eyes'; choose from dlib, face-"):
        open_detector("eyes")
    detectors._face_alignment.cache_clear()
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[faces\]'"):
        open_detector("face-alignment")
