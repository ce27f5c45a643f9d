"""The public references' StyleGAN2 networks: the same numbers from the same weights."""

import math

import numpy as np
import pytest
import torch

from stylegan import Discriminator, Generator, load_snapshot
from stylegan.objective import r1_penalty
from stylegan.rosinality import (
    discriminator_from_rosinality,
    discriminator_to_rosinality,
    generator_from_rosinality,
    generator_to_rosinality,
)
from stylegan.sizes import (
    build_discriminator,
    build_generator,
    discriminator_weights,
    generator_weights,
)
from tests.parity.case import FOLDER, Case, load_case

GENERATORS = ("rosinality_g64_cm2", "rosinality_g256_cm1", "ada_g64_skip", "ada_g64_resnet_cond")
DISCRIMINATORS = ("rosinality_d64_cm2", "ada_d64_skip", "ada_d64_resnet_cond")


def _generator(case: Case) -> Generator:
    state = case.weights
    if case.name.startswith("rosinality"):
        state = generator_from_rosinality(state)
    clamp = case.args.get("synthesis_kwargs", {}).get("conv_clamp")
    return build_generator(generator_weights(state, case.name, conv_clamp=clamp), case.name)


def _discriminator(case: Case) -> Discriminator:
    state = case.weights
    if case.name.startswith("rosinality"):
        state = discriminator_from_rosinality(state)
    weights = discriminator_weights(
        state,
        case.name,
        conv_clamp=case.args.get("conv_clamp"),
        group_size=case.args.get("epilogue_kwargs", {}).get("mbstd_group_size", 4),
    )
    return build_discriminator(weights, case.name)


@pytest.fixture(scope="module", params=GENERATORS)
def generator_case(request):
    case = load_case(request.param)
    return case, _generator(case)


def _rosinality_ws(G, call):
    """Codes [N, L, D] of a call: latents, or mapped z, truncated and mixed as it asks."""
    kwargs, names = call.spec["kwargs"], call.spec["styles"]
    if kwargs.get("input_is_latent"):
        ws = call.inputs["w"]
        return ws if ws.ndim == 3 else ws[:, None].repeat(1, G.num_ws, 1)
    psi = kwargs.get("truncation", 1.0)
    if psi < 1:
        G.mapping.w_avg.copy_(call.inputs["truncation_latent"].reshape(-1))
    parts = [G.mapping(call.inputs[n], truncation_psi=psi) for n in names]
    at = kwargs.get("inject_index", G.num_ws)
    return torch.cat([parts[0][:, :at], parts[-1][:, at:]], dim=1)


def _use_noise(G, call):
    """Put the caller's noise into the constant buffers, in rosinality's order."""
    if "noise_0" not in call.inputs:
        return
    buffers = [b for k, b in G.synthesis.named_buffers() if k.endswith("noise_const")]
    for i, buffer in enumerate(buffers):
        buffer.copy_(call.inputs[f"noise_{i}"][0, 0])


def _check_rosinality(G, call):
    if call.spec["op"] == "mapping":
        w = G.mapping(call.inputs["z"])[:, 0]
        call.check("w", w, rtol=1e-4, atol=1e-4)
        call.check("w_mean", w.mean(dim=0, keepdim=True), rtol=1e-4, atol=1e-4)
        return
    ws = _rosinality_ws(G, call)
    _use_noise(G, call)
    call.check("latent", ws, rtol=1e-4, atol=1e-4)
    call.check("img", G.synthesis(ws, noise_mode="const").img, rtol=1e-4, atol=1e-4)


def _check_ada(G, call):
    kwargs = dict(call.spec["kwargs"])
    mode = kwargs.pop("noise_mode", "const")
    ws = call.inputs.get("ws")
    if ws is None:
        ws = G.mapping(call.inputs["z"], call.inputs.get("c"), **kwargs)
        call.check("ws", ws, rtol=1e-4, atol=1e-4)
    if "img" in call.outputs:
        call.check("img", G.synthesis(ws, noise_mode=mode).img, rtol=1e-4, atol=1e-4)


def test_generator_equals_the_reference(generator_case):
    case, G = generator_case
    calls = [c for c in case.calls if c.spec["op"] != "path_length"]
    assert len(calls) >= 5
    noise = {k: b.clone() for k, b in G.named_buffers()}
    for call in calls:
        check = _check_rosinality if case.name.startswith("rosinality") else _check_ada
        check(G, call)
        for name, buffer in G.named_buffers():
            buffer.copy_(noise[name])


def test_sizes_are_those_of_the_reference(generator_case):
    case, G = generator_case
    size = case.args.get("size") or case.args["img_resolution"]
    depth = case.args.get("n_mlp") or case.args["mapping_kwargs"]["num_layers"]
    assert (G.img_resolution, G.config.mapping_layers) == (size, depth)
    assert G.c_dim == case.args.get("c_dim", 0)
    assert G.num_ws == 2 * int(math.log2(size)) - 2
    assert G.config.architecture == case.args.get("synthesis_kwargs", {}).get(
        "architecture", "skip"
    )


