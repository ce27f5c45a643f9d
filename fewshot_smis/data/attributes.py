"""What is known of pictures, as `faces render` writes it, and which of it is asked for by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewshot_smis.data.files import read_json
from stylegan.errors import ConfigError, DataError

INDEX = "attributes.json"

Attributes = Mapping[str, float | str | bool]


def read_attributes(folder: Path, files: Sequence[Path]) -> list[Attributes]:
    """Return the attributes of pictures from the `attributes.json` of their folder.

    It holds {name: {attribute: value}}, names without ending.

    Raises:
        DataError: The file is missing or of another form, or a picture is not in it.
    """
    if not (folder / INDEX).is_file():
        raise DataError(
            f"{folder}: holds no {INDEX}, which says what is known of its pictures as "
            '{"name": {"glasses": true}}; add one, as `faces render` writes it, or leave out what '
            "asks for it (--steer, or ls of --metrics)"
        )
    table = read_json(folder / INDEX)
    if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
        raise DataError(f"{folder / INDEX}: not of the form {{name: {{attribute: value}}}}")
    for file in files:
        if file.stem not in table:
            raise DataError(f"{folder / INDEX}: has no '{file.stem}' for {file.name}; add it")
    return [table[file.stem] for file in files]


def statements(attributes: Attributes) -> set[str]:
    """Return what holds of a picture: truth values by name, texts with their value.

    >>> sorted(statements({"glasses": True, "hat": False, "headwear": "none", "age": 0.4}))
    ['glasses', 'headwear=none']
    """
    return {
        name if value is True else f"{name}={value}"
        for name, value in attributes.items()
        if value is True or isinstance(value, str)
    }


def as_conditions(pictures: Sequence[Attributes], names: Sequence[str], where: str) -> Tensor:
    """Return which of `names`, as `statements` writes them, hold of each picture.

    Args:
        pictures: The attributes of each.
        names: "glasses" or "headwear=cap".
        where: The pictures' place, for errors.

    Returns:
        [N, K] float32, 0 or 1.

    Raises:
        ConfigError: A name holds of no picture or of all.
    """
    said = [statements(attributes) for attributes in pictures]
    known = set().union(*said)
    for name in names:
        if name not in known:
            there = ", ".join(sorted(known))
            raise ConfigError(f"{where}: '{name}' holds of no picture; choose from {there}")
        if all(name in each for each in said):
            raise ConfigError(f"{where}: '{name}' holds of every picture; leave it out")
    return torch.tensor([[float(name in each) for name in names] for each in said])
