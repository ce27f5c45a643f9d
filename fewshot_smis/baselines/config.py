"""The checks that the configurations of the baselines share."""

from stylegan.errors import ConfigError


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
