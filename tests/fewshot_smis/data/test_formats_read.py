"""Formats are read from tiny files against maps written down by hand, and come back the same."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from fewshot_smis.data import IGNORE, Classes, load_pairs
from fewshot_smis.data.formats import FORMATS, LabelSet, Request, Shot, write_pairs
from fewshot_smis.data.formats.ade20k import NAMES as ADE_NAMES
from fewshot_smis.data.formats.celebamask import PARTS
from fewshot_smis.data.formats.cityscapes import COLORS, IDS, cityscapes_classes
from fewshot_smis.data.formats.cocostuff import NAMES as COCO_NAMES
from stylegan.errors import DataError, LabelError

PHOTO = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path)
    return path


def read(name, source, **options):
    found = FORMATS[name].read(Request(source, **options))
    return found.classes, list(found.shots)


def back_and_forth(name, classes, label, folder, stem="7"):
    """Write a map with a picture in a format, read it again, and return classes and map."""
    picture = np.zeros((*label.shape, 3), np.uint8)
    written = FORMATS[name].write(folder, LabelSet(classes, [Shot(stem, label, picture)]))
    assert written == 1
    found, (shot,) = read(name, folder)
    assert shot.name == stem
    return found, shot.label


def test_celebamask_parts_become_one_map_and_the_later_wins(tmp_path):
    skin, hair = np.zeros((4, 6)), np.zeros((4, 6))
    skin[1:], hair[:2] = 255, 255
    save(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00007_skin.png", skin, "RGB")
    save(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / "00007_hair.png", hair)
    photo = save(tmp_path / "CelebA-HQ-img" / "7.jpg", PHOTO)
    classes, (shot,) = read("celebamask", tmp_path)
    assert classes == Classes.CELEBAMASK
    assert (shot.name, shot.image) == ("7", photo)
    assert shot.label[:, 0].tolist() == [13, 13, 1, 1]
    assert [classes.names[13], classes.names[1], PARTS[12]] == ["hair", "skin", "hair"]


def test_celebamask_refuses_a_part_it_does_not_know(tmp_path):
    save(tmp_path / "00007_tail.png", np.zeros((4, 6)))
    with pytest.raises(LabelError, match=r"00007_tail.png: no part is called 'tail'"):
        read("celebamask", tmp_path)


def test_cityscapes_ids_and_colours_read_alike(tmp_path):
    rgb = {23: (70, 130, 180), 24: (220, 20, 60), 17: (153, 153, 153), 0: (0, 0, 0)}
    ids = np.array([[23, 24, 17], [0, 23, 18]])
    colors = np.array([[rgb[{18: 17}.get(int(i), int(i))] for i in row] for row in ids])
    stem = "aachen_000000_000019"
    save(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", ids)
    save(tmp_path / "gtFine" / f"{stem}_gtFine_color.png", colors, "RGBA")
    photo = save(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", PHOTO)
    classes, (by_id,) = read("cityscapes", tmp_path)
    _, (by_color,) = read("cityscapes-color", tmp_path)
    names = classes.names
    sky, person, pole = (names.index(n) for n in ("sky", "person", "pole"))
    assert by_id.label.tolist() == [[sky, person, pole], [IGNORE, sky, pole]]
    assert by_color.label.tolist() == by_id.label.tolist()
    assert (by_id.name, by_id.image, by_color.image) == (stem, photo, photo)
    assert len(IDS) == len(COLORS) == classes.num_classes == 28


def test_cityscapes_refuses_ids_that_are_none(tmp_path):
    save(tmp_path / "a_labelIds.png", np.full((2, 3), 40))
    with pytest.raises(LabelError, match=r"a_labelIds.png: 6 pixels are no label of Cityscapes"):
        read("cityscapes", tmp_path)


def test_ade20k_full_decodes_red_and_green(tmp_path):
    ids = np.array([[0, 300, 2978], [300, 300, 2978]])
    rgb = np.stack([ids // 256 * 10, ids % 256, np.arange(6).reshape(2, 3)], axis=2)
    save(tmp_path / "a_seg.png", rgb)
    save(tmp_path / "a.jpg", PHOTO)
    described = {"annotation": {"object": [{"name_ndx": 2978, "name": "wall, party wall"}]}}
    (tmp_path / "a.json").write_text(json.dumps(described))
    classes, (shot,) = read("ade20k-full", tmp_path)
    assert classes.names == ("class 300", "wall")
    assert shot.label.tolist() == [[IGNORE, 0, 1], [0, 0, 1]]
    assert shot.image == tmp_path / "a.jpg"


def test_ade20k_names_stand_at_their_ids(tmp_path):
    assert [ADE_NAMES[i - 1] for i in (1, 3, 10, 13, 62, 86, 128, 150)] == [
        *("wall", "sky", "grass", "person", "bridge", "chandelier", "bicycle", "flag")
    ]
    save(tmp_path / "annotations" / "training" / "x.png", np.array([[0, 150, 3]]))
    photo = save(tmp_path / "images" / "training" / "x.jpg", PHOTO)
    classes, (shot,) = read("ade20k", tmp_path)
    assert (classes.num_classes, shot.label.tolist(), shot.image) == (151, [[0, 150, 3]], photo)
    save(tmp_path / "annotations" / "training" / "x.png", np.array([[0, 151, 3]]))
    with pytest.raises(LabelError, match="use --format ade20k-full"):
        read("ade20k", tmp_path)


def test_cocostuff_names_stand_one_below_their_ids(tmp_path):
    assert [COCO_NAMES[i - 1] for i in (1, 17, 91, 92, 157, 182)] == [
        *("person", "cat", "hair brush", "banner", "sky-other", "wood")
    ]
    assert len(COCO_NAMES) == 182
    save(tmp_path / "x.png", np.array([[0, 181, 255]]))
    _, (shot,) = read("cocostuff", tmp_path)
    assert shot.label.tolist() == [[0, 181, IGNORE]]


def drawing(*shapes, width=12, height=8, **more):
    keys = ("label", "shape_type", "points")
    listed = [dict(zip(keys, shape, strict=True)) for shape in shapes]
    return {"shapes": listed, "imageWidth": width, "imageHeight": height, **more}


def test_labelme_areas_are_dense_and_the_later_lies_above(tmp_path):
    boxes = (
        ("sea", "rectangle", [[0, 4], [11, 7]]),
        ("boat", "polygon", [[2, 3], [5, 3], [5, 5], [2, 5]]),
        ("__ignore__", "rectangle", [[0, 0], [0, 0]]),
    )
    (tmp_path / "a.json").write_text(json.dumps(drawing(*boxes, imagePath="a.png")))
    photo = save(tmp_path / "a.png", PHOTO)
    classes, (shot,) = read("labelme", tmp_path)
    assert (classes.names, classes.sparse) == (("background", "boat", "sea"), False)
    expected = np.zeros((8, 12), np.int64)
    expected[4:, :] = 2
    expected[3:6, 2:6] = 1
    expected[0, 0] = IGNORE
    assert shot.label.tolist() == expected.tolist()
    assert shot.image == photo


def test_labelme_lines_and_points_are_sparse_and_hard_edged(tmp_path):
    content = io.BytesIO()
    Image.fromarray(PHOTO).save(content, format="PNG")
    marks = (("eye", "point", [[3, 4]]), ("mouth", "linestrip", [[2, 20], [30, 20]]))
    more = {"imageData": base64.b64encode(content.getvalue()).decode()}
    (tmp_path / "a.json").write_text(json.dumps(drawing(*marks, width=40, height=30, **more)))
    classes, (shot,) = read("labelme", tmp_path, stroke=0.1)
    assert (classes.names, classes.sparse) == (("unknown", "eye", "mouth"), True)
    assert set(np.unique(shot.label)) == {0, 1, 2}
    assert (shot.label[:, 15] == 2).sum() == 3  # a tenth of 30 pixels
    assert shot.label[4, 3] == 1
    assert (shot.image == PHOTO).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, 'it has no "shapes"'),
        (drawing(("a", "polygon", [])), "shape 0 lacks a label or points"),
        (drawing(("a", "spiral", [[0, 0]])), "shape 0 is a 'spiral'"),
        (drawing(("a", "polygon", [[0, 0], [1, 1]])), "a polygon of 2 points"),
        (drawing(("__ignore__", "point", [[0, 0]])), "no shape has a label"),
    ],
)
def test_labelme_says_what_is_wrong(tmp_path, content, message):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read("labelme", tmp_path)


def test_palette_gives_the_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 2, 255], [1, 1, 2]], np.uint8))
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0] + [0] * 759)
    image.save(tmp_path / "a.png")
    classes, (shot,) = read("palette", tmp_path)
    assert classes.colors == ((9, 9, 9), (200, 0, 0), (0, 200, 0))
    assert shot.label.tolist() == [[0, 2, IGNORE], [1, 1, 2]]


def test_each_plain_colour_is_a_class_over_all_maps(tmp_path):
    save(tmp_path / "a.png", np.array([[[0, 0, 0], [255, 0, 0]]]))
    save(tmp_path / "b.png", np.array([[[0, 0, 255], [255, 0, 0]]]))
    classes, (a, b) = read("palette", tmp_path)
    assert classes.colors == ((0, 0, 0), (0, 0, 255), (255, 0, 0))
    assert (a.label.tolist(), b.label.tolist()) == ([[0, 2]], [[1, 2]])
    save(tmp_path / "c.png", np.arange(300).reshape(10, 10, 3) % 256)
    with pytest.raises(LabelError, match="the maps were smoothed or resized"):
        read("palette", tmp_path)


def test_binary_takes_soft_edges_and_refuses_ids(tmp_path):
    save(tmp_path / "a.png", np.array([[0] * 12 + [120, 140] + [255] * 12]))
    _, (shot,) = read("binary", tmp_path)
    assert shot.label.tolist() == [[0] * 13 + [1] * 13]
    save(tmp_path / "a.png", np.array([[0, 1, 2]]))
    with pytest.raises(LabelError, match="use --format rgb-grey"):
        read("binary", tmp_path)


DENSE = np.array([[0, 1, 2, 2], [1, 0, 0, 255], [2, 1, 1, 0]])
THREE = Classes(("ground", "sky", "tree"), ((10, 0, 0), (0, 90, 255), (0, 200, 30)))


def test_formats_that_name_classes_come_back_whole(tmp_path):
    for name in ("nvidia", "palette"):
        found, label = back_and_forth(name, THREE, DENSE, tmp_path / name)
        assert label.tolist() == DENSE.tolist(), name
        assert found.colors == THREE.colors, name
    assert found.names != THREE.names  # a palette has colours alone
    found, label = back_and_forth("rgb-grey", THREE, DENSE, tmp_path / "grey")
    assert (found.num_classes, label.tolist()) == (3, DENSE.tolist())
    found, label = back_and_forth("labelme", THREE, DENSE, tmp_path / "labelme")
    assert (found.names[1:], label.tolist()) == (THREE.names[1:], DENSE.tolist())


@pytest.mark.parametrize(
    ("name", "classes", "top"),
    [
        ("celebamask", Classes.CELEBAMASK, 19),
        ("cityscapes", cityscapes_classes(), 28),
        ("ade20k", Classes.generic(151), 151),
        ("cocostuff", Classes.generic(182), 182),
        ("binary", Classes.generic(2), 2),
    ],
)
def test_formats_of_fixed_classes_come_back_whole_and_refuse_others(tmp_path, name, classes, top):
    label = np.random.default_rng(0).integers(0, top, (6, 40))
    _, found = back_and_forth(name, classes, label, tmp_path / "a")
    assert found.tolist() == label.tolist()
    with pytest.raises(LabelError, match="labels remap"):
        FORMATS[name].write(tmp_path / "b", LabelSet(THREE, []))


def test_nvidia_pairs_members_of_two_archives(tmp_path):
    for name, array in (("labels", [[0, 3, 1]]), ("images", [[9, 9, 9]])):
        content = io.BytesIO()
        Image.fromarray(np.array(array, np.uint8)).save(content, format="PNG")
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("00000/img00000000.png", content.getvalue())
    classes, (shot,) = read("nvidia", tmp_path)
    assert (classes.num_classes, shot.name) == (4, "img00000000")
    assert shot.label.tolist() == [[0, 3, 1]]
    assert shot.image.tolist() == [[[9, 9, 9]] * 3]
    with pytest.raises(DataError, match=r"labels.zip: no such file"):
        read("nvidia", tmp_path.parent / "labels.zip")


def test_written_pairs_load(tmp_path):
    photo = save(tmp_path / "p.png", np.zeros((6, 8, 3)))
    shots = [Shot("a", DENSE, photo), Shot("b", DENSE, np.zeros((3, 4, 3), np.uint8))]
    assert write_pairs(tmp_path / "out", LabelSet(THREE, shots)) == 2
    pairs = load_pairs(tmp_path / "out")
    assert (pairs.classes, pairs.names) == (THREE, ["a", "b"])
    assert pairs.pairs[0].label.tolist() == DENSE.tolist()
    with pytest.raises(DataError, match=r"out exists; remove it or name another folder"):
        write_pairs(tmp_path / "out", LabelSet(THREE, shots))
    with pytest.raises(DataError, match="two maps are named 'a'"):
        write_pairs(tmp_path / "twice", LabelSet(THREE, [shots[0], shots[0]]))
    with pytest.raises(DataError, match="no labelled picture was found"):
        write_pairs(tmp_path / "none", LabelSet(THREE, []))
