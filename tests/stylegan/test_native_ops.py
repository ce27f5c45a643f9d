"""The kernels equal the plain operators: values, gradients of both orders, every layout."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from stylegan.errors import BackendError, ConfigError
from stylegan.ops import bias_act, build, setup_filter, upfirdn2d

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.fixture
def choose(monkeypatch):
    """Return a function that switches the backend; the session's own comes back afterwards."""

    def switch(choice: str) -> None:
        monkeypatch.setenv(build.VARIABLE, choice)
        build.backend.cache_clear()

    yield switch
    monkeypatch.undo()
    build.backend.cache_clear()


@pytest.fixture
def needs_kernels(choose):
    choose("auto")
    if not build.backend().native:
        pytest.skip(build.backend().reason)


def outcome(function, inputs: list[Tensor], second: bool = True) -> list[Tensor]:
    """Return value, first-order and second-order gradients of `function` at `inputs`."""
    torch.manual_seed(1)
    y = function(*inputs)
    dy = torch.randn(y.shape).to(y.dtype).requires_grad_()
    first = torch.autograd.grad(y, inputs, dy, create_graph=second)
    found = [y, *first]
    if second:
        mixed = sum((g.float() * torch.randn(g.shape)).sum() for g in first)
        leaves = [dy, *inputs]
        found += torch.autograd.grad(mixed, leaves, allow_unused=True, materialize_grads=True)
    return [t.detach().float() for t in found]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("act", "clamp"), [("lrelu", None), ("lrelu", 0.7), ("linear", None)])
