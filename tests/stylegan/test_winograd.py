"""Winograd's convolution is the convolution, and so are its gradients of both orders."""

import pytest
import torch
import torch.nn.functional as F

from stylegan.ops import build, conv3x3, winograd

CLOSE = {"rtol": 1e-4, "atol": 1e-3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # kernels, plain torch
@pytest.mark.parametrize("strip", [1, 2**21])
def test_winograd_is_the_convolution(strip, dtype, monkeypatch):
    monkeypatch.setattr(winograd, "STRIP", strip)
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(2, 21, 8, 12, generator=gen, dtype=dtype, requires_grad=True)
    w = torch.randn(7, 21, 3, 3, generator=gen, dtype=dtype)
    want = torch.nn.functional.conv2d(x, w, padding=1)
    found = winograd.convolve(x, winograd.transformed(w))
    assert found.is_contiguous(memory_format=torch.channels_last)
    close = {"rtol": 1e-4, "atol": 1e-3} if dtype == torch.float32 else {}
    torch.testing.assert_close(found, want, **close)
    grads = [torch.autograd.grad((y * want.detach()).sum() / 9, x)[0] for y in (found, want)]
    torch.testing.assert_close(*grads, **close)


def test_winograd_is_for_many_channels_and_sizes_it_fits():
    wide = torch.zeros(64, 128, 3, 3)
    assert winograd.pays(wide, (16, 24))
    assert not winograd.pays(wide, (18, 24))
    assert not winograd.pays(wide, (8, 8))
    assert winograd.pays(wide, (8, 8), 4)
    assert not winograd.pays(wide[:, :40], (16, 24))
    assert not winograd.pays(wide.bfloat16(), (16, 24))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 4)
    monkeypatch.setattr(winograd, "MIN_PIXELS", 16)


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    gen = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=gen).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("strip", [1, 2**21])
def test_gradients_of_both_orders_are_those_of_torch(small, strip, monkeypatch):
    if not build.is_native("cpu"):
        pytest.skip("needs the kernels, which this machine cannot compile")
    monkeypatch.setattr(winograd, "STRIP", strip)
    x, w, dy = tensors((2, 9, 8, 12), (7, 9, 3, 3), (2, 7, 8, 12))
    results = []
    for way in (conv3x3, lambda x, w: F.conv2d(x, w, padding=1)):
        y = way(x, w)
        first = torch.autograd.grad(y, [x, w], dy, create_graph=True)
        length = sum((g**2).mean() for g in first)
        results.append([y, *first, *torch.autograd.grad(length, [x, w, dy])])
    assert "Correlation" in conv3x3(x, w).grad_fn.name()
    for found, want in zip(*results, strict=True):
        torch.testing.assert_close(found, want, **CLOSE)


def test_what_does_not_pay_goes_to_torch(small, monkeypatch):
    x, w = tensors((1, 8, 8, 8), (8, 8, 3, 3))
    half = w.bfloat16()
    assert "Correlation" not in conv3x3(x.bfloat16(), half).grad_fn.name()
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3x3(x, w).dtype == torch.bfloat16
    monkeypatch.setattr(winograd, "uses_native", lambda x: False)
    assert "Correlation" not in conv3x3(x, w).grad_fn.name()
