from pathlib import Path

import numpy as np
import pytest

import fewshot_smis.faces
from fewshot_smis.data import Classes, load_label_maps, load_pairs
from fewshot_smis.faces import FaceClass, render_face
from fewshot_smis.faces.demo_set import MAP_SEEDS, PAIR_SEEDS, write_demo_set

SHIPPED = Path(fewshot_smis.faces.__file__).parents[1] / "demo"
FOLDERS = ("pairs", "maps", "sparse")


def shipped_files():
    return {p for name in FOLDERS for p in (SHIPPED / name).rglob("*") if p.is_file()}


def test_shipped_files_are_those_the_function_writes(tmp_path):
    write_demo_set(tmp_path, size=24)
    written = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {p.relative_to(SHIPPED) for p in shipped_files()}
    for name in sorted(p for p in written if p.suffix == ".json"):
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes()


def test_shipped_pictures_are_those_of_the_seeds():
    first = load_pairs(SHIPPED / "pairs").pairs[0]
    face = render_face(PAIR_SEEDS[0], 0, 128)
    assert (first.label.numpy() != face.label).mean() < 0.002
    shown = (first.image.permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(shown - face.img).mean() < 0.5


def test_first_pair_shows_every_common_class():
    label = load_pairs(SHIPPED / "pairs").pairs[0].label.numpy()
    for value in set(FaceClass) - {
        FaceClass.GLASSES,
        FaceClass.HAT,
        FaceClass.EARRING,
        FaceClass.NECKLACE,
    }:
        assert (label == value).sum() >= 30, value


def test_five_pairs_and_twelve_maps():
    pairs = load_pairs(SHIPPED / "pairs")
    assert pairs.classes == Classes.CELEBAMASK
    assert len(pairs.pairs) == len(PAIR_SEEDS) == 5
    shown = set(np.unique(np.stack([pair.label.numpy() for pair in pairs.pairs])))
    assert {FaceClass.GLASSES, FaceClass.HAT} < shown
    maps = load_label_maps(SHIPPED / "maps", pairs.classes)
    assert len(maps) == len(MAP_SEEDS) == 12
    assert all(label.shape == (128, 128) for _, label in maps)


@pytest.mark.parametrize(("kind", "classes"), [("landmarks", 69), ("scribbles", 20)])
def test_sparse_maps_belong_to_the_same_faces(kind, classes):
    dense, sparse = load_pairs(SHIPPED / "pairs"), load_pairs(SHIPPED / "sparse" / kind)
    assert sparse.classes.sparse
    assert sparse.classes.num_classes == classes
    for a, b in zip(dense.pairs, sparse.pairs, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.image, b.image)
    maps = load_label_maps(SHIPPED / "sparse" / f"maps_{kind}", sparse.classes)
    names = [name for name, _ in load_label_maps(SHIPPED / "maps", dense.classes)]
    assert [name for name, _ in maps] == names


def test_shipped_pictures_are_small():
    assert sum(path.stat().st_size for path in shipped_files()) < 1_500_000