def test_generator_state_round_trips_bit_for_bit(generator_case):
    case, G = generator_case
    state = G.state_dict()
    back = generator_to_rosinality(state) if case.name.startswith("rosinality") else state
    assert set(back) == set(case.weights)
    for name, tensor in case.weights.items():
        assert back[name].shape == tensor.shape
        assert torch.equal(back[name], tensor), name


def test_path_length_and_its_gradients_equal_the_reference():
    case = load_case("rosinality_g64_cm2")
    call, G = case.call("path_length"), _generator(case)
    block4, block8 = G.synthesis.b4, G.synthesis.b8
    watched = [block4.conv1.weight, block8.conv0.affine.weight, block8.conv0.bias, block4.const]
    for parameter in watched:
        parameter.requires_grad_(True)
    ws = call.inputs["latent"].requires_grad_()
    img = G.synthesis(ws).img
    noise = call.inputs["pl_noise"] / math.sqrt(img.shape[2] * img.shape[3])
    (grad,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
    lengths = grad.square().sum(dim=2).mean(dim=1).sqrt()
    second = torch.autograd.grad(lengths.square().mean(), watched)
    call.check_l2("grad_latent", grad)
    call.check("lengths", lengths, rtol=1e-4, atol=1e-6)
    call.check_l2("g2_conv1_conv_weight", second[0][None])
    call.check_l2("g2_convs_0_modulation_weight", second[1])
    call.check_l2("g2_convs_0_bias", second[2])
    call.check_l2("g2_input", second[3][None])


@pytest.fixture(scope="module", params=DISCRIMINATORS)
def discriminator_case(request):
    case = load_case(request.param)
    return case, _discriminator(case)


def test_discriminator_equals_the_reference(discriminator_case):
    case, D = discriminator_case
    calls = [c for c in case.calls if c.spec["op"] == "forward"]
    assert len(calls) >= 2
    for call in calls:
        logits = D(call.inputs["img"], call.inputs.get("c"))
        call.check("logits", logits, rtol=1e-4, atol=1e-5)


def test_discriminator_state_round_trips_bit_for_bit(discriminator_case):
    case, D = discriminator_case
    state = D.state_dict()
    back = discriminator_to_rosinality(state) if case.name.startswith("rosinality") else state
    assert set(back) == set(case.weights)
    for name, tensor in case.weights.items():
        assert torch.equal(back[name], tensor), name


def test_r1_and_its_gradients_equal_the_reference(discriminator_case):
    case, D = discriminator_case
    call = case.call("r1")
    c = call.inputs.get("c")
    watched = {
        "r1_grad_convs_0_0_weight": getattr(D, f"b{D.img_resolution}").fromrgb.weight,
        "r1_grad_final_linear_1_weight": D.b4.out.weight,
        "r1_grad_b4_out_weight": D.b4.out.weight,
    }
    watched = {k: p for k, p in watched.items() if k in call.outputs}
    for parameter in watched.values():
        parameter.requires_grad_(True)
    img = call.inputs["img"].requires_grad_()
    logits = D(img, c)
    (grad,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
    penalty = r1_penalty(D, call.inputs["img"], c)
    whole = penalty.mean() if call.spec["outputs"]["r1"]["shape"] == [] else penalty
    second = torch.autograd.grad(penalty.mean(), list(watched.values()))
    call.check("logits", logits, rtol=1e-4, atol=1e-5)
    call.check("r1", whole, rtol=1e-4, atol=1e-5)
    call.check_l2("grad_img", grad)
    assert watched
    for name, value in zip(watched, second, strict=True):
        call.check_l2(name, value)
        watched[name].requires_grad_(False)


@pytest.mark.parametrize("name", ["ada_32px_tiny", "sg2_32px_tiny"])
def test_nvidia_pickle_equals_the_official_code(name):
    found = load_snapshot(FOLDER / "pickles" / f"{name}.pkl")
    assert found.G is not None
    assert found.D is not None
    with np.load(FOLDER / "pickles" / f"{name}.npz") as stored:
        want = {k: torch.from_numpy(v) for k, v in stored.items()}
    c = want["c"] if found.G_ema.c_dim else None
    ws = found.G_ema.mapping(want["z"], c, truncation_psi=0.7)
    img = found.G_ema.synthesis(ws).img
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(ws, want["ws_psi07"], **close)
    torch.testing.assert_close(img, want["img_ema_psi07"], **close)
    torch.testing.assert_close(found.D(img, c), want["logits"], **close)
    plain = found.G.synthesis(found.G.mapping(want["z"], c)).img
    torch.testing.assert_close(plain, want["img_G"], **close)
