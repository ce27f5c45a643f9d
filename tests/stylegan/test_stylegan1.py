"""StyleGAN1: the reference's numbers, its levels of detail, and its files."""

import pytest
import torch

from stylegan import StyleGAN1, StyleGAN1Config, describe, load_generator, load_snapshot
from stylegan import save_generator as save
from stylegan.errors import CheckpointError, ConfigError, ShapeError
from stylegan.genforce import generator_from_genforce, stylegan1_config
from stylegan.objective import r1_penalty
from stylegan.sizes import GeneratorWeights, build_generator
from stylegan.stylegan1_discriminator import discriminator_from_genforce
from tests.parity.case import load_case

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def tiny(**changes: object) -> StyleGAN1:
    values = {"img_resolution": 16, "z_dim": 5, "w_dim": 7, "mapping_dim": 6, "mapping_layers": 2}
    config = StyleGAN1Config(**{**values, "channels": {4: 8, 8: 6, 16: 4}, **changes})
    torch.manual_seed(0)
    return StyleGAN1(config).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["stylegan1_g64", "stylegan1_g16_fused_cond"])
def case_and_generator(request):
    case = load_case(request.param)
    native = generator_from_genforce(case.weights, case.name)
    fused_from = 8 if case.args.get("fused_scale") is True else 128
    config = stylegan1_config(native, case.name, fused_from=fused_from)
    return case, build_generator(GeneratorWeights(config, native), case.name)


def _ws(G, call):
    if "wp" in call.inputs:
        return call.inputs["wp"]
    kwargs = call.spec["kwargs"]
    cut = {
        "truncation_psi": kwargs.get("trunc_psi", 1),
        "truncation_cutoff": kwargs.get("trunc_layers"),
    }
    if "za" in call.inputs:
        a, b = (G.mapping(call.inputs[n], None, **cut) for n in ("za", "zb"))
        at = call.spec["cutoff"]
        return torch.cat([a[:, :at], b[:, at:]], dim=1)
    return G.mapping(call.inputs["z"], call.inputs.get("label"), **cut)


def test_generator_equals_the_reference(case_and_generator):
    case, G = case_and_generator
    noise = {k: b.clone() for k, b in G.synthesis.named_buffers() if k.endswith("noise_const")}
    for call in case.calls:
        if call.spec["op"] == "mapping":
            w = G.mapping(call.inputs["z"], call.inputs.get("label"))[:, 0]
            call.check("w", w, **CLOSE)
            continue
        ws = _ws(G, call)
        if "wp" in call.outputs:
            call.check("wp", ws, **CLOSE)
        for i in range(G.num_ws):
            layer = getattr(G.synthesis, f"layer{i}")
            layer.noise_const.copy_(noise[f"layer{i}.noise_const"])
            if f"noise_{i}" in call.inputs:
                layer.noise_const.copy_(call.inputs[f"noise_{i}"].reshape(layer.noise_const.shape))
            if f"style{i:02d}" in call.outputs:
                call.check(f"style{i:02d}", layer.affine(ws[:, i]), **CLOSE)
        lod = call.spec.get("kwargs", {}).get("lod")
        call.check("img", G.synthesis(ws, lod=lod).img, **CLOSE)


@pytest.mark.parametrize("key", ["generator_smooth", "generator", None])
def test_genforce_files_open_and_ours_give_the_same_pictures(key, tmp_path):
    case = load_case("stylegan1_g64")
    torch.save(case.weights if key is None else {key: case.weights}, tmp_path / "g.pth")
    found = load_snapshot(tmp_path / "g.pth")
    call = case.call("plain")
    img = found.G_ema(call.inputs["z"])
    call.check("img", img, **CLOSE)
    assert (found.G is None) == (key != "generator")
    save(found.G_ema, tmp_path / "g.safetensors", notes={"kimg": "7"})
    assert torch.equal(load_generator(tmp_path / "g.safetensors")(call.inputs["z"]), img)
    facts = describe(tmp_path / "g.safetensors")
    assert (facts["family"], facts["num_ws"], facts["kimg"]) == ("stylegan1", 10, "7")
    assert facts["parameters"] == sum(p.numel() for p in found.G_ema.parameters())


