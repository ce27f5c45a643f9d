"""Memory for large tensors comes in huge pages, where the system has them."""

import os

VARIABLE = "THP_MEM_ALLOC_ENABLE"  # torch's own; read at its first allocation


def use_huge_pages() -> None:
    """Ask torch for transparent huge pages, unless the user has decided.

    The system clears each page of a new large tensor, one page fault for 4 KiB; by 2 MiB at a time
    that takes half as long, and large activations cost mostly that. It has to be called before the
    first tensor is made: for programs, not libraries, to do.
    """
    os.environ.setdefault(VARIABLE, "1")
