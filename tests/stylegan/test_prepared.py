"""A prepared generator draws what the generator draws, in less time and memory."""

import pytest
import torch

from stylegan import Generator, GeneratorConfig, Prior, prepare
from stylegan import prepared as module
from stylegan.errors import ConfigError, ShapeError
from stylegan.ops import build, modulated_conv2d, setup_filter, winograd
from stylegan.prepared import PreparedSynthesis, interleaved, polyphase, psnr
from tests.fewshot_smis.tiny import tiny_codes, tiny_prior
from tests.stylegan.test_stylegan3 import tiny as tiny_stylegan3


def wide(architecture: str = "skip", conv_clamp: float | None = None) -> Generator:
    config = GeneratorConfig(
        img_resolution=16,
        z_dim=5,
        w_dim=7,
        mapping_layers=2,
        channels={4: 8, 8: 6, 16: 4},
        base=(4, 6),
        architecture=architecture,
        conv_clamp=conv_clamp,
    )
    G = Generator(config).eval().requires_grad_(False)
    gen = torch.Generator().manual_seed(3)
    for name, value in G.state_dict().items():
        if name.endswith(("strength", "bias")):
            value.copy_(torch.randn(value.shape, generator=gen) * 0.3 + 0.5)
    return G


@pytest.mark.parametrize("num", [1, 3])  # one picture's styles are folded into the weights
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("fast_cpu", [False, True])
def test_pictures_and_features_are_those_of_the_generator(num, architecture, fast_cpu, monkeypatch):
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 4)
    monkeypatch.setattr(winograd, "MIN_PIXELS", 300)  # the last block's
    monkeypatch.setattr(module, "cpu_has_amx", lambda: fast_cpu)  # polyphase weights
    monkeypatch.setattr(module, "POLYPHASE_FROM", 16)
    G = wide(architecture, conv_clamp=0.9)
    dtype = torch.bfloat16 if fast_cpu else torch.float32
    ready = prepare(G, precision=str(dtype).removeprefix("torch."))
    tolerance = 0.06 if fast_cpu else 1e-4
    ws = G.mapping(torch.randn(num, 5, generator=torch.Generator().manual_seed(0)))
    for mode in ("const", "none", "random"):
        gens = [torch.Generator().manual_seed(4) for _ in range(3)]
        want = G.synthesis(ws, mode, (4, 16), gens[0])
        found = ready.synthesis(ws, mode, (4, 16), gens[1])
        assert found.img.shape == (num, 3, 16, 24)
        assert found.img.dtype == torch.float32
        torch.testing.assert_close(found.img, want.img, rtol=tolerance, atol=tolerance)
        alone = ready.synthesis.features(ws, (4, 16), mode, gens[2])
        for r in (4, 16):
            assert found.feats[r].dtype == dtype
            assert torch.equal(alone[r], found.feats[r])
            torch.testing.assert_close(
                found.feats[r].float(), want.feats[r], rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_by_the_codes_are_those_of_the_generator(recompute):
    G = tiny_prior(16)
    ready = prepare(G, precision="float32", recompute=recompute)
    found = []
    for prior in (G, ready):
        ws = tiny_codes(G).requires_grad_()
        gen = torch.Generator().manual_seed(0)
        img = prior.synthesis(ws, "random", generator=gen).img
        found.append(torch.autograd.grad((img * torch.linspace(-1, 1, 16)).sum(), ws)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert found[0].abs().min(dim=2).values.max() > 0


def test_recomputed_blocks_keep_less_for_the_backward_pass():
    G, ws = tiny_prior(32), tiny_codes(tiny_prior(32))
    kept = {}
    for recompute in (False, True):
        sizes = []

        def keep(x, sizes=sizes):
            sizes.append(x.numel())
            return x

        ready = prepare(G, precision="float32", recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            ready.synthesis(ws.clone().requires_grad_())
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_a_layer_keeps_one_picture_for_the_backward_pass():
    if not build.backend().native:
        pytest.skip(build.backend().reason)
    G, kept = tiny_prior(32), {}

    def keep(x):
        if x.ndim == 4:
            kept[x.data_ptr()] = tuple(x.shape)
        return x

    ws = tiny_codes(G).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        prepare(G, precision="float32").synthesis(ws)
    large = (len(ws), G.config.channels[32], 32, 32)
    assert sum(shape == large for shape in kept.values()) == 2  # what its two layers give


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_frozen_convolutions_are_differences(transposed):
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 3, 4, generator=gen, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, 3, 3, generator=gen, dtype=torch.float64)

    def run(x):
        return module._Convolution.apply(x, w, transposed)

    assert torch.autograd.gradcheck(run, [x])
    assert torch.autograd.gradgradcheck(run, [x])


def test_polyphase_is_the_convolution_and_the_filter():
    gen = torch.Generator().manual_seed(0)
    weight, x = torch.randn(5, 3, 3, 3, generator=gen), torch.randn(2, 3, 4, 6, generator=gen)
    taps = setup_filter((1, 3, 2, 1))  # not symmetric
    two_steps = modulated_conv2d(
        x, weight, torch.ones(2, 3), up=2, padding=1, resample_filter=taps, demodulate=False,
        flip_weight=False,
    )  # fmt: skip
    one = interleaved(torch.nn.functional.conv2d(x, polyphase(weight, taps), padding=1))
    torch.testing.assert_close(one, two_steps, rtol=1e-5, atol=1e-5)


def test_auto_takes_bfloat16_where_it_is_fast_and_accurate(monkeypatch):
    def chosen(fast: bool, decibels: float) -> torch.dtype:
        monkeypatch.setattr("stylegan.precision.cpu_has_bfloat16", lambda: fast)
        monkeypatch.setattr(module, "psnr", lambda a, b: decibels)
        return prepare(tiny_prior(8)).synthesis.dtype

    assert chosen(True, 41) == torch.bfloat16
    assert chosen(True, 39) == chosen(False, 41) == torch.float32
    with pytest.raises(ConfigError, match="unknown precision 'half'"):
        prepare(tiny_prior(8), precision="half")


def test_psnr_counts_the_error_of_a_picture():
    G, shifted = tiny_prior(8), tiny_prior(8)
    shifted.synthesis.b8.torgb.bias.add_(0.02)
    assert psnr(G, shifted) == pytest.approx(40.0, abs=0.01)


def test_a_prepared_prior_is_a_prior():
    G = tiny_prior(16)
    before = {k: v.clone() for k, v in G.state_dict().items()}
    ready = prepare(G, precision="float32")
    assert isinstance(ready, Prior)
    assert isinstance(ready.synthesis, PreparedSynthesis)
    assert prepare(ready).synthesis.b8 is ready.synthesis.b8
    assert prepare(ready, recompute=True).synthesis.recompute
    assert not ready.synthesis.recompute
    z = torch.randn(2, 8)
    torch.testing.assert_close(ready(z), G(z), rtol=1e-5, atol=1e-5)
    assert ready.synthesis.layer_resolutions == G.synthesis.layer_resolutions
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())
    with pytest.raises(ShapeError, match="made with another generator"):
        ready.synthesis(torch.zeros(1, 3, 8))
    other = tiny_stylegan3()
    assert prepare(other) is other


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_a_prepared_network_is_one_graph():
    G = tiny_prior(16)
    ready, ws = prepare(G, precision="float32"), tiny_codes(G)
    compiled = torch.compile(ready.synthesis, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ws).img, ready.synthesis(ws).img, rtol=1e-4, atol=1e-4)
