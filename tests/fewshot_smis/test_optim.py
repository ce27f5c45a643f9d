"""Ranger against the reference's steps, its parts against formulas, exact resume."""

import math

import pytest
import torch
from torch import nn

from fewshot_smis.optim import Ranger, centralised, make_optimizer, rectify
from stylegan.errors import ConfigError
from tests.parity.case import load_case


@pytest.mark.parametrize("name", ["ranger_lr1", "ranger_lr1e-3"])
def test_ranger_equals_the_reference(name):
    case = load_case(name)
    call = case.calls[0]
    count = call.spec["n_params"]
    params = [nn.Parameter(call.inputs[f"p{i}"].clone()) for i in range(count)]
    optimizer = Ranger(params, **case.args)
    checked = 0
    for step in range(1, call.spec["steps"] + 1):
        for i, p in enumerate(params):
            p.grad = call.inputs[f"d{i}"] * (p.detach() - call.inputs[f"t{i}"])
        optimizer.step()
        for i, p in enumerate(params):
            if step in call.spec["keep"]:
                call.check(f"p{i}_step{step}", p, **case.tolerance)
                checked += 1
    assert checked == len(call.outputs)


def quadratic(p):
    return (p * torch.linspace(0.5, 2, p.numel()).view_as(p)).square().sum()


def run(optimizer, p, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = quadratic(p)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_resumed_ranger_takes_the_same_steps(tmp_path):
    whole = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    optimizer = Ranger([whole], 0.05)
    run(optimizer, whole, 9)
    torch.save({"p": whole.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "s.pt")
    rest = run(optimizer, whole, 10)

    saved = torch.load(tmp_path / "s.pt", weights_only=True)
    again = nn.Parameter(saved["p"])
    resumed = Ranger([again], 0.3)
    resumed.load_state_dict(saved["optimizer"])
    assert run(resumed, again, 10) == rest
    assert torch.equal(whole, again)


def test_ranger_minimises():
    p = nn.Parameter(torch.linspace(-1, 1, 12))
    losses = run(Ranger([p], 0.05), p, 300)
    assert losses[-1] < 1e-3 * losses[0]


def test_a_row_of_a_matrix_keeps_its_mean():
    p = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
    means = p.detach().mean(dim=1)
    run(Ranger([p], 1e-3, min_sma=1e9), p, 4)
    torch.testing.assert_close(p.detach().mean(dim=1), means)


def test_gradients_are_left_as_they_are():
    p = nn.Parameter(torch.ones(3, 4))
    p.grad = torch.arange(12.0).view(3, 4)
    Ranger([p]).step()
    assert torch.equal(p.grad, torch.arange(12.0).view(3, 4))


def test_parameters_without_gradient_stay():
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = Ranger([p, q])
    assert optimizer.step(lambda: 4.0) == 4.0
    assert torch.equal(q, torch.ones(3))
    assert not torch.equal(p, torch.ones(3))
    assert len(optimizer.state) == 1


def test_weight_decay_shrinks_in_proportion_to_lr():
    p = nn.Parameter(torch.full((3,), 2.0))
    p.grad = torch.zeros(3)
    Ranger([p], 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(p.detach(), torch.full((3,), 1.9))


def test_lookahead_meets_the_slow_weights_half_way():
    start = torch.tensor([1.0, -2.0])
    p, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    run(Ranger([p], 0.1, lookahead_steps=3), p, 3)
    run(Ranger([plain], 0.1, lookahead_steps=1000), plain, 3)
    torch.testing.assert_close(p.detach(), (start + plain.detach()) / 2)


def test_centralised_takes_off_the_mean_of_all_axes_but_the_first():
    grad = torch.randn(2, 3, 5)
    want = torch.stack([row - row.mean() for row in grad])
    torch.testing.assert_close(centralised(grad), want)
    vector = torch.randn(4)
    assert torch.equal(centralised(vector), vector)


def test_rectification_starts_at_the_sixth_step_and_tends_to_one():
    assert [rectify(step, 0.999, 5.0) is None for step in range(1, 8)] == [True] * 5 + [False] * 2
    factors = [rectify(step, 0.999, 5.0) for step in (6, 100, 20_000)]
    assert 0 < factors[0] < factors[1] < factors[2]
    assert math.isclose(factors[2], 1, abs_tol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"), [("ranger", Ranger), ("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)]
)
def test_optimizers_by_name(name, kind):
    p = nn.Parameter(torch.ones(2))
    optimizer = make_optimizer(name, [p], 0.02)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.02


def test_bad_choices():
    p = [nn.Parameter(torch.ones(2))]
    with pytest.raises(ConfigError, match="'sgd' is unknown; choose one of ranger, adamw, adam"):
        make_optimizer("sgd", p, 0.1)
    for lr in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"learning rate .* give a positive number"):
            make_optimizer("adam", p, lr)
    with pytest.raises(ConfigError, match="lr is -1"):
        Ranger(p, -1)
    with pytest.raises(ConfigError, match="betas"):
        Ranger(p, betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match="look-ahead of 0 steps"):
        Ranger(p, lookahead_steps=0)
