import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_smis.data import Classes, colorize, one_hot, read_label, resize_label
from fewshot_smis.data.labels import UNKNOWN_COLOR, infer_classes, looks_sparse
from stylegan.errors import DataError, LabelError, ShapeError

CLASSES = Classes(("ground", "sky", "tree"), ((10, 0, 0), (0, 90, 255), (0, 200, 30)))
SPARSE = Classes(CLASSES.names, CLASSES.colors, sparse=True)
IDS = np.array([[0, 1, 2, 2], [1, 0, 0, 2], [2, 1, 255, 0]])  # 3 x 4, one pixel unknown


def save(tmp_path, array, mode=None, name="map.png"):
    path = tmp_path / name
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path)
    return path


def indexed(tmp_path, ids, palette):
    image = Image.fromarray(ids.astype(np.uint8), mode=None).convert("L")
    image.putpalette([part for color in palette for part in color])
    image.save(tmp_path / "map.png")
    return tmp_path / "map.png"


def test_grey_is_ids(tmp_path):
    found = read_label(save(tmp_path, IDS.astype(np.uint8)), CLASSES)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, IDS)


def test_rgb_grey_is_ids(tmp_path):
    rgb = IDS.astype(np.uint8)[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(read_label(save(tmp_path, rgb), CLASSES), IDS)


def test_sixteen_bits_are_ids(tmp_path):
    np.testing.assert_array_equal(read_label(save(tmp_path, IDS.astype(np.uint16)), CLASSES), IDS)


def test_one_bit_is_ids(tmp_path):
    mask = IDS == 1
    np.testing.assert_array_equal(read_label(save(tmp_path, mask), CLASSES), mask.astype(int))


def test_whole_floats_are_ids_and_fractions_are_not(tmp_path):
    path = save(tmp_path, IDS.astype(np.float32), name="map.tif")
    np.testing.assert_array_equal(read_label(path, CLASSES), IDS)
    path = save(tmp_path, IDS.astype(np.float32) / 2, name="map.tif")
    with pytest.raises(LabelError, match="holds fractions"):
        read_label(path, CLASSES)


def test_palette_index_counts_when_its_colours_are_unknown(tmp_path):
    ids = np.where(IDS == 255, 0, IDS)
    path = indexed(tmp_path, ids, [(1, 1, 1), (2, 0, 0), (3, 0, 0)])
    np.testing.assert_array_equal(read_label(path, CLASSES), ids)
    np.testing.assert_array_equal(read_label(path, None), ids)


def test_palette_colours_count_when_an_editor_sorted_it_anew(tmp_path):
    ids = np.where(IDS == 255, 0, IDS)
    order = [2, 0, 1]  # index -> id
    index = np.argsort(order)[ids]
    path = indexed(tmp_path, index, [CLASSES.colors[i] for i in order])
    np.testing.assert_array_equal(read_label(path, CLASSES), ids)


def test_colour_map(tmp_path):
    path = save(tmp_path, colorize(IDS, CLASSES))
    np.testing.assert_array_equal(read_label(path, CLASSES), IDS)


def test_grey_class_colours_count_where_grey_is_no_id(tmp_path):
    classes = Classes(("a", "b", "c"), ((0, 0, 0), (127, 127, 127), (255, 255, 255)))
    path = save(tmp_path, np.array([[0, 127, 255]], np.uint8))
    assert read_label(path, classes).tolist() == [[0, 1, 2]]
    path = save(tmp_path, np.array([[0, 255, 255]], np.uint8))
    assert read_label(path, classes).tolist() == [[0, 2, 2]]


def test_transparent_is_unknown(tmp_path):
    rgba = np.dstack([colorize(np.where(IDS == 255, 0, IDS), CLASSES), 255 * (IDS != 255)])
    path = save(tmp_path, rgba.astype(np.uint8))
    np.testing.assert_array_equal(read_label(path, CLASSES), IDS)
    grey = np.dstack([IDS % 255, 255 * (IDS != 255)]).astype(np.uint8)
    path = save(tmp_path, grey)
    np.testing.assert_array_equal(read_label(path, CLASSES), IDS)


def test_unknown_is_zero_in_sparse_maps(tmp_path):
    found = read_label(save(tmp_path, IDS.astype(np.uint8)), SPARSE)
    np.testing.assert_array_equal(found, np.where(IDS == 255, 0, IDS))


@pytest.mark.parametrize("sparse", [False, True])
def test_mask_of_0_and_255_is_two_classes(tmp_path, sparse):
    path = save(tmp_path, np.array([[0, 255, 255]], np.uint8))
    assert read_label(path, Classes.generic(2, sparse=sparse)).tolist() == [[0, 1, 1]]
    assert read_label(path, None).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("classes", [CLASSES, SPARSE])
def test_mask_of_0_and_255_is_refused_for_more_classes(tmp_path, classes):
    path = save(tmp_path, np.array([[0, 255, 255]], np.uint8))
    with pytest.raises(LabelError, match="a mask of 0 and 255, but there are 3 classes; write 1"):
        read_label(path, classes)


def test_ids_outside_the_classes_are_listed(tmp_path):
    path = save(tmp_path, np.array([[0, 7, 3, 2]], np.uint8))
    with pytest.raises(
        LabelError, match=r"map\.png: class ids 3, 7, but there are 3 classes \(ids"
    ):
        read_label(path, CLASSES)


def test_grey_128_is_an_id_outside_not_an_unknown_pixel(tmp_path):
    path = save(tmp_path, np.array([[0, 128]], np.uint8))
    with pytest.raises(LabelError, match="class ids 128, but"):
        read_label(path, CLASSES)


def test_blurred_ids_are_recognised(tmp_path):
    path = save(tmp_path, np.arange(200, dtype=np.uint8)[None])
    with pytest.raises(LabelError, match="resized or blurred; scale label maps by nearest"):
        read_label(path, CLASSES)


def test_unknown_colours_are_listed(tmp_path):
    colors = colorize(np.where(IDS == 255, 0, IDS), CLASSES)
    colors[0, :2] = (1, 2, 3)
    colors[2, 3] = (255, 0, 0)
    message = r"#010203 \(2 px\), #ff0000 \(1 px\); give the classes"
    with pytest.raises(LabelError, match=message):
        read_label(save(tmp_path, colors), CLASSES)


def test_many_unknown_colours_are_cut(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    with pytest.raises(LabelError, match="and 22 more"):
        read_label(save(tmp_path, colors), CLASSES)


def test_colours_without_classes(tmp_path):
    path = save(tmp_path, colorize(IDS, CLASSES))
    with pytest.raises(LabelError, match=r"no classes\.json .*#0a0000 \(4 px\)"):
        read_label(path, None)


@pytest.mark.parametrize(("classes", "blank"), [(CLASSES, 255), (SPARSE, 0), (SPARSE, 255)])
def test_all_unknown(tmp_path, classes, blank):
    path = save(tmp_path, np.full((3, 4), blank, np.uint8))
    with pytest.raises(LabelError, match=r"map\.png: every pixel is unknown"):
        read_label(path, classes)


def test_too_large_ids_without_classes(tmp_path):
    path = save(tmp_path, np.array([[0, 300]], np.uint16))
    with pytest.raises(LabelError, match="ids up to 300, but there are at most 255"):
        read_label(path, None)


def test_jpeg_is_no_label_map(tmp_path):
    path = save(tmp_path, IDS.astype(np.uint8), name="map.jpg")
    with pytest.raises(LabelError, match="JPEG blurs class ids"):
        read_label(path, CLASSES)


def test_other_modes(tmp_path):
    path = save(tmp_path, np.zeros((4, 4, 3), np.uint8), "CMYK", "map.tif")
    with pytest.raises(LabelError, match="stored as CMYK"):
        read_label(path, CLASSES)


def test_truncated_and_missing(tmp_path):
    ids = np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8)
    path = save(tmp_path, ids)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"map\.png: truncated"):
        read_label(path, CLASSES)
    with pytest.raises(DataError, match="no such file"):
        read_label(tmp_path / "none.png", CLASSES)


