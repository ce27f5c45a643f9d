"""The named spaces: what they see, and what they ask for when something is missing."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fewshot_smis.metrics.features import load_space
from stylegan.errors import BackendError, CheckpointError, ConfigError

CPU = torch.device("cpu")


class FakeInception(nn.Module):
    """Stands for torch-fidelity's network: checks its input and answers with its pixels."""

    def __init__(self, name: str, features: list[str], *, feature_extractor_weights_path: str):
        super().__init__()
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if x.dtype != torch.uint8:
            raise TypeError(x.dtype)
        return (x.flatten(1).float(),)


@pytest.fixture
def inception(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = SimpleNamespace(FeatureExtractorInceptionV3=FakeInception)
    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)


def test_lite0_features_do_not_depend_on_the_batch():
    images = torch.rand(3, 3, 40, 32) * 2 - 1
    space = load_space("lite0", None, CPU)
    whole, parts = space(images), torch.cat([space(images[:2]), space(images[2:])])
    assert whole.shape == (3, 320)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_inception_sees_eight_bits(inception: None, tmp_path: Path):
    torch.save({}, tmp_path / "w.pth")
    space = load_space("inception", tmp_path / "w.pth", CPU)
    values = torch.tensor([-1.2, -1.0, 0.0, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert space(values)[0, :4].tolist() == [0, 0, 128, 255]


def test_weights_of_something_else_are_refused(inception: None, tmp_path: Path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="not the weights of Inception v3"):
        load_space("inception", tmp_path / "w.pth", CPU)


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="choose one of lite0, inception"):
        load_space("clip", None, CPU)
    with pytest.raises(ConfigError, match="--weights"):
        load_space("inception", None, CPU)
    torch.save({}, tmp_path / "w.pth")
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(BackendError, match=r"fewshot-smis\[inception\]"):
        load_space("inception", tmp_path / "w.pth", CPU)
