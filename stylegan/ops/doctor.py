"""What the operators run on here, and why: the facts behind `fewshot-smis doctor`."""

import os
import shutil
import subprocess

import torch

from stylegan.ops import build
from stylegan.precision import resolve_precision


def diagnose() -> dict[str, str]:
    """Return what runs, what compiles it, and what the machine can do; each fact is one line.

    The kernels are compiled if they have not been, as on their first use.
    """
    flags = build.processor().split()
    return {
        "operators, cpu": _state("cpu"),
        "operators, cuda": _state("cuda"),
        f"{build.VARIABLE}": os.environ.get(build.VARIABLE, "not set (auto)"),
        "compiler": _version(shutil.which(build.compiler()), "--version", build.compiler()),
        "ninja": _version(shutil.which("ninja", path=build.path()), "--version", "ninja"),
        "nvcc": _version(build.nvcc(), "--version", "nvcc", line=-1),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "cuda": _cuda(),
        "avx512": _yes("avx512f" in flags),
        "avx512 bf16": _yes("avx512_bf16" in flags),
        "amx bf16": _yes("amx_bf16" in flags),
        "precision auto": str(resolve_precision("auto", _device())).removeprefix("torch."),
        "cache": str(build.cache_folder()),
    }


def rebuild() -> None:
    """Compile anew what this process has not loaded yet."""
    build.forget("cpu")
    if not build.lacks("cuda"):
        build.forget("cuda")


def _state(device: str) -> str:
    if device == "cuda" and (missing := build.lacks("cuda")):
        return f"off: {missing}"
    native, reason = build.backend(device)
    return f"native ({reason})" if native else f"reference ({reason})"


def _version(program: str | None, flag: str, name: str, *, line: int = 0) -> str:
    """Return the program's path and the line of its answer that names the version."""
    if program is None:
        return f"{name} not found"
    answer = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    lines = answer.stdout.splitlines() or ["does not say its version"]
    return f"{program}, {lines[line]}"


def _cuda() -> str:
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    return f"{torch.version.cuda}, {'; '.join(build.cards()) or 'no device'}"


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
