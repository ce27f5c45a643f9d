"""pix2pix against the reference: the same numbers from weights under the public names."""

import functools

import pytest
import torch

from fewshot_smis.baselines.checkpoint import load_weights, patch_config, unet_config
from fewshot_smis.baselines.objective import ADVERSARIAL, gradient_penalty, l1
from fewshot_smis.baselines.patchgan import PatchDiscriminator
from fewshot_smis.baselines.unet import UNet
from tests.parity.case import load_case

MODES = {"vanilla": "logistic", "lsgan": "least_squares", "wgangp": "wasserstein"}
UNETS = ("pix2pix_unet128_batch", "pix2pix_unet128_instance")
DISCRIMINATORS = ("pix2pix_d70_batch", "pix2pix_d70_instance", "pix2pix_pixel_batch")


def flat(name):
    return name.replace(".", "_")


def build(case):
    """Build the network from nothing but its weights."""
    kind, config_of = (UNet, unet_config) if "unet" in case.name else (PatchDiscriminator, None)
    config = (config_of or patch_config)(case.weights, case.name)
    return load_weights(kind(config), case.weights, case.name)


def close(case):
    """Return a check of single numbers and maps at the case's tolerance."""
    return functools.partial(type(case.calls[0]).check, **case.tolerance["default"])


@pytest.mark.parametrize("name", UNETS)
def test_generator_equals_the_reference(name):
    case = load_case(name)
    check = close(case)
    assert len(case.calls) >= 2
    for call in case.calls:
        net = build(case).train(call.spec["mode"] == "train")
        img = net(call.inputs["img"])
        check(call, "img", img)
        for key in call.spec.get("running", ()):
            check(call, f"after_{flat(key)}", net.state_dict()[key])
        if call.spec["op"] != "l1":
            continue
        loss = call.spec["lambda_L1"] * l1(img, call.inputs["target"])
        check(call, "L1", loss)
        loss.backward()
        for key in call.spec["grads"]:
            call.check_l2(f"grad_{flat(key)}", net.get_parameter(key).grad)


def check_mode(case, call, mode):
    """Compare all losses of one kind, and their gradients where they are stored."""
    check, loss = close(case), ADVERSARIAL[MODES[mode]]
    net = build(case).train(call.spec["mode"] == "train")
    fake = call.inputs["fake"].clone().requires_grad_()
    pred_fake = net(torch.cat([call.inputs["A"], fake], dim=1))
    pred_real = net(torch.cat([call.inputs["A"], call.inputs["real"]], dim=1))
    check(call, "pred_fake", pred_fake)
    check(call, "pred_real", pred_real)
    on_fake, on_real = loss(pred_fake, real=False), loss(pred_real, real=True)
    check(call, f"{mode}_D_fake", on_fake)
    check(call, f"{mode}_D_real", on_real)
    check(call, f"{mode}_D", (on_fake + on_real) / 2)
    distance = call.spec["lambda_L1"] * l1(fake, call.inputs["real"])
    deceived = loss(pred_fake, real=True)
    check(call, "G_L1", distance)
    check(call, f"{mode}_G_GAN", deceived)
    check(call, f"{mode}_G", deceived + distance)
    if mode not in call.spec.get("grads_of", ()):
        return
    (grad,) = torch.autograd.grad(deceived, fake, retain_graph=True)
    call.check_l2(f"{mode}_G_GAN_grad_fake", grad)
    ((on_fake + on_real) / 2).backward()
    for key in call.spec["grads"]:
        call.check_l2(f"{mode}_D_grad_{flat(key)}", net.get_parameter(key).grad)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_and_its_losses_equal_the_reference(name, mode):
    case = load_case(name)
    assert {call.spec["mode"] for call in case.calls} == {"train", "eval"}
    for call in case.calls:
        check_mode(case, call, mode)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_gradient_penalty_equals_the_reference(name):
    case = load_case(name)
    check = close(case)
    (call,) = (call for call in case.calls if call.spec["gp"])
    net = build(case).eval()
    for kind in ("real", "fake"):
        x = torch.cat([call.inputs["A"], call.inputs[kind]], dim=1)
        penalties = gradient_penalty(net, x)
        check(call, f"gp_{kind}", 10 * penalties.mean())
        if kind == "real":
            norms = call.outputs["gp_real_norm"]
            torch.testing.assert_close(penalties, (norms - 1).square(), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", UNETS + DISCRIMINATORS)
def test_state_round_trips_bit_for_bit(name):
    case = load_case(name)
    state = build(case).state_dict()
    assert set(state) == set(case.weights)
    for key, tensor in case.weights.items():
        assert torch.equal(state[key], tensor), key


def test_sizes_are_those_of_the_reference():
    unet = build(load_case("pix2pix_unet128_instance")).config
    assert (unet.levels, unet.in_channels, unet.out_channels, unet.width) == (7, 4, 2, 6)
    assert (unet.norm, unet.skips) == ("instance", True)
    assert build(load_case("pix2pix_unet128_batch")).config.norm == "batch"
    assert build(load_case("pix2pix_d70_batch")).config.patch == 70
    pixel = build(load_case("pix2pix_pixel_batch")).config
    assert (pixel.patch, pixel.width, pixel.norm) == (1, 16, "batch")
