"""pix2pixHD against the reference: the same numbers from weights under the public names."""

import pytest
import torch

from fewshot_smis.baselines.checkpoint import (
    feature_encoder,
    hd_config,
    hd_discriminator,
    load_weights,
)
from fewshot_smis.baselines.hd_networks import HDGenerator, pyramid
from fewshot_smis.baselines.objective import feature_matching, least_squares
from fewshot_smis.baselines.regions import edges, instance_average, region_rows
from fewshot_smis.data import one_hot
from tests.parity.case import load_case

GENERATORS = ("pix2pixhd_global_instance", "pix2pixhd_local_instance_feat")


def check(call, name, actual, factor=1e-4, least=0.0):
    """Compare at the case's tolerance: `factor` relative, and of the largest magnitude."""
    absmax = call.spec["outputs"][name]["absmax"]
    call.check(name, actual, rtol=1e-4, atol=factor * max(least, absmax))


def planes(case, call):
    onehot = one_hot(call.inputs["labels"].long(), case.args["label_nc"])
    return torch.cat([onehot, edges(call.inputs["instance"])], dim=1)


def generator(case):
    return load_weights(HDGenerator(hd_config(case.weights, case.name)), case.weights, case.name)


@pytest.mark.parametrize("name", GENERATORS)
@torch.no_grad()
def test_generator_equals_the_reference(name):
    case = load_case(name)
    (call,) = case.calls
    net = generator(case).eval()
    x = planes(case, call)
    call.check("edges", x[:, -1:], rtol=0, atol=0)
    if "feat" in call.inputs:
        x = torch.cat([x, call.inputs["feat"]], dim=1)
        half = pyramid(x, 2)[1]
        check(call, "input_down_1", half, least=1.0)
        check(call, "global_features", net.model(half), least=1.0)
    check(call, "img", net(x), least=1.0)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_state_round_trips_bit_for_bit(name):
    case = load_case(name)
    net = generator(case)
    state = net.state_dict()
    assert set(state) == set(case.weights)
    assert all(torch.equal(state[key], value) for key, value in case.weights.items())
    args = case.args
    config = net.config
    assert (config.width, config.halvings) == (args["ngf"], args["n_downsample_global"])
    assert (config.blocks, config.enhancers) == (
        args["n_blocks_global"],
        args.get("n_local_enhancers", 0),
    )


def test_discriminator_and_its_losses_equal_the_reference():
    case = load_case("pix2pixhd_d_2scale")
    (call,) = case.calls
    net = hd_discriminator(case.weights, case.name)
    layout = planes(case, call)
    fake = call.inputs["fake"].clone().requires_grad_()
    seen = net(torch.cat([layout, fake], dim=1))
    wanted = net(torch.cat([layout, call.inputs["real"]], dim=1))
    for i, maps in enumerate(seen):
        for j, feat in enumerate(maps):
            absmax = call.spec["outputs"][f"fake_{i}_{j}"]["absmax"]
            call.check(f"fake_{i}_{j}", feat, rtol=1e-4, atol=1e-5 * absmax + 1e-6)
    deceived = sum(least_squares(maps[-1], real=True) for maps in seen)
    on_fake = sum(least_squares(maps[-1], real=False) for maps in seen)
    on_real = sum(least_squares(maps[-1], real=True) for maps in wanted)
    matching = call.spec["lambda_feat"] * 4 / 4 * feature_matching(seen, wanted)
    terms = {"G_GAN": deceived, "D_fake": on_fake, "D_real": on_real, "G_GAN_Feat": matching}
    for name, value in (terms | {"D": (on_fake + on_real) / 2}).items():
        absmax = call.spec["outputs"][name]["absmax"]
        call.check(name, value, rtol=1e-4, atol=1e-5 * absmax + 1e-6)
    (grad,) = torch.autograd.grad(deceived + matching, fake)
    call.check_l2("G_grad_fake", grad)


def test_discriminator_of_a_file_without_feature_matching_is_the_same():
    """There the layers of a scale are numbered in one row: 0, 2, 5, 8, 11 are convolutions."""
    case = load_case("pix2pixhd_d_2scale")
    row = {0: 0, 1: 2, 2: 5, 3: 8, 4: 11}
    renamed = {}
    for key, value in case.weights.items():
        scale, group = int(key[5]), int(key.split("_layer")[1][0])
        renamed[f"layer{scale}.{row[group]}.{key.split('.')[-1]}"] = value
    state = hd_discriminator(renamed, case.name).state_dict()
    assert all(torch.equal(state[key], value) for key, value in case.weights.items())


@torch.no_grad()
def test_encoder_and_its_regions_equal_the_reference():
    case = load_case("pix2pixhd_encoder_instance")
    net = feature_encoder(case.weights, case.name).eval()
    for call in case.calls:
        raw, ids = net(call.inputs["img"]), call.inputs["instance"]
        call.check("raw", raw, **case.tolerance)
        call.check("feat", instance_average(raw, ids), **case.tolerance)
    rows = region_rows(raw, ids)
    assert torch.equal(rows.classes, call.outputs["cluster_label"].long())
    joined = torch.cat([rows.feats, rows.weights[:, None]], dim=1)
    call.check("cluster_rows", joined, **case.tolerance)
