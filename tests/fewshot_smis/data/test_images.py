import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_smis.data.images import (
    as_size,
    list_images,
    read_image,
    resize_image,
    to_tensor,
    to_uint8,
    write_image,
)
from stylegan.errors import DataError, ShapeError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_png_round_trip(tmp_path):
    picture = noise(5, 7)
    write_image(tmp_path / "a.png", picture)
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, picture)


def test_grey_becomes_rgb(tmp_path):
    write_image(tmp_path / "a.png", noise(5, 7)[..., 0])
    read = read_image(tmp_path / "a.png")
    assert read.shape == (5, 7, 3)
    assert (read == read[..., :1]).all()


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 255]


def test_transparent_becomes_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_exif_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(noise(8, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (16, 8, 3)


def test_to_tensor_and_back_is_exact():
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    img = to_tensor(picture)
    assert img.shape == (3, 16, 16)
    assert img.dtype == torch.float32
    assert (img.min(), img.max()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(img), picture)


def test_to_uint8_rounds_and_clamps():
    img = torch.tensor([-3.0, -1.0, -0.003, 0.003, 1.0, 9.0]).expand(2, 3, 1, 6)
    assert to_uint8(img)[1, 0, :, 2].tolist() == [0, 0, 127, 128, 255, 255]
    assert to_uint8(img).shape == (2, 1, 6, 3)


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4), (2, 1, 4, 4)])
def test_to_uint8_refuses_other_shapes(shape):
    with pytest.raises(ShapeError, match="pictures are"):
        to_uint8(torch.zeros(shape))


def test_to_tensor_refuses_grey():
    with pytest.raises(ShapeError, match=r"\[H,W,3\], not \[4, 4\]"):
        to_tensor(np.zeros((4, 4), np.uint8))


def test_halving_is_the_triangle_filter(device):
    row = torch.tensor([0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0], device=device)
    small = resize_image(row.expand(1, 3, 2, 8), (2, 4))
    # Each result is the mean of the four pixels around its centre, weighted 1, 3, 3, 1.
    torch.testing.assert_close(small[0, 0, 0].cpu(), torch.tensor([0.0, 3.0, 1.0, 0.0]))


def test_resize_keeps_range_and_has_gradients():
    img = torch.rand(2, 3, 9, 5).mul(2).sub(1).requires_grad_()
    out = resize_image(img, (4, 11))
    assert out.shape == (2, 3, 4, 11)
    assert out.abs().max() <= 1
    out.sum().backward()
    torch.testing.assert_close(img.grad.sum(), torch.tensor(2 * 3 * 4 * 11.0))


def test_same_size_is_the_same_picture():
    img = torch.rand(1, 3, 4, 4)
    assert resize_image(img, 4) is img


def test_resize_errors():
    with pytest.raises(ShapeError, match=r"takes \[N,C,H,W\], not \[3, 4, 4\]"):
        resize_image(torch.zeros(3, 4, 4), 4)
    with pytest.raises(ShapeError, match="0 x 4 has no pixels"):
        as_size((0, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b"hello", "not a picture"),
    ],
)
def test_not_a_picture(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        read_image(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_truncated_picture(tmp_path, ending):
    write_image(tmp_path / f"whole.{ending}", noise(64, 48))
    content = (tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"half.{ending}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"half\.{ending}: truncated or damaged"):
        read_image(path)


def test_missing_picture_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        read_image(tmp_path / "b.png")
    with pytest.raises(DataError, match="a folder where a picture was expected"):
        read_image(tmp_path)


def test_write_image_errors(tmp_path):
    with pytest.raises(ShapeError, match=r"not float64 \[4, 4, 3\]"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3)))
    with pytest.raises(ShapeError, match=r"not uint8 \[4, 4, 4\]"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(DataError, match=r"'\.xyz'; use \.png"):
        write_image(tmp_path / "a.xyz", noise(4, 4))
    assert list(tmp_path.iterdir()) == []


def test_list_images_in_natural_order(tmp_path):
    for name in ("10.png", "2.jpg", "1.PNG", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_images(tmp_path)] == ["1.PNG", "2.jpg", "10.png"]
    assert list_images(tmp_path / "2.jpg") == [tmp_path / "2.jpg"]
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="images: holds no pictures"):
        list_images(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        list_images(tmp_path / "nowhere")
