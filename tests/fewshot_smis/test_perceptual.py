"""LPIPS against the reference, the lite0 distance, and how their weights are found."""

import importlib.util

import pytest
import torch
from torch import nn

import fewshot_smis.perceptual as perceptual
from fewshot_smis.perceptual import (
    LPIPS,
    Lite0Distance,
    Lite0Features,
    NoDistance,
    load_lpips,
    load_perceptual,
    unit_channels,
)
from stylegan.errors import BackendError, CheckpointError, ConfigError, ShapeError
from stylegan.lite0 import Lite0
from tests.parity.case import load_case


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_the_reference(net):
    case = load_case(f"lpips_{net}")
    model = LPIPS(net)
    model.load_state_dict(case.weights, strict=True)
    for call in case.calls:
        a = call.inputs["a"].clone().requires_grad_()
        b = call.inputs["b"]
        distance = model(a, b)
        distance.sum().backward()
        call.check("distance", distance.view(-1, 1, 1, 1), rtol=1e-4, atol=1e-6)
        call.check("per_layer", model.per_layer(a, b), rtol=1e-4, atol=1e-6)
        call.check_l2("grad_a", a.grad)
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture(scope="module")
def lite0():
    """A lite0 of random weights whose maps neither die nor grow."""
    net = Lite0()
    gen = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=gen)
    return net


@pytest.fixture
def pair():
    gen = torch.Generator().manual_seed(1)
    return [2 * torch.rand(2, 3, 40, 64, generator=gen) - 1 for _ in range(2)]


def test_lite0_features_by_stride(lite0, pair):
    features = Lite0Features(lite0)
    maps = features.features(pair[0], taps=(16, 4))
    assert [tuple(m.shape) for m in maps] == [(2, 112, 3, 4), (2, 24, 10, 16)]
    assert torch.equal(maps[1], lite0.features(pair[0])[0])
    assert len(features.features(pair[0])) == 4
    with pytest.raises(ConfigError, match="no features at stride 2"):
        features.features(pair[0], taps=(2,))


def test_lite0_distance_equals_its_formula(lite0, pair):
    distance = Lite0Distance(Lite0Features(lite0), taps=(4, 16))
    want = torch.zeros(2)
    for n in range(2):
        for fa, fb in zip(*(lite0.features(img[n : n + 1]) for img in pair), strict=True):
            if fa.shape[1] in (24, 112):
                ua, ub = (f[0] / (f[0].norm(dim=0) + 1e-6) for f in (fa, fb))
                want[n] += ((ua - ub) ** 2).sum() / ua[0].numel()
    torch.testing.assert_close(distance(*pair), want)


def test_distances_are_zero_for_equals_and_symmetric(lite0, pair):
    distance = Lite0Distance(Lite0Features(lite0))
    a, b = pair
    assert distance(a, a).abs().max() == 0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert (distance(a, b) > distance(a, 0.9 * a + 0.1 * b)).all()


def test_lite0_distance_leads_back_to_the_image(lite0, pair):
    distance = Lite0Distance(Lite0Features(lite0))
    img = pair[0].clone().requires_grad_()
    before = distance(img, pair[1]).sum()
    before.backward()
    assert torch.isfinite(img.grad).all()
    step = 1e-3 * img.grad / img.grad.norm()
    after = distance(pair[0] - step, pair[1]).sum()
    predicted = (step * img.grad).sum()
    torch.testing.assert_close(before.detach() - after, predicted, rtol=0.1, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 40, 31), (2, 1, 40, 40), (3, 40, 40)])
def test_pictures_that_do_not_fit(shape, lite0):
    distance = Lite0Distance(Lite0Features(lite0))
    with pytest.raises(ShapeError, match="at least 32 pixels"):
        distance(torch.zeros(shape), torch.zeros(shape))


def test_batches_never_broadcast():
    for distance in (LPIPS("alex"), NoDistance()):
        with pytest.raises(ShapeError, match="two batches"):
            distance(torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64))


def test_the_smallest_pictures_lpips_takes():
    assert LPIPS("alex")(torch.ones(1, 3, 63, 70), -torch.ones(1, 3, 63, 70)).shape == (1,)
    assert LPIPS("vgg")(torch.ones(1, 3, 16, 20), -torch.ones(1, 3, 16, 20)).shape == (1,)
    with pytest.raises(ShapeError, match=r"lpips-alex: .* at least 63 pixels"):
        LPIPS("alex")(torch.ones(1, 3, 62, 70), torch.ones(1, 3, 62, 70))


def test_unit_channels_has_a_gradient_at_zero():
    feat = torch.zeros(1, 4, 2, 3, requires_grad=True)
    unit_channels(feat, 1e-10).sum().backward()
    assert torch.isfinite(feat.grad).all()
    vector = torch.randn(2, 4, 2, 3)
    norms = unit_channels(vector, 0.0).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(2, 2, 3))


def test_none_is_zero():
    distance = load_perceptual("none")
    assert distance.name == "none"
    assert torch.equal(distance(torch.ones(2, 3, 5, 4), torch.zeros(2, 3, 5, 4)), torch.zeros(2))


def test_lite0_by_name(lite0, pair, tmp_path):
    torch.save(lite0.state_dict(), tmp_path / "lite0.pth")
    distance = load_perceptual("lite0", tmp_path / "lite0.pth")
    assert distance.name == "lite0"
    torch.testing.assert_close(distance(*pair), Lite0Distance(Lite0Features(lite0))(*pair))


@pytest.fixture
def alex(tmp_path):
    """Weights of LPIPS on AlexNet, in one file for the backbone and one for the heads."""
    weights = load_case("lpips_alex").weights
    backbone = {k: v for k, v in weights.items() if k.startswith("features")}
    torch.save(backbone | {"classifier.1.weight": torch.zeros(2)}, tmp_path / "alexnet.pth")
    heads = {k: v for k, v in weights.items() if k.startswith("lin")}
    torch.save(heads, tmp_path / "heads.pth")
    torch.save(weights, tmp_path / "both.pth")
    return tmp_path


def test_lpips_from_files(alex, monkeypatch):
    img = [torch.rand(1, 3, 64, 64) for _ in range(2)]
    separate = load_lpips("alex", alex / "alexnet.pth", alex / "heads.pth")
    both = load_perceptual("lpips-alex", alex / "both.pth")
    assert both.name == "lpips-alex"
    torch.testing.assert_close(separate(*img), both(*img))
    monkeypatch.setattr(perceptual, "_packaged_heads", lambda net: alex / "heads.pth")
    torch.testing.assert_close(load_lpips("alex", alex / "alexnet.pth")(*img), both(*img))


def test_lpips_without_its_heads(alex, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install --no-deps lpips"):
        load_lpips("alex", alex / "alexnet.pth")


def test_weights_that_do_not_fit(alex):
    with pytest.raises(CheckpointError, match=r"not the weights of lpips-vgg.*vgg16-397923af"):
        load_perceptual("lpips-vgg", alex / "both.pth")
    (alex / "page.pth").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"page\.pth: a web page"):
        load_perceptual("lpips-alex", alex / "page.pth")
    torch.save([1], alex / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        load_perceptual("lpips-alex", alex / "list.pth")


def test_bad_choices():
    with pytest.raises(ConfigError, match="'vgg' is unknown; choose one of lpips-alex"):
        load_perceptual("vgg")
    with pytest.raises(ConfigError, match=r"alexnet-owt-7be5be79\.pth .* or use 'lite0'"):
        load_perceptual("lpips-alex")
    with pytest.raises(ConfigError, match="choose 'alex' or 'vgg'"):
        LPIPS("squeeze")
