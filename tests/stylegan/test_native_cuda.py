"""The kernels of a CUDA card equal the plain operators: every type, layout and order of gradient.

Each case runs in the kernel's storage type and is compared with the plain operators in float32,
fed the same rounded values. What rounding moves across the corner of an activation has another
slope, so errors are measured by their norm.
"""

import sys
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from stylegan.ops import bias_act, build, filtered_lrelu, setup_filter, upfirdn2d

pytestmark = pytest.mark.gpu

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # of the norm
CLAMP = 0.875


@pytest.fixture(autouse=True)
def needs_kernels(monkeypatch):
    if not build.backend("cuda").native:
        pytest.skip(build.backend("cuda").reason)
    # the plain operators convolve, and TF32 would leave them three digits
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def agree(monkeypatch):
    """Return a function that holds native and plain values and gradients against each other."""

    def check(function: Callable[..., Tensor], inputs: Sequence[Tensor], *, second: bool) -> None:
        dtype = inputs[0].dtype
        native = outcome(function, inputs, second=second)
        with monkeypatch.context() as patch:
            for name in ("bias_act", "upfirdn2d", "filtered_lrelu"):
                module = sys.modules[f"stylegan.ops.{name}"]
                patch.setattr(module, "uses_native", lambda x: False)
            plain = outcome(function, [t.float() for t in inputs], second=second)
        for got, want in zip(native, plain, strict=True):
            assert got.shape == want.shape
            assert got.isfinite().all()
            assert float((got - want).norm()) <= TOLERANCE[dtype] * max(float(want.norm()), 1e-3)

    return check


