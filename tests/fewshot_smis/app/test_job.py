"""The command that opens a run and serves it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch

from encoders import save_encoder
from fewshot_smis.app.studio import Look
from fewshot_smis.data import Classes
from fewshot_smis.jobs.app import AppJob, find_examples, listening, open_studio, run_app
from fewshot_smis.jobs.base import DEMO, demo_model
from fewshot_smis.labelers import save_labeler
from stylegan import save_generator
from stylegan.errors import BackendError, ConfigError
from tests.fewshot_smis.tiny import tiny_encoder, tiny_labeler, tiny_prior


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of `train`, with tiny networks."""
    prior = tiny_prior(16)
    save_generator(prior, tmp_path / "prior.safetensors")
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "prior.json").write_text(json.dumps({"path": "../prior.safetensors"}))
    save_encoder(tiny_encoder(prior), folder / "encoder.safetensors")
    save_labeler(tiny_labeler(prior), folder / "labeler.safetensors")
    Classes.generic(3).save(folder / "classes.json")
    return folder


def test_a_run_is_opened_with_its_labeler(run: Path) -> None:
    studio = open_studio(run, None, torch.device("cpu"), None)
    assert (studio.model.name, studio.about()["photos"]) == ("train", True)
    assert studio.examples().shape == (0, 256, 256)
    (run / "labeler.safetensors").unlink()
    studio = open_studio(run, None, torch.device("cpu"), None)
    assert studio.about()["photos"] is False
    drawing = studio.draw(studio.check(bytes(256 * 256)), Look())
    assert drawing.pictures.shape == (1, 16, 16, 3)


def test_the_shipped_model_comes_with_examples_and_sees_photographs() -> None:
    studio = open_studio(demo_model(), None, torch.device("cpu"), None)
    about = studio.about()
    assert (about["name"], about["photos"], len(about["examples"])) == ("synthetic faces", True, 12)
    for sparse in ("landmarks", "scribbles"):
        classes = Classes.load(DEMO / "sparse" / sparse / "classes.json")
        assert len(find_examples(classes)) == 12


def test_the_app_serves_a_run_until_it_is_interrupted(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fewshot_smis", "app", "--run", str(run), "--port", "0"]
    options = ["--perceptual", "none", "--device", "cpu", "--runs", str(tmp_path / "runs")]
    app = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    line = app.stdout.readline()
    address = re.match(r"draw at (http://127\.0\.0\.1:\d+/) ", line)[1]
    with urllib.request.urlopen(f"{address}api/models", timeout=60) as answer:
        assert json.load(answer)["first"]["name"] == "train"
    app.send_signal(signal.SIGINT)
    rest, _ = app.communicate(timeout=60)
    assert (app.returncode, rest.split()) == (0, ["served", address])
    assert not (tmp_path / "runs").exists()


def test_a_taken_port_and_missing_packages_are_said_with_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} .* choose another --port"):
            listening("127.0.0.1", port)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[app\]'"):
        run_app(AppJob(), None)
