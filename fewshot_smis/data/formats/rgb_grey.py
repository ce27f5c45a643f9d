"""Maps whose grey values are ids, stored as RGB with R = G = B or as plain grey."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewshot_smis.data.formats.base import (
    LabelSet,
    Request,
    Shot,
    find_maps,
    image_folder,
    new_folder,
    pictures_by_name,
)
from fewshot_smis.data.images import write_image
from fewshot_smis.data.labels import infer_classes, read_label
from fewshot_smis.data.pairs import find_classes


def read(request: Request) -> LabelSet:
    """Read maps below the source; their classes are those of a classes.json, or generic.

    Raises:
        DataError: There are no maps.
        LabelError: One holds colours.
    """
    files = find_maps(request.source)
    classes = find_classes(request.source)
    if classes is None:
        classes = infer_classes(read_label(path, None) for path in files)
    pictures = pictures_by_name(image_folder(request.source, request.images, "images"))

    def shots() -> Iterator[Shot]:
        for path in files:
            yield Shot(path.stem, read_label(path, classes), pictures.get(path.stem))

    return LabelSet(classes, shots())


def write(folder: Path, data: LabelSet) -> int:
    """Write RGB PNGs of R = G = B = id; return how many."""
    new_folder(folder)
    count = 0
    for shot in data.shots:
        grey = shot.label.astype(np.uint8)
        write_image(folder / f"{shot.name}.png", np.repeat(grey[..., None], 3, axis=2))
        count += 1
    return count
