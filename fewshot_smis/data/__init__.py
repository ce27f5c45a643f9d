"""Pictures, label maps and few-shot data sets: from files to tensors and back."""

from fewshot_smis.data.classes import IGNORE, Classes
from fewshot_smis.data.images import (
    read_image,
    resize_image,
    to_tensor,
    to_uint8,
    write_image,
)
from fewshot_smis.data.labels import colorize, one_hot, read_label, resize_label
from fewshot_smis.data.pairs import Pair, Pairs, find_classes, load_label_maps, load_pairs

__all__ = [
    "IGNORE",
    "Classes",
    "Pair",
    "Pairs",
    "colorize",
    "find_classes",
    "load_label_maps",
    "load_pairs",
    "one_hot",
    "read_image",
    "read_label",
    "resize_image",
    "resize_label",
    "to_tensor",
    "to_uint8",
    "write_image",
]
