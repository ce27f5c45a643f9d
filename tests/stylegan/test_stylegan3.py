"""StyleGAN3: the reference's numbers, its equivariance, and its files."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stylegan import (
    StyleGAN3,
    StyleGAN3Config,
    convert,
    describe,
    load_generator,
    load_snapshot,
    save_generator,
)
from stylegan.errors import CheckpointError, ConfigError, ShapeError
from stylegan.ops import design_lowpass, filtered_lrelu
from stylegan.sizes import GeneratorWeights, build_generator
from stylegan.stylegan3 import layer_grids, user_transform
from stylegan.stylegan3_sizes import stylegan3_config
from tests.parity.case import FOLDER, load_case

PICKLES = ("sg3t_32px_tiny", "sg3r_32px_tiny")


def tiny(**changes: object) -> StyleGAN3:
    values = {"img_resolution": 32, "z_dim": 5, "w_dim": 7, "channels": (8, 8, 6, 4), **changes}
    torch.manual_seed(0)
    return StyleGAN3(StyleGAN3Config(**values)).eval().requires_grad_(False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sg3_t64", "sg3_r64"])
def test_generator_equals_the_reference(name):
    case = load_case(name)
    config = stylegan3_config(case.weights, name)
    assert config.radial_filters == case.args.get("use_radial_filters", False)
    fresh = StyleGAN3(config).state_dict()
    assert set(fresh) == set(case.weights)
    for key in (k for k in fresh if k.endswith("_filter")):
        torch.testing.assert_close(fresh[key], case.weights[key], rtol=1e-5, atol=1e-6)
    G = build_generator(GeneratorWeights(config, case.weights), name)
    for call in case.calls:
        transform = call.inputs.get("transform")
        ws = G.mapping(call.inputs["z"], None, **call.spec["kwargs"])
        call.check("ws", ws, rtol=1e-4, atol=1e-4)
        call.check("fourier", G.synthesis.input(ws[:, 0], transform), rtol=1e-4, atol=1e-4)
        img = G.synthesis(ws, transform=transform).img
        call.check("img", img, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PICKLES)
def test_nvidia_pickle_equals_the_official_code(name):
    found = load_snapshot(FOLDER / "pickles" / f"{name}.pkl")
    with np.load(FOLDER / "pickles" / f"{name}.npz") as stored:
        want = {k: torch.from_numpy(v) for k, v in stored.items()}
    assert found.G is not None
    assert found.D is not None
    ws = found.G_ema.mapping(want["z"], truncation_psi=0.7)
    img = found.G_ema.synthesis(ws).img
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(ws, want["ws_psi07"], **close)
    torch.testing.assert_close(img, want["img_ema_psi07"], **close)
    torch.testing.assert_close(found.D(img), want["logits"], **close)
    torch.testing.assert_close(found.G(want["z"]), want["img_G"], **close)


@pytest.mark.parametrize("to", ["safetensors", "nvidia-state"])
@pytest.mark.parametrize("name", PICKLES)
def test_files_of_this_project_give_the_same_pictures(name, to, tmp_path):
    source, target = FOLDER / "pickles" / f"{name}.pkl", tmp_path / "copy"
    convert(source, target, to)
    z = torch.randn(2, 16)
    assert torch.equal(load_generator(target)(z), load_generator(source)(z))
    facts = describe(target)
    assert (facts["family"], facts["num_ws"]) == ("stylegan3", 8)
    assert facts["radial_filters"] == (name == "sg3r_32px_tiny")


def test_other_frequencies_are_kept_by_our_files_and_refused_without_them(tmp_path):
    G = tiny(first_cutoff=3.0, margin=6)
    save_generator(G, tmp_path / "g.safetensors", half=True)
    loaded = load_generator(tmp_path / "g.safetensors")
    assert loaded.config == G.config
    assert torch.equal(loaded.state_dict()["synthesis.input.freqs"], G.synthesis.input.freqs)
    with pytest.raises(CheckpointError, match="of other frequencies than the paper's"):
        stylegan3_config(tiny(first_cutoff=3.0).state_dict(), "x")
    state = G.state_dict()
    del state["synthesis.input.affine.weight"]
    with pytest.raises(CheckpointError, match=r"x: looks like a StyleGAN3, but lacks .*affine"):
        stylegan3_config(state, "x")
    with pytest.raises(CheckpointError, match="a stylegan3 generator has no rosinality form"):
        convert(tmp_path / "g.safetensors", tmp_path / "g.pt", "rosinality")


def test_grids_grow_to_the_picture():
    config = StyleGAN3Config(img_resolution=256)
    grids = layer_grids(config)
    assert [g.rate for g in grids] == [16] * 3 + [32] * 2 + [64] * 2 + [128] * 3 + [256] * 5
    assert [g.size for g in grids][-3:] == [276, 256, 256]
    assert config.channels == (512,) * 9 + (362, 256, 181, 128, 128)
    assert grids[0].cutoff == 2
    assert grids[-1].cutoff == 128
    with pytest.raises(ConfigError, match="4 critically sampled layers of 4"):
        StyleGAN3Config(img_resolution=32, channels=(4,) * 4, num_critical=4)


def test_to_rgb_passes_through_no_filter(monkeypatch):
    ops = importlib.import_module("stylegan.ops.filtered_lrelu")
    passes, resample = [], ops.upfirdn2d
    monkeypatch.setattr(ops.native, "takes_filtered_lrelu", lambda *_: False)  # as on many a GPU
    monkeypatch.setattr(
        ops, "upfirdn2d", lambda x, *a, **k: passes.append(x) or resample(x, *a, **k)
    )
    G = tiny(conv_clamp=0.5)
    G.synthesis(G.mapping(torch.randn(1, 5)))
    assert len(passes) == 2 * len(G.config.channels)  # up and down in each layer but the last
    passes.clear()
    x, b = torch.randn(2, 3, 5, 7), torch.randn(3)
    plain = F.leaky_relu(x + b[:, None, None], 0.2).mul(1.5).clamp(-1, 1)
    options = {"b": b, "gain": 1.5, "clamp": 1.0}
    torch.testing.assert_close(filtered_lrelu(x, **options), plain)
    assert not passes
    one = torch.ones(1, 1)
    stepwise = filtered_lrelu(x, up_filter=one, down_filter=one, **options)
    torch.testing.assert_close(stepwise, plain)
    assert len(passes) == 2
    cropped = filtered_lrelu(x, padding=(-1, 0, 0, -2), **options)
    torch.testing.assert_close(cropped, plain[:, :, :-2, 1:])
    with pytest.raises(ShapeError, match=r"expected pictures \[N, C, H, W\]"):
        filtered_lrelu(x[0])


@pytest.mark.parametrize("radial", [False, True])
def test_features_cover_the_picture_at_their_rate(radial):
    G = tiny(conv_kernel=1, radial_filters=radial)
    ws = G.mapping(torch.randn(2, 5))
    assert ws.shape == (2, G.num_ws, 7) == (2, 6, 7)
    out = G.synthesis(ws, feature_resolutions=(16, 32))
    assert out.img.shape == (2, 3, 32, 32)
    assert {r: f.shape for r, f in out.feats.items()} == {16: (2, 8, 16, 16), 32: (2, 4, 32, 32)}
    assert torch.equal(G.synthesis.features(ws, (16,))[16], out.feats[16])
    assert len(G.synthesis.layer_resolutions) == G.num_ws
    with pytest.raises(ShapeError, match=r"no features of \[8\] px"):
        G.synthesis(ws, feature_resolutions=(8,))
    with pytest.raises(ShapeError, match=r"the transform is \[2, 3\]"):
        G.synthesis(ws, transform=torch.eye(3)[:2])


def test_a_shifted_picture_is_the_picture_shifted():
    G = tiny()
    ws = G.mapping(torch.randn(2, 5))
    plain = G.synthesis(ws).img
    moved = G.synthesis(ws, transform=user_transform(shift=(4 / 32, 8 / 32))).img
    error = (moved[:, :, 8:, 4:] - plain[:, :, :-8, :-4]).square().mean() / plain.var()
    assert error < 1e-3, error


def test_a_quarter_turn_of_config_r_turns_the_picture():
    G = tiny(conv_kernel=1, radial_filters=True)
    ws = G.mapping(torch.randn(2, 5))
    plain = G.synthesis(ws).img
    turned = G.synthesis(ws, transform=user_transform(90)).img
    expected = plain.rot90(-1, (2, 3))  # clockwise
    torch.testing.assert_close(turned, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("radial", [False, True])
def test_lowpass_passes_what_it_should(radial):
    taps = design_lowpass(48, cutoff=4.0, width=4.0, rate=32.0, radial=radial)
    line = taps.sum(dim=0) if radial else taps
    at = torch.arange(48) / 32
    gain = {f: torch.abs((line * torch.exp(2j * torch.pi * f * at)).sum()) for f in (0, 1, 4, 7)}
    assert abs(gain[0] - 1) < 1e-5
    assert abs(gain[1] - 1) < 0.02
    assert abs(gain[4] - 0.5) < 0.1
    assert gain[7] < 0.02
    if radial:
        torch.testing.assert_close(taps, taps.rot90())
    assert design_lowpass(1, 1.0, 1.0, 4.0) is None


def _direct(x, fu, fd, b, up, down, pad, slope):
    """Each step of the definition by itself, on float64 [H,W]."""
    x = x + b
    grid = x.new_zeros(x.shape[0] * up, x.shape[1] * up)
    grid[::up, ::up] = x
    grid = torch.nn.functional.pad(grid, pad)

    def filtered(v, f):
        f = torch.outer(f, f).flip(0, 1)
        n = len(f)
        rows = range(v.shape[0] - n + 1)
        cols = range(v.shape[1] - n + 1)
        return torch.stack(
            [torch.stack([(v[i : i + n, j : j + n] * f).sum() for j in cols]) for i in rows]
        )

    y = filtered(grid, fu) * up**2
    y = torch.where(y < 0, y * slope, y) * 2**0.5
    return filtered(y.clamp(-1, 1), fd)[::down, ::down]


def test_filtered_lrelu_equals_its_definition_and_is_differentiable_twice():
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 5, 4, dtype=torch.double, generator=gen)
    fu, fd = (torch.rand(n, dtype=torch.double, generator=gen) for n in (4, 3))
    b = torch.tensor([0.3, -0.2], dtype=torch.double)

    def run(x, b, clamp=None):
        options = {"up_filter": fu, "down_filter": fd, "up": 2, "down": 2, "padding": (3, 2, 1, 4)}
        return filtered_lrelu(x, b=b, slope=0.1, clamp=clamp, **options)

    expected = torch.stack(
        [_direct(x[0, c], fu, fd, b[c], 2, 2, (3, 2, 1, 4), 0.1) for c in range(2)]
    )
    torch.testing.assert_close(run(x, b, 1.0)[0], expected)
    x.requires_grad_()
    b.requires_grad_()
    assert torch.autograd.gradcheck(run, (x, b))
    assert torch.autograd.gradgradcheck(run, (x, b))
