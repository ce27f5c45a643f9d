"""The CUDA kernels compile with nvcc; their arithmetic, run item by item on the host, is right."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylegan.ops import bias_act, build, filtered_lrelu, native, setup_filter, upfirdn2d
from stylegan.stylegan3 import StyleGAN3Config, layer_resampling

FOLDER = build.SOURCES / "cuda"
KERNELS = sorted(FOLDER.glob("*.cu"))
STORAGE = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(build.nvcc() is None, reason="needs nvcc, of the CUDA toolkit")
@pytest.mark.parametrize("card", ["sm_80", "sm_90"])
def test_kernels_compile_with_nvcc(card, tmp_path):
    for source in KERNELS:
        run(build.nvcc(), "-c", "-std=c++17", f"-arch={card}", "-Werror", "all-warnings",
            source, "-o", tmp_path / "kernel.o")  # fmt: skip


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels as a library of the host, whose launches are loops."""
    if build.nvcc() is None or shutil.which(build.compiler()) is None:
        pytest.skip("needs a C++ compiler and the headers of the CUDA toolkit")
    homes = (Path(build.nvcc()).resolve().parent.parent, Path("/usr/local/cuda"))
    toolkit = next((h / "include" for h in homes if (h / "include/cuda_bf16.h").is_file()), None)
    if toolkit is None:
        pytest.skip("needs the headers of the CUDA toolkit")
    library = tmp_path_factory.mktemp("host") / "kernels.so"
    run(build.compiler(), "-std=c++17", "-O1", "-fPIC", "-shared", "-DFEWSHOT_SMIS_ON_HOST",
        f"-I{toolkit}", "-x", "c++", *KERNELS, "-o", library)  # fmt: skip
    return ctypes.CDLL(str(library))


def pointer(t: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if t is None else t.data_ptr())


def call(function, *args) -> None:
    """Call a launch: tensors by address, sizes as int64, bool and floats as what they are."""
    converted = []
    for arg in args:
        if arg is None or isinstance(arg, Tensor):
            converted.append(pointer(arg))
        elif isinstance(arg, float):
            converted.append(ctypes.c_float(arg))
        else:
            converted.append(ctypes.c_int64(int(arg)))
    assert function(*converted, ctypes.c_void_p(None)) == 0


def pictures(shape, dtype, layout) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=LAYOUTS[layout])


