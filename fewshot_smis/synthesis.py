"""From label maps to pictures: encode the layout, mix in styles, draw.

The encoder's code fixes layout and style. The first layers of a StyleGAN decide what is where,
the later ones how it looks, so giving the later layers of other codes gives other pictures of
the same label map.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.codes import check_codes
from fewshot_smis.encoding import encode
from stylegan import Prior
from stylegan.errors import ConfigError
from stylegan.seeding import sample_z

FIRST_STYLE_LAYER = 8  # of priors of 256 px and up, as in the paper


class Synthesis(NamedTuple):
    """Pictures of N label maps in S styles each, and the codes they were drawn from."""

    img: Tensor  # [N,S,3,H,W] in about [-1,1]
    ws: Tensor  # [N,S,L,D]


def style_layers(num_ws: int) -> tuple[int, ...]:
    """Return the layers that carry style by default.

    From layer 8 on in priors of 14 layers and more (8-13 of 14, 8-15 of 16, 8-17 of 18: the
    paper's), and from the one after the middle in smaller ones (6-9 of 10, 7-11 of 12).
    """
    return tuple(range(min(FIRST_STYLE_LAYER, num_ws // 2 + 1), num_ws))


def parse_layers(layers: str | Iterable[int] | None, num_ws: int) -> tuple[int, ...]:
    """Return the layer numbers that a specification means, sorted, for a prior of `num_ws`.

    A text is a comma-separated list of layers and inclusive ranges, whose ends may be left out;
    None means `style_layers(num_ws)`.

    >>> parse_layers("0-2,8-", 10)
    (0, 1, 2, 8, 9)

    Raises:
        ConfigError: The text cannot be read, or a layer is outside the network.
    """
    if layers is None:
        return style_layers(num_ws)
    if isinstance(layers, str):
        found = [i for part in layers.split(",") for i in _parse_range(part.strip(), num_ws)]
    else:
        found = list(layers)
    outside = [i for i in found if not 0 <= i < num_ws]
    if outside:
        raise ConfigError(
            f"layer {outside[0]} is outside the network, which has layers 0-{num_ws - 1}"
        )
    if not found:
        raise ConfigError(f"no layers given; name some of 0-{num_ws - 1}, for example '8-'")
    return tuple(sorted(set(found)))


def _parse_range(part: str, num_ws: int) -> range:
    first, dash, last = part.partition("-")
    given = [end.strip() for end in (first, last) if end.strip()]
    if not part.strip("- ") or not all(end.isdecimal() for end in given):
        raise ConfigError(f"cannot read layers '{part}'; write them like '8-13', '0-3,8' or '8-'")
    start = int(first) if first.strip() else 0
    if not dash:
        return range(start, start + 1)
    stop = int(last) if last.strip() else num_ws - 1
    if stop < start:
        raise ConfigError(
            f"layers '{part}' run from {start} down to {stop}; write the smaller number first"
            if last.strip()
            else f"layer {start} is outside the network, which has layers 0-{num_ws - 1}"
        )
    return range(start, stop + 1)


def mix_styles(
    ws_layout: Tensor,
    ws_style: Tensor,
    prior: Prior,
    *,
    layers: str | Iterable[int] | None = None,
    alpha: float = 1.0,
) -> Tensor:
    """Give every layout every style: codes [N,M,L,D].

    Args:
        ws_layout: Codes of N layouts [N,L,D], from an encoder, an inversion or the prior.
        ws_style: Codes of M styles [M,L,D], likewise.
        prior: The generator both belong to.
        layers: Which layers take the style, see `parse_layers`.
        alpha: How far they go towards it: 0 keeps the layout's own, 1 replaces it.

    Raises:
        ConfigError: A layer outside the network.
        ShapeError: Codes of another prior.
    """
    check_codes(ws_layout, prior)
    check_codes(ws_style, prior)
    chosen = parse_layers(layers, prior.num_ws)
    ws = ws_layout[:, None].repeat(1, len(ws_style), 1, 1)  # [N,M,L,D]
    picked = list(chosen)
    style = ws_style[None, :, picked]  # [1,M,layers,D]
    ws[:, :, picked] = alpha * style + (1 - alpha) * ws[:, :, picked]
    return ws


@torch.no_grad()
def sample_styles(
    num: int, prior: Prior, gen: torch.Generator, *, truncation_psi: float = 1.0
) -> Tensor:
    """Draw the codes [num,L,D] of random styles; lower `truncation_psi` for more usual ones."""
    if num < 1:
        raise ConfigError(f"styles is {num}, but at least 1 is needed")
    device = prior.mapping.w_avg.device
    z = sample_z(num, prior.z_dim, gen).to(device)
    return prior.mapping(z, truncation_psi=truncation_psi)


@torch.no_grad()
def synthesize(
    labels: Tensor,
    encoder: MaskEncoder,
    prior: Prior,
    *,
    styles: int = 4,
    ws_layout: Tensor | None = None,
    ws_style: Tensor | None = None,
    layers: str | Iterable[int] | None = None,
    alpha: float = 1.0,
    gen: torch.Generator | None = None,
    truncation_psi: float = 1.0,
    batch: int = 8,
) -> Synthesis:
    """Draw each label map in several styles; column s has the same style for all maps.

    Args:
        labels: [N,H,W] int64 ids, of any size.
        encoder: From label maps to codes of `prior`.
        prior: The generator.
        styles: Number of random styles, drawn from `gen`. 0 draws each map once, as encoded.
        ws_layout: Codes of the maps [N,L,D], as `refine` gives, instead of the encoder's.
        ws_style: Codes of the styles [S,L,D], instead of random ones.
        layers: Which layers take the style, see `parse_layers`.
        alpha: How far they go towards it.
        gen: Source of random styles; needed unless `ws_style` is given or `styles` is 0.
        truncation_psi: Truncation of random styles.
        batch: Maps or pictures at once.

    Raises:
        ConfigError: No `gen` for random styles, or a layer outside the network.
        LabelError: A class id that the encoder does not know.
        ShapeError: Encoder, styles and prior do not fit.
    """
    if ws_layout is None:
        ws_layout = encode(labels, encoder, batch=batch)
    check_codes(ws_layout, prior)
    if ws_style is None and styles == 0:
        ws = ws_layout[:, None]
    else:
        if ws_style is None:
            if gen is None:
                raise ConfigError("random styles need a generator: give gen, or ws_style")
            ws_style = sample_styles(styles, prior, gen, truncation_psi=truncation_psi)
        ws = mix_styles(ws_layout, ws_style, prior, layers=layers, alpha=alpha)
    parts = torch.split(ws.flatten(0, 1), batch)
    img = torch.cat([prior.synthesis(part).img for part in parts])  # [N*S,3,H,W]
    return Synthesis(img.view(*ws.shape[:2], *img.shape[1:]), ws)
