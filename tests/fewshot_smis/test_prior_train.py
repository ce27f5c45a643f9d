"""`prior train` from the command line: run directory, resume, transfer and growth."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_smis.data.images import write_image
from fewshot_smis.jobs.prior_train import TrainPriorJob, build_trainer
from stylegan import load_generator, load_snapshot
from stylegan.seeding import numpy_stream, sample_z, stream
from stylegan.training import PriorReport, PriorTrainer
from tests.fewshot_smis.test_cli import call

PARITY = Path(__file__).parent.parent / "parity"
SIZES = ("--widths", "8,8,8", "--latent", "8,8,2")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = numpy_stream(0, "pictures")
    for i in range(6):
        color = random.integers(0, 256, 3, dtype=np.uint8)
        write_image(folder / f"{i}.png", np.broadcast_to(color, (20, 24, 3)).copy())
    return folder


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*.pt"))


def train(pictures: Path, out: Path, *args: Any, kimg: float = 0.012, code: int = 0) -> str:
    common = ("--data", pictures, "--batch", 4, "--snapshot", 0.008, "--out", out)
    return call("prior", "train", *common, "--kimg", kimg, *args, code=code).output


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    train(pictures, out, "--resolution", 16, *SIZES)
    return out


def test_a_checkpoint_opens_as_generator_and_snapshot(trained: Path) -> None:
    file = newest(trained)
    found = load_snapshot(file)
    z = sample_z(2, 8, stream(0, "z"))
    assert torch.equal(found.G_ema(z), load_generator(trained / "generator.safetensors")(z))
    assert found.G is not None
    assert found.D is not None
    assert not torch.equal(found.G(z), found.G_ema(z))
    state = torch.load(file, weights_only=True)
    assert torch.equal(found.D.state_dict()["b4.out.weight"], state["D"]["b4.out.weight"])
    assert "training checkpoint" in call("prior", "info", file).output


def test_a_training_grows_from_a_run(trained: Path, pictures: Path, tmp_path: Path) -> None:
    train(pictures, tmp_path / "same", "--transfer", trained, kimg=0)
    old = load_generator(trained / "generator.safetensors")
    z = sample_z(2, 8, stream(0, "z"))
    assert torch.equal(load_generator(tmp_path / "same" / "generator.safetensors")(z), old(z))

    source = shutil.copytree(trained, tmp_path / "source")
    train(pictures, tmp_path / "grown", "--transfer", source, "--resolution", 32)
    shutil.rmtree(source)  # and goes on without it
    (tmp_path / "grown" / "result.json").unlink()
    call("prior", "train", "--resume", tmp_path / "grown", "--kimg", 0.016)
    assert torch.load(newest(tmp_path / "grown"), weights_only=True)["step"] == 4
    grown = load_snapshot(newest(tmp_path / "grown"))
    assert grown.G_ema.config.channels == {4: 8, 8: 8, 16: 8, 32: 4}
    assert grown.D is not None
    assert grown.D.config.channels == {4: 8, 8: 8, 16: 8, 32: 4}


def test_transfer_between_other_widths_says_which(
    trained: Path, pictures: Path, tmp_path: Path
) -> None:
    text = train(pictures, tmp_path / "x", "--transfer", trained, "--widths", "8,4,8", code=1)
    assert "channels at 8 px 8 (here 4)" in text
    text = train(pictures, tmp_path / "x", "--transfer", trained, "--latent", "8,16,2", code=1)
    assert "w_dim 8 (here 16)" in text
    text = train(pictures, tmp_path / "x", "--transfer", pictures, code=1)
    assert "holds no checkpoint" in text


def test_the_critic_may_have_widths_of_its_own(pictures: Path, tmp_path: Path) -> None:
    args = ("--resolution", 16, "--latent", "8,8,2")
    train(pictures, tmp_path / "a", *args, "--widths", "8,8,8/8,6,4", kimg=0.004)
    found = load_snapshot(next((tmp_path / "a" / "checkpoints").iterdir()))
    assert found.D is not None
    assert found.D.config.channels == {4: 8, 8: 6, 16: 4}
    text = train(pictures, tmp_path / "b", *args, "--widths", "8,8", code=2)
    assert "2 numbers, but 16 px has 3 blocks" in text


def test_augmentation_is_named_on_the_command_line(pictures: Path, tmp_path: Path) -> None:
    args = ("--resolution", 16, *SIZES)
    train(pictures, tmp_path / "ada", *args, "--augment", "ada", kimg=0.008)
    state = torch.load(newest(tmp_path / "ada"), weights_only=True)["critic"]
    assert state["strength"]["steps"] == 2
    train(pictures, tmp_path / "fixed", *args, "--augment", "0.3", kimg=0.004)
    assert torch.load(newest(tmp_path / "fixed"), weights_only=True)["critic"]["p"] == 0.3
    for text in ("much", "1.5", "ada,0.3"):
        assert "--augment" in train(pictures, tmp_path / "x", *args, "--augment", text, code=2)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_weights_of_one_never_stopped(
    pictures: Path, tmp_path: Path
) -> None:
    args = ("--resolution", 16, *SIZES, "--augment", "ada")
    train(pictures, tmp_path / "whole", *args, kimg=0.16)
    parts = tmp_path / "parts"
    start = ["--data", pictures, "--batch", 4, "--snapshot", 0.008, "--out", parts, *args]
    moment = random.Random(0)
    for arguments in (start, ["--resume", parts], ["--resume", parts]):
        before = newest(parts).name if parts.exists() else ""
        command = [sys.executable, "-m", "fewshot_smis", "prior", "train", *arguments]
        with subprocess.Popen([*map(str, command), "--kimg", "0.16"]) as process:
            while not any(p.name > before for p in parts.glob("checkpoints/*.pt")):
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(moment.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
        assert not (parts / "result.json").exists()
    call("prior", "train", "--resume", parts, "--kimg", 0.16)
    whole, resumed = (
        torch.load(newest(run), weights_only=True) for run in (tmp_path / "whole", parts)
    )
    for part in ("G", "G_ema", "D"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), f"{part}.{name}"
    assert resumed["critic"]["strength"] == whole["critic"]["strength"]


def test_flips_labels_and_shapes_come_from_the_data(pictures: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    shutil.copytree(pictures, labelled)
    rows = [[file.name, i % 3] for i, file in enumerate(sorted(labelled.iterdir()))]
    (labelled / "dataset.json").write_text(json.dumps({"labels": rows}))
    size = {"resolution": "16x24", "widths": "8,8,8", "latent": "8,8,2", "batch": 4}
    job = TrainPriorJob(data=str(labelled), augment="flip", **size)
    trainer = build_trainer(job, torch.device("cpu"))
    assert len(trainer.images) == 12
    assert (trainer.G.c_dim, trainer.D.c_dim) == (3, 3)
    assert trainer.G.config.img_size == (16, 24)
    real, c = trainer._real()
    assert real.shape == (4, 3, 16, 24)
    assert c is not None
    assert c.sum(dim=1).tolist() == [1, 1, 1, 1]
    train(labelled, tmp_path / "run", "--resolution", "16x24", *SIZES, kimg=0.008)
    grown = tmp_path / "grown"
    train(labelled, grown, "--transfer", tmp_path / "run", "--resolution", "32x48", kimg=0.008)
    assert load_generator(newest(grown)).config.img_size == (32, 48)
    with Image.open(next((grown / "samples").iterdir())) as sheet:
        assert sheet.width > 8 * 48


def test_a_published_conditional_network_goes_on_with_its_discriminator(
    pictures: Path, tmp_path: Path
) -> None:
    source = PARITY / "pickles" / "ada_32px_tiny.pkl"
    text = train(pictures, tmp_path / "x", "--transfer", source, code=1)
    assert "labels of width 0" in text
    assert "conditions of width 3" in text
    labelled = shutil.copytree(pictures, tmp_path / "labelled")
    rows = {"labels": [[file.name, i % 3] for i, file in enumerate(sorted(labelled.iterdir()))]}
    (labelled / "dataset.json").write_text(json.dumps(rows))
    train(labelled, tmp_path / "run", "--transfer", source, kimg=0)
    given, found = load_snapshot(source), load_snapshot(newest(tmp_path / "run"))
    for old, new in zip(given, found, strict=True):
        assert old is not None
        assert new is not None
        assert old.config == new.config
        for name, value in old.state_dict().items():
            assert torch.equal(new.state_dict()[name], value), name
    train(labelled, tmp_path / "on", "--transfer", source, kimg=0.008)


def test_an_unconditional_network_leaves_labels_alone(trained: Path, pictures: Path) -> None:
    job = TrainPriorJob(data=str(pictures), transfer=trained)
    assert build_trainer(job, torch.device("cpu")).G.c_dim == 0


def test_divergence_names_the_step_and_keeps_the_last_good_snapshot(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = PriorTrainer.step

    def poisoned(trainer: PriorTrainer) -> PriorReport:
        report = step(trainer)
        if report.step == 3:
            with torch.no_grad():
                trainer.G.synthesis.b16.torgb.bias.fill_(torch.nan)
        return report

    monkeypatch.setattr(PriorTrainer, "step", poisoned)
    args = ("--resolution", 16, *SIZES)
    for every, kept in ((0.004, 2), (0.008, 2)):  # found by the snapshot, by the next loss
        run = tmp_path / str(every)
        text = train(pictures, run, *args, "--snapshot", every, kimg=0.02, code=1)
        assert f"not finite at step {3 if every == 0.004 else 4}" in text
        state = torch.load(newest(run), weights_only=True)
        assert state["step"] == kept
        assert all(value.isfinite().all() for value in state["G"].values())
        assert load_generator(run / "generator.safetensors").img_resolution == 16


def test_curves_are_written_where_tensorboard_is_and_missed_where_not(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("--resolution", 16, *SIZES)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        train(pictures, tmp_path / "without", *args, kimg=0.004)
    assert "pip install 'fewshot-smis[train]'" in (tmp_path / "without" / "log.txt").read_text()
    pytest.importorskip("tensorboard", reason="the extra train is not installed")
    train(pictures, tmp_path / "with", *args, kimg=0.08)
    (events,) = (tmp_path / "with" / "tensorboard").iterdir()
    written = events.read_bytes()
    for name in (b"img_per_s", b"kimg", b"samples", b"path"):
        assert name in written
