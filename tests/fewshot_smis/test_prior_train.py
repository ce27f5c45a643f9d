"""`prior train` from the command line: run directory, resume, transfer and growth."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_smis.data.images import write_image
from stylegan import load_generator, load_snapshot
from stylegan.seeding import numpy_stream, sample_z, stream
from tests.fewshot_smis.test_cli import call

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

    train(pictures, tmp_path / "grown", "--transfer", trained, "--resolution", 32)
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
