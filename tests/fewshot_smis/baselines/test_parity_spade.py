"""SPADE's networks and losses against the reference, from weights under the public names."""

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.baselines.objective import ADVERSARIAL, feature_matching, wasserstein
from fewshot_smis.baselines.spade import (
    SpadeDiscriminator,
    SpadeGenerator,
    StyleEncoder,
    hinge,
    kl_divergence,
    over_scales,
)
from tests.parity.case import Call, load_case


def planes(call: Call, num_classes: int) -> torch.Tensor:
    return F.one_hot(call.inputs["labels"].long(), num_classes).movedim(-1, 1).float()


def check(call: Call, outputs: dict[str, torch.Tensor], atol: float | None = None) -> None:
    """Compare at the case's tolerance: rtol 1e-3; atol as given, or 1e-4 of the largest."""
    for name, actual in outputs.items():
        absolute = 1e-4 * call.spec["outputs"][name]["absmax"] if atol is None else atol
        call.check(name, actual, rtol=1e-3, atol=absolute)


@torch.no_grad()
def test_generator_with_batch_norm_equals_the_reference():
    case = load_case("spade_g128_batch_nc6")
    net = SpadeGenerator(6, (128, 128), width=16)
    net.load_state_dict(case.weights)
    call = case.call("forward")
    check(call, {"img": net.eval()(planes(call, 6))}, 1e-4)


@torch.no_grad()
def test_generator_with_style_edges_and_more_doublings_equals_the_reference():
    case = load_case("spade_g128_instance_vae")
    net = SpadeGenerator(7, (128, 128), width=8, norm="instance", z_dim=64, doublings=6)
    net.load_state_dict(case.weights)
    call = case.call("forward")
    maps = torch.cat([planes(call, 6), call.outputs["edges"]], dim=1)
    check(call, {"img": net.eval()(maps, call.inputs["z"])}, 1e-4)


@torch.no_grad()
def test_encoder_and_its_divergence_equal_the_reference():
    case = load_case("spade_e256")
    net = StyleEncoder(width=case.args["ngf"])
    net.load_state_dict(case.weights)
    call = case.call("forward")
    mu, logvar = net.eval()(call.inputs["img"])
    check(call, {"mu": mu, "logvar": logvar, "kld": kl_divergence(mu, logvar)})


@torch.no_grad()
def test_discriminator_and_its_losses_equal_the_reference():
    case = load_case("spade_d128")
    call = case.call("forward")
    net = SpadeDiscriminator(10, width=16)
    net.load_state_dict(case.weights)
    maps = torch.cat([planes(call, 6), edges(call.inputs["instance"])], dim=1)
    both = torch.cat([call.inputs["fake"], call.inputs["real"]])
    out = net.eval()(torch.cat([maps, maps]), both)
    check(call, {f"out_{i}_{j}": x for i, scale in enumerate(out) for j, x in enumerate(scale)})
    n = len(maps)
    fake, real = ([[x[part] for x in scale] for scale in out] for part in (slice(n), slice(n, 9)))
    names = {"ls": "least_squares", "original": "logistic", "w": "wasserstein"}
    for name, loss in {"hinge": hinge, **{k: ADVERSARIAL[v] for k, v in names.items()}}.items():
        losses = {
            f"{name}_G": over_scales(wasserstein if name == "hinge" else loss, fake, real=True),
            f"{name}_D_fake": over_scales(loss, fake, real=False),
            f"{name}_D_real": over_scales(loss, real, real=True),
        }
        check(call, {key: value.reshape(1) for key, value in losses.items()})
    check(call, {"feat_match": 10 * feature_matching(fake, real)})


def edges(instance: torch.Tensor) -> torch.Tensor:
    """Mark the pixels of `instance` [N,H,W] with a neighbour, not diagonal, of another instance."""
    here = instance[:, None].float()
    around = F.pad(here, (1, 1, 1, 1), mode="replicate")
    beside = (
        around[..., :-2, 1:-1],
        around[..., 2:, 1:-1],
        around[..., 1:-1, :-2],
        around[..., 1:-1, 2:],
    )
    return torch.stack([other != here for other in beside]).any(dim=0).float()


@pytest.mark.parametrize(
    ("case", "net"),
    [
        ("spade_g128_batch_nc6", lambda: SpadeGenerator(6, (128, 128), width=16)),
        ("spade_d128", lambda: SpadeDiscriminator(10, width=16)),
    ],
)
def test_no_name_is_left_over(case, net):
    assert set(net().state_dict()) == set(load_case(case).weights)
