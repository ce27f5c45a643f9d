import json

import pytest

from fewshot_smis.data.classes import Classes, generic_colors
from stylegan.errors import DataError, LabelError


def test_save_and_load(tmp_path):
    classes = Classes(("sky", "sea"), ((0, 0, 0), (1, 2, 250)), sparse=True)
    classes.save(tmp_path / "classes.json")
    assert Classes.load(tmp_path / "classes.json") == classes
    assert json.loads((tmp_path / "classes.json").read_text())["kind"] == "sparse"


@pytest.mark.parametrize(
    "value",
    [
        ["sky", "sea"],
        {"classes": ["sky", {"name": "sea"}]},
        {"kind": "dense", "classes": [{"name": "sky"}, {"name": "sea"}]},
    ],
)
def test_short_forms(tmp_path, value):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(value))
    assert Classes.load(path) == Classes(("sky", "sea"), generic_colors(2), sparse=False)


def test_hex_colours(tmp_path):
    path = tmp_path / "classes.json"
    entries = [{"name": "a", "color": "#0102ff"}, {"name": "b", "color": [9, 8, 7]}]
    path.write_text(json.dumps({"classes": entries}))
    assert Classes.load(path).colors == ((1, 2, 255), (9, 8, 7))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"class": ["a", "b"]}, "should hold"),
        ({"classes": ["a", "b"], "knd": "dense"}, "unknown key 'knd': did you mean 'kind'"),
        ({"classes": ["a", "b"], "zzz": 1}, "it may hold kind, classes"),
        ({"classes": ["a", "b"], "kind": "few"}, "\"kind\" is 'few'"),
        ({"classes": ["a"]}, "1 classes: there have to be 2 to 255"),
        ({"classes": ["a", "a"]}, "two classes have the name a"),
        ({"classes": ["a", 3]}, "class 1 should be a name"),
        ({"classes": [{"name": "a", "colour": [0, 0, 0]}, "b"]}, "did you mean 'color'"),
        ({"classes": [{"name": "a", "color": [0, 0, 0]}, "b"]}, "class 'b' has no colour"),
        ({"classes": [{"name": "a", "color": "#00zz00"}, "b"]}, "class 0: the colour '#00zz00'"),
        ({"classes": [{"name": "a", "color": [0, 0]}, "b"]}, "class 0: the colour"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, value, message):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(value))
    with pytest.raises(LabelError, match=message) as caught:
        Classes.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Classes.load(tmp_path / "classes.json")


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        (("a", "b"), ((0, 0, 0),), "2 class names but 1 colours"),
        (("a", "b"), ((0, 0, 0), (0, 0, 0)), r"the colour \(0, 0, 0\)"),
        (("a", "b"), ((0, 0, 0), (0, 0, 256)), r"\[0, 255\]"),
    ],
)
def test_faults_of_the_arguments(names, colors, message):
    with pytest.raises(LabelError, match=message):
        Classes(names, colors)


def test_generic_colours_differ_for_every_number():
    colors = generic_colors(255)
    assert len(set(colors)) == 255
    assert colors[0] == (0, 0, 0)
    assert (128, 128, 128) not in colors
    assert generic_colors(7) == colors[:7]


def test_generic_classes():
    assert Classes.generic(71, sparse=True).num_classes == 71
    assert Classes.generic(2).names == ("class 0", "class 1")
    assert not Classes.generic(2).sparse


def test_celebamask_has_its_nineteen_classes():
    classes = Classes.CELEBAMASK
    assert classes.num_classes == 19
    assert (classes.names[1], classes.colors[1]) == ("skin", (204, 0, 0))
    assert (classes.names[13], classes.colors[13]) == ("hair", (0, 0, 204))
    assert (classes.names[18], classes.colors[18]) == ("cloth", (0, 204, 0))
