"""Compile the kernels of csrc/ once, on first use, and say which backend is in use and why.

The library is kept in the user's cache folder under a name made of the sources, the version of
torch and the processor, so that nothing stale is ever loaded; a second process waits for the first.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stylegan.errors import BackendError, ConfigError

VARIABLE = "FEWSHOT_SMIS_OPS"
CHOICES = ("auto", "native", "reference")
SOURCES = Path(__file__).parent / "csrc"
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp")
NATIVE_DTYPES = (torch.float32, torch.bfloat16)

logger = logging.getLogger(__name__)


class Backend(NamedTuple):
    """Which operators run, and why."""

    native: bool
    reason: str


@functools.cache
def backend() -> Backend:
    """Return the backend of CPU operators, compiling the kernels if need be.

    FEWSHOT_SMIS_OPS chooses: "native" insists on the kernels, "reference" leaves them out, and
    "auto" (the default) takes them where they compile, and else says so in one line.

    Raises:
        BackendError: The variable insists on kernels that cannot be built here.
        ConfigError: The variable is none of the three.
    """
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise ConfigError(f"{VARIABLE}={choice}: choose from {', '.join(CHOICES)}")
    if choice == "reference":
        return Backend(False, f"{VARIABLE}=reference")
    try:
        library = build()
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except (BackendError, OSError) as error:
        if choice == "native":
            raise BackendError(f"{VARIABLE}=native: {error}") from error
        logger.warning("the plain operators are used, which are slower: %s", error)
        return Backend(False, str(error))
    from stylegan.ops import native

    native.register()
    return Backend(True, str(library))


def uses_native(x: Tensor) -> bool:
    """Tell whether the kernels take `x`: on the CPU, in float32 or bfloat16."""
    return x.device.type == "cpu" and x.dtype in NATIVE_DTYPES and backend().native


def build() -> Path:
    """Return the compiled library, compiling it first if the cache has none.

    Raises:
        BackendError: There is no compiler or no ninja, or the compiler failed.
    """
    folder = cache_folder() / fingerprint()
    library, failure = folder / "fewshot_smis_ops.so", folder / "failed.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "building"):
        if library.exists():
            return library
        if failure.exists():
            raise BackendError(
                f"the kernels did not compile ({failure} has the log; delete {folder} to try again)"
            )
        missing = [tool for tool in ("ninja", compiler()) if shutil.which(tool) is None]
        if missing:
            raise BackendError(
                f"the kernels need {' and '.join(missing)} to compile; "
                "install a C++ compiler, and: pip install ninja"
            )
        try:
            compile_into(folder)
        except (RuntimeError, OSError) as error:
            failure.write_text(str(error))
            raise BackendError(f"the kernels did not compile; {failure} has the log") from error
    return library


def compile_into(folder: Path) -> None:
    """Compile the sources into `folder`/fewshot_smis_ops.so."""
    from torch.utils import cpp_extension

    logger.warning("compiling the operators, once, into %s", folder)
    (folder / "lock").unlink(missing_ok=True)  # left by a build that was killed
    cpp_extension.load(
        "fewshot_smis_ops",
        [str(path) for path in sorted(SOURCES.glob("*.cpp"))],
        extra_cflags=list(FLAGS),
        build_directory=str(folder),
        is_python_module=False,
    )


def compiler() -> str:
    """Return the name of the C++ compiler."""
    return os.environ.get("CXX", "c++")


def cache_folder() -> Path:
    """Return where compiled kernels are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fewshot_smis" / "ops"


@functools.cache
def fingerprint() -> str:
    """Return a name for these sources, this torch and this processor."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    facts = (*FLAGS, torch.__version__, platform.machine(), processor(), compiler())
    digest.update("\0".join(facts).encode())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the instruction sets of this processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock; another process that wants it waits."""
    try:
        import fcntl
    except ImportError as error:  # not a POSIX system
        raise BackendError("the kernels are compiled on Linux and macOS only") from error
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
