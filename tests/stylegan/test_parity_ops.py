"""The operators give the numbers of the public reference, gradients of both orders included."""

from typing import Any

import pytest
import torch

from stylegan import ops
from tests.parity.case import Call, load_case

CASES = {
    name: load_case(name)
    for name in ("ops_upfirdn2d", "ops_bias_act", "ops_conv2d_resample", "ops_modulated_conv2d")
}


def calls(case: str) -> list[Any]:
    return [pytest.param(call, id=call.name) for call in CASES[case].calls]


def make_filter(call: Call) -> torch.Tensor | None:
    setup = dict(call.spec["setup"])
    taps = setup.pop("f")
    if taps is None:
        return None
    f = ops.setup_filter(taps, **setup)
    if "filter" in call.outputs:
        call.check("filter", f, rtol=1e-5, atol=1e-6)
    return f


def check_gradients(call: Call, y: torch.Tensor, params: dict[str, torch.Tensor]) -> None:
    """Compare y, the gradients of sum(y * ct), and those of the sum of these times ct_*."""
    call.check("y", y, rtol=1e-5, atol=1e-5)
    first = torch.autograd.grad((y * call.inputs["ct"]).sum(), params.values(), create_graph=True)
    for key, grad in zip(params, first, strict=True):
        call.check(f"d{key}", grad, rtol=1e-5, atol=1e-5)
    if not any(name.startswith("d2") for name in call.outputs):
        return
    probe = sum(
        (grad * call.inputs[f"ct_{key}"]).sum() for key, grad in zip(params, first, strict=True)
    )
    leaves = {k: v for k, v in params.items() if f"d2{k}" in call.outputs}
    probe = probe + sum(0 * leaf.sum() for leaf in leaves.values())  # linear: gradients are zero
    second = torch.autograd.grad(probe, leaves.values())
    for key, grad in zip(leaves, second, strict=True):
        call.check(f"d2{key}", grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("call", calls("ops_upfirdn2d"))
def test_upfirdn2d(call: Call) -> None:
    f = make_filter(call)
    x = call.inputs["x"].requires_grad_()
    y = getattr(ops, call.spec["op"])(x, f, **call.spec["kwargs"])
    check_gradients(call, y, {"x": x})


@pytest.mark.parametrize("call", calls("ops_bias_act"))
def test_bias_act(call: Call) -> None:
    params = {k: call.inputs[k].requires_grad_() for k in ("x", "b") if k in call.inputs}
    y = ops.bias_act(params["x"], params.get("b"), **call.spec["kwargs"])
    check_gradients(call, y, params)


@pytest.mark.parametrize("call", calls("ops_conv2d_resample"))
def test_conv2d_resample(call: Call) -> None:
    f = make_filter(call)
    params = {k: call.inputs[k].requires_grad_() for k in ("x", "w")}
    y = ops.conv2d_resample(params["x"], params["w"], f=f, **call.spec["kwargs"])
    check_gradients(call, y, params)


@pytest.mark.parametrize("call", calls("ops_modulated_conv2d"))
def test_modulated_conv2d(call: Call) -> None:
    f = make_filter(call)
    kwargs = dict(call.spec["kwargs"])
    kwargs.pop("fused_modconv", None)  # ours has one path, equal to both of the reference
    x, w, s = (call.inputs[k].requires_grad_() for k in ("x", "w", "styles"))
    noise = call.inputs.get("noise")
    y = ops.modulated_conv2d(x, w, s, noise=noise, resample_filter=f, **kwargs)
    check_gradients(call, y, {"x": x, "w": w, "s": s})
