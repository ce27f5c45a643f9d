"""Write files whole: a reader never sees half of one, and a full disk leaves nothing behind."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from stylegan.errors import DataError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def write_error(path: Path, error: OSError) -> DataError:
    """Return the error to raise for `path`, which could not be written because of `error`."""
    if error.errno in _NO_SPACE:
        fix = "the disk or quota is full; free some space or choose a folder on another disk"
    elif error.errno in _NO_ACCESS:
        fix = "it may not be written; choose a folder of your own or change its permissions"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        fix = "something else has that name; choose another one"
    else:
        fix = "check the folder and the disk it is on"
    return DataError(f"{path}: cannot write ({error.strerror or error}): {fix}")


def _os_error(error: BaseException) -> OSError | None:
    """Return the OSError that `error` is, or was raised for (torch.save hides it that way)."""
    if isinstance(error, OSError):
        return error
    context = error.__context__
    return context if isinstance(error, RuntimeError) and isinstance(context, OSError) else None


@contextmanager
def atomic_write(path: Path | str) -> Iterator[BinaryIO]:
    """Open `path` for writing in binary; it takes its name only once it is whole and on the disk.

    The folder must exist. If the body fails, nothing is left, and an older file stays as it was.

    Raises:
        DataError: The file cannot be written; names the file and what to do.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        cause = _os_error(error)
        if cause is None:
            raise
        raise write_error(path, cause) from error


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write `content` to `path` whole.

    Raises:
        DataError: The file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` (what json can hold, no NaN) to `path` whole, indented, ending in a newline.

    Raises:
        DataError: The file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path | str) -> Any:
    """Return what the JSON file at `path` holds.

    Raises:
        DataError: The file is missing, unreadable or not JSON; names the line.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a JSON text; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} "
            f"({error.msg}); correct that line"
        ) from error
