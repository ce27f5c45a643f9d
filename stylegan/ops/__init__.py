"""The operators every StyleGAN is made of: the only names other files may import from here."""

from stylegan.ops import winograd
from stylegan.ops.bias_act import ACTIVATIONS, bias_act
from stylegan.ops.convolution import conv2d_resample, modulated_conv2d
from stylegan.ops.doctor import diagnose, rebuild
from stylegan.ops.filtered_lrelu import filtered_lrelu
from stylegan.ops.lowpass import design_lowpass
from stylegan.ops.tiles import gather_tiles, spread_tiles
from stylegan.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)
from stylegan.ops.winograd import conv3x3

__all__ = [
    "ACTIVATIONS",
    "bias_act",
    "conv2d_resample",
    "conv3x3",
    "design_lowpass",
    "diagnose",
    "downsample2d",
    "filter2d",
    "filtered_lrelu",
    "gather_tiles",
    "modulated_conv2d",
    "rebuild",
    "setup_filter",
    "spread_tiles",
    "upfirdn2d",
    "upsample2d",
    "winograd",
]
