"""What a prior is trained on: archives, folders and faces behind one door."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_smis.data.archive import LabelledPictures, write_dataset
from fewshot_smis.data.collection import ImageCollection, PictureSource, map_bytes
from fewshot_smis.data.sources import RenderedFaces, open_source
from fewshot_smis.faces import render_face
from stylegan.errors import ConfigError, DataError

NAMES = ("00000/img2.png", "00000/img10.png", "00001/img11.png")


class Counted(PictureSource):
    """Pictures filled with their own number, and a note of what was asked for."""

    def __init__(self, *args: object, **options: object) -> None:
        self.asked: list[int] = []
        super().__init__(*args, **options)

    def read(self, index: int) -> torch.Tensor:
        self.asked.append(index)
        picture = torch.full((3, *self.size), index, dtype=torch.uint8)
        picture[:, :, 0] = 100
        return picture


def make(folder: Path, labels: object, *, packed: bool) -> tuple[Path, list[np.ndarray]]:
    """Make a data set of three pictures of 6 x 8 px, as folder or archive; None: no index."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in NAMES]
    for name, picture in zip(NAMES, pictures, strict=True):
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    if labels != "none":
        (folder / "set" / "dataset.json").write_text(json.dumps({"labels": labels}))
    if not packed:
        return folder / "set", pictures
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for path in sorted((folder / "set").rglob("*.*")):
            archive.write(path, path.relative_to(folder / "set"))
    return folder / "set.zip", pictures


def table(labels: Sequence[object]) -> list[list[object]]:
    return [[name, label] for name, label in zip(NAMES, labels, strict=True)]


# Reading on demand, mirroring, the cache.


def test_pictures_are_read_once_and_in_their_order() -> None:
    data = Counted(5, (4, 6))
    got = data.batch(torch.tensor([3, 1, 3]))
    assert got[:, 0, 0, 1].tolist() == [3, 1, 3]
    data.batch(torch.tensor([1, 4]))
    assert data.asked == [1, 3, 4]


def test_mirrored_pictures_double_the_index_space() -> None:
    data = Counted(5, (4, 6), flips=True, conditions=torch.arange(5.0)[:, None])
    assert len(data) == 10
    got = data.batch(torch.tensor([2, 7, 9]))
    assert torch.equal(got[1], got[0].flip(2))
    assert got[2, 0, 0].tolist() == [4, 4, 4, 4, 4, 100]
    assert data.labels(torch.tensor([2, 7, 9])).tolist() == [[2], [2], [4]]
    assert data.asked == [2, 4]
    assert len(Counted(5, 4)) == 5


