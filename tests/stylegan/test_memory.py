"""Memory that is freed is kept, and the user has the last word."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
import fewshot_smis.cli as cli
cli.main(["labels", "--help"], standalone_mode=False)
for _ in range(30):
    torch.ones(10 * 2**20)  # 40 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(**environment):
    """Return the page faults of thirty large tensors, one after the other."""
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        check=True,
        env=rest | environment,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc alone")
def test_commands_keep_freed_memory_unless_the_user_has_decided():
    assert faults() < 0.75 * faults(MALLOC_ARENA_MAX="4")
