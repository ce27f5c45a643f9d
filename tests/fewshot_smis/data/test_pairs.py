import logging

import numpy as np
import pytest
import torch

from fewshot_smis.data import Classes, find_classes, load_label_maps, load_pairs, write_image
from stylegan.errors import ConfigError, DataError, LabelError

CLASSES = Classes(("ground", "sky", "tree"), ((10, 0, 0), (0, 90, 255), (0, 200, 30)))


def dense_map(height, width, ids=(0, 1, 2)):
    columns = np.arange(width) * len(ids) // width
    return np.array(ids, np.uint8)[columns][None].repeat(height, axis=0)


def marks(height, width):
    ids = np.zeros((height, width), np.uint8)
    ids[height // 2 : height // 2 + 2, 3:-3] = 1
    ids[3:-3, width // 2 : width // 2 + 2] = 4
    return ids


def write_pair(folder, name, label, size=(12, 16), ending="jpg"):
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    write_image(folder / "images" / f"{name}.{ending}", picture)
    write_image(folder / "labels" / f"{name}.png", label)


def test_sizes_may_differ_and_order_is_natural(tmp_path):
    for name, size in (("10", (24, 32)), ("2", (9, 12)), ("1", (12, 16))):
        write_pair(tmp_path, name, dense_map(*size))
    pairs = load_pairs(tmp_path)
    assert pairs.names == ["1", "2", "10"]
    assert [tuple(p.label.shape) for p in pairs.pairs] == [(12, 16), (9, 12), (24, 32)]
    assert {tuple(p.image.shape) for p in pairs.pairs} == {(3, 12, 16)}
    assert pairs.images((6, 8)).shape == (3, 3, 6, 8)
    assert pairs.labels((6, 8)).shape == (3, 6, 8)
    assert pairs.labels(6).dtype == torch.int64
    assert pairs.labels((1, 4))[2, 0].tolist() == [0, 0, 1, 2]
    assert pairs.images(4).abs().max() <= 1
    assert load_pairs(tmp_path, limit=2).names == ["1", "2"]
    assert load_pairs(tmp_path, limit=9).names == ["1", "2", "10"]


def test_odd_sizes_within_one_percent(tmp_path):
    write_pair(tmp_path, "0", dense_map(209, 210), size=(256, 256))
    assert load_pairs(tmp_path).pairs[0].label.shape == (209, 210)


def test_train_folder_of_a_data_set_is_found(tmp_path):
    write_pair(tmp_path / "train", "0", dense_map(12, 16))
    CLASSES.save(tmp_path / "classes.json")
    pairs = load_pairs(tmp_path)
    assert pairs.names == ["0"]
    assert pairs.classes == CLASSES


def test_classes_file_beside_wins_over_the_one_above(tmp_path):
    Classes.generic(9).save(tmp_path / "classes.json")
    (tmp_path / "train").mkdir()
    assert find_classes(tmp_path / "train").num_classes == 9
    CLASSES.save(tmp_path / "train" / "classes.json")
    assert find_classes(tmp_path / "train") == CLASSES
    assert find_classes(tmp_path / "train" / "no") == CLASSES
    assert find_classes(tmp_path / "a" / "b" / "c") is None


def test_given_classes_win_over_the_file(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 16))
    CLASSES.save(tmp_path / "classes.json")
    assert load_pairs(tmp_path, classes=Classes.generic(5)).classes.num_classes == 5


def test_generic_classes_come_from_all_maps_whatever_the_limit(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 16))
    write_pair(tmp_path, "1", dense_map(12, 16, ids=(0, 7, 255)))
    pairs = load_pairs(tmp_path, limit=1)
    assert pairs.classes == Classes.generic(8)


