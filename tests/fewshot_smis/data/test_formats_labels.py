"""The `labels` commands: oddities are named, and the commands advised mend them."""

import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fewshot_smis.cli import main
from fewshot_smis.data import Classes, load_label_maps, load_pairs
from fewshot_smis.data.checkup import check_maps
from fewshot_smis.data.remap import compact, fill_holes, make_remap, parse_table, remap_ids, snap
from fewshot_smis.jobs.labels import ranges
from stylegan.errors import LabelError

THREE = Classes(("ground", "sky", "tree"), ((10, 0, 0), (0, 90, 255), (0, 200, 30)))
BANDS = np.repeat(np.array([0, 1, 2], np.uint8), 8)[None].repeat(16, axis=0)  # [16,24]


def call(*args, code=0):
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result.output


def make(folder, *maps, classes=THREE, image=(16, 24), suffix=".png"):
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i, ids in enumerate(maps):
        Image.fromarray(np.asarray(ids, np.uint8)).save(folder / "labels" / f"{i}{suffix}")
        Image.fromarray(np.zeros((*image, 3), np.uint8)).save(folder / "images" / f"{i}.png")
    if classes is not None:
        classes.save(folder / "classes.json")
    return folder


def mends(folder):
    """Return the commands that a checkup advises, as argument lists."""
    found = check_maps(folder)
    return [shlex.split(f.mend)[1:] for f in found.findings if f.mend]


def test_a_sound_folder_has_no_findings(tmp_path):
    folder = make(tmp_path / "a", BANDS, BANDS)
    found = check_maps(folder)
    assert found.findings == []
    assert found.maps[0].pixels == {0: 128, 1: 128, 2: 128}
    output = call("labels", "check", folder)
    assert "24 x 16, picture 24 x 16, grey, ids 0-2, unknown 0.0%" in output
    assert "2 of 2 maps, 33.33% of pixels" in output
    assert "all maps can be used" in output


def blurred(ids, classes):
    return np.array(classes.colors, np.uint8)[ids]


CURED = {
    "0 and 255": (np.where(BANDS == 1, 255, 0), THREE, np.where(BANDS == 1, 1, 0)),
    "an id too many": (np.where(BANDS == 2, 7, BANDS), THREE, np.where(BANDS == 2, 255, BANDS)),
    "colours alone": (blurred(BANDS, THREE), None, np.array([2, 0, 1])[BANDS]),  # by colour
}


@pytest.mark.parametrize("case", CURED)
def test_the_advised_command_mends_what_cannot_be_used(tmp_path, case):
    ids, classes, expected = CURED[case]
    folder = make(tmp_path / "my maps", ids, classes=classes)
    assert "cannot be used" in call("labels", "check", folder, code=1)
    call(*mends(folder)[0])
    mended = tmp_path / "my maps-mended"
    call("labels", "check", mended)
    (pair,) = load_pairs(mended).pairs
    assert pair.label.tolist() == expected.tolist()


def test_a_jpeg_of_colours_is_snapped_to_its_classes(tmp_path):
    folder = make(tmp_path / "a", blurred(BANDS, THREE), suffix=".jpg")
    call(*mends(folder)[0])
    (pair,) = load_pairs(tmp_path / "a-mended").pairs
    assert (pair.label.numpy() == BANDS).mean() > 0.9
    assert (pair.label.numpy() == BANDS)[:, [2, 12, 21]].all()


def test_stray_ids_take_their_neighbours(tmp_path):
    ids = BANDS.copy()
    ids[4, 4], ids[5, 20] = 77, 90
    path = tmp_path / "a.png"
    Image.fromarray(ids).save(path)
    assert snap(path, THREE).tolist() == BANDS.tolist()
    with pytest.raises(LabelError, match="no pixel holds a class id"):
        fill_holes(BANDS.astype(np.int64), np.ones(BANDS.shape, bool))


def test_unused_untaught_and_stray_classes_are_named(tmp_path):
    five = Classes.generic(5)
    taught, late = BANDS.copy(), BANDS.copy()
    taught[0, 0] = 4  # one pixel
    late[:4] = 3
    make(tmp_path / "a" / "train", taught, classes=None)
    make(tmp_path / "a" / "test", late, classes=None)
    Classes.generic(6).save(tmp_path / "a" / "classes.json")
    whats = [f.what for f in check_maps(tmp_path / "a").findings]
    assert whats == [
        "no map shows 5 (class 5): they cannot be learned",
        "train/ never shows 3 (class 3), other folders do: cannot be learned",
        "fewer than 10 pixels in all of 4 (class 4): a slip?",
    ]
    call("labels", "remap", tmp_path / "a", tmp_path / "b", "--compact", "--map", "4=0,3=unknown")
    (pair,) = load_pairs(tmp_path / "b" / "train").pairs
    assert pair.label.tolist() == BANDS.tolist()
    assert load_pairs(tmp_path / "b" / "test").classes.names == five.names[:3]