@pytest.mark.parametrize("shape", [(2, 24, 5, 7), (3, 1, 1, 1), (1, 37, 3, 300)])
def test_bias_act_equals_the_plain_one(choose, needs_kernels, layout, second, act, clamp, shape):
    torch.manual_seed(0)
    n, c, h, w = shape
    x = torch.randn(shape).to(memory_format=LAYOUTS[layout]).requires_grad_()
    inputs = [x, *(torch.randn(s).requires_grad_() for s in ((c,), (n, c), (n, 1, h, w)))]

    def run(x, b, scale, noise):
        return bias_act(x, b, act=act, clamp=clamp, gain=1.3, scale=scale, noise=noise)

    choose("native")
    native = outcome(run, inputs, second)
    choose("reference")
    for got, want in zip(native, outcome(run, inputs, second), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("up", "down", "padding", "flip"),
    [(1, 1, (1, 2, 2, 1), False), (2, 1, (2, 1, 2, 1), True), (1, 2, (1, 1, 1, 1), False),
     ((3, 2), (2, 3), (4, 0, 1, 3), True), (1, 1, (-1, 2, 3, -2), False)],
)  # fmt: skip
@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 3, 4, 5, 6, 7, 8, 9), (2,)])
def test_upfirdn2d_equals_the_plain_one(
    choose, needs_kernels, layout, up, down, padding, flip, taps
):
    x = torch.randn(2, 19, 8, 11).to(memory_format=LAYOUTS[layout]).requires_grad_()
    f = setup_filter(taps)

    def run(x):
        return upfirdn2d(x, f, up=up, down=down, padding=padding, flip_filter=flip, gain=1.7)

    choose("native")
    native = outcome(run, [x])
    choose("reference")
    for got, want in zip(native, outcome(run, [x]), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_the_rounded_result(choose, needs_kernels):
    choose("native")
    x = torch.randn(2, 24, 9, 8).bfloat16()
    b, scale = torch.randn(24), torch.randn(2, 24)
    exact = bias_act(x.float(), b, act="lrelu", scale=scale)
    assert torch.equal(bias_act(x, b, act="lrelu", scale=scale), exact.bfloat16())
    f = setup_filter((1, 3, 3, 1))
    exact = upfirdn2d(x.float(), f, up=2, padding=2)
    assert torch.equal(upfirdn2d(x, f, up=2, padding=2), exact.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_act_writes_over_what_it_may(choose, needs_kernels, dtype):
    choose("native")
    x = torch.randn(2, 19, 7, 5, dtype=dtype)
    b, scale, noise = torch.randn(19), torch.randn(2, 19), torch.randn(7, 5)
    options = {"act": "lrelu", "clamp": 0.9, "scale": scale, "noise": noise}
    want = bias_act(x, b, **options)
    last = x.contiguous(memory_format=torch.channels_last)
    found = bias_act(last, b, **options, overwrite=True)
    assert found.data_ptr() == last.data_ptr()
    assert torch.equal(found, want)
    before = x.clone()
    assert torch.equal(bias_act(x, b, **options, overwrite=True), want)
    assert torch.equal(x, before)  # contiguous


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("clamp", [None, 0.9])
@pytest.mark.parametrize("plane", [False, True])
def test_what_was_overwritten_has_the_same_gradients(
    choose, needs_kernels, dtype, slope, clamp, plane
):
    choose("native")
    x = torch.randn(2, 19, 7, 5, dtype=dtype)
    factors = [
        torch.randn(19),
        torch.rand(2, 19) + 0.5,
        torch.randn(*([] if plane else [2, 1]), 7, 5),
    ]
    dy = torch.randn_like(x)

    def outcome(overwrite):
        leaf = x.clone().requires_grad_()
        b, scale, noise = leaves = [t.to(x).requires_grad_() for t in factors]
        inner = leaf.contiguous(memory_format=torch.channels_last) * 1
        start, options = inner.data_ptr(), {"alpha": slope, "clamp": clamp, "overwrite": overwrite}
        y = bias_act(inner, b, act="lrelu", scale=scale, noise=noise, **options)
        assert (y.data_ptr() == start) == overwrite
        return [y, *torch.autograd.grad(y, [leaf, *leaves], dy)]

    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 4e-2}[dtype]
    for found, want in zip(outcome(True), outcome(False), strict=True):
        torch.testing.assert_close(found / 10, want / 10, rtol=tolerance, atol=tolerance)


def test_what_torch_needs_is_not_overwritten(choose, needs_kernels):
    choose("native")
    b, last = torch.randn(3, requires_grad=True), torch.channels_last
    leaf = torch.randn(2, 3, 4, 5).contiguous(memory_format=last).requires_grad_()
    view = torch.randn(2, 4, 5, 3).permute(0, 3, 1, 2)
    for x in (leaf, view):
        before = x.detach().clone()
        y = bias_act(x, b, act="lrelu", overwrite=True)
        assert torch.equal(x, before)
        assert torch.equal(y, bias_act(x, b, act="lrelu"))
    inner = (leaf * 1).contiguous(memory_format=last)
    square = inner.square()
    y = bias_act(inner, b, act="lrelu", overwrite=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (y + square).sum().backward()
    y = bias_act((leaf * 1).contiguous(memory_format=last), b, act="lrelu", overwrite=True)
    (dx,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def test_operators_are_registered_whole(choose, needs_kernels):
    choose("native")
    x, b = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(3, requires_grad=True)
    args = (x, b, None, None, 0.2, 1.5, -1.0)
    torch.library.opcheck(torch.ops.fewshot_smis.bias_act.default, args)
    last = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    args = (last, b.detach(), None, None, 0.2, 1.5, -1.0)
    torch.library.opcheck(torch.ops.fewshot_smis.bias_act_.default, args)
    f = setup_filter((1, 3, 3, 1))
    args = (x, f, 2, 1, 1, 2, 2, 1, 1, 1, False, 1.3)
    torch.library.opcheck(torch.ops.fewshot_smis.upfirdn2d.default, args)
    args = (x, b, f, f, 2, 2, 3, 2, 2, 3, 1.4, 0.2, 0.9, True)
    torch.library.opcheck(torch.ops.fewshot_smis.filtered_lrelu.default, args)
    slopes = torch.randint(0, 3, (2, 3, 9, 11)).byte()
    args = (x, slopes, f, f, 2, 2, 3, 1, 2, 2, 1, 0, 2, 1, False, 1.4, 0.2)
    torch.library.opcheck(torch.ops.fewshot_smis.filtered_slopes.default, args)


def test_a_machine_without_compiler_falls_back_in_one_line(choose, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.fingerprint.cache_clear()
    choose("auto")
    assert not build.backend().native
    assert len(caplog.records) == 1
    assert "install a C++ compiler" in caplog.text
    choose("native")
    with pytest.raises(BackendError, match="install a C\\+\\+ compiler"):
        build.backend()
    build.fingerprint.cache_clear()


def test_an_unknown_choice_is_refused(choose):
    choose("fast")
    with pytest.raises(ConfigError, match="auto, native, reference"):
        build.backend()


def test_importing_builds_nothing(tmp_path):
    code = (
        "import stylegan, stylegan.ops, sys; sys.exit('torch.utils.cpp_extension' in sys.modules)"
    )
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_gradient_passes_a_clamp_that_the_type_cannot_hold(choose, needs_kernels, dtype):
    choose("native")
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0], dtype=dtype).reshape(1, 1, 2, 2).requires_grad_()
    y = bias_act(x, act="linear", clamp=0.9)  # bfloat16 has 0.8984375
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert dx.flatten().tolist() == [0, 1, 1, 0]