def test_a_cache_outlives_the_source_and_notices_other_pictures(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "pictures.npy"
    first = Counted(5, (4, 6), cache=cache)
    wanted = first.batch(torch.tensor([4, 2]))
    again = Counted(5, (4, 6), cache=cache)
    assert torch.equal(again.batch(torch.tensor([4, 2])), wanted)
    assert again.asked == [2]  # to see that it is still the same picture

    class Changed(Counted):
        def read(self, index: int) -> torch.Tensor:
            return super().read(index) + 1

    other = Changed(5, (4, 6), cache=cache)
    assert torch.equal(other.batch(torch.tensor([4, 2])), wanted + 1)


def test_unusable_caches_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Counted(5, (4, 6), cache=tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy: holds \[5, 3, 4, 6\], not \[6, 3, 4, 6\]"):
        Counted(6, (4, 6), cache=tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"b\.npy: not a cache"):
        map_bytes(tmp_path / "b.npy", (3,))
    with pytest.raises(DataError, match="GB are free"):
        map_bytes(tmp_path / "c.npy", (10**9, 10**9))


def test_pictures_that_are_not_square_are_cut_to_the_shape_asked_for(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = ImageCollection(tmp_path, (8, 12)).batch(torch.tensor([0]))
    np.testing.assert_array_equal(got[0].permute(1, 2, 0).numpy(), pixels[:, 4:16])
    tall = ImageCollection(tmp_path, (16, 8)).batch(torch.tensor([0]))
    assert tall.shape == (1, 3, 16, 8)
    assert abs(int(tall[0, 0, 0, 0]) - int(pixels[0, 8, 0])) <= 1


# NVIDIA's data sets.


@pytest.mark.parametrize("packed", [True, False])
def test_class_numbers_become_one_hot_rows(tmp_path: Path, packed: bool) -> None:
    path, pictures = make(tmp_path, table([2, 0, 2])[::-1], packed=packed)
    data = open_source(path, (6, 8), flips=True)
    assert (len(data), data.c_dim) == (6, 3)
    got = data.batch(torch.tensor([0, 1, 2]))
    for i, picture in enumerate(pictures):
        np.testing.assert_array_equal(got[i].permute(1, 2, 0).numpy(), picture)
    labels = data.labels(torch.tensor([0, 1, 4]))
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("packed", [True, False])
def test_vectors_stay_as_they_are(tmp_path: Path, packed: bool) -> None:
    path, _ = make(tmp_path, table([[0.5, -1], [2, 3], [0, 0.25]]), packed=packed)
    data = open_source(path, 4)
    assert data.labels(torch.tensor([2, 0])).tolist() == [[0, 0.25], [0.5, -1]]
    assert open_source(path, 4, labels=False).c_dim == 0


@pytest.mark.parametrize("labels", [None, "none"])
def test_labels_may_be_null_and_archives_may_have_no_index(tmp_path: Path, labels: object) -> None:
    path, _ = make(tmp_path, labels, packed=True)
    data = open_source(path, 4)
    assert (len(data), data.c_dim) == (3, 0)
    assert data.labels(torch.tensor([0, 1])).shape == (2, 0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (table([1, 0, 2])[:1], r"no label for 00000/img10\.png \(2 in all\)"),
        (table([1, 0, -1]), "class number from 0 on"),
        (table([1, [0.5], 2]), "different kinds"),
        (table([[1], [1, 2], [3]]), "different kinds or lengths"),
        (7, "pairs"),
    ],
)
def test_wrong_labels_are_said(tmp_path: Path, labels: object, message: str) -> None:
    path, _ = make(tmp_path, labels, packed=True)
    with pytest.raises(DataError, match=message):
        open_source(path, 4)


def test_wrong_archives_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.zip: no such file"):
        open_source(tmp_path / "none.zip", 4)
    (tmp_path / "page.zip").write_text("<html>")
    with pytest.raises(DataError, match=r"page\.zip: not a zip archive"):
        open_source(tmp_path / "page.zip", 4)
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(DataError, match=r"texts\.zip: holds no pictures"):
        open_source(tmp_path / "texts.zip", 4)
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("a.png", "no picture")
        archive.writestr("dataset.json", "[1")
    with pytest.raises(DataError, match=r"odd\.zip/dataset\.json: not valid JSON"):
        open_source(tmp_path / "odd.zip", 4)
    with pytest.raises(DataError, match=r"odd\.zip/a\.png: not a picture"):
        open_source(tmp_path / "odd.zip", 4, labels=False).batch(torch.tensor([0]))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path, _ = make(tmp_path, None, packed=True)
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT") + 8
    content[start] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.zip/00000/img10\.png: damaged"):
        open_source(path, 4).batch(torch.arange(3))


@pytest.mark.parametrize("labels", [None, [2, 0, 1], [[0.5, -1.0], [2.0, 3.0], [0.0, 0.25]]])
def test_any_source_is_written_as_an_archive(tmp_path: Path, labels: list[object] | None) -> None:
    path, _ = make(tmp_path, labels and table(labels), packed=False)
    source = open_source(path, (6, 8), flips=True)
    done: list[int] = []
    write_dataset(tmp_path / "new.zip", source, on_progress=done.append)
    again = LabelledPictures(tmp_path / "new.zip", (6, 8))
    every = torch.arange(3)
    assert (len(again), done) == (3, [1, 1, 1])
    assert torch.equal(again.batch(every), source.batch(every))
    assert torch.equal(again.labels(every), source.labels(every))
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        stored = json.loads(archive.read("dataset.json"))["labels"]
    assert stored is None or [label for _, label in stored] == labels


# Faces.


def test_faces_are_rendered_by_number_and_kept(tmp_path: Path) -> None:
    spec = f"faces:seed=3,count=4,cache={tmp_path}"
    data = open_source(spec, 32, flips=True)
    assert (len(data), data.c_dim) == (8, 0)
    got = data.batch(torch.tensor([2, 6]))
    wanted = render_face(3, 2, 32).img
    np.testing.assert_array_equal(got[0].permute(1, 2, 0).numpy(), wanted)
    np.testing.assert_array_equal(got[1].permute(1, 2, 0).numpy(), wanted[:, ::-1])
    assert (tmp_path / "faces-seed3-count4-32x32.npy").is_file()


def test_faces_of_another_shape_are_cut_from_the_square() -> None:
    got = RenderedFaces(3, 4, (32, 24)).batch(torch.tensor([1]))
    wanted = render_face(3, 1, 32).img[:, 4:28]
    np.testing.assert_array_equal(got[0].permute(1, 2, 0).numpy(), wanted)


@pytest.mark.slow
def test_faces_do_not_depend_on_the_number_of_workers() -> None:
    indices = torch.tensor([5, 0, 3])
    alone = RenderedFaces(3, 6, 32).batch(indices)
    assert torch.equal(RenderedFaces(3, 6, 32, workers=2).batch(indices), alone)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("faces:seeds=1", "unknown 'seeds'"),
        ("faces:count=many", "whole numbers"),
        ("faces:count=0", "1 or more"),
    ],
)
def test_wrong_descriptions_of_faces_are_said(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(spec, 32)


def test_a_folder_without_an_index_is_a_collection(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert isinstance(open_source(tmp_path, 4), ImageCollection)
    with pytest.raises(DataError, match="nowhere"):
        open_source(tmp_path / "nowhere", 4)