def test_missing_partners_shapes_and_kinds_are_told(tmp_path):
    folder = make(tmp_path / "a", BANDS, image=(16, 16))
    Image.fromarray(BANDS).save(folder / "labels" / "alone.png")
    found = check_maps(folder).findings
    assert [f.where for f in found if f.grave] == ["alone.png", "0.png"]
    assert "24 x 16, but its picture is 16 x 16" in found[1].what
    marks = np.zeros((40, 40), np.uint8)
    marks[3:5, 4:30], marks[30:32, 4:30] = 1, 2
    folder = make(tmp_path / "marks", marks, image=(40, 40))
    call(*mends(folder)[0])
    assert load_pairs(tmp_path / "marks-mended").classes.sparse


def test_tables_of_ids_and_names():
    ids = np.array([[0, 1], [2, 255]])
    assert remap_ids(ids, make_remap({"1": "2", "2": "1"}, None).table).tolist() == [
        *([0, 2], [1, 255])
    ]
    merged = make_remap(parse_table("sky=ground, tree = plant"), THREE)
    assert merged.classes == Classes(("ground", "plant"), (THREE.colors[0], THREE.colors[2]))
    assert remap_ids(ids, merged.table).tolist() == [[0, 0], [1, 255]]
    dropped = make_remap({"ground": "unknown"}, THREE)
    assert remap_ids(ids, dropped.table).tolist() == [[255, 0], [1, 255]]
    assert make_remap({"5": "tree"}, THREE).table == {5: 2}
    sparse = Classes(("unknown", "eye", "ear"), sparse=True)
    assert compact([2], sparse).classes.names == ("unknown", "ear")
    assert compact([2], sparse).table == {0: 0, 2: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "'1' is not of the form old=new"),
        ("1=2,1=3", "'1' is remapped twice"),
        ("sea=sky", "no class is named 'sea'; there are ground, sky, tree"),
        ("1=9", "id 9, but classes.json names 3 classes"),
        ("1=sea", "no class is named 'sea'; give its id"),
    ],
)
def test_wrong_tables_are_told(text, message):
    with pytest.raises(LabelError, match=message):
        make_remap(parse_table(text), THREE)


def test_remap_by_names_from_a_file_and_wrong_usage(tmp_path):
    folder = make(tmp_path / "a", BANDS)
    table = tmp_path / "table.txt"
    table.write_text("sky=ground\ntree=plant\n")
    call("labels", "remap", folder, tmp_path / "b", "--table", table, "--names", "earth,leaf")
    pairs = load_pairs(tmp_path / "b")
    assert pairs.classes.names == ("earth", "leaf")
    assert pairs.pairs[0].label.tolist() == (BANDS == 2).astype(int).tolist()
    args = ("labels", "remap", folder, tmp_path / "c")
    assert "choose one" in call(*args, "--table", table, "--map", "1=0", code=2)
    assert "2 names for 3 classes" in call(*args, "--names", "a,b", code=1)
    assert not (tmp_path / "c").exists()
    assert "exists; remove it" in call("labels", "remap", folder, tmp_path / "b", code=1)


def test_view_shows_picture_map_and_legend(tmp_path):
    folder = make(tmp_path / "a", BANDS, BANDS)
    output = call("labels", "view", folder, tmp_path / "v.png", "--cell", 32)
    assert "classes  3" in output
    with Image.open(tmp_path / "v.png") as sheet:
        colors = {color for _, color in sheet.getcolors(100_000)}
    assert set(THREE.colors) <= colors
    assert (0, 45, 128) in colors  # sky over a black picture, half and half
    assert "exists" in call("labels", "view", folder, tmp_path / "v.png", code=2)


def test_convert_and_export_go_both_ways(tmp_path):
    folder = make(tmp_path / "a", BANDS)
    call("labels", "export", "--format", "palette", folder, tmp_path / "p")
    images = ("--images", folder / "images")
    output = call(
        "labels", "convert", "--format", "palette", tmp_path / "p", tmp_path / "q", *images
    )
    assert "without a picture" not in output
    pairs = load_pairs(tmp_path / "q")
    assert pairs.classes.colors == THREE.colors
    assert pairs.pairs[0].label.tolist() == BANDS.tolist()
    output = call("labels", "convert", "--format", "palette", tmp_path / "p", tmp_path / "r")
    assert "without a picture" in output
    assert len(load_label_maps(tmp_path / "r")) == 1
    assert json.loads((tmp_path / "r" / "classes.json").read_text())["kind"] == "dense"
    assert "'voc' is not one of" in call("labels", "convert", "x", "y", "--format", "voc", code=2)


def test_ranges_join_neighbours():
    assert ranges([]) == ""
    assert ranges([3, 4, 9]) == "3-4,9"
