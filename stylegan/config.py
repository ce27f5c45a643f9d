"""What networks are built from: frozen values that are written down as JSON and read back."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from stylegan.errors import ConfigError

_Config = TypeVar("_Config", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes and weights of one network or method."""

    what: ClassVar[str] = ""  # what errors call it

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {name: _as_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls: type[_Config], values: dict[str, Any]) -> _Config:
        """Rebuild a configuration from `to_dict`; ConfigError where names do not fit."""
        name = cls.what or cls.__name__
        if not isinstance(values, dict):
            raise ConfigError(f"{name} configuration: expected names and values, got {values!r}")
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"{name} configuration: unknown option {unknown[0]!r}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{name} configuration: {error}") from error


def _as_json(value: Any) -> Any:
    """Return `value` with texts for the keys of a table, which JSON has no numbers for."""
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value
