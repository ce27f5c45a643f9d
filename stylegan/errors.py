"""The exception tree of the whole project; the command line prints these without a traceback.

FewshotError
├── ConfigError       an option or configuration value that cannot be used
├── CheckpointError   a file of weights that cannot be read, or holds something else
├── DataError         a picture, folder or archive that cannot be read or does not fit
│   └── LabelError    a label map whose ids, colours or size do not fit its classes
├── ShapeError        a tensor of the wrong shape, layer count or resolution
├── BackendError      a kernel, device or optional package that is not available
└── DivergenceError   a training or optimisation whose loss stopped being finite
"""


class FewshotError(Exception):
    """Base of every mistake a user can make and mend."""


class ConfigError(FewshotError):
    """An option or configuration value that cannot be used."""


class CheckpointError(FewshotError):
    """A file of weights that cannot be read, or holds something else than expected."""


class DataError(FewshotError):
    """A picture, folder or archive that cannot be read or does not fit."""


class LabelError(DataError):
    """A label map whose ids, colours or size do not fit its classes."""


class ShapeError(FewshotError):
    """A tensor of the wrong shape, layer count or resolution."""


class BackendError(FewshotError):
    """A kernel, device or optional package that is not available."""


class DivergenceError(FewshotError):
    """A training or optimisation whose loss stopped being finite."""
