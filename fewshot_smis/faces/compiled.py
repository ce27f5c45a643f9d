"""Machine code for the kernels, the loops over pixels, points and strands.

Kernels are plain Python functions, readable and slow; `compiled` turns one into machine code on
its first use. Numba is an optional package and is imported only then.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

from stylegan.errors import BackendError

Kernel: TypeAlias = Callable[..., Any]


@functools.cache
def compiled(kernel: Kernel, *, parts: tuple[Kernel, ...] = (), fastmath: bool = True) -> Kernel:
    """Return `kernel` as machine code, compiled on its first call and cached on disk.

    `parts` are the plain functions of the project that it calls.

    Raises:
        BackendError: numba is not installed.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        raise BackendError(
            "drawing synthetic faces needs numba, which is not installed; "
            "run: pip install fewshot-smis[synth]"
        ) from error
    options = {"fastmath": fastmath, "error_model": "numpy"}
    for part in parts:
        numba.extending.register_jitable(**options)(part)
    fast: Kernel = numba.njit(cache=True, **options)(kernel)
    return fast
