"""The demo's shipped files fit each other, and its page shows what it names."""

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from encoders import load_encoder
from fewshot_smis.cli import main
from fewshot_smis.data import Classes, load_label_maps, load_pairs
from fewshot_smis.jobs.base import DEMO, demo_model, demo_prior, labeler_of
from fewshot_smis.jobs.demo import PARTS
from fewshot_smis.labelers import label_samples, load_labeler
from fewshot_smis.runs import sha256
from stylegan import load_generator


def test_shipped_pairs_maps_and_models_fit_each_other() -> None:
    prior = load_generator(demo_prior())
    encoder = load_encoder(demo_model() / "encoder.safetensors")
    assert (encoder.num_ws, encoder.w_dim) == (prior.num_ws, prior.w_dim)
    classes = Classes.load(demo_model() / "classes.json")
    assert classes.num_classes == encoder.in_channels == 19
    for part in PARTS:
        pairs = load_pairs(part.pairs)
        assert len(pairs.pairs) == 5
        maps = load_label_maps(part.maps, pairs.classes)
        assert len(maps) == 12
        assert pairs.classes.sparse == (part.name == "landmarks")
    assert len(load_pairs(DEMO / "sparse" / "scribbles").pairs) == 5


def test_the_shipped_model_was_trained_on_the_shipped_prior() -> None:
    record = json.loads((demo_model() / "prior.json").read_text())
    assert demo_model() / record["path"] == demo_model() / ".." / demo_prior().name
    assert record["sha256"] == sha256(demo_prior())
    prior = load_generator(demo_prior())
    labeler = load_labeler(labeler_of(demo_model(), None))
    assert labeler.classes == Classes.load(demo_model() / "classes.json")
    ws = prior.mapping(torch.zeros(1, prior.z_dim))
    assert len(label_samples(labeler, prior, ws).unique()) > 5  # it sees a face


def test_shipped_prior_is_small_and_draws_in_range() -> None:
    assert demo_prior().stat().st_size < 12_000_000
    prior = load_generator(demo_prior())
    z = torch.randn(8, prior.z_dim, generator=torch.Generator().manual_seed(0))
    img = prior(z)
    assert torch.isfinite(img).all()
    assert (img.abs() <= 1.5).float().mean() > 0.99
    assert img.std(dim=0).mean() > 0.1  # samples differ


def test_demo_writes_a_page_whose_pictures_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"
    args = ["demo", "--steps", "4", "--batch", "2", "--inversion-steps", "3", "--out", str(out)]
    result = CliRunner().invoke(main, args, catch_exceptions=False)
    assert result.exit_code == 0
    assert str(out / "index.html") in result.output
    page = (out / "index.html").read_text()
    sources = re.findall(r"src='([^']+)'", page)
    assert len(sources) == 10
    for source in sources:
        assert (out / source).is_file(), source
    assert "nan" not in page.lower().replace("landmarks", "")
