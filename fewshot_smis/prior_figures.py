"""What the StyleGAN papers show of a prior: style mixing, truncation, noise, interpolation.

Figures are numbered as in StyleGAN (Karras et al. 2019). Style mixing (figure 3) is
`fewshot_smis.synthesis.mix_styles` with the layers of one of `layer_bands`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan import Prior
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import sample_z, stream

COARSE, MIDDLE = 8, 32  # the largest sizes, in pixels, of coarse and of middle styles


def layer_bands(prior: Prior) -> dict[str, tuple[int, ...]]:
    """Return the layers of coarse (to 8 px), middle (to 32 px) and fine styles, in this order.

    A prior of less than 64 px, which would have no fine styles, has its bands at smaller sizes;
    one that starts above 8 px, as StyleGAN3, has its first size as coarse.
    """
    sizes = prior.synthesis.layer_resolutions
    middle = min(MIDDLE, max(sizes) // 2)
    coarse = max(min(COARSE, middle // 4), min(sizes))
    bands: dict[str, list[int]] = {"coarse": [], "middle": [], "fine": []}
    for layer, size in enumerate(sizes):
        name = "coarse" if size <= coarse else "middle" if size <= middle else "fine"
        bands[name].append(layer)
    return {name: tuple(layers) for name, layers in bands.items() if layers}


@torch.no_grad()
def seed_codes(
    seeds: Sequence[int], prior: Prior, *, truncation_psi: float = 1.0, label: int = 0
) -> Tensor:
    """Return the codes [N,L,D] of N seeds, each alone deciding its picture.

    The picture of a seed is the first that `prior sample --seed` draws. `label` is the class
    drawn by a conditional prior.

    Raises:
        ConfigError: The prior has no such class.
    """
    z = torch.cat([sample_z(1, prior.z_dim, stream(seed, "prior/sample")) for seed in seeds])
    c = None
    if prior.c_dim:
        if not 0 <= label < prior.c_dim:
            raise ConfigError(f"class {label}: this generator has classes 0-{prior.c_dim - 1}")
        c = F.one_hot(torch.full((len(seeds),), label), prior.c_dim).float()
    device = prior.mapping.w_avg.device
    return prior.mapping(
        z.to(device), None if c is None else c.to(device), truncation_psi=truncation_psi
    )


def truncate(ws: Tensor, w_avg: Tensor, psis: Sequence[float]) -> Tensor:
    """Pull codes towards the average, w' = w_avg + psi (w - w_avg) (section B; figure 8).

    Args:
        ws: Codes [N,L,D].
        w_avg: The average w [D] of the prior's mapping network.
        psis: P strengths: 1 keeps the code, 0 gives the average, -1 its opposite.

    Returns:
        Codes [N,P,L,D].
    """
    psi = torch.tensor(psis, dtype=ws.dtype, device=ws.device)[:, None, None]
    return w_avg + psi * (ws[:, None] - w_avg)


def synthesize_noise(
    ws: Tensor,
    prior: Prior,
    layers: Collection[int],
    *,
    noise_mode: str = "const",
    gen: torch.Generator | None = None,
) -> Tensor:
    """Draw codes [N,L,D] with noise in the given layers only: pictures [N,3,H,W] (figure 5).

    The other layers get their noise at strength zero. `noise_mode` and `gen` are those of the
    synthesis network.

    Raises:
        ConfigError: The prior takes no noise, as StyleGAN3.
    """
    strengths = [
        (name, strength)
        for name, strength in prior.synthesis.named_parameters()
        if name.endswith("noise_strength")
    ]
    if not strengths:
        raise ConfigError("this generator takes no noise (a StyleGAN3 does not); nothing to show")
    silent = {
        name: torch.zeros_like(strength)
        for layer, (name, strength) in enumerate(strengths)
        if layer not in layers
    }
    options = {"noise_mode": noise_mode, "generator": gen}
    img: Tensor = torch.func.functional_call(prior.synthesis, silent, (ws,), options).img
    return img


def noise_realizations(
    ws: Tensor, prior: Prior, count: int, gen: torch.Generator
) -> Iterator[Tensor]:
    """Draw codes [N,L,D] `count` times with fresh noise in all layers: [N,3,H,W] each."""
    for _ in range(count):
        yield prior.synthesis(ws, noise_mode="random", generator=gen).img


def pixel_std(images: Iterable[Tensor]) -> Tensor:
    """Return the standard deviation [N,H,W] of each pixel's brightness (figure 4c).

    `images` are realisations [N,C,H,W] of the same pictures; the unit is theirs.

    Raises:
        ShapeError: There are no realisations.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for img in images:
        grey = img.double().mean(dim=1)  # [N,H,W]
        total, squares = total.to(grey) + grey, squares.to(grey) + grey.square()
        count += 1
    if count == 0:
        raise ShapeError("a standard deviation of no pictures; draw at least one")
    return (squares / count - (total / count).square()).clamp(min=0).sqrt().float()


def interpolate(keys: Tensor, frames: int, *, loop: bool = True) -> Tensor:
    """Lead a smooth curve through codes: a Catmull-Rom spline, `frames` steps from key to key.

    Args:
        keys: [N,...], for example codes [N,L,D].
        frames: Steps of each leg; frame `i * frames` is key i.
        loop: Whether the curve goes on from the last key to the first; its last frame is then
            the one before the first. Otherwise the last frame is the last key.

    Returns:
        [F,...] with F = N * frames, or (N - 1) * frames + 1 where it does not loop.

    Raises:
        ShapeError: There are no keys, or less than one frame a leg.
    """
    num = len(keys)
    if num < 1 or frames < 1:
        raise ShapeError(f"{num} keys, {frames} frames a leg: both must be 1 or more")
    at = torch.arange(num * frames if loop else (num - 1) * frames + 1, device=keys.device)
    leg = at // frames
    t = ((at % frames) / frames).to(keys.dtype).view(-1, *[1] * (keys.ndim - 1))
    near = [leg + step for step in (-1, 0, 1, 2)]
    a, b, c, d = (keys[i % num if loop else i.clamp(0, num - 1)] for i in near)
    return b + t / 2 * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a)))