def test_one_hot_equals_comparison(device):
    label = torch.from_numpy(IDS)[None].expand(2, 3, 4).to(device)
    planes = one_hot(label, 3)
    assert planes.shape == (2, 3, 3, 4)
    assert planes.dtype == torch.float32
    for k in range(3):
        np.testing.assert_array_equal(planes[1, k].cpu().numpy(), np.equal(IDS, k))
    assert planes[0, :, 2, 2].sum() == 0


def test_one_hot_errors():
    with pytest.raises(LabelError, match="class ids 3, 9, but there are 3 classes"):
        one_hot(torch.tensor([[[9, 3, 0, 255]]]), 3)
    with pytest.raises(LabelError, match="class ids -1"):
        one_hot(torch.tensor([[[-1]]]), 3)
    with pytest.raises(ShapeError, match=r"\[N,H,W\], not \[3, 4\]"):
        one_hot(torch.zeros(3, 4, dtype=torch.int64), 3)


@pytest.mark.parametrize("size", [(3, 5), (9, 2), (64, 48), 4])
def test_resize_label_takes_the_floored_pixel(size):
    label = torch.arange(2 * 7 * 11).reshape(2, 7, 11)
    small = resize_label(label, size)
    height, width = (size, size) if isinstance(size, int) else size
    assert small.shape == (2, height, width)
    for y in range(height):
        for x in range(width):
            assert small[1, y, x] == label[1, y * 7 // height, x * 11 // width]


def test_resize_label_refuses_other_shapes():
    with pytest.raises(ShapeError, match=r"\[N,H,W\], not \[3, 4\]"):
        resize_label(torch.zeros(3, 4), 2)


def test_colorize_batches_and_unknown_pixels():
    painted = colorize(torch.from_numpy(IDS)[None], CLASSES)
    assert painted.shape == (1, 3, 4, 3)
    assert painted.dtype == np.uint8
    assert tuple(painted[0, 0, 1]) == CLASSES.colors[1]
    assert tuple(painted[0, 2, 2]) == UNKNOWN_COLOR
    with pytest.raises(LabelError, match="class ids 3"):
        colorize(np.array([[3]]), CLASSES)


def scribble(size):
    ids = np.zeros((size, size), np.int64)
    for i in range(size // 8, size - size // 8):
        ids[i, i - 1 : i + 2] = 1
        ids[size // 2 - 1 : size // 2 + 1, i] = 2
    return ids


def block(size, side):
    ids = np.zeros((size, size + 3), np.int64)
    ids[5 : 5 + side, 7 : 7 + side] = 1
    return ids


@pytest.mark.parametrize(
    ("maps", "sparse"),
    [
        ([scribble(64)], True),
        ([scribble(200), scribble(209)], True),
        ([block(64, 50)], False),
        ([block(200, 30)], False),  # a small object is still a region
        ([np.zeros((8, 8), np.int64)], False),
    ],
)
def test_marks_and_regions_are_told_apart(maps, sparse):
    assert looks_sparse(maps) is sparse
    assert infer_classes(maps).sparse is sparse


def test_inferred_classes_count_to_the_largest_id_of_all_maps():
    maps = [np.array([[0, 4, 255]]), np.array([[6, 1]])]
    assert infer_classes(maps, sparse=True) == Classes.generic(7, sparse=True)
    assert infer_classes([np.array([[0, 255]])]).num_classes == 2