def outcome(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], *, second: bool
) -> list[Tensor]:
    """Return value, gradients, and gradients of a sum of the gradients, in float32."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    y = function(*inputs)
    gen = torch.Generator("cuda").manual_seed(1)
    dy = torch.randn(y.shape, generator=gen, device="cuda").bfloat16().to(y.dtype).requires_grad_()
    first = torch.autograd.grad(y, inputs, dy, create_graph=second)
    found = [y, *first]
    if second:
        total = sum((g.float() * torch.cos(g.detach().float())).sum() for g in first[:1])
        found += torch.autograd.grad(total, [dy], materialize_grads=True)
    return [t.detach().float() for t in found]


def rounded(*shape: int) -> Tensor:
    """Draw values that float16 and bfloat16 both hold."""
    return torch.randn(shape, device="cuda").bfloat16().float()


def pictures(shape: Sequence[int], dtype: torch.dtype, layout: str) -> Tensor:
    return rounded(*shape).to(dtype).contiguous(memory_format=LAYOUTS[layout])


each_format = pytest.mark.parametrize(
    ("dtype", "layout"), [(d, name) for d in TOLERANCE for name in LAYOUTS]
)


@each_format
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("shape", [(2, 16, 8, 6), (1, 3, 5, 7), (2, 8, 40, 150), (3, 40, 1, 1)])
def test_bias_act(agree, dtype, layout, second, shape):
    torch.manual_seed(0)
    n, c, h, w = shape
    inputs = [pictures(shape, dtype, layout), rounded(c), rounded(n, c), rounded(n, 1, h, w)]

    def run(x: Tensor, b: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        return bias_act(x, b, act="lrelu", scale=scale, noise=noise, gain=1.3)

    agree(run, inputs, second=second)
    x = inputs[0].masked_fill(inputs[0].abs() == CLAMP, 0)  # where the slope is a matter of taste
    agree(lambda x: bias_act(x, act="linear", clamp=CLAMP), [x], second=second)


@each_format
@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize(
    ("taps", "up", "down", "padding", "flip"),
    [
        ((1, 3, 3, 1), 1, 1, (1, 2, 2, 1), False),
        ((1, 3, 3, 1), 2, 1, (2, 1, 2, 1), False),
        ((1, 3, 3, 1), 1, 2, (1, 1, 1, 1), True),
        ((1, 3, 3, 1), 1, 1, (-1, 2, 3, -2), False),
        ((1, 2, 3), (3, 2), (2, 3), (4, 0, 1, 3), True),
        ((1, 3, 3, 1), 2, 1, (1, 2, -3, 4), False),
        ((1, 2, 5, 1), 1, 2, (-2, 5, 2, -1), False),
        ((1, 2, 3, 4, 5, 4, 3, 2, 1, 1), 2, 1, (5, 4, 5, 4), False),
        (range(1, 13), 2, 1, (6, 5, 7, -3), False),
        (range(1, 13), 1, 2, (5, 4, -2, 6), True),
        (range(1, 25), 4, 1, (13, 10, 12, 11), True),
        (range(1, 25), 1, 4, (11, 10, 10, 13), False),
        ((1,), 1, 2, 0, False),
    ],
)
def test_upfirdn2d(agree, dtype, layout, channels, taps, up, down, padding, flip):
    torch.manual_seed(0)
    f = setup_filter(list(taps)).cuda()
    x = pictures((2, channels, 35, 44), dtype, layout)

    def run(x: Tensor) -> Tensor:
        return upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip, gain=1.7)

    agree(run, [x], second=True)


@each_format
def test_upfirdn2d_of_one_pixel_and_of_nothing(agree, dtype, layout):
    f = setup_filter((1, 3, 3, 1)).cuda()
    agree(lambda x: upfirdn2d(x, f, up=2, padding=2), [pictures((1, 8, 1, 1), dtype, layout)],
          second=True)  # fmt: skip
    assert upfirdn2d(pictures((0, 8, 4, 4), dtype, layout), f, padding=2).shape == (0, 8, 5, 5)


@each_format
@pytest.mark.parametrize(
    ("up", "down", "taps"),
    [(2, 2, (12, 12)), (4, 2, (24, 12)), (4, 2, (12, 12)), (1, 1, (1, 1)), (2, 1, (6, 6))],
)
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(16, (35, 51)), (7, (15, 70))])
def test_filtered_lrelu(agree, dtype, layout, up, down, taps, second, channels, size):
    torch.manual_seed(0)
    filters = []
    for n in taps:
        row = torch.linspace(1, 2, n) * torch.hann_window(n + 2, periodic=False)[1:-1]
        filters.append((row / row.sum()).cuda())
    x, b = pictures((2, channels, *size), dtype, layout), rounded(channels)
    borders = [taps[0], taps[0] - 1, taps[0] + 2, taps[0] - 4]

    def run(x: Tensor, b: Tensor) -> Tensor:
        return filtered_lrelu(
            x, b=b, up_filter=filters[0], down_filter=filters[1], up=up, down=down,
            padding=borders, clamp=256,
        )  # fmt: skip

    agree(run, [x, b], second=second)


@each_format
@pytest.mark.parametrize("up", [2, 4])
def test_filtered_lrelu_of_a_radial_filter(monkeypatch, dtype, layout, up):
    torch.manual_seed(0)
    rise, fall = torch.rand(6 * up).cuda() / (3 * up), torch.rand(12, 12).cuda() / 72
    x, b = pictures((2, 7, 35, 51), dtype, layout), rounded(7)

    def run(x: Tensor) -> Tensor:
        return filtered_lrelu(
            x, b=b, up_filter=rise, down_filter=fall, up=up, down=2, padding=6 * up, clamp=256
        )

    got = run(x).float()
    for name in ("bias_act", "upfirdn2d", "filtered_lrelu"):
        monkeypatch.setattr(sys.modules[f"stylegan.ops.{name}"], "uses_native", lambda x: False)
    want = run(x.float())
    assert float((got - want).norm()) <= TOLERANCE[dtype] * float(want.norm())


@each_format
def test_a_clamp_of_filtered_lrelu_lets_no_gradient_pass(agree, dtype, layout):
    torch.manual_seed(0)
    f = torch.ones(12, device="cuda") / 12
    x = 4 * pictures((1, 8, 40, 33), dtype, layout)

    def run(x: Tensor) -> Tensor:
        return filtered_lrelu(x, up_filter=f, down_filter=f, up=2, down=2, padding=11, clamp=CLAMP)

    assert float(run(x).abs().max()) <= CLAMP * (1 + 1e-6)  # the taps sum to one, but for rounding
    agree(run, [x], second=False)
