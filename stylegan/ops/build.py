"""Compile the kernels of csrc/ once, on first use, and say which backend is in use and why.

A library is kept in the user's cache folder under a name made of its sources, the version of torch
and the processor or card, so that nothing stale is ever loaded; a second process waits for the
first. The kernels of csrc/cuda are a library of their own, for the cards present.
"""

import contextlib
import functools
import hashlib
import logging
import os
import platform
import shutil
import sysconfig
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
CUDA_FLAGS = ("-O3",)
NATIVE_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16, torch.float64),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}

logger = logging.getLogger(__name__)


class Backend(NamedTuple):
    """Which operators run on a kind of device, and why."""

    native: bool
    reason: str


@functools.cache
def backend(device: str = "cpu") -> Backend:
    """Return the backend of operators on "cpu" or "cuda", compiling the kernels if need be.

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
        library = build(device)
        if device == "cuda" and not backend("cpu").native:  # which declares the operators
            raise BackendError(f"the kernels of the CPU are off: {backend('cpu').reason}")
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except (BackendError, OSError) as error:
        if choice == "native":
            raise BackendError(f"{VARIABLE}=native: {error}") from error
        where = "plain" if device == "cpu" else "plain CUDA"
        logger.warning("the %s operators are used, which are slower: %s", where, error)
        return Backend(False, str(error))
    from stylegan.ops import native

    native.register()
    return Backend(True, str(library))


def is_native(device: str) -> bool:
    """Tell whether kernels run on this kind of device."""
    return backend(device).native


# What torch.compiler.assume_constant_result does, without importing the compiler: the answer is a
# constant of the traced program.
is_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def uses_native(x: Tensor) -> bool:
    """Tell whether the kernels take `x`."""
    kind = x.device.type
    return x.dtype in NATIVE_DTYPES.get(kind, ()) and is_native(kind)


def build(device: str = "cpu") -> Path:
    """Return the compiled library, compiling it first if the cache has none.

    Raises:
        BackendError: There is no compiler, no ninja or no card, or the compiler failed.
    """
    missing = lacks(device)
    if device == "cuda" and missing:
        raise BackendError(missing)
    folder = cache_folder() / fingerprint(device)
    library, failure = folder / f"{library_name(device)}.so", folder / "failed.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "building"):
        if library.exists():
            return library
        if failure.exists():
            raise BackendError(
                f"the kernels did not compile ({failure} has the log; to try again: "
                "fewshot-smis doctor --rebuild)"
            )
        if missing:
            raise BackendError(missing)
        try:
            compile_into(folder, device)
        except (RuntimeError, OSError) as error:
            failure.write_text(str(error))
            raise BackendError(f"the kernels did not compile; {failure} has the log") from error
    return library


def forget(device: str) -> None:
    """Throw away the compiled library and any failure, so that the next use compiles anew."""
    folder = cache_folder() / fingerprint(device)
    if folder.is_dir():
        with locked(folder / "building"):
            for file in folder.iterdir():
                if file.name != "building":
                    file.unlink()


def lacks(device: str) -> str:
    """Say what this machine lacks to compile for the device, "" where nothing."""
    if device == "cuda" and torch.version.cuda is None:
        return "this torch was built without CUDA"
    if device == "cuda" and not torch.cuda.is_available():
        return "there is no CUDA device"
    if device == "cuda" and nvcc() is None:
        version = torch.version.cuda
        return f"the CUDA kernels need nvcc; install the CUDA toolkit {version} or set CUDA_HOME"
    missing = [tool for tool in ("ninja", compiler()) if shutil.which(tool, path=path()) is None]
    if missing:
        return (
            f"the kernels need {' and '.join(missing)} to compile; "
            "install a C++ compiler, and: pip install ninja"
        )
    return ""


def compile_into(folder: Path, device: str) -> None:
    """Compile the sources into `folder`."""
    from torch.utils import cpp_extension

    logger.warning("compiling the %s operators, once, into %s", device, folder)
    (folder / "lock").unlink(missing_ok=True)  # left by a build that was killed
    before, os.environ["PATH"] = os.environ.get("PATH", ""), path()
    try:
        cpp_extension.load(
            library_name(device),
            [str(file) for file in sources(device) if file.suffix != ".h"],
            extra_cflags=list(FLAGS),
            extra_cuda_cflags=list(CUDA_FLAGS),
            build_directory=str(folder),
            with_cuda=device == "cuda",
            is_python_module=False,
        )
    finally:
        os.environ["PATH"] = before


def compiler() -> str:
    """Return the name of the C++ compiler."""
    return os.environ.get("CXX", "c++")


def nvcc() -> str | None:
    """Return the CUDA compiler, None where there is none."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")


def path() -> str:
    """Return the search path of programs, with those installed beside this Python (ninja)."""
    return os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))


def sources(device: str) -> list[Path]:
    """Return the files a library is made of, headers included."""
    if device == "cuda":
        return sorted([*SOURCES.glob("*.h"), *(SOURCES / "cuda").glob("*.*")])
    return sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")])


def library_name(device: str) -> str:
    """Return the name of a library, without its suffix."""
    return "fewshot_smis_ops" if device == "cpu" else f"fewshot_smis_ops_{device}"


def cache_folder() -> Path:
    """Return where compiled kernels are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fewshot_smis" / "ops"


@functools.cache
def fingerprint(device: str = "cpu") -> str:
    """Return a name for these sources, this torch and this processor or these cards."""
    digest = hashlib.sha256()
    for file in sources(device):
        digest.update(file.name.encode() + file.read_bytes())
    facts = [*FLAGS, torch.__version__, platform.machine(), processor(), compiler()]
    if device == "cuda":
        facts += [*CUDA_FLAGS, str(torch.version.cuda), *cards()]
    digest.update("\0".join(facts).encode())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the instruction sets of this processor, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def cards() -> list[str]:
    """Return name and architecture of each CUDA device."""
    return [
        f"{torch.cuda.get_device_name(i)} sm_{major}{minor}"
        for i in range(torch.cuda.device_count())
        for major, minor in [torch.cuda.get_device_capability(i)]
    ]


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
