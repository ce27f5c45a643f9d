"""The memory of freed tensors is kept for the next ones."""

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's numbers of the parameters of mallopt
NEVER, GIBIBYTE = 2**31 - 1, 2**30
DECISIONS = ("MALLOC_", "GLIBC_TUNABLES")  # a user who sets one of these has decided


def keep_freed_memory() -> None:
    """Tell the C library to keep what tensors on a CPU give back, unless the user has decided.

    glibc returns large blocks to the system and asks for them anew, and the system clears each
    page of them at its first touch. The steps of a training, which make the same large tensors
    again and again, spend up to half of their time on that. In exchange the process stays as large
    as it once was: for programs to do, not for libraries. With other C libraries nothing happens.
    """
    if not sys.platform.startswith("linux") or any(n.startswith(DECISIONS) for n in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, GIBIBYTE)
        mallopt(TRIM_THRESHOLD, NEVER)
