"""OASIS's networks and losses against the reference, from weights under the public names."""

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.baselines.oasis import (
    OasisConfig,
    OasisDiscriminator,
    OasisGenerator,
    class_weights,
    drawn_loss,
    from_public,
    labelmix_mask,
    mix,
    segmentation_loss,
)
from tests.parity.case import Call, load_case

LOSSES = load_case("oasis_losses")


def onehot(call: Call, num_classes: int) -> torch.Tensor:
    return F.one_hot(call.inputs["labels"].long(), num_classes).movedim(-1, 1).float()


def check_loss(call: Call, name: str, actual: torch.Tensor) -> None:
    shape = call.spec["outputs"][name]["shape"]
    call.check(name, actual.reshape(shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("oasis_g64_nc6", 64), ("oasis_g256_nc5", 256)])
@torch.no_grad()
def test_generator_equals_the_reference(name, size):
    case = load_case(name)
    num_classes = case.args["semantic_nc"]
    net = OasisGenerator(OasisConfig(num_classes=num_classes, size=(size, size), width=16))
    net.load_state_dict(from_public(case.weights))
    net.eval()
    for call in case.calls:
        maps = onehot(call, num_classes)
        noise = call.inputs.get("noise3d")
        if noise is None:
            noise = call.inputs["noise"].reshape(len(maps), 64, 1, 1).expand(-1, -1, size, size)
        call.check("img", net(maps, noise), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_discriminator_equals_the_reference():
    case = load_case("oasis_d256_nc6")
    net = OasisDiscriminator(OasisConfig(num_classes=6, size=(256, 256)))
    net.load_state_dict(from_public(case.weights))
    call = case.call("forward")
    absmax = call.spec["outputs"]["logits"]["absmax"]
    call.check("logits", net.eval()(call.inputs["img"]), rtol=1e-3, atol=1e-4 * absmax)


@pytest.mark.parametrize("name", ["n1", "n1_nobalance", "n1_dontcare"])
def test_segmentation_losses_equal_the_reference(name):
    call = LOSSES.call(name)
    options = call.spec["opt"]
    maps, logits = onehot(call, options["semantic_nc"]), call.inputs["logits"].requires_grad_()
    weights = class_weights(maps, unknown_first=options["contain_dontcare_label"])
    if options["no_balancing_inloss"]:
        weights = torch.ones_like(weights)
    else:
        check_loss(call, "weight_map", torch.einsum("nkhw,k->nhw", maps, weights))
    for kind, loss in (
        ("real", segmentation_loss(logits, maps, weights)),
        ("fake", drawn_loss(logits)),
    ):
        check_loss(call, f"loss_{kind}", loss)
        (grad,) = torch.autograd.grad(loss, logits)
        call.check(f"grad_{kind}", grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["labelmix0", "labelmix1", "labelmix2"])
def test_labelmix_equals_the_reference(name):
    """But for class 0 where its coin is 1: there the reference takes it for class 1 as well."""
    call = LOSSES.call(name)
    maps = onehot(call, 7)
    present = maps.sum(dim=(0, 2, 3)) > 0
    coins = torch.zeros(7, dtype=torch.int64)
    coins[present] = call.inputs["flips"].long()[: int(present.sum())]  # the rest goes unused
    if coins[0] == 1 and present[1]:
        coins[0] = coins[1]
    mask = labelmix_mask(maps, coins)
    check_loss(call, "mask", mask)
    mixed = mix(mask, call.inputs["real"], call.inputs["fake"])
    check_loss(call, "mixed", mixed)
    wanted = mix(mask, call.inputs["D_real"], call.inputs["D_fake"])
    check_loss(call, "loss", F.mse_loss(call.inputs["D_mixed"], wanted))