def test_marks_are_recognised_unless_told_otherwise(tmp_path, caplog):
    write_pair(tmp_path, "0", marks(48, 64))
    with caplog.at_level(logging.INFO):
        assert load_pairs(tmp_path).classes == Classes.generic(5, sparse=True)
    assert "taken for sparse marks (0 is unknown) of 5 classes" in caplog.text
    assert load_pairs(tmp_path, sparse=False).classes == Classes.generic(5)
    assert not load_pairs(tmp_path, classes=Classes.generic(5)).classes.sparse
    Classes.generic(5).save(tmp_path / "classes.json")
    assert not load_pairs(tmp_path).classes.sparse
    assert load_pairs(tmp_path, sparse=True).classes.sparse


def test_missing_partners_are_named(tmp_path):
    for i in range(5):
        write_pair(tmp_path, str(i), dense_map(12, 16))
    (tmp_path / "labels" / "3.png").unlink()
    message = r"5 pictures and 4 label maps; without a partner of the same name: images/3\.jpg; add"
    with pytest.raises(DataError, match=message):
        load_pairs(tmp_path)
    (tmp_path / "images" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"images/3\.jpg, labels/1\.png"):
        load_pairs(tmp_path, limit=1)


def test_two_files_of_one_name(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 16))
    write_pair(tmp_path, "0", dense_map(12, 16), ending="png")
    with pytest.raises(DataError, match=r"images: both 0\.jpg and 0\.png are named '0'"):
        load_pairs(tmp_path)


def test_other_aspect(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 17))
    with pytest.raises(LabelError, match=r"0\.png: 17 x 12, but its picture 0\.jpg is 16 x 12"):
        load_pairs(tmp_path)


def test_all_unknown_map(tmp_path):
    write_pair(tmp_path, "0", np.full((12, 16), 255, np.uint8))
    with pytest.raises(LabelError, match=r"0\.png: every pixel is unknown \(id 255\)"):
        load_pairs(tmp_path)
    write_pair(tmp_path, "0", np.zeros((12, 16), np.uint8))
    with pytest.raises(LabelError, match=r"0\.png: every pixel is unknown \(id 0\)"):
        load_pairs(tmp_path, sparse=True)


def test_masks_of_0_and_255(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 16, ids=(0, 255)))
    pairs = load_pairs(tmp_path)
    assert pairs.classes.num_classes == 2
    assert pairs.pairs[0].label.unique().tolist() == [0, 1]
    CLASSES.save(tmp_path / "classes.json")
    with pytest.raises(LabelError, match="a mask of 0 and 255"):
        load_pairs(tmp_path)


def test_folders_without_pairs(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_pairs(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images/ and labels/; put the pictures"):
        load_pairs(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="holds no images/; put"):
        load_pairs(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="are empty"):
        load_pairs(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file, not a folder"):
        load_pairs(tmp_path / "file")


def test_limit_has_to_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="limit 0: at least one"):
        load_pairs(tmp_path, limit=0)


def test_label_maps_alone(tmp_path):
    for name, size in (("10", (24, 31)), ("9", (12, 16))):
        write_pair(tmp_path, name, dense_map(*size))
    both = load_label_maps(tmp_path, CLASSES)
    assert [(name, tuple(label.shape)) for name, label in both] == [
        ("9", (12, 16)),
        ("10", (24, 31)),
    ]
    assert both[0][1].dtype == torch.int64
    assert [name for name, _ in load_label_maps(tmp_path / "labels", CLASSES)] == ["9", "10"]
    assert [name for name, _ in load_label_maps(tmp_path / "labels" / "9.png", CLASSES)] == ["9"]
    with pytest.raises(LabelError, match="class ids 2, but there are 2 classes"):
        load_label_maps(tmp_path, Classes.generic(2))
    with pytest.raises(DataError, match="no such file or folder"):
        load_label_maps(tmp_path / "nowhere", CLASSES)


def test_label_maps_find_their_own_classes(tmp_path):
    write_pair(tmp_path, "0", dense_map(12, 16))
    np.testing.assert_array_equal(load_label_maps(tmp_path)[0][1], dense_map(12, 16))
    CLASSES.save(tmp_path / "classes.json")
    write_pair(tmp_path, "0", dense_map(12, 16, ids=(0, 3)))
    with pytest.raises(LabelError, match="there are 3 classes"):
        load_label_maps(tmp_path / "labels")