def close(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(got.float(), want.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("shape", [(2, 16, 8, 6), (1, 3, 5, 7), (2, 8, 40, 150), (3, 40, 1, 1)])
def test_bias_act_on_the_host_equals_the_plain_one(kernels, layout, dtype, shape, monkeypatch):
    monkeypatch.setattr(sys.modules["stylegan.ops.bias_act"], "uses_native", lambda x: False)
    torch.manual_seed(0)
    n, c, h, w = shape
    x, dy = pictures(shape, dtype, layout), pictures(shape, dtype, layout)
    scale, bias, noise = torch.randn(n, c), torch.randn(c), torch.randn(n, 1, h, w)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    form = (STORAGE[dtype], last, x.data_ptr() % 16 == 0)
    size, curve = (n, c, h * w), (0.2, 1.4, 2.0)

    leaves = [t.float().requires_grad_() for t in (x, bias, scale, noise)]
    want = bias_act(leaves[0], leaves[1], act="lrelu", gain=1.4, clamp=2.0, scale=leaves[2],
                    noise=leaves[3])  # fmt: skip
    dx_want, db_want, ds_want, dn_want = torch.autograd.grad(want, leaves, dy.float())

    y = torch.empty_like(x)
    call(kernels.fewshot_smis_bias_act, x, scale, noise, bias, y, *size, h * w, *curve, *form)
    close(y, want, dtype)

    rounded = want.detach().to(dtype).contiguous(memory_format=LAYOUTS[layout])
    chunks, lanes = ctypes.c_int64(), ctypes.c_int()
    parts = kernels.fewshot_smis_bias_act_parts
    parts.restype = None
    parts(*map(ctypes.c_int64, size), int(last), ctypes.byref(chunks), ctypes.byref(lanes))
    dx = torch.empty_like(x)
    sum_g = torch.full((n, chunks.value, c, lanes.value), torch.nan)
    sum_gx = torch.full_like(sum_g, torch.nan)
    call(kernels.fewshot_smis_bias_act_backward, dy, rounded, x, scale, dx, sum_g,
         sum_gx, *size, chunks.value, lanes.value, *curve, *form)  # fmt: skip
    noted = torch.full((n, h * w, 4 if last else 1), torch.nan)
    call(kernels.fewshot_smis_bias_act_noise, dy, rounded, noted, *size, *curve, *form)
    if dtype == torch.float32:  # rounding moves results onto the clamp, where the slope is 0
        close(dx, dx_want, dtype)
        close(sum_g.sum(dim=(0, 1, 3)) / 100, db_want / 100, dtype)
        close(sum_gx.sum(dim=(1, 3)) / 100, ds_want / 100, dtype)
        close(noted.sum(2).reshape(n, 1, h, w), dn_want, dtype)
    else:
        slope = torch.where(rounded > 0, 1.4, 0.28) * (rounded.abs() < 2.0)
        g = dy.float() * slope.float()
        close(dx, g * scale[:, :, None, None], dtype)
        torch.testing.assert_close(
            sum_g.sum(dim=(0, 1, 3)), g.sum(dim=(0, 2, 3)), rtol=1e-4, atol=1e-3
        )
        gx = (g * x.float()).sum(dim=(2, 3))
        torch.testing.assert_close(sum_gx.sum(dim=(1, 3)), gx, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(noted.sum(2), g.sum(1).flatten(1), rtol=1e-4, atol=1e-4)


def resampled_on_the_host(kernels, x: Tensor, f: Tensor, want: Tensor, layout, *, up, down,
                          padding, flip, gain) -> Tensor:  # fmt: skip
    """Return what the kernel makes of `x`, in the shape of `want`."""
    y = torch.full(want.shape, torch.nan).to(x.dtype).contiguous(memory_format=LAYOUTS[layout])
    call(kernels.fewshot_smis_upfirdn2d, x, f, y, *x.shape, *want.shape[2:], *f.shape, *up, *down,
         padding[0], padding[2], flip, gain, STORAGE[x.dtype], layout == "channels_last",
         x.data_ptr() % 16 == y.data_ptr() % 16 == 0)  # fmt: skip
    return y


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize(
    ("up", "down", "padding", "flip"),
    [((1, 1), (1, 1), (1, 2, 2, 1), False), ((2, 2), (1, 1), (2, 1, 2, 1), True),
     ((1, 1), (2, 2), (1, 1, 1, 1), False), ((3, 2), (2, 3), (4, 0, 1, 3), True),
     ((1, 1), (1, 1), (-1, 2, 3, -2), False)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [3, 16])
def test_upfirdn2d_on_the_host_equals_the_plain_one(
    kernels, layout, dtype, up, down, padding, flip, channels, monkeypatch
):
    monkeypatch.setattr(sys.modules["stylegan.ops.upfirdn2d"], "uses_native", lambda x: False)
    torch.manual_seed(0)
    x = pictures((2, channels, 9, 11), dtype, layout)
    f = setup_filter(torch.rand(3, 4))
    case = {"up": up, "down": down, "padding": padding, "gain": 1.7}
    want = upfirdn2d(x.float(), f, **case, flip_filter=flip)
    close(resampled_on_the_host(kernels, x, f, want, layout, **case, flip=flip), want, dtype)


TILED = [  # (up, down, taps): both axes of a 4x4 filter, rows and columns of the longer ones
    (up, down, taps)
    for up, down, n in [(1, 1, 4), (2, 1, 4), (1, 2, 4), (2, 1, 12), (1, 2, 12), (4, 1, 24),
                        (1, 4, 24)]
    for taps in ([(4, 4)] if n == 4 else [(1, n), (n, 1)])
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("up", "down", "taps"), TILED)
def test_tiles_on_the_host_equal_the_plain_one(kernels, layout, up, down, taps, monkeypatch):
    monkeypatch.setattr(sys.modules["stylegan.ops.upfirdn2d"], "uses_native", lambda x: False)
    torch.manual_seed(0)
    f = torch.randn(taps) / sum(taps)
    along = [n > 1 for n in reversed(taps)]  # x, y
    scales = [tuple(factor if on else 1 for on in along) for factor in (up, down)]
    wide = max(taps)
    for shape, padding in [
        ((2, 8, 37, 41), (wide - 1, wide // 2, wide // 2, wide - 1)),  # insides and all borders
        ((1, 3, 30, 29), (-3, 2, 1, -2)),  # crops
        ((1, 16, 34, 48), (-2, -1, -5, -3)),
        ((3, 8, 1, 1), (wide, wide + 1, wide + 2, wide)),
        ((1, 5, 32, 32), (2 * wide, 0, 5, 4)),  # outputs that see no pixel
        ((2, 4, 32, 64), (4, 4, 4, 4)),  # rows that may be stored in packs
    ]:
        for dtype in STORAGE:
            x, flip = pictures(shape, dtype, layout), dtype == torch.float16
            around = tuple(p if along[k // 2] else min(p, 1) for k, p in enumerate(padding))
            case = {"up": scales[0], "down": scales[1], "padding": around, "gain": 1.7}
            want = upfirdn2d(x.float(), f, **case, flip_filter=flip)
            got = resampled_on_the_host(kernels, x, f, want, layout, **case, flip=flip)
            close(got, want, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize(("up", "channels"), [(2, 8), (4, 8), (2, 6)])
@pytest.mark.parametrize(
    ("size", "padding"),
    [((21, 37), (9, 10, 12, 7)), ((33, 18), (-3, 30, 12, 14)), ((1, 2), (20, 23, 22, 21))],
)
def test_filtered_lrelu_on_the_host_equals_the_plain_one(
    kernels, layout, dtype, up, channels, size, padding, monkeypatch
):
    for name in ("bias_act", "upfirdn2d", "filtered_lrelu"):
        monkeypatch.setattr(sys.modules[f"stylegan.ops.{name}"], "uses_native", lambda x: False)
    torch.manual_seed(0)
    rise, fall = torch.rand(6 * up) / (3 * up), torch.rand(12) / 6
    x, bias = pictures((2, channels, *size), dtype, layout), torch.randn(channels)
    leaves = [x.float().requires_grad_(), bias]
    want = filtered_lrelu(leaves[0], b=bias, up_filter=rise, down_filter=fall, up=up, down=2,
                          padding=padding, gain=1.4, clamp=1.0)  # fmt: skip
    left, right, top, bottom = padding
    high = [n * up + p - len(rise) + 1 for n, p in zip(size, (top + bottom, left + right),
                                                       strict=True)]  # fmt: skip

    def tiles(x, bias, f_up, f_down, y, slopes, rates, padding, flip, gain, linear) -> None:
        call(kernels.fewshot_smis_filtered_lrelu, x, bias, f_up, f_down, y, slopes, 2, channels,
             *x.shape[2:], *high, *y.shape[2:], rates[0], len(f_up), rates[1], len(f_down),
             f_down.ndim == 2, *padding, flip, gain, 0.2, 1.0, linear, STORAGE[dtype],
             layout == "channels_last",
             all(t.data_ptr() % 16 == 0 for t in (x, y, slopes) if t is not None))  # fmt: skip

    y = torch.full(want.shape, torch.nan).to(dtype).contiguous(memory_format=LAYOUTS[layout])
    tiles(x, bias, rise, fall, y, None, (up, 2), (left, top, 0, 0), False, 1.4, False)
    close(y, want, dtype)
    slopes = torch.full((2, channels, *high), 9, dtype=torch.uint8)
    slopes = slopes.contiguous(memory_format=LAYOUTS[layout])
    again = torch.full_like(y, torch.nan)
    tiles(x, bias, rise, fall, again, slopes, (up, 2), (left, top, 0, 0), False, 1.4, False)
    assert torch.equal(again, y)
    assert int(slopes.max()) <= 2  # all are noted

    dy = pictures(want.shape, dtype, layout)
    (dx_want,) = torch.autograd.grad(want, leaves[0], dy.float())
    dx = torch.full_like(x, torch.nan)
    inner = (len(rise) - 1 - left, len(rise) - 1 - top)
    gain = 1.4 * up**2 / 4  # as the kernel makes up for the zeros that it puts between
    tiles(dy, None, fall, rise, dx, slopes, (2, up), (11, 11, *inner), True, gain, True)
    close(dx, dx_want, dtype)

    fall = torch.rand(12, 12) / 36
    want = filtered_lrelu(x.float(), b=bias, up_filter=rise, down_filter=fall, up=up, down=2,
                          padding=padding, gain=1.4, clamp=1.0)  # fmt: skip
    tiles(x, bias, rise, fall, y.fill_(torch.nan), None, (up, 2), (left, top, 0, 0), False, 1.4,
          False)  # fmt: skip
    close(y, want, dtype)


@pytest.mark.parametrize("radial", [False, True])
def test_tiles_of_filtered_lrelu_are_those_of_stylegan3(radial):
    config = StyleGAN3Config(img_resolution=256, radial_filters=radial)
    *plans, _ = layer_resampling(config)  # but to-RGB, which does not filter
    for up, down, rise, fall in plans:
        x = torch.empty(1, device="meta", requires_grad=True)
        with torch.no_grad():
            assert native.takes_filtered_lrelu(x, None, (rise, fall), up, down)
        found = native.takes_filtered_lrelu(x, None, (rise, fall), up, down)
        assert found == (fall.ndim == 1)
