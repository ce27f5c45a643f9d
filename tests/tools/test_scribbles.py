"""Drawings become folders of sparse pairs by command; what is missing is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fewshot_smis.data import Classes, load_label_maps, load_pairs, write_image
from tools.scribbles import main

DRAWING = {
    "size": [40, 20],
    "strokes": [{"class": "ear", "width": 4, "points": [[5, 10], [35, 10]]}],
}


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    folder = tmp_path / "drawings"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(DRAWING))
    Classes(("ground", "ear"), ((0, 0, 0), (255, 0, 0))).save(folder / "classes.json")
    return folder


def test_json_drawings_become_maps_of_any_size(drawings: Path, tmp_path: Path) -> None:
    result = call("json", drawings, "--out", tmp_path / "maps")
    assert "1 maps" in result.output
    assert "fewshot-smis labels view" in result.output
    classes = Classes.load(tmp_path / "maps" / "classes.json")
    assert classes.names == ("unknown", "ear", "ground")  # the classes were dense
    assert classes.sparse
    ((name, label),) = load_label_maps(tmp_path / "maps")
    assert (name, label.shape) == ("a", (20, 40))
    assert (label[8:12, 5:35] == 1).all()
    call("json", drawings, "--out", tmp_path / "large", "--size", "40x80")
    ((_, large),) = load_label_maps(tmp_path / "large")
    assert large.shape == (40, 80)
    assert (large[16:24, 10:70] == 1).all()
    assert (
        "'4x' is not a size" in call("json", drawings, "--out", "x", "--size", "4x", code=2).output
    )


def test_with_photographs_drawings_become_pairs(drawings: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_image(photos / "a.jpg", np.full((30, 60, 3), 90, np.uint8))
    call("json", drawings / "a.json", "--images", photos, "--out", tmp_path / "pairs")
    (pair,) = load_pairs(tmp_path / "pairs").pairs
    assert pair.image.shape == (3, 30, 60)
    assert pair.label.shape == (30, 60)
    (photos / "a.jpg").rename(photos / "b.jpg")
    result = call("json", drawings, "--images", photos, "--out", tmp_path / "x", code=1)
    assert "no photograph is named 'a'" in result.output
    assert not (tmp_path / "x").exists()


def test_svg_drawings_become_maps(drawings: Path, tmp_path: Path) -> None:
    pytest.importorskip("svgelements", reason="needs svgelements (extra `scribbles`)")
    (drawings / "b.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20">'
        '<path id="ear" d="M 5 10 H 35" stroke="lime" stroke-width="4"/></svg>'
    )
    call("svg", drawings, "--out", tmp_path / "maps", "--size", "20x40")
    ((name, label),) = load_label_maps(tmp_path / "maps")
    assert name == "b"
    assert (label[8:12, 5:35] == 1).all()


def test_layers_of_a_folder_become_one_map(drawings: Path, tmp_path: Path) -> None:
    cat = drawings / "cat"
    cat.mkdir()
    layer = np.zeros((20, 30, 4), np.uint8)
    layer[5:9, 5:20] = 10, 200, 30, 255
    Image.fromarray(layer).save(cat / "ear.png")
    call("layers", cat, "--classes", drawings / "classes.json", "--out", tmp_path / "maps")
    ((name, label),) = load_label_maps(tmp_path / "maps")
    assert name == "cat"
    np.testing.assert_array_equal(label.numpy() == 1, layer[..., 3] > 0)


def test_dense_pairs_become_sparse_pairs(tmp_path: Path) -> None:
    dense, out = tmp_path / "dense", tmp_path / "pairs"
    for name in ("images", "labels"):
        (dense / name).mkdir(parents=True)
    label = np.zeros((40, 60), np.uint8)
    label[10:30, 10:30] = 1
    write_image(dense / "labels" / "a.png", label)
    write_image(dense / "images" / "a.png", np.full((40, 60, 3), 9, np.uint8))
    call("simulate", dense, "--out", out, "--width", 2, "--seed", 1)
    pairs = load_pairs(out)
    assert pairs.classes.sparse
    assert pairs.classes.num_classes == 3
    marks = pairs.pairs[0].label.numpy()
    assert (label[marks == 1] == 1).all()
    assert (label[marks == 2] == 0).all()
    assert "are sparse already" in call("simulate", out, "--out", tmp_path / "x", code=1).output
    assert "exists; remove it" in call("simulate", dense, "--out", out, code=1).output


def test_what_a_drawing_lacks_is_told(drawings: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "no .svg drawings" in call("svg", drawings, *out, code=1).output
    (drawings / "classes.json").rename(tmp_path / "elsewhere.json")
    assert "no classes.json says" in call("json", drawings, *out, code=1).output
    empty = DRAWING | {"strokes": []}
    (drawings / "a.json").write_text(json.dumps(empty))
    classes = ("--classes", tmp_path / "elsewhere.json")
    assert "a: no stroke lies in the map" in call("json", drawings, *classes, *out, code=1).output
    assert not (tmp_path / "out").exists()
