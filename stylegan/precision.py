"""The number format of network passes: bfloat16 where the machine computes it fast."""

import contextlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from stylegan.errors import ConfigError

PRECISIONS = ("auto", "float32", "bfloat16")
CPU_INFO = Path("/proc/cpuinfo")


def resolve_precision(precision: str, device: torch.device | str) -> torch.dtype:
    """Return the dtype that `precision` means on `device`.

    "auto" is bfloat16 on CUDA cards of compute capability 8 and up, and on CPUs that multiply it
    faster than float32; elsewhere it is float32.

    Raises:
        ConfigError: `precision` is none of "auto", "float32", "bfloat16".
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision '{precision}'; choose from {', '.join(PRECISIONS)}")
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    device = torch.device(device)
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and cpu_has_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def cpu_has_bfloat16(info: Path = CPU_INFO) -> bool:
    """Tell whether this CPU multiplies bfloat16 faster than float32.

    With AMX it does, many times, and with AVX512-BF16 twice on AMD's processors; Intel's without
    AMX take twice as long as for float32.
    """
    facts = _read(info)
    return cpu_has_amx(info) or ("avx512_bf16" in facts and "AuthenticAMD" in facts)


def cpu_has_amx(info: Path = CPU_INFO) -> bool:
    """Tell whether this CPU multiplies tiles of bfloat16."""
    return "amx_bf16" in _read(info)


def _read(info: Path) -> str:
    try:
        return info.read_text()
    except OSError:
        return ""


def autocast(device: torch.device | str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return a context in which convolutions and products run in `dtype`."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)
