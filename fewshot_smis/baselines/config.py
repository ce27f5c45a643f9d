"""What a baseline is built from: frozen values that are written down and read back."""

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from stylegan.errors import ConfigError

_Config = TypeVar("_Config", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes and weights of one network or method."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[_Config], values: dict[str, Any]) -> _Config:
        """Rebuild a configuration from `to_dict`; ConfigError for unknown or missing names."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error


def check_choice(what: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ConfigError(f"{what} {value!r} is unknown; choose one of {listed}")


def check_at_least(least: float, **values: float) -> None:
    """Raise ConfigError for the first of `values` that is below `least`."""
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"{name} is {value}; give {least} or more")
