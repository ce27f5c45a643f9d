"""`prior evaluate` from a folder of pictures to its tables and sheets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fewshot_smis.cli import main
from fewshot_smis.data.images import to_uint8, write_image
from stylegan import Generator, GeneratorConfig, save_generator
from stylegan.seeding import sample_z, stream
from tests.fewshot_smis.tiny import tiny_prior

COUNT = 40
SIZE = 32


def call(*args: Any, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["prior", "evaluate", *map(str, args)])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result.output


def evaluate(out: Path, *args: Any) -> dict[str, Any]:
    call("--out", out, *args)
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_generator(tiny_prior(SIZE), path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise, dark or bright, with that as their attribute."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    gen = np.random.default_rng(0)
    table = {}
    for i in range(COUNT):
        bright = bool(gen.integers(2))
        picture = gen.integers(0, 100, (SIZE, SIZE, 3)) + 150 * bright
        Image.fromarray(picture.astype(np.uint8)).save(folder / "images" / f"{i:03d}.png")
        table[f"{i:03d}"] = {"bright": bright, "chance": float(gen.random()), "hair": "none"}
    (folder / "attributes.json").write_text(json.dumps(table))
    return folder


def test_every_measure_from_one_command_twice_the_same(
    prior_file: Path, data: Path, tmp_path: Path
) -> None:
    args = ("--prior", prior_file, "--data", data, "--path-samples", 3, "--class-samples", 60)
    args += ("--batch", 16, "--neighbours", 2)
    result = evaluate(tmp_path / "a", *args)
    assert result["samples"] == result["pictures"] == COUNT
    assert result["frechet_distance_lite0"] > 0
    assert 0 <= result["precision"] <= 1
    assert all(
        result[f"path_length_{space}_{where}_lite0"] > 0
        for space in "zw"
        for where in ("full", "end")
    )
    assert result["separability_z"] >= 1
    bright, chance = result["attributes"]
    assert bright["accuracy"] == 1
    assert bright["entropy_w"] <= np.log(2)
    assert "entropy_w" not in chance  # which no head can read
    report = (tmp_path / "a" / "report.md").read_text()
    assert f"| frechet distance lite0 | {result['frechet_distance_lite0']} |" in report
    assert "| chance |" in report
    for name in ("samples.png", "neighbours.png", "attributes.png"):
        with Image.open(tmp_path / "a" / name) as sheet:
            assert min(sheet.size) > 128
    again = evaluate(tmp_path / "b", *args, "--metrics", "kd,ppl")
    assert len(again) == 12
    assert all(result[name] == value for name, value in again.items())


def test_a_prior_that_draws_the_pictures_themselves_is_found_out(
    prior_file: Path, tmp_path: Path
) -> None:
    prior = tiny_prior(SIZE)
    z = sample_z(12, prior.z_dim, stream(0, "prior/score"))
    (tmp_path / "images").mkdir()
    for i, picture in enumerate(to_uint8(prior(z))):
        write_image(tmp_path / "images" / f"{i:02d}.png", picture)
    result = evaluate(
        *(tmp_path / "run", "--prior", prior_file, "--data", tmp_path, "--metrics", "fd,pr,nn"),
    )
    assert abs(result["frechet_distance_lite0"]) < 1e-3
    assert (result["precision"], result["recall"], result["coverage"]) == (1, 1, 1)
    assert result["nearest_picture_smallest_ratio"] < 1e-3
    assert result["nearest_picture_lite0_among_pictures"] > 0


def test_priors_need_not_be_square(data: Path, tmp_path: Path) -> None:
    config = GeneratorConfig(
        img_resolution=SIZE,
        base=(4, 6),
        z_dim=4,
        w_dim=8,
        mapping_layers=1,
        channels=dict.fromkeys((4, 8, 16, 32), 8),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_generator(Generator(config), tmp_path / "wide.safetensors")
    result = evaluate(
        *(tmp_path / "run", "--prior", tmp_path / "wide.safetensors", "--data", data),
        *("--metrics", "fd,ppl,nn", "--path-samples", 2, "--samples", 10),
    )
    assert result["size"] == "32 x 48"
    assert result["path_length_w_end_lite0"] > 0


def test_conditional_priors_draw_their_classes_in_turn(data: Path, tmp_path: Path) -> None:
    config = GeneratorConfig(
        img_resolution=SIZE,
        z_dim=4,
        w_dim=8,
        c_dim=3,
        mapping_layers=1,
        channels=dict.fromkeys((4, 8, 16, 32), 8),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_generator(Generator(config), tmp_path / "c.safetensors")
    args = ("--prior", tmp_path / "c.safetensors", "--data", data, "--path-samples", 5)
    args += ("--class-samples", 40, "--samples", 10)
    small = evaluate(tmp_path / "a", *args, "--batch", 4)
    large = evaluate(tmp_path / "b", *args, "--batch", 32)
    for name in ("frechet_distance_lite0", "path_length_w_full_lite0"):
        assert small[name] == pytest.approx(large[name], rel=1e-2)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--metrics", "fd,fid"), 2, "'fid' is unknown; choose from fd,kd,pr,ppl,ls,nn"),
        (("--metrics", "ppl,fd"), 2, "--data is missing: all measures but ppl"),
        (("--data", "few", "--metrics", "fd"), 1, "3 pictures; give at least 8"),
        (("--data", "bare", "--metrics", "ls"), 1, "holds no attributes.json"),
        (("--data", "bare", "--metrics", "fd", "--space", "inception"), 2, "--weights"),
    ],
)
def test_what_is_missing_is_told(
    args: tuple[str, ...],
    code: int,
    message: str,
    prior_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, count in (("few", 3), ("bare", 8)):
        (tmp_path / name).mkdir()
        for i in range(count):
            write_image(tmp_path / name / f"{i}.png", np.zeros((SIZE, SIZE, 3), np.uint8))
    text = call("--prior", prior_file, *args, code=code)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
