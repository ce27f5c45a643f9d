"""The pictures the demo ships: five labelled pairs, twelve held-out maps, and their sparse maps.

`write_demo_set(folder)` makes exactly the files of fewshot_smis/demo:

    pairs/               images, labels, classes.json: the shots; the first serves one-shot
    maps/                the same of twelve other faces, to be drawn by the model
    sparse/landmarks/    the shots with landmark maps
    sparse/scribbles/    the shots with scribble maps
    sparse/maps_landmarks/, sparse/maps_scribbles/    labels and classes.json of the twelve
"""

from collections.abc import Callable
from pathlib import Path

from fewshot_smis.data import Classes, write_image
from fewshot_smis.faces.dataset import write_label
from fewshot_smis.faces.geometry import Array
from fewshot_smis.faces.marks import (
    landmark_classes,
    landmark_map,
    scribble_classes,
    scribble_map,
)
from fewshot_smis.faces.portrait import Portrait, render_face
from stylegan.seeding import numpy_stream

SIZE = 128
PAIR_SEEDS = (80, 120, 136, 150, 37)
"""Chosen by eye: the first shows every common class, the third glasses, the fifth a cap."""

MAP_SEEDS = (1018, 1027, 1021, 1046, 1042, 1037, 1005, 1044, 1003, 1032, 1040, 1012)
"""Frontal to three-quarter faces outside the range of the shots."""

Labelling = Callable[[int, Portrait], Array]
"""From the seed of a portrait and the portrait to a label map [H,W] uint8."""


def _dense(seed: int, portrait: Portrait) -> Array:
    return portrait.label


def _landmarks(seed: int, portrait: Portrait) -> Array:
    return landmark_map(portrait.landmarks, len(portrait.label))


def _scribbles(seed: int, portrait: Portrait) -> Array:
    return scribble_map(portrait.label, numpy_stream(seed, "scribbles"))


def _write_folder(
    folder: Path,
    portraits: dict[int, Portrait],
    labelling: Labelling,
    classes: Classes,
    *,
    with_images: bool,
) -> None:
    """Write labels/, classes.json and, if asked for, images/ of `portraits`, numbered in order."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    if with_images:
        (folder / "images").mkdir(exist_ok=True)
    for number, (seed, portrait) in enumerate(portraits.items(), 1):
        name = f"{number:02d}-face{seed:04d}.png"
        write_label(folder / "labels" / name, labelling(seed, portrait), classes)
        if with_images:
            write_image(folder / "images" / name, portrait.img)
    classes.save(folder / "classes.json")


def write_demo_set(folder: Path | str, *, size: int = SIZE) -> None:
    """Render the demo's pictures into `folder`, replacing those that are there.

    Args:
        folder: made if it does not exist.
        size: height and width; the shipped files have 128 px.

    Raises:
        DataError: a file cannot be written.
        BackendError: numba is not installed.
    """
    root = Path(folder)
    shots = {seed: render_face(seed, 0, size) for seed in PAIR_SEEDS}
    held_out = {seed: render_face(seed, 0, size) for seed in MAP_SEEDS}
    kinds: tuple[tuple[str, str, Labelling, Classes], ...] = (
        ("sparse/landmarks", "sparse/maps_landmarks", _landmarks, landmark_classes()),
        ("sparse/scribbles", "sparse/maps_scribbles", _scribbles, scribble_classes()),
    )
    _write_folder(root / "pairs", shots, _dense, Classes.CELEBAMASK, with_images=True)
    _write_folder(root / "maps", held_out, _dense, Classes.CELEBAMASK, with_images=True)
    for shot_name, map_name, labelling, classes in kinds:
        _write_folder(root / shot_name, shots, labelling, classes, with_images=True)
        _write_folder(root / map_name, held_out, labelling, classes, with_images=False)