def test_incomplete_files_are_named(tmp_path):
    weights = dict(load_case("stylegan1_g16_fused_cond").weights)
    del weights["synthesis.output0.bias"]
    torch.save(weights, tmp_path / "g.pth")
    with pytest.raises(CheckpointError, match=r"g\.pth: looks like a StyleGAN1, but lacks 'synth"):
        load_generator(tmp_path / "g.pth")


def test_fusing_is_kept_by_our_files_and_flips_the_kernel(tmp_path):
    fused, plain = tiny(fused_from=4), tiny()
    for i in (2, 4):
        weight = getattr(plain.synthesis, f"layer{i}").weight
        weight.copy_(weight.flip(2, 3))
    z = torch.randn(2, 5)
    torch.testing.assert_close(fused(z), plain(z), rtol=1e-4, atol=1e-5)
    save(fused, tmp_path / "g.safetensors")
    assert load_generator(tmp_path / "g.safetensors").config.fused_from == 4
    torch.testing.assert_close(load_generator(tmp_path / "g.safetensors")(z), fused(z))


def test_features_styles_and_errors():
    G = tiny(c_dim=2)
    c = torch.eye(2)
    ws = G.mapping(torch.randn(2, 5), c)
    out = G.synthesis(ws, feature_resolutions=(8, 16))
    assert {r: f.shape for r, f in out.feats.items()} == {8: (2, 6, 8, 8), 16: (2, 4, 16, 16)}
    assert torch.equal(G.synthesis.features(ws, (8,))[8], out.feats[8])
    scale, shift = G.synthesis.layer3.affine(ws[:, 3]).chunk(2, dim=1)
    torch.testing.assert_close(out.feats[8].mean(dim=(2, 3)), shift, rtol=1e-4, atol=1e-5)
    spread = out.feats[8].std(dim=(2, 3), correction=0)
    torch.testing.assert_close(spread, (scale + 1).abs(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ShapeError, match=r"z must be \[N, 5\], got \[2, 4\]"):
        G.mapping(torch.randn(2, 4), c)
    with pytest.raises(ShapeError, match=r"conditional: c must be \[N, 2\], got nothing"):
        G.mapping(torch.randn(2, 5))
    with pytest.raises(ConfigError, match="level of detail 3; this network has 0 to 2"):
        G.synthesis(ws, lod=3)
    with pytest.raises(ConfigError, match="channels are given for"):
        tiny(channels={4: 8})


def test_noise_modes():
    G = tiny()
    for i in range(G.num_ws):
        getattr(G.synthesis, f"layer{i}").noise_strength.fill_(0.5)
    ws = G.mapping(torch.randn(2, 5))
    draws = [
        G.synthesis(ws, "random", generator=torch.Generator().manual_seed(s)).img for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(G.synthesis(ws, "none").img, G.synthesis(ws, "const").img)


def test_discriminator_equals_the_reference():
    case = load_case("stylegan1_d64")
    D = discriminator_from_genforce(case.weights, case.name)
    for call in (c for c in case.calls if c.spec["op"] == "forward"):
        logits = D(call.inputs["img"], lod=call.spec["kwargs"].get("lod"))
        call.check("logits", logits, rtol=1e-4, atol=1e-5)
    call = case.call("r1")
    watched = [getattr(D, name.removesuffix(".weight")).weight for name in call.spec["grads"]]
    for parameter in watched:
        parameter.requires_grad_(True)
    penalty = r1_penalty(D, call.inputs["img"], None)
    call.check("r1", penalty, rtol=1e-4, atol=1e-5)
    for name, grad in zip(
        call.spec["grads"], torch.autograd.grad(penalty.mean(), watched), strict=True
    ):
        call.check_l2(f"r1_grad_{name.replace('.', '_')}", grad)
    with pytest.raises(ShapeError, match="expected pictures of 64x64"):
        D(torch.zeros(2, 3, 32, 64))
    with pytest.raises(ConfigError, match="level of detail 5; this network has 0 to 4"):
        D(torch.zeros(2, 3, 64, 64), lod=5)
    with pytest.raises(CheckpointError, match="x: not a StyleGAN1 discriminator"):
        discriminator_from_genforce({"input0.bias": torch.ones(2)}, "x")
