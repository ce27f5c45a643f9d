"""COCO-Stuff: pixel maps of 182 classes (stuffthingmaps), ids from 0, 255 where unlabelled."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.formats.base import (
    LabelSet,
    Request,
    Shot,
    find_files,
    image_folder,
    new_folder,
    pictures_by_name,
)
from fewshot_smis.data.images import write_image
from fewshot_smis.data.labels import read_stored
from stylegan.errors import LabelError

_TEXT = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
    "fire hydrant, street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, "
    "cow, elephant, bear, zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, "
    "tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, "
    "bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, "
    "couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, "
    "book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush, banner, "
    "blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, "
    "ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, "
    "dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, "
    "flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, "
    "leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, "
    "pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, "
    "roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, "
    "straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, "
    "wall-concrete, wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, "
    "waterdrops, window-blind, window-other, wood"
)
NAMES = tuple(_TEXT.split(", "))
"""The 91 things and 91 stuff classes; a map holds the place in this list."""


def read(request: Request) -> LabelSet:
    """Read pixel maps below the source; pictures are in images/, in or beside it.

    Raises:
        DataError: There are no maps.
        LabelError: One holds other ids.
    """
    files = find_files(request.source, "*.png", "pixel maps")
    folder = image_folder(request.source, request.images, "images")
    pictures = pictures_by_name(folder)

    def shots() -> Iterator[Shot]:
        for path in files:
            ids = read_stored(path).ids
            bad = None if ids is None else (ids >= len(NAMES)) & (ids != IGNORE)
            if ids is None or bad is None or bad.any():
                raise LabelError(
                    f"{path}: not a map of ids 0 to {len(NAMES) - 1} and 255; take the files of "
                    "stuffthingmaps"
                )
            yield Shot(path.stem, ids, pictures.get(path.stem))

    return LabelSet(Classes(NAMES), shots())


def write(folder: Path, data: LabelSet) -> int:
    """Write pixel maps; return how many.

    Raises:
        LabelError: The classes are not the 182 of COCO-Stuff.
    """
    if data.classes.num_classes != len(NAMES):
        raise LabelError(
            f"{data.classes.num_classes} classes, but COCO-Stuff has {len(NAMES)}; bring the maps "
            "to them with `fewshot-smis labels remap`"
        )
    new_folder(folder)
    count = 0
    for shot in data.shots:
        write_image(folder / f"{shot.name}.png", shot.label.astype(np.uint8))
        count += 1
    return count
