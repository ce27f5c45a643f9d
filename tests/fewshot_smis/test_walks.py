"""Walks: a class grows as a disc would, curves pass their codes, and films are written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from encoders import save_encoder
from fewshot_smis.cli import main
from fewshot_smis.codes import load_codes, save_codes
from fewshot_smis.data import IGNORE, Classes
from fewshot_smis.encoding import encode
from fewshot_smis.prior_figures import seed_codes
from fewshot_smis.synthesis import mix_styles
from fewshot_smis.walks import class_walk, grow_class, layout_walk, style_walk
from stylegan import save_generator
from stylegan.errors import LabelError, ShapeError
from tests.fewshot_smis.tiny import tiny_codes, tiny_encoder, tiny_labels, tiny_prior


@pytest.fixture(scope="module")
def prior():
    return tiny_prior(16)


def distances(mask):
    """Return each pixel's distance from the nearest pixel of the mask, the slow way."""
    places = mask.nonzero().tolist()
    return torch.tensor(
        [
            [min(math.hypot(y - a, x - b) for a, b in places) for x in range(mask.shape[1])]
            for y in range(mask.shape[0])
        ]
    )


@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_a_class_grows_by_a_distance_over_the_classes_named(pixels):
    label = tiny_labels(1, 3, (14, 18))[0]
    label[6, 7:9] = 4
    label[0, 6:12] = IGNORE
    near = distances(label == 4) <= pixels
    grown = grow_class(label, 4, pixels)
    assert torch.equal(grown, torch.where(near & (label != IGNORE), 4, label))
    some = grow_class(label, 4, pixels, over=[1])
    assert torch.equal(some, torch.where(near & (label == 1), 4, label))


def test_a_class_shrinks_and_its_neighbours_fill_in():
    label = tiny_labels(1, 3, (14, 18))[0]
    label[2:12, 3:15] = 5
    small = grow_class(label, 5, -3)
    left = (label == 5) & (distances(label != 5) > 3)
    assert torch.equal(small == 5, left)
    given = (label == 5) & ~left
    assert set(small[given].tolist()) == {0, 1, 2}
    assert torch.equal(small[~given], label[~given])
    assert (small[3:11, 3] == 0).all()  # beside class 0
    assert (grow_class(label, 5, -20) != 5).all()


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(LabelError, match=r"holds no class 7 to grow; it holds \[0, 1, 2\]"):
        grow_class(tiny_labels(1)[0], 7, 2)
    with pytest.raises(LabelError, match="holds nothing but class 1"):
        grow_class(torch.ones(4, 5, dtype=torch.int64), 1, -1)


def test_walks_pass_every_pair_of_layout_and_style(prior):
    layout, style = tiny_codes(prior, 2, seed=1), tiny_codes(prior, 3, seed=2)
    pairs = mix_styles(layout, style, prior, layers="3-", alpha=0.5)  # [2,3,L,D]
    options = {"frames": 4, "layers": "3-", "alpha": 0.5}
    styles = style_walk(layout, style, prior, **options)
    assert styles.shape == (12, 2, 6, 8)
    torch.testing.assert_close(styles[::4].transpose(0, 1), pairs)
    layouts = layout_walk(layout, style, prior, **options, loop=False)
    assert layouts.shape == (5, 3, 6, 8)
    torch.testing.assert_close(layouts[::4], pairs)


def test_a_class_walk_passes_the_codes_of_its_maps(prior):
    encoder = tiny_encoder(prior)
    label = tiny_labels(1, 3, (20, 24))[0]
    walk = class_walk(label, 1, encoder, first=-2, last=4, maps=4, frames=3)
    assert walk.ws.shape == (10, 6, 8)
    for row, size in zip(walk.labels, (-2, 0, 2, 4), strict=True):
        assert torch.equal(row, grow_class(label, 1, size))
    torch.testing.assert_close(walk.ws[::3], encode(walk.labels, encoder))
    with pytest.raises(ShapeError, match="through 1 maps"):
        class_walk(label, 1, encoder, first=0, last=4, maps=1, frames=3)


def call(*args, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


@pytest.fixture(scope="module")
def folder(prior, tmp_path_factory) -> Path:
    """A run of `train` and a map."""
    root = tmp_path_factory.mktemp("walks")
    (root / "train").mkdir()
    save_generator(prior, root / "prior.safetensors")
    save_encoder(tiny_encoder(prior), root / "train" / "encoder.safetensors")
    Classes(("back", "hair", "skin")).save(root / "train" / "classes.json")
    (root / "train" / "prior.json").write_text(json.dumps({"path": "../prior.safetensors"}))
    Image.fromarray(tiny_labels(1)[0].numpy().astype(np.uint8)).save(root / "map.png")
    return root


def test_mix_of_seeds_names_them_and_films(prior, folder: Path, tmp_path: Path) -> None:
    codes = tiny_codes(prior, 1)
    save_codes(tmp_path / "mine.safetensors", codes, ["me"])
    out = tmp_path / "out"
    call(
        *("mix", "--prior", folder / "prior.safetensors", "--layout", "3,5", "--psi", 0.7),
        *("--style", tmp_path / "mine.safetensors", "--layers", "4-", "--out", out),
        *("--film", "layouts", "--frames", 2, "--format", "gif"),
    )
    names, ws = load_codes(out / "codes.safetensors", prior)
    assert names == ["seed3-me", "seed5-me"]
    again = seed_codes([3, 5], prior, truncation_psi=0.7)
    torch.testing.assert_close(ws[:, :4], again[:, :4])
    torch.testing.assert_close(ws[:, 4:], codes[:, 4:].expand(2, -1, -1))
    with Image.open(out / "film.gif") as film:
        assert film.n_frames == 4
        assert film.size == (128, 128)
    result = json.loads((out / "result.json").read_text())
    assert (result["layouts"], result["styles"]) == (["seed 3", "seed 5"], ["me"])


def test_walk_films_a_class_there_and_back(prior, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call(
        *("walk", "--run", folder / "train", "--labels", folder / "map.png", "--first", -0.1),
        *("--last", 0.2, "--maps", 3, "--frames", 2, "--style", "1-2", "--over", "back, 2"),
        *("--format", "gif", "--out", out),
    )
    with Image.open(out / "film.gif") as film:
        assert film.n_frames == 8
        assert film.size == (3 * 128, 128)
    names, _ = load_codes(out / "codes.safetensors", prior)
    assert names == ["map-0", "map-1", "map-2"]
    assert (out / "sheet.png").is_file()


def test_wrong_walks_are_told(folder: Path, tmp_path: Path) -> None:
    walk = ("walk", "--run", folder / "train", "--labels", folder / "map.png", "--runs", tmp_path)
    text = call(*walk, "--grow", "hat", code=2).output
    assert "--grow hat: no such class; choose from back, hair, skin" in text
    text = call("mix", "--prior", folder / "prior.safetensors", "--layout", "no", code=2).output
    assert "write seeds like 0-3,85, or name a file or run that holds codes" in text
