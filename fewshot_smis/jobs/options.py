"""A frozen dataclass per job is at once the command line, the config file and the record."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import click

from stylegan.errors import ConfigError, FewshotError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class UserErrors(click.Group):
    """A group whose commands print a user's mistake in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a FewshotError becomes one line and exit 1, or 2 for wrong usage."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        except FewshotError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


def opt(
    default: Any,
    text: str,
    *,
    required: bool = False,
    min: float | None = None,
    max: float | None = None,
    choices: tuple[str, ...] | None = None,
    argument: bool = False,  # a positional argument of the command
) -> Any:
    """Declare a field of a job with its help text and range."""
    meta = {
        "text": text,
        "required": required,
        "min": min,
        "max": max,
        "choices": choices,
        "argument": argument,
    }
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What every job takes."""

    makes_run: ClassVar[bool] = True  # whether the job writes a run directory
    parallel: ClassVar[bool] = False  # whether several processes of torchrun may share the job

    seed: int = opt(0, "Seed of every random stream.", min=0)
    device: str = opt("auto", "auto, cpu, cuda or cuda:N.")
    out: Path | None = opt(None, "Run directory to make; by default the next one under --runs.")
    runs: Path = opt(Path("runs"), "Folder of the run directories.")

    def __post_init__(self) -> None:
        """Check every field against its declared range."""
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            f.name: str(v) if isinstance(v := getattr(self, f.name), Path) else v
            for f in dataclasses.fields(self)
        }


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    low, high = field.metadata.get("min"), field.metadata.get("max")
    flag = f"--{field.name.replace('_', '-')}"
    if value is None:
        if field.metadata.get("required"):
            raise ConfigError(f"{flag} is missing")
        return
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ConfigError(f"{flag} is {value}; it must be {bounds}")
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{flag} is '{value}'; choose from {', '.join(choices)}")


def job_options(job_type: type[Job]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a click command one option for each field of `job_type`, and --config, --dry-run."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for field in reversed(dataclasses.fields(job_type)):
            command = _parameter(field, typing.get_type_hints(job_type)[field.name])(command)
        command = click.option("--dry-run", is_flag=True, help="Print the resolved job and stop.")(
            command
        )
        return click.option(
            "--config", type=click.Path(path_type=Path), help="JSON file of options; flags win."
        )(command)

    return decorate


def _parameter(
    field: dataclasses.Field[Any], hint: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind = _plain(hint)
    param: Any = kind
    if field.metadata.get("choices"):
        param = click.Choice(field.metadata["choices"])
    elif kind is Path:
        param = click.Path(path_type=Path)
    text = field.metadata["text"]
    if field.metadata.get("argument"):
        return click.argument(field.name, type=param, required=False)
    name = field.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if kind is bool else f"--{name}"
    shown = "" if field.default is None else f"  [default: {field.default}]"
    if field.metadata.get("required"):
        shown = "  [required]"
    if kind is bool:
        return click.option(flag, field.name, default=None, help=text + shown)
    return click.option(flag, field.name, type=param, default=None, help=text + shown)


def _plain(hint: Any) -> Any:
    """Return T of `T | None`."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not type(None))
    return hint


def resolve(job_type: type[Job], flags: Mapping[str, Any], config: Path | None) -> Any:
    """Build a job from defaults, then the config file, then the flags that were given.

    Raises:
        ConfigError: An unknown key, a value out of range, or an unreadable file.
    """
    hints = typing.get_type_hints(job_type)
    names = {f.name for f in dataclasses.fields(job_type)}
    values = {} if config is None else _read_config(config, names)
    values.update({k: v for k, v in flags.items() if v is not None})
    for name, value in values.items():
        if value is not None and _plain(hints[name]) is Path:
            values[name] = Path(value)
    return job_type(**values)


def _read_config(path: Path, names: set[str]) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; --config takes the config.json of a run"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected an object of options")
    values.pop("command", None)
    for key in values:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ConfigError(f"{path}: unknown option '{key}'.{hint}")
    return values
