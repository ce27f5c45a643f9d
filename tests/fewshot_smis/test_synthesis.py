import pytest
import torch

from fewshot_smis.data import IGNORE
from fewshot_smis.encoding import encode
from fewshot_smis.synthesis import (
    mix_styles,
    parse_layers,
    sample_styles,
    style_layers,
    synthesize,
)
from stylegan.errors import ConfigError, LabelError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_encoder, tiny_labels, tiny_prior


@pytest.mark.parametrize(
    ("num_ws", "first"), [(18, 8), (16, 8), (14, 8), (12, 7), (10, 6), (8, 5), (6, 4)]
)
def test_default_style_layers_are_the_upper_part(num_ws, first):
    assert style_layers(num_ws) == tuple(range(first, num_ws))
    assert parse_layers(None, num_ws) == style_layers(num_ws)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("8-13", (8, 9, 10, 11, 12, 13)),
        ("0-2, 8", (0, 1, 2, 8)),
        ("12-", (12, 13)),
        ("-1", (0, 1)),
        ("3,3,1-3", (1, 2, 3)),
        (range(4, 6), (4, 5)),
    ],
)
def test_layers_are_read(text, layers):
    assert parse_layers(text, 14) == layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8-14", "layer 14 is outside the network, which has layers 0-13"),
        ("14", "layer 14 is outside"),
        ("14-", "layer 14 is outside"),
        ([-1], "layer -1 is outside"),
        ("5-2", "from 5 down to 2"),
        ("", "cannot read layers ''"),
        ("1,,2", "cannot read layers ''"),
        ("-", "cannot read layers '-'"),
        ("a-b", "cannot read layers 'a-b'"),
        ("1-2-3", "cannot read layers '1-2-3'"),
        ([], "no layers given"),
    ],
)
def test_layers_that_do_not_exist_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_layers(text, 14)


def test_mixing_replaces_the_chosen_layers_only():
    prior = tiny_prior(16)
    layout, style = tiny_codes(prior, 3), tiny_codes(prior, 2, seed=1)
    before = layout.clone()
    ws = mix_styles(layout, style, prior, layers="1,4-")
    assert ws.shape == (3, 2, 6, 8)
    for n in range(3):
        for m in range(2):
            for i in range(6):
                assert torch.equal(ws[n, m, i], (style[m] if i in (1, 4, 5) else layout[n])[i])
    assert torch.equal(layout, before)


def test_alpha_goes_from_layout_to_style():
    prior = tiny_prior(16)
    layout, style = tiny_codes(prior, 1), tiny_codes(prior, 1, seed=1)
    half = mix_styles(layout, style, prior, layers="0-5", alpha=0.25)
    torch.testing.assert_close(half[:, 0], 0.25 * style + 0.75 * layout)
    assert torch.equal(mix_styles(layout, style, prior, alpha=0)[:, 0], layout)


def test_pictures_are_those_of_the_mixed_codes():
    prior = tiny_prior(16)
    encoder = tiny_encoder(prior)
    labels = tiny_labels(3)
    labels[0, 0] = IGNORE
    out = synthesize(labels, encoder, prior, styles=2, gen=stream(0, "s"), batch=4)
    assert out.img.shape == (3, 2, 3, 16, 16)
    assert out.ws.shape == (3, 2, 6, 8)
    styles = sample_styles(2, prior, stream(0, "s"))
    assert torch.equal(out.ws, mix_styles(encode(labels, encoder), styles, prior))
    torch.testing.assert_close(out.img[2, 1], prior.synthesis(out.ws[2, 1:]).img[0])
    assert encoder.training  # as it was before


def test_given_styles_and_no_style():
    prior = tiny_prior(16)
    encoder = tiny_encoder(prior)
    given = synthesize(tiny_labels(2), encoder, prior, ws_style=tiny_codes(prior, 3))
    assert given.img.shape[:2] == (2, 3)
    assert torch.equal(given.ws[1, :, 4:], tiny_codes(prior, 3)[:, 4:])
    plain = synthesize(tiny_labels(2), encoder, prior, styles=0)
    assert torch.equal(plain.ws[:, 0], encode(tiny_labels(2), encoder))


def test_truncated_styles_are_nearer_to_the_mean():
    prior = tiny_prior(16)
    whole = sample_styles(4, prior, stream(0, "s"))
    half = sample_styles(4, prior, stream(0, "s"), truncation_psi=0.5)
    torch.testing.assert_close(half, prior.mapping.w_avg.lerp(whole, 0.5))


def test_mistakes_are_named():
    prior = tiny_prior(16)
    encoder = tiny_encoder(prior)
    with pytest.raises(ConfigError, match="random styles need a generator"):
        synthesize(tiny_labels(), encoder, prior)
    with pytest.raises(ConfigError, match="styles is -1"):
        synthesize(tiny_labels(), encoder, prior, styles=-1, gen=stream(0, "s"))
    with pytest.raises(LabelError, match="class id 3, but the encoder knows 3 classes"):
        synthesize(tiny_labels() + 1, encoder, prior, styles=0)
    with pytest.raises(LabelError, match="class id -1"):
        synthesize(tiny_labels() - 1, encoder, prior, styles=0)
    with pytest.raises(ShapeError, match=r"\[20, 24\], but \[N,H,W\]"):
        synthesize(tiny_labels()[0], encoder, prior, styles=0)
    with pytest.raises(ShapeError, match=r"num_ws 6 .* but the prior has num_ws 8"):
        synthesize(tiny_labels(), encoder, tiny_prior(32), styles=0)
    with pytest.raises(ConfigError, match="layer 9 is outside"):
        mix_styles(tiny_codes(prior), tiny_codes(prior), prior, layers="9")
