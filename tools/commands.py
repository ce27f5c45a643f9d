"""What the commands of the tools share: errors in one line, the detector, photographs kept."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fewshot_smis.data.images import list_images
from fewshot_smis.jobs.options import CONTEXT, UserErrors
from stylegan.errors import DataError
from tools.detectors import DETECTORS

FILE = click.Path(path_type=Path)


class ToolGroup(UserErrors, click.Group):
    """The group of a tool's commands, which prints a user's mistake in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"context_settings": CONTEXT, **kwargs})


def detector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments of `open_detector`."""
    options = [
        click.option(
            "--detector",
            "name",
            type=click.Choice(DETECTORS),
            default=DETECTORS[0],
            show_default=True,
            help="What finds faces and their points.",
        ),
        click.option("--predictor", type=FILE, help="dlib's 68-point .dat; one is packaged."),
        click.option("--weights", type=FILE, help="Folder of face-alignment's networks."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def list_photos(sources: tuple[Path, ...]) -> dict[str, Path]:
    """Return the photographs of files and folders by their names without ending.

    Raises:
        DataError: A source holds none, or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in (path for source in sources for path in list_images(source)):
        if path.stem in found:
            raise DataError(
                f"both {found[path.stem]} and {path} are named '{path.stem}'; rename one"
            )
        found[path.stem] = path
    return found


def keep_photo(path: Path, folder: Path) -> None:
    """Copy a photograph into `folder`, unless it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    if target.resolve() != path.resolve():
        shutil.copyfile(path, target)
