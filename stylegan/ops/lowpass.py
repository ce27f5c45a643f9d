"""Low-pass filters of StyleGAN3: a sinc or a jinc under a Kaiser window."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]


def design_lowpass(
    taps: int, cutoff: float, width: float, rate: float, *, radial: bool = False
) -> Tensor | None:
    """Design a low-pass filter (StyleGAN3, appendix C.1).

    Args:
        taps: Length of the filter; one tap is the identity.
        cutoff: Frequency at the middle of the transition band.
        width: Full width of the transition band, in the unit of `cutoff`.
        rate: Samples per unit length.
        radial: Make it rotationally symmetric, [taps, taps], of an even number of taps.

    Returns:
        float32 taps [taps], or [taps, taps] when radial, of unit sum; None for one tap.
    """
    if taps == 1:
        return None
    at: Array = (np.arange(taps, dtype=np.float64) - (taps - 1) / 2) / rate
    window = np.kaiser(taps, _kaiser_beta(taps, width / (rate / 2))).astype(np.float64)
    response: Array
    if radial:
        response = _jinc(np.hypot(*np.meshgrid(at, at)), cutoff) * np.outer(window, window)
    else:
        response = np.sinc(2 * cutoff * at) * window
    return torch.from_numpy(response / response.sum()).float()


def _kaiser_beta(taps: int, width: float) -> float:
    """Return the shape of the Kaiser window for a transition `width` in units of half the rate."""
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95  # decibels
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def _jinc(r: Array, cutoff: float) -> Array:
    """Return the ideal circular low-pass J1(2 pi f r) / (pi r), for r > 0."""
    bessel: Array = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * r)).numpy()
    return bessel / (math.pi * r)
