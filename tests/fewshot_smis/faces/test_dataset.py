import errno
import json

import numpy as np
import pytest
from PIL import Image

from fewshot_smis.data import Classes, load_pairs
from fewshot_smis.faces import FaceDataset, dataset, render_face, render_folder
from stylegan.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("faces") / "set"
    done = []
    render_folder(out, 3, 24, 5, on_progress=done.append)
    assert done == [1, 1, 1]
    return out


def test_dataset_renders_on_demand():
    faces = FaceDataset(5, 3, 24)
    assert len(faces) == 3
    last = faces[-1]
    np.testing.assert_array_equal(last.img, render_face(5, 2, 24).img)
    np.testing.assert_array_equal(list(faces)[2].label, last.label)


@pytest.mark.parametrize("index", [3, -4])
def test_dataset_ends(index):
    with pytest.raises(IndexError, match="of 3"):
        FaceDataset(5, 3)[index]


def test_dataset_refuses_a_negative_count():
    with pytest.raises(ConfigError, match="count of 0 or more"):
        FaceDataset(0, -1)


def test_folder_holds_what_render_face_gives(folder):
    face = render_face(5, 1, 24)
    with Image.open(folder / "images" / "000001.png") as image:
        np.testing.assert_array_equal(np.asarray(image), face.img)
    with Image.open(folder / "labels" / "000001.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), face.label)
    marks = json.loads((folder / "landmarks.json").read_text())
    assert list(marks) == ["000000", "000001", "000002"]
    np.testing.assert_allclose(marks["000001"], face.landmarks, atol=0.006)
    attributes = json.loads((folder / "attributes.json").read_text())
    assert attributes["000001"]["hair"] == face.attributes["hair"]
    assert not folder.with_name("set.part").exists()


def test_folder_reads_back_as_pairs(folder):
    pairs = load_pairs(folder)
    assert pairs.classes == Classes.CELEBAMASK
    assert [pair.name for pair in pairs.pairs] == ["000000", "000001", "000002"]
    np.testing.assert_array_equal(pairs.pairs[0].label, render_face(5, 0, 24).label)


def test_workers_change_nothing(folder, tmp_path):
    render_folder(tmp_path / "again", 3, 24, 5, workers=2)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*.*"))
    assert len(files) == 9
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_an_existing_folder_is_left_alone(folder):
    before = (folder / "classes.json").read_bytes()
    with pytest.raises(DataError, match="exists already; remove it or choose another"):
        render_folder(folder, 1, 24)
    assert (folder / "classes.json").read_bytes() == before


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fail(seed, index, size):
        if index == 1:
            raise ConfigError("no more")
        return render_face(seed, index, size)

    monkeypatch.setattr(dataset, "render_face", fail)
    with pytest.raises(ConfigError, match="no more"):
        render_folder(tmp_path / "out", 2, 24)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(DataError, match=r"out: cannot write .*free some space"):
        render_folder(tmp_path / "out", 1, 24)
    assert not list(tmp_path.iterdir())


def test_pictures_are_no_larger_than_pillow_would_make_them(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    face = render_face(5, 0, 96)
    dataset.write_portrait(tmp_path, "face", face)
    Image.fromarray(face.img).save(tmp_path / "usual.png")
    written = (tmp_path / "images" / "face.png").stat().st_size
    assert written < 1.05 * (tmp_path / "usual.png").stat().st_size


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot write"):
        render_folder(tmp_path / "file" / "out", 1, 24)


@pytest.mark.parametrize(("count", "workers"), [(0, 1), (1, 0)])
def test_count_and_workers_start_at_one(tmp_path, count, workers):
    with pytest.raises(ConfigError, match="both must be 1 or more"):
        render_folder(tmp_path / "out", count, 24, workers=workers)
